"""The store of a hub whose limits, cooldowns and budgets are shared."""

from __future__ import annotations

import asyncio
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

from modelhub.core.clock import Clock
from modelhub.core.process import register_at_fork
from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.shared.budgets import SharedBudgets
from modelhub.shared.cooldowns import CLIENT_KEY, CooldownClient, SharedCooldowns
from modelhub.shared.health import SharedHealth
from modelhub.shared.link import StoreLink, StoreLinks
from modelhub.shared.pool import SharedPool

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions
    from modelhub.middleware.limit.store import LimitPool, PoolScope
    from modelhub.shared.options import SharedOptions

__all__ = ["SharedStore"]


class SharedStore(StoreLinks):
    """The store that *options* name. Connects when it is first used, once for each event loop."""

    def __init__(self, options: SharedOptions, clock: Clock) -> None:
        super().__init__(options, clock)
        self.monitor.on_change = self._changed
        self.budgets = SharedBudgets(self)
        self.cooldowns = SharedCooldowns(self)
        self._pools: weakref.WeakValueDictionary[str, SharedPool] = weakref.WeakValueDictionary()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child: with a name, connections and permits of its own."""
        self.reset_links()
        for pool in list(self._pools.values()):
            pool.reset_after_fork()

    @property
    def name(self) -> str:
        """How a log entry names it."""
        return f"the shared store {self.address}"

    @property
    def health(self) -> SharedHealth:
        """Whether the store can be reached, and what holds if not."""
        return self.monitor.health(self.known_processes() or None)

    def add_clients(self, link: StoreLink) -> None:
        """Have *link* hear of cooldowns from the beginning."""
        link.clients[CLIENT_KEY] = CooldownClient(link, self.cooldowns)

    def make_pool(self, name: str, options: LimitOptions, scope: PoolScope = "limit") -> SharedPool:
        """Return the pool *name* of *scope*, which all processes share; the one that is in use, if it is."""
        pool = SharedPool(self, name, options, scope)
        known = self._pools.setdefault(pool.key, pool)
        known.reconfigure(options)
        return known

    async def forget_pool(self, pool: LimitPool[Any]) -> None:
        """Give back what this process holds of *pool*, which it does not use any more."""
        if not isinstance(pool, SharedPool):
            return
        self._pools.pop(pool.key, None)
        self.process_counts.pop(pool.key, None)
        here = asyncio.get_running_loop()
        for loop, link in list(self.links.items()):
            if loop is here:
                await link.forget_client(pool.key)
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(link.forget_client(pool.key), loop)

    def _changed(self, is_down: bool) -> None:
        if not is_down:
            for pool in list(self._pools.values()):
                pool.stand_in.store_is_back()
        for link in list(self.links.values()):
            on_loop(link.loop, partial(link.store_changed, is_down=is_down))

    async def aclose(self) -> None:
        """Give back what this process holds, and close all connections."""
        here = asyncio.get_running_loop()
        for loop, link in list(self.links.items()):
            if loop is here:
                await link.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(link.aclose(), loop)
                await asyncio.wait({asyncio.wrap_future(closing)}, timeout=4 * self.options.timeout)

    def __repr__(self) -> str:
        return f"<SharedStore {self.address}>"
