"""Charts of the usage page, as inline SVG without scripts and inline styles.

A chart scales with the page, but its text does not, because all positions are percentages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import groupby

from modelhub.cli.usage.page_text import escape_markup

__all__ = ["Chart", "Series", "Tip", "draw_chart", "draw_share_bar"]

_HATCH = """<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<line class="hatch" x1="0" x2="0" y1="0" y2="6"/></pattern></defs>"""
_MAX_LABELS = 6
_MAX_TICK_CHARS = 8  # labels of the axis up to this length fit the narrow margin
_BAR_SHARE = 0.74  # the share of its slot that a bar fills
Tip = tuple[str, str, str]
"""A line of the tooltip of a bin: the colour's class, a name, a value."""


@dataclass(frozen=True, slots=True)
class Series:
    """A series of one colour, with a value for each bin; None is a gap."""

    name: str
    colour: str
    values: Sequence[float | None]


@dataclass(slots=True)
class Chart:
    """A chart with stacked bars, or, with `lines`, a lower and an upper line with a band between them.

    `unknown` marks bins of which "some" or "all" is unknown; `empty` is the text for a chart without data; with
    `integers`, the axis has whole numbers only.
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
    integers: bool = False
    unknown: Sequence[str] = field(default_factory=tuple)


def draw_chart(chart: Chart) -> str:
    """Return the chart as a `<figure>` element."""
    columns = zip(*(series.values for series in chart.series), strict=True)
    combine = max if chart.lines else sum
    maximum = max((combine([value or 0.0 for value in column]) for column in columns), default=0.0)
    content = f'<p class="nothing">{escape_markup(chart.empty)}</p>'
    if maximum or any(chart.unknown):
        content = _draw_legend(chart) + _draw_plot(chart, maximum)
    return (
        f'<figure class="card"><figcaption><h2 id="{chart.name}">{escape_markup(chart.title)}</h2>'
        f'<p class="total">{chart.total}</p></figcaption>{content}</figure>'
    )


def _draw_legend(chart: Chart) -> str:
    colours = [(series.colour, series.name) for series in chart.series]
    if any(chart.unknown):
        colours.append(("unknown", "cost unknown"))
    items = "".join(f'<li><i class="{colour}"></i><bdi>{escape_markup(name)}</bdi></li>' for colour, name in colours)
    return f'<ul class="legend">{items}</ul>'


def _draw_plot(chart: Chart, maximum: float) -> str:
    ticks = _make_ticks(maximum, chart.integers) if maximum else [0.0, 1.0]
    top = ticks[-1]
    marks = _draw_unknown(chart) + (_draw_lines(chart, top) if chart.lines else _draw_bars(chart, top))
    axis = _draw_grid(chart, ticks if maximum else [0.0]) + _draw_times(chart.labels)
    wide = " wide" if max(len(chart.form(tick)) for tick in ticks) > _MAX_TICK_CHARS else ""
    return (
        f'<div class="plot{wide}"><svg role="img" aria-labelledby="{chart.name}-title {chart.name}-about">'
        f'<title id="{chart.name}-title">{escape_markup(chart.title)}</title>'
        f'<desc id="{chart.name}-about">{escape_markup(chart.about)}</desc>{axis}{marks}</svg>{_draw_tips(chart)}</div>'
    )


def _make_ticks(maximum: float, integers: bool) -> list[float]:
    """Return about four round numbers, from 0 to *maximum* or a little more."""
    rough = maximum / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * 0.999)
    if integers:
        step = max(1.0, float(math.ceil(step)))
    return [step * number for number in range(math.ceil(maximum / step * 0.999) + 1)]


def _draw_grid(chart: Chart, ticks: Sequence[float]) -> str:
    elements = []
    for tick in ticks:
        y = _format_number(100 - 100 * tick / (ticks[-1] or 1))
        elements.append(
            f'<line class="{"base" if not tick else "grid"}" x1="0" x2="100%" y1="{y}%" y2="{y}%"/>'
            f'<text class="y" x="-8" y="{y}%" dy="4">{escape_markup(chart.form(tick))}</text>'
        )
    return "".join(elements)


def _draw_times(labels: Sequence[str]) -> str:
    every = max(1, math.ceil(len(labels) / _MAX_LABELS))
    elements = []
    for number, at in enumerate(range(0, len(labels), every)):
        x = _format_number((at + 0.5) * 100 / len(labels))
        elements.append(f'<text class="x{" odd" if number % 2 else ""}" x="{x}%" y="100%" dy="18">{labels[at]}</text>')
    return "".join(elements)


def _draw_bars(chart: Chart, top: float) -> str:
    slot = 100 / len(chart.labels)
    heights = [0.0] * len(chart.labels)
    elements = []
    for series in chart.series:
        for at, value in enumerate(series.values):
            if not value:
                continue
            height = 100 * value / top
            heights[at] += height
            x = slot * (at + (1 - _BAR_SHARE) / 2)
            elements.append(
                f'<rect class="{series.colour}" x="{_format_number(x)}%" y="{_format_number(100 - heights[at])}%" '
                f'width="{_format_number(slot * _BAR_SHARE)}%" height="{_format_number(height)}%"/>'
            )
    return "".join(elements)


def _draw_unknown(chart: Chart) -> str:
    """Draw a hatched column where all is unknown, and a mark below the axis where something is."""
    if not any(chart.unknown):
        return ""
    slot = 100 / len(chart.labels)
    elements = [_HATCH]
    for at, extent in enumerate(chart.unknown):
        x, width = _format_number(slot * (at + (1 - _BAR_SHARE) / 2)), _format_number(slot * _BAR_SHARE)
        if extent == "all":
            elements.append(f'<rect x="{x}%" y="0" width="{width}%" height="100%" fill="url(#hatch)"/>')
        if extent:
            elements.append(f'<rect class="unknown" x="{x}%" y="100%" width="{width}%" height="4"/>')
    return "".join(elements)


def _draw_lines(chart: Chart, top: float) -> str:
    lower, upper = chart.series
    count = len(chart.labels)
    paths, dots = [], []
    known = [at for at in range(count) if lower.values[at] is not None and upper.values[at] is not None]
    for _, run in groupby(enumerate(known), key=lambda item: item[1] - item[0]):
        at = [index for _, index in run]
        if len(at) > 1:
            below, above = _make_points(lower, at, count, top), _make_points(upper, at, count, top)
            paths.append(f'<path class="band" d="M{"L".join([*above, *reversed(below)])}Z"/>')
            paths.extend(
                f'<path class="line {series.colour}" d="M{"L".join(points)}"/>'
                for series, points in ((upper, above), (lower, below))
            )
        for series in (upper, lower):
            for point in _make_points(series, at, count, top):
                x, y = point.split()
                dots.append(f'<circle class="{series.colour}" cx="{x}%" cy="{y}%" r="2.5"/>')
    return f'<svg viewBox="0 0 100 100" preserveAspectRatio="none">{"".join(paths)}</svg>{"".join(dots)}'


def _make_points(series: Series, indices: Sequence[int], count: int, top: float) -> list[str]:
    ys = [100 - 100 * (series.values[index] or 0) / top for index in indices]
    return [
        f"{_format_number((index + 0.5) * 100 / count)} {_format_number(y)}"
        for index, y in zip(indices, ys, strict=True)
    ]


def _draw_tips(chart: Chart) -> str:
    """Draw a column for each bin, which shows a tooltip under the pointer."""
    elements = []
    for at, (title, rows) in enumerate(chart.tips):
        side = " left" if at >= len(chart.tips) / 2 else ""
        lines = "".join(
            f'<span><i class="{colour}"></i><bdi>{escape_markup(name)}</bdi><b>{escape_markup(figure)}</b></span>'
            for colour, name, figure in rows
        )
        elements.append(
            f'<div class="hit{side}"><div class="tip"><strong>{escape_markup(title)}</strong>{lines}</div></div>'
        )
    return f'<div class="hits" aria-hidden="true">{"".join(elements)}</div>'


def draw_share_bar(share: Decimal) -> str:
    """Return a bar for a row of a table, which fills *share* of its cell."""
    width = _format_number(max(100 * float(share), 0.5)) if share else "0"
    return f'<svg class="bar" aria-hidden="true"><rect class="c0" width="{width}%" height="100%" rx="2"/></svg>'


def _format_number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
