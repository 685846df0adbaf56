"""One event loop in the background, for code that has none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from modelhub.core.process import ExitStage, fork_count, register_at_exit, register_at_fork
from modelhub.core.threads import DaemonThread, new_lock, refuse_eventlet, set_executor, wait_for, wait_until_done

if TYPE_CHECKING:
    from modelhub.core.response import ChatResponse
    from modelhub.core.stream import ChatStream

__all__ = ["SyncStream", "can_run_sync", "is_loop_running", "register_loop_at_exit", "run_in_background", "run_sync"]

T = TypeVar("T")
CLEANUP_TIMEOUT = 0.25  # seconds for what ends by itself when the process ends
EXIT_TIMEOUT = 2.0  # seconds for what runs on the loop to be cancelled when the process ends


class BackgroundLoop:
    """A loop in a daemon thread, started at the first call and stopped when the process ends."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._inherited: list[asyncio.AbstractEventLoop | None] = []
        self.reset_after_fork()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Forget the parent's loop in a forked child, which has no thread that runs it."""
        self._inherited.append(self._loop)  # kept: it can be neither closed nor collected in silence
        self._lock = threading.RLock()  # a finalizer may come here while it is held
        self._loop = None
        self._thread: DaemonThread | None = None
        self.is_stopped = False

    @property
    def is_running(self) -> bool:
        """Whether there is a loop to run something on."""
        return self._loop is not None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs. Raises RuntimeError when the process is ending."""
        with self._lock:
            if self._loop is None:
                self._start()
            if self._loop is None:
                raise RuntimeError("the process is ending: no further call can be made")
            return self._loop

    def _start(self) -> None:
        refuse_eventlet("a call without an event loop (`.sync()`, `hub.close()`)")
        if self.is_stopped:
            return
        started = new_lock()
        started.acquire()

        def run() -> None:
            self._loop = loop = asyncio.new_event_loop()  # in its own thread: gevent's selectors belong to one
            set_executor(loop)
            started.release()
            loop.run_forever()

        try:
            self._thread = DaemonThread(run, "modelhub")
        except RuntimeError:  # the interpreter is ending
            return
        started.acquire()
        register_at_exit(self, ExitStage.LOOP)

    def close_at_exit(self) -> None:
        """Cancel what runs and stop the loop; nothing is started any more."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
            self.is_stopped = True
        if loop is None or thread is None:
            return
        wait_until_done(asyncio.run_coroutine_threadsafe(_end_tasks(), loop), EXIT_TIMEOUT)
        loop.call_soon_threadsafe(loop.stop)
        if thread.join(EXIT_TIMEOUT):
            loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        await asyncio.wait(tasks, timeout=CLEANUP_TIMEOUT)  # streams are being closed
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


background = BackgroundLoop()


def register_loop_at_exit() -> None:
    """Have the background loop, which may start later, stopped after all exit handlers that are registered later."""
    register_at_exit(background, ExitStage.LOOP)


def is_loop_running() -> bool:
    """Return whether this thread runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def can_run_sync() -> bool:
    """Return whether `run_sync` can still run something: the process is not ending."""
    return not background.is_stopped


def run_in_background(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run *coroutine* on the background loop and do not wait for it. Raises RuntimeError when the process is ending."""
    try:
        asyncio.run_coroutine_threadsafe(coroutine, background.loop())
    except RuntimeError:
        coroutine.close()
        raise


def run_sync(coroutine: Coroutine[Any, Any, T], instead: str = "`await model(...)` instead of `model.sync(...)`") -> T:
    """Run *coroutine* on the background loop and return its result.

    Raises RuntimeError, which says what to use *instead*, where this thread runs a loop itself, and when the process
    is ending. An interrupt (Ctrl-C) cancels the coroutine. In a daemon thread, the end of the process ends the thread
    (SystemExit), which is silent, as it would be anywhere else in it.
    """
    try:
        if is_loop_running():
            raise RuntimeError(f"an event loop is running here: use {instead}")
        loop = background.loop()
    except RuntimeError:
        coroutine.close()
        _end_daemon_thread()
        raise
    future = asyncio.run_coroutine_threadsafe(coroutine, loop)
    try:
        return wait_for(future)
    except Exception:
        future.cancel()
        _end_daemon_thread()
        raise
    except BaseException:
        future.cancel()
        raise


def _end_daemon_thread() -> None:
    """End this thread if it is a daemon's and the process is ending, which is why its call has failed."""
    is_ending = background.is_stopped or not threading.main_thread().is_alive()
    if is_ending and threading.current_thread().daemon:
        raise SystemExit from None


class SyncStream(Iterator["ChatResponse"]):
    """A stream as a plain iterator; close it, or use it as a context manager, when you stop early."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream
        self._forks = fork_count()

    def __next__(self) -> ChatResponse:
        async def read() -> ChatResponse | None:
            return await anext(self._stream, None)

        self._refuse_fork()
        snapshot = run_sync(read())
        if snapshot is None:
            raise StopIteration
        return snapshot

    def final(self) -> ChatResponse:
        """Read to the end and return the complete answer."""
        self._refuse_fork()
        return run_sync(self._stream.final())

    def close(self) -> None:
        """Stop: the connection is given back. Does not wait where this thread runs a loop itself.

        Does nothing in a forked child, whose parent the stream belongs to. When the process is ending, the stream is
        recorded as it is.
        """
        if self._forks != fork_count():
            return
        if not background.is_running:
            self._stream.settle_as_abandoned()
        elif is_loop_running():
            run_in_background(self._stream.aclose())
        elif self._stream.settled is None:
            run_sync(self._stream.aclose())

    def _refuse_fork(self) -> None:
        if self._forks != fork_count():
            raise RuntimeError("this stream was begun before the process forked: only the parent can read it")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
