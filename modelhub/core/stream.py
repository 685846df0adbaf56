"""Streams of snapshots, and the callbacks of a finished reply.

A `ChatStream` yields `ChatResponse`s, each the whole answer so far. It is committed: its first content was in hand
before anybody saw it (`ChatStream.open`). What must happen when a reply is finished, give back a permit, count usage,
goes through `add_done_callback`: exactly once, inner layer first, whether the reply is complete, fails, is closed,
cancelled or simply forgotten. Its `time_limits` hold whether or not anybody reads.

A read that is cancelled leaves the stream open and loses nothing: the next read goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, Self

from modelhub.core.completions import LoopEndCloser, post_completion
from modelhub.core.errors import BadReply, StreamBroken
from modelhub.core.process import fork_count
from modelhub.core.response import ChatResponse, OutputT
from modelhub.core.snapshot_reader import ReadInterrupted, SnapshotReader, SnapshotSource, run_in_task
from modelhub.core.stream_timer import MakeError, StreamTimer
from modelhub.core.tracebacks import drop_frames, trim_traceback

if TYPE_CHECKING:
    from modelhub.core.events import CompletionStatus

__all__ = ["ChatStream", "Outcome", "Reply", "SnapshotSource", "add_done_callback"]

Snapshots = AsyncGenerator[ChatResponse, None]


class Outcome(NamedTuple):
    """How a reply was finished: its last snapshot, and the error if it failed.

    `is_stalled` says that its time ran out while nobody was reading, which says nothing about the model.
    """

    how: CompletionStatus
    reply: ChatResponse | None
    error: BaseException | None = None
    is_stalled: bool = False


_NEVER = object()


class _Completion:
    """The part of a stream that outlives its reader: the callbacks, and how the stream was finished."""

    __slots__ = (
        "callbacks",
        "cancelled_after",
        "forks",
        "inner",
        "is_wrapped",
        "last",
        "loop",
        "loop_end_closer",
        "outcome",
        "source",
        "timer",
    )

    def __init__(self, source: SnapshotSource, inner: _Completion | None) -> None:
        self.callbacks: list[Callable[[Outcome], None]] = []
        self.source = source
        self.inner: _Completion | None = None
        self.is_wrapped = False
        self.loop_end_closer: LoopEndCloser | None = None
        if inner is not None:
            self.wrap(inner)
        self.last: ChatResponse | None = None
        self.cancelled_after: object = _NEVER  # the snapshot after which a read was cancelled, for good or not
        self.outcome: Outcome | None = None
        self.timer: StreamTimer | None = None
        self.loop = asyncio.get_running_loop()
        self.forks = fork_count()

    def wrap(self, inner: _Completion) -> None:
        """Settle, and close, *inner* together with this stream."""
        self.inner = inner
        inner.is_wrapped = True

    def note_cancelled_read(self, error: BaseException) -> None:
        """Leave the stream open after a read has ended with *error*; if nobody reads on, it is closed with its loop.

        Otherwise the loop would find its generators running, and report that it cannot close them.
        """
        self.cancelled_after = self.last
        is_closed_by_another = self.loop_end_closer is not None or self.is_wrapped
        if isinstance(error, asyncio.CancelledError) and not is_closed_by_another:
            self.loop_end_closer = LoopEndCloser(self._close_pending)

    async def _close_pending(self) -> None:
        if self.outcome is None and self.source.is_pending and not self.source.is_being_read:
            self.settle("cancelled", asyncio.CancelledError())
            await self.source.aclose()

    def settle(self, how: CompletionStatus, error: BaseException | None = None, *, is_stalled: bool = False) -> None:
        """Finish the stream and call the callbacks, those of inner streams first; later calls do nothing."""
        if self.outcome is not None:
            return
        self.outcome = outcome = Outcome(how, self.last, error, is_stalled)
        if self.timer is not None:
            self.timer.stop()
            self.timer = None
        if self.loop_end_closer is not None:
            self.loop_end_closer.call_off()
        if self.inner is not None:
            self.inner.settle(how, error, is_stalled=is_stalled)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            try:
                callback(outcome)
            except Exception:
                # The others must still be called: a permit that is not given back is worse than a lost count.
                logging.getLogger("modelhub").exception("a callback failed while a reply was settled")

    def expire(self, make_error: MakeError) -> None:
        """Fail at once, because a time limit has passed; whoever reads, now or later, gets the error."""
        is_stalled = self.timer is None or not self.timer.is_waited_for
        self.settle("failed", make_error(self.last), is_stalled=is_stalled)
        if not self.source.interrupt():
            run_in_task(self.source.aclose)

    def count_characters(self) -> int:
        """Return how many characters of text, thinking and arguments of tools were read so far."""
        return 0 if self.last is None else self.last.count_characters()

    def abandon(self) -> str:
        """Have a stream that was forgotten settled on its loop; called by the garbage collector. Gives how it ended.

        Who was cancelled while reading has had no chance to close it: then the stream counts as cancelled.
        """
        how: CompletionStatus = "cancelled" if self.cancelled_after is self.last else "abandoned"
        post_completion(self.loop, partial(self._settle_forgotten, how))
        return how

    def _settle_forgotten(self, how: CompletionStatus) -> None:
        self.settle(how, asyncio.CancelledError() if how == "cancelled" else None)
        if self.source.is_pending:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                self.loop.call_soon_threadsafe(run_in_task, self.source.aclose)


_CUT = ("failed", "cancelled")


class ChatStream(AsyncGenerator[ChatResponse[OutputT | None], None], Generic[OutputT]):
    """An answer that is still coming: iterate over it, or `await stream.final()`.

    Each item is the whole answer so far. Use it as a context manager (`async with`) or call `aclose()` when you stop
    early. After the first item, a failure comes out of the iteration as `StreamBroken`.

    *snapshots* is what is iterated, *inner* the stream it was made from, if a layer wrapped one: both are closed, and
    settled, together. A generator is kept from cancelled reads; a `SnapshotSource` bears them by itself.
    """

    def __init__(
        self,
        snapshots: Snapshots | SnapshotSource,
        *,
        first: ChatResponse | None = None,
        inner: ChatStream | None = None,
    ) -> None:
        source = SnapshotReader(snapshots) if isinstance(snapshots, AsyncGenerator) else snapshots
        self._source: SnapshotSource = source
        self._first = first
        self._inner = inner
        self._completion: _Completion = _Completion(source, inner._completion if inner is not None else None)
        self._completion.last = first if first is not None or inner is None else inner._completion.last

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
        self._completion.wrap(inner._completion)

    @property
    def settled(self) -> Outcome | None:
        """How the stream was finished, or None while it lasts."""
        return self._completion.outcome

    def time_limits(self, now: Callable[[], float]) -> StreamTimer:
        """Return what keeps the time limits of the stream, by the clock *now*: add some, and the stream fails by them.

        To be called before the stream is settled.
        """
        completion = self._completion
        if completion.timer is None:
            completion.timer = StreamTimer(now, completion.expire, completion.count_characters)
            if isinstance(self._source, SnapshotReader):
                self._source.timer = completion.timer
        return completion.timer

    @property
    def is_being_read(self) -> bool:
        """Whether somebody waits for the next snapshot at this moment."""
        return self._source.is_being_read

    def settle_as_abandoned(self) -> None:
        """Record the stream as it is, without its loop, which has ended or is about to; from any thread."""
        self._first = None
        self._completion.settle("abandoned")

    def discard(self) -> None:
        """Record the stream as abandoned, and close it in the background; on its own loop."""
        self.settle_as_abandoned()
        run_in_task(self.aclose)

    def fail(self, error: Exception) -> None:
        """End the stream now, while nobody reads: the next read raises *error*."""
        self._completion.expire(lambda _: error)

    async def __anext__(self) -> ChatResponse[OutputT | None]:
        completion = self._completion
        if completion.outcome is not None and completion.outcome.how in _CUT:
            self._raise_failure(completion.outcome)
        if self._first is not None:
            snapshot, self._first = self._first, None
        else:
            try:
                snapshot = await self._source.__anext__()
            except BaseException as error:
                await self._end_read(error)
                raise
        completion.last = snapshot
        if dict.__getitem__(snapshot, "is_last"):  # the short way: this is done for each word
            # Whoever makes snapshots has let go of its connection before the last one.
            completion.settle("complete")
        return snapshot

    async def _end_read(self, error: BaseException) -> None:
        """Settle, as *error*, with which a read has ended, says. Raises what the stream has failed with meanwhile."""
        completion = self._completion
        is_cancelled = isinstance(error, (asyncio.CancelledError, GeneratorExit))
        if completion.outcome is not None and completion.outcome.how in _CUT:
            if is_cancelled:
                run_in_task(self._source.aclose)  # and the task is cancelled, as somebody wants it to be
                return
            await self._source.aclose()
            drop_frames(error)
            self._raise_failure(completion.outcome)
        if isinstance(error, ReadInterrupted):
            completion.settle("closed")
            raise StopAsyncIteration from None
        if isinstance(error, StopAsyncIteration):
            completion.settle("complete")
        elif not is_cancelled:
            trim_traceback(error)
            completion.settle("failed", error)
        elif self._source.is_pending:
            completion.note_cancelled_read(error)
        else:
            completion.settle("cancelled", error)

    def _raise_failure(self, outcome: Outcome) -> NoReturn:
        if isinstance(outcome.error, Exception):
            raise outcome.error from outcome.error.__cause__
        broken = StreamBroken("the stream was cancelled before its end")
        broken.partial = outcome.reply
        raise broken

    async def final(self) -> ChatResponse[OutputT]:
        """Read to the end and give back the complete answer. Raises BadReply if the stream was closed before."""
        last: ChatResponse | None = self._completion.last
        async for snapshot in self:
            last = snapshot
        if last is None or not last["is_last"]:
            raise BadReply("the stream was closed before it was read to its end")
        return last

    async def aclose(self) -> None:
        """Stop: the connection is given back and the reply is settled. Safe to call twice, and while a task reads."""
        self._first = None  # who has closed it is given nothing more
        try:
            await self._source.aclose()
            if self._inner is not None:
                await self._inner.aclose()
        finally:
            self._completion.settle("closed")
        if (closer := self._completion.loop_end_closer) is not None:
            await closer.join()

    async def asend(self, value: Any) -> ChatResponse[OutputT | None]:  # noqa: ARG002 - the protocol's parameter; snapshots only come out
        """The next snapshot; *value* has no meaning here."""
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> ChatResponse[OutputT | None]:
        """Close the stream, then raise what is given."""
        await self.aclose()
        error = typ() if isinstance(typ, type) and val is None else (val if val is not None else typ)
        raise error.with_traceback(tb)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        outcome = self._completion.outcome
        return f"<ChatStream {outcome.how if outcome else 'open'}>"

    def __del__(self) -> None:
        completion = getattr(self, "_completion", None)
        if completion is None or completion.outcome is not None or completion.forks != fork_count():
            return
        if completion.abandon() == "abandoned":
            warnings.warn(f"{self!r} was never read to its end nor closed", ResourceWarning, stacklevel=2)


Reply = ChatResponse | ChatStream
"""What a call gives back: a complete answer, or one whose first content is in hand."""


def add_done_callback(reply: Reply, callback: Callable[[Outcome], None]) -> None:
    """Call *callback* once, when *reply* is finished: at once for a complete one, or for one settled already.

    Callbacks run in the order they were given, so that an inner layer, which saw the reply first, hears of it first.
    """
    if isinstance(reply, ChatResponse):  # not ChatStream: to ask for an abstract class costs ten times as much
        callback(Outcome("complete", reply))
    elif reply._completion.outcome is not None:
        callback(reply._completion.outcome)
    else:
        reply._completion.callbacks.append(callback)
