"""Closing what a loop would leave suspended when it ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

__all__ = ["LoopEndCloser"]


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
            self._loop.call_soon_threadsafe(self._finish)

    def _finish(self) -> None:
        if not self._called_off.done():
            self._called_off.set_result(None)

    async def join(self) -> None:
        """Wait until the task that waited for the loop's end has ended, after `call_off`."""
        if self._loop is asyncio.get_running_loop() and not self._task.done():
            await asyncio.wait({self._task})
