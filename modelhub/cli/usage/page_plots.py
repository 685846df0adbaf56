"""The charts of the usage page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import format_count
from modelhub.cli.usage.page_chart import Chart, Series, Tip
from modelhub.cli.usage.page_data import Bin, PageFigures, Times
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
    series = _make_ranked_series([bucket.costs for bucket in figures.bins], figures.overall.costs, "c")
    return Chart(
        "cost",
        "Cost",
        f"{_describe_bins(figures)}, by model; {format_cost_total(total)} in all.",
        series,
        _make_labels(figures),
        _make_tips(
            figures,
            series,
            format_dollars,
            lambda bucket: _mark_estimate(bucket.total, format_cost_total(bucket.total)),
        ),
        format_dollars,
        "Nothing was charged.",
        total=escape_markup(_mark_estimate(total, format_cost_total(total))),
        unknown=[
            "" if not bucket.total.unpriced else "some" if bucket.total.known_cost else "all" for bucket in figures.bins
        ],
    )


def _make_token_chart(figures: PageFigures) -> Chart:
    totals = [bucket.total for bucket in figures.bins]
    series = [
        Series("input", "c0", [max(0, bucket.input_tokens - bucket.cache_read_tokens) for bucket in totals]),
        Series("input from cache", "c1", [bucket.cache_read_tokens for bucket in totals]),
        Series("output", "c3", [bucket.output_tokens for bucket in totals]),
    ]
    total = figures.overall.total
    return Chart(
        "tokens",
        "Tokens",
        f"{_describe_bins(figures)}; {format_short(total.total_tokens)} in all.",
        series,
        _make_labels(figures),
        _make_tips(
            figures,
            series,
            format_short,
            lambda bucket: _mark_estimate(bucket.total, format_short(bucket.total.total_tokens)),
        ),
        format_short,
        "No tokens were counted.",
        total=escape_markup(_mark_estimate(total, format_short(total.total_tokens))),
    )


def _make_time_chart(figures: PageFigures, name: str, title: str, times: Callable[[Bin], Times]) -> Chart:
    series = [
        Series("p50", "c0", [times(bucket).share(50) for bucket in figures.bins]),
        Series("p95", "c3", [times(bucket).share(95) for bucket in figures.bins]),
    ]
    median, p95 = times(figures.overall).share(50), times(figures.overall).share(95)
    summary = f"p50 {format_seconds(median)}, p95 {format_seconds(p95)}" if median is not None else ""
    return Chart(
        name,
        title,
        f"{_describe_bins(figures)}; {summary or 'none was timed'} over the whole time.",
        series,
        _make_labels(figures),
        _make_tips(
            figures,
            series,
            format_seconds,
            lambda bucket: format_count(len(times(bucket).seconds), "call") + " timed",
        ),
        format_seconds,
        "No call was timed.",
        total=summary,
        lines=True,
    )


def _make_call_chart(figures: PageFigures) -> Chart:
    colours = {"complete": "c1", "closed": "c0", "cancelled": "c4", "abandoned": "other", "failed": "f0"}
    outcomes = figures.overall.outcomes
    series = [
        Series(name, colours.get(name, _OTHER_CLASS), [bucket.outcomes[name] for bucket in figures.bins])
        for name in sorted(outcomes, key=lambda name: ([*colours, name].index(name), name))
    ]
    summary = format_count(figures.overall.total.calls, "call")
    return Chart(
        "calls",
        "Calls",
        f"{_describe_bins(figures)}, by how they ended; {summary} in all.",
        series,
        _make_labels(figures),
        _make_tips(figures, series, format_short, lambda bucket: format_count(bucket.total.calls, "call")),
        format_short,
        "No calls.",
        total=summary,
        integers=True,
    )


def _make_failure_chart(figures: PageFigures) -> Chart:
    overall = figures.overall
    series = _make_ranked_series([bucket.errors for bucket in figures.bins], overall.errors, "f")
    summary = (
        f"{format_count(overall.total.failed, 'call')}, {format_percent(overall.total.failed, overall.total.calls)}"
    )
    return Chart(
        "failures",
        "Failed calls",
        f"{_describe_bins(figures)}, by reason; {summary} of all calls.",
        series,
        _make_labels(figures),
        _make_tips(figures, series, format_short, _format_failed),
        format_short,
        "No call failed.",
        total=summary,
        integers=True,
    )


def _format_failed(bucket: Bin) -> str:
    failed, calls = bucket.total.failed, bucket.total.calls
    return f"{failed:,} of {calls:,}, {format_percent(failed, calls)}"


def _make_ranked_series(
    bins: Sequence[Mapping[str, Decimal | int]], totals: Mapping[str, Decimal | int], colour: str
) -> list[Series]:
    """Make a series for each of the largest, and one for all others."""
    names = sorted((name for name in totals if totals[name]), key=lambda name: (-totals[name], name))
    if len(names) > _MAX_COLOURS + 1:
        names = names[:_MAX_COLOURS]
    series = [
        Series(
            name,
            f"{colour}{at}" if at < _MAX_COLOURS else _OTHER_CLASS,
            [float(bucket.get(name, 0)) for bucket in bins],
        )
        for at, name in enumerate(names)
    ]
    remaining = [name for name in totals if totals[name] and name not in names]
    if remaining:
        values = [float(sum((Decimal(bucket.get(name, 0)) for name in remaining), Decimal(0))) for bucket in bins]
        series.append(Series(f"{len(remaining):,} others", _OTHER_CLASS, values))
    return series


def _make_tips(
    figures: PageFigures, series: Sequence[Series], form: Callable[[float], str], describe: Callable[[Bin], str]
) -> list[tuple[str, list[Tip]]]:
    """Make the tooltip of each bin: its time, its total and its parts."""
    tips = []
    for at, bucket in enumerate(figures.bins):
        rows = [(part.colour, part.name, form(value)) for part in series if (value := part.values[at])]
        heading = describe(bucket) if bucket.total.calls or bucket.total.attempts else "no calls"
        tips.append((format_time_span(bucket.starts, figures.step), [("", heading, ""), *rows]))
    return tips


def _mark_estimate(total: UsageTotals, figure: str) -> str:
    return f"{APPROX}{figure}" if total.estimated and figure != "unknown" else figure


def _describe_bins(figures: PageFigures) -> str:
    hours = int(figures.step / timedelta(hours=1))
    words = {1: "hour", 24: "day", 168: "week"}
    span = words.get(hours) or (f"{hours} hours" if hours < 24 else "4 weeks")
    first, last = figures.bins[0].starts, figures.bins[-1].starts
    return f"For each {span} from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _make_labels(figures: PageFigures) -> list[str]:
    first, last = figures.bins[0].starts, figures.bins[-1].starts
    if last - first < _DAY * 2:
        return [f"{bucket.starts:%H:%M}" for bucket in figures.bins]
    if last - first < _DAY * 300:
        return [f"{bucket.starts.day} {bucket.starts:%b}" for bucket in figures.bins]
    return [f"{bucket.starts:%b %Y}" for bucket in figures.bins]


def format_time_span(starts: datetime, step: timedelta) -> str:
    """Format the interval of length *step* that begins at *starts*."""
    day = f"{starts:%a} {starts.day} {starts:%b}"
    if step < _DAY:
        return f"{day}, {starts:%H:%M}\N{EN DASH}{starts + step:%H:%M}"
    if step == _DAY:
        return f"{day} {starts.year}"
    last = starts + step - _DAY
    return f"{starts.day} {starts:%b} \N{EN DASH} {last.day} {last:%b} {last.year}"
