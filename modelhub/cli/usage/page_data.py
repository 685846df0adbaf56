"""The data of the page of `modelhub usage --html`: totals over time, from the ledger."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from modelhub.accounting.ledger_reader import LedgerReader, open_database, open_ledger
from modelhub.accounting.report import (
    GROUP_BY,
    CallSummary,
    HopFigures,
    ParameterChange,
    filter_calls,
    list_expensive_calls,
    list_failed_calls,
    list_parameter_changes,
    read_hops,
    read_totals,
    select_period,
)
from modelhub.accounting.spending import BudgetState, read_budget_states
from modelhub.accounting.sql import exact_sum, select_tag_names
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.cli.usage.table import sort_by_cost

if TYPE_CHECKING:
    from sqlalchemy import Select

    from modelhub.accounting.ledger_location import LedgerLocation
    from modelhub.accounting.options import SpendingOptions

__all__ = ["Bin", "PageFigures", "Times", "load_figures"]

_MONDAY = datetime(1970, 1, 5, tzinfo=UTC)
_STEP_HOURS = (1, 3, 6, 12, 24, 168, 672)  # hours
_MAX_BINS = 60
_MAX_TAGS = 8
_MAX_CALLS = 10


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
    only: Mapping[str, str] = field(default_factory=dict)
    """What all calls have in common: the filter."""
    hops: HopFigures = field(default_factory=lambda: HopFigures(UsageTotals(), UsageTotals()))
    changes: list[ParameterChange] = field(default_factory=list)
    """What models left out of calls or changed, the most frequent first."""
    budgets: list[BudgetState] = field(default_factory=list)
    expensive: list[CallSummary] = field(default_factory=list)
    failed: list[CallSummary] = field(default_factory=list)


def load_figures(
    ledger: LedgerLocation,
    since: datetime | None,
    until: datetime,
    *,
    only: Mapping[str, str] | None = None,
    budgets: Mapping[str, SpendingOptions] | None = None,
) -> PageFigures:
    """Load the calls in *ledger* from *since* on and before *until*; without a file, the result is empty.

    *only* is a filter of calls (`filter_calls`), *budgets* those whose state is loaded, whatever the filter. Raises
    LedgerError if *ledger* is no ledger.
    """
    figures = PageFigures(since, until, only=only or {})
    if not ledger.exists():
        return figures
    with open_ledger(open_database(ledger)) as unfiltered:
        figures.budgets = list(read_budget_states(unfiltered, budgets or {}, until))
        reader = filter_calls(unfiltered, figures.only)
        hours = read_totals(reader, since, "hour", until=until)
        if not hours:
            return figures
        _make_bins(figures, _parse_hour(next(iter(hours))))
        for name, total in hours.items():
            for bucket in _find_bins(figures, name):
                bucket.total.add(total)
        _fill_bins(figures, reader)
        figures.hops = read_hops(reader, since, until)
        figures.changes = list_parameter_changes(reader, since, until)
        figures.expensive = list_expensive_calls(reader, since, until, _MAX_CALLS)
        figures.failed = list_failed_calls(reader, since, until, _MAX_CALLS)
        tags = _execute(figures, reader, select_tag_names(reader.calls, reader.connection.dialect.name))
        frequent_tags = sorted((-count, str(tag)) for tag, count in tags)[:_MAX_TAGS]
        for by in ("model", "chain", *(f"tag:{tag}" for _, tag in frequent_tags)):
            figures.tables[by] = sort_by_cost(read_totals(reader, since, by, until=until))
    return figures


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
    at = (_parse_hour(hour) - figures.bins[0].starts) // figures.step
    return figures.bins[at], figures.overall


def _fill_bins(figures: PageFigures, ledger: LedgerReader) -> None:
    calls, attempts = ledger.calls, ledger.attempts
    hour = GROUP_BY["hour"](calls, calls).label("hour")
    joined = calls.join(attempts, attempts.c.call_id == calls.c.call_id)
    costs = select(hour, attempts.c.model, exact_sum(attempts.c.cost)).select_from(joined).group_by("hour", "model")
    for name, model, cost in _execute(figures, ledger, costs):
        for bucket in _find_bins(figures, name):
            bucket.costs[model] += cost
    outcomes = select(hour, calls.c.outcome, calls.c.error, func.count()).group_by("hour", "outcome", "error")
    for name, outcome, error, count in _execute(figures, ledger, outcomes):
        for bucket in _find_bins(figures, name):
            bucket.outcomes[outcome] += count
            if outcome == "failed":
                bucket.errors[error or "no reason"] += count
    times = select(hour, calls.c.first_token, calls.c.duration).where(calls.c.outcome == "complete")
    for name, first_token, duration in _execute(figures, ledger, times):
        for bucket in _find_bins(figures, name):
            bucket.duration.seconds.append(duration)
            if first_token is not None:
                bucket.first_token.seconds.append(first_token)


def _execute(figures: PageFigures, ledger: LedgerReader, query: Select[*tuple[Any, ...]]) -> Iterable[Sequence[Any]]:
    return ledger.connection.execute(select_period(query, ledger.calls, figures.since, figures.until))
