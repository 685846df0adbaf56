"""What the page of `modelhub usage --html` shows: the ledger's figures over time, and their sums."""

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

__all__ = ["Bin", "Figures", "Times", "gather"]

_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_STEPS = (1, 3, 6, 12, 24, 168, 672)  # hours
_MOST_BINS = 60
_MOST_TAGS = 8
_WITHIN = "c.at >= ? AND c.at < ?"
_COSTS = f"""SELECT substr(c.at, 1, 13), a.model, decimal_sum(a.cost)
FROM calls c JOIN attempts a ON a.call_id = c.call_id WHERE {_WITHIN} GROUP BY 1, 2"""  # noqa: S608 - our own text
_OUTCOMES = f"""SELECT substr(c.at, 1, 13), c.outcome, COALESCE(c.error, 'no reason'), COUNT(*)
FROM calls c WHERE {_WITHIN} GROUP BY 1, 2, 3"""  # noqa: S608 - our own text
_TIMES = f"""SELECT substr(c.at, 1, 13), c.first_token, c.duration
FROM calls c WHERE {_WITHIN} AND c.outcome = 'complete'"""  # noqa: S608 - our own text
_TAGS = f"""SELECT t.key FROM calls c, json_each(c.tags) t WHERE {_WITHIN}
GROUP BY t.key ORDER BY COUNT(*) DESC, t.key LIMIT {_MOST_TAGS}"""  # noqa: S608 - our own text


@dataclass(slots=True)
class Times:
    """Measured times, in seconds."""

    found: list[float] = field(default_factory=list)

    def share(self, percent: int) -> float | None:
        """The time within which *percent* of them were done; None without any."""
        if not self.found:
            return None
        return sorted(self.found)[max(0, math.ceil(len(self.found) * percent / 100) - 1)]


@dataclass(slots=True)
class Bin:
    """What a stretch of time has. `first_token` and `duration` are those of the calls that were completed."""

    starts: datetime
    total: UsageTotals = field(default_factory=UsageTotals)
    costs: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    outcomes: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    first_token: Times = field(default_factory=Times)
    duration: Times = field(default_factory=Times)


@dataclass(slots=True)
class Figures:
    """Everything the page shows. `bins` are evenly spaced, `step` apart, and none if there are no calls."""

    since: datetime | None
    until: datetime
    step: timedelta = timedelta(hours=1)
    bins: list[Bin] = field(default_factory=list)
    whole: Bin = field(default_factory=lambda: Bin(_MONDAY))
    tables: dict[str, dict[str, UsageTotals]] = field(default_factory=dict)
    """By "model", "chain" and the tags that are used most, as `report` gives them, the dearest first."""


def gather(ledger: Path, since: datetime | None, until: datetime) -> Figures:
    """What the file *ledger* has from *since* on and before *until*; nothing where there is no file yet.

    Raises sqlite3.Error if *ledger* is no ledger.
    """
    figures = Figures(since, until)
    if not ledger.exists():
        return figures
    hours = query_report(ledger, since, "hour", until=until)
    if not hours:
        return figures
    _lay_out(figures, _hour(next(iter(hours))))
    for name, total in hours.items():
        for one in _both(figures, name):
            one.total.add(total)
    with closing(connect_for_reading(ledger)) as connection:
        within = ("0000" if since is None else format_time(since), format_time(until))
        _fill(figures, connection, within)
        tags = [str(key) for (key,) in connection.execute(_TAGS, within)]
    for by in ("model", "chain", *(f"tag:{tag}" for tag in tags)):
        found = query_report(ledger, since, by, until=until)
        figures.tables[by] = dict(sorted(found.items(), key=_dearest))
    return figures


def _dearest(item: tuple[str, UsageTotals]) -> tuple[Decimal, int, str]:
    return -item[1].known_cost, -item[1].total_tokens, item[0]


def _hour(name: str) -> datetime:
    return datetime.fromisoformat(f"{name}:00+00:00")


def _lay_out(figures: Figures, first: datetime) -> None:
    """Divide the time; what is before the *first* call is left out if it is most of it."""
    start, until = figures.since, figures.until
    if start is None or (until - first) * 3 < until - start:
        start = first
    hours = next((hours for hours in _STEPS if (until - start) / timedelta(hours=hours) < _MOST_BINS), _STEPS[-1])
    figures.step = step = timedelta(hours=hours)
    at = _MONDAY + (start - _MONDAY) // step * step
    while at < until:
        figures.bins.append(Bin(at))
        at += step


def _both(figures: Figures, hour: str) -> Sequence[Bin]:
    """The bin of *hour*, and the one for the whole time."""
    # A call from before the first bin may be written between two queries.
    at = max(0, (_hour(hour) - figures.bins[0].starts) // figures.step)
    return figures.bins[at], figures.whole


def _fill(figures: Figures, connection: sqlite3.Connection, within: tuple[str, str]) -> None:
    rows: Iterable[sqlite3.Row] = connection.execute(_COSTS, within)
    for hour, model, cost in rows:
        for one in _both(figures, hour):
            one.costs[model] += Decimal(cost)
    for hour, outcome, error, count in connection.execute(_OUTCOMES, within):
        for one in _both(figures, hour):
            one.outcomes[outcome] += count
            if outcome == "failed":
                one.errors[error] += count
    for hour, first_token, duration in connection.execute(_TIMES, within):
        for one in _both(figures, hour):
            one.duration.found.append(duration)
            if first_token is not None:
                one.first_token.found.append(first_token)
