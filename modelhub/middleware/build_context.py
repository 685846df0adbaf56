"""What layers are built from besides their options."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from modelhub.core.context import Services
from modelhub.core.model import ChatModelBase
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatUsage
from modelhub.middleware.breaker.state import BreakerState
from modelhub.middleware.limit.store import LimitPool, LimitStore
from modelhub.middleware.retry.budget import RetryBudget
from modelhub.middleware.usage.options import Pricing

__all__ = ["MAX_UNBOUNDED_WAIT", "BudgetPolicy", "BuildContext", "Commit", "RenewModel", "SharedState"]

MAX_UNBOUNDED_WAIT = 60.0
"""How many seconds a call without a deadline waits at most for a model that is cooling down."""


class CooldownStore(Protocol):
    """Shares over processes how long models cool down."""

    def watch(self, identity: Hashable, state: BreakerState) -> None:
        """Share how long the model of *identity* cools down, of which *state* knows."""
        ...

    def listen(self) -> None:
        """Make sure that the running event loop hears what other processes say."""
        ...


class PriceSource(Protocol):
    """Finds the price of a model; the price book of a hub is one."""

    def price(self, model: Any, own: Pricing | None = None) -> Pricing | None:
        """Return the price of the provider *model*, whose entry has *own*."""
        ...


Commit = Callable[[Sequence[ChatUsage]], None]
"""Replaces what was reserved of budgets by what each attempt has used."""


class BudgetPolicy(Protocol):
    """Budgets, of which a call reserves what it may use."""

    async def reserve(
        self, request: ChatRequest, model: str, guess: Callable[[], ChatUsage], price: Pricing | None
    ) -> Commit:
        """Set aside what the call may use, and return what settles it. Raises BudgetExceeded."""
        ...


RenewModel = Callable[[str, ChatModelBase], Awaitable[ChatModelBase | None]]
"""Takes a label and its layer `Retry`, renews the secrets, and returns the layer that there is now if it is another."""


@dataclass(frozen=True, slots=True)
class SharedState:
    """What all models of a hub have in common.

    *limits* are the named pools, *own_limits* those that belong to one model, by its name, and *limit_store* makes
    further ones (None: they are kept in this process). *breakers* are the breakers' states by the identity of what they
    guard, and *cooldowns* shares how long they are open (None: with nobody). *prices* finds the price of a model, and
    *budgets* bound what is spent, where the hub has any.
    """

    retry_budget: RetryBudget = field(default_factory=RetryBudget)
    limits: Mapping[str, LimitPool[Any]] = field(default_factory=dict)
    limit_store: LimitStore | None = None
    own_limits: dict[str, LimitPool[Any]] = field(default_factory=dict)
    breakers: dict[Hashable, BreakerState] = field(default_factory=dict, repr=False)  # identities hold addresses
    cooldowns: CooldownStore | None = None
    prices: PriceSource | None = None
    budgets: BudgetPolicy | None = None


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What `build` passes to the layers of one model.

    *identity* is the same for models that share a vendor's endpoint, key and model name. *label* is the entry's name,
    with that of the key if it has several. *renew* returns the model with its layers to go on with after one that was
    refused for its key, from the layer `Retry` on; None if the model's secrets are not renewed.
    """

    services: Services = field(default_factory=Services)
    identity: Hashable = field(default=None, repr=False)
    shared: SharedState = field(default_factory=SharedState)
    label: str = ""
    renew: RenewModel | None = None
