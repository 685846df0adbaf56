"""What a job may spend: a row is begun only if its cost can be set aside."""

from __future__ import annotations

import asyncio
import re
from decimal import Decimal
from typing import Any

from modelhub.jobs.estimate import CostEstimator

__all__ = ["JobBudget", "parse_budget"]

_BUDGET = re.compile(r"\$?\s*(\d+(?:[._]\d+)*)\s*(?:usd|\$)?", re.IGNORECASE)


def parse_budget(text: str) -> Decimal:
    """Return *text*, such as "20usd", "$20" or "1.50", in US dollars. Raises ValueError."""
    match = _BUDGET.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"expected US dollars, such as 20usd or 1.50, not {text!r}")
    amount = Decimal(match[1].replace("_", ""))
    if not amount:
        raise ValueError("a budget of nothing lets no row be asked")
    return amount


class JobBudget:
    """A budget of *limit* US dollars, of which *spent* is gone already; *estimator* says what a row may cost."""

    def __init__(self, limit: Decimal, spent: Decimal, estimator: CostEstimator) -> None:
        self.limit = limit
        self.spent = spent
        self.held = Decimal(0)
        self._estimator = estimator
        self._changed = asyncio.Event()

    def estimate(self, messages: Any, factor: Decimal = Decimal(1)) -> Decimal:
        """Return what to set aside for a row with *messages*, at *factor* of the usual price."""
        return self._estimator.reserve(messages) * factor

    def has_room(self, amount: Decimal) -> bool:
        """Return whether *amount* can be set aside now."""
        return self.spent + self.held + amount <= self.limit

    def hold(self, amount: Decimal) -> None:
        """Set *amount* aside, whether or not there is room: it may be spent already."""
        self.held += amount

    async def reserve(self, amount: Decimal) -> bool:
        """Set *amount* aside; wait for rows under way that may cost less than was set aside for them.

        Returns False if there is not so much left.
        """
        while not self.has_room(amount):
            if not self.held:
                return False
            self._changed.clear()
            await self._changed.wait()
        self.hold(amount)
        return True

    def settle(self, amount: Decimal, cost: Decimal | None) -> None:
        """Replace *amount*, which was set aside, by the *cost*; if that is not known, *amount* counts as spent."""
        self.held -= amount
        self.spent += amount if cost is None else cost
        self._changed.set()
