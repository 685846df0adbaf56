"""A time limit on a part of a call: what it awaits is given up when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelhub.core.errors import CallError
from modelhub.core.tracebacks import drop_frames

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["TimeLimit"]


class TimeLimit:
    """A context manager that cancels its block after *seconds*, and then raises what *make_error* returns.

    It is `asyncio.timeout` without the parts that a call has no use for: there are two of them on every call's way.
    """

    __slots__ = ("_cancellations", "_handle", "_make_error", "_seconds", "_task")

    def __init__(self, seconds: float, make_error: Callable[[], CallError]) -> None:
        self._seconds = seconds
        self._make_error = make_error

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a time limit needs a task that it can cancel")
        loop = asyncio.get_running_loop()
        self._task = task
        self._cancellations = task.cancelling()
        self._handle: asyncio.TimerHandle | None = loop.call_at(loop.time() + self._seconds, self._expire)

    def _expire(self) -> None:
        self._handle = None
        self._task.cancel()

    def __exit__(
        self, exc_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._handle is not None:
            self._handle.cancel()
            return
        is_cancelled_elsewhere = self._task.uncancel() > self._cancellations
        if is_cancelled_elsewhere or not isinstance(error, asyncio.CancelledError):
            return  # it has ended by itself, or somebody else has cancelled it too
        drop_frames(error)
        failure = self._make_error()
        raise failure from failure.__cause__ or error
