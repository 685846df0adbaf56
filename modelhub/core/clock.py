"""The clock by which layers measure time and wait: tests replace it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What tells layers the time, in seconds, and waits for them."""

    def now(self) -> float:
        """Return the seconds on a steady clock, of which only differences mean anything."""
        ...

    def wall(self) -> datetime:
        """Return the date and time, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for *seconds* without blocking the event loop."""
        ...


class SystemClock:
    """The time of this machine, in seconds; the default clock."""

    now = staticmethod(time.monotonic)
    """Seconds on the monotonic clock, the one the event loop uses too."""

    def wall(self) -> datetime:
        """Return the system's date and time, in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Suspend the task for *seconds*."""
        await asyncio.sleep(seconds)
