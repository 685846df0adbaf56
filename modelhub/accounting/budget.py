"""Spending budgets: limits for a period, enforced before each call by reserving what it may use.

What this hub spends is counted when its calls end; what others spend is read from the ledger that they share.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from modelhub.accounting.budget_store import BudgetClaim, BudgetStoreDownError
from modelhub.accounting.options import SpendingOptions, find_period
from modelhub.core.clock import Clock
from modelhub.core.errors import BudgetExceeded
from modelhub.core.process import register_at_fork
from modelhub.core.response import ChatUsage
from modelhub.core.threads import new_lock

if TYPE_CHECKING:
    from modelhub.accounting.budget_store import BudgetReservation, BudgetStore
    from modelhub.accounting.shared_spend import SharedSpend
    from modelhub.core.request import ChatRequest
    from modelhub.middleware.usage.options import Pricing

__all__ = ["SpendingBudgets"]

_log = logging.getLogger("modelhub")
_ZERO = Decimal(0)
_KEPT_AFTER = 86_400.0  # seconds for which a store keeps the account of a period that is over
MAX_ACCOUNTS = 4096  # accounts of one budget, before those of past periods are forgotten


@dataclass(slots=True)
class _BudgetWindow:
    """What this hub has spent on one account of a budget in the current period.

    `key` is a tag's value, or "" for a budget with one account.
    """

    key: str
    starts: datetime
    ends: datetime
    spent: Decimal = _ZERO
    held: Decimal = _ZERO
    unpriced: int = 0
    warned: bool = False
    seen_spent: Decimal = _ZERO
    """What all processes had spent when the store was last asked."""


@dataclass(slots=True)
class _Budget:
    name: str
    options: SpendingOptions
    shared_spend: SharedSpend | None
    accounts: dict[str, _BudgetWindow] = field(default_factory=dict)
    warned_models: set[str] = field(default_factory=set)  # models whose missing price was logged

    def account_key(self, model: str, requested: str, tags: Mapping[str, str]) -> str | None:
        """Return the account of a call: its tag's value, "" for a budget with one account; None if not counted."""
        options = self.options
        if options.tag is not None:
            tag, has_value, value = options.tag.partition("=")
            tag_value = tags.get(tag)
            return None if tag_value is None or (has_value and tag_value != value) else "" if has_value else tag_value
        match = (options.model, model) if options.model is not None else (options.chain, requested)
        return "" if match[0] is None or match[0] == match[1] else None

    def get_account(self, account_key: str, at: datetime) -> _BudgetWindow:
        """Return the account of *account_key* for the period that contains *at*."""
        account = self.accounts.get(account_key)
        if account is None or at >= account.ends:
            if len(self.accounts) >= MAX_ACCOUNTS:
                self.accounts = self._list_used(at)
            account = self.accounts[account_key] = self._open_window(account_key, at)
        return account

    def _list_used(self, at: datetime) -> dict[str, _BudgetWindow]:
        """Return the accounts of the period of *at*, and those on which calls of an earlier one are under way."""
        return {key: window for key, window in self.accounts.items() if at < window.ends or window.held}

    def _open_window(self, account_key: str, at: datetime) -> _BudgetWindow:
        last = self.accounts.get(account_key)
        held = last.held if last is not None else _ZERO
        return _BudgetWindow(account_key, *find_period(self.options.per, at), held=held)

    def spent(self, account: _BudgetWindow) -> tuple[Decimal, int]:
        """Return what this hub and others have spent on *account*, and the number of attempts with unknown cost."""
        amount, unpriced = _ZERO, 0
        if self.shared_spend is not None:
            amount, unpriced = self.shared_spend.get_spent(self.name, account.key, account.starts)
        return max(account.spent + amount, account.seen_spent), account.unpriced + unpriced

    def list_accounts(self, at: datetime) -> list[_BudgetWindow]:
        """Return the accounts that are used in the period of *at*; of a budget with one account, always that one."""
        names = [""] if self.options.has_one_account else list(self._list_used(at))
        if self.shared_spend is not None and not self.options.has_one_account:
            names += self.shared_spend.list_accounts(self.name, find_period(self.options.per, at)[0])
        windows = []
        for name in dict.fromkeys(names):
            window = self.accounts.get(name)
            windows.append(window if window is not None and at < window.ends else self._open_window(name, at))
        return windows

    def measure(self, usage: ChatUsage) -> Decimal | None:
        """Return how much of the budget *usage* takes, in its unit, or None if the cost is unknown."""
        return Decimal(usage.total_tokens) if self.options.usd is None else usage.cost

    def to_units(self, amount: Decimal) -> int:
        """Return *amount* as a whole number: micro-dollars, or tokens."""
        return int((amount * (1 if self.options.usd is None else 1_000_000)).to_integral_value())

    def from_units(self, amount: int) -> Decimal:
        """Return *amount*, micro-dollars or tokens, in the budget's unit."""
        return Decimal(amount) / (1 if self.options.usd is None else 1_000_000)

    def format_amount(self, amount: Decimal) -> str:
        return f"{amount:,.0f} tokens" if self.options.usd is None else f"${amount.normalize():f}"


