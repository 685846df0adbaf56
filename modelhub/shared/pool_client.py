"""One pool in the store as one event loop uses it: the permits that wait, or whose attempts are under way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.middleware.limit.permit import AttemptPermit, AttemptResult, State, WaitLimits
from modelhub.shared.health import LOSS_MEMORY
from modelhub.shared.link import StoreLink
from modelhub.shared.pool_state import PATIENCE, PRESENCE, PoolState, RecordedAdmission
from modelhub.shared.sender import OperationSender

if TYPE_CHECKING:
    from modelhub.core.errors import LimitRejected
    from modelhub.middleware.limit.rates import Amounts

__all__ = ["PoolClient", "SharedPermit", "get_client", "list_clients"]

_MAX_PINGED = 50
_UNKNOWN = -2  # what a ping says of a permit that neither waits nor is admitted
_TICK = 0.0005  # a timer that rings a hair too early would only ask again

_PAUSED = 3  # the place, in what is shown of the pool, of how long it is paused (microseconds)


class SharedPermit(AttemptPermit):
    """One attempt's way through a pool in the store; the lease that its slot is held by has the same *id*."""

    __slots__ = ("client", "granted_at", "id", "latest", "needs", "recorded", "settle_locally", "timeout")

    def __init__(
        self,
        give_back: Callable[[SharedPermit, AttemptResult], None],
        amounts: Amounts,
        needs: Mapping[str, int],
        waits: WaitLimits,
        source: str,
    ) -> None:
        super().__init__(give_back, amounts, waits, source)
        self.needs = needs
        """What it takes of each rate, by the rate's key."""
        self.id = ""
        self.client: PoolClient | None = None
        self.timeout: asyncio.Timeout | None = None
        """What ends its wait, if it has a `max_wait`."""
        self.latest = 0.0
        """When that is over, in the time of its loop."""
        self.granted_at = math.inf
        """When the store admitted it, by its loop's clock, or a little earlier."""
        self.recorded: RecordedAdmission = ()
        self.settle_locally: Callable[[AttemptResult], None] | None = None
        """Settles it in the pool that stands in for the store while that is down."""

    def on_sent(self) -> None:
        """Count the attempt from now on, if long ago it was admitted: its request is written only now."""
        client = self.client
        if client is None or self.id not in client.active:
            return
        if client.loop.time() - self.granted_at > client.pool.max_delay:
            client.post(("delayed", self.id))


