"""An answer on its way to the terminal, snapshot by snapshot."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

from modelhub.cli.output import clean, line, say, span
from modelhub.core.events import Event, Waiting

if TYPE_CHECKING:
    from modelhub.cli.call_trace import CallTrace
    from modelhub.core.response import ChatResponse

__all__ = ["Screen", "say_wait"]

_LONG = 1.0
"""Seconds of waiting about which a person wants to know why."""


def say_wait(event: Event) -> None:
    """An observer that tells of long waits, while they last."""
    if isinstance(event, Waiting) and event.seconds >= _LONG:
        reason = f"{event.error.kind}{f' {event.error.status}' if event.error.status is not None else ''}"
        text = f"-- {event.model}: {reason}; attempt {event.attempt} in {span(round(event.seconds, 1))} --"
        say(line((text, "dim")), err=True)


class Screen:
    """Prints an answer: each snapshot's new text if *live*, else all of it at the end.

    What is not live gets no text that a restart makes void. Thinking, if wanted, goes dimly to standard error.
    """

    def __init__(self, story: CallTrace, *, thinking: bool, live: bool) -> None:
        self.story = story
        self.thinking = thinking
        self.live = live
        self._terminal = sys.stdout.isatty()
        self._last: ChatResponse | None = None
        self._open: Literal["text", "thinking"] | None = None
        self._thought = 0

    def show(self, snapshot: ChatResponse) -> None:
        """Print what is new in *snapshot*."""
        before, self._last = self._last, snapshot
        if before is not None and snapshot["restarts"] > before["restarts"]:
            self._restart(before, snapshot)
        if self.thinking:
            self._think(snapshot.thinking)
        if self.live:
            self._write(snapshot["delta"])

    def end(self) -> None:
        """The answer is complete."""
        if not self.live and self._last is not None:
            self._write(self._last.text)
        self.cut()

    def cut(self) -> None:
        """Whatever comes next begins on a new line."""
        if self._open == "text":
            self._write("\n")
        elif self._open == "thinking":
            say("", err=True)
        self._open = None

    def _restart(self, before: ChatResponse, snapshot: ChatResponse) -> None:
        self.cut()
        self._thought = 0
        broken = [part.message for part in self.story.failed() if part.model == before["model"]]
        reason = f" ({broken[-1]})" if broken else ""
        who = f"{before['model']} broke off{reason}; {snapshot['model']} begins again"
        say(line((f"-- {who} --", "dim")), err=True)

    def _think(self, thinking: str) -> None:
        new, self._thought = thinking[self._thought :], len(thinking)
        if new:
            if self._open == "text":
                self.cut()
            self._open = "thinking"
            say(line((new, "dim")), err=True, end="")

    def _write(self, text: str) -> None:
        if not text:
            return
        if self._open == "thinking":
            self.cut()
        sys.stdout.write(clean(text) if self._terminal else text)
        sys.stdout.flush()
        self._open = None if text.endswith("\n") else "text"
