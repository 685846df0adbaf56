"""How many attempts may be in flight at once: a fixed number, or one that adapts to the vendor (AIMD)."""

from __future__ import annotations

from typing import Literal

__all__ = ["ConcurrencyLimit"]

_INITIAL_LIMIT = 4
_MAX_LIMIT = 256
_DECREASE_FACTOR = 0.5
_CALM_SECONDS = 10.0  # after a cut in which nothing changes


class ConcurrencyLimit:
    """*limit* attempts at the same time; None: as many as come; "auto": as many as the vendor bears.

    "auto" begins with a few. While they are all in use, each answer makes room for one more, so that their number
    doubles from one round of answers to the next; after the first rate limit, a whole round makes room for one more. A
    rate limit halves the number. Then, for ten seconds, and for attempts that began before the cut, nothing changes:
    they speak of a load that is over. Other failures say nothing about the load.
    """

    def __init__(self, limit: int | Literal["auto"] | None, replaced: ConcurrencyLimit | None = None) -> None:
        self.is_adaptive = limit == "auto"
        self.limit: int | None = _INITIAL_LIMIT if limit == "auto" else limit
        self.taken = 0
        """How many attempts are in flight that began under this limit."""
        self.replaced = replaced if replaced is not None and replaced.in_flight else None
        """The limit that this one has replaced, while attempts that began under it may be under way."""
        self.size = float(_INITIAL_LIMIT)
        self._is_starting = True
        self._last_cut: float | None = None

    @property
    def free(self) -> bool:
        """Whether one more attempt may begin."""
        return self.limit is None or self.in_flight < self.limit

    @property
    def in_flight(self) -> int:
        """How many attempts are under way, those of the limit that this one has replaced included."""
        return self.taken if self.replaced is None else self.taken + self.replaced.in_flight

    def answered(self, began: float, now: float) -> None:
        """Raise an adaptive limit by one, or by a part of one, if all of it was in use.

        An attempt that *began* then is answered, and not yet counted as ended.
        """
        if self.is_adaptive and not self._is_old(began, now) and not self.free:
            self._resize(self.size + (1.0 if self._is_starting else 1.0 / self.size))

    def on_throttle(self, began: float, now: float) -> None:
        """Halve an adaptive limit: an attempt that *began* then, and not before the last cut, was rate limited."""
        if self.is_adaptive and not self._is_old(began, now):
            # What was really in use is what was too much.
            self._resize(min(self.size, self.taken) * _DECREASE_FACTOR)
            self._is_starting, self._last_cut = False, now

    def _is_old(self, began: float, now: float) -> bool:
        return self._last_cut is not None and (began <= self._last_cut or now < self._last_cut + _CALM_SECONDS)

    def _resize(self, size: float) -> None:
        self.size = min(float(_MAX_LIMIT), max(1.0, size))
        self.limit = int(self.size)
