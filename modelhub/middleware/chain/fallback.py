"""One call's way through a chain: whom it asks next, when it waits, and how a broken stream begins anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from modelhub.core.context import CallContext
from modelhub.core.errors import (
    AllModelsFailed,
    BreakerOpen,
    CallError,
    ContextTooLong,
    DeadlineExceeded,
    NotConfigured,
    StreamBroken,
    TimedOut,
    TotalTimeout,
)
from modelhub.core.events import FellBack, Restarted, Waiting
from modelhub.core.model import ChatModelBase
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatResponse
from modelhub.core.stream import Reply
from modelhub.core.tracebacks import drop_traceback, trim_traceback
from modelhub.middleware.attempts import count_made, is_cooling_down, leaves_of
from modelhub.middleware.build_context import MAX_UNBOUNDED_WAIT
from modelhub.middleware.chain.places import Places
from modelhub.middleware.chain.sticky import FavouriteModels
from modelhub.middleware.token_estimates import min_input_tokens

__all__ = ["CallRun", "CalledChain"]


class CalledChain(Protocol):
    """The chain, as a call on its way through it needs it."""

    models: tuple[ChatModelBase, ...]
    places: Places
    sticky: FavouriteModels
    on_broken_stream: Literal["restart", "raise"]

    @property
    def name(self) -> str:
        """The name of the chain."""

    def order(self, request: ChatRequest) -> list[ChatModelBase]:
        """Return the models in the order in which *request* asks them."""

    def prefer(self, model: ChatModelBase, context: CallContext) -> None:
        """Ask *model* first for a while."""

    def falls_back(self, error: CallError) -> bool:
        """Whether the next place is asked after *error*."""

    def goes_on(self, error: CallError) -> bool:
        """Whether another arm of the same place is asked after *error*."""


class CallRun:
    """One call's way through a chain."""

    def __init__(self, chain: CalledChain, request: ChatRequest, given: ChatRequest) -> None:
        self.chain = chain
        self.request = request
        self.context = request.context
        self.owns_deadline = (
            given.has_fallback and given.deadline != request.deadline
        )  # the chain around has more of it
        self.models = chain.order(request)
        self.index = self.first_attempt = 0  # the model that is asked, and which attempt was its first
        self.errors: list[CallError] = []
        self.wait_budget = MAX_UNBOUNDED_WAIT
        self.asked: set[int] = set()  # who was asked and failed, and may not be asked a third time
        self.max_known_too_small = 0  # a context window of this size is known not to be enough

    async def first(self, start: int = 0) -> Reply:
        """The first reply that commits, from the model at *start* on."""
        turn: Iterable[int] = range(start, len(self.models))
        while turn:
            refused: dict[int, CallError] = {}
            for index in turn:
                if (reply := await self._ask(index)) is not None:
                    for mended in self.errors:
                        drop_traceback(mended)  # a plug-in's frame keeps the caller's alive, and so a forgotten stream
                    if self.request.fallback and self.chain.sticky.seconds:
                        self.chain.prefer(self.models[index], self.context)
                    return reply
                if self._is_retryable_later(index, self.errors[-1]):
                    refused[index] = self.errors[-1]
            turn = await self._wait_for_cooldown(refused)
        raise self._final_error()

    async def _ask(self, index: int) -> Reply | None:
        model = self.models[index]
        self.index, self.first_attempt = index, len(self.context.attempts)
        try:
            self._check_context_window(model)
            request = self.request
            has_fallback = request.has_fallback or self._has_fallback(index)
            attempted = self._count_attempts(index) if self.context.attempts_at else 0
            if has_fallback != request.has_fallback or attempted != request.attempted:
                request = request.replace(has_fallback=has_fallback, attempted=attempted)
            return await model.send(request)
        except CallError as error:
            if len(self.context.attempts) == self.first_attempt:
                self.context.skip(model.name, model.kind, model.model_name, error)
            self._record_error(error)
            if not self._goes_on(index, error):
                raise
            if isinstance(error, ContextTooLong):
                self.max_known_too_small = max(self.max_known_too_small, model.context_window or 0)
            self._record_fallback(index, error)
            return None

    def _goes_on(self, index: int, error: CallError) -> bool:  # noqa: ARG002 - arms look at who is behind
        """Whether another model is asked after *error* of the model at *index*."""
        return self.chain.falls_back(error)

    def _is_retryable_later(self, index: int, error: CallError) -> bool:
        """Whether the model may be asked again later in this call: if it was not really asked, or was so only once."""
        at_the_end = self.models[index].kind == "chain" and not self._has_fallback(index)  # it has waited itself
        if at_the_end or not any(is_cooling_down(leaf) for leaf in leaves_of(error)):
            return False
        if not self._can_attempt(index):
            return False
        if all(isinstance(leaf, BreakerOpen | NotConfigured) for leaf in leaves_of(error)):
            return True
        again = index not in self.asked
        self.asked.add(index)
        return again

    def _record_error(self, error: CallError) -> None:
        # Until the call is settled an error has its own part of the story: a model may stand at several places.
        error.attempts = attempts = self.context.attempts[self.first_attempt :]
        trim_traceback(error)  # whose frames would keep the caller's, and so a stream that he has forgotten, alive
        self.errors.append(error)
        if made := count_made(attempts):
            place = (self.chain, self.models[self.index])
            self.context.attempts_at[place] = self.context.attempts_at.get(place, 0) + made

    def _can_attempt(self, index: int, uncounted: int = 0) -> bool:
        """Whether the call may ask the model at *index* once more; a chain there keeps count itself."""
        most = self.models[index].max_attempts
        return most is None or self._count_attempts(index) + uncounted < most

    def _count_attempts(self, index: int) -> int:
        """Return how many attempts the call has made at the model at *index*."""
        return self.context.attempts_at.get((self.chain, self.models[index]), 0)

    def _has_fallback(self, index: int) -> bool:
        for model in self.models[index + 1 :]:
            if model.configured and (model.call_key is None or model.call_key in self.context.keys):
                return True
        return False

    def _check_context_window(self, model: ChatModelBase) -> None:
        window = model.context_window
        if window is None:
            return
        if window <= self.max_known_too_small or min_input_tokens(self.request) > window:
            raise ContextTooLong(f"`{model.name}` holds {window} tokens, which is not enough", model=model.name)

    def _record_fallback(self, index: int, error: CallError) -> None:
        context, models = self.context, self.models
        after = models[index + 1].name if index + 1 < len(models) else None
        context.observe(
            FellBack(context.call_id, self.chain.name, models[index].name, after, error, context.arm, context.arm)
        )

    def _get_arm(self, index: int) -> str | None:  # noqa: ARG002 - arms look at the model
        """Return the name of the arm at *index*; within an arm of another chain, that one's."""
        return self.context.arm

    async def _wait_for_cooldown(self, refused: Mapping[int, CallError]) -> Iterable[int]:
        """Wait until the first of the models that cool down may be asked again; return which to ask, if any."""
        alone = [leaf for error in refused.values() for leaf in leaves_of(error) if is_cooling_down(leaf)]
        if self.request.has_fallback or not alone:
            return ()
        soonest = min(alone, key=lambda error: error.retry_after or 0.0)
        wait = soonest.retry_after or 0.0
        remaining = self.request.remaining()
        if wait >= (self.wait_budget if remaining is None else remaining):
            return ()
        self.wait_budget -= wait
        context = self.context
        context.observe(Waiting(context.call_id, soonest.model or self.chain.name, wait, 1, soonest))
        await context.wait(wait)
        self.errors = [error for error in self.errors if error not in refused.values()]
        return refused

    def _final_error(self) -> CallError:
        """Return what the call raises when every model has failed: of a single model, its own error."""
        return self.errors[-1] if len(self.chain.models) == 1 else self._failed()

    def _failed(self) -> AllModelsFailed:
        tried = sum(not isinstance(error, NotConfigured) for error in self.errors)
        took = self.context.elapsed()
        name = self.chain.name
        group = AllModelsFailed(f"no model of chain `{name}` answered ({tried} tried, {took:.1f} s)", self.errors)
        group.model = name
        group.attempts = self.context.attempts
        return group

    def as_outer_error(self, error: DeadlineExceeded) -> CallError:
        """*error*, as the chain around this one gets it: where only our time is over, it can go on."""
        if not self.owns_deadline:
            return error
        late = TotalTimeout(f"chain `{self.chain.name}` had no answer in its time", model=self.chain.name)
        late.__cause__ = error
        return late

    # -- a stream that breaks: see `RestartingSnapshots` -----------------------------------------------------------

    def can_restart(self, broken: StreamBroken) -> bool:
        """Whether a model is left to begin the answer anew."""
        return self._find_restart(broken) is not None

    def give_up(self, broken: StreamBroken) -> None:
        """Note that the stream broke and nobody begins it anew."""
        self._record_error(broken)
        self.asked.add(self.index)

    async def restart(self, broken: StreamBroken) -> Reply:
        """Begin the answer again: on the next model, or once more on the last one if it did not stall."""
        if (start := self._find_restart(broken)) is None:
            raise broken
        self.give_up(broken)
        broke, arm = self.models[self.index].name, self._get_arm(self.index)
        try:
            reply = await self.first(start)
        except DeadlineExceeded as error:
            error.partial = broken.partial
            raise self.as_stream_error(error)  # noqa: B904 - it says its cause itself
        except CallError as error:
            lost = StreamBroken(f"{broken}; no other model answered", model=broken.model, provider=broken.provider)
            lost.partial = broken.partial
            raise lost from error
        context, to = self.context, self.models[self.index].name
        to_arm = self._get_arm(self.index)
        context.observe(Restarted(context.call_id, self.chain.name, broke, to, broken, arm, to_arm))
        return reply

    def as_stream_error(self, error: DeadlineExceeded) -> CallError:
        """*error*, as whoever reads the chain's stream gets it: where only our time is over, it is a broken stream."""
        outer = self.as_outer_error(error)
        if outer is error:
            return error
        broken = StreamBroken(f"the stream broke: {outer}", model=outer.model)
        broken.partial, broken.__cause__ = error.partial, outer
        return broken

    def exceed_deadline(self, partial: ChatResponse | None) -> CallError:
        """The error for a call whose time is over while its broken stream waits to be read on."""
        name = self.models[self.index].name
        error = DeadlineExceeded(f"the call's time is over after {self.context.elapsed():.1f} s", model=name)
        error.partial = partial
        return self.as_stream_error(error)

    def _find_restart(self, broken: StreamBroken) -> int | None:
        cause = broken.__cause__
        final = isinstance(cause, CallError) and not self._goes_on(self.index, cause)
        if final or self.chain.on_broken_stream == "raise":
            return None
        if self._has_fallback(self.index):
            return self.index + 1
        model = self.models[self.index]
        once = self.index not in self.asked and not any(isinstance(error, StreamBroken) for error in self.errors)
        stalled = isinstance(cause, TimedOut)
        # With a model behind this chain, or a chain at its end (which has asked twice itself), somebody else acts.
        elsewhere = self.request.has_fallback or model.kind == "chain"
        if stalled or elsewhere or not once:
            return None
        return (
            self.index
            if self._can_attempt(self.index, count_made(self.context.attempts[self.first_attempt :]))
            else None
        )