class SpendingBudgets:
    """All budgets of a hub. *shared_spend* has what others have spent, if there is a ledger.

    Safe to use from several threads.
    """

    def __init__(
        self,
        options: Mapping[str, SpendingOptions],
        clock: Clock,
        shared_spend: SharedSpend | None = None,
        store: BudgetStore | None = None,
    ) -> None:
        self._budgets = [_Budget(name, budget_options, shared_spend) for name, budget_options in options.items()]
        self._clock = clock
        self.shared_spend = shared_spend
        self._store = store
        self._lock = new_lock()
        self._forks = 0
        register_at_fork(self)

    def reconfigure(
        self,
        options: Mapping[str, SpendingOptions],
        shared_spend: SharedSpend | None,
        store: BudgetStore | None = None,
    ) -> None:
        """Hold to *options* from now on.

        What is spent and reserved on a budget goes on if it has the same name, unit, period and subject.
        """
        with self._lock:
            known = {_identify(budget.name, budget.options): budget for budget in self._budgets}
            budgets = []
            for name, budget_options in options.items():
                budget = known.get(_identify(name, budget_options)) or _Budget(name, budget_options, shared_spend)
                budget.options, budget.shared_spend = budget_options, shared_spend
                budgets.append(budget)
            self._budgets, self.shared_spend, self._store = budgets, shared_spend, store

    async def reserve(
        self, request: ChatRequest, model: str, guess: Callable[[], ChatUsage], price: Pricing | None
    ) -> Callable[[Sequence[ChatUsage]], None]:
        """Reserve what the call may use, as *guess* estimates. Returns a function that settles it with the real usage.

        Raises BudgetExceeded if a budget has less left: in this process, by the ledger, or in the store that several
        processes share.
        """
        matching = self._match(request, model)
        if not matching:
            return _settle_nothing
        if self.shared_spend is not None:
            self.shared_spend.refresh_if_due()
        now, estimate, forks = self._clock.wall(), guess(), self._forks
        if price is not None and any(budget.options.usd is not None for budget, _ in matching):
            cost = price.cost(estimate, now)
            estimate["cost"] = None if cost is None else str(cost)
        with self._lock:
            reservations = [
                (budget, account_key, _admit(budget, budget.get_account(account_key, now), estimate, now))
                for budget, account_key in matching
            ]
            for budget, account_key, amount in reservations:
                budget.get_account(account_key, now).held += amount

        shared = None
        if self._store is not None:
            try:
                shared = await self._reserve_in_store(self._store, reservations, now)
            except BaseException:
                self._settle(reservations, model, ())
                raise

        def settle(used: Sequence[ChatUsage]) -> None:
            if forks == self._forks:  # else the call belongs to the parent process, which counts it
                self._settle(reservations, model, used, shared)

        return settle

    def _match(self, request: ChatRequest, model: str) -> list[tuple[_Budget, str]]:
        """Return the budgets that count a call of *request* at *model*, each with the key of its account."""
        context = request.context
        return [
            (budget, account_key)
            for budget in self._budgets
            if (account_key := budget.account_key(model, context.requested, context.tags)) is not None
        ]

    async def _reserve_in_store(
        self, store: BudgetStore, reservations: Sequence[tuple[_Budget, str, Decimal]], now: datetime
    ) -> BudgetReservation:
        """Reserve in *store* what is reserved here. Raises BudgetExceeded."""
        with self._lock:
            claims = [
                _make_claim(budget, budget.get_account(account_key, now), amount, now)
                for budget, account_key, amount in reservations
            ]
        try:
            reservation = await store.reserve(claims)
        except BudgetStoreDownError as error:
            names = ", ".join(f"`{budget.name}`" for budget, _, _ in reservations)
            why = f"what is left of the budget {names} is not known while the shared store is down"
            raise BudgetExceeded(f"{why} (`when_down.budgets: refuse`; {error})") from None
        for (budget, account_key, amount), state in zip(reservations, reservation.states, strict=False):
            account = budget.get_account(account_key, now)
            account.seen_spent = budget.from_units(state.spent)
            if state.is_refused:
                held = budget.from_units(state.held)
                raise _exceeded(budget, account, (account.seen_spent, held, amount), now)
        return reservation

    def _settle(
        self,
        reservations: Sequence[tuple[_Budget, str, Decimal]],
        model: str,
        used: Sequence[ChatUsage],
        shared: BudgetReservation | None = None,
    ) -> None:
        measured = [
            (budget, account_key, amount, _measure(budget, model, used)) for budget, account_key, amount in reservations
        ]
        with self._lock:
            for budget, account_key, amount, (spent, unpriced) in measured:
                account = budget.get_account(account_key, self._clock.wall())
                account.held -= amount
                account.spent += spent
                account.unpriced += unpriced
        if shared is not None:
            shared.settle([budget.to_units(spent) for budget, _, _, (spent, _) in measured])

    def as_list(self) -> list[dict[str, Any]]:
        """Return every account in its current period as a JSON-compatible dict."""
        if self.shared_spend is not None:
            self.shared_spend.refresh_if_due()
        at = self._clock.wall()
        with self._lock:
            return [
                _describe_account(budget, account) for budget in self._budgets for account in budget.list_accounts(at)
            ]

    def reset_after_fork(self) -> None:
        """Drop what the parent has spent and reserved in a forked child."""
        self._lock = new_lock()
        self._forks += 1
        at = self._clock.wall()
        for budget in self._budgets:
            for account in budget.accounts.values():
                account.held = _ZERO
            if self.shared_spend is not None:
                spent = {
                    key: (window.spent, window.unpriced) for key, window in budget.accounts.items() if at < window.ends
                }
                self.shared_spend.take_over_after_fork(budget.name, at, spent)
                budget.accounts = {}


