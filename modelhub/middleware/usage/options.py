"""What tokens cost."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Protocol

from pydantic import Field

from modelhub.options import LayerOptions

__all__ = ["Figures", "Pricing", "PricingOptions"]

_Price = Annotated[Decimal, Field(ge=0)]

_MILLION = Decimal(1_000_000)

Figures = Mapping[str, Any]
"""The counts of a `ChatUsage`."""


class Pricing(Protocol):
    """What prices usage: the entry's own `pricing`, or a published table."""

    def cost(self, usage: Figures, at: datetime | None = None) -> Decimal | None:
        """What *usage* costs in US dollars at *at*, None if that is not known."""
        ...


class PricingOptions(LayerOptions):
    """Prices in US dollars per million tokens."""

    input: _Price
    """Input tokens that were neither read from nor written to a cache."""
    output: _Price
    """Output tokens, reasoning included."""
    cache_read: _Price | None = None
    """Input tokens read from a cache; the default is the price of `input`."""
    cache_write: _Price | None = None
    """Input tokens written to a cache; the default is the price of `input`."""
    cache_write_1h: _Price | None = None
    """Input tokens written to a cache for an hour, as Anthropic counts them; the default is twice `input`, its
    price."""

    def cost(self, usage: Figures, at: datetime | None = None) -> Decimal:  # noqa: ARG002 - these prices do not change
        """What *usage* costs in US dollars."""
        read, written, hour = usage["cache_read_tokens"], usage["cache_write_tokens"], usage["cache_write_1h_tokens"]
        fresh = max(0, usage["input_tokens"] - read - written)
        cost: Decimal = fresh * self.input + usage["output_tokens"] * self.output
        if read:
            cost += read * (self.input if self.cache_read is None else self.cache_read)
        if written:
            cost += (written - hour) * (self.input if self.cache_write is None else self.cache_write)
            cost += hour * (2 * self.input if self.cache_write_1h is None else self.cache_write_1h)
        return cost / _MILLION
