"""Operations of one pool and one event loop: they are sent to the store in order, one script call at a time.

While a call is under way, further operations gather, and the next call takes all of them. So a busy loop makes fewer
calls than operations, and what was posted first is done first. An attempt that finds no call under way makes it in its
own task, which saves starting another one and waking this one; all else is sent by a task of the client.
"""

from __future__ import annotations

import asyncio
import json
import math
import struct
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from modelhub.shared.connection import StoreUnavailableError, load_script
from modelhub.shared.link import StoreClient, StoreLink
from modelhub.shared.pool_state import PoolState

__all__ = ["OnResult", "Operation", "OperationSender"]

_MAX_OPERATIONS = 200  # of one script call
_MAX_BACKLOG = 20_000  # operations that are kept while the store is down
_SOON = 0.01  # for how many seconds an operation that is not urgent waits for another one
_PRESENT = 0.25  # for how many seconds a process need not say again that it is there
_FIXED_SETTINGS = 4  # of a pool; then comes one for each rate
_HEADER_NUMBERS = 7  # of a reply; then comes one for each rate

Operation = tuple[Any, ...]
"""What the script of a pool is to do: the operation's name, and what it needs."""
OnResult = Callable[[str], None]
_encode = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode


class OperationSender(StoreClient, ABC):
    """Sends what is posted for *pool* on the loop of *link*. Used on that loop only."""

    def __init__(self, link: StoreLink, pool: PoolState) -> None:
        self.link = link
        self.loop = link.loop
        self.pool = pool
        self._settings: tuple[str | bytes, ...] = ()
        self._header = struct.Struct("")  # of a reply
        self._version = -1
        self._present_at = -math.inf
        self._outbox: deque[tuple[Operation, OnResult | None]] = deque()
        self._backlog: deque[Operation] = deque(maxlen=_MAX_BACKLOG)
        self._sender: asyncio.Task[None] | None = None
        self._turn: asyncio.Future[None] | None = None  # of an attempt's own task that makes a call
        self._soon_timer: asyncio.TimerHandle | None = None
        self._has_left = False  # then it asks nothing more, whatever comes: it would be counted anew
        self._sent_at = 0.0  # the call whose reply came last
        self._clock_offset = 0.0  # by which the loop's clock is ahead of the store's, or a little less

    @abstractmethod
    def _learn_epoch(self, epoch: str) -> None:
        """The pool in the store is another one than before."""

    @abstractmethod
    def _apply(self, admitted: Sequence[str], first_in: float, shown: Sequence[float]) -> None:
        """Apply which permits the store has *admitted*, in how many microseconds the first that waits may pass, if it
        is one of this loop (else below 0), and what the pool looks like."""

    def post(self, operation: Operation, on_result: OnResult | None = None, soon: bool = False) -> None:
        """Send *operation* with the next call, and call *on_result* with its result. Must be on the client's loop.

        If no call is under way one is made at once, or with *soon* in a moment.
        """
        if self._is_cut_off:
            self._backlog.append(operation)
            return
        self._outbox.append((operation, on_result))
        if not soon:
            self._start_sender()
        elif self._soon_timer is None:
            self._soon_timer = self.loop.call_later(_SOON, self._soon_is_over)

    def _soon_is_over(self) -> None:
        self._soon_timer = None
        if self._outbox:
            self._start_sender()

    @property
    def _is_cut_off(self) -> bool:
        return self.pool.store.monitor.is_down or self.link.is_closed or self._has_left

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
        """Apply the *reply* to *batch*, which was sent when the pool's epoch was the *known* one."""
        now, first_in, *shown = header.unpack_from(reply)
        epoch, admitted, results = reply[header.size :].decode().split("\n")
        self._clock_offset = self._sent_at - now / 1e6
        self.pool.show(shown)
        if epoch != known:
            self._learn_epoch(epoch)
        for (_, on_result), result in zip(batch, results.split("\t"), strict=True):
            if on_result is not None:
                on_result(result)
        self._apply(admitted.split("\t") if admitted else (), first_in, shown)
