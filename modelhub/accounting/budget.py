"""Budgets: what may be spent in a period, enforced before a call by setting aside what it may use.

What calls of this hub spend is counted when they are settled; of what others spend the ledger tells that all keep.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from modelhub.accounting.options import SpendingOptions
from modelhub.accounting.period import period
from modelhub.accounting.shared_spend import NOTHING, Amount, SharedSpend
from modelhub.core.clock import Clock
from modelhub.core.errors import BudgetExceeded
from modelhub.core.process import register_at_fork
from modelhub.core.response import ChatUsage

if TYPE_CHECKING:
    from modelhub.accounting.prices import Price
    from modelhub.core.model import ChatRequest

__all__ = ["SpendingBudgets"]

_log = logging.getLogger("modelhub")
_ZERO = Decimal(0)
_MAX_ACCOUNTS = 4096  # accounts of one budget, before those of past periods are forgotten


@dataclass(slots=True)
class _BudgetWindow:
    """What calls of this hub have spent on one budget, or on one value of its tag, in the period it is in."""

    starts: datetime
    ends: datetime
    spent: Decimal = _ZERO
    held: Decimal = _ZERO
    unpriced: int = 0
    warned: bool = False


@dataclass(slots=True)
class _Budget:
    name: str
    options: SpendingOptions
    shared_spend: SharedSpend | None
    accounts: dict[str, _BudgetWindow] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)  # models whose missing price was logged

    @property
    def limit(self) -> Decimal:
        return Decimal(self.options.tokens or 0) if self.options.usd is None else self.options.usd

    def account_key(self, model: str, requested: str, tags: Mapping[str, str]) -> str | None:
        """Whose account a call is on: the tag's value, or "" for a budget that has one account; None if on none."""
        options = self.options
        if options.tag is not None:
            tag, given, value = options.tag.partition("=")
            found = tags.get(tag)
            return None if found is None or (given and found != value) else "" if given else found
        wanted = (options.model, model) if options.model is not None else (options.chain, requested)
        return "" if wanted[0] is None or wanted[0] == wanted[1] else None

    def account(self, account_key: str, at: datetime) -> _BudgetWindow:
        """The account of *account_key*, in the period of *at*."""
        found = self.accounts.get(account_key)
        if found is None or at >= found.ends:
            if len(self.accounts) >= _MAX_ACCOUNTS:
                self.accounts = {key: one for key, one in self.accounts.items() if at < one.ends or one.held}
            found = self.accounts[account_key] = self._of_this_period(found, at)
        return found

    def _of_this_period(self, last: _BudgetWindow | None, at: datetime) -> _BudgetWindow:
        return _BudgetWindow(*period(self.options.per, at), held=last.held if last is not None else _ZERO)

    def spent(self, account_key: str, account: _BudgetWindow) -> Amount:
        """What has been spent on *account*, by this hub and by others."""
        amount, unpriced = (
            self.shared_spend.of(self.name, account_key, account.starts) if self.shared_spend is not None else NOTHING
        )
        return account.spent + amount, account.unpriced + unpriced

    def all_accounts(self, at: datetime) -> dict[str, _BudgetWindow]:
        """Every account that has something in the period of *at*, and the only one of a budget that has one."""
        starts, _ = period(self.options.per, at)
        known = {key: one for key, one in self.accounts.items() if at < one.ends or one.held}
        names = [*known, *(self.shared_spend.accounts(self.name, starts) if self.shared_spend is not None else ())]
        if self.options.tag is None or "=" in self.options.tag:
            names = [""]
        found = {name: self.accounts.get(name) for name in names}
        return {
            name: one if one is not None and at < one.ends else self._of_this_period(one, at)
            for name, one in found.items()
        }

    def amount(self, usage: ChatUsage) -> Decimal | None:
        """How much of the budget *usage* is; None if its cost is not known."""
        if self.options.usd is None:
            return Decimal(usage.total_tokens)
        return usage.cost

    def said(self, amount: Decimal) -> str:
        return f"{amount:,.0f} tokens" if self.options.usd is None else f"${amount.normalize():f}"


