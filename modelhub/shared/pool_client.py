"""One pool as one event loop uses it: operations are sent to the store in order, one script call at a time.

While a call is under way, further operations gather, and the next call takes all of them. So a busy loop makes fewer
calls than operations, and what was posted first is done first. An attempt that finds no call under way makes it in its
own task, which saves starting another one and waking this one; all else is sent by a task of the client.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from modelhub.middleware.limit.permit import State
from modelhub.shared.connection import StoreUnavailableError
from modelhub.shared.script_loader import load_script

if TYPE_CHECKING:
    from modelhub.core.errors import LimitRejected
    from modelhub.shared.permit import Operation, SharedPermit
    from modelhub.shared.protocols import LinkView, PoolView

__all__ = ["PATIENCE", "PRESENCE", "PoolClient"]

PATIENCE = 3.0
"""After how many seconds without a call of its process a ticket in the queue is dropped."""
PRESENCE = 60.0
"""For how many seconds after its last call a process is counted as a replica."""

_MAX_OPERATIONS = 200  # of one script call
_MAX_BACKLOG = 20_000  # operations that are kept while the store is down
_MAX_PINGED = 50
_UNKNOWN = -2  # what a ping says of a permit that neither waits nor is admitted
_TICK = 0.0005  # a timer that rings a hair too early would only ask again

_SOON = 0.01  # for how many seconds an operation that is not urgent waits for another one
_PRESENT = 0.25  # for how many seconds a process need not say again that it is there
_FIXED_SETTINGS = 4  # of a pool; then comes one for each rate
_HEADER_NUMBERS = 7  # of a reply; then comes one for each rate
_PAUSED = 3  # the place, in what is shown of the pool, of how long it is paused (microseconds)

OnResult = Callable[[str], None]
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


class PoolClient:
    """The permits of one loop that wait for *pool* or hold something of it. Used on that loop only."""

    def __init__(self, link: LinkView, pool: PoolView) -> None:
        self.link = link
        self.loop = link.loop
        self.pool = pool
        self.waiting: dict[str, SharedPermit] = {}
        self.active: dict[str, SharedPermit] = {}
        self._settings: tuple[str | bytes, ...] = ()
        self._header = struct.Struct("")  # of a reply
        self._version = -1
        self._present_at = -math.inf
        self._outbox: deque[tuple[Operation, OnResult | None]] = deque()
        self._backlog: deque[Operation] = deque(maxlen=_MAX_BACKLOG)
        self._sender: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[None] | None = None  # of an attempt's own task that makes a call
        self._soon_timer: asyncio.TimerHandle | None = None
        self._first_timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._renewed_at = link.loop.time()
        self._has_left = False  # then it asks nothing more, whatever comes: it would be counted anew
        self._sent_at = 0.0  # the call whose reply came last
        self._clock_offset = 0.0  # by which the loop's clock is ahead of the store's, or a little less

    # -- attempts ----------------------------------------------------------------------------------------------------

    async def request(self, permit: SharedPermit, max_queue: int, time_left: int, wait_budget: int) -> None:
        """Ask for *permit*, and wait until it is held or refused, or until the store is down."""
        permit.id, permit.client = self.link.next_id(), self
        permit.future = self.loop.create_future()
        self.waiting[permit.id] = permit
        operation = "acquire", permit.id, permit.needs, permit.source, max_queue, time_left, wait_budget
        on_result = partial(self._answered, permit)
        self._schedule_beat()
        if self._turn is not None or self._is_cut_off or not (self._sender is None or self._sender.done()):
            self.post(operation, on_result)
        else:
            self._outbox.append((operation, on_result))
            await self._send_own()
        await permit.future

    async def _send_own(self) -> None:
        """Make a call in the running task."""
        turn = self._turn = self.loop.create_future()
        try:
            await self._send()
        finally:
            self._turn = None
            _resolve(turn)
            if self._outbox:
                self._start_sender()

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
            self._refuse(permit, self.pool.explain(permit, code, int(number), int(wait)))

    def refuse(self, permit: SharedPermit, refusal: LimitRejected) -> None:
        """Take *permit*, which waits, out of the queue."""
        self.cancel(permit)
        self._refuse(permit, refusal)

    def _refuse(self, permit: SharedPermit, refusal: LimitRejected) -> None:
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

    def admit_after_message(self, permit_id: str, instant: float) -> None:
        """The store has admitted this permit, at the *instant* of its own clock."""
        self.admit(permit_id, instant + self._clock_offset)

    def request_was_sent(self, permit: SharedPermit) -> None:
        """Tell the store if the request of *permit* was written long after it was admitted: it counts from now on."""
        if permit.id in self.active and self.loop.time() - permit.granted_at > self.pool.max_delay:
            self.post(("delayed", permit.id))

    def admit_locally(self, permit: SharedPermit) -> None:
        """Give *permit*, which was admitted without the store, an id: its slot is told when the store is back."""
        permit.id, permit.client = self.link.next_id(), self
        self._hold(permit)

    def _hold(self, permit: SharedPermit) -> None:
        self.pool.record(permit)
        permit.state = State.HELD
        self.active[permit.id] = permit
        permit.resolve()
        self._schedule_beat()

    def cancel(self, permit: SharedPermit) -> None:
        """Whoever waited has gone: nothing was sent, and nothing of it stays."""
        if self.waiting.pop(permit.id, None) is not None:
            permit.state = State.OVER
            self.post(("cancel", permit.id))

    def post(self, operation: Operation, on_result: OnResult | None = None) -> None:
        """Send *operation* with the next call, and call *on_result* with its result. Must be on the client's loop."""
        if self._is_cut_off:
            self._backlog.append(operation)
            return
        self._outbox.append((operation, on_result))
        self._start_sender()

    def post_soon(self, operation: Operation) -> None:
        """Send *operation* with the next call, or in a moment if there is none. Must be on the client's loop."""
        if self._is_cut_off:
            self._backlog.append(operation)
            return
        self._outbox.append((operation, None))
        if self._soon_timer is None:
            self._soon_timer = self.loop.call_later(_SOON, self._soon_is_over)

    def _soon_is_over(self) -> None:
        self._soon_timer = None
        if self._outbox:
            self._start_sender()

    @property
    def _is_cut_off(self) -> bool:
        return self.pool.store.monitor.is_down or self.link.is_closed or self._has_left

    # -- sending -----------------------------------------------------------------------------------------------------

    def _start_sender(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = self.loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._outbox:
            if self._turn is not None:
                await asyncio.wait({self._turn})
            elif not await self._send():
                return

    async def _send(self) -> bool:
        """Send what has gathered, and apply the reply. Returns False if the store is down."""
        batch = [self._outbox.popleft() for _ in range(min(len(self._outbox), _MAX_OPERATIONS))]
        operations = [operation for operation, _ in batch]
        if self._version != self.pool.version:
            self._version, self._settings = self.pool.version, self.pool.settings(self.link.member)
            self._header = struct.Struct(f"<{_HEADER_NUMBERS + len(self._settings) - _FIXED_SETTINGS}d")
        settings, header, known_epoch, sent_at = self._settings, self._header, self.pool.epoch, self.loop.time()
        is_there = "" if sent_at < self._present_at + _PRESENT else "1"
        args = known_epoch, is_there, _encode(operations)
        try:
            reply = await self.link.connection.run(load_script("limit"), self.pool.keys, args, settings)
        except StoreUnavailableError as error:
            self._keep(operations)
            self.link.report_failure(error)
            return False
        except BaseException:  # whoever sent it is cancelled: it is sent again, which changes nothing where it was done
            self._outbox.extendleft(reversed(batch))
            raise
        self._sent_at = sent_at
        if is_there:
            self._present_at = sent_at
        self._receive(reply, header, batch, known_epoch)
        return True

    def _keep(self, operations: Sequence[Operation]) -> None:
        """Keep what must still be done when the store is back. The store may have done it: each is done once only."""
        for operation in operations:
            if operation[0] == "acquire":
                self._backlog.append(("cancel", operation[1]))
            elif operation[0] in ("settle", "cancel"):
                self._backlog.append(operation)

    def _receive(
        self, reply: bytes, header: struct.Struct, batch: Sequence[tuple[Operation, OnResult | None]], known: str
    ) -> None:
        now, first_in, *shown = header.unpack_from(reply)
        epoch, admitted, results = reply[header.size :].decode().split("\n")
        self._clock_offset = self._sent_at - now / 1e6
        self.pool.show(shown)
        if epoch != known:
            self._learn_epoch(epoch)
        for (_, on_result), result in zip(batch, results.split("\t"), strict=True):
            if on_result is not None:
                on_result(result)
        for permit_id in admitted.split("\t") if admitted else ():
            self.admit(permit_id, self._sent_at)
        if self.waiting and (paused := shown[_PAUSED]) > 0:  # the message that said so may have been lost
            self.pool.paused(self, paused / 1e6)
        if first_in >= 0:
            self.set_first_timer(first_in / 1e6)

    def _learn_epoch(self, epoch: str) -> None:
        """The pool in the store is another one than before: if it had been known, data were lost there."""
        was_known, self.pool.epoch = self.pool.epoch, epoch
        if was_known not in ("", epoch):
            self.pool.has_lost_data()

    def learn_newer_epoch(self, epoch: str) -> None:
        """Record *epoch*, of which a message says that the store has lost the data of an earlier one.

        Two losses in a short time count as an outage, which should begin in all processes at the same time: so each
        process records each loss, also one during its own call.
        """
        if _instant_of(epoch) > _instant_of(self.pool.epoch):
            self._learn_epoch(epoch)

    def restore(self, admitted: Mapping[str, list[tuple[float, int]]]) -> None:
        """Tell the store what this process *admitted*, by age in seconds, and which attempts of this loop last."""
        amounts = {key: [(round(age * 1e6), n) for age, n in items if n] for key, items in admitted.items()}
        self.post(("restore", amounts, list(self.active)))
        self.ping()

    # -- time --------------------------------------------------------------------------------------------------------

    def set_first_timer(self, wait: float) -> None:
        """The first ticket in the queue is of this loop, and may pass in *wait* seconds (below 0: nobody knows when):
        ask then."""
        if wait < 0:
            return
        at, timer = self.loop.time() + wait + _TICK, self._first_timer
        if timer is None or timer.when() > at:  # a ping that is too early only asks again; one that is too late is idle
            if timer is not None:
                timer.cancel()
            self._first_timer = self.loop.call_at(at, self._first_is_due)
        self.pool.reject_first(self, wait)

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
        self.pool.counted = processes, self.pool.store.clock.now()
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
        backlog, self._backlog = self._backlog, deque(maxlen=_MAX_BACKLOG)
        for operation in backlog:
            self.post(operation)
        # What was admitted meanwhile is told when it is known whether the store has lost its data: then all is told.
        self.post(("ping", []), lambda _: self.restore(self.pool.take_unreported()))

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
        backlog, self._backlog = self._backlog, deque()
        for operation in (*backlog, ("leave",)):
            self.post(operation)
        self._has_left = True
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender}, timeout=2 * self.pool.store.options.timeout)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _instant_of(epoch: str) -> int:
    """Return when the store made *epoch*, by its own clock in microseconds; 0 for none."""
    return int(epoch.rpartition("/")[2] or 0)
