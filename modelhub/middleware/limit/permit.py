"""Permits: one attempt's way through a pool, and what became of it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.middleware.limit.rates import Amounts

if TYPE_CHECKING:
    from modelhub.core.clock import Clock
    from modelhub.core.errors import LimitRejected
    from modelhub.middleware.limit.concurrency import ConcurrencyLimit
    from modelhub.middleware.limit.rate_counter import RateCounter, Reservation

__all__ = ["AttemptPermit", "AttemptResult", "Permit", "State", "WaitLimits"]


class AttemptResult(NamedTuple):
    """What became of an attempt.

    `used` is what it took, None if nobody knows; not `sent` means that the vendor never saw it. `answered` and
    `limited` say what the vendor thought of it, and `retry_after` when it wants to be asked again. `told` is what the
    vendor says is left: how much, and the seconds for which that holds.
    """

    used: Amounts | None = None
    sent: bool = True
    answered: bool = False
    limited: bool = False
    retry_after: float | None = None
    told: Mapping[str, tuple[int, float]] | None = None


_UNKNOWN = AttemptResult()


class WaitLimits(NamedTuple):
    """How long an attempt may wait for a pool; None for what is not bounded.

    `until` is the instant at which it must have passed, and `max_wait` how many seconds it stands in the queue.
    `budget` is how many seconds it waits where the vendor has asked for a pause or says that too little is left, or
    where a quota over more than a minute is used up.
    """

    until: float | None = None
    budget: float | None = None
    max_wait: float | None = None

    def bounded_by(self, own: float | None, clock: Clock) -> WaitLimits:
        """Return these limits in a pool whose *own* `max_wait`, if it has one, is as long as a pause may be, too."""
        until, budget, max_wait = self
        if own is not None:
            budget, max_wait = None, own if max_wait is None else min(own, max_wait)
        if max_wait is None:
            return self
        ends = clock.now() + max_wait
        return WaitLimits(ends if until is None else min(until, ends), budget, max_wait)


class State(enum.Enum):
    """Where an attempt is on its way through a pool."""

    WAITING = enum.auto()
    HELD = enum.auto()
    REFUSED = enum.auto()
    OVER = enum.auto()


class AttemptPermit:
    """One attempt's way through a pool. Who has got one gives it back with `settle`."""

    __slots__ = ("_give_back", "amounts", "future", "refusal", "source", "state", "waits")

    on_sent: ClassVar[Callable[..., None] | None] = None
    """Called when the request of the attempt is written to its connection. Nobody else waits for what is under way in
    this process: when it is written does not matter."""

    def __init__(
        self, give_back: Callable[[Any, AttemptResult], None], amounts: Amounts, waits: WaitLimits, source: str
    ) -> None:
        self._give_back = give_back
        self.amounts = amounts
        self.waits = waits
        self.source = source
        self.state = State.WAITING
        self.refusal: LimitRejected | None = None
        self.future: asyncio.Future[None] | None = None
        """What its task waits for, if it has to wait."""

    def settle(self, result: AttemptResult = _UNKNOWN) -> None:
        """Give back the slot and what was not used. From any thread; only the first call counts."""
        self._give_back(self, result)

    def resolve(self) -> None:
        """Let its task look at the permit again; on the task's own loop."""
        if self.future is not None and not self.future.done():
            self.future.set_result(None)


class Permit(AttemptPermit):
    """A permit of a pool in this process."""

    __slots__ = ("began", "loop", "needs", "reservations", "slots")

    def __init__(
        self,
        give_back: Callable[[Permit, AttemptResult], None],
        amounts: Amounts,
        needs: Sequence[tuple[RateCounter, int]],
        waits: WaitLimits,
        source: str,
    ) -> None:
        super().__init__(give_back, amounts, waits, source)
        self.needs = needs
        """What it takes of each of the pool's rates."""
        self.loop = asyncio.get_running_loop()
        self.reservations: list[Reservation] = []
        self.slots: ConcurrencyLimit
        self.began = 0.0

    def wake(self) -> bool:
        """Resume the task if it waits; False if its loop is gone."""
        if self.future is None:
            return not self.loop.is_closed()
        return on_loop(self.loop, self.resolve)