class PoolClient(OperationSender):
    """The permits of one loop that wait for *pool* or hold something of it. Used on that loop only."""

    def __init__(self, link: StoreLink, pool: PoolState) -> None:
        super().__init__(link, pool)
        self.waiting: dict[str, SharedPermit] = {}
        """Those that the store has not admitted yet, by id, in the order in which they came."""
        self.active: dict[str, SharedPermit] = {}
        """Those whose attempts are under way, by id."""
        self._first_timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._renewed_at = link.loop.time()

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def request(self, permit: SharedPermit) -> None:
        """Ask for *permit*, and wait until it is held or refused, or until the store is down."""
        permit.id, permit.client = self.link.next_id(), self
        permit.future = self.loop.create_future()
        self.waiting[permit.id] = permit
        max_queue, (until, budget, _) = self.pool.options.max_queue, permit.waits
        operation = (
            "acquire",
            permit.id,
            permit.needs,
            permit.source,
            -1 if max_queue is None else max_queue,
            -1 if until is None else max(0, round((until - self.pool.store.clock.now()) * 1e6)),
            -1 if budget is None else round(budget * 1e6),
        )
        on_result = partial(self._answered, permit)
        self._schedule_beat()
        if self._turn is not None or self._is_cut_off or not (self._sender is None or self._sender.done()):
            self.post(operation, on_result)
        else:
            self._outbox.append((operation, on_result))
            turn = self._turn = self.loop.create_future()
            try:
                await self._send()  # in the running task
            finally:
                self._turn = None
                _resolve(turn)
                if self._outbox:
                    self._start_sender()
        await permit.future

    def _answered(self, permit: SharedPermit, result: str) -> None:
        if result == "held":
            self.admit(permit.id, self._sent_at)
        elif permit.id not in self.waiting:
            return  # nobody waits for it any more
        elif result == "queued":
            # There is no room yet: from now on, it waits until `max_wait` is over and no longer.
            if permit.timeout is not None and not permit.timeout.expired():
                permit.timeout.reschedule(permit.latest)
        else:
            del self.waiting[permit.id]
            code, number, wait = result.split()
            self._refuse(permit, self.pool.explain(permit.waits, code, int(number), int(wait)))

    def _refuse(self, permit: SharedPermit, refusal: LimitRejected) -> None:
        self.cancel(permit)
        permit.state, permit.refusal = State.REFUSED, refusal
        permit.resolve()

    def admit(self, permit_id: str, granted_at: float) -> None:
        """The store has admitted this permit, at the instant *granted_at* of the loop's clock or a little later."""
        permit = self.waiting.pop(permit_id, None)
        if permit is None:  # nobody waits for it any more
            if permit_id not in self.active:
                self.post(("cancel", permit_id))
            return
        if self.loop.time() - granted_at > self.pool.grant_lifetime:  # this process stood still: it asks again
            self.post(("cancel", permit_id))
            permit.resolve()
            return
        permit.granted_at = granted_at
        self._hold(permit)

    def hold_locally(self, permit: SharedPermit) -> None:
        """Give *permit*, which was admitted without the store, an id: its slot is told when the store is back."""
        permit.id, permit.client = self.link.next_id(), self
        self._hold(permit)

    def _hold(self, permit: SharedPermit) -> None:
        permit.recorded = self.pool.admissions.add(permit.needs, self.pool.store.clock.now())
        permit.state = State.HELD
        self.active[permit.id] = permit
        permit.resolve()
        self._schedule_beat()

    def cancel(self, permit: SharedPermit) -> None:
        """Whoever waited has gone: nothing was sent, and nothing of it stays."""
        if self.waiting.pop(permit.id, None) is not None:
            permit.state = State.OVER
            self.post(("cancel", permit.id))

    # -- what the store says -------------------------------------------------------------------------------------------

    def _apply(self, admitted: Sequence[str], first_in: float, shown: Sequence[float]) -> None:
        for permit_id in admitted:
            self.admit(permit_id, self._sent_at)
        if self.waiting and (paused := shown[_PAUSED]) > 0:  # the message that said so may have been lost
            self._reject_for_pause(paused / 1e6)
        if first_in >= 0:
            self._set_first_timer(first_in / 1e6)

    def _learn_epoch(self, epoch: str) -> None:
        """The pool in the store is another one than before: if it had been known, data were lost there.

        Then the store is told what this process admitted, and which of its attempts last.
        """
        pool = self.pool
        was_known, pool.epoch = pool.epoch, epoch
        if was_known in ("", epoch):
            return
        monitor, now = pool.store.monitor, pool.store.clock.now()
        if monitor.outages == pool.known_outages:  # with an outage, as of a restart, enough is said
            monitor.report_loss(pool.name, is_repeated=now < pool.lost_at + LOSS_MEMORY)
            pool.lost_at = now
        pool.known_outages = monitor.outages
        pool.admissions.take_unreported(now)  # is part of it
        recent = pool.admissions.recent(pool.store.clock.now())
        for number, client in enumerate(list_clients(pool)):
            on_loop(client.loop, client.restore, recent if number == 0 else {})

    def restore(self, admitted: Mapping[str, list[tuple[float, int]]]) -> None:
        """Tell the store what this process *admitted*, by age in seconds, and which attempts of this loop last."""
        amounts = {key: [(round(age * 1e6), n) for age, n in items if n] for key, items in admitted.items()}
        self.post(("restore", amounts, list(self.active)))
        self.ping()

    def receive(self, event: str, values: Sequence[str]) -> None:
        """Handle a message of the script: what happened in the pool, and to whom or when."""
        if event == "admitted":
            instant, *permit_ids = values
            for permit_id in permit_ids:
                self.admit(permit_id, float(instant) / 1e6 + self._clock_offset)
        elif event == "first":
            self._set_first_timer(float(values[0]) / 1e6)
        elif event == "paused":
            self._reject_for_pause(float(values[0]) / 1e6)
        elif event == "lost" and values:  # an earlier version does not say the epoch
            # Two losses in a short time count as an outage, which should begin in all processes at the same time: so
            # each process records each loss, also one during its own call.
            if _instant_of(values[0]) > _instant_of(self.pool.epoch):
                self._learn_epoch(values[0])
        else:
            self.ping()

    def _reject_for_pause(self, seconds: float) -> None:
        """The vendor asked for a pause: refuse those waiting here who have no time for it."""
        now = self.pool.store.clock.now()
        for permit in list(self.waiting.values()):
            until, budget, _ = permit.waits
            if until is not None and now + seconds > until:
                self._refuse(permit, self.pool.explain_lateness(permit.waits, seconds, now))
            elif budget is not None and seconds > budget:
                self._refuse(permit, self.pool.explain_pause(seconds))

    # -- time --------------------------------------------------------------------------------------------------------

    def _set_first_timer(self, wait: float) -> None:
        """The first ticket in the queue is of this loop, and may pass in *wait* seconds (below 0: nobody knows when):
        ask then, or refuse it if that is too late."""
        if wait < 0:
            return
        at, timer = self.loop.time() + wait + _TICK, self._first_timer
        if timer is None or timer.when() > at:  # a ping that is too early only asks again; one that is too late is idle
            if timer is not None:
                timer.cancel()
            self._first_timer = self.loop.call_at(at, self._first_is_due)
        permit, now = next(iter(self.waiting.values()), None), self.pool.store.clock.now()
        until = None if permit is None else permit.waits.until
        if permit is not None and until is not None and now + wait > until:
            self._refuse(permit, self.pool.explain_lateness(permit.waits, wait, now))

    def _first_is_due(self) -> None:
        self._first_timer = None
        self.ping()

    async def ask(self) -> None:
        """Wait until the store has said what is left; or until it is down."""
        answered = self.loop.create_future()

        def on_result(result: str) -> None:
            self._pinged((), result)
            _resolve(answered)

        self.post(("ping", []), on_result)
        sender = self._sender
        if sender is not None:
            await asyncio.wait({answered, sender}, return_when=asyncio.FIRST_COMPLETED)

    def ping(self) -> None:
        """Ask what has become of the permits that wait, and whether the first may pass now."""
        ids = list(self.waiting)[:_MAX_PINGED]
        self.post(("ping", ids), lambda result: self._pinged(ids, result))

    def _pinged(self, ids: Sequence[str], result: str) -> None:
        *states, processes = map(int, result.split())
        if self.link.clients.get(self.pool.key) is self:  # else the pool was forgotten meanwhile
            self.pool.store.process_counts[self.pool.key] = processes, self.pool.store.clock.now()
        for permit_id, state in zip(ids, states, strict=True):
            if state >= 0:
                self.admit(permit_id, self._sent_at - state / 1e6)  # the message that said so was lost
            elif state == _UNKNOWN and (permit := self.waiting.pop(permit_id, None)) is not None:
                permit.resolve()  # the store has lost its ticket: it asks again

    def _schedule_beat(self) -> None:
        lease = self.pool.store.options.lease
        interval = PATIENCE / 3 if self.waiting else PRESENCE / 3
        if self.active and lease / 3 < interval:
            interval = lease / 3
        timer, at = self._beat_timer, self.loop.time() + interval
        if timer is not None:
            if timer.when() <= at + _TICK:
                return
            timer.cancel()
        self._beat_timer = self.loop.call_at(at, self._beat)

    def _beat(self) -> None:
        self._beat_timer = None
        if not self.pool.store.monitor.is_down and not self.link.is_closed:
            now = self.loop.time()
            if self.active and now - self._renewed_at >= self.pool.store.options.lease / 3 - _TICK:
                self._renewed_at = now
                self.post(("renew", list(self.active)))
            self.ping()
        self._schedule_beat()

    # -- outages -----------------------------------------------------------------------------------------------------

    def store_went_down(self) -> None:
        """Nobody waits for a store that is down: those in its queue go on without it."""
        self._keep([operation for operation, _ in self._outbox])
        self._outbox.clear()
        for permit_id, permit in list(self.waiting.items()):
            del self.waiting[permit_id]
            self._backlog.append(("cancel", permit_id))
            permit.resolve()

    def store_is_back(self) -> None:
        """Do what could not be done meanwhile."""
        backlog = list(self._backlog)
        self._backlog.clear()
        for operation in backlog:
            self.post(operation)
        # What was admitted meanwhile is told when it is known whether the store has lost its data: then all is told.
        self.post(("ping", []), self._restore_unreported)

    def _restore_unreported(self, _: str) -> None:
        self.restore(self.pool.admissions.take_unreported(self.pool.store.clock.now()))

    async def aclose(self) -> None:
        """Give back all that is held here, and send what is to be sent."""
        for timer in (self._first_timer, self._beat_timer, self._soon_timer):
            if timer is not None:
                timer.cancel()
        for permit in list(self.active.values()):
            permit.settle()
        for permit in list(self.waiting.values()):
            self.cancel(permit)
            permit.resolve()
        backlog = list(self._backlog)
        self._backlog.clear()
        for operation in (*backlog, ("leave",)):
            self.post(operation)
        self._has_left = True
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender}, timeout=2 * self.pool.store.options.timeout)


def get_client(pool: PoolState) -> PoolClient:
    """Return the client of *pool* of the running loop."""
    link = pool.store.link()
    client = link.clients.get(pool.key)
    if not isinstance(client, PoolClient):
        client = link.clients[pool.key] = PoolClient(link, pool)
    return client


def list_clients(pool: PoolState) -> list[PoolClient]:
    """Return the clients of *pool*, one for each event loop that uses it."""
    clients = [link.clients.get(pool.key) for link in list(pool.store.links.values())]
    return [client for client in clients if isinstance(client, PoolClient)]


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _instant_of(epoch: str) -> int:
    """Return when the store made *epoch*, by its own clock in microseconds; 0 for none."""
    return int(epoch.rpartition("/")[2] or 0)
