"""The seam: everything callable, a provider, a layer, a chain, is a `ChatModelBase`.

The comfortable call is written once, here, above one abstract method, `send`. Its contract:

1. The await is the commit point. It gives a complete `ChatResponse`, or a `ChatStream` whose first content is in hand.
2. Before that, only `CallError`s come out, or `CancelledError`, untouched. After it, a failure comes out of the
   iteration as `StreamBroken`, and only a chain may act on it.
3. A request is frozen; a layer that needs another makes one with `replace`.
4. What must happen when the reply is finished goes through `add_done_callback`.
5. What belongs to one call is in its `CallContext`, to one model in the layer; what is shared is passed in.
6. Layers own nothing and close nothing.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, overload

from modelhub.core.agentscope import AgentScopeAttributes, answer_agentscope, is_for_agentscope
from modelhub.core.call_options import CallOptions, parse_call_options
from modelhub.core.context import CallContext, Services
from modelhub.core.errors import InvalidRequest
from modelhub.core.request import ChatRequest, Messages, ToolChoiceOption, Tools, make_request
from modelhub.core.response import ChatResponse
from modelhub.core.row_mapping import RowMapping
from modelhub.core.stream import ChatStream, Reply
from modelhub.core.sync import SyncStream, run_sync
from modelhub.core.tracebacks import trim_traceback
from modelhub.messages.files import has_files, read_files
from modelhub.messages.normalize import normalise_messages

if TYPE_CHECKING:
    from pydantic import BaseModel

    from modelhub.core.row_mapping import ModelT

__all__ = ["ChatModelBase", "Layer", "StreamingCalls"]


class ChatModelBase(RowMapping, AgentScopeAttributes, ABC):
    """Everything that can be called.

    *model_name* is the vendor's name of the model, *stream* whether a call gives a stream if it does not say.
    """

    model_name: str
    streams: bool
    """Whether a call streams if it does not say."""
    kind: str = "model"
    """What it is: a provider's name in the file, or "chain"."""
    entry: str | None = None
    """The entry's name in the file, where there is one."""
    call_key: str | None = None
    """The name of the key that every call must bring, for a model that has none of its own."""
    has_callers_key: bool = False
    """Whether its key came with a call: then the environment's organization and headers are not sent."""
    services: Services = Services()
    configured: bool = True
    """Whether it can be called at all; a chain passes over what is not."""
    is_prepared: bool = False
    """Whether `prepare` has nothing to do any more: then nobody calls it."""
    max_attempts: int | None = None
    """How many attempts a call may make at it; None where it has no such bound."""
    context_window: int | None = None
    """How many tokens it can hold, where that is known; a chain does not try it with more."""
    takes_cache_marks: bool = False
    """Whether a request can be marked for the vendor's prompt cache; marks are left out for others."""
    cache_key_parameter: ClassVar[str | None] = None
    """The vendor's parameter that keeps requests at one prompt cache, if it has one."""
    stream_inside: bool = False
    """Whether a plain answer is streamed beneath, so that the time limits of streams hold for it too."""
    connect_timeout: float = 5.0
    """Seconds until a connection must stand."""
    attempt_timeout: float | None = None
    """Seconds after which a layer around it ends every attempt, streams included; None if nobody does."""
    generate_kwargs: Mapping[str, Any] = MappingProxyType({})
    """Parameters that go with every request, by the vendor's names."""
    ask: Mapping[str, Any] = MappingProxyType({})
    """Parameters of every call, by the names that are the same for every vendor."""
    takes: Mapping[str, Any] = MappingProxyType({})
    """Which of those parameters the model takes, where what is known of it is wrong."""
    unsupported_parameters: Literal["drop", "refuse"] = "drop"
    """What becomes of a parameter that the model does not take."""
    telemetry_name: ClassVar[str | None] = None
    """What OpenTelemetry's conventions call the vendor (`gen_ai.provider.name`), where that is not `kind`."""
    price_provider: ClassVar[str | None] = None
    """What the published table of prices calls the vendor, where that is not `kind`; "" if the table has none."""
    max_tokens_parameters: ClassVar[tuple[str, ...]] = ("max_tokens", "max_completion_tokens", "max_output_tokens")
    """What bounds an answer's tokens among the parameters; a dot leads into an object."""

    def __init__(self, model_name: str, stream: bool) -> None:
        self.model_name = model_name
        self.streams = stream

    @property
    def stream(self) -> bool:
        """Whether a call streams if it does not say."""
        return self.streams

    @stream.setter
    def stream(self, streams: bool) -> None:
        self.streams = streams

    @property
    def name(self) -> str:
        """How replies and records call this model: the entry's name, or the vendor's where there is none."""
        return self.entry or self.model_name

    def missing(self) -> str | None:
        """Return what must be set or installed before this model can be called, or None."""
        return None

    def address(self) -> str | None:
        """Return the URL of the server, where it is known."""
        return None

    def is_official(self) -> bool:
        """Whether the vendor's own servers are asked, at whose prices."""
        return self.address() is None

    def default_parameters(self) -> Mapping[str, Any]:
        """Return the parameters that go with every request."""
        return self.generate_kwargs

    def cooldown(self) -> float:
        """Return the seconds until the model may be asked again, if its breaker is open; 0.0 if it may be asked now."""
        return 0.0

    def stack(self) -> list[ChatModelBase]:
        """Return the model itself, and what is inside it where it is a layer, outermost first."""
        return [self]

    async def prepare(self) -> None:
        """Do what takes long before the first request, such as loading an SDK; nothing if it `is_prepared`."""
        self.is_prepared = True

    async def aclose(self) -> None:
        """Give back connections. Whoever made the model calls this."""

    @abstractmethod
    async def send(self, request: ChatRequest) -> Reply:
        """Answer *request*; the contract is at the top of this module."""

    # What a call returns, by what it says; `stream: true` in the file, which no type checker reads, is obeyed too.

    @overload
    async def __call__(
        self,
        messages: Messages,
        tools: Tools = None,
        tool_choice: ToolChoiceOption = None,
        structured_model: type[ModelT] | Mapping[str, Any] | None = None,
        *,
        stream: Literal[False] | None = None,
        **kwargs: Any,
    ) -> ChatResponse[ModelT]: ...

    @overload
    async def __call__(
        self,
        messages: Messages,
        tools: Tools = None,
        tool_choice: ToolChoiceOption = None,
        structured_model: type[ModelT] | Mapping[str, Any] | None = None,
        *,
        stream: Literal[True],
        **kwargs: Any,
    ) -> ChatStream[ModelT]: ...

    @overload
    async def __call__(
        self,
        messages: Messages,
        tools: Tools = None,
        tool_choice: ToolChoiceOption = None,
        structured_model: type[BaseModel] | Mapping[str, Any] | None = None,
        *,
        stream: bool | None = None,
        **kwargs: Any,
    ) -> Reply: ...

    async def __call__(
        self,
        messages: Messages,
        tools: Tools = None,
        tool_choice: ToolChoiceOption = None,
        structured_model: type[BaseModel] | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Reply:
        """Ask the model.

        *messages* is a list of dicts, in OpenAI's form or with the blocks of a reply, or a string as one user message.
        *tools* are JSON schemas in OpenAI's form, *tool_choice* is "auto", "none", "any", "required" or a tool's name.
        *structured_model* is a pydantic class or a JSON Schema that the answer must fit: it is then in `metadata`, and
        tools are ignored, with a warning. `stream=` overrides the model's own. Further keywords are parameters: by
        OpenAI's names for any model (`max_tokens`, `reasoning_effort`, ...), or by the vendor's own. A message is data:
        a local file whose path stands in it is read only if the app named it (a `pathlib.Path`, or a source of the type
        `path`) or the configuration allows its folder; see `modelhub.messages.files`.

        Gives a `ChatResponse`, or a `ChatStream` of snapshots if streaming; for AgentScope 2's messages, its classes.
        Raises `InvalidRequest` for wrong input, before anything is sent, and other `CallError`s of `core.errors`.
        """
        if is_for_agentscope(messages):
            return await answer_agentscope(self, messages, tools, tool_choice, kwargs)
        options = parse_call_options(kwargs)
        conversation = normalise_messages(messages, continues=options.continues_conversation)
        if has_files(conversation):
            conversation = await read_files(conversation, self.services.files)
        context = self.open_call(options)
        request = make_request(conversation, tools, tool_choice, structured_model, options, context)
        context.start(request)
        try:
            reply = await self.send(request)
        except BaseException as caught:
            error = context.fail(caught)
            trim_traceback(error)
            if error is not caught:
                raise error from None
            raise
        context.commit(reply)
        return reply

    @overload
    def sync(
        self,
        messages: Messages,
        tools: Tools = None,
        tool_choice: ToolChoiceOption = None,
        structured_model: type[ModelT] | Mapping[str, Any] | None = None,
        *,
        stream: Literal[False] | None = None,
        **kwargs: Any,
    ) -> ChatResponse[ModelT]: ...

    @overload
    def sync(self, messages: Messages, *args: Any, stream: Literal[True], **kwargs: Any) -> SyncStream: ...

    @overload
    def sync(self, messages: Messages, *args: Any, **kwargs: Any) -> ChatResponse | SyncStream: ...

    def sync(self, *args: Any, **kwargs: Any) -> ChatResponse | SyncStream:
        """The same call for code without an event loop; a stream becomes a plain iterator.

        All such calls share one loop in the background, so that connections are reused. Raises RuntimeError where a
        loop is running: there, await the model.
        """
        try:
            reply: Reply = run_sync(self(*args, **kwargs))
        except Exception as error:
            trim_traceback(error)
            raise
        return SyncStream(reply) if isinstance(reply, ChatStream) else reply

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse: a model holds connections and what calls have in common. Raises PicklingError."""
        raise pickle.PicklingError(
            f"`{self.name}` cannot be pickled: pass its hub, which pickles as its configuration, and get it by its name"
        )

    def __copy__(self) -> Self:
        """Return the model itself: there is one of it, whoever holds it."""
        return self

    def __deepcopy__(self, memo: Any) -> Self:
        """Return the model itself, as a copy does."""
        return self

    def open_call(self, options: CallOptions) -> CallContext:
        """Return the context of a new call. Raises InvalidRequest for a `deadline`, which only chains keep."""
        if options.time_limit is not None:
            raise InvalidRequest(f"`{self.name}` takes no `deadline`: the models that a hub gives, and chains, do")
        return CallContext(self.services, self.name, tags=options.tags)


class StreamMethod:
    """The method `stream` of *chain*; as a condition, whether a call of it streams if it does not say.

    A provider's `stream` is that bool, as the API page says, and AgentScope's agents look at it before they call.
    """

    __slots__ = ("_chain",)

    def __init__(self, chain: Any) -> None:
        self._chain = chain

    def __call__(self, *args: Any, **kwargs: Any) -> Awaitable[ChatStream]:
        """Call the chain with `stream=True`."""
        streaming: Awaitable[ChatStream] = self._chain(*args, stream=True, **kwargs)
        return streaming

    def __bool__(self) -> bool:
        return bool(self._chain.streams)


class StreamingCalls:
    """Gives chains `stream(...)`, beside the call itself."""

    if TYPE_CHECKING:

        def stream(
            self,
            messages: Messages,
            tools: Tools = None,
            tool_choice: ToolChoiceOption = None,
            structured_model: type[ModelT] | Mapping[str, Any] | None = None,
            **kwargs: Any,
        ) -> Awaitable[ChatStream[ModelT]]:
            """Make a call that streams: `async for snapshot in await chain.stream(messages): ...`."""

    else:

        @property
        def stream(self) -> StreamMethod:
            """Make a call that streams, whatever the file says: `async for reply in await chain.stream(messages): ...`.

            What goes in and what is raised is the same as for the call itself.
            """
            return StreamMethod(self)

        @stream.setter
        def stream(self, streams: bool) -> None:
            self.streams = streams


class Layer(ChatModelBase):
    """A model around a model: it passes the request on and does one thing more."""

    Options: ClassVar[Any] = None
    """The type of the layer's key in the file, or None for a layer that is always there and has no options."""

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: Any, shared: Any) -> ChatModelBase:  # noqa: ARG003 - see subclasses
        """*inner* with this layer around it, as *options* (None if the file says nothing) want it."""
        return cls(inner)

    def __init__(self, inner: ChatModelBase) -> None:
        self.inner = inner
        self.model_name = inner.model_name
        self.kind = inner.kind
        self.services = inner.services
        self.configured = inner.configured
        self.max_attempts = inner.max_attempts
        self.context_window = inner.context_window
        self._provider = inner.stack()[-1]

    @property
    def streams(self) -> bool:
        """Whether a call streams if it does not say: what is inside decides."""
        return self.inner.streams

    @streams.setter
    def streams(self, streams: bool) -> None:
        self.inner.streams = streams

    @property
    def name(self) -> str:
        """The name of what is inside."""
        return self.inner.name

    def cooldown(self) -> float:
        """Return the seconds until what is inside may be asked again; 0.0 if it may be asked now."""
        return self.inner.cooldown()

    def stack(self) -> list[ChatModelBase]:
        """Return this layer and everything below it, outermost first."""
        return [self, *self.inner.stack()]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.inner!r})"