class SpendingBudgets:
    """All budgets of a hub. *shared_spend* tells what others have spent, where a ledger is kept.

    Safe to use from several threads.
    """

    def __init__(
        self, options: Mapping[str, SpendingOptions], clock: Clock, shared_spend: SharedSpend | None = None
    ) -> None:
        self._budgets = [_Budget(name, of, shared_spend) for name, of in options.items()]
        self._clock = clock
        self._shared_spend = shared_spend
        self._lock = threading.RLock()  # a call may be settled by the garbage collector, while it is held
        self._forks = 0
        register_at_fork(self)

    def reserve(
        self, request: ChatRequest, model: str, guess: Callable[[], ChatUsage], price: Price | None
    ) -> Callable[[Sequence[ChatUsage]], None]:
        """Set aside what *guess* says the call may use; gives what settles it with the real figures.

        Raises BudgetExceeded if that is more than what is left of a budget.
        """
        context = request.context
        concerned = [
            (budget, account_key)
            for budget in self._budgets
            if (account_key := budget.account_key(model, context.requested, context.tags)) is not None
        ]
        if not concerned:
            return _nothing
        if self._shared_spend is not None:
            self._shared_spend.refresh_if_due()
        at, expected, forks = self._clock.wall(), guess(), self._forks
        if price is not None and any(budget.options.usd is not None for budget, _ in concerned):
            cost = price.cost(expected, at)
            expected["cost"] = None if cost is None else str(cost)
        with self._lock:
            reservations = [
                (budget, account_key, _admitted(budget, account_key, budget.account(account_key, at), expected, at))
                for budget, account_key in concerned
            ]
            for budget, account_key, amount in reservations:
                budget.account(account_key, at).held += amount

        def settle(used: Sequence[ChatUsage]) -> None:
            if forks != self._forks:
                return  # it is the parent's, who has set it aside and counts it
            real = [
                (budget, account_key, amount, _real(budget, model, used))
                for budget, account_key, amount in reservations
            ]
            with self._lock:
                for budget, account_key, amount, (spent, unpriced) in real:
                    account = budget.account(account_key, self._clock.wall())
                    account.held -= amount
                    account.spent += spent
                    account.unpriced += unpriced

        return settle

    def as_list(self) -> list[dict[str, Any]]:
        """Every account as JSON can hold it, in the period it is in now."""
        if self._shared_spend is not None:
            self._shared_spend.refresh_if_due()
        at = self._clock.wall()
        with self._lock:
            return [
                _shown(budget, account_key, account)
                for budget in self._budgets
                for account_key, account in budget.all_accounts(at).items()
            ]

    def reset_after_fork(self) -> None:
        """Forget in a forked child what was spent and set aside: it is the parent's."""
        self._lock = threading.RLock()
        self._forks += 1
        at = self._clock.wall()
        for budget in self._budgets:
            for account in budget.accounts.values():
                account.held = _ZERO
            if self._shared_spend is not None:
                spent = {key: (one.spent, one.unpriced) for key, one in budget.accounts.items() if at < one.ends}
                self._shared_spend.take_over_after_fork(budget.name, at, spent)
                budget.accounts = {}


def _nothing(used: Sequence[ChatUsage]) -> None:
    """Settle a call that is on no budget."""


def _admitted(budget: _Budget, account_key: str, account: _BudgetWindow, expected: ChatUsage, at: datetime) -> Decimal:
    """How much to set aside for a call that is expected to use *expected*. Raises BudgetExceeded."""
    amount = budget.amount(expected) or _ZERO
    spent, _ = budget.spent(account_key, account)
    taken = spent + account.held
    if taken + amount <= budget.limit and taken < budget.limit:
        return amount
    resets = (account.ends - at).total_seconds()
    name = f"`{budget.name}` of {account_key}" if account_key else f"`{budget.name}`"
    text = (
        f"budget {name} ({budget.said(budget.limit)} per {budget.options.per}) has {budget.said(spent)} spent "
        f"and {budget.said(account.held)} set aside for calls under way, and this one may use {budget.said(amount)}; "
        f"it resets at {account.ends:%Y-%m-%d %H:%M} UTC"
    )
    if budget.options.on_exceeded == "fail":
        raise BudgetExceeded(text, retry_after=resets)
    if not account.warned:
        account.warned = True
        _log.warning(text)
    return amount


def _real(budget: _Budget, model: str, used: Sequence[ChatUsage]) -> tuple[Decimal, int]:
    """How much of the budget *used* is, and how many attempts have no known cost."""
    amounts = [budget.amount(usage) for usage in used]
    unpriced = amounts.count(None)
    if unpriced and model not in budget.told:
        budget.told.add(model)
        _log.warning(
            "budget `%s` cannot count `%s`: its price is not known (give its entry `pricing:`)", budget.name, model
        )
    return sum((amount for amount in amounts if amount is not None), _ZERO), unpriced


def _shown(budget: _Budget, account_key: str, account: _BudgetWindow) -> dict[str, Any]:
    """One account as JSON can hold it."""
    spent, unpriced = budget.spent(account_key, account)
    left = max(_ZERO, budget.limit - spent - account.held)
    return {
        "budget": budget.name,
        "of": account_key or None,
        "unit": "tokens" if budget.options.usd is None else "usd",
        "limit": format(budget.limit, "f"),
        "spent": format(spent, "f"),
        "held": format(account.held, "f"),
        "left": format(left, "f"),
        "unpriced": unpriced,
        "resets": account.ends.isoformat(),
    }
