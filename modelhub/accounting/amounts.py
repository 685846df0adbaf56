"""Amounts that are spent on a budget."""

from __future__ import annotations

from decimal import Decimal

__all__ = ["ZERO_AMOUNT", "Amount"]

Amount = tuple[Decimal, int]
"""An amount in the budget's unit, and the number of attempts with unknown cost."""
ZERO_AMOUNT: Amount = Decimal(0), 0
