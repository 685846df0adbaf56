"""What one event loop has of the store: its connections, its name there, and its pools."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from modelhub.core.completions import LoopEndCloser
from modelhub.shared.budgets import BudgetClient
from modelhub.shared.connection import StoreConnection, StoreUnavailableError
from modelhub.shared.cooldowns import CooldownClient
from modelhub.shared.pool_client import PoolClient
from modelhub.shared.script_loader import load_script

if TYPE_CHECKING:
    from modelhub.shared.protocols import PoolView, StoreView

__all__ = ["StoreLink"]


class StoreLink:
    """The link of the running loop to *store*; *member* is its name there, the process's with a number."""

    def __init__(self, store: StoreView, member: str) -> None:
        self.store = store
        self.member = member
        self.loop = asyncio.get_running_loop()
        self.connection = StoreConnection(store.options)
        self.is_closed = False
        self._clients: dict[str, PoolClient] = {}
        self.cooldowns = CooldownClient(self, store)
        self._budgets: BudgetClient | None = None
        self._last_id = 0
        self._probe: asyncio.Task[None] | None = None
        self._end_closer = LoopEndCloser(self._close)
        prefix = store.options.prefix
        self.connection.listen([f"{prefix}:{member}", f"{prefix}:all"], self._received, self._listening)
        if store.monitor.is_down:
            self.store_changed(is_down=True)

    def client(self, pool: PoolView) -> PoolClient:
        """Return this loop's client of *pool*."""
        client = self._clients.get(pool.key)
        if client is None:
            client = self._clients[pool.key] = PoolClient(self, pool)
        return client

    def find_client(self, pool: PoolView) -> PoolClient | None:
        """Return this loop's client of *pool* if it has one."""
        return self._clients.get(pool.key)

    @property
    def budgets(self) -> BudgetClient:
        """This loop's client of budgets."""
        if self._budgets is None:
            self._budgets = BudgetClient(self, self.store)
        return self._budgets

    def _all_clients(self) -> list[PoolClient | BudgetClient | CooldownClient]:
        return [*self._clients.values(), *(() if self._budgets is None else (self._budgets,)), self.cooldowns]

    async def forget_pool(self, pool_key: str) -> None:
        """Give back what this loop holds of a pool that is not used any more."""
        client = self._clients.pop(pool_key, None)
        if client is not None:
            await client.aclose()

    def next_id(self) -> str:
        """Return an id that nobody else has had."""
        self._last_id += 1
        return f"{self.member}:{self._last_id}"

    # -- messages ----------------------------------------------------------------------------------------------------

    def _received(self, message: str) -> None:
        """Handle a message of a script: the pool's key, what happened, and to whom."""
        pool_key, event, *values = message.split("\n")
        if pool_key == "cooldown":
            self.store.cooldowns.apply(event, float(values[0]) / 1e6)
            return
        client = self._clients.get(pool_key)
        if client is None:
            return
        if event == "admitted":
            instant, *permit_ids = values
            for permit_id in permit_ids:
                client.admit_after_message(permit_id, float(instant) / 1e6)
        elif event == "first":
            client.set_first_timer(float(values[0]) / 1e6)
        elif event == "paused":
            client.pool.paused(client, float(values[0]) / 1e6)
        elif event == "lost" and values:  # an earlier version does not say the epoch
            client.learn_newer_epoch(values[0])
        else:
            client.ping()

    def _listening(self) -> None:
        """Ask what was missed before this loop listened, or while its connection was gone."""
        self.cooldowns.exchange(())
        for client in self._clients.values():
            client.ping()

    # -- outages -----------------------------------------------------------------------------------------------------

    def report_failure(self, error: StoreUnavailableError) -> None:
        """Record that the store is down, unless it is this link that is closed."""
        if not self.is_closed:
            self.store.monitor.set_down(str(error))

    def store_changed(self, *, is_down: bool) -> None:
        """The store is down, or back; on this loop."""
        for client in self._all_clients():
            if is_down:
                client.store_went_down()
            else:
                client.store_is_back()
        if is_down and (self._probe is None or self._probe.done()):
            self._probe = self.loop.create_task(self._probe_until_up())
            self._probe._log_destroy_pending = False  # type: ignore[attr-defined]

    async def _probe_until_up(self) -> None:
        script, key = load_script("probe"), f"{self.store.options.prefix}:probe"
        while self.store.monitor.is_down and not self.is_closed:
            await asyncio.sleep(self.store.options.retry_interval)
            if not self.store.monitor.can_be_trusted():
                continue
            try:
                await self.connection.run(script, [key], [])
            except StoreUnavailableError:
                continue
            self.store.monitor.set_up()

    # -- closing -----------------------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Give back what this loop holds, and close its connections."""
        self._end_closer.call_off()
        await self._close()
        await self._end_closer.join()

    async def _close(self) -> None:
        if self.is_closed:
            return
        for client in self._all_clients():
            await client.aclose()
        self.is_closed = True
        for client in self._all_clients():
            client.store_went_down()  # whoever came meanwhile goes on with another link
        self.store.forget_link(self)
        if self._probe is not None:
            self._probe.cancel()
        await self.connection.aclose()
