"""Chain: the first model that answers, in the order of the list.

A chain is called like a model, stands in other chains, and is what the hub gives for every name: a model asked for by
its own name is a chain of one. It alone may act on a stream that broke after its first content: since a snapshot is the
whole answer so far, the next model begins anew, and the next snapshot simply is the new answer.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from modelhub.context import CallContext
from modelhub.errors import AllModelsFailed, CallError, HubClosed, NotConfigured, StreamBroken, TimedOut
from modelhub.events import FellBack, Restarted
from modelhub.model import ChatModelBase, ChatRequest
from modelhub.options import LayerOptions, duration, seconds
from modelhub.response import ChatResponse
from modelhub.stream import ChatStream, Reply

__all__ = ["Chain", "ChainOptions"]


class ChainOptions(LayerOptions):
    """An ordered list of models."""

    models: Annotated[list[str], Field(min_length=1)]
    """Names of models or of other chains, in the order they are asked."""
    deadline: duration(0.001, 86_400) | None = None  # type: ignore[valid-type]
    """Until the whole call must be over: all attempts, waits and models, and the reading of a stream."""
    stream: bool = False
    """Whether a call gives a stream of snapshots; holds for every model of the chain. A call may say otherwise."""
    on_broken_stream: Literal["restart", "raise"] = "restart"
    """What to do when a stream breaks after its first content: begin anew on the next model, or raise."""


class Chain(ChatModelBase):
    """Asks *models* in order until one commits.

    *stream* and *deadline* (seconds) hold for calls that say nothing else. A call may also pass `deadline=` (seconds,
    or text such as "30s") and `tags=` (a dict of strings for the usage record).
    """

    kind = "chain"
    closed = False

    def __init__(
        self,
        name: str,
        models: Sequence[ChatModelBase],
        *,
        stream: bool = False,
        deadline: float | None = None,
        on_broken_stream: Literal["restart", "raise"] = "restart",
    ) -> None:
        super().__init__(models[0].model_name, stream)
        self._name = name
        self.models = tuple(models)
        self.deadline = deadline
        self.on_broken_stream = on_broken_stream
        self.configured = any(model.configured for model in self.models)
        self.services = self.models[0].services

    @property
    def name(self) -> str:
        """The chain's own name."""
        return self._name

    def open_call(self, kwargs: dict[str, Any]) -> CallContext:
        """The context of a new call. Raises HubClosed if the hub that made the chain was closed."""
        if self.closed:
            raise HubClosed(f"the hub of `{self.name}` is closed")
        return CallContext(self.services, self.name, tags=kwargs.pop("tags", None) or {})

    async def send(self, request: ChatRequest) -> Reply:
        """The first reply that commits.

        Raises AllModelsFailed if no model answers (a chain of one: that model's own error), and at once what no
        other model could mend: a wrong request, blocked content, a deadline.
        """
        request = self._prepared(request)
        errors: list[CallError] = []
        reply, index = await self._first(request, 0, errors)
        if isinstance(reply, ChatStream) and self.on_broken_stream == "restart":
            return self._restarting(request, reply, index, errors)
        return reply

    def _prepared(self, request: ChatRequest) -> ChatRequest:
        options = request.options
        own = self.deadline
        if "deadline" in options:
            own = None if options["deadline"] is None else seconds(options["deadline"])
            options = {key: value for key, value in options.items() if key != "deadline"}
        ends = [request.deadline] if request.deadline is not None else []
        if own is not None:
            ends.append(self.services.clock.now() + own)
        return request.replace(
            options=options,
            deadline=min(ends, default=None),
            stream=self.stream if request.stream is None else request.stream,
        )

    async def _first(self, request: ChatRequest, start: int, errors: list[CallError]) -> tuple[Reply, int]:
        for index in range(start, len(self.models)):
            model = self.models[index]
            behind = request.behind or any(other.configured for other in self.models[index + 1 :])
            before = len(request.context.attempts)
            try:
                return await model.send(request.replace(behind=behind)), index
            except CallError as error:
                errors.append(error)
                if len(request.context.attempts) == before:
                    request.context.skip(model.name, model.kind, model.model_name, error)
                if not error.verdict.fall_back or len(self.models) == 1:
                    raise
                self._fell_back(request, index, error)
        raise self._failed(request, errors)

    def _fell_back(self, request: ChatRequest, index: int, error: CallError) -> None:
        after = self.models[index + 1].name if index + 1 < len(self.models) else None
        context = request.context
        context.observe(FellBack(context.call_id, self.name, self.models[index].name, after, error))

    def _failed(self, request: ChatRequest, errors: Sequence[CallError]) -> AllModelsFailed:
        tried = sum(not isinstance(error, NotConfigured) for error in errors)
        took = request.context.elapsed()
        group = AllModelsFailed(f"no model of chain `{self.name}` answered ({tried} tried, {took:.1f} s)", errors)
        group.model = self.name
        group.attempts = request.context.attempts
        return group

    # -- a stream that breaks --------------------------------------------------------------------------------------

    def _restarting(self, request: ChatRequest, reply: ChatStream, index: int, errors: list[CallError]) -> ChatStream:
        async def snapshots() -> AsyncGenerator[ChatResponse, None]:
            current, at, restarts, seen = reply, index, 0, 0
            while True:
                try:
                    async for snapshot in current:
                        # A chain below may have begun anew as well: the count only goes up.
                        seen = snapshot["restarts"] = snapshot["restarts"] + restarts
                        yield snapshot
                    return
                except StreamBroken as error:
                    again, at = await self._anew(request, error, at, errors)
                restarts = seen + 1
                if not isinstance(again, ChatStream):
                    again["restarts"] += restarts
                    yield again
                    return
                current = again
                if (outer := stream()) is not None:
                    outer.follow(current)

        wrapped = ChatStream(snapshots(), inner=reply)
        stream = weakref.ref(wrapped)  # no cycle: a stream that is forgotten must be collected at once
        return wrapped

    async def _anew(
        self, request: ChatRequest, broken: StreamBroken, index: int, errors: list[CallError]
    ) -> tuple[Reply, int]:
        """Begin the answer again: on the next model, or once more on the last one if it did not stall."""
        cause = broken.__cause__
        if isinstance(cause, CallError) and not cause.verdict.fall_back:
            raise broken
        nobody_behind = not any(model.configured for model in self.models[index + 1 :])
        first_time = not any(isinstance(error, StreamBroken) for error in errors)
        errors.append(broken)
        # A chain at the end of this one has asked its last model twice already.
        ends_in_chain = isinstance(self.models[index], Chain)
        if nobody_behind and (isinstance(cause, TimedOut) or not first_time or ends_in_chain):
            raise broken
        start = index if nobody_behind else index + 1
        try:
            reply, at = await self._first(request, start, errors)
        except CallError as error:
            if not error.verdict.fall_back:
                raise
            lost = StreamBroken(f"{broken}; no other model answered", model=broken.model, provider=broken.provider)
            lost.partial = broken.partial
            raise lost from error
        context = request.context
        context.observe(Restarted(context.call_id, self.name, self.models[index].name, self.models[at].name, broken))
        return reply, at

    def names(self) -> Iterable[str]:
        """The names of the models, in order."""
        return (model.name for model in self.models)

    def __repr__(self) -> str:
        return f"Chain({self.name!r}, [{', '.join(repr(model) for model in self.models)}])"
