"""Chain: the first model that answers, in the order of the list.

A chain is called like a model, stands in other chains, and is what the hub gives for every name: a model asked for by
its own name is a chain of one. It alone may act on a stream that broke after its first content: since a snapshot is the
whole answer so far, the next model begins anew, and the next snapshot simply is the new answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import SecretStr

from modelhub.core.call_options import CallOptions
from modelhub.core.context import CallContext, ambient_deadline
from modelhub.core.errors import BreakerOpen, CallError, ConfigError, DeadlineExceeded, HubClosed
from modelhub.core.model import ChatModelBase, Layer, StreamingCalls
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream, Reply
from modelhub.messages.conversation import refuse_stored_conversation
from modelhub.middleware.chain.arms import Arms, find_gates
from modelhub.middleware.chain.arms_run import ArmsRun
from modelhub.middleware.chain.call_keys import check_call_keys
from modelhub.middleware.chain.fallback import CallRun
from modelhub.middleware.chain.options import FAILURES, ChainOptions, StickyOptions
from modelhub.middleware.chain.places import Places
from modelhub.middleware.chain.restarting import RestartingSnapshots
from modelhub.middleware.chain.sticky import FavouriteModels
from modelhub.middleware.chain.tagged import Tagged

__all__ = ["Chain", "ChainOptions"]


class Chain(StreamingCalls, ChatModelBase):  # type: ignore[misc] # a provider's `stream` is a bool, as the API page says
    """Asks *models* in order until one commits; several that share a place are `Arms`.

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
        models: Sequence[ChatModelBase | Arms],
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
        self.places = Places(models)
        self.models = self.places.models
        if not self.models:
            raise ConfigError(f"chain `{name}` has no models")
        self._make_run = ArmsRun if self.places.has_arms else CallRun
        super().__init__(self.models[0].model_name, stream)
        self._name = name
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
        return CallContext(self.services, self.name, tags=options.tags, keys=options.keys)

    def with_tags(self, given: Mapping[str, Any] | None = None, /, **tags: Any) -> Tagged:
        """The same chain, every call of which has these tags: `chain.with_tags(user="42", job="nightly")`."""
        return Tagged(self, {**(given or {}), **tags})

    def with_keys(self, **keys: str | SecretStr | None) -> Tagged:
        """The same chain, every call of which brings *keys*: `chain.with_keys(openai=key)` for `${call:openai}`.

        Models without their key in *keys* are passed over (`NotConfigured`); the application's own key is never used
        in their place. Raises InvalidRequest for a name that no model of the chain has, and for what is no key.
        """
        return Tagged(self, {}, check_call_keys(keys, self.list_call_keys(), self.name))

    def list_call_keys(self) -> set[str]:
        """Return the names of the keys that calls can bring."""
        names: set[str] = set()
        for model in self.models:
            names |= model.list_call_keys() if isinstance(model, Chain) else {model.call_key or ""}
        return names - {""}

    async def send(self, request: ChatRequest) -> Reply:
        """The first reply that commits.

        Raises AllModelsFailed if no model answers (a chain of one: that model's own error), and at once what no
        other model could mend: a wrong request, blocked content, a deadline.
        """
        has_deadline = self.deadline is not None or request.time_limit is not None
        if has_deadline and not self._first_provider.is_prepared:
            await self.prepare()
        run = self._make_run(self, self._prepared(request), request)
        try:
            reply = await run.first()
        except DeadlineExceeded as error:
            raise run.as_outer_error(error)  # noqa: B904 - it says its cause itself
        if not isinstance(reply, ChatResponse) and (self.on_broken_stream == "restart" or run.owns_deadline):
            snapshots = RestartingSnapshots(run, reply)
            return snapshots.attach(ChatStream(snapshots, inner=reply))
        return reply

    def is_ready(self) -> bool:
        """Return whether one of its models can be asked now; asked where the chain is an arm of another."""
        return any(model.configured and all(gate.is_ready() for gate in find_gates(model)) for model in self.models)

    async def prepare(self) -> None:
        """Load the SDK of the first model, as the process's first call does: a deadline begins with it at hand."""
        await self._first_provider.prepare()

    def _prepared(self, request: ChatRequest) -> ChatRequest:
        if len(self.models) > 1 and (request.fallback or self.places.has_arms):
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
        """The models in the order in which *request* asks them; those at one place are ordered when it is reached."""
        if not request.fallback:
            return self.places.find_single(request.context)
        first = self.sticky.find(request.context.tags, self.services.clock.now())
        return list(self.models) if first == 0 else self.places.order_from(first)

    def prefer(self, model: ChatModelBase, context: CallContext) -> None:
        """Ask *model*, which has answered the call of *context*, first for a while, if it was not the first anyway."""
        self.sticky.keep(context.tags, self.places.find_number(model), self.services.clock.now())

    def falls_back(self, error: CallError) -> bool:
        """Whether another model is asked after *error*; an open breaker stands for what it has opened for."""
        reason = error.__cause__ if isinstance(error, BreakerOpen) and error.__cause__ is not None else error
        if isinstance(reason, (DeadlineExceeded, *self._never)):
            return False
        return error.policy.fall_back or isinstance(error, self._also)

    def goes_on(self, error: CallError) -> bool:
        """Whether another arm of the same place is asked after *error*, which `no_fallback_on` does not forbid."""
        reason = error.__cause__ if isinstance(error, BreakerOpen) and error.__cause__ is not None else error
        if isinstance(reason, DeadlineExceeded):
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
