"""The charts of the usage page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import format_count
from modelhub.cli.usage.page_data import Bin, PageFigures, Times
from modelhub.cli.usage.page_svg import Chart, Series, Tip
from modelhub.cli.usage.page_text import (
    APPROX,
    escape_markup,
    format_cost_total,
    format_dollars,
    format_percent,
    format_seconds,
    format_short,
)

__all__ = ["make_charts"]

_MAX_COLOURS = 5
_OTHER_CLASS = "other"
_DAY = timedelta(days=1)


def make_charts(figures: PageFigures) -> list[Chart]:
    """Make the charts of cost, tokens, times, calls and failures."""
    return [
        _make_cost_chart(figures),
        _make_token_chart(figures),
        _make_time_chart(figures, "first", "Time to first token", lambda bucket: bucket.first_token),
        _make_time_chart(figures, "duration", "Duration", lambda bucket: bucket.duration),
        _make_call_chart(figures),
        _make_failure_chart(figures),
    ]


def _make_cost_chart(figures: PageFigures) -> Chart:
    total = figures.overall.total
    return _make_chart(
        figures,
        "cost",
        "Cost",
        _make_ranked_series([bucket.costs for bucket in figures.bins], figures.overall.costs, "c"),
        about=f", by model; {format_cost_total(total)} in all.",
        form=format_dollars,
        describe=lambda bucket: _mark_estimate(bucket.total, format_cost_total(bucket.total)),
        empty="Nothing was charged.",
        total=escape_markup(_mark_estimate(total, format_cost_total(total))),
        unknown=[
            "" if not bucket.total.unpriced else "some" if bucket.total.known_cost else "all" for bucket in figures.bins
        ],
    )


def _make_token_chart(figures: PageFigures) -> Chart:
    totals = [bucket.total for bucket in figures.bins]
    total = figures.overall.total
    return _make_chart(
        figures,
        "tokens",
        "Tokens",
        [
            Series("input", "c0", [max(0, bucket.input_tokens - bucket.cache_read_tokens) for bucket in totals]),
            Series("input from cache", "c1", [bucket.cache_read_tokens for bucket in totals]),
            Series("output", "c3", [bucket.output_tokens for bucket in totals]),
        ],
        about=f"; {format_short(total.total_tokens)} in all.",
        form=format_short,
        describe=lambda bucket: _mark_estimate(bucket.total, format_short(bucket.total.total_tokens)),
        empty="No tokens were counted.",
        total=escape_markup(_mark_estimate(total, format_short(total.total_tokens))),
    )


def _make_time_chart(figures: PageFigures, name: str, title: str, times: Callable[[Bin], Times]) -> Chart:
    median, p95 = times(figures.overall).share(50), times(figures.overall).share(95)
    summary = f"p50 {format_seconds(median)}, p95 {format_seconds(p95)}" if median is not None else ""
    return _make_chart(
        figures,
        name,
        title,
        [
            Series("p50", "c0", [times(bucket).share(50) for bucket in figures.bins]),
            Series("p95", "c3", [times(bucket).share(95) for bucket in figures.bins]),
        ],
        about=f"; {summary or 'none was timed'} over the whole time.",
        form=format_seconds,
        describe=lambda bucket: f"{format_count(len(times(bucket).seconds), 'call')} timed",
        empty="No call was timed.",
        total=summary,
        lines=True,
    )


def _make_call_chart(figures: PageFigures) -> Chart:
    colours = {"complete": "c1", "closed": "c0", "cancelled": "c4", "abandoned": _OTHER_CLASS, "failed": "f0"}
    outcomes = sorted(figures.overall.outcomes, key=lambda name: ([*colours, name].index(name), name))
    total = format_count(figures.overall.total.calls, "call")
    return _make_chart(
        figures,
        "calls",
        "Calls",
        [
            Series(name, colours.get(name, _OTHER_CLASS), [bucket.outcomes[name] for bucket in figures.bins])
            for name in outcomes
        ],
        about=f", by how they ended; {total} in all.",
        form=format_short,
        describe=lambda bucket: format_count(bucket.total.calls, "call"),
        empty="No calls.",
        total=total,
        integers=True,
    )


def _make_failure_chart(figures: PageFigures) -> Chart:
    failed, calls = figures.overall.total.failed, figures.overall.total.calls
    total = f"{format_count(failed, 'call')}, {format_percent(failed, calls)}"

    def describe(bucket: Bin) -> str:
        failed, calls = bucket.total.failed, bucket.total.calls
        return f"{failed:,} of {calls:,}, {format_percent(failed, calls)}"

    return _make_chart(
        figures,
        "failures",
        "Failed calls",
        _make_ranked_series([bucket.errors for bucket in figures.bins], figures.overall.errors, "f"),
        about=f", by reason; {total} of all calls.",
        form=format_short,
        describe=describe,
        empty="No call failed.",
        total=total,
        integers=True,
    )


def _make_chart(
    figures: PageFigures,
    name: str,
    title: str,
    series: Sequence[Series],
    *,
    about: str,
    form: Callable[[float], str],
    describe: Callable[[Bin], str],
    **options: Any,
) -> Chart:
    """Return a chart of *series*, with a label and a tooltip for each bin: its time, its description and its parts.

    *about* goes on with the text for screen readers, after what a bin is; *form* formats the values.
    """
    first, last = figures.bins[0].starts, figures.bins[-1].starts
    hours = int(figures.step / timedelta(hours=1))
    span = {1: "hour", 24: "day", 168: "week"}.get(hours) or (f"{hours} hours" if hours < 24 else "4 weeks")
    period = f"For each {span} from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
    tips: list[tuple[str, list[Tip]]] = []
    for index, bucket in enumerate(figures.bins):
        rows = [(part.colour, part.name, form(value)) for part in series if (value := part.values[index])]
        heading = describe(bucket) if bucket.total.calls or bucket.total.attempts else "no calls"
        tips.append((_format_time_span(bucket.starts, figures.step), [("", heading, ""), *rows]))
    return Chart(name, title, f"{period}{about}", series, _make_labels(figures), tips, form, **options)


def _mark_estimate(total: UsageTotals, figure: str) -> str:
    return f"{APPROX}{figure}" if total.estimated and figure != "unknown" else figure


def _make_labels(figures: PageFigures) -> list[str]:
    length = figures.bins[-1].starts - figures.bins[0].starts
    if length < _DAY * 2:
        return [f"{bucket.starts:%H:%M}" for bucket in figures.bins]
    if length < _DAY * 300:
        return [f"{bucket.starts.day} {bucket.starts:%b}" for bucket in figures.bins]
    return [f"{bucket.starts:%b %Y}" for bucket in figures.bins]


def _format_time_span(starts: datetime, step: timedelta) -> str:
    """Format the interval of length *step* that begins at *starts*."""
    day = f"{starts:%a} {starts.day} {starts:%b}"
    if step < _DAY:
        return f"{day}, {starts:%H:%M}\N{EN DASH}{starts + step:%H:%M}"
    if step == _DAY:
        return f"{day} {starts.year}"
    last = starts + step - _DAY
    return f"{starts.day} {starts:%b} \N{EN DASH} {last.day} {last:%b} {last.year}"


def _make_ranked_series(
    bins: Sequence[Mapping[str, Decimal | int]], totals: Mapping[str, Decimal | int], colour: str
) -> list[Series]:
    """Make a series for each of the largest, and one for all others."""
    names = sorted((name for name in totals if totals[name]), key=lambda name: (-totals[name], name))
    if len(names) > _MAX_COLOURS + 1:
        names = names[:_MAX_COLOURS]
    series = []
    for rank, name in enumerate(names):
        rank_class = f"{colour}{rank}" if rank < _MAX_COLOURS else _OTHER_CLASS
        series.append(Series(name, rank_class, [float(bucket.get(name, 0)) for bucket in bins]))
    remaining = [name for name in totals if totals[name] and name not in names]
    if remaining:
        values = [float(sum((Decimal(bucket.get(name, 0)) for name in remaining), Decimal(0))) for bucket in bins]
        series.append(Series(f"{len(remaining):,} others", _OTHER_CLASS, values))
    return series
