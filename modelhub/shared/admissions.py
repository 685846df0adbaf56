"""What this process has admitted lately: what the store must be told if it has lost it, or was not there."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from modelhub.middleware.limit.rates import Rate
from modelhub.middleware.limit.window import Slot, Window

__all__ = ["Admissions", "RecordedAdmission"]

RecordedAdmission = Sequence[tuple[Window, Slot, int]]
"""Where an attempt was recorded: the window, its part, and the amount."""


class Admissions:
    """The admissions of the last period of each rate, by the rate's key. Safe to use from several threads."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self.reset()

    def reset(self) -> None:
        """Forget all."""
        self._lock = threading.Lock()
        self._windows = {key: Window(window.limit, window.period) for key, window in self._windows.items()}

    def set_rates(self, rates: Mapping[str, Rate]) -> None:
        """Record *rates* from now on; what is known of those that go on is kept."""
        with self._lock:
            known = self._windows
            self._windows = {key: known.get(key) or Window(rate.amount, rate.period) for key, rate in rates.items()}

    def add(self, needs: Mapping[str, int], now: float) -> RecordedAdmission:
        """Record an attempt that was admitted at *now* with *needs*."""
        with self._lock:
            recorded = []
            for key, window in self._windows.items():
                window.forget(now)
                amount = needs.get(key, 0)
                recorded.append((window, window.add(amount, now), amount))
            return recorded

    def settle(self, recorded: RecordedAdmission, used: Mapping[str, int]) -> None:
        """Correct *recorded* where less was *used*, by the rate's key."""
        with self._lock:
            for key, (window, slot, amount) in zip(self._windows, recorded, strict=False):
                if (unused := amount - used.get(key, amount)) > 0:
                    window.give_back(slot, unused)

    def recent(self, now: float) -> dict[str, list[tuple[float, int]]]:
        """Return how long ago, in seconds, and how much was admitted, by the rate's key."""
        with self._lock:
            return {
                key: [(now - ended, amount) for ended, amount in window.recent(now)]
                for key, window in self._windows.items()
            }
