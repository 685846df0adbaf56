"""Query the ledger: totals by model, chain, tag or time, and what calls asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, func, literal, select
from sqlalchemy.sql.selectable import FromClause

from modelhub.accounting.location import LedgerLocation, parse_location
from modelhub.accounting.reader import LedgerReader, open_database, open_ledger
from modelhub.accounting.schema import PlainText, UtcTime
from modelhub.accounting.sql import count_if, count_unpriced, exact_sum, tag_value, utc_prefix
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.core.response import COUNTS

__all__ = [
    "GROUP_BY",
    "RecordedShape",
    "check_filter",
    "filter_calls",
    "query_report",
    "query_shapes",
    "read_totals",
    "select_period",
]

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
