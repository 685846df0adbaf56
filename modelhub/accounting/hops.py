"""What falling back to another model cost, and what models left out of the calls that they were sent."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import ColumnElement, case, exists, func, or_, select

from modelhub.accounting.reader import LedgerReader
from modelhub.accounting.report import select_period
from modelhub.accounting.sql import count_if, exact_sum
from modelhub.accounting.usage_totals import UsageTotals

__all__ = ["HopFigures", "ParameterChange", "is_fallback", "list_parameter_changes", "read_hops"]


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


def is_fallback(ledger: LedgerReader) -> ColumnElement[bool]:
    """Return the condition that another model ended a call than the one that was asked first.

    Models that are not configured count as never asked.
    """
    calls, attempts = ledger.calls, ledger.attempts
    return exists().where(
        attempts.c.call_id == calls.c.call_id,
        attempts.c.model != calls.c.model,
        attempts.c.outcome != "NotConfigured",
    )


def read_hops(ledger: LedgerReader, since: datetime | None = None, until: datetime | None = None) -> HopFigures:
    """Return the figures of the complete calls in *ledger* from *since* on and before *until*."""
    calls = ledger.calls
    query = (
        select(
            case((is_fallback(ledger), 1), else_=0).label("hopped"),
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
