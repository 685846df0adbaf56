"""The page of `modelhub usage --html`: one self-contained file without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from importlib.resources import files
from string import Template

from modelhub.accounting.ledger_location import LedgerLocation
from modelhub.accounting.options import SpendingOptions
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import format_count
from modelhub.cli.usage import page_tables as tables
from modelhub.cli.usage.page_charts import make_charts
from modelhub.cli.usage.page_data import PageFigures, load_figures
from modelhub.cli.usage.page_svg import draw_chart
from modelhub.cli.usage.page_text import (
    APPROX,
    UNKNOWN_MARK,
    escape_markup,
    format_cost_total,
    format_percent,
    format_seconds,
    format_short,
    mark_estimate,
)

__all__ = ["make_page"]


def make_page(
    ledger: LedgerLocation,
    since: datetime | None,
    now: datetime,
    *,
    only: Mapping[str, str] | None = None,
    budgets: Mapping[str, SpendingOptions] | None = None,
) -> str:
    """Make the page about the calls in *ledger* from *since* on, and the state of *budgets*.

    *only* is what the calls must have, as in `filter_calls`. Raises LedgerError if *ledger* is no ledger.
    """
    figures = load_figures(ledger, since, now, only=only, budgets=budgets)
    style, page = ((files("modelhub.cli") / f"usage_page.{part}").read_text("utf-8") for part in ("css", "html"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    selected = "".join(f", only {escape_markup(name)} {escape_markup(value)}" for name, value in figures.only.items())
    return Template(page).substitute(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        style=style,
        ledger=escape_markup(ledger.name),
        period=_format_period(figures) + selected,
        made=f"{now:%Y-%m-%d %H:%M} UTC",
        content=_format_content(figures),
        notes="".join(f"<li>{note}</li>" for note in _make_notes(figures.overall.total)),
    )


def _format_period(figures: PageFigures) -> str:
    if figures.since is not None:
        return f"since {figures.since:%Y-%m-%d %H:%M} UTC"
    return f"since the first call, {figures.bins[0].starts:%Y-%m-%d}" if figures.bins else "ever"


def _format_content(figures: PageFigures) -> str:
    if not figures.bins:
        return (
            f'<section class="card blank"><h2>No calls {escape_markup(_format_period(figures))}</h2>'
            "<p>Every call is shown here once it is in the ledger. Look further back with <code>--since 30d</code> "
            "or <code>--since ever</code>.</p></section>"
        )
    parts = [
        _format_tiles(figures),
        tables.format_budgets(figures.budgets),
        f'<div class="charts">{"".join(draw_chart(chart) for chart in make_charts(figures))}</div>',
        *(tables.format_totals(by, totals) for by, totals in figures.tables.items()),
        tables.format_hops(figures.hops),
        tables.format_changes(figures.changes),
        tables.format_expensive_calls(figures.expensive),
        tables.format_failed_calls(figures.failed),
        tables.format_over_time(figures.bins),
    ]
    return "".join(parts)


def _format_tiles(figures: PageFigures) -> str:
    overall = figures.overall
    total, complete = overall.total, overall.outcomes["complete"]
    unpriced = f"{format_count(total.unpriced, 'attempt')} without a price" if total.unpriced else "all prices known"
    cached, tokens = format_short(total.cache_read_tokens), format_short(total.total_tokens)
    tiles = [
        ("Cost", mark_estimate(total, format_cost_total(total)), unpriced),
        ("Calls", format_short(total.calls), f"{format_short(total.attempts)} attempts"),
        ("Failed", format_percent(total.failed, total.calls), format_count(total.failed, "call")),
        ("Fallback", format_percent(figures.hops.hopped.calls, complete), f"of {format_count(complete, 'answer')}"),
        ("From cache", format_percent(total.cache_read_tokens, total.input_tokens), f"{cached} of the input"),
        (
            "Tokens",
            mark_estimate(total, tokens),
            f"{format_short(total.input_tokens)} in, {format_short(total.output_tokens)} out",
        ),
    ]
    for name, times in (("First token", overall.first_token), ("Duration", overall.duration)):
        p95 = times.share(95)
        more = "none was timed" if p95 is None else f"median; p95 {format_seconds(p95)}"
        tiles.append((name, format_seconds(times.share(50)), more))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{figure}</dd><dd>{escape_markup(more)}</dd></div>" for name, figure, more in tiles
    )
    return f'<dl class="tiles card">{cells}</dl>'


def _make_notes(total: UsageTotals) -> list[str]:
    notes = [
        "Times are in UTC. First token and duration are those of completed calls.",
        "A call counts for the model of its last attempt; attempts, tokens and cost count for the attempt's model.",
    ]
    if total.unpriced:
        notes.append(
            f"{UNKNOWN_MARK}: {format_count(total.unpriced, 'attempt')} without a known price. "
            "Their cost is not included in the sums."
        )
    if total.estimated:
        notes.append(
            f"{APPROX}: includes estimates, for {format_count(total.estimated, 'attempt')} without reported usage."
        )
    return notes
