"""Meters: what a pool has admitted lately, and when it can admit more.

A rate says "at most N in any period". The window keeps what was admitted for one period, so that this is true of every
period there is, wherever it begins. The bucket spreads admissions over the period, so that after a burst there is
something left for whoever comes next.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhub.middleware._rates import MINUTE, Rate, What

if TYPE_CHECKING:
    from modelhub.middleware._bucket import Bucket

__all__ = ["Hold", "Meter", "Window"]

_GRAINS = 1000  # a window is kept in so many parts: its size is bounded, and a part counts from its last admission
_LEARNING = 0.2  # how much an attempt says, after the first, about what is used of a reservation


def _slack(period: float) -> float:
    """How much longer than its period a window remembers.

    Requests that leave here a period apart arrive closer together than that when the first one was under way longer.
    """
    return min(1.0, max(0.02 * period, min(0.04, 0.1 * period)))


@dataclass(slots=True, eq=False)
class Slot:
    """What was admitted between two instants close together."""

    began: float
    ended: float
    amount: int
    gone: bool = False


class Window:
    """What was admitted within the last period, at most *limit*."""

    def __init__(self, limit: int, period: float) -> None:
        self.limit = limit
        self.span = period + _slack(period)
        self.used = 0
        self._grain = period / _GRAINS
        self._slots: deque[Slot] = deque()
        self._claim = (0, 0.0)  # what the vendor says others have used, and until when that holds

    def forget(self, now: float) -> None:
        """Let go of what is over."""
        slots = self._slots
        while slots and slots[0].ended + self.span <= now:
            slot = slots.popleft()
            slot.gone = True
            self.used -= slot.amount

    def add(self, amount: int, now: float) -> Slot:
        """Count *amount* as admitted now."""
        self.used += amount
        last = self._slots[-1] if self._slots else None
        if last is not None and now - last.began < self._grain:
            last.ended, last.amount = now, last.amount + amount
            return last
        slot = Slot(now, now, amount)
        self._slots.append(slot)
        return slot

    def give_back(self, slot: Slot, amount: int) -> None:
        """Count *amount* of *slot* as never admitted, if that still matters."""
        if not slot.gone:
            slot.amount -= amount
            self.used -= amount

    def claimed(self, now: float) -> int:
        """How much others have used, as far as the vendor has told."""
        return self._claim[0] if now < self._claim[1] else 0

    def claim(self, left: int, until: float, now: float) -> None:
        """The vendor says that no more than *left* may pass before *until*: that narrows, and never widens."""
        self.forget(now)
        self._claim = (max(0, self.limit - self.used - left), min(until, now + self.span))

    def wait(self, amount: float, now: float) -> float:
        """Seconds until *amount* fits, in the best case: what goes in meanwhile goes in at once."""
        self.forget(now)
        over, claimed = self.used + amount - self.limit, self.claimed(now)
        if over + claimed <= 0:
            return 0.0
        if not claimed:
            return self._leaves(over, now) - now
        freed = self._leaves(over, now) - now if over > 0 else 0.0
        return min(self._leaves(over + claimed, now) - now, max(freed, self._claim[1] - now))

    def _leaves(self, amount: float, now: float) -> float:
        """When *amount* of what was admitted, or will be from now on, has left the window."""
        for slot in self._slots:
            amount -= slot.amount
            if amount <= 0:
                return slot.ended + self.span
        return now + self.span * math.ceil(amount / self.limit)


@dataclass(slots=True, eq=False)
class Hold:
    """What one attempt has reserved of one meter."""

    meter: Meter
    slot: Slot
    amount: int


class Meter:
    """One rate of a pool: *what* is counted and how much may pass; *burst* of it may pass at once.

    Not safe by itself: the pool's lock is around all of it.
    """

    def __init__(self, what: What, rate: Rate, burst: float) -> None:
        self.what: What = what
        self.rate = rate
        self.window = Window(rate.amount, rate.period)
        self.reserved = 0
        """What attempts under way have taken and not yet settled."""
        self.queued = 0
        """What those who wait want to take."""
        # How much of a reservation is really used: every request is one, of tokens that is learnt.
        self._share = 1.0 if what == "requests" else 0.0
        self._learning = 1.0
        self._bucket = _bucket(rate, burst)

    @property
    def is_quota(self) -> bool:
        """Whether the period is so long that nobody would want to wait for it."""
        return self.rate.period > MINUTE

    def wait(self, amount: int, now: float) -> float:
        """Seconds until *amount* may pass, as things stand."""
        wait = self.window.wait(amount, now)
        return wait if self._bucket is None else max(wait, self._bucket.wait(amount, now))

    def soonest(self, amount: int, now: float, *, alone: bool) -> float:
        """Seconds until *amount* can be expected to pass, *alone* or behind all who wait.

        What is reserved and, by experience, not used is expected to come back.
        """
        ahead = (0 if alone else self.queued * self._share) - self.reserved * (1 - self._share)
        wait = self.window.wait(amount + ahead, now)
        return wait if self._bucket is None else max(wait, self._bucket.wait(amount, now, ahead))

    def take(self, amount: int, now: float) -> Hold:
        """Reserve *amount*."""
        self.reserved += amount
        if self._bucket is not None:
            self._bucket.pour(amount, now)
        return Hold(self, self.window.add(amount, now), amount)

    def settle(self, hold: Hold, used: int | None, now: float) -> None:
        """Replace the reservation by what was *used*; None: nobody knows, it stays as it was."""
        self.reserved -= hold.amount
        if used is None:
            return
        if self.what != "requests" and hold.amount:
            share = min(1.0, used / hold.amount)
            self._share += (share - self._share) * self._learning
            self._learning = _LEARNING
        self.window.forget(now)
        more = used - hold.amount
        if more < 0 and not hold.slot.gone:
            self.window.give_back(hold.slot, -more)
            self._pour(more, now)
        elif more > 0:
            # It was used between then and now: counted from now on it is surely not forgotten too early.
            self.window.add(more, now)
            self._pour(more, now)

    def undo(self, hold: Hold, now: float) -> None:
        """Take the reservation back: nothing was sent."""
        self.reserved -= hold.amount
        self.window.forget(now)
        if not hold.slot.gone:
            self.window.give_back(hold.slot, hold.amount)
            self._pour(-hold.amount, now)

    def claim(self, left: int, until: float, now: float) -> None:
        """The vendor says that no more than *left* may pass before *until*."""
        self.window.claim(left, until, now)

    def left(self, now: float) -> int:
        """How much may still pass in the current period; below 0 if more was used than reserved."""
        self.window.forget(now)
        return self.rate.amount - self.window.used - self.window.claimed(now)

    def _pour(self, amount: int, now: float) -> None:
        if self._bucket is not None:
            self._bucket.pour(amount, now)


def _bucket(rate: Rate, burst: float) -> Bucket | None:
    if burst >= rate.amount:
        return None
    from modelhub.middleware._bucket import Bucket  # aiolimiter is loaded when something is limited

    return Bucket(max(1.0, burst), rate.amount / rate.period)
