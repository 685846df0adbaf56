"""Query the ledger: totals by model, chain, tag or time, and what calls asked for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from modelhub.accounting.store import connect_for_reading, format_time
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.core.response import COUNTS

__all__ = ["GROUP_BY", "RecordedShape", "query_report", "query_shapes"]

GROUP_BY = {
    "model": ("c.model", "a.model"),
    "arm": ("c.arm", "a.arm"),
    "vendor": ("c.vendor", "a.vendor"),
    "chain": ("c.requested", "c.requested"),
    "outcome": ("c.outcome", "c.outcome"),
    "hour": ("substr(c.at, 1, 13)", "substr(c.at, 1, 13)"),
    "day": ("substr(c.at, 1, 10)", "substr(c.at, 1, 10)"),
    "month": ("substr(c.at, 1, 7)", "substr(c.at, 1, 7)"),
    "all": ("''", "''"),
}
"""The groupings of a report besides `tag:NAME`, each with the SQL expression for calls and for attempts."""

_SUM_COLUMNS = ", ".join(f"SUM(a.{key}) AS {key}" for key in COUNTS)
_TAG_VALUE = "(SELECT value FROM json_each(c.tags) WHERE key = :tag)"
_CALLS_QUERY = """SELECT {key} AS name, COUNT(*), SUM(c.outcome = 'failed') FROM calls c
WHERE c.at >= :since AND c.at < :until GROUP BY name"""
_ATTEMPTS_QUERY = """SELECT {key} AS name, COUNT(*) AS attempts, {sums}, decimal_sum(a.cost) AS known_cost,
SUM(a.used AND a.cost IS NULL) AS unpriced, SUM(a.estimated) AS estimated
FROM calls c JOIN attempts a ON a.call_id = c.call_id WHERE c.at >= :since AND c.at < :until GROUP BY name"""
_SHAPES_QUERY = """SELECT shape, COUNT(*) AS calls, MAX(at) AS last_at FROM calls
WHERE requested = :requested AND shape <> '' AND at >= :since GROUP BY shape"""
_ALL_TIME = "0000", "9999"


def query_report(
    ledger: str | os.PathLike[str], since: datetime | None = None, by: str = "model", *, until: datetime | None = None
) -> dict[str, UsageTotals]:
    """Return the totals of the calls in *ledger* from *since* on and before *until*, grouped by *by*.

    *by* is a key of `GROUP_BY`, or `tag:NAME`; calls without that tag, model or arm are under "". Times are in
    UTC. Sorted by name. Raises ValueError for another *by*, and sqlite3.Error if *ledger* is not a ledger.
    """
    tag = by.removeprefix("tag:") if by.startswith("tag:") else None
    if not tag and by not in GROUP_BY:
        raise ValueError(f"a report is by {', '.join(GROUP_BY)} or tag:NAME, not by {by!r}")
    calls, attempts = GROUP_BY[by] if tag is None else (_TAG_VALUE, _TAG_VALUE)
    values = {
        "since": _ALL_TIME[0] if since is None else format_time(since),
        "until": _ALL_TIME[1] if until is None else format_time(until),
        "tag": tag,
    }
    totals: dict[str, UsageTotals] = {}
    with closing(connect_for_reading(Path(ledger))) as connection:
        connection.execute("BEGIN")  # both queries see the same state of the file
        for name, calls_count, failed in connection.execute(_CALLS_QUERY.format(key=calls), values):
            totals.setdefault(name or "", UsageTotals()).add(UsageTotals(calls_count, failed))
        for row in connection.execute(_ATTEMPTS_QUERY.format(key=attempts, sums=_SUM_COLUMNS), values):
            sums = dict(row) | {"known_cost": Decimal(row["known_cost"])}
            totals.setdefault(sums.pop("name") or "", UsageTotals()).add(UsageTotals(**sums))
    return dict(sorted(totals.items()))


class RecordedShape(NamedTuple):
    """What some calls asked for, as JSON data, their number, and the time of the last one as text."""

    shape: dict[str, Any]
    calls: int
    last_at: str


def query_shapes(
    ledger: str | os.PathLike[str], requested: str, since: datetime | None = None
) -> Iterator[RecordedShape]:
    """Yield each shape of the calls to the chain or model *requested* in *ledger*, from *since* on.

    Calls that earlier versions recorded have no shape. Raises sqlite3.Error if *ledger* is not a ledger.
    """
    values = {"requested": requested, "since": _ALL_TIME[0] if since is None else format_time(since)}
    with closing(connect_for_reading(Path(ledger))) as connection:
        for row in connection.execute(_SHAPES_QUERY, values):
            yield RecordedShape(json.loads(row["shape"]), row["calls"], row["last_at"])
