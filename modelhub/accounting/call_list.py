"""Single calls in the ledger: the most expensive ones, the last that failed, and how many a fallback answered."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from sqlalchemy import Double, Select, cast, func, select

from modelhub.accounting.hops import is_fallback
from modelhub.accounting.reader import LedgerReader
from modelhub.accounting.report import select_period

__all__ = ["CallSummary", "count_fallbacks", "list_expensive_calls", "list_failed_calls"]


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


def count_fallbacks(ledger: LedgerReader, since: datetime | None, until: datetime) -> int:
    """Return how many complete calls were answered by another model than the one that was asked first.

    Models that are not configured count as never asked.
    """
    calls = ledger.calls
    query = select(func.count()).select_from(calls).where(calls.c.outcome == "complete", is_fallback(ledger))
    return int(ledger.connection.execute(select_period(query, calls, since, until)).scalar_one())


def list_expensive_calls(
    ledger: LedgerReader, since: datetime | None, until: datetime, count: int
) -> list[CallSummary]:
    """Return the *count* calls that cost most, the most expensive first; without those whose cost is unknown or 0."""
    cost = cast(ledger.calls.c.cost, Double)
    query = _select(ledger, since, until).where(cost > 0).order_by(cost.desc(), ledger.calls.c.at).limit(count)
    return _read(ledger, query)


def list_failed_calls(ledger: LedgerReader, since: datetime | None, until: datetime, count: int) -> list[CallSummary]:
    """Return the last *count* calls that failed, the latest first."""
    calls = ledger.calls
    query = _select(ledger, since, until).where(calls.c.outcome == "failed")
    return _read(ledger, query.order_by(calls.c.at.desc(), calls.c.call_id).limit(count))


def _select(ledger: LedgerReader, since: datetime | None, until: datetime) -> Select[*tuple[Any, ...]]:
    return select_period(select(*(ledger.calls.c[name] for name in _COLUMNS)), ledger.calls, since, until)


def _read(ledger: LedgerReader, query: Select[*tuple[Any, ...]]) -> list[CallSummary]:
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
