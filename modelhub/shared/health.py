"""Whether the store can be reached: said once when that changes, and shown by `hub.shared.health`."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from modelhub.core.clock import Clock
from modelhub.logs import write_entry

__all__ = ["LOSS_MEMORY", "HealthMonitor", "SharedHealth"]

LOSS_MEMORY = 10.0
"""A store that loses the data of a limit twice in so many seconds counts as down, for as long."""


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
        self.down_since = 0.0
        self.up_since = self.trusted_from = -math.inf
        self._error: str | None = None
        self._lock = threading.Lock()

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child."""
        self._lock = threading.Lock()

    def report_loss(self, limit: str, *, is_repeated: bool) -> None:
        """Record that the store has lost what it knew of *limit*, though it was not down; if again, it is no store."""
        why = "keys are evicted, or somebody deletes them: use `maxmemory-policy noeviction`"
        if is_repeated:
            self.trusted_from = self._clock.now() + LOSS_MEMORY
            self.set_down(f"it loses the data of limit `{limit}` again and again; {why}")
            return
        message = f"the shared store {self._address} has lost the data of limit `{limit}`, and is told again ({why})"
        self._log("shared_store_lost_data", message, limit=limit)

    @property
    def reason(self) -> str:
        """Which store is down, and why, for the message of an error."""
        return f"{self._address} is down: {self._error}"

    def set_down(self, error: str) -> None:
        """Record that the store could not be reached, because of *error*."""
        with self._lock:
            if self.is_down:
                return
            self.is_down, self.down_since, self._error = True, self._clock.now(), error
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
            self.is_down, self.up_since = False, self._clock.now()
            seconds = self.up_since - self.down_since
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
            down_for = self._clock.now() - self.down_since if self.is_down else None
            error = self._error if self.is_down else None
            return SharedHealth(
                not self.is_down, self._address, limits, budgets, replicas, self.outages, down_for, error
            )

    def _log(self, event: str, message: str, **fields: Any) -> None:
        write_entry(logging.WARNING, event, message, {"address": self._address, **fields})
