"""Virtual time: an event loop that jumps to the next timer when it is idle, and a clock that follows it.

Ten minutes of back-off take milliseconds, also with real clients on loopback: sockets are served first, and time only
moves when they are idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["VirtualClock", "VirtualLoop", "run_virtual"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
DEADLOCK_TIMEOUT = 5.0
_PATIENCE_WITH_THREADS = 60.0  # importing an SDK may be slow on a busy machine


class _Jumping(selectors.DefaultSelector):
    """A selector that does not wait: it moves the loop's time instead."""

    def __init__(self, grace: float) -> None:
        super().__init__()
        self.now = 0.0
        self.threads = 0
        self._grace = grace

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            # Only a thread or a socket can wake the loop; a test that waits in vain must not hang.
            wait_budget = _PATIENCE_WITH_THREADS if self.threads else DEADLOCK_TIMEOUT
            ready = super().select(wait_budget)
            if not ready:
                raise RuntimeError(
                    f"every task waits, no timer is set, and nothing came in for {wait_budget:g} real seconds"
                )
            return ready
        if timeout <= 0:
            return super().select(timeout)
        # Before time jumps, sockets get a moment of real time, and a running thread all the time that it needs.
        ready = super().select(_PATIENCE_WITH_THREADS if self.threads else min(timeout, self._grace))
        if not ready:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which starts at 0.

    *grace* is how many real seconds it waits for sockets and threads before each jump.
    """

    def __init__(self, grace: float = 0.0005) -> None:
        self._jumping = _Jumping(grace)
        super().__init__(self._jumping)

    def time(self) -> float:
        """Virtual seconds."""
        return self._jumping.now

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run *func* in a thread as usual; virtual time stands still meanwhile."""
        future = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1
        future.add_done_callback(self._thread_is_done)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ARG002 - see below
        """Join the threads of the default executor, however long it takes.

        Time stands still meanwhile: the *timeout* that `asyncio.Runner` sets from Python 3.12 on is meant in real
        seconds, and the loop would jump over it at once.
        """
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor()
        finally:
            self._jumping.threads -= 1

    def _thread_is_done(self, _: Any) -> None:
        self._jumping.threads -= 1


class VirtualClock:
    """The clock of a `VirtualLoop`; its calendar begins at *start*."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.start = start
        self._last = 0.0

    def now(self) -> float:
        """Return the running loop's time, or its last time if no loop is running."""
        with contextlib.suppress(RuntimeError):
            self._last = asyncio.get_running_loop().time()
        return self._last

    def wall(self) -> datetime:
        """Return the start plus the time that has passed."""
        return self.start + timedelta(seconds=self.now())

    async def sleep(self, seconds: float) -> None:
        """Suspend the task for virtual *seconds*."""
        await asyncio.sleep(seconds)


def run_virtual(main: Coroutine[Any, Any, T], grace: float = 0.0005) -> T:
    """Run *main* in virtual time and return its result."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(grace)) as runner:
        return runner.run(main)
