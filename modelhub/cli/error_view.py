"""Format a failed call, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from modelhub.cli.call_trace import CallTrace, ModelTurn
from modelhub.cli.output import align_columns, format_duration, make_line
from modelhub.core.errors import AllModelsFailed, CallError, NotConfigured

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.output import Cell

__all__ = ["make_error_dict", "format_earlier_failures", "format_call_error"]

_MAX_INLINE_CHARS = 48
"""The longest message in the third column; a longer one gets a separate line."""


def format_call_error(error: CallError, trace: CallTrace) -> list[Text]:
    """Return the lines that show *error*."""
    message = _get_message(error)
    is_named = error.model is None or f"`{error.model}`" in message
    headline = make_line((error.kind, "bold red"), ": ", message if is_named else f"{error.model}: {message}")
    if isinstance(error, AllModelsFailed):
        turns = [trace.find_turn(leaf) for leaf in error.leaves()]
        return [headline, *_format_tree(error, trace), *_format_next(turns)]
    turn = trace.find_turn(error)
    others = [other for other in trace.list_failed() if other.error is not error]
    facts = [", ".join(turn.list_details(message=False)), turn.request_id or ""]
    has_facts = any(facts) or len(turn.attempts) > 1
    facts.append(format_duration(turn.duration) if turn.attempts else "")
    lines = [make_line("  ", (" · ".join(filter(None, facts)), "dim"))] if has_facts else []
    return [headline, *lines, *format_earlier_failures(others), *_format_next([*others, turn])]


def _get_message(error: CallError) -> str:
    """Return the error's message, for a group without its tree, which is formatted separately."""
    return error.message if isinstance(error, AllModelsFailed) else str(error)


def _format_tree(group: AllModelsFailed, trace: CallTrace) -> Iterator[Text]:
    """Yield a line for each error in *group*; a message that is too long for a column gets a line of its own."""
    rows: list[list[Cell]] = []
    notes: dict[int, str] = {}
    for depth, error in _walk_errors(group, 0):
        indent = "  " * depth
        if isinstance(error, AllModelsFailed):
            text = f"none of its {len(error.exceptions)} models answered"
            rows.append([f"{indent}{error.model}", ("chain", "dim"), text])
            continue
        turn = trace.find_turn(error)
        details, request_id = ", ".join(turn.list_details()), turn.request_id or ""
        if len(details) > _MAX_INLINE_CHARS:
            details = ", ".join(turn.list_details(message=False))
            notes[len(rows)] = f"    {indent}{turn.message}"
        short_id = f"{request_id[:8]}.." if len(request_id) > 10 else request_id
        style = "yellow" if isinstance(error, NotConfigured) else "red"
        duration = format_duration(turn.duration) if turn.attempts else ""
        rows.append([f"{indent}{turn.label}", (turn.kind, style), details, (short_id, "dim"), duration])
    for index, line in enumerate(align_columns(rows)):
        yield line
        if index in notes:
            yield make_line(notes[index])


def _walk_errors(group: AllModelsFailed, depth: int) -> Iterator[tuple[int, CallError]]:
    for error in group.exceptions:
        if isinstance(error, CallError):
            yield depth, error
        if isinstance(error, AllModelsFailed):
            yield from _walk_errors(error, depth + 1)


def _format_next(turns: Sequence[ModelTurn]) -> Iterator[Text]:
    """Yield a line with the model that can be tried again first, and when."""
    times = [(turn.next_attempt_at, turn.model) for turn in turns if turn.next_attempt_at is not None]
    if times:
        when, model = min(times)
        is_today = when.date() == datetime.now(when.tzinfo).date()
        time = f"{when:%H:%M:%S}" if is_today else f"{when:%Y-%m-%d %H:%M:%S}"
        yield make_line(("  next: ", "dim"), f"{model} can be tried again at {time}")


def format_earlier_failures(turns: Sequence[ModelTurn]) -> list[Text]:
    """Return the lines about models that failed before the answer."""
    return [
        make_line(("  before it: " if index == 0 else "             ", "dim"), (turn.describe(), "dim"))
        for index, turn in enumerate(turns)
    ]


def make_error_dict(error: CallError) -> dict[str, Any]:
    """Return *error* as a JSON-compatible dict; the error of a chain includes those of its models."""
    keys = ("model", "provider", "status", "code", "request_id", "retry_after")
    values: dict[str, Any] = {"kind": error.kind, "message": _get_message(error)}
    values |= {key: getattr(error, key) for key in keys}
    if isinstance(error, AllModelsFailed):
        values["errors"] = [make_error_dict(inner) for inner in error.exceptions if isinstance(inner, CallError)]
    if (partial := getattr(error, "partial", None)) is not None:
        values["partial"] = partial.text
    return values
