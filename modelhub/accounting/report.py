"""Query the ledger: totals by model, chain, tag or time, what falling back cost, calls, and what they asked for."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Double, Select, case, cast, exists, func, literal, or_, select
from sqlalchemy.sql.selectable import FromClause

from modelhub.accounting.ledger_location import LedgerLocation, parse_location
from modelhub.accounting.ledger_reader import LedgerReader, open_database, open_ledger
from modelhub.accounting.schema import PlainText, UtcTime
from modelhub.accounting.sql import count_if, count_unpriced, exact_sum, tag_value, utc_prefix
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.core.response import COUNTS

__all__ = ["GROUP_BY", "CallSummary", "HopFigures", "ParameterChange", "RecordedShape"]
__all__ += ["check_filter", "filter_calls", "query_report", "query_shapes", "read_totals", "select_period"]
__all__ += ["list_expensive_calls", "list_failed_calls", "list_parameter_changes", "read_hops"]

LedgerPath = str | os.PathLike[str] | LedgerLocation
"""The path of a file, or the URL of a PostgreSQL database."""
_Key = Callable[[FromClause, FromClause], ColumnElement[Any]]
_HOUR_LENGTH, _DAY_LENGTH, _MONTH_LENGTH = len("2026-01-31T12"), len("2026-01-31"), len("2026-01")


GROUP_BY: dict[str, _Key] = {
    "model": lambda _, rows: rows.c.model,
    "arm": lambda _, rows: rows.c.arm,
    "vendor": lambda _, rows: rows.c.vendor,
    "chain": lambda calls, _: calls.c.requested,
    "outcome": lambda calls, _: calls.c.outcome,
    "hour": lambda calls, _: utc_prefix(calls.c.at, _HOUR_LENGTH),
    "day": lambda calls, _: utc_prefix(calls.c.at, _DAY_LENGTH),
    "month": lambda calls, _: utc_prefix(calls.c.at, _MONTH_LENGTH),
    "all": lambda *_: literal(""),
}
"""The groupings of a report besides `tag:NAME`: the name of a row's group, from its call and from the row itself, which
is a call or an attempt."""


FILTERS = ("model", "arm", "vendor", "chain", "outcome")
"""What calls can be filtered by, beside `tag:NAME`."""


def query_report(
    ledger: LedgerPath,
    since: datetime | None = None,
    by: str = "model",
    *,
    until: datetime | None = None,
    only: Mapping[str, str] | None = None,
) -> dict[str, UsageTotals]:
    """Return the totals of the calls in *ledger* from *since* on and before *until*, grouped by *by*.

    *by* is a key of `GROUP_BY`, or `tag:NAME`; calls without that tag, model or arm are under "". Times are in UTC.
    Sorted by name. *only* is what the calls must have, as in `filter_calls`. Raises ValueError for another *by* or
    *only*, and LedgerError if *ledger* is not a ledger.
    """
    _find_key(by)
    check_filter(only or {})
    with open_ledger(open_database(_locate(ledger))) as reader:
        return read_totals(filter_calls(reader, only or {}), since, by, until=until)


def filter_calls(ledger: LedgerReader, only: Mapping[str, str]) -> LedgerReader:
    """Return *ledger* with only those calls that have every value in *only*, by `FILTERS` or `tag:NAME`.

    The model, vendor and arm of a call are those of its last attempt. "" selects calls without such a value.
    """
    if not only:
        return ledger
    calls = ledger.calls
    conditions = [func.coalesce(_find_key(name)(calls, calls), "") == value for name, value in only.items()]
    return replace(ledger, calls=select(calls).where(*conditions).subquery("calls"))


def check_filter(only: Mapping[str, str]) -> None:
    """Raise ValueError if calls cannot be filtered by a name in *only*."""
    for name in only:
        if name not in FILTERS and not (name.startswith("tag:") and name != "tag:"):
            raise ValueError(f"calls are filtered by {', '.join(FILTERS)} or tag:NAME, not by {name!r}")


def read_totals(
    ledger: LedgerReader, since: datetime | None = None, by: str = "model", *, until: datetime | None = None
) -> dict[str, UsageTotals]:
    """Return the totals of `query_report` from an open *ledger*. Raises ValueError for another *by*."""
    key, calls, attempts = _find_key(by), ledger.calls, ledger.attempts
    totals: dict[str, UsageTotals] = {}
    query = (
        select(key(calls, calls).label("name"), func.count(), count_if(calls.c.outcome == "failed"))
        .select_from(calls)
        .group_by("name")
    )
    for name, calls_count, failed in ledger.connection.execute(select_period(query, calls, since, until)):
        totals.setdefault(name or "", UsageTotals()).add(UsageTotals(calls_count, failed))
    query = (
        select(
            key(calls, attempts).label("name"),
            exact_sum(attempts.c.cost).label("known_cost"),
            func.count().label("attempts"),
            *(func.sum(attempts.c[name]).label(name) for name in COUNTS),
            count_unpriced(attempts).label("unpriced"),
            count_if(attempts.c.estimated).label("estimated"),
        )
        .select_from(calls.join(attempts, attempts.c.call_id == calls.c.call_id))
        .group_by("name")
    )
    for row in ledger.connection.execute(select_period(query, calls, since, until)).mappings():
        counts = {column: int(value) for column, value in row.items() if column not in {"name", "known_cost"}}
        sums = UsageTotals(known_cost=row["known_cost"], **counts)
        totals.setdefault(row["name"] or "", UsageTotals()).add(sums)
    return dict(sorted(totals.items()))


def _find_key(by: str) -> _Key:
    if by.startswith("tag:") and (tag := by.removeprefix("tag:")):
        return lambda calls, _: tag_value(calls.c.tags, literal(tag, PlainText()))
    if by not in GROUP_BY:
        raise ValueError(f"a report is by {', '.join(GROUP_BY)} or tag:NAME, not by {by!r}")
    return GROUP_BY[by]


def select_period(
    query: Select[*tuple[Any, ...]], calls: FromClause, since: datetime | None, until: datetime | None
) -> Select[*tuple[Any, ...]]:
    """Return *query* for the *calls* from *since* on and before *until*, None for no limit."""
    if since is not None:
        query = query.where(calls.c.at >= since)
    return query if until is None else query.where(calls.c.at < until)


# -- falling back to another model -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HopFigures:
    """The complete calls that another model answered than the one asked first, and those that the first one did.

    Both have calls, input tokens with those from a prompt cache, known costs, and how many have no known cost.
    """

    hopped: UsageTotals
    direct: UsageTotals


@dataclass(frozen=True, slots=True)
class ParameterChange:
    """A parameter that was left out for a *model*, or changed: how often, and why or how."""

    model: str
    parameter: str
    is_dropped: bool
    detail: str
    attempts: int


def read_hops(ledger: LedgerReader, since: datetime | None = None, until: datetime | None = None) -> HopFigures:
    """Return the figures of the complete calls in *ledger* from *since* on and before *until*.

    Models that are not configured count as never asked.
    """
    calls, attempts = ledger.calls, ledger.attempts
    has_hopped = exists().where(
        attempts.c.call_id == calls.c.call_id,
        attempts.c.model != calls.c.model,
        attempts.c.outcome != "NotConfigured",
    )
    query = (
        select(
            case((has_hopped, 1), else_=0).label("hopped"),
            func.count(),
            func.sum(calls.c.input_tokens),
            func.sum(calls.c.cache_read_tokens),
            exact_sum(calls.c.cost),
            count_if(calls.c.cost.is_(None)),
        )
        .where(calls.c.outcome == "complete")
        .group_by("hopped")
    )
    figures = HopFigures(UsageTotals(), UsageTotals())
    rows = ledger.connection.execute(select_period(query, calls, since, until))
    for hopped, count, input_tokens, cache_read_tokens, cost, unpriced in rows:
        total = UsageTotals(
            count,
            input_tokens=int(input_tokens),
            cache_read_tokens=int(cache_read_tokens),
            known_cost=Decimal(cost),
            unpriced=unpriced,
        )
        (figures.hopped if hopped else figures.direct).add(total)
    return figures


def list_parameter_changes(
    ledger: LedgerReader, since: datetime | None = None, until: datetime | None = None
) -> list[ParameterChange]:
    """Return what was left out or changed in the attempts in *ledger*, the most frequent first."""
    calls, attempts = ledger.calls, ledger.attempts
    query = (
        select(attempts.c.model, attempts.c.dropped, attempts.c.rounded, func.count())
        .select_from(calls.join(attempts, attempts.c.call_id == calls.c.call_id))
        .where(or_(attempts.c.dropped != "", attempts.c.rounded != ""))
        .group_by(attempts.c.model, attempts.c.dropped, attempts.c.rounded)
    )
    counts: Counter[tuple[str, str, bool, str]] = Counter()
    for model, dropped, rounded, count in ledger.connection.execute(select_period(query, calls, since, until)):
        for text, is_dropped in ((dropped, True), (rounded, False)):
            for parameter, detail in json.loads(text or "{}").items():
                counts[model, parameter, is_dropped, detail] += count
    changes = [ParameterChange(*key, count) for key, count in counts.items()]
    return sorted(changes, key=lambda change: (-change.attempts, change.model, change.parameter, change.detail))


# -- single calls ------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class CallSummary:
    """One call: when it ended, what was called, which model was asked last, and what it used and cost.

    `failures` are the attempts that failed, in order: the model, the class of its error, and how often in a row.
    """

    call_id: str
    at: datetime
    requested: str
    model: str | None
    outcome: str
    error: str | None
    input_tokens: int
    output_tokens: int
    cost: Decimal | None
    duration: float
    failures: list[tuple[str, str, int]] = field(default_factory=list)


_COLUMNS = [field.name for field in fields(CallSummary) if field.name != "failures"]


def list_expensive_calls(
    ledger: LedgerReader, since: datetime | None, until: datetime, count: int
) -> list[CallSummary]:
    """Return the *count* calls that cost most, the most expensive first; without those whose cost is unknown or 0."""
    cost = cast(ledger.calls.c.cost, Double)
    query = (
        _select_summaries(ledger, since, until).where(cost > 0).order_by(cost.desc(), ledger.calls.c.at).limit(count)
    )
    return _read_summaries(ledger, query)


def list_failed_calls(ledger: LedgerReader, since: datetime | None, until: datetime, count: int) -> list[CallSummary]:
    """Return the last *count* calls that failed, the latest first."""
    calls = ledger.calls
    query = _select_summaries(ledger, since, until).where(calls.c.outcome == "failed")
    return _read_summaries(ledger, query.order_by(calls.c.at.desc(), calls.c.call_id).limit(count))


def _select_summaries(ledger: LedgerReader, since: datetime | None, until: datetime) -> Select[*tuple[Any, ...]]:
    return select_period(select(*(ledger.calls.c[name] for name in _COLUMNS)), ledger.calls, since, until)


def _read_summaries(ledger: LedgerReader, query: Select[*tuple[Any, ...]]) -> list[CallSummary]:
    calls = {row.call_id: CallSummary(*row) for row in ledger.connection.execute(query)}
    attempts = ledger.attempts
    failed = (
        select(attempts.c.call_id, attempts.c.model, attempts.c.outcome)
        .where(attempts.c.call_id.in_(calls), attempts.c.outcome != "ok")
        .order_by(attempts.c.call_id, attempts.c.number)
    )
    for call_id, rows in groupby(ledger.connection.execute(failed), key=lambda row: str(row.call_id)):
        failures = groupby((row.model, row.outcome) for row in rows)
        calls[call_id].failures = [(model, error, len(list(repeats))) for (model, error), repeats in failures]
    return list(calls.values())


class RecordedShape(NamedTuple):
    """What some calls asked for, as JSON data, their number, and the time of the last one."""

    shape: dict[str, Any]
    calls: int
    last_at: datetime


def query_shapes(ledger: LedgerPath, requested: str, since: datetime | None = None) -> Iterator[RecordedShape]:
    """Yield each shape of the calls to the chain or model *requested* in *ledger*, from *since* on.

    Calls that earlier versions recorded have no shape. Raises LedgerError if *ledger* is not a ledger.
    """
    with open_ledger(open_database(_locate(ledger))) as reader:
        calls = reader.calls
        query = (
            select(calls.c.shape, func.count(), func.max(calls.c.at, type_=UtcTime()))
            .where(calls.c.requested == requested, calls.c.shape != "")
            .group_by(calls.c.shape)
        )
        for shape, count, last_at in reader.connection.execute(select_period(query, calls, since, None)):
            yield RecordedShape(json.loads(shape), count, last_at)


def _locate(ledger: LedgerPath) -> LedgerLocation:
    return ledger if isinstance(ledger, LedgerLocation) else parse_location(os.fspath(ledger))
