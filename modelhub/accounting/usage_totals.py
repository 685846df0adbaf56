"""Sums of what calls used; a sum knows how many of its parts have no known cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

__all__ = ["UsageTotals"]


@dataclass(slots=True)
class UsageTotals:
    """What some calls used together.

    `calls` are those that are over, `failed` those of them that failed; a call counts for the model asked last.
    `attempts` and all that follows count for the model that was asked. `known_cost` is the cost of what has one, in US
    dollars, `unpriced` how many attempts have none, and `estimated` how many have figures the vendor did not give.
    """

    calls: int = 0
    failed: int = 0
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    known_cost: Decimal = Decimal(0)
    unpriced: int = 0
    estimated: int = 0

    @property
    def cost(self) -> Decimal | None:
        """What it cost in US dollars; None, unknown, if that of any part is."""
        return None if self.unpriced else self.known_cost

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def add(self, other: UsageTotals) -> None:
        """Count *other* in."""
        for name in _FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_dict(self) -> dict[str, Any]:
        """The sum as JSON can hold it, with `cost` as text, null if it is not known."""
        found = {name: getattr(self, name) for name in _FIELDS}
        cost = self.cost
        return {
            **found,
            "known_cost": format(self.known_cost, "f"),
            "cost": None if cost is None else format(cost, "f"),
        }


_FIELDS = tuple(field.name for field in fields(UsageTotals))
