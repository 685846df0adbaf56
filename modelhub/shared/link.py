"""The links of a process to the store, one an event loop: its connections, its name there, and its clients."""

from __future__ import annotations

import asyncio
import math
import secrets
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelhub.core.completions import LoopEndCloser
from modelhub.shared.connection import StoreConnection, StoreUnavailableError, describe_address, load_script
from modelhub.shared.health import HealthMonitor

if TYPE_CHECKING:
    from modelhub.core.clock import Clock
    from modelhub.shared.options import SharedOptions

__all__ = ["StoreClient", "StoreLink", "StoreLinks"]

_inherited_links: list[StoreLink] = []  # a forked child must not close the connections of its parent


class StoreClient:
    """The base of what uses the store on one event loop: the clients of pools, of cooldowns and of budgets."""

    def receive(self, event: str, values: Sequence[str]) -> None:
        """Handle a message that a script has published."""

    def ping(self) -> None:
        """Ask what was missed before the loop listened, or while its connection was gone."""

    def store_went_down(self) -> None:
        """Let those who wait for the store go on without it."""

    def store_is_back(self) -> None:
        """Do what could not be done meanwhile."""

    async def aclose(self) -> None:
        """Give back what is held here, and send what is to be sent."""


class StoreLink:
    """The link of the running loop to *store*; *member* is its name there, the process's with a number."""

    def __init__(self, store: StoreLinks, member: str) -> None:
        self.store = store
        self.member = member
        self.loop = asyncio.get_running_loop()
        self.connection = StoreConnection(store.options)
        self.is_closed = False
        self.clients: dict[str, StoreClient] = {}
        """What uses the store on this loop, by what messages begin with: a pool's key, for example."""
        self._last_id = 0
        self._probe: asyncio.Task[None] | None = None
        self._end_closer = LoopEndCloser(self._close)
        prefix = store.options.prefix
        self.connection.listen([f"{prefix}:{member}", f"{prefix}:all"], self._received, self._listening)
        if store.monitor.is_down:
            self.store_changed(is_down=True)

    async def forget_client(self, key: str) -> None:
        """Give back what this loop holds of a pool, the client with this *key*, that is not used any more."""
        client = self.clients.pop(key, None)
        if client is not None:
            await client.aclose()

    def next_id(self) -> str:
        """Return an id that nobody else has had."""
        self._last_id += 1
        return f"{self.member}:{self._last_id}"

    def _received(self, message: str) -> None:
        """Handle a message of a script: the client's key, what happened, and to whom."""
        key, event, *values = message.split("\n")
        client = self.clients.get(key)
        if client is not None:
            client.receive(event, values)

    def _listening(self) -> None:
        for client in list(self.clients.values()):
            client.ping()

    # -- outages -----------------------------------------------------------------------------------------------------

    def report_failure(self, error: StoreUnavailableError) -> None:
        """Record that the store is down, unless it is this link that is closed."""
        if not self.is_closed:
            self.store.monitor.set_down(str(error))

    def store_changed(self, *, is_down: bool) -> None:
        """Tell the clients that the store is down, or back; on this loop."""
        for client in list(self.clients.values()):
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
            if self.store.clock.now() < self.store.monitor.trusted_from:
                continue  # not long ago, it lost data again and again
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
        for client in list(self.clients.values()):
            await client.aclose()
        self.is_closed = True
        for client in list(self.clients.values()):
            client.store_went_down()  # whoever came meanwhile goes on with another link
        self.store.forget_link(self)
        if self._probe is not None:
            self._probe.cancel()
        await self.connection.aclose()


class StoreLinks:
    """The links of this process to the store that *options* name; each is made when its loop first uses the store."""

    def __init__(self, options: SharedOptions, clock: Clock) -> None:
        self.options = options
        self.clock = clock
        self.address = describe_address(options.url.get_secret_value())
        self.monitor = HealthMonitor(self.address, options.when_down.limits, options.when_down.budgets, clock)
        self.links: dict[asyncio.AbstractEventLoop, StoreLink] = {}
        self.process_counts: dict[str, tuple[int, float]] = {}
        """How many processes the store last counted that use a pool, and when, by the pool's key."""
        self.reset_links()

    def reset_links(self) -> None:
        """Begin anew, as in a forked child: with a name and connections of its own."""
        _inherited_links.extend(self.links.values())
        self.links = {}
        self.process_counts = {}
        self._lock = threading.RLock()
        self._process = secrets.token_hex(8)
        self._last_link = 0
        self.monitor.reset_after_fork()

    def link(self) -> StoreLink:
        """Return the link of the running loop."""
        loop = asyncio.get_running_loop()
        link = self.links.get(loop)
        if link is None or link.is_closed:
            with self._lock:
                self.links = {known: link for known, link in self.links.items() if not known.is_closed()}
                self._last_link += 1
                link = self.links[loop] = StoreLink(self, f"{self._process}.{self._last_link}")
            self.add_clients(link)
        return link

    def add_clients(self, link: StoreLink) -> None:
        """Give *link*, a new one, the clients that it needs from the beginning."""

    def forget_link(self, link: StoreLink) -> None:
        """Remove a link that is closed."""
        with self._lock:
            if self.links.get(link.loop) is link:
                del self.links[link.loop]

    def known_processes(self, since: float = -math.inf) -> int:
        """Return how many processes share the limits, as counted since that instant; 0 if they were not."""
        counts = list(self.process_counts.values())
        return max((processes for processes, at in counts if at >= since), default=0)
