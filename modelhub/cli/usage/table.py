"""The table of `modelhub usage`, with a bar for each row."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import columns, counted, find_width, line, money

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.output import Cell

__all__ = ["lines"]

_WIDTH = 24
_NARROW = 12
_WIDE = 120
"""From how many columns of a terminal on a bar has all of its width."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MOST_ROWS = 400  # with those in which there was nothing
_TIMES = {
    "hour": ("%Y-%m-%dT%H", timedelta(hours=1)),
    "day": ("%Y-%m-%d", timedelta(days=1)),
    "month": ("%Y-%m", timedelta(days=32)),  # from its first day this leads into the next
}
_HEADER = ("calls", "failed", "attempts", "input", "cached", "output", "cost")


def lines(found: Mapping[str, UsageTotals], by: str, since: datetime | None) -> list[Text]:
    """The rows, their sum, and what is behind the figures."""
    began = "ever" if since is None else f"since {since:%Y-%m-%d %H:%M} UTC"
    if not found:
        return [line(f"no calls {began}")]
    found, whole = _with_gaps(found, by), UsageTotals()
    for total in found.values():
        whole.add(total)
    # Bars show money where any is known, else tokens.
    sizes = {name: total.known_cost or Decimal(0) for name, total in found.items()}
    if not any(sizes.values()):
        sizes = {name: Decimal(total.total_tokens) for name, total in found.items()}
    most = max(sizes.values())
    rows = [(name or "-", "bold", total, sizes[name]) for name, total in found.items() if by != "all"]
    rows.append(("together", "", whole, Decimal(0)))
    figures = _aligned([_HEADER, *(_figures(total) for _, _, total, _ in rows)])
    table: list[list[Cell]] = [[(by, "dim"), *((cell, "dim") for cell in figures[0])]]
    for (name, style, _, size), cells in zip(rows, figures[1:], strict=True):
        table.append([(name, style), *cells, (_bar(size, most), "cyan")])
    return [*columns(table, indent=0, labels=("", *_HEADER, "")), *_notes(whole, began)]


def _with_gaps(found: Mapping[str, UsageTotals], by: str) -> Mapping[str, UsageTotals]:
    """The times of *found* and those between them, in which there was nothing, unless these are too many."""
    if by not in _TIMES:
        return found
    form, step = _TIMES[by]
    name, last = min(found), max(found)
    rows = {name: found[name]}
    while name != last and len(rows) < _MOST_ROWS:
        name = (datetime.strptime(name, form) + step).strftime(form)  # noqa: DTZ007 - only to count on
        rows[name] = found.get(name, UsageTotals())
    return rows if name == last else found


def _figures(total: UsageTotals) -> tuple[str, ...]:
    tokens = (total.input_tokens, total.cache_read_tokens, total.output_tokens)
    return (*(f"{count:,}" for count in (total.calls, total.failed, total.attempts, *tokens)), _cost(total))


def _cost(total: UsageTotals) -> str:
    if not total.unpriced:
        return money(total.known_cost)
    return f"{money(total.known_cost)} + ?" if total.known_cost else "?"


def _aligned(rows: list[tuple[str, ...]]) -> list[list[str]]:
    widths = [max(len(row[at]) for row in rows) for at in range(len(_HEADER))]
    return [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]


def _bar(size: Decimal, most: Decimal) -> str:
    if not size or not most:
        return ""
    width = _WIDTH if (find_width(sys.stdout) or _WIDE) >= _WIDE else _NARROW
    eighths = max(1, round(size / most * width * 8))
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def _notes(whole: UsageTotals, began: str) -> list[Text]:
    notes = [began, counted(whole.attempts, "attempt")]
    if whole.estimated:
        notes.append(f"{whole.estimated:,} of them estimated")
    if whole.unpriced:
        notes.append(f"{whole.unpriced:,} without a known price (?)")
    return [line((", ".join(notes), "dim"))]
