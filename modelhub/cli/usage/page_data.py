"""The data of the page of `modelhub usage --html`: totals over time, from the ledger."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from modelhub.accounting.report import query_report
from modelhub.accounting.store import connect_for_reading, format_time
from modelhub.accounting.usage_totals import UsageTotals

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Bin", "PageFigures", "Times", "load_figures"]

_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_STEP_HOURS = (1, 3, 6, 12, 24, 168, 672)  # hours
_MAX_BINS = 60
_MAX_TAGS = 8
_WITHIN = "c.at >= ? AND c.at < ?"
_COSTS_QUERY = f"""SELECT substr(c.at, 1, 13), a.model, decimal_sum(a.cost)
FROM calls c JOIN attempts a ON a.call_id = c.call_id WHERE {_WITHIN} GROUP BY 1, 2"""  # noqa: S608 - our own text
_OUTCOMES_QUERY = f"""SELECT substr(c.at, 1, 13), c.outcome, COALESCE(c.error, 'no reason'), COUNT(*)
FROM calls c WHERE {_WITHIN} GROUP BY 1, 2, 3"""  # noqa: S608 - our own text
_TIMES_QUERY = f"""SELECT substr(c.at, 1, 13), c.first_token, c.duration
FROM calls c WHERE {_WITHIN} AND c.outcome = 'complete'"""  # noqa: S608 - our own text
_TAGS_QUERY = f"""SELECT t.key FROM calls c, json_each(c.tags) t WHERE {_WITHIN}
GROUP BY t.key ORDER BY COUNT(*) DESC, t.key LIMIT {_MAX_TAGS}"""  # noqa: S608 - our own text


@dataclass(slots=True)
class Times:
    """Measured times, in seconds."""

    seconds: list[float] = field(default_factory=list)

    def share(self, percentage: int) -> float | None:
        """Return the given percentile, 0 to 100, or None if there are no times."""
        if not self.seconds:
            return None
        return sorted(self.seconds)[max(0, math.ceil(len(self.seconds) * percentage / 100) - 1)]


@dataclass(slots=True)
class Bin:
    """The totals of one interval of time. `first_token` and `duration` are those of completed calls."""

    starts: datetime
    total: UsageTotals = field(default_factory=UsageTotals)
    costs: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    first_token: Times = field(default_factory=Times)
    duration: Times = field(default_factory=Times)


@dataclass(slots=True)
class PageFigures:
    """The data of the page. `bins` are consecutive intervals of `step`; there are none if there are no calls."""

    since: datetime | None
    until: datetime
    step: timedelta = timedelta(hours=1)
    bins: list[Bin] = field(default_factory=list)
    overall: Bin = field(default_factory=lambda: Bin(_MONDAY))
    tables: dict[str, dict[str, UsageTotals]] = field(default_factory=dict)
    """Totals by "model", by "chain" and by the most frequent tags, most expensive first."""


def load_figures(ledger: Path, since: datetime | None, until: datetime) -> PageFigures:
    """Load the calls in *ledger* from *since* on and before *until*; without a file, the result is empty.

    Raises sqlite3.Error if *ledger* is no ledger.
    """
    figures = PageFigures(since, until)
    if not ledger.exists():
        return figures
    hours = query_report(ledger, since, "hour", until=until)
    if not hours:
        return figures
    _make_bins(figures, _parse_hour(next(iter(hours))))
    for name, total in hours.items():
        for bucket in _find_bins(figures, name):
            bucket.total.add(total)
    with closing(connect_for_reading(ledger)) as connection:
        within = ("0000" if since is None else format_time(since), format_time(until))
        _fill_bins(figures, connection, within)
        tags = [str(key) for (key,) in connection.execute(_TAGS_QUERY, within)]
    for by in ("model", "chain", *(f"tag:{tag}" for tag in tags)):
        totals = query_report(ledger, since, by, until=until)
        figures.tables[by] = dict(sorted(totals.items(), key=_sort_key))
    return figures


def _sort_key(item: tuple[str, UsageTotals]) -> tuple[Decimal, int, str]:
    return -item[1].known_cost, -item[1].total_tokens, item[0]


def _parse_hour(name: str) -> datetime:
    return datetime.fromisoformat(f"{name}:00+00:00")


def _make_bins(figures: PageFigures, first: datetime) -> None:
    """Make the bins; the time before the *first* call is left out if it is most of the period."""
    start, until = figures.since, figures.until
    if start is None or (until - first) * 3 < until - start:
        start = first
    hours = next(
        (hours for hours in _STEP_HOURS if (until - start) / timedelta(hours=hours) < _MAX_BINS), _STEP_HOURS[-1]
    )
    figures.step = step = timedelta(hours=hours)
    at = _MONDAY + (start - _MONDAY) // step * step
    while at < until:
        figures.bins.append(Bin(at))
        at += step


def _find_bins(figures: PageFigures, hour: str) -> Sequence[Bin]:
    """Return the bin of *hour*, and the one for the whole period."""
    # A call from before the first bin may be written between two queries.
    at = max(0, (_parse_hour(hour) - figures.bins[0].starts) // figures.step)
    return figures.bins[at], figures.overall


def _fill_bins(figures: PageFigures, connection: sqlite3.Connection, within: tuple[str, str]) -> None:
    rows: Iterable[sqlite3.Row] = connection.execute(_COSTS_QUERY, within)
    for hour, model, cost in rows:
        for bucket in _find_bins(figures, hour):
            bucket.costs[model] += Decimal(cost)
    for hour, outcome, error, count in connection.execute(_OUTCOMES_QUERY, within):
        for bucket in _find_bins(figures, hour):
            bucket.outcomes[outcome] += count
            if outcome == "failed":
                bucket.errors[error] += count
    for hour, first_token, duration in connection.execute(_TIMES_QUERY, within):
        for bucket in _find_bins(figures, hour):
            bucket.duration.seconds.append(duration)
            if first_token is not None:
                bucket.first_token.seconds.append(first_token)
