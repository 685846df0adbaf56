"""How far budgets are spent, read from the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from modelhub.accounting.options import SpendingOptions
from modelhub.accounting.period import find_period
from modelhub.accounting.reader import LedgerReader
from modelhub.accounting.spending import Selection, sum_spending

__all__ = ["BudgetState", "read_budget_states"]


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
        if budget.tag is None or "=" in budget.tag:
            spent = {"": spent.get("", (Decimal(0), 0))}
        limit = budget.usd if budget.usd is not None else Decimal(budget.tokens or 0)
        ranked = sorted(spent.items(), key=lambda item: (-item[1][0], item[0]))
        for account, (amount, unpriced) in ranked[:most]:
            yield BudgetState(name, account, amount, limit, budget.usd is None, budget.per, ends, unpriced)
