"""Usage: what an answer cost, put on the answer itself and on the records of its attempts.

What the vendor may have charged for and gave no figures of, a broken or abandoned stream, an attempt that was given up,
is estimated, and marked so. Costs are worked out when they are looked at.
"""

from __future__ import annotations

from datetime import datetime
from functools import partial

from modelhub.core.completions import finish
from modelhub.core.errors import Chargeable, failure_classes
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.record import Lazy
from modelhub.core.request import ChatRequest
from modelhub.core.response import Attempt, ChatResponse, ChatUsage
from modelhub.core.stream import Outcome, Reply, add_done_callback
from modelhub.middleware.build_context import BudgetPolicy, BuildContext, Commit
from modelhub.middleware.token_estimates import input_tokens, max_output_tokens
from modelhub.middleware.usage.options import Figures, Pricing, PricingOptions

__all__ = ["PricingOptions", "Usage"]

_WHOLE = {"ok", "BadReply", "ContentBlocked"}  # what ends so has the vendor's last figures, if it has any
_FREE = {cls.__name__ for cls in failure_classes() if cls.policy.billed is Chargeable.NO}


class Usage(Layer):
    """Prices what the model below answers, and keeps its budgets; without a price the cost is unknown, not nothing."""

    Options = PricingOptions

    def __init__(self, inner: ChatModelBase, pricing: Pricing | None = None, guard: BudgetPolicy | None = None) -> None:
        super().__init__(inner)
        self.pricing = pricing
        self.guard = guard
        self._answers = 0.0  # how long they have been lately, in tokens

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: PricingOptions | None, build_context: BuildContext) -> ChatModelBase:
        """Every model has the layer: its own `pricing` goes before the published price."""
        shared = build_context.shared
        provider = inner.stack()[-1]
        pricing = options if shared.prices is None else shared.prices.price(provider, options)
        return cls(inner, pricing, shared.budgets)

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, whose last snapshot's usage, and whose attempts, say what they cost. Raises BudgetExceeded."""
        before = len(request.context.attempts)
        settle: Commit | None = None
        if self.guard is not None:
            settle = await self.guard.reserve(request, self.name, partial(self._guess, request), self.pricing)
        try:
            reply = await self.inner.send(request)
        except BaseException as error:
            settled = partial(self._settled, request, before, settle, Outcome("failed", None, error))
            finish(request.context.loop, error, settled)
            raise
        add_done_callback(reply, partial(self._settled, request, before, settle))
        return reply

    def _settled(self, request: ChatRequest, before: int, settle: Commit | None, outcome: Outcome) -> None:
        attempts = request.context.attempts[before:]
        shown = outcome.reply["usage"] if outcome.reply is not None else None
        if shown is not None:
            _divide(shown, request)
        received: ChatResponse | None = outcome.reply or getattr(outcome.error, "partial", None)
        for attempt in attempts:
            usage = attempt["usage"]
            if usage is not None:
                _divide(usage, request)
            if usage is None or attempt["outcome"] != "ok":
                complete_usage(attempt, request, received if attempt is attempts[-1] else None)
        used = [attempt["usage"] for attempt in attempts if attempt["usage"] is not None]
        if self.pricing is not None:
            at = self.services.clock.wall()
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
        return ChatUsage(input_tokens(request), round(self._answers) if bound is None else bound, estimated=True)


def _cost(price: Pricing, usage: Figures, at: datetime) -> str | None:
    cost = price.cost(usage, at)
    return None if cost is None else format(cost, "f")


def _divide(usage: ChatUsage, request: ChatRequest) -> None:
    """Estimate the input's part of a call's total, of which the vendor did not say more."""
    if usage["estimated"] and not usage["input_tokens"]:
        usage["input_tokens"] = min(input_tokens(request), usage["output_tokens"])
        usage["output_tokens"] -= usage["input_tokens"]


def complete_usage(attempt: Attempt, request: ChatRequest, last: ChatResponse | None) -> None:
    """Estimate what the vendor did not say of an attempt that it may have charged for."""
    usage, how = attempt["usage"], attempt["outcome"]
    if attempt["skipped"] or how in _FREE:
        return
    if usage is None:
        attempt["usage"] = ChatUsage(input_tokens(request), _tokens(last), estimated=True)
    elif how not in _WHOLE and not attempt["complete"] and not usage["estimated"]:
        # Some give the input's figures first and the output's with the end, which never came; others as they go.
        received = _tokens(last)
        usage["estimated"] = True
        if received > 2 * usage["output_tokens"]:
            usage["output_tokens"] = received


def _tokens(reply: ChatResponse | None) -> int:
    """About how many tokens have come in."""
    if reply is None:
        return 0
    blocks = (block.get("text") or block.get("thinking") or block.get("raw_input") or "" for block in reply["content"])
    length = sum(len(str(block)) for block in blocks)
    return -(-length // 4)
