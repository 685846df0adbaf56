"""What the ledger tells: sums by model, chain, tag or time."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from modelhub.accounting.store import connect_for_reading, instant
from modelhub.accounting.usage_totals import UsageTotals
from modelhub.core.response import COUNTS

__all__ = ["BY", "report"]

BY = {
    "model": ("c.model", "a.model"),
    "vendor": ("c.vendor", "a.vendor"),
    "chain": ("c.requested", "c.requested"),
    "outcome": ("c.outcome", "c.outcome"),
    "hour": ("substr(c.at, 1, 13)", "substr(c.at, 1, 13)"),
    "day": ("substr(c.at, 1, 10)", "substr(c.at, 1, 10)"),
    "month": ("substr(c.at, 1, 7)", "substr(c.at, 1, 7)"),
    "all": ("''", "''"),
}
"""What a report may be by, besides `tag:NAME`; how calls and how attempts are told apart then."""

_SUMS = ", ".join(f"SUM(a.{key}) AS {key}" for key in COUNTS)
_TAG = "(SELECT value FROM json_each(c.tags) WHERE key = :tag)"
_CALLS = """SELECT {key} AS name, COUNT(*), SUM(c.outcome = 'failed') FROM calls c
WHERE c.at >= :since AND c.at < :until GROUP BY name"""
_ATTEMPTS = """SELECT {key} AS name, COUNT(*) AS attempts, {sums}, decimal_sum(a.cost) AS known_cost,
SUM(a.used AND a.cost IS NULL) AS unpriced, SUM(a.estimated) AS estimated
FROM calls c JOIN attempts a ON a.call_id = c.call_id WHERE c.at >= :since AND c.at < :until GROUP BY name"""
_ALWAYS = "0000", "9999"


def report(
    ledger: str | os.PathLike[str], since: datetime | None = None, by: str = "model", *, until: datetime | None = None
) -> dict[str, UsageTotals]:
    """What the calls in the file *ledger* from *since* on (and before *until*) used, by what *by* says.

    *by* is a key of `BY`, or `tag:NAME`; what has no such tag, or no model, is under "". Times are in UTC. Sorted by
    name. Raises ValueError for another *by*, and sqlite3.Error if *ledger* is no ledger.
    """
    tag = by.removeprefix("tag:") if by.startswith("tag:") else None
    if not tag and by not in BY:
        raise ValueError(f"a report is by {', '.join(BY)} or tag:NAME, not by {by!r}")
    calls, attempts = BY[by] if tag is None else (_TAG, _TAG)
    values = {
        "since": _ALWAYS[0] if since is None else instant(since),
        "until": _ALWAYS[1] if until is None else instant(until),
        "tag": tag,
    }
    found: dict[str, UsageTotals] = {}
    with closing(connect_for_reading(Path(ledger))) as connection:
        connection.execute("BEGIN")  # both queries see the same file
        for name, count, failed in connection.execute(_CALLS.format(key=calls), values):
            found.setdefault(name or "", UsageTotals()).add(UsageTotals(count, failed))
        for row in connection.execute(_ATTEMPTS.format(key=attempts, sums=_SUMS), values):
            sums = dict(row) | {"known_cost": Decimal(row["known_cost"])}
            found.setdefault(sums.pop("name") or "", UsageTotals()).add(UsageTotals(**sums))
    return dict(sorted(found.items()))
