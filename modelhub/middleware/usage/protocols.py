"""What the usage layer needs of prices and budgets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatUsage
from modelhub.middleware.usage.options import Figures

__all__ = ["BudgetPolicy", "Commit", "PriceSource", "Pricing"]


class Pricing(Protocol):
    """What prices usage: the entry's own `pricing`, or a published table."""

    def cost(self, usage: Figures, at: datetime | None = None) -> Decimal | None:
        """What *usage* costs in US dollars at *at*, None if that is not known."""
        ...


class PriceSource(Protocol):
    """Finds the price of a model; the price book of a hub is one."""

    def price(self, model: Any, own: Pricing | None = None) -> Pricing | None:
        """The price of the provider *model*, whose entry has *own*."""
        ...


Commit = Callable[[Sequence[ChatUsage]], None]


class BudgetPolicy(Protocol):
    """Budgets: *reserve* before, *settle* after."""

    async def reserve(
        self, request: ChatRequest, model: str, guess: Callable[[], ChatUsage], price: Pricing | None
    ) -> Commit:
        """Set aside what the call may use. Raises BudgetExceeded."""
        ...
