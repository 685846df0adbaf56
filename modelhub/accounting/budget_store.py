"""What a budget needs of a store that keeps what several processes have spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = ["BudgetClaim", "BudgetReservation", "AccountState", "BudgetStore", "BudgetStoreDownError"]


@dataclass(frozen=True, slots=True)
class BudgetClaim:
    """What one call may take of one account of a budget.

    Amounts are whole numbers: micro-dollars, or tokens. `known` is what this process knows to be spent, by its own
    calls and by the ledger; a store that knows of less is corrected. An account is kept for `seconds`. A claim that
    does not `enforce` the limit is always granted.
    """

    account: str
    limit: int
    amount: int
    known: int
    seconds: float
    enforce: bool


@dataclass(frozen=True, slots=True)
class AccountState:
    """What all processes have spent and reserved on an account; `is_refused` if the claim on it does not fit."""

    spent: int
    held: int
    is_refused: bool = False


class BudgetReservation(Protocol):
    """What a call has reserved in the store."""

    states: Sequence[AccountState]
    """The accounts as they were before, in the order of the claims; if one refuses, nothing is reserved."""

    def settle(self, used: Sequence[int]) -> None:
        """Replace each claim by what was *used*. From any thread; only the first call counts."""
        ...


class BudgetStoreDownError(Exception):
    """The store cannot be reached, and the file says that calls are refused meanwhile."""


class BudgetStore(Protocol):
    """Keeps what all processes have spent."""

    async def reserve(self, claims: Sequence[BudgetClaim]) -> BudgetReservation:
        """Reserve all of *claims*, or none. Raises BudgetStoreDownError."""
        ...
