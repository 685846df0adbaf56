"""A line that says how long an answer has been waited for, while nothing has come."""

from __future__ import annotations

import asyncio
import sys
import time

from modelhub.cli.output import is_terminal
from modelhub.cli.screen import print_wait
from modelhub.core.events import Event

__all__ = ["Progress"]

_DELAY = 1.0
"""Seconds of waiting that are not worth a line."""
_INTERVAL = 0.2


class Progress:
    """An observer that shows on a terminal for how long a call has been under way, and prints its long waits.

    `start` begins the line, which appears after a second, and `stop` removes it.
    """

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown
        self._is_on_terminal = is_shown and is_terminal(sys.stderr)
        self._task: asyncio.Task[None] | None = None
        self._has_line = False

    def __call__(self, event: Event) -> None:
        """Print a line when a long wait begins."""
        if self._is_shown:
            self._remove_line()
            print_wait(event)

    def start(self, name: str) -> None:
        """Show that *name* is waited for, from the first second on."""
        self.stop()
        if self._is_on_terminal:
            self._task = asyncio.get_running_loop().create_task(self._update_line(name))

    def stop(self) -> None:
        """Remove the line, before anything else is printed."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
            self._remove_line()

    async def _update_line(self, name: str) -> None:
        started = time.monotonic()
        await asyncio.sleep(_DELAY)
        while True:
            self._has_line = True
            sys.stderr.write(f"\r\x1b[2m{name}: waiting for {time.monotonic() - started:.0f} s\x1b[0m\x1b[K")
            sys.stderr.flush()
            await asyncio.sleep(_INTERVAL)

    def _remove_line(self) -> None:
        if self._has_line:
            self._has_line = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
