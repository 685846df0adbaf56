"""The table of `modelhub usage`, with a bar for each row."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import align_columns, find_width, format_cost, format_count, make_line

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.accounting.report import HopFigures, ParameterChange
    from modelhub.accounting.spending import BudgetState
    from modelhub.cli.output import Cell

__all__ = ["format_budget", "format_changes", "format_hops", "format_table", "sort_by_cost"]

_BAR_WIDTH = 24
_NARROW_BAR_WIDTH = 12
_WIDE_TERMINAL = 120
"""The number of terminal columns from which bars have their full width."""
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MAX_ROWS = 400  # rows without calls included
_TIME_FORMATS = {
    "hour": ("%Y-%m-%dT%H", timedelta(hours=1)),
    "day": ("%Y-%m-%d", timedelta(days=1)),
    "month": ("%Y-%m", timedelta(days=32)),  # from the first of a month, this leads into the next
}
_MAX_CHANGES = 10
_HEADER = ("calls", "failed", "attempts", "input", "cached", "output", "cost")


def sort_by_cost(totals: Mapping[str, UsageTotals]) -> dict[str, UsageTotals]:
    """Return *totals*, the most expensive first."""
    return dict(sorted(totals.items(), key=lambda item: (-item[1].known_cost, -item[1].total_tokens, item[0])))


def format_table(totals: Mapping[str, UsageTotals], by: str, since: datetime | None) -> list[Text]:
    """Return the lines of the table: a header, a row for each of *totals*, their sum, and notes."""
    period = "ever" if since is None else f"since {since:%Y-%m-%d %H:%M} UTC"
    if not totals:
        return [make_line(f"no calls {period}")]
    totals, overall = _fill_gaps(totals, by), UsageTotals()
    for total in totals.values():
        overall.add(total)
    # Bars show costs if any is known, else tokens.
    sizes = {name: total.known_cost or Decimal(0) for name, total in totals.items()}
    if not any(sizes.values()):
        sizes = {name: Decimal(total.total_tokens) for name, total in totals.items()}
    maximum = max(sizes.values())
    rows = [(name or "-", "bold", total, sizes[name]) for name, total in totals.items() if by != "all"]
    rows.append(("total", "", overall, Decimal(0)))
    figures = [_HEADER, *(_format_figures(total) for _, _, total, _ in rows)]
    widths = [max(map(len, column)) for column in zip(*figures, strict=True)]
    aligned = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in figures]
    table: list[list[Cell]] = [[(by, "dim"), *((cell, "dim") for cell in aligned[0])]]
    for (name, style, _, size), cells in zip(rows, aligned[1:], strict=True):
        table.append([(name, style), *cells, (_format_bar(size, maximum), "cyan")])
    notes = [period, format_count(overall.attempts, "attempt")]
    if overall.estimated:
        notes.append(f"{overall.estimated:,} of them estimated")
    if overall.unpriced:
        notes.append(f"{overall.unpriced:,} without a known price (?)")
    return [*align_columns(table, indent=0, labels=("", *_HEADER, "")), make_line((", ".join(notes), "dim"))]


def format_budget(budget: BudgetState) -> Text:
    """Return the line of one budget: `budget team: $12.40 of $50 per month (25%), resets 2026-02-01 00:00 UTC`."""
    name = f"{budget.name} of {budget.account}" if budget.account else budget.name
    amounts = [f"{amount:,.0f}" if budget.in_tokens else format_cost(amount) for amount in (budget.spent, budget.limit)]
    unit, unknown = " tokens" if budget.in_tokens else "", " + ?" if budget.unpriced else ""
    style = "bold red" if budget.share >= 1 else "dim"
    return make_line(
        ("budget ", "dim"),
        (name, "bold"),
        (f": {amounts[0]}{unknown} of {amounts[1]}{unit} per {budget.per} ", "dim"),
        (f"({budget.share:.0%})", style),
        (f", resets {budget.resets:%Y-%m-%d %H:%M} UTC", "dim"),
    )


def format_hops(figures: HopFigures) -> list[Text]:
    """Return the line that compares calls after a hop to another model with those without; none without a hop."""
    hopped, direct = figures.hopped, figures.direct
    if not hopped.calls:
        return []
    number = f"{hopped.calls:,} of {format_count(hopped.calls + direct.calls, 'answer')} after a hop to another model"
    without = f"; without a hop {_format_each(direct)}" if direct.calls else ""
    return [make_line(("hops ", "dim"), (f"{number}: {_format_each(hopped)}{without}", "dim"))]


def _format_each(total: UsageTotals) -> str:
    """Return what one of the calls in *total* cost on average, and how much of its input came from a cache."""
    cost = "cost unknown" if total.unpriced else f"{format_cost(total.known_cost / total.calls)} each"
    return cost if total.cache_share is None else f"{cost}, {total.cache_share:.0%} of the input from a cache"


def format_changes(changes: Sequence[ParameterChange]) -> list[Text]:
    """Return a line for each of the most frequent *changes* of parameters, and one that counts the others."""
    rows: list[list[Cell]] = [
        [
            ("left out" if change.is_dropped else "changed", "yellow"),
            (change.parameter, "bold"),
            change.model,
            format_count(change.attempts, "attempt"),
            (change.detail, "dim"),
        ]
        for change in changes[:_MAX_CHANGES]
    ]
    others = len(changes) - len(rows)
    return [*align_columns(rows, indent=0), *([make_line((f"and {others} more", "dim"))] if others > 0 else [])]


def _fill_gaps(totals: Mapping[str, UsageTotals], by: str) -> Mapping[str, UsageTotals]:
    """Return *totals* by time with empty rows for the times between them, unless there would be too many."""
    if by not in _TIME_FORMATS:
        return totals
    form, step = _TIME_FORMATS[by]
    name, last = min(totals), max(totals)
    rows = {name: totals[name]}
    while name != last and len(rows) < _MAX_ROWS:
        name = (datetime.strptime(name, form) + step).strftime(form)  # noqa: DTZ007 - only to count on
        rows[name] = totals.get(name, UsageTotals())
    return rows if name == last else totals


def _format_figures(total: UsageTotals) -> tuple[str, ...]:
    counts = (f"{count:,}" for count in (total.calls, total.failed, total.attempts, total.input_tokens))
    share = f" ({total.cache_share:.0%})" if total.cache_share else ""
    cost = format_cost(total.known_cost)
    if total.unpriced:
        cost = f"{cost} + ?" if total.known_cost else "?"
    return (*counts, f"{total.cache_read_tokens:,}{share}", f"{total.output_tokens:,}", cost)


def _format_bar(size: Decimal, maximum: Decimal) -> str:
    if not size or not maximum:
        return ""
    width = _BAR_WIDTH if (find_width(sys.stdout) or _WIDE_TERMINAL) >= _WIDE_TERMINAL else _NARROW_BAR_WIDTH
    eighths = max(1, round(size / maximum * width * 8))
    return _EIGHTHS[8] * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
