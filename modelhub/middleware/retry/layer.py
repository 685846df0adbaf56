"""Retry: ask the same model again, when the failure's verdict allows it.

This is the only place that retries: the SDKs' own retries are off, and the order of layers is fixed. Waits grow
exponentially with full jitter, and are never shorter than the vendor asked for.

A hub has one budget for all its retries, so that an outage is not made worse by asking twice as much: each answer pays
in a share of a retry, each retry takes one out.

tenacity runs the loop, but only once something has failed: around the first attempt too, it would cost a call that is
answered a good part of its time.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from modelhub.core.errors import AuthenticationFailed, BreakerEffect, BreakerOpen, CallError, RetryRule
from modelhub.core.events import Waiting
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.request import ChatRequest
from modelhub.core.stream import Reply
from modelhub.core.tracebacks import drop_frames
from modelhub.middleware.build_context import MAX_UNBOUNDED_WAIT, BuildContext
from modelhub.middleware.retry.budget import RetryBudget
from modelhub.middleware.retry.options import RetryBudgetOptions, RetryOptions

if TYPE_CHECKING:
    from tenacity import RetryCallState

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
        self.renew: Callable[[ChatModelBase], Awaitable[ChatModelBase | None]] | None = None
        """Returns the layer to go on with after this one was refused for its key: that of the same model with a new
        key, or None. Unset if the model's key is not renewed."""

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: RetryOptions | None, build_context: BuildContext) -> ChatModelBase:
        """Every model is retried, with the defaults where the file says nothing, out of the hub's one budget."""
        layer = cls(inner, options, build_context.shared.retry_budget)
        if build_context.renew is not None:
            layer.renew = partial(build_context.renew, build_context.label)
        return layer

    async def send(self, request: ChatRequest) -> Reply:
        """The reply of the first attempt that commits. Raises the last attempt's failure."""
        failure: CallError | None = None
        try:
            reply = await self.inner.send(request)
        except CallError as error:
            failure = error
        # Not in the handler: this failure is not the next one's context.
        if failure is not None:
            reply = await self._recover(failure, request)
        self.budget.answered()
        return reply

    async def _recover(self, failure: CallError, request: ChatRequest) -> Reply:
        """Return the reply of a later attempt than the first one, which ended in *failure*. Raises the last failure."""
        try:
            return await self._attempt(request, failure)
        except CallError as error:
            failure = error
        plan = _RetryPlan(self, request)
        if not plan.allows(failure):
            raise failure
        from tenacity import AsyncRetrying, retry_if_exception

        retrying = AsyncRetrying(before=plan.wait_out, retry=retry_if_exception(plan.allows), reraise=True)
        try:
            reply: Reply = await retrying(self._attempt, request)
        except BreakerOpen as refused:
            # The breaker opened while we waited: what happened is the failure before, and when to come back.
            plan.error.retry_after = refused.retry_after
            raise plan.error from plan.error.__cause__
        return reply

    async def _attempt(self, request: ChatRequest, failure: CallError | None = None) -> Reply:
        """Make one attempt, unless it was made and ended in *failure*.

        It is repeated at once without each parameter that the model refuses by its name, and, once, with a renewed key
        if the vendor refuses the key, now or before its breaker opened for that. Raises the failure that is none of
        these, or one that was repeated already.
        """
        refused: list[str] = []
        layer: ChatModelBase | None = self
        inner = self.inner
        while True:
            try:
                if failure is None:
                    return await inner.send(request)
            except CallError as error:
                failure = error
            # Not in the handler: this failure is not the next one's context.
            reason = failure.__cause__ if isinstance(failure, BreakerOpen) else failure
            if failure.retry_without is not None and refused.count(failure.retry_without) < _MAX_REFUSALS:
                refused.append(failure.retry_without)
            elif self.renew is not None and layer is self and isinstance(reason, AuthenticationFailed):
                layer = await self.renew(self)
                if not isinstance(layer, Retry):
                    raise failure
                inner = layer.inner
            else:
                raise failure
            drop_frames(failure, contexts=False)
            failure = None

    def backoff(self, attempt: int) -> float:
        """How long to wait after the *attempt*th attempt, in seconds: full jitter below an exponential bound."""
        bound = min(self.options.max_wait, self.options.initial_wait * 2 ** (attempt - 1))
        return self.services.random.uniform(0, bound)


class _RetryPlan:
    """Whether one call asks the model again, and after which wait."""

    error: CallError
    """The failure after which the model is asked again."""

    def __init__(self, layer: Retry, request: ChatRequest) -> None:
        self.layer = layer
        self.request = request
        self.wait = 0.0
        self._attempts = request.attempted
        self._wait_budget = MAX_UNBOUNDED_WAIT
        self._once: set[type[CallError]] = set()

    def allows(self, error: BaseException) -> bool:
        """Whether the model is to be asked again after *error*; `wait` is how long to wait before that, in seconds."""
        if not isinstance(error, CallError):
            return False
        self._attempts += 1
        layer = self.layer
        cooldown = layer.inner.cooldown() if error.breaker_effect is BreakerEffect.COUNTS else 0.0
        if cooldown:  # asked again at once, it would only be BreakerOpen
            error.should_retry, error.retry_after = False, max(cooldown, error.retry_after or 0.0)
        if self._attempts >= layer.options.max_attempts or not self._is_allowed(error):
            return False
        self.wait = max(layer.backoff(self._attempts - self.request.attempted), error.retry_after or 0.0)
        # A wait that would end after the deadline is not begun. The vendor's wish is never undercut: if it is too long,
        # the models behind are asked instead.
        remaining = self.request.remaining()
        longest = math.inf if error.retry_after is not None and self.request.has_fallback else self._wait_budget
        if self.wait >= (longest if remaining is None else remaining):
            return False
        if self.request.has_fallback and (error.retry_after or 0.0) > layer.options.max_retry_after:
            return False
        if not layer.budget.take(layer.services.clock.now()):
            return False
        self.error = error
        self._wait_budget -= self.wait
        # Its frames would keep the caller's, and so a stream that he has forgotten, alive.
        drop_frames(error, contexts=False)
        return True

    async def wait_out(self, _: RetryCallState) -> None:
        """Report the wait before the next attempt, and sleep for it."""
        context, attempt = self.request.context, self._attempts - self.request.attempted + 1
        context.observe(Waiting(context.call_id, self.layer.name, self.wait, attempt, self.error))
        await context.wait(self.wait)

    def _is_allowed(self, error: CallError) -> bool:
        retry = error.policy.retry
        if error.should_retry is False or (retry is RetryRule.AS_ASKED and self.request.has_ready_arm):
            return False
        if retry is RetryRule.IF_LAST:
            return not self.request.has_fallback
        if retry is RetryRule.ONCE:
            again = type(error) not in self._once
            self._once.add(type(error))
            return again
        return retry is not RetryRule.NO
