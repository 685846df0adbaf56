"""Until when models cool down: what a vendor answered to one process holds for all."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.shared.connection import StoreUnavailableError, load_script
from modelhub.shared.link import StoreClient, StoreLink, StoreLinks

if TYPE_CHECKING:
    from modelhub.middleware.breaker.state import BreakerState

__all__ = ["CLIENT_KEY", "CooldownClient", "SharedCooldowns"]

CLIENT_KEY = "cooldown"
"""What the script's messages begin with."""


class CooldownClient(StoreClient):
    """Tells the store of cooldowns, and asks for them, from one event loop."""

    def __init__(self, link: StoreLink, cooldowns: SharedCooldowns) -> None:
        self._link = link
        self._store = link.store
        self._cooldowns = cooldowns
        self._tasks: set[asyncio.Task[None]] = set()

    def exchange(self, cooldowns: Sequence[tuple[str, float]]) -> None:
        """Tell the store for how many seconds models cool down, and apply what it knows of all."""
        if self._store.monitor.is_down or self._link.is_closed:
            return  # all is told when the store is back
        task = self._link.loop.create_task(self._exchange(cooldowns))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _exchange(self, cooldowns: Sequence[tuple[str, float]]) -> None:
        prefix = self._store.options.prefix
        args = [prefix, *(text for name, seconds in cooldowns for text in (name, str(round(seconds * 1e6))))]
        try:
            known = await self._link.connection.run(load_script("cooldown"), [f"{{{prefix}:cooldowns}}"], args)
        except StoreUnavailableError as error:
            self._link.report_failure(error)
            return
        for name, remaining in zip(known[::2], known[1::2], strict=True):
            self._cooldowns.apply(name.decode(), float(remaining) / 1e6)

    def receive(self, event: str, values: Sequence[str]) -> None:
        """Apply the cooldown of the model whose name is *event*, for so many microseconds."""
        self._cooldowns.apply(event, float(values[0]) / 1e6)

    def ping(self) -> None:
        """Ask the store for the cooldowns that other processes have told it."""
        self.exchange(())

    def store_is_back(self) -> None:
        """Tell what is known, and ask what others know."""
        self.exchange(self._cooldowns.current())

    async def aclose(self) -> None:
        """Wait until the store has answered what is being told, for twice its time-out at the longest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * self._store.options.timeout)


class SharedCooldowns:
    """The breakers of a hub, by what identifies a model in every process."""

    def __init__(self, store: StoreLinks) -> None:
        self._store = store
        self._states: dict[str, weakref.WeakSet[BreakerState]] = {}

    def watch(self, identity: Hashable, state: BreakerState) -> None:
        """Share how long the model of *identity* cools down, of which *state* knows."""
        name = hashlib.blake2b(repr(identity).encode(), digest_size=12).hexdigest()
        self._states.setdefault(name, weakref.WeakSet()).add(state)
        state.on_open = partial(self._tell, name)

    def listen(self) -> None:
        """Make sure that the running event loop hears what other processes say."""
        self._store.link()

    def _tell(self, name: str, seconds: float) -> None:
        """Tell all processes that the model *name* cools down for so long. From any thread."""
        try:
            link: StoreLink | None = self._store.link()
        except RuntimeError:  # no event loop runs here
            link = next(iter(self._store.links.values()), None)
        client = None if link is None else link.clients.get(CLIENT_KEY)
        if link is not None and isinstance(client, CooldownClient):
            on_loop(link.loop, client.exchange, [(name, seconds)])

    def apply(self, name: str, seconds: float) -> None:
        """Let the model cool down for so long, if it does not for longer already."""
        for state in list(self._states.get(name, ())):
            state.leave_alone(self._store.clock.now() + seconds)

    def current(self) -> list[tuple[str, float]]:
        """Return which models cool down in this process, and for how many seconds."""
        now = self._store.clock.now()
        return [
            (name, state.until - now)
            for name, states in list(self._states.items())
            for state in list(states)
            if state.is_shared and state.until > now
        ]
