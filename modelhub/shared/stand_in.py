"""What decides about a limit while the store is down: a pool in this process, or nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence

from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.limit.permit import AttemptResult, Permit, State
from modelhub.middleware.limit.pool import RateLimitPool
from modelhub.middleware.limit.rates import Rate
from modelhub.middleware.limit.store import PoolSnapshot
from modelhub.shared.pool_client import SharedPermit, get_client, list_clients
from modelhub.shared.pool_state import PRESENCE, PoolState

__all__ = ["StandIn"]


class StandIn:
    """Stands in for the store in *pool*: with a part of the limit, with all of it, or by refusing.

    It begins with what this process admitted before, and what it admits is told to the store afterwards.
    """

    def __init__(self, pool: PoolState) -> None:
        self._pool = pool
        self.reset()

    def reset(self) -> None:
        """Begin at nothing, as in a forked child."""
        self._local: RateLimitPool | None = None
        self._waiting: dict[SharedPermit, None] = {}
        self._lock = threading.Lock()

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def wait(self, permit: SharedPermit) -> None:
        """Wait until *permit* may pass, is refused, or the store is back: then its state is as before."""
        try:
            local_pool = self._local_pool()
            local = local_pool.request(permit.amounts, permit.waits._replace(max_wait=None), source=permit.source)
            if local.state is not State.HELD and not await self._wait_in_turn(permit, local_pool, local):
                return
        except LimitRejected as refusal:
            permit.state, permit.refusal = State.REFUSED, refusal
            return
        permit.settle_locally = local.settle
        get_client(self._pool).hold_locally(permit)
        self._pool.admissions.add_unreported(permit.needs, self._pool.store.clock.now())

    async def _wait_in_turn(self, permit: SharedPermit, local_pool: RateLimitPool, local: Permit) -> bool:
        """Return whether *local* is held; it is given up when the store is back. Raises LimitRejected."""
        permit.future = asyncio.get_running_loop().create_future()
        turn = asyncio.ensure_future(local_pool.wait(local))
        self._waiting[permit] = None
        try:
            await asyncio.wait({turn, permit.future}, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            if turn.done() and local.state is State.HELD:
                local.settle(AttemptResult(sent=False))
            raise
        finally:
            self._waiting.pop(permit, None)
            if not turn.done():
                turn.cancel()
        if not turn.done():
            return False
        turn.result()
        local_pool.resume(local)
        return True

    # -- the pool in this process ------------------------------------------------------------------------------------

    def _local_pool(self) -> RateLimitPool:
        """Return the pool that decides meanwhile. Raises LimitRejected if nobody may."""
        with self._lock:
            if self._local is None:
                self._local = self._make_local_pool()
            return self._local

    def _make_local_pool(self) -> RateLimitPool:
        pool, store = self._pool, self._pool.store
        mode, parts, reason = store.options.when_down.limits, 1, store.monitor.reason
        if mode == "refuse":
            raise pool.rejected(f"is not known while the shared store is down (`when_down.limits: refuse`; {reason})")
        if mode == "split":
            # An older count holds no more: since then the others do not count this process either.
            counted = store.known_processes(since=store.monitor.down_since - PRESENCE)
            parts = max(store.options.replicas or 0, counted)
            if not parts:
                raise pool.rejected(
                    "is not known while the shared store is down, nor how many processes share it now "
                    f"(set `replicas`; {reason})"
                )
        local = RateLimitPool(pool.name, self._divide(parts), store.clock)
        recent = pool.admissions.recent(store.clock.now())
        amounts = [recent[key] for key in pool.rates]
        if mode == "split":
            for counter, own, left in zip(local.counters, amounts, pool.last_left(), strict=True):
                # What others had admitted counts too: of what was left for all, each has its part, until that is over.
                others = counter.rate.amount - sum(amount for _, amount in own) - max(0, left) // parts
                own.append((0.0, max(0, others)))
        local.apply(_count_as_admitted, local, amounts)
        for client in list_clients(pool):
            for permit in list(client.active.values()):
                permit.settle_locally = _take_slot(local)
        return local

    def _divide(self, parts: int) -> LimitOptions:
        """Return one of so many equal *parts* of the limit. Raises LimitRejected if there is nothing to divide."""
        options = self._pool.options
        concurrency = options.concurrency
        if isinstance(concurrency, int):
            concurrency //= parts
            if concurrency == 0:
                why = f"has fewer slots than processes ({parts}), and the shared store is down"
                raise self._pool.rejected(why)
        rates: dict[str, list[Rate]] = {}
        for what, rate in self._pool.rates.values():
            part = Rate(rate.amount // parts, rate.period)
            if not part.amount:
                part = Rate(1, rate.period * parts / rate.amount)
            rates.setdefault(what, []).append(part)
        return LimitOptions.model_validate(
            {
                **rates,
                "concurrency": concurrency,
                "burst": options.burst,
                "max_queue": options.max_queue,
                "max_wait": options.max_wait,
            }
        )

    def left(self) -> PoolSnapshot:
        """What may still pass in this process; nothing, where everything is refused."""
        try:
            return self._local_pool().left()
        except LimitRejected:
            return PoolSnapshot(self._pool.name, (), 0, 0, 0, 0.0)

    # -- the end of an outage ----------------------------------------------------------------------------------------

    def store_is_back(self) -> None:
        """Those who wait here go on in the store."""
        with self._lock:
            self._local = None
        for permit in list(self._waiting):
            if permit.future is not None:
                on_loop(permit.future.get_loop(), permit.resolve)


def _count_as_admitted(now: float, local: RateLimitPool, recent: Sequence[Sequence[tuple[float, int]]]) -> None:
    """Count in *local* what passed before: how many seconds ago and how much, for each rate in its order."""
    for counter, amounts in zip(local.counters, recent, strict=True):
        for age, amount in amounts:
            counter.preload(amount, now - age)


def _take_slot(local: RateLimitPool) -> Callable[[AttemptResult], None]:
    """Count an attempt that the store admitted as in flight in *local*; return what ends that."""
    slots = local.slots

    def count(_: float, change: int) -> None:
        slots.taken += change

    local.apply(count, 1)
    return lambda _: local.apply(count, -1)
