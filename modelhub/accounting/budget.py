"""Budgets: what may be spent in a period, enforced before a call by setting aside what it may use.

The periods are those of the calendar, in UTC; a span such as `30d` is counted from the epoch, so that every process
and every restart means the same one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from modelhub.accounting.options import SpendingOptions
from modelhub.errors import BudgetExceeded
from modelhub.response import ChatUsage

if TYPE_CHECKING:
    from modelhub.accounting.prices import Price
    from modelhub.model import ChatRequest

__all__ = ["Budgets", "period"]

_log = logging.getLogger("modelhub")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_SPANS = {"hour": _HOUR, "h": _HOUR, "day": _DAY, "d": _DAY}
_ZERO = Decimal(0)
_MANY = 4096  # accounts of one budget, before those of past periods are forgotten
Spent = Callable[[SpendingOptions, datetime], Mapping[str, tuple[Decimal, int, int]]]
"""What the ledger says was spent since an instant, by the tag's value: dollars, tokens, attempts without a price."""


def period(per: str, at: datetime) -> tuple[datetime, datetime]:
    """The beginning and the end of the period *per* in which *at* is."""
    at = at.astimezone(UTC)
    if per == "month":
        start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return start, (start + timedelta(days=32)).replace(day=1)
    span = _SPANS[per] if per in _SPANS else int(per[:-1]) * _SPANS[per[-1]]
    start = _EPOCH + (at - _EPOCH) // span * span
    return start, start + span


@dataclass(slots=True)
class _Account:
    """What one budget, or one value of its tag, has spent in the period it is in."""

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
    accounts: dict[str, _Account] = field(default_factory=dict)
    told: set[str] = field(default_factory=set)  # models whose missing price was logged

    @property
    def limit(self) -> Decimal:
        return Decimal(self.options.tokens or 0) if self.options.usd is None else self.options.usd

    def whose(self, model: str, requested: str, tags: Mapping[str, str]) -> str | None:
        """Whose account a call is on: the tag's value, or "" for a budget that has one account; None if on none."""
        options = self.options
        if options.tag is not None:
            tag, given, value = options.tag.partition("=")
            found = tags.get(tag)
            return None if found is None or (given and found != value) else "" if given else found
        wanted = (options.model, model) if options.model is not None else (options.chain, requested)
        return "" if wanted[0] is None or wanted[0] == wanted[1] else None

    def account(self, whose: str, at: datetime) -> _Account:
        """The account of *whose*, in the period of *at*."""
        found = self.accounts.get(whose)
        if found is None or at >= found.ends:
            held = found.held if found is not None else _ZERO
            if len(self.accounts) >= _MANY:
                self.accounts = {key: one for key, one in self.accounts.items() if at < one.ends or one.held}
            found = self.accounts[whose] = _Account(*period(self.options.per, at), held=held)
        return found

    def amount(self, usage: ChatUsage) -> Decimal | None:
        """How much of the budget *usage* is; None if its cost is not known."""
        if self.options.usd is None:
            return Decimal(usage.total_tokens)
        return usage.cost

    def said(self, amount: Decimal) -> str:
        return f"{amount:,.0f} tokens" if self.options.usd is None else f"${amount.normalize():f}"


class Budgets:
    """All budgets of a hub. *spent* tells what the ledger has of the current periods.

    Safe to use from several threads.
    """

    def __init__(self, options: Mapping[str, SpendingOptions], now: datetime, spent: Spent | None = None) -> None:
        self._budgets = [_Budget(name, of) for name, of in options.items()]
        self._lock = threading.RLock()  # a call may be settled by the garbage collector, while it is held
        if spent is not None:
            for budget in self._budgets:
                _restore(budget, now, spent)

    def reserve(
        self, request: ChatRequest, model: str, guess: Callable[[], ChatUsage], price: Price | None
    ) -> Callable[[Sequence[ChatUsage]], None]:
        """Set aside what *guess* says the call may use; gives what settles it with the real figures.

        Raises BudgetExceeded if that is more than what is left of a budget.
        """
        context = request.context
        clock = context.services.clock
        concerned = [
            (budget, whose)
            for budget in self._budgets
            if (whose := budget.whose(model, context.requested, context.tags)) is not None
        ]
        if not concerned:
            return _nothing
        at, expected = clock.wall(), guess()
        if price is not None and any(budget.options.usd is not None for budget, _ in concerned):
            cost = price.cost(expected, at)
            expected["cost"] = None if cost is None else str(cost)
        with self._lock:
            holds = [
                (budget, whose, _admitted(budget, whose, budget.account(whose, at), expected, at))
                for budget, whose in concerned
            ]
            for budget, whose, amount in holds:
                budget.account(whose, at).held += amount

        def settle(used: Sequence[ChatUsage]) -> None:
            real = [(budget, whose, amount, _real(budget, model, used)) for budget, whose, amount in holds]
            with self._lock:
                for budget, whose, amount, (spent, unpriced) in real:
                    account = budget.account(whose, clock.wall())
                    account.held -= amount
                    account.spent += spent
                    account.unpriced += unpriced

        return settle

    def as_list(self) -> list[dict[str, Any]]:
        """Every account as JSON can hold it."""
        with self._lock:
            return [
                _shown(budget, whose, account) for budget in self._budgets for whose, account in budget.accounts.items()
            ]


def _nothing(used: Sequence[ChatUsage]) -> None:
    """Settle a call that is on no budget."""


def _admitted(budget: _Budget, whose: str, account: _Account, expected: ChatUsage, at: datetime) -> Decimal:
    """How much to set aside for a call that is expected to use *expected*. Raises BudgetExceeded."""
    amount = budget.amount(expected) or _ZERO
    taken = account.spent + account.held
    if taken + amount <= budget.limit and taken < budget.limit:
        return amount
    resets = (account.ends - at).total_seconds()
    name = f"`{budget.name}` of {whose}" if whose else f"`{budget.name}`"
    text = (
        f"budget {name} ({budget.said(budget.limit)} per {budget.options.per}) has {budget.said(account.spent)} spent "
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


def _restore(budget: _Budget, now: datetime, spent: Spent) -> None:
    starts, _ = period(budget.options.per, now)
    for whose, (usd, tokens, unpriced) in spent(budget.options, starts).items():
        account = budget.account(whose, now)
        account.spent = Decimal(tokens) if budget.options.usd is None else usd
        account.unpriced = 0 if budget.options.usd is None else unpriced


def _shown(budget: _Budget, whose: str, account: _Account) -> dict[str, Any]:
    """One account as JSON can hold it."""
    left = max(_ZERO, budget.limit - account.spent - account.held)
    return {
        "budget": budget.name,
        "of": whose or None,
        "unit": "tokens" if budget.options.usd is None else "usd",
        "limit": format(budget.limit, "f"),
        "spent": format(account.spent, "f"),
        "held": format(account.held, "f"),
        "left": format(left, "f"),
        "unpriced": account.unpriced,
        "resets": account.ends.isoformat(),
    }
