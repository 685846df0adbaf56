"""Streams of snapshots, and the one way to hear that a reply is finished.

A `ChatStream` yields `ChatResponse`s, each the whole answer so far. It is committed: its first content was in hand
before anybody saw it (`ChatStream.open`). What must happen when a reply is finished, give back a permit, count usage,
goes through `on_settled`: exactly once, inner layer first, whether the reply is complete, fails, is closed, cancelled
or simply forgotten. How long its reader waits at most is said by clocks (`ChatStream.watch`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from modelhub._frames import drop_frames
from modelhub.errors import BadReply
from modelhub.process import fork_count
from modelhub.response import ChatResponse

if TYPE_CHECKING:
    from types import TracebackType

    from modelhub.events import How

__all__ = ["ChatStream", "Expiry", "Outcome", "Reply", "on_settled"]

Snapshots = AsyncGenerator[ChatResponse, None]
Expiry = tuple[float, Callable[[ChatResponse | None], Exception]]
"""How many seconds are left, and what to raise when they are over; it is told the last snapshot."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply was finished: the last that was seen of it, and the error if it failed."""

    how: How
    reply: ChatResponse | None
    error: BaseException | None = None


class _Watch:
    """The clocks of a stream, one timer for all of them.

    To set a timer costs more than to read a word. So it is not set anew for each: when it rings, it looks whether the
    wait that is going on has lasted too long. It knows nothing of the stream, which may be forgotten meanwhile.
    """

    __slots__ = ("_before", "_clocks", "_ends", "_failure", "_rang", "_task", "_timer")

    def __init__(self, clock: Callable[[], Expiry]) -> None:
        self._clocks = [clock]
        self._task: asyncio.Task[Any] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ends = 0.0
        self._before = 0
        self._rang = False

    def add(self, clock: Callable[[], Expiry]) -> None:
        """Heed *clock* too; of several that are over at the same time, the first one added speaks."""
        self._clocks.append(clock)

    def begin(self) -> None:
        """The task waits from now on."""
        seconds, self._failure = self._clocks[0]()
        for clock in self._clocks[1:]:
            fewer, failure = clock()
            if fewer < seconds:
                seconds, self._failure = fewer, failure
        loop = asyncio.get_running_loop()
        self._ends = ends = loop.time() + seconds
        self._task = task = asyncio.current_task(loop)
        self._before = task.cancelling() if task is not None else 0
        if self._timer is None or self._timer.when() > ends:
            self._set(ends, loop)

    def end(self) -> Callable[[ChatResponse | None], Exception] | None:
        """The task waits no longer; gives what to raise if that is because its time was over."""
        task, self._task = self._task, None
        if not self._rang or task is None:
            return None
        self._rang = False
        # Somebody else may have cancelled the task too: then that is what it hears.
        return self._failure if task.uncancel() <= self._before else None

    def stop(self) -> None:
        """Nobody will wait any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, ends: float, loop: asyncio.AbstractEventLoop) -> None:
        self.stop()
        self._timer = loop.call_at(ends, self._ring, ends, loop)

    def _ring(self, at: float, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._task is None:
            return
        if self._ends > at:
            self._set(self._ends, loop)
        else:
            self._rang = True
            self._task.cancel()


class _Settlement:
    """The part of a stream that outlives its reader: who wants to know, and whether they have been told."""

    __slots__ = ("callbacks", "forks", "inner", "last", "loop", "outcome", "thread", "watch")

    def __init__(self, inner: _Settlement | None) -> None:
        self.callbacks: list[Callable[[Outcome], None]] = []
        self.inner = inner
        self.last: ChatResponse | None = None
        self.outcome: Outcome | None = None
        self.watch: _Watch | None = None
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self.forks = fork_count()

    def settle(self, how: How, error: BaseException | None = None) -> None:
        """Tell everybody, inner streams first; later calls do nothing."""
        if self.outcome is not None:
            return
        self.outcome = outcome = Outcome(how, self.last, error)
        if self.watch is not None:
            self.watch.stop()
        if self.inner is not None:
            self.inner.settle(how, error)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            _tell(callback, outcome)

    def abandon(self) -> None:
        """Settle for a stream that was forgotten; the garbage collector may call from any thread."""
        if self.thread == threading.get_ident() or self.loop.is_closed():
            self.settle("abandoned")
        else:
            self.loop.call_soon_threadsafe(self.settle, "abandoned")


def _tell(callback: Callable[[Outcome], None], outcome: Outcome) -> None:
    try:
        callback(outcome)
    except Exception:
        # The others must still hear of it: a permit that is not given back is worse than a lost count.
        logging.getLogger("modelhub").exception("a callback failed while a reply was settled")


class ChatStream(AsyncGenerator[ChatResponse, None]):
    """An answer that is still coming: iterate over it, or `await stream.final()`.

    Each item is the whole answer so far. Use it as a context manager (`async with`) or call `aclose()` when you stop
    early. After the first item, a failure comes out of the iteration as `StreamBroken`.

    *snapshots* is what is iterated, *inner* the stream it was made from, if a layer wrapped one: both are closed, and
    settled, together.
    """

    def __init__(
        self, snapshots: Snapshots, *, first: ChatResponse | None = None, inner: ChatStream | None = None
    ) -> None:
        self._snapshots = snapshots
        self._first = first
        self._inner = inner
        self._settlement: _Settlement = _Settlement(inner._settlement if inner is not None else None)

    @classmethod
    async def open(cls, snapshots: Snapshots) -> Self:
        """Commit: wait for the first snapshot of *snapshots*.

        Raises BadReply if there is none, and whatever *snapshots* raises before it.
        """
        try:
            first = await anext(snapshots)
        except StopAsyncIteration:
            raise BadReply("the stream ended before any content") from None
        return cls(snapshots, first=first)

    def follow(self, inner: ChatStream) -> None:
        """From here on the answer comes from *inner*: the stream before it has been settled."""
        self._inner = inner
        self._settlement.inner = inner._settlement

    @property
    def settled(self) -> Outcome | None:
        """How the stream was finished, or None while it lasts."""
        return self._settlement.outcome

    def watch(self, clock: Callable[[], Expiry]) -> None:
        """Give up on a snapshot that does not come in time.

        *clock* says, at each wait, how long it may last. Whoever reads is told what the clock says then, and the stream
        has failed.
        """
        if self._settlement.watch is None:
            self._settlement.watch = _Watch(clock)
        else:
            self._settlement.watch.add(clock)

    async def __anext__(self) -> ChatResponse:
        settlement = self._settlement
        if self._first is not None:
            snapshot, self._first = self._first, None
        else:
            if (watch := settlement.watch) is not None and settlement.outcome is None:
                watch.begin()
            try:
                snapshot = await self._snapshots.__anext__()
            except BaseException as error:
                self._ended(error)
                raise
            if watch is not None:
                watch.end()
        settlement.last = snapshot
        if dict.__getitem__(snapshot, "is_last"):  # the short way: this is done for each word
            # Whoever makes snapshots has let go of its connection before the last one.
            settlement.settle("complete")
        return snapshot

    def _ended(self, error: BaseException) -> None:
        """Settle, as *error* says. Raises what a clock says, if the error is only that it has cancelled the wait."""
        settlement = self._settlement
        failure = settlement.watch.end() if settlement.watch is not None else None
        if isinstance(error, StopAsyncIteration):
            settlement.settle("complete")
        elif not isinstance(error, (asyncio.CancelledError, GeneratorExit)):
            settlement.settle("failed", error)
        elif failure is None:
            settlement.settle("cancelled", error)
        else:
            late = failure(settlement.last)
            settlement.settle("failed", late)
            drop_frames(error)
            raise late from late.__cause__

    async def final(self) -> ChatResponse:
        """Read to the end and give back the complete answer. Raises BadReply if the stream was closed before."""
        last: ChatResponse | None = self._settlement.last
        async for snapshot in self:
            last = snapshot
        if last is None or not last["is_last"]:
            raise BadReply("the stream was closed before it was read to its end")
        return last

    async def aclose(self) -> None:
        """Stop: the connection is given back and the reply is settled. Safe to call twice."""
        self._first = None  # who has closed it is given nothing more
        try:
            await self._snapshots.aclose()
            if self._inner is not None:
                await self._inner.aclose()
        finally:
            self._settlement.settle("closed")

    async def asend(self, value: Any) -> ChatResponse:  # noqa: ARG002 - the protocol's parameter; snapshots only come out
        """The next snapshot; *value* has no meaning here."""
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> ChatResponse:
        """Close the stream, then raise what is given."""
        await self.aclose()
        error = typ() if isinstance(typ, type) and val is None else (val if val is not None else typ)
        raise error.with_traceback(tb)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        outcome = self._settlement.outcome
        return f"<ChatStream {outcome.how if outcome else 'open'}>"

    def __del__(self) -> None:
        settlement = getattr(self, "_settlement", None)
        if settlement is not None and settlement.outcome is None and settlement.forks == fork_count():
            settlement.abandon()
            warnings.warn(f"{self!r} was never read to its end nor closed", ResourceWarning, stacklevel=2)


Reply = ChatResponse | ChatStream
"""What a call gives back: a complete answer, or one whose first content is in hand."""


def on_settled(reply: Reply, callback: Callable[[Outcome], None]) -> None:
    """Call *callback* once, when *reply* is finished: at once for a complete one, or for one settled already.

    Callbacks run in the order they were given, so that an inner layer, which saw the reply first, hears of it first.
    """
    if not isinstance(reply, ChatStream):
        callback(Outcome("complete", reply))
    elif reply._settlement.outcome is not None:
        callback(reply._settlement.outcome)
    else:
        reply._settlement.callbacks.append(callback)
