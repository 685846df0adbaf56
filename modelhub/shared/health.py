"""Whether the store can be reached: said once when that changes, and shown by `hub.shared.health`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from modelhub.core.clock import Clock
from modelhub.logs import write_entry

__all__ = ["HealthMonitor", "SharedHealth"]


@dataclass(frozen=True, slots=True)
class SharedHealth:
    """The state of the store.

    `limits` and `budgets` say what holds now: "shared", or what the file says for the time when the store is down.
    `down_for` is for how many seconds it has been down, and `error` why; `outages` counts how often it was. `replicas`
    is how many processes share the limits, as last counted.
    """

    ok: bool
    address: str
    limits: str
    budgets: str
    replicas: int | None
    outages: int
    down_for: float | None = None
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the state as a JSON-compatible dict."""
        return asdict(self)


class HealthMonitor:
    """Knows whether the store can be reached. Safe to use from several threads."""

    def __init__(self, address: str, limits: str, budgets: str, clock: Clock) -> None:
        self.is_down = False
        self.outages = 0
        self.on_change: Callable[[bool], None] = lambda _: None
        """Called with whether the store is down now, after every change."""
        self.record: Callable[[bool], None] | None = None
        """Records the same as a metric, where telemetry is on."""
        self._address = address
        self._modes = limits, budgets
        self._clock = clock
        self._down_since = 0.0
        self._error: str | None = None
        self._lock = threading.Lock()

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()

    @property
    def reason(self) -> str:
        """Which store is down, and why, for the message of an error."""
        return f"{self._address} is down: {self._error}"

    def set_down(self, error: str) -> None:
        """Record that the store could not be reached, because of *error*."""
        with self._lock:
            if self.is_down:
                return
            self.is_down, self._down_since, self._error = True, self._clock.now(), error
            self.outages += 1
        limits, budgets = self._modes
        message = f"the shared store {self._address} is down ({error}): limits: {limits}, budgets: {budgets}"
        self._log("shared_store_down", message, error=error, limits=limits, budgets=budgets)
        self._tell(True)

    def set_up(self) -> None:
        """Record that the store was reached."""
        with self._lock:
            if not self.is_down:
                return
            self.is_down = False
            seconds = self._clock.now() - self._down_since
        self._log("shared_store_up", f"the shared store {self._address} is back", down_for=round(seconds, 3))
        self._tell(False)

    def _tell(self, is_down: bool) -> None:
        if self.record is not None:
            self.record(is_down)
        self.on_change(is_down)

    def health(self, replicas: int | None) -> SharedHealth:
        """Return the state; *replicas* is how many processes were last counted."""
        with self._lock:
            limits, budgets = self._modes if self.is_down else ("shared", "shared")
            down_for = self._clock.now() - self._down_since if self.is_down else None
            error = self._error if self.is_down else None
            return SharedHealth(
                not self.is_down, self._address, limits, budgets, replicas, self.outages, down_for, error
            )

    def _log(self, event: str, message: str, **fields: Any) -> None:
        write_entry(logging.WARNING, event, message, {"address": self._address, **fields})
