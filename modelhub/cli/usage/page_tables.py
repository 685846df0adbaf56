"""The tables of the usage page, as HTML: sums, budgets, hops to other models, parameters, and single calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal

from modelhub.accounting.report import CallSummary, HopFigures, ParameterChange
from modelhub.accounting.spending import BudgetState
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import format_count
from modelhub.cli.usage.page_data import Bin
from modelhub.cli.usage.page_svg import draw_share_bar
from modelhub.cli.usage.page_text import (
    UNKNOWN_MARK,
    escape_markup,
    format_cost_total,
    format_dollars,
    format_percent,
    format_seconds,
    format_short,
    mark_estimate,
)

__all__ = [
    "format_budgets",
    "format_changes",
    "format_expensive_calls",
    "format_failed_calls",
    "format_hops",
    "format_over_time",
    "format_totals",
]

_MAX_ROWS = 20
_COUNT_HEADERS = ("Calls", "Failed", "Attempts", "Input", "Cached", "Output")
_TIMES = "\N{MULTIPLICATION SIGN}"


def _format_table(title: str, kind: str, header: Sequence[str], rows: Iterable[tuple[str, str]]) -> str:
    """Return a table in a card that scrolls sideways if it is too wide; *kind* is its class.

    A row is its header and its cells; these, *title* and *header* are HTML.
    """
    heads = "".join(f'<th scope="col">{name}</th>' for name in header)
    body = "".join(f'<tr><th scope="row">{name}</th>{cells}</tr>' for name, cells in rows)
    return (
        f'<section class="card"><div class="scrolled" tabindex="0"><table class="{kind}"><caption>{title}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _hide_text(text: str) -> str:
    """Return a header for screen readers only."""
    return f'<span class="hidden">{text}</span>'


def _isolate(name: str | None) -> str:
    """Return *name* from outside as HTML, whose direction of writing does not touch what is around it."""
    return "-" if name is None else f"<bdi>{escape_markup(name)}</bdi>"


# -- sums --------------------------------------------------------------------------------------------------------------


def format_totals(by: str, totals: Mapping[str, UsageTotals]) -> str:
    """Return the table of *totals* by "model", "chain" or "tag:NAME"; the last row has all beyond the first twenty."""
    tag = by.removeprefix("tag:") if by.startswith("tag:") else None
    kind, absent = (by, f"no {by}") if tag is None else (f"tag {_isolate(tag)}", "no such tag")
    rows = [(_isolate(name) if name else f"<i>{absent}</i>", total) for name, total in totals.items()]
    if remaining := rows[_MAX_ROWS:]:
        others = UsageTotals()
        for _, total in remaining:
            others.add(total)
        rows = [*rows[:_MAX_ROWS], (f"<i>{format_count(len(remaining), 'other')}</i>", others)]
    has_costs = any(total.known_cost for _, total in rows)
    sizes = [total.known_cost if has_costs else Decimal(total.total_tokens) for _, total in rows]
    maximum = max(sizes, default=Decimal(0)) or Decimal(1)
    header = (_hide_text(kind), "Cost", _hide_text(f"share of {'cost' if has_costs else 'tokens'}"), *_COUNT_HEADERS)
    cells = (
        f'{_format_cost_cell(total)}<td class="share">{draw_share_bar(size / maximum)}</td>{_format_count_cells(total)}'
        for (_, total), size in zip(rows, sizes, strict=True)
    )
    return _format_table(f"By {kind}", "sums", header, zip((name for name, _ in rows), cells, strict=True))


def format_over_time(bins: Sequence[Bin]) -> str:
    """Return the data of the charts as a table that can be unfolded."""
    header = ("From (UTC)", "Cost", *_COUNT_HEADERS, "First token p50", "p95", "Duration p50", "p95")
    rows = []
    for bucket in bins:
        shares = [times.share(percent) for times in (bucket.first_token, bucket.duration) for percent in (50, 95)]
        times_cells = "".join(f"<td>{format_seconds(seconds)}</td>" for seconds in shares)
        cells = f"{_format_cost_cell(bucket.total)}{_format_count_cells(bucket.total)}{times_cells}"
        rows.append((f"{bucket.starts:%Y-%m-%d %H:%M}", cells))
    table = _format_table("Figures over time", "long", header, rows)
    return f"<details><summary>All figures of the charts as a table</summary>{table}</details>"


def _format_cost_cell(total: UsageTotals) -> str:
    return f"<td>{mark_estimate(total, format_cost_total(total))}</td>"


def _format_count_cells(total: UsageTotals) -> str:
    failed_share = f"<small>{format_percent(total.failed, total.calls)}</small>"
    failed = f'<td class="failed">{total.failed:,} {failed_share}</td>' if total.failed else "<td>0</td>"
    cached = escape_markup(format_percent(total.cache_read_tokens, total.input_tokens))
    tokens = "".join(
        f'<td title="{count:,}">{mark_estimate(total, format_short(count)) if count else "0"}{share}</td>'
        for count, share in (
            (total.input_tokens, ""),
            (total.cache_read_tokens, f" <small>{cached}</small>" if total.cache_read_tokens else ""),
            (total.output_tokens, ""),
        )
    )
    return f"<td>{total.calls:,}</td>{failed}<td>{total.attempts:,}</td>{tokens}"


# -- budgets -----------------------------------------------------------------------------------------------------------


def format_budgets(budgets: Sequence[BudgetState]) -> str:
    """Return the table of budgets, or nothing if there are none."""
    if not budgets:
        return ""
    header = (_hide_text("budget"), "Spent", "Of", _hide_text("share"), "Per", "Resets (UTC)")
    return _format_table("Budgets, in their current periods", "budgets", header, map(_make_budget_row, budgets))


def _make_budget_row(budget: BudgetState) -> tuple[str, str]:
    account = f" <i>{_isolate(budget.account)}</i>" if budget.account else ""
    format_amount = format_short if budget.in_tokens else format_dollars
    spent = f"{format_amount(float(budget.spent))}{' + unknown' if budget.unpriced else ''}"
    unit = " tokens" if budget.in_tokens else ""
    style = ' class="failed"' if budget.share >= 1 else ""
    return f"{_isolate(budget.name)}{account}", (
        f"<td{style}>{escape_markup(spent)}</td><td>{escape_markup(format_amount(float(budget.limit)))}{unit}</td>"
        f'<td class="share">{draw_share_bar(min(budget.share, Decimal(1)))}</td>'
        f"<td>{escape_markup(budget.per)}</td><td>{budget.resets:%Y-%m-%d %H:%M}</td>"
    )


# -- hops and parameters -----------------------------------------------------------------------------------------------


def format_hops(figures: HopFigures) -> str:
    """Return the table that compares answers after a hop to another model with others, or nothing without a hop."""
    if not figures.hopped.calls:
        return ""
    rows = []
    compared = {"after a hop to another model": figures.hopped, "from the model asked first": figures.direct}
    for name, total in compared.items():
        if total.calls:
            cost = UNKNOWN_MARK if total.unpriced else escape_markup(format_dollars(total.known_cost / total.calls))
            share = escape_markup(format_percent(total.cache_read_tokens, total.input_tokens))
            rows.append((name, f"<td>{total.calls:,}</td><td>{cost}</td><td>{share}</td>"))
    header = (_hide_text("answers"), "Answers", "Cost of each", "Input from cache")
    return _format_table("What a hop costs", "hops", header, rows)


def format_changes(changes: Sequence[ParameterChange]) -> str:
    """Return the table of parameters that were left out or changed for models, or nothing if there are none."""
    if not changes:
        return ""
    rows = []
    for change in changes[:_MAX_ROWS]:
        cells = (
            f"<td>{_isolate(change.model)}</td><td>{'left out' if change.is_dropped else 'changed'}</td>"
            f"<td>{change.attempts:,}</td><td>{escape_markup(change.detail)}</td>"
        )
        rows.append((_isolate(change.parameter), cells))
    if (others := len(changes) - _MAX_ROWS) > 0:
        rows.append((f"<i>{others:,} more</i>", "<td></td>" * 4))
    header = (_hide_text("parameter"), "Model", _hide_text("what became of it"), "Attempts", "Why, or how")
    return _format_table("Parameters that models did not take", "long", header, rows)


# -- single calls ------------------------------------------------------------------------------------------------------


def format_expensive_calls(calls: Sequence[CallSummary]) -> str:
    """Return the table of the most expensive calls, or nothing if there are none."""
    if not calls:
        return ""
    rows = []
    for call in calls:
        cost = UNKNOWN_MARK if call.cost is None else escape_markup(format_dollars(call.cost))
        cells = (
            f"<td>{_isolate(call.requested)}</td><td>{_isolate(call.model)}</td>"
            f"<td>{format_short(call.input_tokens)}</td><td>{format_short(call.output_tokens)}</td>"
            f"<td>{format_seconds(call.duration)}</td><td>{cost}</td>"
        )
        rows.append((f"{call.at:%Y-%m-%d %H:%M:%S}", cells))
    header = ("When (UTC)", "Called", "Answered by", "Input", "Output", "Duration", "Cost")
    return _format_table("Most expensive calls", "long", header, rows)


def format_failed_calls(calls: Sequence[CallSummary]) -> str:
    """Return the table of the last calls that failed, or nothing if there are none."""
    if not calls:
        return ""
    rows = []
    for call in calls:
        attempts = ", ".join(
            f"{_isolate(model)} {escape_markup(error)}{f' {_TIMES}{count}' if count > 1 else ''}"
            for model, error, count in call.failures
        )
        cells = (
            f'<td>{_isolate(call.requested)}</td><td class="failed">{escape_markup(call.error or "-")}</td>'
            f"<td>{attempts or '-'}</td><td>{format_seconds(call.duration)}</td>"
        )
        rows.append((f"{call.at:%Y-%m-%d %H:%M:%S}", cells))
    return _format_table("Last failures", "long", ("When (UTC)", "Called", "Error", "Attempts", "Duration"), rows)
