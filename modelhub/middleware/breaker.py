"""Breaker: leave a model alone for a while when it keeps failing.

Failures that say the vendor is ill count, and enough of them in a row open the breaker; a wrong key, an empty account
or an unknown model opens it at once; a rate limit cools the model until the vendor wants to be asked again. An open
breaker fails at once with `BreakerOpen`, so that a chain moves on without waiting. After the pause a single call goes
through as a probe: if it succeeds the breaker closes, else the next pause is longer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from modelhub.errors import Breaker as Verdict
from modelhub.errors import BreakerOpen, CallError
from modelhub.middleware._base import Shared
from modelhub.model import ChatModelBase, ChatRequest, Layer
from modelhub.options import LayerOptions, duration
from modelhub.stream import Outcome, Reply, on_settled

__all__ = ["Breaker", "BreakerOptions", "BreakerState"]


class BreakerOptions(LayerOptions):
    """When a model is left alone, and for how long."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many attempts must fail in a row before the model is left alone."""
    pause: duration(0.01, 3600) = 5.0  # type: ignore[valid-type]
    """How long the first pause is; it doubles each time the probe after it fails, and is jittered by a tenth."""
    max_pause: duration(0.01, 3600) = 60.0  # type: ignore[valid-type]
    """The longest pause."""


@dataclass(slots=True)
class BreakerState:
    """What is known of one endpoint, key and model; entries that have all three in common share it."""

    failures: int = 0
    openings: int = 0
    until: float = 0.0
    probing: bool = False
    cause: CallError | None = field(default=None, repr=False)


class Breaker(Layer):
    """Fails at once while its model is left alone."""

    Options = BreakerOptions

    def __init__(
        self, inner: ChatModelBase, options: BreakerOptions | None = None, state: BreakerState | None = None
    ) -> None:
        super().__init__(inner)
        self.options = options or BreakerOptions()
        self.state = state or BreakerState()

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: BreakerOptions | None, shared: Shared) -> ChatModelBase:
        """Every model has a breaker, with the defaults where the file says nothing."""
        state = shared.state.setdefault(("breaker", shared.identity), BreakerState())
        return cls(inner, options, state)

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, if the model is not left alone. Raises BreakerOpen if it is."""
        self._admit()
        try:
            reply = await self.inner.send(request)
        except CallError as error:
            self._failed(error)
            raise
        except BaseException:
            self.state.probing = False  # cancelled: it says nothing about the model
            raise
        on_settled(reply, self._settled)
        return reply

    def _admit(self) -> None:
        state = self.state
        left = state.until - self.services.clock.now()
        if left > 0 or state.probing:
            reason = f" after {state.cause.kind}" if state.cause is not None else ""
            wait = max(left, 0.0)
            raise BreakerOpen(
                f"`{self.name}` is left alone{reason}; it can be asked again in {wait:.1f} s",
                model=self.name,
                retry_after=wait,
            ) from state.cause
        # Whoever comes first after a pause is the probe; the others are turned away until it is back.
        state.probing = state.openings > 0

    def _settled(self, outcome: Outcome) -> None:
        if isinstance(outcome.error, CallError):
            self._failed(outcome.error)
        elif outcome.how == "complete":
            self.state.failures = self.state.openings = 0
            self.state.probing = False
            self.state.cause = None
        else:
            self.state.probing = False

    def _failed(self, error: CallError) -> None:
        state, verdict = self.state, error.verdict.breaker
        state.probing = False
        if verdict is Verdict.COOLS:
            self._leave_alone(error.retry_after or 0.0, error)
        elif verdict is Verdict.COUNTS:
            state.failures += 1
        if verdict is Verdict.OPENS or (verdict is Verdict.COUNTS and self._enough()):
            pause = min(self.options.max_pause, self.options.pause * 2**state.openings)
            state.openings += 1
            self._leave_alone(pause * self.services.random.uniform(0.9, 1.1), error)

    def _enough(self) -> bool:
        # While it is being probed one failure is enough.
        return self.state.failures >= self.options.failures or self.state.openings > 0

    def _leave_alone(self, seconds: float, error: CallError) -> None:
        # A pause is never shortened by a later, shorter one.
        until = self.services.clock.now() + seconds
        if until > self.state.until:
            self.state.until, self.state.cause = until, error.with_traceback(None)
