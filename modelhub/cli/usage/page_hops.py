"""The parts of the usage page about hops to other models, and about parameters that models did not take, as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from modelhub.accounting.hops import HopFigures, ParameterChange
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.usage.page_table import format_row, format_scrolled, hide_text
from modelhub.cli.usage.page_text import escape_markup, format_dollars, format_percent

__all__ = ["format_changes", "format_hops"]

_HOPS_HEADER = ("Answers", "Cost of each", "Input from cache")
_CHANGES_HEADER = ("Model", hide_text("what became of it"), "Attempts", "Why, or how")
_MAX_CHANGES = 20
_UNKNOWN = '<em class="unknown">unknown</em>'


def format_hops(figures: HopFigures) -> str:
    """Return the table that compares answers after a hop to another model with others, or nothing without a hop."""
    if not figures.hopped.calls:
        return ""
    rows = (("after a hop to another model", figures.hopped), ("from the model asked first", figures.direct))
    body = "".join(_format_hop(name, total) for name, total in rows if total.calls)
    return format_scrolled("What a hop costs", "hops", (hide_text("answers"), *_HOPS_HEADER), body)


def _format_hop(name: str, total: UsageTotals) -> str:
    cost = _UNKNOWN if total.unpriced else escape_markup(format_dollars(total.known_cost / total.calls))
    share = format_percent(total.cache_read_tokens, total.input_tokens)
    return format_row(name, f"<td>{total.calls:,}</td><td>{cost}</td><td>{escape_markup(share)}</td>")


def format_changes(changes: Sequence[ParameterChange]) -> str:
    """Return the table of parameters that were left out or changed for models, or nothing if there are none."""
    if not changes:
        return ""
    body = "".join(_format_change(change) for change in changes[:_MAX_CHANGES])
    if (others := len(changes) - _MAX_CHANGES) > 0:
        body += format_row(f"<i>{others:,} more</i>", "<td></td>" * len(_CHANGES_HEADER))
    return format_scrolled(
        "Parameters that models did not take", "long", (hide_text("parameter"), *_CHANGES_HEADER), body
    )


def _format_change(change: ParameterChange) -> str:
    return format_row(
        f"<bdi>{escape_markup(change.parameter)}</bdi>",
        f"<td><bdi>{escape_markup(change.model)}</bdi></td>",
        f"<td>{'left out' if change.is_dropped else 'changed'}</td><td>{change.attempts:,}</td>",
        f"<td>{escape_markup(change.detail)}</td>",
    )
