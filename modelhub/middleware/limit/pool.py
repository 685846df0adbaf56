"""A pool: requests, tokens and places that models share, over all threads and event loops of a process."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from modelhub.core.clock import Clock, SystemClock
from modelhub.core.completions import finish, run_completions
from modelhub.core.errors import LimitRejected
from modelhub.core.process import register_at_fork
from modelhub.core.threads import new_lock
from modelhub.middleware.limit.concurrency import ConcurrencyLimit
from modelhub.middleware.limit.loop_timer import LoopTimer
from modelhub.middleware.limit.permit import AttemptResult, Permit, State, WaitLimits
from modelhub.middleware.limit.rate_counter import RateCounter
from modelhub.middleware.limit.rates import MINUTE, Amounts
from modelhub.middleware.limit.store import NOTHING, UNBOUNDED, LimitPool, PoolScope, PoolSnapshot, RateSnapshot

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions

__all__ = ["LocalLimitStore", "RateLimitPool"]

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # after a rate limit without Retry-After; doubles while it goes on


class RateLimitPool(LimitPool[Permit]):
    """One named limit of this process.

    First come, first served: whoever is first in the queue waits until everything it needs is there, and nobody
    overtakes it.
    """

    def __init__(self, name: str, options: LimitOptions, clock: Clock | None = None) -> None:
        self.name = name
        self.options = options
        self.clock: Clock = clock or SystemClock()
        self.reset_after_fork()
        self._now = -math.inf
        self._paused_at = self._paused_until = -math.inf
        self._pauses = 0
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Begin at nothing in a forked child, but for a pause that the vendor asked for: permits are the parent's."""
        options = self.options
        self.counters = [RateCounter(what, rate, options.burst_of(what, rate)) for what, rate in options.rates()]
        self.slots = ConcurrencyLimit(options.concurrency)
        self.queue: OrderedDict[Permit, None] = OrderedDict()
        self.timers: dict[asyncio.AbstractEventLoop, LoopTimer] = {}
        self._lock = new_lock()

    def reconfigure(self, options: LimitOptions) -> None:
        """Hold to *options* from now on; see `LimitPool`."""
        if options != self.options:
            self.apply(self._apply_options, options)

    def request(self, amounts: Amounts = NOTHING, waits: WaitLimits = UNBOUNDED, *, source: str = "") -> Permit:
        """Return the permit for *amounts*, or raise LimitRejected; see `LimitPool`."""
        counters = self.counters
        needs = [(counter, amounts.of(counter.what)) for counter in counters]
        for counter, amount in needs:
            if amount > counter.rate.amount:
                raise self.explain_too_large(counter.what, counter.rate, amount)
        own = self.options.max_wait
        if own is not None or waits.max_wait is not None:
            waits = waits.bounded_by(own, self.clock)
        permit = Permit(self.settle, amounts, needs, waits, source)
        self.apply(self._admit_or_enqueue, permit, counters)
        if permit.refusal is not None:
            raise permit.refusal
        return permit

    async def wait(self, permit: Permit) -> None:
        """Wait until *permit* may pass. Raises LimitRejected like `request`."""
        most = permit.waits.max_wait
        try:
            async with asyncio.timeout(most):
                permit.future = permit.loop.create_future()
                if permit.state is State.WAITING:  # another thread may just have changed that, and found nobody to wake
                    await permit.future
        except TimeoutError:
            self.apply(self._cancel_request, permit)
            raise self.explain_timeout(most) from None
        except BaseException as error:
            finish(permit.loop, error, partial(self.apply, self._cancel_request, permit))
            raise
        if permit.refusal is not None:
            raise permit.refusal
        self.resume(permit)

    def resume(self, permit: Permit) -> None:
        """Count *permit*, whose task resumes now, from now on if it was admitted too long ago.

        Its request is sent only now: the event loop was blocked meanwhile.
        """
        delay = self.clock.now() - permit.began
        if any(delay > hold.counter.window.max_delay for hold in permit.reservations):
            self.apply(self._count_from_now, permit)

    def left(self) -> PoolSnapshot:
        """What may still pass, at this moment."""
        run_completions()
        with self._lock:
            now = self._time()
            return PoolSnapshot(
                name=self.name,
                rates=tuple(RateSnapshot(counter.what, counter.rate, counter.left(now)) for counter in self.counters),
                slots=self.slots.limit,
                taken=self.slots.in_flight,
                waiting=len(self.queue),
                paused=max(0.0, self._paused_until - now),
                spread=max((counter.wait(1, now) for counter in self.counters), default=0.0),
            )

    def update_from_headers(self, permit: Permit, told: Mapping[str, tuple[int, float]]) -> None:
        """The vendor has told, before the attempt of *permit* is over, what is left and for how many seconds."""
        self.apply(self._apply_headers, permit, told)

    # -- one change at a time ------------------------------------------------------------------------------------------

    def apply(self, change: Callable[..., None], *args: Any) -> None:
        """Do `change(now, *args)`, and let in whoever can pass after it."""
        with self._lock:
            now = self._time()
            change(now, *args)
            if self.queue:  # otherwise there is no timer either
                self._admit(now)

    def _time(self) -> float:
        # Never backwards, whatever loops the clock follows.
        now = self.clock.now()
        if now > self._now:
            self._now = now
        return self._now

    def _apply_options(self, now: float, options: LimitOptions) -> None:
        known = {(counter.what, counter.rate.period): counter for counter in self.counters}
        counters = []
        for what, rate in options.rates():
            counter = known.pop((what, rate.period), None) or RateCounter(what, rate, 0.0)
            counter.change_rate(rate, options.burst_of(what, rate))
            counters.append(counter)
        if options.concurrency != self.options.concurrency:
            self.slots = ConcurrencyLimit(options.concurrency, self.slots)
        for permit in (waiting := list(self.queue)):
            self._dequeue(permit)
        self.options, self.counters = options, counters
        for permit in waiting:
            permit.needs = self._needs(permit.amounts)
            self._enqueue(permit)
            if too_large := [need for need in permit.needs if need[1] > need[0].rate.amount]:
                counter, amount = too_large[0]
                self._refuse(permit, self.explain_too_large(counter.what, counter.rate, amount))
        self._reject_waiters(now)

    # -- coming in -----------------------------------------------------------------------------------------------------

    def _needs(self, amounts: Amounts) -> list[tuple[RateCounter, int]]:
        return [(counter, amounts.of(counter.what)) for counter in self.counters]

    def _admit_or_enqueue(self, now: float, permit: Permit, counters: list[RateCounter]) -> None:
        if counters is not self.counters:  # the pool was reconfigured meanwhile
            permit.needs = self._needs(permit.amounts)
        if not self.queue and self._wait(permit, now) <= 0:
            self._grant(permit, now)
            return
        most, waiting = self.options.max_queue, len(self.queue)
        if most is not None and waiting >= most:
            self._refuse(permit, self.explain_full(waiting))
        elif (refusal := self._rejection_reason(permit, now)) is not None:
            self._refuse(permit, refusal)
        else:
            self._enqueue(permit)

    def _enqueue(self, permit: Permit) -> None:
        self.queue[permit] = None
        for counter, amount in permit.needs:
            counter.queued += amount
        if permit.loop not in self.timers:
            self.timers[permit.loop] = LoopTimer(permit.loop, self._tick)
        self.timers[permit.loop].waiting += 1

    def _dequeue(self, permit: Permit) -> None:
        del self.queue[permit]
        for counter, amount in permit.needs:
            counter.queued -= amount
        timer = self.timers[permit.loop]
        timer.waiting -= 1
        if not timer.waiting:
            self.timers.pop(permit.loop).stop()

    def _tick(self) -> None:
        """Let in whoever can pass, now that time has passed."""
        with self._lock:
            self._admit(self._time())

    def _wait(self, permit: Permit, now: float) -> float:
        """Seconds until *permit* may pass, as things stand; without end if somebody must give back a place first."""
        if not self.slots.free:
            return math.inf
        longest = self._paused_until - now if self._paused_until > now else 0.0
        for counter, amount in permit.needs:
            if (wait := counter.wait(amount, now)) > longest:
                longest = wait
        return longest

    def _admit(self, now: float) -> None:
        """Let in whoever is first, as long as that is possible."""
        for loop in [loop for loop in self.timers if loop.is_closed()]:
            for permit in [permit for permit in self.queue if permit.loop is loop]:
                self._cancel_request(now, permit)
        while self.queue:
            permit = next(iter(self.queue))
            wait = self._wait(permit, now)
            if wait <= 0:
                self._dequeue(permit)
                self._grant(permit, now)
            elif (refusal := self._rejection_reason(permit, now)) is not None:
                self._refuse(permit, refusal)
            else:
                # Every loop that waits has a timer: none depends on another one to run.
                for timer in self.timers.values() if wait < math.inf else ():
                    timer.set(wait, now)
                return

    def _grant(self, permit: Permit, now: float) -> None:
        permit.reservations = [counter.take(amount, now) for counter, amount in permit.needs]
        permit.slots = self.slots
        self.slots.taken += 1
        permit.state, permit.began = State.HELD, now
        if not permit.wake():
            self._cancel_request(now, permit)

    @staticmethod
    def _count_from_now(now: float, permit: Permit) -> None:
        permit.began = now
        for hold in permit.reservations:
            hold.counter.delay(hold, now)

    # -- refusing ------------------------------------------------------------------------------------------------------

    def _rejection_reason(self, permit: Permit, now: float) -> LimitRejected | None:
        """Why *permit* need not wait, if so."""
        until, budget, _ = permit.waits
        if until is None and budget is None:
            return None
        queued = permit in self.queue
        pause = max(0.0, self._paused_until - now)
        waits = [counter.estimated_wait(amount, now, alone=queued) for counter, amount in permit.needs]
        estimated_wait = max(pause, *waits, 0.0)
        if until is not None and now + estimated_wait > until:
            return self.explain_lateness(permit.waits, estimated_wait, now)
        if budget is None:
            return None
        if pause > budget:
            return self.explain_pause(pause)
        for wait, (counter, amount) in zip(waits, permit.needs, strict=True):
            if (told := counter.remote_limits.wait(amount, now)) > budget:
                return self.explain_remote_limit(counter.what, counter.left(now), told)
            if counter.rate.period > MINUTE and wait > budget:  # so long a period that nobody would want to wait
                return self.explain_quota(counter.what, counter.rate, wait)
        return None

    def _refuse(self, permit: Permit, refusal: LimitRejected) -> None:
        if permit in self.queue:
            self._dequeue(permit)
        permit.state, permit.refusal = State.REFUSED, refusal
        permit.wake()

    # -- going out -----------------------------------------------------------------------------------------------------

    def _cancel_request(self, now: float, permit: Permit) -> None:
        """Whoever waited has gone: nothing was sent, and nothing of it stays."""
        if permit in self.queue:
            self._dequeue(permit)
            permit.state = State.OVER
        else:
            self._settled(now, permit, AttemptResult(sent=False))

    def settle(self, permit: Permit, result: AttemptResult) -> None:
        """Give back the slot of *permit* and what was not used."""
        self.apply(self._settled, permit, result)

    def _settled(self, now: float, permit: Permit, result: AttemptResult) -> None:
        if permit.state is not State.HELD:
            return
        permit.state = State.OVER
        if result.answered:
            permit.slots.answered(permit.began, now)
            if permit.began > self._paused_at:
                self._pauses = 0
        if result.limited:
            permit.slots.on_throttle(permit.began, now)
            self._pause(now, permit.began, result.retry_after)
        permit.slots.taken -= 1
        for hold in permit.reservations:
            counter = hold.counter
            if result.sent:
                counter.settle(hold, None if result.used is None else result.used.of(counter.what), now)
            else:
                counter.undo(hold, now)
            if result.answered and counter.remote_limits.items:
                counter.remote_limits.disprove(permit.source, hold)
        if result.told is not None:
            self._apply_headers(now, permit, result.told, result.retry_after)

    def _pause(self, now: float, began: float, retry_after: float | None) -> None:
        """Nobody passes until the vendor wants to be asked again; a later, shorter wish changes nothing."""
        if retry_after is None:
            if began <= self._paused_at:
                return  # it was under way when the last pause began, and says nothing new
            retry_after = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**self._pauses)
            self._pauses += 1
        self._paused_at = now
        self._paused_until = max(self._paused_until, now + retry_after)
        self._reject_waiters(now)

    def _apply_headers(
        self, now: float, permit: Permit, told: Mapping[str, tuple[int, float]], retry_after: float | None = None
    ) -> None:
        probe_after = MINUTE if retry_after is None else retry_after
        is_used_up = False
        for hold in permit.reservations:
            counter = hold.counter
            if counter.what in told:
                counter.window.forget(now)
                left, seconds = told[counter.what]
                limits, source = counter.remote_limits, permit.source
                is_used_up |= limits.update_from_headers(source, hold, left, seconds, now, probe_after)
        if is_used_up:
            self._reject_waiters(now)

    def _reject_waiters(self, now: float) -> None:
        """Refuse those who need not wait any more."""
        for permit in list(self.queue):
            if (refusal := self._rejection_reason(permit, now)) is not None:
                self._refuse(permit, refusal)


class LocalLimitStore:
    """Keeps pools in this process: the default."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def make_pool(self, name: str, options: LimitOptions, scope: PoolScope = "limit") -> RateLimitPool:  # noqa: ARG002
        """Return a new pool, which only this process uses."""
        return RateLimitPool(name, options, self._clock)

    async def forget_pool(self, pool: LimitPool[Any]) -> None:
        """Do nothing: a pool is only where it is used."""
