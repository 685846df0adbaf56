"""Retry: ask the same model again, when the failure's verdict allows it.

This is the only place that retries: the SDKs' own retries are off, and the order of layers is fixed. Waits grow
exponentially with full jitter, and are never shorter than the vendor asked for.

tenacity runs the loop, but only once something has failed: on the path where nothing fails nothing is paid for it.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from modelhub.errors import CallError
from modelhub.errors import Retry as Verdict
from modelhub.events import Waiting
from modelhub.model import ChatModelBase, ChatRequest, Layer
from modelhub.options import LayerOptions, duration
from modelhub.stream import Reply

__all__ = ["Retry", "RetryOptions"]


class RetryOptions(LayerOptions):
    """When and how often the same model is asked again."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How many attempts a call may make at this model, the first one included."""
    initial_wait: duration(0, 60) = 0.5  # type: ignore[valid-type]
    """The upper bound of the first wait; each further one is twice as long."""
    max_wait: duration(0, 600) = 20.0  # type: ignore[valid-type]
    """The upper bound of any wait that the vendor did not ask for."""
    max_retry_after: duration(0, 3600) = 10.0  # type: ignore[valid-type]
    """The longest wait the vendor may ask for while another model is behind; for longer ones the chain moves on."""


class Retry(Layer):
    """Asks again what may be asked again, after a wait."""

    Options = RetryOptions

    def __init__(self, inner: ChatModelBase, options: RetryOptions | None = None) -> None:
        super().__init__(inner)
        self.options = options or RetryOptions()

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: RetryOptions | None, shared: Any) -> ChatModelBase:  # noqa: ARG003
        """Every model is retried, with the defaults where the file says nothing."""
        return cls(inner, options)

    async def send(self, request: ChatRequest) -> Reply:
        """The reply of the first attempt that commits. Raises the last attempt's failure."""
        try:
            return await self.inner.send(request)
        except CallError as error:
            if self.options.max_attempts == 1 or error.verdict.retry is Verdict.NO:
                raise
            return await self._again(request, error)

    async def _again(self, request: ChatRequest, first: CallError) -> Reply:
        from tenacity import AsyncRetrying, RetryCallState, stop_after_attempt

        plan = _Plan(self, request, first)
        pending: list[CallError] = [first]

        async def attempt() -> Reply:
            if pending:
                raise pending.pop()  # what has failed already is tenacity's first attempt
            return await self.inner.send(request)

        def told(state: RetryCallState) -> None:
            context = request.context
            context.observe(Waiting(context.call_id, self.name, plan.wait, state.attempt_number + 1, plan.error))

        retrying = AsyncRetrying(
            sleep=request.context.wait,
            stop=stop_after_attempt(self.options.max_attempts),
            wait=lambda _: plan.wait,
            retry=plan,
            before_sleep=told,
            reraise=True,
        )
        reply: Reply = await retrying(attempt)
        return reply

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
        self._once: set[type[CallError]] = set()

    def __call__(self, state: Any) -> bool:
        error = state.outcome.exception() if state.outcome.failed else None
        if not isinstance(error, CallError) or not self._allowed(error):
            return False
        self.error = error
        self.wait = max(self.layer.backoff(state.attempt_number), error.retry_after or 0.0)
        if error.retry_after is not None and self.request.behind and error.retry_after > self._patience():
            return False
        # A wait that ends after the deadline is not begun: what is left of the time belongs to the models behind.
        remaining = self.request.remaining()
        return remaining is None or self.wait < remaining

    def _patience(self) -> float:
        return float(self.layer.options.max_retry_after)

    def _allowed(self, error: CallError) -> bool:
        retry = error.verdict.retry
        if retry is Verdict.IF_LAST:
            return not self.request.behind
        if retry is Verdict.ONCE:
            again = type(error) not in self._once
            self._once.add(type(error))
            return again
        return retry is not Verdict.NO
