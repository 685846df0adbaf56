"""What rows may cost, before they are asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from modelhub.core.context import CallContext, Services
from modelhub.core.errors import InvalidRequest
from modelhub.core.model import ChatModelBase
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatUsage
from modelhub.messages.normalize import normalise_messages
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.token_estimates import input_tokens, max_output_tokens, min_input_tokens
from modelhub.middleware.usage.layer import Usage

__all__ = ["ASSUMED_OUTPUT_TOKENS", "SHORT_OUTPUT_TOKENS", "CostEstimate", "CostEstimator", "list_priced_models"]

ASSUMED_OUTPUT_TOKENS = 400
"""How long an answer is assumed to be, as long as nothing is known of the answers of a job."""
SHORT_OUTPUT_TOKENS = 20
"""How long an answer is in the estimate on the low side."""


@dataclass(slots=True)
class CostEstimate:
    """What some rows may cost, in US dollars; `worst` is None if nothing limits the length of an answer.

    `low`: short answers of the cheapest model, at the first attempt. `expected`: answers as long as those before, of
    the first model. `worst`: the longest answers that are allowed, and every attempt of every model paid.
    """

    low: Decimal = Decimal(0)
    expected: Decimal = Decimal(0)
    worst: Decimal | None = Decimal(0)

    def add(self, other: CostEstimate) -> None:
        """Add *other* to these figures."""
        self.low += other.low
        self.expected += other.expected
        self.worst = None if self.worst is None or other.worst is None else self.worst + other.worst

    def apply_batches(self, factor: Decimal) -> None:
        """Change these figures to those of rows that go through a batch API, which costs *factor* of the price.

        In the worst case they are paid there, and asked one by one all the same.
        """
        self.low *= factor
        self.expected *= factor
        self.worst = None if self.worst is None else self.worst * (1 + factor)


@dataclass(frozen=True, slots=True)
class PricedModel:
    """A model of the chain as far as its costs go."""

    name: str
    usage: Usage
    provider: ChatModelBase
    max_attempts: int

    def find_cost(self, usage: ChatUsage) -> Decimal | None:
        """Return what *usage* costs, or None if the price is not known."""
        pricing = self.usage.pricing
        return None if pricing is None else pricing.cost(usage)


class CostEstimator:
    """Estimates what a row costs that *model*, a chain of a hub, is asked with *parameters*.

    *output_tokens* is the average of the answers that are known, or None.
    """

    def __init__(self, model: ChatModelBase, parameters: Mapping[str, Any], output_tokens: float | None = None) -> None:
        self._models = list(list_priced_models(model))
        self._parameters = {**model.ask, **parameters}
        self._output_tokens = round(ASSUMED_OUTPUT_TOKENS if output_tokens is None else output_tokens)
        sample = self._make_request("?")
        bounds = [max_output_tokens(sample, priced.provider) for priced in self._models]
        unpriced = [priced.name for priced in self._models if priced.find_cost(ChatUsage(1000, 1000)) is None]
        unbounded = [priced.name for priced, bound in zip(self._models, bounds, strict=True) if bound is None]
        self.unpriced = list(dict.fromkeys(unpriced))
        """The names of the models whose price is not known."""
        self.unbounded = list(dict.fromkeys(unbounded))
        """The names of the models whose answers may be of any length."""
        self.output_tokens = min([self._output_tokens, *(bound for bound in bounds[:1] if bound is not None)])
        """How long an answer of the first model is expected to be."""

    def _make_request(self, messages: Any) -> ChatRequest:
        return ChatRequest(
            messages=normalise_messages(messages),
            tools=(),
            tool_choice=None,
            structured_model=None,
            stream=False,
            options=self._parameters,
            context=CallContext(Services(), "estimate"),
        )

    def estimate(self, messages: Any) -> CostEstimate:
        """Return what a row with *messages* may cost. Raises InvalidRequest if they cannot be sent."""
        request = self._make_request(messages)
        least, likely = min_input_tokens(request), input_tokens(request)
        lows, worst = [], Decimal(0)
        expected: Decimal | None = None
        for priced in self._models:
            bound = max_output_tokens(request, priced.provider)
            lows.append(priced.find_cost(ChatUsage(least, min(SHORT_OUTPUT_TOKENS, bound or SHORT_OUTPUT_TOKENS))))
            if expected is None:
                length = self._output_tokens if bound is None else min(self._output_tokens, bound)
                expected = priced.find_cost(ChatUsage(likely, length)) or Decimal(0)
            longest = priced.find_cost(ChatUsage(likely, bound or self._output_tokens)) or Decimal(0)
            worst += longest * priced.max_attempts
        known = [low for low in lows if low is not None]
        return CostEstimate(min(known, default=Decimal(0)), expected or Decimal(0), None if self.unbounded else worst)

    def reserve(self, messages: Any) -> Decimal:
        """Return what to set aside for a row with *messages*: the dearest model's longest answer, or one as expected.

        Messages that cannot be sent cost nothing.
        """
        try:
            request = self._make_request(messages)
        except InvalidRequest:
            return Decimal(0)
        tokens = input_tokens(request)
        costs = [
            priced.find_cost(ChatUsage(tokens, max_output_tokens(request, priced.provider) or self._output_tokens))
            for priced in self._models
        ]
        return max((cost for cost in costs if cost is not None), default=Decimal(0))


def list_priced_models(model: ChatModelBase) -> Iterator[PricedModel]:
    """Yield the models that a call of *model* may ask, in order."""
    *layers, innermost = model.stack()
    usage = next((layer for layer in layers if isinstance(layer, Usage)), None)
    if usage is not None:
        yield PricedModel(model.name, usage, innermost, model.max_attempts or 1)
    elif isinstance(innermost, Chain):
        for member in innermost.models:
            if member.configured:
                yield from list_priced_models(member)
