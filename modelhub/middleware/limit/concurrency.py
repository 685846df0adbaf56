"""How many attempts may be in flight at once: a fixed number, or one that adapts to the vendor (AIMD)."""

from __future__ import annotations

from typing import Literal

__all__ = ["AimdConcurrencyLimit", "ConcurrencyLimit", "make_concurrency_limit"]

_INITIAL_LIMIT = 4
_MAX_LIMIT = 256
_DECREASE_FACTOR = 0.5
_CALM_SECONDS = 10.0  # seconds after a cut in which nothing changes


class ConcurrencyLimit:
    """*limit* attempts at the same time; None: as many as come."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.taken = 0
        self.replaced: ConcurrencyLimit | None = None
        """The limit that this one has replaced, while attempts that began under it may be under way."""

    @property
    def free(self) -> bool:
        """Whether one more attempt may begin."""
        return self.limit is None or self.in_flight < self.limit

    @property
    def in_flight(self) -> int:
        """How many attempts are under way, those of the limit that this one has replaced included."""
        return self.taken if self.replaced is None else self.taken + self.replaced.in_flight

    def take(self) -> None:
        """Count an attempt as in flight."""
        self.taken += 1

    def give_back(self) -> None:
        """Count an attempt as ended."""
        self.taken -= 1

    def answered(self, began: float, now: float) -> None:
        """Record that an attempt that *began* then is answered, before it is counted as ended."""

    def on_throttle(self, began: float, now: float) -> None:
        """Record that an attempt that *began* then was rate limited."""


class AimdConcurrencyLimit(ConcurrencyLimit):
    """As many as the vendor bears.

    Begins with a few. While they are all in use, each answer makes room for one more, so that their number doubles
    from one round of answers to the next; after the first rate limit, a whole round makes room for one more. A rate
    limit halves the number. Then, for ten seconds, and for attempts that began before the cut, nothing changes: they
    speak of a load that is over. Other failures say nothing about the load.
    """

    def __init__(self) -> None:
        super().__init__(_INITIAL_LIMIT)
        self.size = float(_INITIAL_LIMIT)
        self._starting = True
        self._last_cut: float | None = None

    def answered(self, began: float, now: float) -> None:
        """Raise the limit by one, or by a part of one, if all of it was in use."""
        if self._is_old(began, now) or self.free:
            return
        self._resize(self.size + (1.0 if self._starting else 1.0 / self.size))

    def on_throttle(self, began: float, now: float) -> None:
        """Halve the limit, unless the attempt began before the last cut."""
        if self._is_old(began, now):
            return
        # What was really in use is what was too much.
        self._resize(min(self.size, self.taken) * _DECREASE_FACTOR)
        self._starting, self._last_cut = False, now

    def _is_old(self, began: float, now: float) -> bool:
        return self._last_cut is not None and (began <= self._last_cut or now < self._last_cut + _CALM_SECONDS)

    def _resize(self, size: float) -> None:
        self.size = min(float(_MAX_LIMIT), max(1.0, size))
        self.limit = int(self.size)


def make_concurrency_limit(
    limit: int | Literal["auto"] | None, replaced: ConcurrencyLimit | None = None
) -> ConcurrencyLimit:
    """Return a limit of so many attempts; None: as many as come, "auto": as many as the vendor bears.

    What is under way of *replaced*, in whose place it stands from now on, counts as well.
    """
    made = AimdConcurrencyLimit() if limit == "auto" else ConcurrencyLimit(limit)
    made.replaced = replaced if replaced is not None and replaced.in_flight else None
    return made
