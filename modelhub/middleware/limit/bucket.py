"""aiolimiter's leaky bucket, at instants that the caller gives.

Of `AsyncLimiter` the arithmetic is used: what has leaked, what there is room for. Its queue is not: it belongs to one
event loop, serves the smallest amount first, and refuses amounts over the bucket's size.
"""

from __future__ import annotations

from typing import Any

from aiolimiter import AsyncLimiter

__all__ = ["Bucket"]

_EPSILON = 1e-9


class Bucket(AsyncLimiter):
    """Holds *size* and leaks *rate* a second. The pool's lock must be held, by any thread."""

    def __init__(self, size: float, rate: float) -> None:
        super().__init__(size, size / rate)
        self._at = 0.0

    @property
    def _loop(self) -> Any:
        return self  # the base asks its loop for one thing, the time

    def time(self) -> float:
        """Return the instant for which the base class is asked."""
        return self._at

    def continue_from(self, other: Bucket) -> None:
        """Hold what *other* holds, which this bucket replaces."""
        self._level, self._last_check = other._level, other._last_check

    def wait(self, amount: float, now: float, ahead: float = 0.0) -> float:
        """How many seconds from *now* there will be room for *amount*, if *ahead* goes in before.

        What is larger than the bucket goes in when the bucket is empty, and takes that much longer to leak.
        """
        if amount > self.max_rate:
            amount = self.max_rate
        if self._level + ahead + amount <= self.max_rate:  # and more so when it has leaked
            return 0.0
        self._at = now
        if self.has_capacity(amount + ahead):
            return 0.0
        missing = self._level + ahead + amount - self.max_rate
        return missing / self._rate_per_sec if missing > _EPSILON else 0.0

    def add(self, amount: float, now: float) -> None:
        """Put *amount* in, whether there is room or not; a negative one takes out what was put in before."""
        level = self._level
        if level > 0.0 and (level := level - (now - self._last_check) * self._rate_per_sec) < 0.0:
            level = 0.0
        self._last_check = now
        self._level = max(0.0, level + amount) if amount < 0.0 else level + amount
