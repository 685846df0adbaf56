"""What `modelhub chat` shows of a call: that it is waited for, the answer as it comes, and a summary below it."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from modelhub.cli.error_view import format_earlier_failures
from modelhub.cli.output import (
    escape_controls,
    format_cost,
    format_count,
    format_duration,
    format_setting,
    is_terminal,
    make_line,
    print_lines,
)
from modelhub.core.events import Event, Waiting

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.call_trace import CallTrace
    from modelhub.core.response import ChatResponse

__all__ = ["Progress", "Screen", "format_summary"]

_DELAY = 1.0
"""Seconds of waiting that are not worth a line."""
_INTERVAL = 0.2
_LONG_WAIT = 1.0
"""The shortest wait before another attempt, in seconds, that is shown."""
_FINISH_TEXTS = {
    "length": "cut off at the token limit",
    "content_filter": "cut off by the content filter",
    "refusal": "refused",
    "error": "ended with an error",
}


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
        if not self._is_shown:
            return
        self._remove_line()
        if isinstance(event, Waiting) and event.seconds >= _LONG_WAIT:
            status = f" {event.error.status}" if event.error.status is not None else ""
            wait = f"attempt {event.attempt} in {format_setting(round(event.seconds, 1))}"
            print_lines(make_line((f"-- {event.model}: {event.error.kind}{status}; {wait} --", "dim")), err=True)

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
            new_thinking, self._thought = snapshot.thinking[self._thought :], len(snapshot.thinking)
            if new_thinking and self._open == "text":
                self.end_line()
            if new_thinking:
                self._open = "thinking"
                print_lines(make_line((new_thinking, "dim")), err=True, end="")
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

    def _write(self, text: str) -> None:
        if not text or sys.stdout is None:
            return
        if self._open == "thinking":
            self.end_line()
        sys.stdout.write(escape_controls(text) if self._terminal else text)
        sys.stdout.flush()
        self._open = None if text.endswith("\n") else "text"


def format_summary(reply: ChatResponse, trace: CallTrace, seconds: float, *, streamed: bool) -> list[Text]:
    """Return the lines below *reply*, which took *seconds*: the tools called, figures, and what failed before."""
    lines = [make_line("")] if is_terminal(sys.stdout) else []
    for call in reply.tool_calls:
        arguments = json.dumps(call["input"], ensure_ascii=False)
        lines.append(make_line("  ", ("calls ", "dim"), (call["name"], "bold"), f" {arguments}"))
    facts = make_line("  ", (" · ".join(_list_facts(reply, trace, seconds, streamed)), "dim"))
    return [*lines, facts, *format_earlier_failures(trace.list_failed())]


def _list_facts(reply: ChatResponse, trace: CallTrace, seconds: float, streamed: bool) -> Iterator[str]:
    name, model = reply["model_name"] or "?", reply["model"] or "?"
    yield model if name == model else f"{name} via {model}"
    turn = trace.get_open_turn(model)
    if turn is not None and len(turn.attempts) > 1:
        yield format_count(len(turn.attempts), "attempt")
    last = reply["attempts"][-1] if reply["attempts"] else None
    if streamed and last is not None and last["first_token"] is not None:
        first_token = format_duration(last["started"] + last["first_token"])
        yield f"{format_duration(seconds)} (first token {first_token})"
    else:
        yield format_duration(seconds)
    usage = reply["usage"] or (last["usage"] if last is not None else None)
    if usage is not None:
        approximately = "about " if usage["estimated"] else ""
        yield f"{approximately}{usage['input_tokens']:,} in, {usage['output_tokens']:,} out"
        if usage.cost is not None:
            yield f"{approximately}{format_cost(usage.cost)}"
    if reply["finish_reason"] in _FINISH_TEXTS:
        yield _FINISH_TEXTS[reply["finish_reason"]]
