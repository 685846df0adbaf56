"""A pool of a limit that is kept in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.middleware.limit.permit import AttemptResult, State, WaitLimits
from modelhub.middleware.limit.rates import Amounts
from modelhub.middleware.limit.store import NOTHING, UNBOUNDED, LimitPool, PoolSnapshot, RateSnapshot
from modelhub.shared.pool_client import SharedPermit, get_client, list_clients
from modelhub.shared.pool_state import PoolState
from modelhub.shared.stand_in import StandIn

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions
    from modelhub.middleware.limit.store import PoolScope
    from modelhub.shared.link import StoreLinks

__all__ = ["SharedPool"]

_STALE = 2.0  # seconds after which nobody knows who waits


class SharedPool(PoolState, LimitPool[SharedPermit]):
    """One named limit, over all processes that use the same store and prefix.

    While the store is down, a `StandIn` decides, as the file says.
    """

    def __init__(self, store: StoreLinks, name: str, options: LimitOptions, scope: PoolScope) -> None:
        super().__init__(store, name, options, scope)
        self.stand_in = StandIn(self)

    def reconfigure(self, options: LimitOptions) -> None:
        """Hold to *options* from now on: what was admitted, attempts under way, the queue and pauses go on."""
        if options != self.options:
            self.apply_options(options)
            self.stand_in.store_is_back()  # a stand-in is made anew

    def reset_after_fork(self) -> None:
        """Begin at nothing in a forked child: what was admitted is the parent's to report."""
        self.epoch = ""
        self.admissions.reset()
        self.stand_in.reset()

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
        options, monitor = self.store.options, self.store.monitor
        # For how long after an outage nothing passes: others may find the store, and report, so much later.
        settling = 0.0 if options.when_down.limits == "refuse" else options.retry_interval + 0.1
        while permit.state is State.WAITING:
            if monitor.is_down:
                await self.stand_in.wait(permit)
            elif (unsettled := monitor.up_since + settling - self.store.clock.now()) > 0:
                await asyncio.sleep(unsettled)
            else:
                await get_client(self).request(permit)

    def _cancel(self, permit: SharedPermit) -> None:
        if permit.state is State.HELD:
            permit.settle(AttemptResult(sent=False))
        elif permit.state is State.WAITING and permit.client is not None:
            permit.client.cancel(permit)

    def settle(self, permit: SharedPermit, result: AttemptResult) -> None:
        """The attempt of *permit* is over: from any thread; only the first call counts."""
        client = permit.client
        if client is None or client.active.pop(permit.id, None) is None:
            return
        if permit.settle_locally is not None:
            permit.settle_locally(result)
        permit.state = State.OVER
        used = None if result.used is None else {key: result.used.of(what) for key, (what, _) in self.rates.items()}
        self.admissions.settle(permit.recorded, (used or {}) if result.sent else dict.fromkeys(self.rates, 0))
        operation = (
            "settle",
            permit.id,
            result.sent,
            result.answered,
            result.limited,
            -1 if result.retry_after is None else round(result.retry_after * 1e6),
            False if used is None else used,
            False if result.told is None else self._remote_limits(result.told),
        )
        # Where somebody may wait for what it gives back, or must know what it says, it is sent at once.
        has_queue = bool(self.shown) and self.shown[2] > 0
        is_urgent = self.options.concurrency is not None or result.limited or result.told or has_queue
        if on_loop(client.loop, client.post, operation, None, not is_urgent):
            return
        # Its own loop has ended: another one sends it, or without any, the lease ends by itself.
        for other in list_clients(self):
            if on_loop(other.loop, other.post, operation):
                return

    def update_from_headers(self, permit: SharedPermit, told: Mapping[str, tuple[int, float]]) -> None:
        """Record what the vendor says is left, and for how many seconds, before the attempt of *permit* is over."""
        if permit.client is not None:
            operation = "headers", permit.id, self._remote_limits(told)
            on_loop(permit.client.loop, permit.client.post, operation)

    def _remote_limits(self, told: Mapping[str, tuple[int, float]]) -> dict[str, tuple[int, int]]:
        return {
            key: (told[what][0], round(told[what][1] * 1e6)) for key, (what, _) in self.rates.items() if what in told
        }

    def left(self) -> PoolSnapshot:
        """What may still pass, as the store said when this process last asked it; of all processes together."""
        if self.store.monitor.is_down:
            return self.stand_in.left()
        concurrency = self.options.concurrency
        unused = (0, concurrency if isinstance(concurrency, int) else -1, 0, 0, 0)
        taken, slots, waiting, paused, spread, *_ = map(int, self.shown or unused)
        age = self.store.clock.now() - self.shown_at
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

    async def refresh(self) -> PoolSnapshot:
        """Ask the store what may still pass."""
        if not self.store.monitor.is_down:
            await get_client(self).ask()
        return self.left()
