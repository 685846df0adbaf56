"""How a chain's failure reads: one line for each model that was asked or passed over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

__all__ = ["CLEAR_BY_STATUS", "format_group"]

CLEAR_BY_STATUS = frozenset({"RateLimited", "Overloaded", "ServerError"})
"""Errors that the status explains; the vendor's message would add nothing."""

_MAX_MESSAGE_LENGTH = 80


class FailedCall(Protocol):
    """What is read of a `CallError`; `errors` itself writes its groups through this module."""

    model: str | None
    arm: str | None
    kind: str
    status: int | None
    request_id: str | None
    retry_after: float | None
    attempts: Sequence[Any]


def format_group(group: ExceptionGroup[Any]) -> list[str]:
    """The lines below the group's own: model, class, what it said, request id, time; chains are indented."""
    rows = list(_make_rows(group, "  "))
    # A column that nobody has anything for is left out.
    columns = [column for column in zip(*rows, strict=True) if any(column)]
    widths = [max(map(len, column)) for column in columns]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]


def _make_rows(group: ExceptionGroup[Any], indent: str) -> Iterator[tuple[str, ...]]:
    for error in group.exceptions:
        if isinstance(error, ExceptionGroup):
            yield f"{indent}{getattr(error, 'model', None) or '?'}", "chain", f"{len(error.exceptions)} failed", "", ""
            yield from _make_rows(error, f"{indent}  ")
        else:
            yield _make_row(error, indent)


def _make_row(error: FailedCall, indent: str) -> tuple[str, ...]:
    own = error.attempts  # inside a group an error has only what its own model did at this place
    tries = sum(not attempt["skipped"] for attempt in own)
    again = f"retry after {error.retry_after:.0f} s" if error.retry_after else ""
    status = str(error.status) if error.status else ""
    message = "" if status and error.kind in CLEAR_BY_STATUS else " ".join(str(error).split())
    if len(message) > _MAX_MESSAGE_LENGTH:  # it is cut between two words
        message = f"{message[: _MAX_MESSAGE_LENGTH + 1].rpartition(' ')[0] or message[:_MAX_MESSAGE_LENGTH]} ..."
    status = "" if f"said {status}" in message else status
    words = ", ".join(filter(None, (status, again, f"{tries} attempts" if tries > 1 else "", message)))
    took = sum((attempt["duration"] or 0.0) + attempt["wait"] for attempt in own)
    request = error.request_id or ""
    short = request if len(request) <= 12 else f"{request[:10]}.."
    return f"{indent}{error.arm or error.model or '?'}", error.kind, words, short, f"{took:.1f} s"
