"""How far budgets are spent, summed from the ledger: the truth that every other counter is mended by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select, true

from modelhub.accounting.ledger_reader import LedgerReader
from modelhub.accounting.options import SpendingOptions, find_period
from modelhub.accounting.schema import PlainText
from modelhub.accounting.sql import count_unpriced, exact_sum, tag_value, without_index

__all__ = [
    "Amount",
    "BudgetState",
    "Selection",
    "make_spending_query",
    "read_budget_states",
    "read_last_batch",
    "sum_spending",
]

Amount = tuple[Decimal, int]
"""An amount in the budget's unit, and the number of attempts with unknown cost."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which calls count: those from `since` on and before `until`.

    With `after_batch`, only those of later batches; with `not_by`, only those of other writers.
    """

    since: datetime
    until: datetime
    after_batch: int | None = None
    not_by: str | None = None


def sum_spending(ledger: LedgerReader, budget: SpendingOptions, selection: Selection) -> Mapping[str, Amount]:
    """Return what the calls of *selection* spent on *budget*, by account: a tag's value, or "" for a single account.

    An amount is in dollars or tokens, as the budget's limit, with the number of attempts whose cost is unknown.
    """
    rows = ledger.connection.execute(make_spending_query(ledger, budget, selection))
    return {account_key: (Decimal(amount or 0), unpriced) for account_key, amount, unpriced in rows}


def read_last_batch(ledger: LedgerReader) -> int:
    """Return the number of the last batch that was written, 0 if there is none."""
    calls = ledger.calls
    return int(ledger.connection.execute(select(func.coalesce(func.max(calls.c.batch), 0))).scalar_one())


def make_spending_query(
    ledger: LedgerReader, budget: SpendingOptions, selection: Selection
) -> Select[*tuple[Any, ...]]:
    """Return the query of `sum_spending`."""
    calls, attempts = ledger.calls, ledger.attempts
    account_key, condition = _select_account(ledger, budget)
    amounts: tuple[ColumnElement[Any], ...] = exact_sum(attempts.c.cost), count_unpriced(attempts)
    if budget.usd is None:
        amounts = func.sum(attempts.c.input_tokens + attempts.c.output_tokens), literal(0)
    query = (
        select(account_key.label("account"), *amounts)
        .select_from(calls.join(attempts, attempts.c.call_id == calls.c.call_id))
        .where(condition)
        .group_by("account")
    )
    if selection.not_by is not None:
        query = query.where(calls.c.writer != selection.not_by)
    if selection.after_batch is None:
        return query.where(calls.c.at >= selection.since, calls.c.at < selection.until)
    # Few rows are new, which SQLite cannot know.
    at = without_index(calls.c.at)
    return query.where(calls.c.batch > selection.after_batch, at >= selection.since, at < selection.until)


def _select_account(ledger: LedgerReader, budget: SpendingOptions) -> tuple[ColumnElement[Any], ColumnElement[bool]]:
    """Return the account of a call, and the condition under which it counts."""
    calls, single = ledger.calls, literal("")
    if budget.tag is not None:
        tag, has_value, value = budget.tag.partition("=")
        account_key = tag_value(calls.c.tags, literal(tag, PlainText()))
        if has_value:
            return single, account_key == literal(value, PlainText())
        return account_key, account_key.is_not(None)
    if budget.model is not None:
        return single, without_index(ledger.attempts.c.model) == budget.model
    return single, calls.c.requested == budget.chain if budget.chain is not None else true()


# -- the state of budgets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One account of a budget in its current period: a tag's value, or "" for a budget with one account.

    Amounts are in US dollars, or in tokens if *in_tokens*. `unpriced` attempts have no known cost, and are not counted.
    """

    name: str
    account: str
    spent: Decimal
    limit: Decimal
    in_tokens: bool
    per: str
    resets: datetime
    unpriced: int

    @property
    def share(self) -> Decimal:
        """How much of the limit is spent, 1 for all of it."""
        return self.spent / self.limit


def read_budget_states(
    ledger: LedgerReader, budgets: Mapping[str, SpendingOptions], at: datetime, most: int = 5
) -> Iterator[BudgetState]:
    """Yield the state of each of *budgets* at *at*.

    Of a budget with an account for each value of a tag, those on which most is spent, at most *most*.
    """
    for name, budget in budgets.items():
        starts, ends = find_period(budget.per, at)
        spent = dict(sum_spending(ledger, budget, Selection(starts, ends)))
        if budget.has_one_account:
            spent = {"": spent.get("", (Decimal(0), 0))}
        ranked = sorted(spent.items(), key=lambda item: (-item[1][0], item[0]))
        for account, (amount, unpriced) in ranked[:most]:
            yield BudgetState(name, account, amount, budget.limit, budget.usd is None, budget.per, ends, unpriced)
