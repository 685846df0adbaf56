"""Usage: what an answer cost, put on the answer itself and on the records of its attempts.

What the vendor may have charged for and gave no figures of, a broken or abandoned stream, an attempt that was given up,
is estimated, and marked so. Costs are worked out when they are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Annotated, Any, Protocol

from pydantic import Field

from modelhub.core.errors import Chargeable, failure_classes
from modelhub.core.model import ChatModelBase, ChatRequest, Layer
from modelhub.core.response import Attempt, ChatResponse, ChatUsage, Lazy
from modelhub.core.stream import Outcome, Reply, add_done_callback
from modelhub.middleware.build_context import BuildContext
from modelhub.middleware.token_estimates import characters, max_output_tokens
from modelhub.options import LayerOptions

__all__ = ["PricingOptions", "Usage"]

_Price = Annotated[Decimal, Field(ge=0)]
_MILLION = Decimal(1_000_000)
_WHOLE = {"ok", "BadReply", "ContentBlocked"}  # what ends so has the vendor's last figures, if it has any
_FREE = {cls.__name__ for cls in failure_classes() if cls.policy.billed is Chargeable.NO}
Figures = Mapping[str, Any]
"""The counts of a `ChatUsage`."""


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
    cache_write_1h: _Price | None = None
    """Those of them that are kept for an hour (Anthropic tells); twice `input` if not given, as Anthropic charges."""

    def cost(self, usage: Figures, at: datetime | None = None) -> Decimal:  # noqa: ARG002 - these prices do not change
        """What *usage* costs in US dollars."""
        read, written, hour = usage["cache_read_tokens"], usage["cache_write_tokens"], usage["cache_write_1h_tokens"]
        fresh = max(0, usage["input_tokens"] - read - written)
        cost: Decimal = (
            fresh * self.input
            + read * (self.input if self.cache_read is None else self.cache_read)
            + (written - hour) * (self.input if self.cache_write is None else self.cache_write)
            + hour * (2 * self.input if self.cache_write_1h is None else self.cache_write_1h)
            + usage["output_tokens"] * self.output
        ) / _MILLION
        return cost


class Pricing(Protocol):
    """What prices usage: the entry's own `pricing`, or a published table."""

    def cost(self, usage: Figures, at: datetime | None = None) -> Decimal | None:
        """What *usage* costs in US dollars at *at*, None if that is not known."""
        ...


class PriceSource(Protocol):
    """Where prices are found."""

    def price(self, model: Any, own: Pricing | None = None) -> Pricing | None:
        """The price of the provider *model*, whose entry has *own*."""
        ...


Commit = Callable[[Sequence[ChatUsage]], None]


class BudgetPolicy(Protocol):
    """Budgets: *reserve* before, *settle* after."""

    def reserve(
        self, request: ChatRequest, model: str, guess: Callable[[], ChatUsage], price: Pricing | None
    ) -> Commit:
        """Set aside what the call may use. Raises BudgetExceeded."""
        ...


class Usage(Layer):
    """Prices what the model below answers, and keeps its budgets; without a price the cost is unknown, not nothing."""

    Options = PricingOptions

    def __init__(self, inner: ChatModelBase, pricing: Pricing | None = None, guard: BudgetPolicy | None = None) -> None:
        super().__init__(inner)
        self.pricing = pricing
        self.guard = guard
        *_, self._provider = self.stack()
        self._answers = 0.0  # how long they have been lately, in tokens

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: PricingOptions | None, build_context: BuildContext) -> ChatModelBase:
        """Every model has the layer: its own `pricing` goes before the published price."""
        book: PriceSource | None = build_context.state.get("prices")
        *_, provider = inner.stack() if isinstance(inner, Layer) else (inner,)
        return cls(
            inner, book.price(provider, options) if book is not None else options, build_context.state.get("budgets")
        )

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, whose last snapshot's usage, and whose attempts, say what they cost. Raises BudgetExceeded."""
        before = len(request.context.attempts)
        settle: Commit | None = None
        if self.guard is not None:
            settle = self.guard.reserve(request, self.name, partial(self._guess, request), self.pricing)
        try:
            reply = await self.inner.send(request)
        except BaseException as error:
            self._settled(request, before, settle, Outcome("failed", None, error))
            raise
        add_done_callback(reply, partial(self._settled, request, before, settle))
        return reply

    def _settled(self, request: ChatRequest, before: int, settle: Commit | None, outcome: Outcome) -> None:
        attempts = request.context.attempts[before:]
        if outcome.reply is not None and outcome.reply["usage"] is not None:
            _divide(outcome.reply["usage"], request)
        for attempt in attempts:
            if attempt["usage"] is not None:
                _divide(attempt["usage"], request)
            if attempt["usage"] is None or attempt["outcome"] != "ok":
                _complete(attempt, request, _received(outcome) if attempt is attempts[-1] else None)
        used = [attempt["usage"] for attempt in attempts if attempt["usage"] is not None]
        if self.pricing is not None:
            at = self.services.clock.wall()
            shown = outcome.reply["usage"] if outcome.reply is not None else None
            for usage in used if shown is None else (*used, shown):
                if dict.get(usage, "cost") is None:
                    # The figures are copied: what is worked out later must not hold on to what shows it.
                    usage["cost"] = Lazy(partial(_cost, self.pricing, dict(dict.items(usage)), at))
        if settle is not None:
            for usage in used:
                self._answers += (usage["output_tokens"] - self._answers) / (8 if self._answers else 1)
            settle(used)

    def _guess(self, request: ChatRequest) -> ChatUsage:
        """What *request* may use: as much as it allows, else as much as the answers before it."""
        bound = max_output_tokens(request, self._provider)
        return ChatUsage(characters(request) // 4 + 1, round(self._answers) if bound is None else bound, estimated=True)


def _cost(price: Pricing, usage: Figures, at: datetime) -> str | None:
    cost = price.cost(usage, at)
    return None if cost is None else format(cost, "f")


def _divide(usage: ChatUsage, request: ChatRequest) -> None:
    """Estimate the input's part of a call's total, of which the vendor did not say more."""
    if usage["estimated"] and not usage["input_tokens"]:
        usage["input_tokens"] = min(characters(request) // 4 + 1, usage["output_tokens"])
        usage["output_tokens"] -= usage["input_tokens"]


def _complete(attempt: Attempt, request: ChatRequest, last: ChatResponse | None) -> None:
    """Estimate what the vendor did not say of an attempt that it may have charged for."""
    usage, how = attempt["usage"], attempt["outcome"]
    if attempt["skipped"] or how in _FREE:
        return
    if usage is None:
        attempt["usage"] = ChatUsage(characters(request) // 4 + 1, _tokens(last), estimated=True)
    elif how not in _WHOLE and not attempt["complete"] and not usage["estimated"]:
        # Some give the input's figures first and the output's with the end, which never came; others as they go.
        received = _tokens(last)
        usage["estimated"] = True
        if received > 2 * usage["output_tokens"]:
            usage["output_tokens"] = received


def _received(outcome: Outcome) -> ChatResponse | None:
    return outcome.reply or getattr(outcome.error, "partial", None)


def _tokens(reply: ChatResponse | None) -> int:
    """About how many tokens have come in."""
    if reply is None:
        return 0
    blocks = (block.get("text") or block.get("thinking") or block.get("raw_input") or "" for block in reply["content"])
    length = sum(len(str(block)) for block in blocks)
    return -(-length // 4)
