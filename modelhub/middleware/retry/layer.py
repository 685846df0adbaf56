"""Retry: ask the same model again, when the failure's verdict allows it.

This is the only place that retries: the SDKs' own retries are off, and the order of layers is fixed. Waits grow
exponentially with full jitter, and are never shorter than the vendor asked for.

A hub has one budget for all its retries, so that an outage is not made worse by asking twice as much: each answer pays
in a share of a retry, each retry takes one out.

tenacity runs the loop, but only once something has failed: on the path where nothing fails nothing is paid for it.
"""

from __future__ import annotations

from typing import Any

from modelhub.core.errors import BreakerOpen, CallError, RetryRule
from modelhub.core.events import Waiting
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply
from modelhub.core.tracebacks import drop_traceback
from modelhub.middleware.build_context import MAX_UNBOUNDED_WAIT, BuildContext
from modelhub.middleware.retry.budget import RetryBudget
from modelhub.middleware.retry.options import RetryBudgetOptions, RetryOptions

__all__ = ["RetryBudget", "RetryBudgetOptions", "Retry", "RetryOptions"]


_MAX_REFUSALS = 2
"""How often one parameter may be refused within a call: as it was, and as the refusal said that it should be."""


class Retry(Layer):
    """Asks again what may be asked again, after a wait."""

    Options = RetryOptions

    def __init__(
        self, inner: ChatModelBase, options: RetryOptions | None = None, budget: RetryBudget | None = None
    ) -> None:
        super().__init__(inner)
        self.options = options or RetryOptions()
        self.max_attempts = self.options.max_attempts
        self.budget = budget or RetryBudget()

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: RetryOptions | None, build_context: BuildContext) -> ChatModelBase:
        """Every model is retried, with the defaults where the file says nothing, out of the hub's one budget."""
        return cls(inner, options, build_context.shared.retry_budget)

    async def send(self, request: ChatRequest) -> Reply:
        """The reply of the first attempt that commits. Raises the last attempt's failure."""
        try:
            reply = await self.inner.send(request)
        except CallError as error:
            is_last = self.options.max_attempts - request.attempted <= 1 or error.policy.retry is RetryRule.NO
            if is_last and error.retry_without is None:
                raise
            failure = error
        else:
            self.budget.answered()
            return reply
        # Not in the handler: this failure is not the next one's context.
        reply = await self._retry(request, failure)
        self.budget.answered()
        return reply

    async def _retry(self, request: ChatRequest, first: CallError) -> Reply:
        from tenacity import AsyncRetrying, RetryCallState

        plan = _Plan(self, request, first)
        pending: list[CallError] = [first]

        async def attempt() -> Reply:
            if pending:  # what has failed already is tenacity's first attempt
                return await self._ask_without_refused(request, pending.pop())
            try:
                return await self.inner.send(request)
            except CallError as error:
                failure = error
            return await self._ask_without_refused(request, failure)

        def report_wait(state: RetryCallState) -> None:
            context = request.context
            context.observe(Waiting(context.call_id, self.name, plan.wait, state.attempt_number + 1, plan.error))

        retrying = AsyncRetrying(
            sleep=request.context.wait,
            wait=lambda _: plan.wait,
            retry=plan,
            before_sleep=report_wait,
            reraise=True,
        )
        try:
            reply: Reply = await retrying(attempt)
        except BreakerOpen as refused:
            # The breaker opened while we waited: what happened is the failure before, and when to come back.
            plan.error.retry_after = refused.retry_after
            raise plan.error from plan.error.__cause__
        return reply

    async def _ask_without_refused(self, request: ChatRequest, failure: CallError) -> Reply:
        """Return the reply that comes once every parameter is left out that the model refuses by its name.

        That is known after *failure*, so that there is nothing to wait for; each refusal must name another parameter.
        Raises *failure* if it names none, and what ends the attempts after it.
        """
        refused: list[str] = []
        while failure.retry_without is not None and refused.count(failure.retry_without) < _MAX_REFUSALS:
            refused.append(failure.retry_without)
            drop_traceback(failure)
            try:
                return await self.inner.send(request)
            except CallError as error:
                failure = error
        raise failure

    def backoff(self, attempt: int) -> float:
        """How long to wait after the *attempt*th attempt, in seconds: full jitter below an exponential bound."""
        bound = min(self.options.max_wait, self.options.initial_wait * 2 ** (attempt - 1))
        return self.services.random.uniform(0, bound)


class _Plan:
    """Whether to ask again, and after which wait: tenacity's `retry` and `wait` of one call."""

    def __init__(self, layer: Retry, request: ChatRequest, error: CallError) -> None:
        self.layer = layer
        self.request = request
        self.wait = 0.0
        self.error = error
        self._wait_budget = MAX_UNBOUNDED_WAIT
        self._once: set[type[CallError]] = set()

    def __call__(self, state: Any) -> bool:
        error = state.outcome.exception() if state.outcome.failed else None
        layer = self.layer
        last = self.request.attempted + state.attempt_number >= layer.options.max_attempts
        if last or not isinstance(error, CallError) or not self._is_allowed(error):
            return False
        self.error = error
        self.wait = max(layer.backoff(state.attempt_number), error.retry_after or 0.0)
        if not self._fits_in_time(error):
            return False
        self._wait_budget -= self.wait
        is_retried = layer.budget.take(layer.services.clock.now())
        if is_retried:
            drop_traceback(error)  # whose frames would keep the caller's, and so a stream that he has forgotten, alive
        return is_retried

    def _fits_in_time(self, error: CallError) -> bool:
        # The vendor's wish is never undercut: if it is too long, the models behind are asked instead.
        remaining = self.request.remaining()
        if error.retry_after is not None and self.request.has_fallback:
            return error.retry_after <= self.layer.options.max_retry_after and (
                remaining is None or self.wait < remaining
            )
        # A wait that would end after the deadline is not begun.
        return self.wait < (self._wait_budget if remaining is None else remaining)

    def _is_allowed(self, error: CallError) -> bool:
        retry = error.policy.retry
        if error.should_retry is False:
            return False
        if retry is RetryRule.IF_LAST:
            return not self.request.has_fallback
        if retry is RetryRule.ONCE:
            again = type(error) not in self._once
            self._once.add(type(error))
            return again
        return retry is not RetryRule.NO
