"""The parts of the usage page about budgets and about single calls, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from modelhub.accounting.budget_state import BudgetState
from modelhub.accounting.call_list import CallSummary
from modelhub.cli.usage.page_chart import draw_share_bar
from modelhub.cli.usage.page_data import PageFigures
from modelhub.cli.usage.page_table import format_row, format_scrolled, hide_text
from modelhub.cli.usage.page_text import escape_markup, format_dollars, format_seconds, format_short

__all__ = ["format_budgets", "format_calls"]

_EXPENSIVE_HEADER = ("When (UTC)", "Called", "Answered by", "Input", "Output", "Duration", "Cost")
_FAILED_HEADER = ("When (UTC)", "Called", "Error", "Attempts", "Duration")
_TIMES = "\N{MULTIPLICATION SIGN}"
_UNKNOWN = '<em class="unknown">unknown</em>'


def format_budgets(budgets: Sequence[BudgetState]) -> str:
    """Return the table of budgets, or nothing if there are none."""
    if not budgets:
        return ""
    body = "".join(_format_budget(budget) for budget in budgets)
    header = (hide_text("budget"), "Spent", "Of", hide_text("share"), "Per", "Resets (UTC)")
    return format_scrolled("Budgets, in their current periods", "budgets", header, body)


def _format_budget(budget: BudgetState) -> str:
    name = f"<bdi>{escape_markup(budget.name)}</bdi>"
    if budget.account:
        name += f" <i><bdi>{escape_markup(budget.account)}</bdi></i>"
    form = format_short if budget.in_tokens else format_dollars
    spent = f"{form(float(budget.spent))}{' + unknown' if budget.unpriced else ''}"
    unit = " tokens" if budget.in_tokens else ""
    is_spent = ' class="failed"' if budget.share >= 1 else ""
    return format_row(
        name,
        f"<td{is_spent}>{escape_markup(spent)}</td>",
        f"<td>{escape_markup(form(float(budget.limit)))}{unit}</td>",
        f'<td class="share">{draw_share_bar(min(budget.share, Decimal(1)))}</td>',
        f"<td>{escape_markup(budget.per)}</td><td>{budget.resets:%Y-%m-%d %H:%M}</td>",
    )


def format_calls(figures: PageFigures) -> str:
    """Return the tables of the most expensive calls and of the last failures; one without rows is left out."""
    parts = ""
    if figures.expensive:
        body = "".join(_format_expensive(call) for call in figures.expensive)
        parts += format_scrolled("Most expensive calls", "long", _EXPENSIVE_HEADER, body)
    if figures.failed:
        body = "".join(_format_failed(call) for call in figures.failed)
        parts += format_scrolled("Last failures", "long", _FAILED_HEADER, body)
    return parts


def _format_expensive(call: CallSummary) -> str:
    counts = "".join(f"<td>{format_short(count)}</td>" for count in (call.input_tokens, call.output_tokens))
    cost = _UNKNOWN if call.cost is None else escape_markup(format_dollars(call.cost))
    return format_row(
        f"{call.at:%Y-%m-%d %H:%M:%S}",
        f"<td>{_format_name(call.requested)}</td><td>{_format_name(call.model)}</td>{counts}",
        f"<td>{format_seconds(call.duration)}</td><td>{cost}</td>",
    )


def _format_failed(call: CallSummary) -> str:
    attempts = ", ".join(
        f"{_format_name(model)} {escape_markup(error)}{f' {_TIMES}{count}' if count > 1 else ''}"
        for model, error, count in call.failures
    )
    return format_row(
        f"{call.at:%Y-%m-%d %H:%M:%S}",
        f'<td>{_format_name(call.requested)}</td><td class="failed">{escape_markup(call.error or "-")}</td>',
        f"<td>{attempts or '-'}</td><td>{format_seconds(call.duration)}</td>",
    )


def _format_name(name: str | None) -> str:
    return "-" if name is None else f"<bdi>{escape_markup(name)}</bdi>"
