"""Permits: one attempt's way through a pool, and what became of it."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from modelhub.middleware._alarm import on_loop
from modelhub.middleware._rates import Amounts

if TYPE_CHECKING:
    from modelhub.errors import LimitRejected
    from modelhub.middleware._adaptive import Places
    from modelhub.middleware._meter import Hold

__all__ = ["Bill", "Permit", "State"]


class Bill(NamedTuple):
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


_UNKNOWN = Bill()


class State(enum.Enum):
    """Where an attempt is on its way through a pool."""

    WAITING = enum.auto()
    HELD = enum.auto()
    REFUSED = enum.auto()
    OVER = enum.auto()


class Permit:
    """One attempt's way through a pool. Who has got one gives it back with `settle`."""

    __slots__ = (
        "_give_back",
        "amounts",
        "began",
        "future",
        "holds",
        "loop",
        "patience",
        "places",
        "refusal",
        "source",
        "state",
        "until",
    )

    def __init__(
        self,
        give_back: Callable[[Permit, Bill], None],
        amounts: Amounts,
        until: float | None,
        patience: float | None,
        source: str = "",
    ) -> None:
        self._give_back = give_back
        self.amounts = amounts
        self.source = source
        self.until = until
        self.patience = patience
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[None] = self.loop.create_future()
        self.state = State.WAITING
        self.refusal: LimitRejected | None = None
        self.holds: list[Hold] = []
        self.places: Places
        self.began = 0.0

    def settle(self, bill: Bill = _UNKNOWN) -> None:
        """The attempt is over: give back the place and what was not used. From any thread; only the first counts."""
        self._give_back(self, bill)

    def wake(self) -> bool:
        """Tell the task that waits; False if its loop is gone."""
        return on_loop(self.loop, self._wake)

    def _wake(self) -> None:
        if not self.future.done():
            self.future.set_result(None)
