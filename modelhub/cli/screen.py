"""Print an answer to the terminal, snapshot by snapshot."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from modelhub.cli.output import escape_controls, format_setting, is_terminal, make_line, print_lines
from modelhub.core.events import Event, Waiting

if TYPE_CHECKING:
    from modelhub.cli.call_trace import CallTrace
    from modelhub.core.response import ChatResponse

__all__ = ["Screen", "print_wait"]

_LONG_WAIT = 1.0
"""The shortest wait in seconds that is shown."""


def print_wait(event: Event) -> None:
    """An observer that prints a line when a long wait begins."""
    if isinstance(event, Waiting) and event.seconds >= _LONG_WAIT:
        reason = f"{event.error.kind}{f' {event.error.status}' if event.error.status is not None else ''}"
        text = f"-- {event.model}: {reason}; attempt {event.attempt} in {format_setting(round(event.seconds, 1))} --"
        print_lines(make_line((text, "dim")), err=True)


class Screen:
    """Prints an answer: the new text of each snapshot if *live*, else the whole text at the end.

    Without *live*, no text is printed that a restart replaces. With *thinking*, thinking goes to standard error.
    """

    def __init__(self, trace: CallTrace, *, thinking: bool, live: bool) -> None:
        self.trace = trace
        self.thinking = thinking
        self.live = live
        self._terminal = is_terminal(sys.stdout)
        self._last: ChatResponse | None = None
        self._open: Literal["text", "thinking"] | None = None
        self._thought = 0

    def show(self, snapshot: ChatResponse) -> None:
        """Print the new text of *snapshot*."""
        before, self._last = self._last, snapshot
        if before is not None and snapshot["restarts"] > before["restarts"]:
            self._print_restart(before, snapshot)
        if self.thinking:
            self._print_thinking(snapshot.thinking)
        if self.live:
            self._write(snapshot["delta"])

    def finish(self) -> None:
        """Print the rest of the complete answer."""
        if not self.live and self._last is not None:
            self._write(self._last.text)
        self.end_line()

    def end_line(self) -> None:
        """End the current line, so that the next output starts on a new one."""
        if self._open == "text":
            self._write("\n")
        elif self._open == "thinking":
            print_lines("", err=True)
        self._open = None

    def _print_restart(self, before: ChatResponse, snapshot: ChatResponse) -> None:
        self.end_line()
        self._thought = 0
        reasons = [turn.message for turn in self.trace.list_failed() if turn.model == before["model"]]
        reason = f" ({reasons[-1]})" if reasons else ""
        text = f"{before['model']} broke off{reason}; {snapshot['model']} starts over"
        print_lines(make_line((f"-- {text} --", "dim")), err=True)

    def _print_thinking(self, thinking: str) -> None:
        new, self._thought = thinking[self._thought :], len(thinking)
        if new:
            if self._open == "text":
                self.end_line()
            self._open = "thinking"
            print_lines(make_line((new, "dim")), err=True, end="")

    def _write(self, text: str) -> None:
        if not text or sys.stdout is None:
            return
        if self._open == "thinking":
            self.end_line()
        sys.stdout.write(escape_controls(text) if self._terminal else text)
        sys.stdout.flush()
        self._open = None if text.endswith("\n") else "text"
