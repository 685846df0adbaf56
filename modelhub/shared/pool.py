"""A pool of a limit that is kept in the store."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.middleware.limit.permit import AttemptResult, State, WaitLimits
from modelhub.middleware.limit.rates import Amounts, Rate, What
from modelhub.middleware.limit.store import NOTHING, UNBOUNDED, LimitPool, PoolSnapshot, RateSnapshot
from modelhub.middleware.limit.window import Window
from modelhub.shared.admissions import Admissions
from modelhub.shared.health import LOSS_MEMORY
from modelhub.shared.permit import SharedPermit
from modelhub.shared.pool_client import PATIENCE, PRESENCE
from modelhub.shared.stand_in import StandIn

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions
    from modelhub.middleware.limit.store import PoolScope
    from modelhub.shared.permit import ClientView, Operation
    from modelhub.shared.protocols import StoreView

__all__ = ["SharedPool"]

_STALE = 2.0  # seconds after which nobody knows who waits
_MAX_GRACE = 1.0  # seconds that processes have to say what they admitted, after the store has lost its data


class SharedPool(LimitPool[SharedPermit]):
    """One named limit, over all processes that use the same store and prefix.

    While the store is down, a `StandIn` decides, as the file says.
    """

    def __init__(self, store: StoreView, name: str, options: LimitOptions, scope: PoolScope) -> None:
        self.store = store
        self.name = name
        self.key = f"{scope}:{name}"
        self.version = 0
        """How often the options have changed."""
        self.epoch = ""
        """By which the store tells this pool from an earlier one, whose data it has lost."""
        self.shown: Sequence[float] = ()
        self._shown_at = 0.0
        self.counted = 0, -math.inf
        """How many processes the store last counted that use this pool, and when."""
        self._known_outages = 0
        self._lost_at = -math.inf
        self.admissions = Admissions()
        self.stand_in = StandIn(self)
        self._apply_options(options)

    def _apply_options(self, options: LimitOptions) -> None:
        self.options = options
        self.rates = _index_rates(options)
        """What is counted, and the rate, by a key that is the same in every process."""
        # The braces: a cluster keeps all of it in one place. The number: another version's script keeps it otherwise.
        base = f"{{{self.store.options.prefix}:{self.key}}}:2"
        self.keys = [f"{base}:{part}" for part in ("state", "queue", "leases", "members", *self.rates)]
        self.admissions.set_rates({key: rate for key, (_, rate) in self.rates.items()})
        rates = [rate for _, rate in self.rates.values()]
        self.max_delay = max(0.005, min((_find_span(rate) - rate.period for rate in rates), default=1.0) / 4)
        """How many seconds after its admission a request may be written that counts from its admission on.

        A window remembers a little longer than its period: part of that is for delays that nobody sees.
        """
        shortest = min((rate.period for rate in rates), default=math.inf)
        self.grant_lifetime = min(self.store.options.lease, max(1.0, shortest))
        """How many seconds after its admission an attempt may begin that does not ask again."""

    def reconfigure(self, options: LimitOptions) -> None:
        """Hold to *options* from now on: what was admitted, attempts under way, the queue and pauses go on."""
        if options != self.options:
            self._apply_options(options)
            self.version += 1
            self.stand_in.store_is_back()  # a stand-in is made anew

    def reset_after_fork(self) -> None:
        """Begin at nothing in a forked child: what was admitted is the parent's to report."""
        self.epoch = ""
        self.counted = 0, -math.inf
        self.admissions.reset()
        self.stand_in.reset()

    def settings(self, member: str) -> tuple[str | bytes, ...]:
        """Return what the script must know of the pool, for calls of *member*; times in microseconds."""
        options, longest = self.options, max((rate.period for _, rate in self.rates.values()), default=0.0)
        slots = -1 if options.concurrency is None else -2 if options.concurrency == "auto" else options.concurrency
        lease = self.store.options.lease
        seconds = (lease, PATIENCE, PRESENCE, min(_MAX_GRACE, longest), max(2 * longest, 4 * lease, 600.0))
        numbers: list[float] = [slots, *(round(length * 1e6) for length in seconds)]
        for what, rate in self.rates.values():
            burst = options.burst_of(what, rate)
            numbers += [
                int(what == "requests"),
                rate.amount,
                round(rate.period * 1e6),
                round(_find_span(rate) * 1e6),
                max(1, round(rate.period * 1e3)),
                -1 if burst >= rate.amount else max(1.0, burst),
            ]
        return (member, self.key, self.store.options.prefix, struct.pack(f"<{len(numbers)}d", *numbers), *self.rates)

    # -- permits -----------------------------------------------------------------------------------------------------

    def request(self, amounts: Amounts = NOTHING, waits: WaitLimits = UNBOUNDED, *, source: str = "") -> SharedPermit:
        """Return the permit for *amounts*, which goes to `wait`. Raises LimitRejected for what can never fit."""
        needs = {}
        for key, (what, rate) in self.rates.items():
            needs[key] = amounts.of(what)
            if needs[key] > rate.amount:
                raise self.explain_too_large(what, rate, needs[key])
        waits = waits.bounded_by(self.options.max_wait, self.store.clock)
        return SharedPermit(self.settle, amounts, needs, waits, source)

    async def wait(self, permit: SharedPermit) -> None:
        """Wait until *permit* may pass. Raises LimitRejected."""
        max_wait = permit.waits.max_wait
        try:
            if max_wait is None:
                await self._wait_until_decided(permit)
            else:
                # Until the store says that the attempt must wait, the time for its answer is what bounds it: an attempt
                # that may not wait at all is asked for all the same.
                latest = asyncio.get_running_loop().time() + max_wait
                async with asyncio.timeout_at(latest + self.store.options.timeout) as permit.timeout:
                    permit.latest = latest
                    await self._wait_until_decided(permit)
        except TimeoutError:
            self._cancel(permit)
            raise self.explain_timeout(max_wait) from None
        except BaseException:
            self._cancel(permit)
            raise
        if permit.refusal is not None:
            raise permit.refusal

    async def _wait_until_decided(self, permit: SharedPermit) -> None:
        while permit.state is State.WAITING:
            if self.store.monitor.is_down:
                await self.stand_in.wait(permit)
            elif (unsettled := self.store.monitor.up_since + self._settling_time() - self.store.clock.now()) > 0:
                await asyncio.sleep(unsettled)
            else:
                await self._wait_in_store(permit)

    def _settling_time(self) -> float:
        """Return for how long after an outage nothing passes: others may find the store, and report, so much later."""
        options = self.store.options
        return 0.0 if options.when_down.limits == "refuse" else options.retry_interval + 0.1

    async def _wait_in_store(self, permit: SharedPermit) -> None:
        max_queue, (until, budget, _) = self.options.max_queue, permit.waits
        await (
            self.store.link()
            .client(self)
            .request(
                permit,
                -1 if max_queue is None else max_queue,
                -1 if until is None else max(0, round((until - self.store.clock.now()) * 1e6)),
                -1 if budget is None else round(budget * 1e6),
            )
        )

    def _cancel(self, permit: SharedPermit) -> None:
        if permit.state is State.HELD:
            permit.settle(AttemptResult(sent=False))
        elif permit.state is State.WAITING and permit.client is not None:
            permit.client.cancel(permit)

    def record(self, permit: SharedPermit) -> None:
        """Record that *permit* was admitted."""
        permit.recorded = self.admissions.add(permit.needs, self.store.clock.now())

    def settle(self, permit: SharedPermit, result: AttemptResult) -> None:
        """The attempt of *permit* is over: from any thread; only the first call counts."""
        client = permit.client
        if client is None or client.active.pop(permit.id, None) is None:
            return
        if permit.settle_locally is not None:
            permit.settle_locally(result)
        permit.state = State.OVER
        operation = self._settlement(permit, result)
        # Where somebody may wait for what it gives back, or must know what it says, it is sent at once.
        has_queue = bool(self.shown) and self.shown[2] > 0
        is_urgent = self.options.concurrency is not None or result.limited or result.told or has_queue
        if not on_loop(client.loop, client.post if is_urgent else client.post_soon, operation):
            self.store.hand_over(self, operation)

    def _settlement(self, permit: SharedPermit, result: AttemptResult) -> Operation:
        used = None if result.used is None else {key: result.used.of(what) for key, (what, _) in self.rates.items()}
        self.admissions.settle(permit.recorded, (used or {}) if result.sent else dict.fromkeys(self.rates, 0))
        return (
            "settle",
            permit.id,
            result.sent,
            result.answered,
            result.limited,
            -1 if result.retry_after is None else round(result.retry_after * 1e6),
            False if used is None else used,
            False if result.told is None else self._remote_limits(result.told),
        )

    def update_from_headers(self, permit: SharedPermit, told: Mapping[str, tuple[int, float]]) -> None:
        """Record what the vendor says is left, and for how many seconds, before the attempt of *permit* is over."""
        if permit.client is not None:
            operation = "headers", permit.id, self._remote_limits(told)
            on_loop(permit.client.loop, permit.client.post, operation)

    def _remote_limits(self, told: Mapping[str, tuple[int, float]]) -> dict[str, tuple[int, int]]:
        return {
            key: (told[what][0], round(told[what][1] * 1e6)) for key, (what, _) in self.rates.items() if what in told
        }

    # -- refusing ----------------------------------------------------------------------------------------------------

    def explain(self, permit: SharedPermit, code: str, number: int, value: int) -> LimitRejected:
        """Return the refusal of *permit* that the script gave as *code*, for the *number*th rate (from 1)."""
        if code == "full":
            return self.explain_full(value)
        wait = value / 1e6
        if code == "late":
            return self.explain_lateness(permit.waits, wait, self.store.clock.now())
        if code == "paused":
            return self.explain_pause(wait)
        what, rate = list(self.rates.values())[number - 1]
        if code == "told":
            return self.explain_remote_limit(what, self.left().rates[number - 1].left, wait)
        return self.explain_quota(what, rate, wait)

    def paused(self, client: ClientView, seconds: float) -> None:
        """The vendor asked for a pause: refuse those waiting at *client* who have no time for it."""
        now = self.store.clock.now()
        for permit in list(client.waiting.values()):
            until, budget, _ = permit.waits
            if until is not None and now + seconds > until:
                client.refuse(permit, self.explain_lateness(permit.waits, seconds, now))
            elif budget is not None and seconds > budget:
                client.refuse(permit, self.explain_pause(seconds))

    def reject_first(self, client: ClientView, wait: float) -> None:
        """The first ticket, of *client*, may pass in *wait* seconds: refuse it if that is too late."""
        permit = next(iter(client.waiting.values()), None)
        until = None if permit is None else permit.waits.until
        now = self.store.clock.now()
        if permit is not None and until is not None and now + wait > until:
            client.refuse(permit, self.explain_lateness(permit.waits, wait, now))

    # -- what is known ---------------------------------------------------------------------------------------------

    def take_unreported(self) -> dict[str, list[tuple[float, int]]]:
        """Return, once, what was admitted while the store was down, by age."""
        return self.stand_in.take_unreported(self.store.clock.now())

    def has_lost_data(self) -> None:
        """The store has lost the pool: tell it what this process admitted, and which of its attempts last."""
        monitor, now = self.store.monitor, self.store.clock.now()
        if monitor.outages == self._known_outages:  # with an outage, as of a restart, enough is said
            monitor.report_loss(self.name, is_repeated=now < self._lost_at + LOSS_MEMORY)
            self._lost_at = now
        self._known_outages = monitor.outages
        self.take_unreported()  # is part of it
        recent = self.admissions.recent(self.store.clock.now())
        for number, client in enumerate(self.store.clients(self)):
            on_loop(client.loop, client.restore, recent if number == 0 else {})

    def left(self) -> PoolSnapshot:
        """What may still pass, as the store said when this process last asked it; of all processes together."""
        if self.store.monitor.is_down:
            return self.stand_in.left()
        concurrency = self.options.concurrency
        unused = (0, concurrency if isinstance(concurrency, int) else -1, 0, 0, 0)
        taken, slots, waiting, paused, spread, *_ = map(int, self.shown or unused)
        age = self.store.clock.now() - self._shown_at
        return PoolSnapshot(
            self.name,
            tuple(
                RateSnapshot(what, rate, n)
                for (what, rate), n in zip(self.rates.values(), self.last_left(), strict=True)
            ),
            None if slots < 0 else slots,
            taken,
            waiting if age < _STALE else 0,
            max(0.0, paused / 1e6 - age),
            max(0.0, spread / 1e6 - age),
        )

    def last_left(self) -> Sequence[int]:
        """Return what of each rate was left for all processes when the store last said it."""
        if len(left := self.shown[5:]) != len(self.rates):
            return [rate.amount for _, rate in self.rates.values()]
        return [int(amount) for amount in left]

    def show(self, shown: Sequence[float]) -> None:
        """Record what the store says of the pool."""
        self.shown, self._shown_at = shown, self.store.clock.now()

    async def refresh(self) -> PoolSnapshot:
        """Ask the store what may still pass."""
        if not self.store.monitor.is_down:
            await self.store.link().client(self).ask()
        return self.left()


def _index_rates(options: LimitOptions) -> dict[str, tuple[What, Rate]]:
    rates: dict[str, tuple[What, Rate]] = {}
    for what, rate in options.rates():
        key = f"{what}/{rate.period:g}"
        if key not in rates or rate.amount < rates[key][1].amount:
            rates[key] = what, rate
    return rates


def _find_span(rate: Rate) -> float:
    """Return for how many seconds a window remembers: a little longer than one in this process.

    What is admitted a period apart comes closer together at the vendor's if the store's first answer was under way
    longer than the second.
    """
    return max(Window(rate.amount, rate.period).span, rate.period + min(0.065, 0.1 * rate.period))
