"""Usage: what an answer cost, put on the answer itself and on the record of its attempt."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from modelhub.model import ChatModelBase, ChatRequest, Layer
from modelhub.options import LayerOptions
from modelhub.response import ChatUsage
from modelhub.stream import Outcome, Reply, on_settled

__all__ = ["PricingOptions", "Usage"]

_Price = Annotated[Decimal, Field(ge=0)]
_MILLION = Decimal(1_000_000)


class PricingOptions(LayerOptions):
    """What a million tokens cost, in US dollars."""

    input: _Price
    """Input tokens that were neither read from nor written to a cache."""
    output: _Price
    """Output tokens, reasoning included."""
    cache_read: _Price | None = None
    """Input tokens read from a cache; as `input` if not given."""
    cache_write: _Price | None = None
    """Input tokens written to a cache; as `input` if not given."""

    def cost(self, usage: ChatUsage) -> Decimal:
        """What *usage* costs in US dollars."""
        read, written = usage["cache_read_tokens"], usage["cache_write_tokens"]
        fresh = usage["input_tokens"] - read - written
        cost: Decimal = (
            fresh * self.input
            + read * (self.input if self.cache_read is None else self.cache_read)
            + written * (self.input if self.cache_write is None else self.cache_write)
            + usage["output_tokens"] * self.output
        ) / _MILLION
        return cost


class Usage(Layer):
    """Prices what the model below answers; without a price the cost is unknown, not nothing."""

    Options = PricingOptions

    def __init__(self, inner: ChatModelBase, pricing: PricingOptions | None = None) -> None:
        super().__init__(inner)
        self.pricing = pricing

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: PricingOptions | None, shared: Any) -> ChatModelBase:  # noqa: ARG003
        """Only a model with a price needs the layer."""
        return inner if options is None else cls(inner, options)

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, whose last snapshot's usage, and whose attempts, say what they cost."""
        before = len(request.context.attempts)

        def price(outcome: Outcome) -> None:
            usages = [attempt["usage"] for attempt in request.context.attempts[before:]]
            for usage in (*usages, outcome.reply["usage"] if outcome.reply is not None else None):
                if usage is not None and self.pricing is not None and usage["cost"] is None:
                    usage["cost"] = str(self.pricing.cost(usage))

        try:
            reply = await self.inner.send(request)
        except BaseException as error:
            price(Outcome("failed", None, error))
            raise
        on_settled(reply, price)
        return reply
