"""What must still happen on an event loop to what was forgotten, or would be left suspended when the loop ends.

The garbage collector may interrupt any statement, of any thread, whatever locks it holds. So when it finds a stream or
a call that was forgotten, what must happen then (give back a permit, record the call) is only posted from there, and
runs on its own event loop. What is not forgotten when its loop ends is closed by a `LoopEndCloser`.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Awaitable, Callable

from modelhub.core.process import fork_count

__all__ = ["LoopEndCloser", "finish", "post_completion", "run_completions"]


class _PostedWork:
    """Work that belongs to an event loop, and is done once."""

    __slots__ = ("_work", "forks", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
        self.loop = loop
        self.forks = fork_count()
        self._work = [work]

    @property
    def is_open(self) -> bool:
        """Whether it is still to be done, and by this process: a forked child leaves it to its parent."""
        return bool(self._work) and self.forks == fork_count()

    def run(self) -> None:
        """Do the work, if it is open."""
        try:
            work = self._work.pop()
        except IndexError:  # it is done, or another thread is doing it
            return
        if self.forks == fork_count():
            work()


_posted: queue.SimpleQueue[_PostedWork] = queue.SimpleQueue()  # whose `put` may be interrupted by another one


def post_completion(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    """Have *work* done on *loop*, or by `run_completions` if that has ended. Safe in a finaliser; never raises."""
    posted = _PostedWork(loop, work)
    _posted.put(posted)
    with contextlib.suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(posted.run)


def run_completions(*, of_idle_loops: bool = False) -> None:
    """Do what was posted to the running loop, and to loops that are closed: nobody else will.

    With *of_idle_loops* also what was posted to loops that do not run at this moment, and may never do so again.
    """
    if _posted.empty():
        return
    try:
        current: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        current = None
    for _ in range(_posted.qsize()):
        try:
            posted = _posted.get_nowait()
        except queue.Empty:  # another thread was quicker
            return
        loop = posted.loop
        if loop is current or loop.is_closed() or (of_idle_loops and not loop.is_running()):
            posted.run()
        elif posted.is_open:
            _posted.put(posted)


def finish(loop: asyncio.AbstractEventLoop, error: BaseException, work: Callable[[], None]) -> None:
    """Do *work*, now that *error* has ended a call of *loop*: at once, unless the garbage collector has ended it."""
    if isinstance(error, GeneratorExit):
        post_completion(loop, work)
    else:
        work()


class LoopEndCloser:
    """Awaits *close* when the running loop cancels all its tasks, as `asyncio.run` does at its end."""

    def __init__(self, close: Callable[[], Awaitable[None]]) -> None:
        self._close = close
        self._loop = asyncio.get_running_loop()
        self._called_off: asyncio.Future[None] = self._loop.create_future()
        waiting = self._wait()
        waiting.send(None)  # begun by hand: a task that is cancelled before its first step would not come to its `try`
        self._task = self._loop.create_task(waiting)
        # A loop may be closed without cancelling its tasks: that is nothing to report.
        self._task._log_destroy_pending = False  # type: ignore[attr-defined]

    async def _wait(self) -> None:
        try:
            await asyncio.sleep(0)
            await self._called_off
        except asyncio.CancelledError:
            await self._close()
            raise

    def call_off(self) -> None:
        """Close nothing when the loop ends; from any thread, also after its end."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._end_wait)

    def _end_wait(self) -> None:
        if not self._called_off.done():
            self._called_off.set_result(None)

    async def join(self) -> None:
        """Wait until the task that waited for the loop's end has ended, after `call_off`."""
        if self._loop is asyncio.get_running_loop() and not self._task.done():
            await asyncio.wait({self._task})
