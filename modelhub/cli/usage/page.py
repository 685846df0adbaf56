"""The page of `modelhub usage --html`: one file that needs nothing else, neither network nor scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from string import Template

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import counted
from modelhub.cli.usage.page_chart import drawn, share_bar
from modelhub.cli.usage.page_data import Bin, Figures, gather
from modelhub.cli.usage.page_plots import charts
from modelhub.cli.usage.page_text import ABOUT, cost, escaped, percent, seconds, short

__all__ = ["page"]

_MOST_ROWS = 20
_ESTIMATED = f'<abbr title="includes estimated figures">{ABOUT}</abbr>'
_UNKNOWN = '<em class="unknown">unknown</em>'
_COUNTS = ("Calls", "Failed", "Attempts", "Input", "Cached", "Output")


def page(ledger: Path, since: datetime | None, now: datetime) -> str:
    """The page about the calls in the file *ledger* from *since* on.

    Raises sqlite3.Error if *ledger* is no ledger.
    """
    figures = gather(ledger, since, now)
    style = _part("usage_page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return Template(_part("usage_page.html")).substitute(
        policy=f"default-src 'none'; style-src 'sha256-{digest}'",
        style=style,
        ledger=escaped(ledger.name),
        period=_period(figures),
        made=f"{now:%Y-%m-%d %H:%M} UTC",
        content=_content(figures) if figures.bins else _nothing(figures),
        notes="".join(f"<li>{note}</li>" for note in _notes(figures.whole.total)),
    )


def _part(name: str) -> str:
    return (files("modelhub.cli") / name).read_text(encoding="utf-8")


def _period(figures: Figures) -> str:
    if figures.since is not None:
        return f"since {figures.since:%Y-%m-%d %H:%M} UTC"
    return f"since the first call, {figures.bins[0].starts:%Y-%m-%d}" if figures.bins else "ever"


def _nothing(figures: Figures) -> str:
    return (
        f'<section class="card blank"><h2>No calls {escaped(_period(figures))}</h2>'
        "<p>Every call is shown here once it is in the ledger. Look further back with <code>--since 30d</code> "
        "or <code>--since ever</code>.</p></section>"
    )


def _content(figures: Figures) -> str:
    plots = "".join(drawn(chart) for chart in charts(figures))
    tables = "".join(_table(by, found) for by, found in figures.tables.items())
    return f'{_tiles(figures.whole)}<div class="charts">{plots}</div>{tables}{_over_time(figures)}'


def _tiles(whole: Bin) -> str:
    total = whole.total
    tiles = [
        ("Cost", _about(total, cost(total)), _unpriced(total)),
        ("Calls", short(total.calls), f"{short(total.attempts)} attempts"),
        ("Failed", percent(total.failed, total.calls), f"{counted(total.failed, 'call')}"),
        (
            "Tokens",
            _about(total, short(total.total_tokens)),
            f"{short(total.input_tokens)} in, {short(total.output_tokens)} out",
        ),
        ("First token", seconds(whole.first_token.share(50)), _slow(whole.first_token.share(95))),
        ("Duration", seconds(whole.duration.share(50)), _slow(whole.duration.share(95))),
    ]
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{figure}</dd><dd>{escaped(more)}</dd></div>" for name, figure, more in tiles
    )
    return f'<dl class="tiles card">{cells}</dl>'


def _slow(time: float | None) -> str:
    return "none was timed" if time is None else f"median; p95 {seconds(time)}"


def _unpriced(total: UsageTotals) -> str:
    if total.unpriced:
        return f"{counted(total.unpriced, 'attempt')} without a price"
    return "all prices known"


def _about(total: UsageTotals, figure: str) -> str:
    """*figure* as markup, marked if it includes estimates, or something that is not known."""
    known, plus, _ = figure.partition(" + unknown")
    if known == "unknown":
        return _UNKNOWN
    rest = ' <em class="unknown">+ unknown</em>' if plus else ""
    return f"{_ESTIMATED if total.estimated else ''}{escaped(known)}{rest}"


def _table(by: str, found: dict[str, UsageTotals]) -> str:
    tag = by.removeprefix("tag:") if by.startswith("tag:") else None
    kind = f"tag <bdi>{escaped(tag)}</bdi>" if tag is not None else by
    rows = _rows(found, "no such tag" if tag is not None else f"no {by}")
    money = any(total.known_cost for _, total in rows)
    sizes = [total.known_cost if money else Decimal(total.total_tokens) for _, total in rows]
    most = max(sizes, default=Decimal(0)) or Decimal(1)
    body = "".join(
        _row(name, _cost(total), f'<td class="share">{share_bar(size / most)}</td>', _counts(total))
        for (name, total), size in zip(rows, sizes, strict=True)
    )
    header = (_hidden(kind), "Cost", _hidden("share of cost" if money else "share of tokens"), *_COUNTS)
    return _scrolled(f"By {kind}", "sums", header, body)


def _rows(found: dict[str, UsageTotals], absent: str) -> list[tuple[str, UsageTotals]]:
    """The first of *found* with their names as markup, and all others together."""
    rows = [(f"<bdi>{escaped(name)}</bdi>" if name else f"<i>{absent}</i>", total) for name, total in found.items()]
    rest = rows[_MOST_ROWS:]
    if not rest:
        return rows
    others = UsageTotals()
    for _, total in rest:
        others.add(total)
    return [*rows[:_MOST_ROWS], (f"<i>{counted(len(rest), 'other')}</i>", others)]


def _hidden(text: str) -> str:
    """A header that is read aloud, not seen."""
    return f'<span class="hidden">{text}</span>'


def _row(name: str, *cells: str) -> str:
    return f'<tr><th scope="row">{name}</th>{"".join(cells)}</tr>'


def _cost(total: UsageTotals) -> str:
    return f"<td>{_about(total, cost(total))}</td>"


def _counts(total: UsageTotals) -> str:
    failed = (
        f'<td class="failed">{total.failed:,} <small>{percent(total.failed, total.calls)}</small></td>'
        if total.failed
        else "<td>0</td>"
    )
    tokens = "".join(
        f'<td title="{count:,}">{_about(total, short(count)) if count else "0"}</td>'
        for count in (total.input_tokens, total.cache_read_tokens, total.output_tokens)
    )
    return f"<td>{total.calls:,}</td>{failed}<td>{total.attempts:,}</td>{tokens}"


def _scrolled(title: str, kind: str, header: Sequence[str], body: str) -> str:
    heads = "".join(f'<th scope="col">{name}</th>' for name in header)
    return (
        f'<section class="card"><div class="scrolled" tabindex="0"><table class="{kind}"><caption>{title}</caption>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div></section>"
    )


def _over_time(figures: Figures) -> str:
    """What the charts show, as a table for those who read it better."""
    header = ("From (UTC)", "Cost", *_COUNTS, "First token p50", "p95", "Duration p50", "p95")
    rows = []
    for one in figures.bins:
        times = (one.first_token.share(50), one.first_token.share(95), one.duration.share(50), one.duration.share(95))
        cells = "".join(f"<td>{seconds(time)}</td>" for time in times)
        rows.append(
            f'<tr><th scope="row">{one.starts:%Y-%m-%d %H:%M}</th>{_cost(one.total)}{_counts(one.total)}{cells}</tr>'
        )
    table = _scrolled("Figures over time", "long", header, "".join(rows))
    return f"<details><summary>All figures of the charts as a table</summary>{table}</details>"


def _notes(total: UsageTotals) -> list[str]:
    notes = [
        "Times are in UTC. First token and duration are those of completed calls.",
        "A call counts for the model asked last; attempts, tokens and cost count for the model that was asked.",
    ]
    if total.unpriced:
        notes.append(
            f"{_UNKNOWN}: {counted(total.unpriced, 'attempt')} without a known price. "
            "What they cost is missing from the sums, it is not nothing."
        )
    if total.estimated:
        notes.append(
            f"{ABOUT}: includes estimates, for {counted(total.estimated, 'attempt')} without the vendor's figures."
        )
    return notes
