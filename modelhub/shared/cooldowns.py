"""Until when models cool down: what a vendor answered to one process holds for all."""

from __future__ import annotations

import asyncio
import hashlib
import weakref
from collections.abc import Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from modelhub.shared.connection import StoreUnavailableError
from modelhub.shared.script_loader import load_script

if TYPE_CHECKING:
    from modelhub.middleware.breaker.state import BreakerState
    from modelhub.shared.protocols import LinkView, StoreView

__all__ = ["CooldownClient", "SharedCooldowns"]


class CooldownClient:
    """Tells the store of cooldowns, and asks for them, from one event loop."""

    def __init__(self, link: LinkView, store: StoreView) -> None:
        self._link = link
        self._store = store
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
            self._store.cooldowns.apply(name.decode(), float(remaining) / 1e6)

    # -- called by the link, like those of its pools -------------------------------------------------------------------

    def store_went_down(self) -> None:
        """Nothing is lost: the breakers know."""

    def store_is_back(self) -> None:
        """Tell what is known, and ask what others know."""
        self.exchange(self._store.cooldowns.current())

    async def aclose(self) -> None:
        """Wait until the store has answered what is being told, for twice its time-out at the longest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * self._store.options.timeout)


class SharedCooldowns:
    """The breakers of a hub, by what identifies a model in every process."""

    def __init__(self, store: StoreView) -> None:
        self._store = store
        self._states: dict[str, weakref.WeakSet[BreakerState]] = {}

    def watch(self, identity: Hashable, state: BreakerState) -> None:
        """Share how long the model of *identity* cools down, of which *state* knows."""
        name = hashlib.blake2b(repr(identity).encode(), digest_size=12).hexdigest()
        self._states.setdefault(name, weakref.WeakSet()).add(state)
        state.on_open = partial(self._store.tell_cooldown, name)

    def listen(self) -> None:
        """Make sure that the running event loop hears what other processes say."""
        self._store.link()

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
