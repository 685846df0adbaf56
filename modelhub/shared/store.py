"""The store of a hub whose limits and budgets are shared: its links, one an event loop, and its pools."""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from modelhub.core.clock import Clock
from modelhub.core.process import register_at_fork
from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.shared.budgets import SharedBudgets
from modelhub.shared.connection import describe_address
from modelhub.shared.cooldowns import SharedCooldowns
from modelhub.shared.health import HealthMonitor, SharedHealth
from modelhub.shared.link import StoreLink
from modelhub.shared.pool import SharedPool

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions
    from modelhub.middleware.limit.store import LimitPool, PoolScope
    from modelhub.shared.options import SharedOptions
    from modelhub.shared.permit import ClientView, Operation
    from modelhub.shared.protocols import LinkView, PoolView

__all__ = ["SharedStore"]

_inherited_links: list[StoreLink] = []  # a forked child must not close the connections of its parent


class SharedStore:
    """The store that *options* name. Connects when it is first used, once for each event loop."""

    def __init__(self, options: SharedOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        self.address = describe_address(options.url.get_secret_value())
        self.monitor = HealthMonitor(self.address, options.when_down.limits, options.when_down.budgets, clock)
        self.monitor.on_change = self._changed
        self.budgets = SharedBudgets(self)
        self.cooldowns = SharedCooldowns(self)
        self._pools: weakref.WeakValueDictionary[str, SharedPool] = weakref.WeakValueDictionary()
        self.reset_after_fork()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Begin anew in a forked child: with a name, connections and permits of its own."""
        _inherited_links.extend(getattr(self, "links", {}).values())
        self.links: dict[asyncio.AbstractEventLoop, StoreLink] = {}
        self._lock = threading.RLock()
        self._process = self.new_token()
        self._last_link = 0
        self.monitor.reset_after_fork()
        for pool in list(self._pools.values()):
            pool.reset_after_fork()

    @property
    def name(self) -> str:
        """How a log entry names it."""
        return f"the shared store {self.address}"

    @staticmethod
    def new_token() -> str:
        """Return a name that nobody else has."""
        return secrets.token_hex(8)

    @property
    def health(self) -> SharedHealth:
        """Whether the store can be reached, and what holds if not."""
        return self.monitor.health(self.known_processes() or None)

    def known_processes(self, since: float = -math.inf) -> int:
        """Return how many processes share the limits, as counted since that instant; 0 if they were not."""
        counts = [pool.counted for pool in list(self._pools.values())]
        return max((processes for processes, at in counts if at >= since), default=0)

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
        here = asyncio.get_running_loop()
        for loop, link in list(self.links.items()):
            if loop is here:
                await link.forget_pool(pool.key)
            elif loop.is_running():
                asyncio.run_coroutine_threadsafe(link.forget_pool(pool.key), loop)

    def tell_cooldown(self, name: str, seconds: float) -> None:
        """Tell all processes that the model *name* cools down for so long. From any thread."""
        try:
            link: StoreLink | None = self.link()
        except RuntimeError:  # no event loop runs here
            link = next(iter(self.links.values()), None)
        if link is not None:
            on_loop(link.loop, link.cooldowns.exchange, [(name, seconds)])

    # -- links -------------------------------------------------------------------------------------------------------

    def link(self) -> StoreLink:
        """Return the link of the running loop."""
        loop = asyncio.get_running_loop()
        link = self.links.get(loop)
        if link is None or link.is_closed:
            with self._lock:
                self.links = {known: link for known, link in self.links.items() if not known.is_closed()}
                self._last_link += 1
                link = self.links[loop] = StoreLink(self, f"{self._process}.{self._last_link}")
        return link

    def forget_link(self, link: LinkView) -> None:
        """Remove a link that is closed."""
        with self._lock:
            if self.links.get(link.loop) is link:
                del self.links[link.loop]

    def clients(self, pool: PoolView) -> Iterator[ClientView]:
        """Yield the clients of *pool*, one for each event loop."""
        for link in list(self.links.values()):
            if (client := link.find_client(pool)) is not None:
                yield client

    def hand_over(self, pool: PoolView, operation: Operation) -> None:
        """Send *operation*, whose own loop has ended, by another one. Without any, the lease ends by itself."""
        for client in self.clients(pool):
            if on_loop(client.loop, client.post, operation):
                return

    def _changed(self, is_down: bool) -> None:
        if not is_down:
            for pool in list(self._pools.values()):
                pool.stand_in.store_is_back()
        for link in list(self.links.values()):
            on_loop(link.loop, _tell, link, is_down)

    # -- closing -----------------------------------------------------------------------------------------------------

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


def _tell(link: StoreLink, is_down: bool) -> None:
    link.store_changed(is_down=is_down)
