"""Charts of the usage page, as inline SVG: no scripts, and no styles but those of the page's sheet.

A chart is as wide as its place. Its text keeps its size, because everything is placed in per cent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby

from modelhub.cli.usage.page_text import escaped

__all__ = ["Chart", "Series", "Tip", "drawn", "share_bar"]

_HATCH = """<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<line class="hatch" x1="0" x2="0" y1="0" y2="6"/></pattern></defs>"""
_LABELS = 6
_SHORT = 8  # letters of a figure that fit beside the axis
_FILLED = 0.74  # how much of its room a bar takes
Tip = tuple[str, str, str]
"""A line of what is shown for a bin: the colour's class, a name, a figure."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one colour, a value for each bin; None is a gap."""

    name: str
    colour: str
    values: Sequence[float | None]


@dataclass(slots=True)
class Chart:
    """What is drawn: bars that stand on each other, or (`lines`) a lower and an upper line with a band between them.

    `unknown` marks the bins that lack something, "some" or "all" of it; `empty` says why nothing is drawn.
    """

    name: str
    title: str
    about: str
    series: Sequence[Series]
    labels: Sequence[str]
    tips: Sequence[tuple[str, Sequence[Tip]]]
    form: Callable[[float], str]
    empty: str
    total: str = ""
    lines: bool = False
    whole: bool = False
    unknown: Sequence[str] = field(default_factory=tuple)


def drawn(chart: Chart) -> str:
    """The chart as a `<figure>`."""
    most = _most(chart)
    unknown = any(chart.unknown)
    plot = _plot(chart, most) if most or unknown else f'<p class="nothing">{escaped(chart.empty)}</p>'
    return (
        f'<figure class="card"><figcaption><h2 id="{chart.name}">{escaped(chart.title)}</h2>'
        f'<p class="total">{chart.total}</p></figcaption>{_legend(chart, unknown) if most or unknown else ""}{plot}'
        f"</figure>"
    )


def _most(chart: Chart) -> float:
    columns = zip(*(series.values for series in chart.series), strict=True)
    combined = max if chart.lines else sum
    return max((combined([value or 0.0 for value in column]) for column in columns), default=0.0)


def _legend(chart: Chart, unknown: bool) -> str:
    keys = [(series.colour, series.name) for series in chart.series]
    if unknown:
        keys.append(("unknown", "cost unknown"))
    items = "".join(f'<li><i class="{colour}"></i><bdi>{escaped(name)}</bdi></li>' for colour, name in keys)
    return f'<ul class="legend">{items}</ul>'


def _plot(chart: Chart, most: float) -> str:
    ticks = _ticks(most, chart.whole) if most else [0.0, 1.0]
    top = ticks[-1]
    marks = _unknown(chart) + (_lines(chart, top) if chart.lines else _bars(chart, top))
    axis = _grid(chart, ticks if most else [0.0]) + _times(chart.labels)
    wide = " wide" if max(len(chart.form(tick)) for tick in ticks) > _SHORT else ""
    return (
        f'<div class="plot{wide}"><svg role="img" aria-labelledby="{chart.name}-title {chart.name}-about">'
        f'<title id="{chart.name}-title">{escaped(chart.title)}</title>'
        f'<desc id="{chart.name}-about">{escaped(chart.about)}</desc>{axis}{marks}</svg>{_hits(chart)}</div>'
    )


def _ticks(most: float, whole: bool) -> list[float]:
    """Round numbers from 0 to *most* or a little more, about four."""
    rough = most / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    return [step * number for number in range(math.ceil(most / step * 0.999) + 1)]


def _grid(chart: Chart, ticks: Sequence[float]) -> str:
    found = []
    for tick in ticks:
        y = _number(100 - 100 * tick / (ticks[-1] or 1))
        found.append(
            f'<line class="{"base" if not tick else "grid"}" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>'
            f'<text class="y" x="-8" y="{y}%" dy="4">{escaped(chart.form(tick))}</text>'
        )
    return "".join(found)


