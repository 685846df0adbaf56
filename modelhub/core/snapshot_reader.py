"""Reading a generator in such a way that a reader who is cancelled loses nothing.

Cancelling a task that awaits an async generator ends the generator, and with it the answer. A `SnapshotReader` keeps
the generator from it: the read that was under way stays suspended where it is, and whoever reads next goes on with it.
That costs no task: the reader's own task runs the generator, and waits for the same future, only behind a shield.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from modelhub.core.response import ChatResponse
from modelhub.core.stream_timer import StreamTimer

if TYPE_CHECKING:
    from contextvars import Context

__all__ = ["ReadInterrupted", "SnapshotReader", "SnapshotSource", "run_in_task"]

_background: set[asyncio.Task[None]] = set()


class ReadInterrupted(Exception):
    """A read was ended from outside: the stream is over."""


class SnapshotSource(Protocol):
    """Where a stream gets its snapshots: a read that is cancelled can be made again, and nothing is lost."""

    @property
    def is_pending(self) -> bool:
        """Whether a read that was cancelled can be made again."""

    @property
    def is_being_read(self) -> bool:
        """Whether somebody waits for the next snapshot."""

    def __anext__(self) -> Awaitable[ChatResponse]:
        """The next snapshot. Raises StopAsyncIteration at the end."""

    def interrupt(self) -> bool:
        """End the read under way with ReadInterrupted; False if nobody is reading."""

    async def aclose(self) -> None:
        """End the stream and give back its connection."""


class _Shield:
    """The future that a read waits for, as the reader's task sees it: cancelling the task leaves the future alone.

    It is a future by asyncio's protocol for objects that act like one (see `asyncio.isfuture`). Without `get_loop` the
    task takes the loop from `_loop`, which is quicker.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_cancellation", "_context", "_loop", "future", "is_last")

    def __init__(self) -> None:
        self._callback: Callable[[Any], object] | None = None
        self.is_last = False
        """Whether nobody will read on: the task was cancelled while its loop was not running, as when it ends."""

    def protect(self, future: asyncio.Future[Any]) -> _Shield:
        """Stand for *future* from now on."""
        future._asyncio_future_blocking = False
        self._loop = asyncio.get_running_loop()  # a stream may be opened on one loop and read on another
        self.future = future
        self._callback = None
        self._cancellation: tuple[Any, ...] | None = None
        self._asyncio_future_blocking = True
        return self

    def wake(self) -> bool:
        """Resume the task that waits, whatever the future does; False if it is about to resume anyway."""
        callback, self._callback = self._callback, None
        if callback is None or self.future.done():
            return False
        self.future.remove_done_callback(callback)
        self._loop.call_soon(callback, self, context=self._context)
        return True

    def done(self) -> bool:
        """Whether the task need not wait."""
        return self.future.done()

    def result(self) -> None:
        """Raises CancelledError if the task was cancelled."""
        if self._cancellation is not None:
            # Made here: one that is kept would keep, by its traceback, whoever was cancelled, and with him the stream.
            raise asyncio.CancelledError(*self._cancellation)

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the wait for the future, not the future."""
        self.is_last = not self._loop.is_running()
        if not self.wake():
            return False
        self._cancellation = () if msg is None else (msg,)
        return True

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context | None = None) -> None:
        """Call *callback* when the future is done, or the wait for it is cancelled."""
        self._callback, self._context = callback, context
        self.future.add_done_callback(callback, context=context)

    def remove_done_callback(self, callback: Callable[[Any], object]) -> int:
        """Remove *callback*, so that it is not called."""
        self._callback = None
        return self.future.remove_done_callback(callback)


class SnapshotReader:
    """Reads *snapshots*, one at a time.

    One task reads at a time; another that tries meanwhile gets RuntimeError.
    """

    __slots__ = (
        "_future",
        "_is_closing",
        "_is_interrupted",
        "_is_waiting",
        "_read",
        "_shield",
        "_snapshots",
        "timer",
    )

    def __init__(self, snapshots: AsyncGenerator[ChatResponse, None]) -> None:
        self._snapshots = snapshots
        self._read: Generator[Any, Any, ChatResponse] | None = None
        self._future: asyncio.Future[Any] | None = None
        self._shield = _Shield()
        self._is_waiting = self._is_interrupted = self._is_closing = False
        self.timer: StreamTimer | None = None
        """What counts how long reads wait."""

    @property
    def is_pending(self) -> bool:
        """Whether a read is suspended, with or without a task that waits for it."""
        return self._read is not None

    @property
    def is_being_read(self) -> bool:
        """Whether a task waits for the next snapshot."""
        return self._is_waiting

    @types.coroutine
    def __anext__(self) -> Generator[Any, None, ChatResponse]:
        """The next snapshot. A read that was cancelled before is gone on with."""
        # Calls are spared here and in `_wait`: they run for each word.
        read = self._read
        if read is None:
            read = self._snapshots.__anext__().__await__()
            try:
                self._future = read.send(None)
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            self._read = read
        elif self._is_waiting:
            raise RuntimeError("the stream is being read already, by another task")
        try:
            return (yield from self._wait(read))
        except asyncio.CancelledError:
            if self._shield.is_last:
                self._read = None
                yield from _cancel_read(read, self._future)
            raise

    def _wait(self, read: Generator[Any, Any, ChatResponse]) -> Generator[Any, None, ChatResponse]:
        self._is_waiting = True
        if (timer := self.timer) is not None:
            timer.begin_wait()
        try:
            while True:
                future = self._future
                if future is None:
                    yield
                elif not future.done():
                    try:
                        yield self._shield.protect(future)
                    except Exception as error:
                        _check_failure_of(future, error)
                if self._is_interrupted:
                    raise ReadInterrupted
                if future is None or future.done():
                    self._read = None  # it is over, unless it waits again
                    self._future = read.send(None)
                    self._read = read
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        finally:
            self._is_waiting = self._is_interrupted = False
            if timer is not None:
                timer.end_wait(self._read is not None)

    def interrupt(self) -> bool:
        """End the read under way with ReadInterrupted; False if nobody is reading."""
        if self._is_waiting:
            self._is_interrupted = True
            self._shield.wake()
        return self._is_waiting

    async def aclose(self) -> None:
        """Close what is read from; a task that waits for it gets ReadInterrupted. Nothing if it is being closed."""
        if self._is_closing:
            return
        self._is_closing = True
        self.interrupt()
        read, self._read = self._read, None
        if read is not None:
            await _cancel_read(read, self._future)
        await self._snapshots.aclose()


def _check_failure_of(future: asyncio.Future[Any], error: Exception) -> None:
    """Raise *error* unless *future* has failed with it: then the generator gets it, when it is resumed."""
    if not future.done() or future.cancelled() or future.exception() is not error:
        raise error


@types.coroutine
def _cancel_read(read: Generator[Any, Any, Any], future: asyncio.Future[Any] | None) -> Generator[Any, None, None]:
    """Cancel a suspended read and let it clean up. Raises what is thrown in meanwhile: whoever closes is cancelled."""
    if future is not None:
        future.cancel()
    step: Callable[[], Any] = partial(read.throw, asyncio.CancelledError())
    thrown: BaseException | None = None
    try:
        while True:
            awaited = step()
            try:
                yield awaited
            except BaseException as error:
                thrown, step = error, partial(read.throw, error)
            else:
                step = partial(read.send, None)
    except (StopIteration, StopAsyncIteration, asyncio.CancelledError):
        if thrown is not None:
            raise thrown from None


def run_in_task(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run *work* in a task of its own, on the running loop; a failure is logged.

    It begins even where the task is cancelled at once, as all tasks are when a loop ends.
    """
    has_begun = False

    async def run() -> None:
        nonlocal has_begun
        has_begun = True
        try:
            await work()
        except Exception:
            logging.getLogger("modelhub").warning("a stream was not closed in order", exc_info=True)

    def release(task: asyncio.Task[None]) -> None:
        _background.discard(task)
        if not has_begun:
            run_in_task(work)

    task = asyncio.get_running_loop().create_task(run())
    _background.add(task)
    task.add_done_callback(release)
