"""Completions that a finaliser leaves behind: they run on their own event loop, never inside the garbage collector.

The garbage collector may interrupt any statement, of any thread, whatever locks it holds. So when it finds a stream or
a call that was forgotten, what must happen then (give back a permit, record the call) is only posted from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable

from modelhub.core.process import fork_count

__all__ = ["finish", "post_completion", "run_completions"]


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
        if not self.is_open:
            return
        try:
            work = self._work.pop()
        except IndexError:  # another thread was quicker
            return
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
