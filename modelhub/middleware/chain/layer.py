"""Chain: the first model that answers, in the order of the list; its view with tags; and what a hub gives for a name.

A chain is called like a model, stands in other chains, and is what the hub gives for every name: a model asked for by
its own name is a chain of one. It alone may act on a stream that broke after its first content: since a snapshot is the
whole answer so far, the next model begins anew, and the next snapshot simply is the new answer.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import SecretStr

from modelhub.core.call_options import CallOptions, as_tags
from modelhub.core.context import CallContext, ambient_deadline
from modelhub.core.errors import ConfigError, DeadlineExceeded, HubClosed
from modelhub.core.model import ChatModelBase, Layer, StreamingCalls
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream, Reply
from modelhub.messages.conversation import refuse_stored_conversation
from modelhub.middleware.chain.arms import Arms, find_gates
from modelhub.middleware.chain.arms_run import ArmsRun
from modelhub.middleware.chain.call_keys import check_call_keys
from modelhub.middleware.chain.fallback import CallRun
from modelhub.middleware.chain.options import ChainOptions, StickyOptions
from modelhub.middleware.chain.plan import ChainPlan, FavouriteModels
from modelhub.middleware.chain.stream_restarts import RestartingSnapshots

__all__ = ["Chain", "ChainHandle", "ChainOptions", "Tagged"]

_NO_KEYS: Mapping[str, SecretStr] = {}


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
        self.plan = ChainPlan(name, models, FavouriteModels(sticky), on_broken_stream, fallback_on, no_fallback_on)
        self.models = self.plan.models
        if not self.models:
            raise ConfigError(f"chain `{name}` has no models")
        super().__init__(self.models[0].model_name, stream)
        self.stream_inside = stream_inside
        self.deadline = deadline
        self.ask = dict(ask or {})
        self.configured = any(model.configured for model in self.models)
        self.services = self.models[0].services
        first = next((model for model in self.models if model.configured), self.models[0])
        self._first_provider = first.stack()[-1]

    @property
    def name(self) -> str:
        """The name of the chain in the file."""
        return self.plan.name

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
        run_type = ArmsRun if self.plan.has_arms else CallRun
        run = run_type(self.plan, self._prepared(request), request.deadline)
        try:
            reply = await run.first()
        except DeadlineExceeded as error:
            raise run.as_outer_error(error)  # noqa: B904 - it says its cause itself
        if not isinstance(reply, ChatResponse) and (self.plan.on_broken_stream == "restart" or run.owns_deadline):
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
        if len(self.models) > 1 and (request.fallback or self.plan.has_arms):
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

    def names(self) -> Iterator[str]:
        """The names of the models, in order."""
        return (model.name for model in self.models)

    def __repr__(self) -> str:
        return f"Chain({self.name!r}, [{', '.join(repr(model) for model in self.models)}])"


class Tagged(StreamingCalls, Layer):  # type: ignore[misc] # see `Chain`
    """Calls *inner*, a chain, with *tags* and *keys*; a call's own `tags=` come on top.

    Making one costs next to nothing.
    """

    inner: Chain

    def __init__(self, inner: Chain, tags: Mapping[str, Any], keys: Mapping[str, SecretStr] = _NO_KEYS) -> None:
        super().__init__(inner)
        self.tags = as_tags(tags)
        self._keys = keys

    def with_tags(self, given: Mapping[str, Any] | None = None, /, **tags: Any) -> Tagged:
        """The same chain with these tags too."""
        return Tagged(self.inner, {**self.tags, **(given or {}), **tags}, self._keys)

    def with_keys(self, **keys: str | SecretStr | None) -> Tagged:
        """The same chain with these keys too; see `Chain.with_keys`."""
        checked = check_call_keys(keys, self.inner.list_call_keys(), self.name)
        return Tagged(self.inner, self.tags, {**self._keys, **checked})

    def open_call(self, options: CallOptions) -> CallContext:
        """The chain's context of a new call, with the tags and keys on it."""
        tags, keys = {**self.tags, **options.tags}, {**self._keys, **options.keys}
        return self.inner.open_call(options._replace(tags=tags, keys=keys))

    def send(self, request: ChatRequest) -> Coroutine[Any, Any, Reply]:
        """Return the reply of the chain, which raises what it raises."""
        return self.inner.send(request)


class ChainHandle(Chain):
    """A chain that can be replaced: each call is made with the chain that is `current` when it begins.

    So an application can keep what `hub.get` returned, and follow each reload of the hub; a call that is under way
    goes on with the chain that it began with. The attributes are those of the current chain.
    """

    current: Chain
    """The chain that the next call is made with."""
    before_call: Callable[[], None] | None = None
    """Called before each call, and may raise in its place; None for nothing."""
    owner: object | None = None
    """What must live as long as the handle, so that there is something to follow."""
    refresh_secrets: Callable[[], Awaitable[None]] | None = None
    """Renews secrets that are due, before a call: `current` may be another chain then. None if nothing renews them."""

    def __init__(self, chain: Chain) -> None:
        # All attributes are those of *chain*, so that there is nothing of its own to set up.
        self.__dict__ = {**vars(chain), "current": chain}

    @property
    def streams(self) -> bool:
        """Whether a call streams if it does not say."""
        return self.current.streams

    @streams.setter
    def streams(self, streams: bool) -> None:
        self.current.streams = streams

    def follow(self, chain: Chain) -> None:
        """Make the calls that begin from now on with *chain*, of the same name."""
        if [model.name for model in chain.models] == [model.name for model in self.models]:
            chain.plan.sticky.continue_from(self.plan.sticky)
        self.__dict__ = {**vars(chain), "current": chain, "closed": self.closed}

    def open_call(self, options: CallOptions) -> CallContext:
        """Return the context of a new call. Raises HubClosed, and what `before_call` raises."""
        if self.before_call is not None:
            self.before_call()
        return super().open_call(options)

    def send(self, request: ChatRequest) -> Coroutine[Any, Any, Reply]:
        """Return the reply of the current chain, which raises what it raises."""
        refresh = self.refresh_secrets
        return self.current.send(request) if refresh is None else self._send_refreshed(request, refresh)

    async def _send_refreshed(self, request: ChatRequest, refresh: Callable[[], Awaitable[None]]) -> Reply:
        await refresh()
        return await self.current.send(request)


def _earlier(first: float | None, second: float | None) -> float | None:
    """Return the earlier of two instants, of which either may not be there."""
    if first is None or second is None:
        return second if first is None else first
    return min(first, second)
