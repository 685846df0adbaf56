"""The page of `modelhub usage --html`: one self-contained file without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from string import Template

from modelhub.accounting.location import LedgerLocation
from modelhub.accounting.options import SpendingOptions
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import format_count
from modelhub.cli.usage.page_calls import format_budgets, format_calls
from modelhub.cli.usage.page_chart import draw_chart, draw_share_bar
from modelhub.cli.usage.page_data import PageFigures, load_figures
from modelhub.cli.usage.page_hops import format_changes, format_hops
from modelhub.cli.usage.page_plots import make_charts
from modelhub.cli.usage.page_table import format_row, format_scrolled, hide_text
from modelhub.cli.usage.page_text import (
    APPROX,
    escape_markup,
    format_cost_total,
    format_percent,
    format_seconds,
    format_short,
)

__all__ = ["make_page"]

_MAX_ROWS = 20
_ESTIMATE_MARK = f'<abbr title="includes estimated figures">{APPROX}</abbr>'
_UNKNOWN_MARK = '<em class="unknown">unknown</em>'
_COUNT_HEADERS = ("Calls", "Failed", "Attempts", "Input", "Cached", "Output")


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
    style = _read_part("usage_page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Template(_read_part("usage_page.html")).substitute(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        style=style,
        ledger=escape_markup(ledger.name),
        period=_format_period(figures) + _format_filter(figures),
        made=f"{now:%Y-%m-%d %H:%M} UTC",
        content=_format_content(figures) if figures.bins else _format_empty(figures),
        notes="".join(f"<li>{note}</li>" for note in _make_notes(figures.overall.total)),
    )


def _read_part(name: str) -> str:
    return (files("modelhub.cli") / name).read_text(encoding="utf-8")


def _format_period(figures: PageFigures) -> str:
    if figures.since is not None:
        return f"since {figures.since:%Y-%m-%d %H:%M} UTC"
    return f"since the first call, {figures.bins[0].starts:%Y-%m-%d}" if figures.bins else "ever"


def _format_filter(figures: PageFigures) -> str:
    return "".join(f", only {escape_markup(name)} {escape_markup(value)}" for name, value in figures.only.items())


def _format_empty(figures: PageFigures) -> str:
    return (
        f'<section class="card blank"><h2>No calls {escape_markup(_format_period(figures))}</h2>'
        "<p>Every call is shown here once it is in the ledger. Look further back with <code>--since 30d</code> "
        "or <code>--since ever</code>.</p></section>"
    )


def _format_content(figures: PageFigures) -> str:
    plots = "".join(draw_chart(chart) for chart in make_charts(figures))
    tables = "".join(_format_table(by, totals) for by, totals in figures.tables.items())
    return (
        f'{_format_tiles(figures)}{format_budgets(figures.budgets)}<div class="charts">{plots}</div>{tables}'
        f"{format_hops(figures.hops)}{format_changes(figures.changes)}{format_calls(figures)}{_format_over_time(figures)}"
    )


def _format_tiles(figures: PageFigures) -> str:
    overall = figures.overall
    total, complete = overall.total, overall.outcomes["complete"]
    tiles = [
        ("Cost", _mark_estimate(total, format_cost_total(total)), _format_unpriced(total)),
        ("Calls", format_short(total.calls), f"{format_short(total.attempts)} attempts"),
        ("Failed", format_percent(total.failed, total.calls), f"{format_count(total.failed, 'call')}"),
        ("Fallback", format_percent(figures.fallbacks, complete), f"of {format_count(complete, 'answer')}"),
        (
            "From cache",
            format_percent(total.cache_read_tokens, total.input_tokens),
            f"{format_short(total.cache_read_tokens)} of the input",
        ),
        (
            "Tokens",
            _mark_estimate(total, format_short(total.total_tokens)),
            f"{format_short(total.input_tokens)} in, {format_short(total.output_tokens)} out",
        ),
        ("First token", format_seconds(overall.first_token.share(50)), _format_p95(overall.first_token.share(95))),
        ("Duration", format_seconds(overall.duration.share(50)), _format_p95(overall.duration.share(95))),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{figure}</dd><dd>{escape_markup(more)}</dd></div>" for name, figure, more in tiles
    )
    return f'<dl class="tiles card">{cells}</dl>'


def _format_p95(time: float | None) -> str:
    return "none was timed" if time is None else f"median; p95 {format_seconds(time)}"


def _format_unpriced(total: UsageTotals) -> str:
    if total.unpriced:
        return f"{format_count(total.unpriced, 'attempt')} without a price"
    return "all prices known"


def _mark_estimate(total: UsageTotals, figure: str) -> str:
    """Return *figure* as HTML, marked if it includes estimates or an unknown part."""
    known, plus, _ = figure.partition(" + unknown")
    if known == "unknown":
        return _UNKNOWN_MARK
    suffix = ' <em class="unknown">+ unknown</em>' if plus else ""
    return f"{_ESTIMATE_MARK if total.estimated else ''}{escape_markup(known)}{suffix}"


def _format_table(by: str, totals: dict[str, UsageTotals]) -> str:
    tag = by.removeprefix("tag:") if by.startswith("tag:") else None
    kind = f"tag <bdi>{escape_markup(tag)}</bdi>" if tag is not None else by
    rows = _make_rows(totals, "no such tag" if tag is not None else f"no {by}")
    money = any(total.known_cost for _, total in rows)
    sizes = [total.known_cost if money else Decimal(total.total_tokens) for _, total in rows]
    maximum = max(sizes, default=Decimal(0)) or Decimal(1)
    body = "".join(
        format_row(
            name,
            _format_cost_cell(total),
            f'<td class="share">{draw_share_bar(size / maximum)}</td>',
            _format_count_cells(total),
        )
        for (name, total), size in zip(rows, sizes, strict=True)
    )
    header = (hide_text(kind), "Cost", hide_text("share of cost" if money else "share of tokens"), *_COUNT_HEADERS)
    return format_scrolled(f"By {kind}", "sums", header, body)


def _make_rows(totals: dict[str, UsageTotals], absent: str) -> list[tuple[str, UsageTotals]]:
    """Return the first of *totals* with their names as HTML, and a row for all others together."""
    rows = [
        (f"<bdi>{escape_markup(name)}</bdi>" if name else f"<i>{absent}</i>", total) for name, total in totals.items()
    ]
    remaining = rows[_MAX_ROWS:]
    if not remaining:
        return rows
    others = UsageTotals()
    for _, total in remaining:
        others.add(total)
    return [*rows[:_MAX_ROWS], (f"<i>{format_count(len(remaining), 'other')}</i>", others)]


def _format_cost_cell(total: UsageTotals) -> str:
    return f"<td>{_mark_estimate(total, format_cost_total(total))}</td>"


def _format_count_cells(total: UsageTotals) -> str:
    failed = (
        f'<td class="failed">{total.failed:,} <small>{format_percent(total.failed, total.calls)}</small></td>'
        if total.failed
        else "<td>0</td>"
    )
    cached = format_percent(total.cache_read_tokens, total.input_tokens) if total.cache_read_tokens else ""
    tokens = "".join(
        f'<td title="{count:,}">{_mark_estimate(total, format_short(count)) if count else "0"}{share}</td>'
        for count, share in (
            (total.input_tokens, ""),
            (total.cache_read_tokens, f" <small>{escape_markup(cached)}</small>" if cached else ""),
            (total.output_tokens, ""),
        )
    )
    return f"<td>{total.calls:,}</td>{failed}<td>{total.attempts:,}</td>{tokens}"


def _format_over_time(figures: PageFigures) -> str:
    """Format the data of the charts as a table."""
    header = ("From (UTC)", "Cost", *_COUNT_HEADERS, "First token p50", "p95", "Duration p50", "p95")
    rows = []
    for bucket in figures.bins:
        shares = [times.share(percent) for times in (bucket.first_token, bucket.duration) for percent in (50, 95)]
        cells = "".join(f"<td>{format_seconds(seconds)}</td>" for seconds in shares)
        cost, counts = _format_cost_cell(bucket.total), _format_count_cells(bucket.total)
        rows.append(format_row(f"{bucket.starts:%Y-%m-%d %H:%M}", cost, counts, cells))
    table = format_scrolled("Figures over time", "long", header, "".join(rows))
    return f"<details><summary>All figures of the charts as a table</summary>{table}</details>"


def _make_notes(total: UsageTotals) -> list[str]:
    notes = [
        "Times are in UTC. First token and duration are those of completed calls.",
        "A call counts for the model of its last attempt; attempts, tokens and cost count for the attempt's model.",
    ]
    if total.unpriced:
        notes.append(
            f"{_UNKNOWN_MARK}: {format_count(total.unpriced, 'attempt')} without a known price. "
            "Their cost is not included in the sums."
        )
    if total.estimated:
        notes.append(
            f"{APPROX}: includes estimates, for {format_count(total.estimated, 'attempt')} without reported usage."
        )
    return notes
