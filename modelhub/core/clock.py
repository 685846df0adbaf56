"""Where time comes in: layers read the hour and wait through a `Clock`, so that tests can bend both."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What a layer may know of time."""

    def now(self) -> float:
        """Seconds on a steady clock; only differences mean anything."""
        ...

    def wall(self) -> datetime:
        """The hour by the calendar, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for *seconds* without blocking the event loop."""
        ...


class SystemClock:
    """The time of this machine, in seconds; the default clock."""

    now = staticmethod(time.monotonic)
    """Seconds on the monotonic clock, the one the event loop uses too."""

    def wall(self) -> datetime:
        """The system's hour in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Suspend the task for *seconds*."""
        await asyncio.sleep(seconds)
