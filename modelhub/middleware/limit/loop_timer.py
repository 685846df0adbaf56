"""Timers of several event loops for one thing that all of them wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["LoopTimer", "on_loop"]

_MIN_WAIT = 0.001  # a shorter wait could end, by a rounding error, before its time and so begin again without end


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *args: Any) -> bool:
    """Call on *loop*, at once if it is the running one. False if it is closed."""
    try:
        running: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        running = None
    if running is loop:
        call(*args)
        return True
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        return False
    return True


class LoopTimer:
    """One loop's timer, which calls *on_fire* on it; `waiting` counts those who wait on that loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_fire: Callable[[], None]) -> None:
        self.loop = loop
        self.waiting = 0
        self._on_fire = on_fire
        self._at: float | None = None
        self._handle: asyncio.TimerHandle | None = None

    def set(self, wait: float, now: float) -> None:
        """Fire *wait* seconds from *now*, or earlier if it is set so: `on_fire` sets it again then."""
        at = now + wait
        if self._at is None or at < self._at:
            self._at = at
            on_loop(self.loop, self._start, max(wait, _MIN_WAIT))

    def stop(self) -> None:
        """Cancel the timer."""
        self._at = None
        on_loop(self.loop, self._cancel)

    def _start(self, wait: float) -> None:
        self._cancel()
        self._handle = self.loop.call_later(wait, self._tick)

    def _cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self._at = self._handle = None
        self._on_fire()
