"""Threads of the operating system, also in a process whose `threading` gevent has replaced by greenlets.

A background loop and a writer must run beside the caller, not take turns with it. So what gevent has replaced is taken
as it was before; gevent itself is never imported. eventlet offers nothing like it, and is refused by name.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
import threading
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["DaemonThread", "new_lock", "refuse_eventlet", "set_executor", "sleep", "wait_for", "wait_until_done"]

T = TypeVar("T")


def _gevent_monkey() -> ModuleType | None:
    """Return `gevent.monkey` if it has replaced the threads of this process."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey if monkey is not None and monkey.is_module_patched("threading") else None


def new_lock() -> threading.Lock:
    """Return a lock that works between threads of the operating system."""
    monkey = _gevent_monkey()
    allocate: Callable[[], threading.Lock] = (
        threading.Lock if monkey is None else monkey.get_original("_thread", "allocate_lock")
    )
    return allocate()


def sleep(seconds: float) -> None:
    """Let this thread of the operating system sleep for *seconds*."""
    monkey = _gevent_monkey()
    (time.sleep if monkey is None else monkey.get_original("time", "sleep"))(seconds)


class DaemonThread:
    """A started daemon thread that runs *target*. Raises RuntimeError where none can be started any more."""

    def __init__(self, target: Callable[[], object], name: str) -> None:
        self._target = target
        self._ended = new_lock()
        self._ended.acquire()
        self._alive = True
        monkey = _gevent_monkey()
        if monkey is None:
            threading.Thread(target=self._run, name=name, daemon=True).start()
        else:
            monkey.get_original("_thread", "start_new_thread")(self._run, ())

    def _run(self) -> None:
        try:
            self._target()
        finally:
            self._alive = False
            self._ended.release()

    def is_alive(self) -> bool:
        """Return whether it still runs."""
        return self._alive

    def join(self, timeout: float) -> bool:
        """Wait at most *timeout* seconds for its end; return whether it has ended."""
        if self._ended.acquire(timeout=timeout):
            self._ended.release()
        return not self._alive


class _Executor(concurrent.futures.ThreadPoolExecutor):
    """Runs each function in a thread of the operating system of its own, which nobody waits for at exit."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        """Begin `fn(*args, **kwargs)`. Raises RuntimeError where no thread can be started any more."""
        future = concurrent.futures.Future[T]()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        DaemonThread(run, "modelhub-worker")
        return future


def set_executor(loop: asyncio.AbstractEventLoop) -> None:
    """Have *loop* use threads of the operating system where gevent has replaced those of the default executor."""
    if _gevent_monkey() is not None:
        loop.set_default_executor(_Executor())


def wait_for(future: concurrent.futures.Future[T]) -> T:
    """Return the result of *future*; in a greenlet, the others go on meanwhile. Raises what the future raises."""
    if _gevent_monkey() is not None:
        wait_until_done(future, None)
    return future.result()


def wait_until_done(future: concurrent.futures.Future[Any], timeout: float | None) -> None:
    """Wait until *future* is done, at most *timeout* seconds; in a greenlet, the others go on meanwhile."""
    if _gevent_monkey() is None:
        concurrent.futures.wait([future], timeout)
        return
    if future.done():
        return
    gevent, event = sys.modules["gevent"], sys.modules["gevent.event"].Event()
    watcher = gevent.get_hub().loop.async_()
    watcher.start(event.set)
    try:
        future.add_done_callback(lambda _: watcher.send())
        event.wait(timeout)
    finally:
        watcher.stop()
        watcher.close()


def refuse_eventlet(what: str) -> None:
    """Raise RuntimeError, naming *what* cannot be done, if eventlet has replaced the threads of this process."""
    patcher = sys.modules.get("eventlet.patcher")
    if patcher is not None and patcher.is_monkey_patched("thread"):
        raise RuntimeError(
            f"{what} cannot work here: eventlet has replaced this process's threads (`monkey_patch`). Use gevent, "
            "plain threads or asyncio, or patch without `thread`"
        )
