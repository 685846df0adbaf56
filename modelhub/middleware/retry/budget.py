"""How many retries all calls of a hub may make together."""

from __future__ import annotations

from modelhub.middleware.retry.options import RetryBudgetOptions

__all__ = ["RetryBudget"]

_REFILL_SECONDS = 60.0


class RetryBudget:
    """What is left of a hub's retries. One for all models."""

    def __init__(self, options: RetryBudgetOptions | None = None) -> None:
        self.options = options or RetryBudgetOptions()
        self.left = float(self.options.reserve)
        self._seen: float | None = None

    def reconfigure(self, options: RetryBudgetOptions) -> None:
        """Hold to *options* from now on; what is left goes on, up to what they allow."""
        self.options = options
        self.left = min(self.left, 10.0 * max(options.reserve, 1))

    def answered(self) -> None:
        """Pay in for an answer; what is not used is not hoarded without end."""
        self.left = min(self.left + self.options.share, 10.0 * max(self.options.reserve, 1))

    def take(self, now: float) -> bool:
        """Take one retry out at *now* (seconds); False if none is left."""
        if self._seen is not None and self.left < self.options.reserve:
            refilled = self.left + (now - self._seen) * self.options.reserve / _REFILL_SECONDS
            self.left = min(refilled, float(self.options.reserve))
        self._seen = now
        if self.left < 1:
            return False
        self.left -= 1
        return True