def _times(labels: Sequence[str]) -> str:
    every = max(1, math.ceil(len(labels) / _LABELS))
    found = []
    for number, at in enumerate(range(0, len(labels), every)):
        x = _number((at + 0.5) * 100 / len(labels))
        found.append(f'<text class="x{" odd" if number % 2 else ""}" x="{x}%" y="100%" dy="18">{labels[at]}</text>')
    return "".join(found)


def _bars(chart: Chart, top: float) -> str:
    room = 100 / len(chart.labels)
    heights = [0.0] * len(chart.labels)
    found = []
    for series in chart.series:
        for at, value in enumerate(series.values):
            if not value:
                continue
            height = 100 * value / top
            heights[at] += height
            x = room * (at + (1 - _FILLED) / 2)
            found.append(
                f'<rect class="{series.colour}" x="{_number(x)}%" y="{_number(100 - heights[at])}%" '
                f'width="{_number(room * _FILLED)}%" height="{_number(height)}%"/>'
            )
    return "".join(found)


def _unknown(chart: Chart) -> str:
    """A hatched column where nothing is known, and a mark under the base where something is not."""
    if not any(chart.unknown):
        return ""
    room = 100 / len(chart.labels)
    found = [_HATCH]
    for at, how in enumerate(chart.unknown):
        x, width = _number(room * (at + (1 - _FILLED) / 2)), _number(room * _FILLED)
        if how == "all":
            found.append(f'<rect x="{x}%" y="0" width="{width}%" height="100%" fill="url(#hatch)"/>')
        if how:
            found.append(f'<rect class="unknown" x="{x}%" y="100%" width="{width}%" height="4"/>')
    return "".join(found)


def _lines(chart: Chart, top: float) -> str:
    lower, upper = chart.series
    count = len(chart.labels)
    paths, dots = [], []
    known = [at for at in range(count) if lower.values[at] is not None and upper.values[at] is not None]
    for _, run in groupby(enumerate(known), key=lambda item: item[1] - item[0]):
        at = [index for _, index in run]
        if len(at) > 1:
            below, above = _points(lower, at, count, top), _points(upper, at, count, top)
            paths.append(f'<path class="band" d="M{"L".join([*above, *reversed(below)])}Z"/>')
            paths.extend(
                f'<path class="line {series.colour}" d="M{"L".join(points)}"/>'
                for series, points in ((upper, above), (lower, below))
            )
        for series in (upper, lower):
            for point in _points(series, at, count, top):
                x, y = point.split()
                dots.append(f'<circle class="{series.colour}" cx="{x}%" cy="{y}%" r="2.5"/>')
    return f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(paths)}</svg>{"".join(dots)}'


def _points(series: Series, at: Sequence[int], count: int, top: float) -> list[str]:
    ys = [100 - 100 * (series.values[one] or 0) / top for one in at]
    return [f"{_number((one + 0.5) * 100 / count)} {_number(y)}" for one, y in zip(at, ys, strict=True)]


def _hits(chart: Chart) -> str:
    """A column for each bin, which shows its figures under the pointer."""
    found = []
    for at, (title, rows) in enumerate(chart.tips):
        side = " left" if at >= len(chart.tips) / 2 else ""
        lines = "".join(
            f'<span><i class="{colour}"></i><bdi>{escaped(name)}</bdi><b>{escaped(figure)}</b></span>'
            for colour, name, figure in rows
        )
        found.append(f'<div class="hit{side}"><div class="tip"><strong>{escaped(title)}</strong>{lines}</div></div>')
    return f'<div class="hits" aria-hidden="true">{"".join(found)}</div>'


def share_bar(share: Decimal) -> str:
    """A bar for a row of a table, *share* of its cell."""
    width = _number(max(100 * float(share), 0.5)) if share else "0"
    return f'<svg class="bar" aria-hidden="true"><rect class="c0" width="{width}%" height="100%" rx="2"/></svg>'


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
