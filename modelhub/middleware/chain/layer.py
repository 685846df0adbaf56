"""Chain: the first model that answers, in the order of the list.

A chain is called like a model, stands in other chains, and is what the hub gives for every name: a model asked for by
its own name is a chain of one. It alone may act on a stream that broke after its first content: since a snapshot is the
whole answer so far, the next model begins anew, and the next snapshot simply is the new answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from modelhub.core.call_options import CallOptions
from modelhub.core.context import CallContext, ambient_deadline
from modelhub.core.errors import (
    AllModelsFailed,
    BreakerOpen,
    CallError,
    ContextTooLong,
    DeadlineExceeded,
    HubClosed,
    NotConfigured,
    StreamBroken,
    TimedOut,
    TotalTimeout,
)
from modelhub.core.events import FellBack, Restarted, Waiting
from modelhub.core.model import ChatModelBase, Layer, StreamingCalls
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream, Reply
from modelhub.core.tracebacks import drop_traceback, trim_traceback
from modelhub.messages.conversation import refuse_stored_conversation
from modelhub.middleware.attempts import count_made, is_cooling_down, leaves_of
from modelhub.middleware.build_context import MAX_UNBOUNDED_WAIT
from modelhub.middleware.chain.options import FAILURES, ChainOptions, StickyOptions
from modelhub.middleware.chain.restarting import RestartingSnapshots
from modelhub.middleware.chain.sticky import FavouriteModels
from modelhub.middleware.chain.tagged import Tagged
from modelhub.middleware.token_estimates import min_input_tokens

__all__ = ["Chain", "ChainOptions"]


class Chain(StreamingCalls, ChatModelBase):  # type: ignore[misc] # a provider's `stream` is a bool, as the API page says
    """Asks *models* in order until one commits.

    *stream* and *deadline* (seconds; kept by the `Deadline` layer, which every model of a hub has) hold for calls that
    say nothing else; the other options are those of
    `ChainOptions`. A call may also pass `deadline=` (seconds, or text such as "30s"), `fallback=False` (the first
    model or nobody) and `tags=` (a dict of strings for the usage record).
    """

    kind = "chain"
    closed = False

    def __init__(
        self,
        name: str,
        models: Sequence[ChatModelBase],
        *,
        stream: bool = False,
        stream_inside: bool = False,
        deadline: float | None = None,
        on_broken_stream: Literal["restart", "raise"] = "restart",
        fallback_on: Iterable[str] = (),
        no_fallback_on: Iterable[str] = (),
        sticky: float | StickyOptions | Mapping[str, Any] = 0.0,
        ask: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(models[0].model_name, stream)
        self._name = name
        self.models = tuple(models)
        self.stream_inside = stream_inside
        self.deadline = deadline
        self.on_broken_stream = on_broken_stream
        self.sticky = FavouriteModels(sticky)
        self.ask = dict(ask or {})
        self.configured = any(model.configured for model in self.models)
        self.services = self.models[0].services
        self._also = tuple(FAILURES[failure] for failure in fallback_on)
        self._never = tuple(FAILURES[failure] for failure in no_fallback_on)
        first = next((model for model in self.models if model.configured), self.models[0])
        *_, self._first_provider = first.stack() if isinstance(first, Layer) else (first,)

    @property
    def name(self) -> str:
        """The name of the chain in the file."""
        return self._name

    def open_call(self, options: CallOptions) -> CallContext:
        """The context of a new call. Raises HubClosed if the hub that made the chain was closed."""
        if self.closed:
            raise HubClosed(f"the hub of `{self.name}` is closed")
        return CallContext(self.services, self.name, tags=options.tags)

    def with_tags(self, given: Mapping[str, Any] | None = None, /, **tags: Any) -> Tagged:
        """The same chain, every call of which has these tags: `chain.with_tags(user="42", job="nightly")`."""
        return Tagged(self, {**(given or {}), **tags})

    async def send(self, request: ChatRequest) -> Reply:
        """The first reply that commits.

        Raises AllModelsFailed if no model answers (a chain of one: that model's own error), and at once what no
        other model could mend: a wrong request, blocked content, a deadline.
        """
        has_deadline = self.deadline is not None or request.time_limit is not None
        if has_deadline and not self._first_provider.is_prepared:
            await self.prepare()
        run = _ChainRun(self, self._prepared(request), request)
        try:
            reply = await run.first()
        except DeadlineExceeded as error:
            raise run.as_outer_error(error)  # noqa: B904 - it says its cause itself
        if isinstance(reply, ChatStream) and (self.on_broken_stream == "restart" or run.owns_deadline):
            snapshots = RestartingSnapshots(run, reply)
            return snapshots.attach(ChatStream(snapshots, inner=reply))
        return reply

    async def prepare(self) -> None:
        """Load the SDK of the first model, as the process's first call does: a deadline begins with it at hand."""
        await self._first_provider.prepare()

    def _prepared(self, request: ChatRequest) -> ChatRequest:
        if request.fallback and len(self.models) > 1:
            refuse_stored_conversation(request.options, self.name)
        deadline = _earlier(request.deadline, ambient_deadline())
        time_limit = self.deadline if request.time_limit is None else request.time_limit
        if time_limit is not None and time_limit < math.inf:
            deadline = _earlier(deadline, self.services.clock.now() + time_limit)
        return request.replace(
            options={**self.ask, **request.options} if self.ask else request.options,
            deadline=deadline,
            time_limit=None,
            stream=self.streams if request.stream is None else request.stream,
            stream_inside=request.stream_inside or self.stream_inside,
        )

    def order(self, request: ChatRequest) -> list[ChatModelBase]:
        """The models in the order in which *request* asks them."""
        if not request.fallback:
            return [next((model for model in self.models if model.configured), self.models[0])]
        first = self.sticky.find(request.context.tags, self.services.clock.now())
        if first == 0:
            return list(self.models)
        return [self.models[first], *self.models[:first], *self.models[first + 1 :]]

    def prefer(self, model: ChatModelBase, context: CallContext) -> None:
        """Ask *model*, which has answered the call of *context*, first for a while, if it was not the first anyway."""
        self.sticky.keep(context.tags, self.models.index(model), self.services.clock.now())

    def falls_back(self, error: CallError) -> bool:
        """Whether another model is asked after *error*; a model left alone stands for what it is left alone for."""
        reason = error.__cause__ if isinstance(error, BreakerOpen) and error.__cause__ is not None else error
        if isinstance(reason, (DeadlineExceeded, *self._never)):
            return False
        return error.policy.fall_back or isinstance(error, self._also)

    def names(self) -> Iterator[str]:
        """The names of the models, in order."""
        return (model.name for model in self.models)

    def __repr__(self) -> str:
        return f"Chain({self.name!r}, [{', '.join(repr(model) for model in self.models)}])"


def _earlier(first: float | None, second: float | None) -> float | None:
    """Return the earlier of two instants, of which either may not be there."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)


class _ChainRun:
    """One call's way through a chain."""

    def __init__(self, chain: Chain, request: ChatRequest, given: ChatRequest) -> None:
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
        raise self.errors[-1] if len(self.chain.models) == 1 else self._failed()

    async def _ask(self, index: int) -> Reply | None:
        model = self.models[index]
        self.index, self.first_attempt = index, len(self.context.attempts)
        try:
            self._check_context_window(model)
            has_fallback = self.request.has_fallback or self._has_fallback(index)
            attempted = self._count_attempts(index)
            request = self.request
            if has_fallback != request.has_fallback or attempted != request.attempted:
                request = request.replace(has_fallback=has_fallback, attempted=attempted)
            return await model.send(request)
        except CallError as error:
            if len(self.context.attempts) == self.first_attempt:
                self.context.skip(model.name, model.kind, model.model_name, error)
            self._record_error(error)
            if not self.chain.falls_back(error):
                raise
            if isinstance(error, ContextTooLong):
                self.max_known_too_small = max(self.max_known_too_small, model.context_window or 0)
            self._record_fallback(index, error)
            return None

    def _is_retryable_later(self, index: int, error: CallError) -> bool:
        """Whether the model may be asked again later in this call: if it was not really asked, or was so only once."""
        at_the_end = isinstance(self.models[index], Chain) and not self._has_fallback(index)  # it has waited itself
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
            place = (self.chain, self._place(self.index))
            self.context.attempts_at[place] = self.context.attempts_at.get(place, 0) + made

    def _can_attempt(self, index: int, uncounted: int = 0) -> bool:
        """Whether the call may ask the model at *index* once more; a chain there keeps count itself."""
        most = self.models[index].max_attempts
        return most is None or self._count_attempts(index) + uncounted < most

    def _count_attempts(self, index: int) -> int:
        """Return how many attempts the call has made at the model at *index*."""
        made = self.context.attempts_at
        return made.get((self.chain, self._place(index)), 0) if made else 0

    def _place(self, index: int) -> int:
        """Where the model at *index* of this call's order stands in the chain; a preferred one is asked first."""
        return self.chain.models.index(self.models[index])

    def _has_fallback(self, index: int) -> bool:
        return any(model.configured for model in self.models[index + 1 :])

    def _check_context_window(self, model: ChatModelBase) -> None:
        window = model.context_window
        if window is None:
            return
        if window <= self.max_known_too_small or min_input_tokens(self.request) > window:
            raise ContextTooLong(f"`{model.name}` holds {window} tokens, which is not enough", model=model.name)

    def _record_fallback(self, index: int, error: CallError) -> None:
        after = self.models[index + 1].name if index + 1 < len(self.models) else None
        context = self.context
        context.observe(FellBack(context.call_id, self.chain.name, self.models[index].name, after, error))

    async def _wait_for_cooldown(self, refused: Mapping[int, CallError]) -> Iterable[int]:
        """Wait until the first of the models that are left alone comes back; gives whom to ask again, if anybody."""
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
        broke = self.models[self.index].name
        try:
            reply = await self.first(start)
        except DeadlineExceeded as error:
            error.partial = broken.partial
            raise self.as_stream_error(error)  # noqa: B904 - it says its cause itself
        except CallError as error:
            lost = StreamBroken(f"{broken}; no other model answered", model=broken.model, provider=broken.provider)
            lost.partial = broken.partial
            raise lost from error
        context = self.context
        context.observe(Restarted(context.call_id, self.chain.name, broke, self.models[self.index].name, broken))
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
        final = isinstance(cause, CallError) and not self.chain.falls_back(cause)
        if final or self.chain.on_broken_stream == "raise":
            return None
        if self._has_fallback(self.index):
            return self.index + 1
        model = self.models[self.index]
        once = self.index not in self.asked and not any(isinstance(error, StreamBroken) for error in self.errors)
        stalled = isinstance(cause, TimedOut)
        # With a model behind this chain, or a chain at its end (which has asked twice itself), somebody else acts.
        elsewhere = self.request.has_fallback or isinstance(model, Chain)
        if stalled or elsewhere or not once:
            return None
        return (
            self.index
            if self._can_attempt(self.index, count_made(self.context.attempts[self.first_attempt :]))
            else None
        )
