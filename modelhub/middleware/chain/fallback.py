"""One call's way through a chain: whom it asks next, when it waits, and how a broken stream begins anew."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from modelhub.core.errors import (
    AllModelsFailed,
    BreakerEffect,
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
from modelhub.core.request import ChatRequest
from modelhub.core.response import Attempt, ChatResponse
from modelhub.core.stream import Reply
from modelhub.core.tracebacks import drop_frames, trim_traceback
from modelhub.middleware.build_context import MAX_UNBOUNDED_WAIT
from modelhub.middleware.chain.plan import ChainPlan
from modelhub.middleware.token_estimates import min_input_tokens

__all__ = ["CallRun"]


class CallRun:
    """One call's way through a chain."""

    def __init__(self, plan: ChainPlan, request: ChatRequest, outer_deadline: float | None) -> None:
        self.plan = plan
        self.request = request
        self.context = request.context
        self.owns_deadline = request.has_fallback and request.deadline != outer_deadline
        """Whether the chain around this one has more time, and can go on when this one's is over."""
        self.models = plan.order(request)
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
                        # A plug-in's frame keeps the caller's alive, and so a forgotten stream.
                        drop_frames(mended, contexts=False)
                    if self.request.fallback and self.plan.sticky.seconds:
                        self.plan.prefer(self.models[index], self.context)
                    return reply
                if self._is_retryable_later(index, self.errors[-1]):
                    refused[index] = self.errors[-1]
            turn = await self._wait_for_cooldown(refused)
        raise self._final_error()

    async def _ask(self, index: int) -> Reply | None:
        """Return the reply of the model at *index*, or None where it has failed and another one may be asked."""
        model, context = self.models[index], self.context
        self.index, self.first_attempt = index, len(context.attempts)
        try:
            window = model.context_window
            request, too_small = self.request, self.max_known_too_small
            if window is not None and (window <= too_small or min_input_tokens(request) > window):
                raise ContextTooLong(f"`{model.name}` holds {window} tokens, which is not enough", model=model.name)
            has_fallback = request.has_fallback or self._has_fallback(index)
            attempted = self._count_attempts(index) if context.attempts_at else 0
            if has_fallback != request.has_fallback or attempted != request.attempted:
                request = request.replace(has_fallback=has_fallback, attempted=attempted)
            return await model.send(request)
        except CallError as error:
            if len(context.attempts) == self.first_attempt:
                context.skip(model.name, model.kind, model.model_name, error)
            self._record_error(error)
            if not self._goes_on(index, error):
                raise
            if isinstance(error, ContextTooLong):
                self.max_known_too_small = max(self.max_known_too_small, model.context_window or 0)
            after = self._find_next(index)
            to, to_arm = (None, None) if after is None else (self.models[after].name, self._get_arm(after))
            context.observe(FellBack(context.call_id, self.plan.name, model.name, to, error, context.arm, to_arm))
            return None

    def _goes_on(self, index: int, error: CallError) -> bool:  # noqa: ARG002 - arms look at who is behind
        """Whether another model is asked after *error* of the model at *index*."""
        return self.plan.falls_back(error)

    def _is_retryable_later(self, index: int, error: CallError) -> bool:
        """Whether the model may be asked again later in this call: if it was not really asked, or was so only once."""
        at_the_end = self.models[index].kind == "chain" and not self._has_fallback(index)  # it has waited itself
        if at_the_end or not any(_is_cooling_down(leaf) for leaf in _list_leaves(error)):
            return False
        if not self._can_attempt(index):
            return False
        if all(isinstance(leaf, BreakerOpen | NotConfigured) for leaf in _list_leaves(error)):
            return True
        again = index not in self.asked
        self.asked.add(index)
        return again

    def _record_error(self, error: CallError) -> None:
        # Until the call is settled an error has its own part of the story: a model may stand at several places.
        error.attempts = attempts = self.context.attempts[self.first_attempt :]
        trim_traceback(error)  # whose frames would keep the caller's, and so a stream that he has forgotten, alive
        self.errors.append(error)
        if made := _count_made(attempts):
            place = (self.plan, self.models[self.index])
            self.context.attempts_at[place] = self.context.attempts_at.get(place, 0) + made

    def _can_attempt(self, index: int, uncounted: int = 0) -> bool:
        """Whether the call may ask the model at *index* once more; a chain there keeps count itself."""
        most = self.models[index].max_attempts
        return most is None or self._count_attempts(index) + uncounted < most

    def _count_attempts(self, index: int) -> int:
        """Return how many attempts the call has made at the model at *index*."""
        return self.context.attempts_at.get((self.plan, self.models[index]), 0)

    def _has_fallback(self, index: int) -> bool:
        for model in self.models[index + 1 :]:
            if model.configured and (model.call_key is None or model.call_key in self.context.keys):
                return True
        return False

    def _find_next(self, index: int) -> int | None:
        """Return the index of the model that is asked after the one at *index*, if any."""
        return index + 1 if index + 1 < len(self.models) else None

    def _get_arm(self, index: int) -> str | None:  # noqa: ARG002 - arms look at the model
        """Return the name of the arm at *index*; within an arm of another chain, that one's."""
        return self.context.arm

    async def _wait_for_cooldown(self, refused: Mapping[int, CallError]) -> Iterable[int]:
        """Wait until the first of the models that cool down may be asked again; return which to ask, if any."""
        alone = [leaf for error in refused.values() for leaf in _list_leaves(error) if _is_cooling_down(leaf)]
        if self.request.has_fallback or not alone:
            return ()
        soonest = min(alone, key=lambda error: error.retry_after or 0.0)
        wait = soonest.retry_after or 0.0
        remaining = self.request.remaining()
        if wait >= (self.wait_budget if remaining is None else remaining):
            return ()
        self.wait_budget -= wait
        context = self.context
        context.observe(Waiting(context.call_id, soonest.model or self.plan.name, wait, 1, soonest))
        await context.wait(wait)
        self.errors = [error for error in self.errors if error not in refused.values()]
        return refused

    def _final_error(self) -> CallError:
        """Return what the call raises when every model has failed: of a single model, its own error."""
        plan, errors = self.plan, self.errors
        if len(plan.models) == 1 and not plan.has_arms:
            return errors[-1]
        tried = sum(not isinstance(error, NotConfigured) for error in errors)
        took = self.context.elapsed()
        group = AllModelsFailed(f"no model of chain `{plan.name}` answered ({tried} tried, {took:.1f} s)", errors)
        group.model, group.attempts = plan.name, self.context.attempts
        return group.dominant if plan.is_single_model else group

    def as_outer_error(self, error: DeadlineExceeded) -> CallError:
        """*error*, as the chain around this one gets it: where only our time is over, it can go on."""
        if not self.owns_deadline:
            return error
        late = TotalTimeout(f"chain `{self.plan.name}` had no answer in its time", model=self.plan.name)
        late.__cause__ = error
        return late

    # -- a stream that breaks: see `RestartingSnapshots` -----------------------------------------------------------

    def give_up(self, broken: StreamBroken) -> None:
        """Note that the stream broke and nobody begins it anew."""
        self._record_error(broken)
        self.asked.add(self.index)

    async def restart(self, broken: StreamBroken, start: int) -> Reply:
        """Begin the answer anew, from the model at *start* on, which `find_restart` has returned. Raises CallError."""
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
        context.observe(Restarted(context.call_id, self.plan.name, broke, to, broken, arm, to_arm))
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

    def find_restart(self, broken: StreamBroken) -> int | None:
        """Return the index of the model that is to begin the answer anew, or None.

        It is the next one, or the last one once more if it did not stall.
        """
        cause = broken.__cause__
        final = isinstance(cause, CallError) and not self._goes_on(self.index, cause)
        if final or self.plan.on_broken_stream == "raise":
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
        made = _count_made(self.context.attempts[self.first_attempt :])
        return self.index if self._can_attempt(self.index, made) else None


def _count_made(attempts: Sequence[Attempt]) -> int:
    """Return how many of *attempts* were made, and not only skipped."""
    return sum(not attempt["skipped"] for attempt in attempts)


def _list_leaves(error: CallError) -> Iterable[CallError]:
    """Return the failures of single models that *error* consists of."""
    return error.leaves() if isinstance(error, AllModelsFailed) else (error,)


def _is_cooling_down(error: CallError) -> bool:
    """Whether *error* says that its model is cooling down: it may be asked again after a while."""
    if isinstance(error, BreakerOpen):
        cause = error.__cause__
        return not isinstance(cause, CallError) or cause.breaker_effect is not BreakerEffect.OPENS
    # Its breaker has opened, or the vendor says the same. Who was silent is not waited for.
    return error.should_retry is False and error.retry_after is not None and not isinstance(error, TimedOut)
