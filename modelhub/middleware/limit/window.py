"""What was admitted within the last period of a rate."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Admission", "Slot", "Window"]

_SLOTS_PER_PERIOD = (
    1000  # a window is kept in so many parts: its size is bounded, and a part counts from its last admission
)


@dataclass(slots=True, eq=False)
class Slot:
    """What was admitted between two instants close together; *total* is how much ever had been, at its end."""

    began: float
    ended: float
    amount: int
    total: int
    gone: bool = False


@dataclass(slots=True, eq=False)
class Admission:
    """What the *number*th attempt was admitted with: *amount* in *slot*, when *total* had been admitted with it."""

    slot: Slot
    amount: int
    number: int
    total: int


class Window:
    """What was admitted within the last period, at most *limit*."""

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.period = period
        # A window remembers a little longer than its period: requests that leave here a period apart arrive closer
        # together than that when the first one was under way longer.
        slack = min(1.0, max(0.02 * period, min(0.04, 0.1 * period)))
        self.span = period + slack
        self.max_delay = slack / 4
        """How many seconds after its admission a request may be sent that counts from its admission on."""
        self.used = 0
        self.total = 0
        """How much was ever admitted, and never mind what was given back."""
        self._slot_length = period / _SLOTS_PER_PERIOD
        self._slots: deque[Slot] = deque()

    def forget(self, now: float) -> None:
        """Forget what was admitted longer than a period ago."""
        slots = self._slots
        while slots and slots[0].ended + self.span <= now:
            slot = slots.popleft()
            slot.gone = True
            self.used -= slot.amount

    def add(self, amount: int, now: float) -> Slot:
        """Count *amount* as admitted now."""
        self.used += amount
        self.total += amount
        last = self._slots[-1] if self._slots else None
        if last is not None and now - last.began < self._slot_length:
            last.ended, last.amount, last.total = now, last.amount + amount, self.total
            return last
        slot = Slot(now, now, amount, self.total)
        self._slots.append(slot)
        return slot

    def give_back(self, slot: Slot, amount: int) -> None:
        """Count *amount* of *slot* as never admitted, if that still matters."""
        if not slot.gone:
            slot.amount -= amount
            self.used -= amount

    def after(self, hold: Admission) -> Iterator[tuple[float, int]]:
        """When and how much was admitted after the attempt of *hold*, the latest first, less what was given back."""
        for slot in reversed(self._slots):
            if slot is hold.slot:
                yield slot.ended, max(0, min(slot.amount, slot.total - hold.total))
                return
            yield slot.ended, slot.amount
        if hold.slot.gone and (forgotten := self.total - hold.total - self.used) > 0:
            yield -math.inf, forgotten

    def recent(self, now: float) -> list[tuple[float, int]]:
        """Return when and how much was admitted within the last period, the earliest first."""
        self.forget(now)
        return [(slot.ended, slot.amount) for slot in self._slots]

    def wait(self, amount: float, now: float) -> float:
        """Seconds until *amount* fits, in the best case: what goes in meanwhile goes in at once."""
        self.forget(now)
        over = self.used + amount - self.limit
        if over <= 0:
            return 0.0
        for slot in self._slots:
            over -= slot.amount
            if over <= 0:
                return slot.ended + self.span - now
        return self.span * math.ceil(over / self.limit)  # what will be admitted from now on has to leave, too
