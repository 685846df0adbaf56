"""Totals of usage, which know how many attempts have no known cost."""

from __future__ import annotations

from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

__all__ = ["UsageTotals"]


@dataclass(slots=True)
class UsageTotals:
    """The usage of some calls together.

    `calls` are finished calls, and `failed` those of them that failed; a call counts for the model of its last attempt.
    Everything else counts for the model of each attempt. `known_cost` is the sum of all known costs in US dollars,
    `unpriced` the number of attempts with an unknown cost, and `estimated` the number of attempts with estimated
    tokens.
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
        """The cost in US dollars, or None if the cost of any attempt is unknown."""
        return None if self.unpriced else self.known_cost

    @property
    def total_tokens(self) -> int:
        """Input and output tokens together."""
        return self.input_tokens + self.output_tokens

    @property
    def cache_share(self) -> float | None:
        """The share of the input tokens that were read from a prompt cache, or None without input."""
        return self.cache_read_tokens / self.input_tokens if self.input_tokens else None

    def add(self, other: UsageTotals) -> None:
        """Add *other* to these totals."""
        for name in _FIELDS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_dict(self) -> dict[str, Any]:
        """Return the totals as a JSON-compatible dict, with `cost` as text, or None if it is unknown."""
        sums = {name: getattr(self, name) for name in _FIELDS}
        cost = self.cost
        return {
            **sums,
            "cache_share": None if self.cache_share is None else round(self.cache_share, 4),
            "known_cost": format(self.known_cost, "f"),
            "cost": None if cost is None else format(cost, "f"),
        }


_FIELDS = tuple(field.name for field in fields(UsageTotals))