def _identify(name: str, options: SpendingOptions) -> tuple[object, ...]:
    """Return what a budget must share with another one for what is spent on the one to count for the other."""
    return name, options.usd is None, options.per, options.model, options.chain, options.tag


def _settle_nothing(used: Sequence[ChatUsage]) -> None:
    """Do nothing: the call is not on any budget."""


def _admit(budget: _Budget, account: _BudgetWindow, estimate: ChatUsage, at: datetime) -> Decimal:
    """Return how much to reserve for a call that may use *estimate*. Raises BudgetExceeded."""
    amount, limit = budget.measure(estimate) or _ZERO, budget.options.limit
    spent, _ = budget.spent(account)
    committed = spent + account.held
    if committed + amount <= limit and committed < limit:
        return amount
    error = _exceeded(budget, account, (spent, account.held, amount), at)
    if budget.options.on_exceeded == "fail":
        raise error
    if not account.warned:
        account.warned = True
        _log.warning("%s", error)
    return amount


def _exceeded(
    budget: _Budget, account: _BudgetWindow, amounts: tuple[Decimal, Decimal, Decimal], at: datetime
) -> BudgetExceeded:
    """Return the error for a call; *amounts* are what is spent, what is reserved, and what the call may use."""
    resets = (account.ends - at).total_seconds()
    name = f"`{budget.name}` of {account.key}" if account.key else f"`{budget.name}`"
    limit, used, held, needed = map(budget.format_amount, (budget.options.limit, *amounts))
    message = (
        f"budget {name} ({limit} per {budget.options.per}) has {used} spent and {held} reserved for calls under way, "
        f"and this one may use {needed}; it resets at {account.ends:%Y-%m-%d %H:%M} UTC"
    )
    return BudgetExceeded(message, retry_after=resets)


def _make_claim(budget: _Budget, account: _BudgetWindow, amount: Decimal, at: datetime) -> BudgetClaim:
    """Return what a call reserves on *account* in a store that processes share."""
    spent, _ = budget.spent(account)
    return BudgetClaim(
        account=f"{budget.name}:{account.key}:{account.starts:%Y-%m-%dT%H:%M}",
        limit=budget.to_units(budget.options.limit),
        amount=budget.to_units(amount),
        known=budget.to_units(spent),
        seconds=(account.ends - at).total_seconds() + _KEPT_AFTER,
        enforce=budget.options.on_exceeded == "fail",
    )


def _measure(budget: _Budget, model: str, used: Sequence[ChatUsage]) -> tuple[Decimal, int]:
    """Return how much of the budget *used* takes, and the number of attempts with unknown cost."""
    amounts = [budget.measure(usage) for usage in used]
    unpriced = amounts.count(None)
    if unpriced and model not in budget.warned_models:
        budget.warned_models.add(model)
        _log.warning(
            "budget `%s` cannot count `%s`: its price is not known (set `pricing:` in its entry)", budget.name, model
        )
    return sum((amount for amount in amounts if amount is not None), _ZERO), unpriced


def _describe_account(budget: _Budget, account: _BudgetWindow) -> dict[str, Any]:
    """Return one account as a JSON-compatible dict."""
    limit, (spent, unpriced) = budget.options.limit, budget.spent(account)
    return {
        "budget": budget.name,
        "of": account.key or None,
        "unit": "tokens" if budget.options.usd is None else "usd",
        "limit": format(limit, "f"),
        "spent": format(spent, "f"),
        "held": format(account.held, "f"),
        "left": format(max(_ZERO, limit - spent - account.held), "f"),
        "unpriced": unpriced,
        "resets": account.ends.isoformat(),
    }
