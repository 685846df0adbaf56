"""How a failed call looks, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from modelhub.cli.call_trace import CallTrace, ModelTurn
from modelhub.cli.output import columns, line, took
from modelhub.core.errors import AllModelsFailed, CallError, NotConfigured

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.output import Cell

__all__ = ["as_dict", "before", "call_failed"]

_INLINE = 48
"""How long the third column may get; a longer message stands on a line of its own."""


def call_failed(error: CallError, story: CallTrace) -> list[Text]:
    """The lines that tell of *error*."""
    if isinstance(error, AllModelsFailed):
        parts = [story.turn_of(leaf) for leaf in error.leaves()]
        return [_headline(error), *_tree(error, story), *_next(parts)]
    part = story.turn_of(error)
    others = [other for other in story.failed() if other.error is not error]
    detail = [", ".join(part.facts(words=False)), part.request_id or "", took(part.took) if part.attempts else ""]
    rows = [line("  ", (" · ".join(filter(None, detail)), "dim"))] if any(detail[:2]) or len(part.attempts) > 1 else []
    return [_headline(error), *rows, *before(others), *_next([*others, part])]


def _headline(error: CallError) -> Text:
    message = _message(error)
    named = error.model is None or f"`{error.model}`" in message
    return line((error.kind, "bold red"), ": ", message if named else f"{error.model}: {message}")


def _message(error: CallError) -> str:
    """The error's own words; of a group without the tree, which is told here in its own way."""
    return error.message if isinstance(error, AllModelsFailed) else str(error)


def _tree(group: AllModelsFailed, story: CallTrace) -> list[Text]:
    rows: list[list[Cell]] = []
    notes: dict[int, str] = {}
    for depth, error in _walk(group, 0):
        indent = "  " * depth
        if isinstance(error, AllModelsFailed):
            rows.append(
                [f"{indent}{error.model}", ("chain", "dim"), f"none of its {len(error.exceptions)} models answered"]
            )
            continue
        part = story.turn_of(error)
        what = ", ".join(part.facts())
        if len(what) > _INLINE:
            what = ", ".join(part.facts(words=False))
            notes[len(rows)] = f"{indent}{part.message}"
        rows.append(_row(part, indent, what))
    return list(_with_notes(columns(rows), notes))


def _row(part: ModelTurn, indent: str, what: str) -> list[Cell]:
    style = "yellow" if isinstance(part.error, NotConfigured) else "red"
    request_id = part.request_id or ""
    short = f"{request_id[:8]}.." if len(request_id) > 10 else request_id
    return [f"{indent}{part.model}", (part.kind, style), what, (short, "dim"), took(part.took) if part.attempts else ""]


def _walk(group: AllModelsFailed, depth: int) -> Iterator[tuple[int, CallError]]:
    for error in group.exceptions:
        if isinstance(error, CallError):
            yield depth, error
        if isinstance(error, AllModelsFailed):
            yield from _walk(error, depth + 1)


def _with_notes(lines: Sequence[Text], notes: dict[int, str]) -> Iterator[Text]:
    for at, row in enumerate(lines):
        yield row
        if at in notes:
            yield line(f"    {notes[at]}")


def _next(parts: Sequence[ModelTurn]) -> Iterator[Text]:
    """Which model can be asked again first, and when."""
    known = [(part.again, part.model) for part in parts if part.again is not None]
    if known:
        when, model = min(known)
        yield line(("  next: ", "dim"), f"{model} can be asked again at {_hour(when)}")


def _hour(when: datetime) -> str:
    today = when.date() == datetime.now(when.tzinfo).date()
    return f"{when:%H:%M:%S}" if today else f"{when:%Y-%m-%d %H:%M:%S}"


def before(parts: Sequence[ModelTurn]) -> list[Text]:
    """What failed before the answer came."""
    return [
        line(("  before it: " if at == 0 else "             ", "dim"), (part.sentence(), "dim"))
        for at, part in enumerate(parts)
    ]


def as_dict(error: CallError) -> dict[str, Any]:
    """*error* as JSON has it; a chain's error has those of its models."""
    keys = ("model", "provider", "status", "code", "request_id", "retry_after")
    found: dict[str, Any] = {"kind": error.kind, "message": _message(error)}
    found |= {key: getattr(error, key) for key in keys}
    if isinstance(error, AllModelsFailed):
        found["errors"] = [as_dict(inner) for inner in error.exceptions if isinstance(inner, CallError)]
    if (partial := getattr(error, "partial", None)) is not None:
        found["partial"] = partial.text
    return found
