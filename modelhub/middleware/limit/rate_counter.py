"""Counters of rates: what a pool has admitted lately, and when it can admit more.

A rate says "at most N in any period". The window keeps what was admitted for one period, so that this is true of every
period there is, wherever it begins. The bucket spreads admissions over the period, so that after a burst there is
something left for whoever comes next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhub.middleware.limit.rates import Rate, What
from modelhub.middleware.limit.remote_limits import RemoteLimits
from modelhub.middleware.limit.window import Admission, Slot, Window

if TYPE_CHECKING:
    from modelhub.middleware.limit.bucket import Bucket

__all__ = ["Reservation", "RateCounter", "Window"]

_LEARNING = 0.2  # how much an attempt says, after the first, about what is used of a reservation


@dataclass(slots=True, eq=False)
class Reservation(Admission):
    """What one attempt has reserved of one rate, whose *counter* settles it."""

    counter: RateCounter


class RateCounter:
    """One rate of a pool: *what* is counted and how much may pass; *burst* of it may pass at once.

    Not safe by itself: the pool's lock is around all of it.
    """

    def __init__(self, what: What, rate: Rate, burst: float) -> None:
        self.what: What = what
        self.rate = rate
        self.window = Window(rate.amount, rate.period)
        self.remote_limits = RemoteLimits(self.window)
        """What the vendor says is left."""
        self.reserved = 0
        """What attempts under way have taken and not yet settled."""
        self.queued = 0
        """What those who wait want to take."""
        # How much of a reservation is really used: every request is one, of tokens that is learnt.
        self._share = 1.0 if what == "requests" else 0.0
        self._learning = 1.0
        self._bucket = _make_bucket(rate, burst)
        self.admitted = 0

    def change_rate(self, rate: Rate, burst: float) -> None:
        """Apply *rate*, of the same period, from now on; what was admitted before counts as it did."""
        self.rate, self.window.limit = rate, rate.amount
        level = self._bucket
        self._bucket = _make_bucket(rate, burst)
        if self._bucket is not None and level is not None:
            self._bucket.continue_from(level)

    def wait(self, amount: int, now: float) -> float:
        """Seconds until *amount* may pass, as things stand."""
        wait = self.window.wait(amount, now)
        if self.remote_limits.items:
            wait = max(wait, self.remote_limits.wait(amount, now))
        if self._bucket is not None and (room_in := self._bucket.wait(amount, now)) > wait:
            return room_in
        return wait

    def estimated_wait(self, amount: int, now: float, *, alone: bool) -> float:
        """Seconds until *amount* can be expected to pass, *alone* or behind all who wait.

        What is reserved and, by experience, not used is expected to come back; and whoever waits in front to bring news
        of what is left at the vendor's.
        """
        ahead = (0 if alone else self.queued * self._share) - self.reserved * (1 - self._share)
        wait = max(self.window.wait(amount + ahead, now), self.remote_limits.wait(amount, now))
        return wait if self._bucket is None else max(wait, self._bucket.wait(amount, now, ahead))

    def take(self, amount: int, now: float) -> Reservation:
        """Reserve *amount* at the instant *now*, and return the reservation."""
        self.reserved += amount
        self.admitted += 1
        if self.remote_limits.items:
            self.remote_limits.record_probe(self.admitted, amount, now)
        if self._bucket is not None:
            self._bucket.add(amount, now)
        slot = self._add(amount, now)
        return Reservation(slot, amount, self.admitted, self.window.total, self)

    def preload(self, amount: int, at: float) -> None:
        """Count *amount* as admitted at the instant *at*, which is not before what was counted last."""
        self.window.add(amount, at)
        self._add_to_bucket(amount, at)

    def settle(self, hold: Reservation, used: int | None, now: float) -> None:
        """Replace the reservation by what was *used*; None: nobody knows, it stays as it was."""
        self.reserved -= hold.amount
        if used is None:
            return
        if self.what != "requests" and hold.amount:
            share = min(1.0, used / hold.amount)
            self._share += (share - self._share) * self._learning
            self._learning = _LEARNING
        if used < hold.amount:
            self._give_back(hold, hold.amount - used, now)
        elif used > hold.amount:
            # It was used between then and now: counted from now on it is surely not forgotten too early.
            self.window.forget(now)
            self._add(used - hold.amount, now)
            self._add_to_bucket(used - hold.amount, now)

    def delay(self, hold: Reservation, now: float) -> None:
        """Count the reservation, which was admitted earlier, as admitted now."""
        self.window.forget(now)
        if not hold.slot.gone:
            self.window.give_back(hold.slot, hold.amount)
        hold.slot, hold.total = self.window.add(hold.amount, now), self.window.total

    def undo(self, hold: Reservation, now: float) -> None:
        """Take the reservation back: nothing was sent."""
        self.reserved -= hold.amount
        self._give_back(hold, hold.amount, now)

    def left(self, now: float) -> int:
        """How much may still pass in the current period; below 0 if more was used than reserved."""
        self.window.forget(now)
        return self.remote_limits.left(self.rate.amount - self.window.used, now)

    def _add(self, amount: int, now: float) -> Slot:
        if self.remote_limits.items:
            self.remote_limits.record_consumed(amount, now)
        return self.window.add(amount, now)

    def _give_back(self, hold: Reservation, amount: int, now: float) -> None:
        self.window.forget(now)
        if self.remote_limits.items:
            self.remote_limits.record_unused(hold, amount)
        if not hold.slot.gone:
            self.window.give_back(hold.slot, amount)
            self._add_to_bucket(-amount, now)

    def _add_to_bucket(self, amount: int, now: float) -> None:
        if self._bucket is not None:
            self._bucket.add(amount, now)


def _make_bucket(rate: Rate, burst: float) -> Bucket | None:
    if burst >= rate.amount:
        return None
    from modelhub.middleware.limit.bucket import Bucket  # aiolimiter is loaded when something is limited

    return Bucket(max(1.0, burst), rate.amount / rate.period)
