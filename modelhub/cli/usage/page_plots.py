"""Which charts the usage page has, and what each shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.output import counted
from modelhub.cli.usage.page_chart import Chart, Series, Tip
from modelhub.cli.usage.page_data import Bin, Figures, Times
from modelhub.cli.usage.page_text import ABOUT, cost, dollars, escaped, percent, seconds, short

__all__ = ["charts"]

_MOST_COLOURS = 5
_OTHER = "other"
_DAY = timedelta(days=1)


def charts(figures: Figures) -> list[Chart]:
    """Cost, tokens, times, calls and failures."""
    return [
        _cost(figures),
        _tokens(figures),
        _times(figures, "first", "Time to first token", lambda one: one.first_token),
        _times(figures, "duration", "Duration", lambda one: one.duration),
        _calls(figures),
        _failures(figures),
    ]


def _cost(figures: Figures) -> Chart:
    total = figures.whole.total
    series = _ranked([one.costs for one in figures.bins], figures.whole.costs, "c")
    return Chart(
        "cost",
        "Cost",
        f"{_each(figures)}, by model; {cost(total)} in all.",
        series,
        _labels(figures),
        _tips(figures, series, dollars, lambda one: _about(one.total, cost(one.total))),
        dollars,
        "Nothing was charged.",
        total=escaped(_about(total, cost(total))),
        unknown=["" if not one.total.unpriced else "some" if one.total.known_cost else "all" for one in figures.bins],
    )


def _tokens(figures: Figures) -> Chart:
    totals = [one.total for one in figures.bins]
    series = [
        Series("input", "c0", [max(0, one.input_tokens - one.cache_read_tokens) for one in totals]),
        Series("input from cache", "c1", [one.cache_read_tokens for one in totals]),
        Series("output", "c3", [one.output_tokens for one in totals]),
    ]
    whole = figures.whole.total
    return Chart(
        "tokens",
        "Tokens",
        f"{_each(figures)}; {short(whole.total_tokens)} in all.",
        series,
        _labels(figures),
        _tips(figures, series, short, lambda one: _about(one.total, short(one.total.total_tokens))),
        short,
        "No tokens were counted.",
        total=escaped(_about(whole, short(whole.total_tokens))),
    )


def _times(figures: Figures, name: str, title: str, times: Callable[[Bin], Times]) -> Chart:
    series = [
        Series("p50", "c0", [times(one).share(50) for one in figures.bins]),
        Series("p95", "c3", [times(one).share(95) for one in figures.bins]),
    ]
    half, most = times(figures.whole).share(50), times(figures.whole).share(95)
    told = f"p50 {seconds(half)}, p95 {seconds(most)}" if half is not None else ""
    return Chart(
        name,
        title,
        f"{_each(figures)}; {told or 'none was timed'} over the whole time.",
        series,
        _labels(figures),
        _tips(figures, series, seconds, lambda one: counted(len(times(one).found), "call") + " timed"),
        seconds,
        "No call was timed.",
        total=told,
        lines=True,
    )


def _calls(figures: Figures) -> Chart:
    colours = {"complete": "c1", "closed": "c0", "cancelled": "c4", "abandoned": "other", "failed": "f0"}
    known = figures.whole.outcomes
    series = [
        Series(name, colours.get(name, _OTHER), [one.outcomes[name] for one in figures.bins])
        for name in sorted(known, key=lambda name: ([*colours, name].index(name), name))
    ]
    told = counted(figures.whole.total.calls, "call")
    return Chart(
        "calls",
        "Calls",
        f"{_each(figures)}, by how they ended; {told} in all.",
        series,
        _labels(figures),
        _tips(figures, series, short, lambda one: counted(one.total.calls, "call")),
        short,
        "No calls.",
        total=told,
        whole=True,
    )


def _failures(figures: Figures) -> Chart:
    whole = figures.whole
    series = _ranked([one.errors for one in figures.bins], whole.errors, "f")
    told = f"{counted(whole.total.failed, 'call')}, {percent(whole.total.failed, whole.total.calls)}"
    return Chart(
        "failures",
        "Failed calls",
        f"{_each(figures)}, by reason; {told} of all calls.",
        series,
        _labels(figures),
        _tips(figures, series, short, _failed),
        short,
        "No call failed.",
        total=told,
        whole=True,
    )


def _failed(one: Bin) -> str:
    return f"{one.total.failed:,} of {one.total.calls:,}, {percent(one.total.failed, one.total.calls)}"


def _ranked(
    bins: Sequence[Mapping[str, Decimal | int]], whole: Mapping[str, Decimal | int], colour: str
) -> list[Series]:
    """A series for each of the largest, and one for all others."""
    names = sorted((name for name in whole if whole[name]), key=lambda name: (-whole[name], name))
    if len(names) > _MOST_COLOURS + 1:
        names = names[:_MOST_COLOURS]
    series = [
        Series(name, f"{colour}{at}" if at < _MOST_COLOURS else _OTHER, [float(one.get(name, 0)) for one in bins])
        for at, name in enumerate(names)
    ]
    rest = [name for name in whole if whole[name] and name not in names]
    if rest:
        values = [float(sum((Decimal(one.get(name, 0)) for name in rest), Decimal(0))) for one in bins]
        series.append(Series(f"{len(rest):,} others", _OTHER, values))
    return series


def _tips(
    figures: Figures, series: Sequence[Series], form: Callable[[float], str], whole: Callable[[Bin], str]
) -> list[tuple[str, list[Tip]]]:
    """For each bin: when it is, the whole of it, and its parts."""
    found = []
    for at, one in enumerate(figures.bins):
        rows = [(part.colour, part.name, form(value)) for part in series if (value := part.values[at])]
        told = whole(one) if one.total.calls or one.total.attempts else "no calls"
        found.append((when(one.starts, figures.step), [("", told, ""), *rows]))
    return found


def _about(total: UsageTotals, figure: str) -> str:
    return f"{ABOUT}{figure}" if total.estimated and figure != "unknown" else figure


def _each(figures: Figures) -> str:
    hours = int(figures.step / timedelta(hours=1))
    words = {1: "hour", 24: "day", 168: "week"}
    span = words.get(hours) or (f"{hours} hours" if hours < 24 else "4 weeks")
    first, last = figures.bins[0].starts, figures.bins[-1].starts
    return f"For each {span} from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"


def _labels(figures: Figures) -> list[str]:
    first, last = figures.bins[0].starts, figures.bins[-1].starts
    if last - first < _DAY * 2:
        return [f"{one.starts:%H:%M}" for one in figures.bins]
    if last - first < _DAY * 300:
        return [f"{one.starts.day} {one.starts:%b}" for one in figures.bins]
    return [f"{one.starts:%b %Y}" for one in figures.bins]


def when(starts: datetime, step: timedelta) -> str:
    """The stretch of time that *starts* then."""
    day = f"{starts:%a} {starts.day} {starts:%b}"
    if step < _DAY:
        return f"{day}, {starts:%H:%M}\N{EN DASH}{starts + step:%H:%M}"
    if step == _DAY:
        return f"{day} {starts.year}"
    last = starts + step - _DAY
    return f"{starts.day} {starts:%b} \N{EN DASH} {last.day} {last:%b} {last.year}"
