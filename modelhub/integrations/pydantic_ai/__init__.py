"""A chain as a model of Pydantic AI (extra `pydantic-ai`).

    from pydantic_ai import Agent

    from modelhub import Hub
    from modelhub.integrations.pydantic_ai import ModelHubModel

    hub = Hub.from_yaml("models.yaml")
    agent = Agent(ModelHubModel(hub.get("primary")), instructions="Be brief.")
    result = await agent.run("Why is the sky blue?")

Tools, output types (as tools, native or prompted), streams, images and other media, thinking and usage work as with
Pydantic AI's own models; retries, fallbacks, limits and budgets are the chain's. `ModelSettings` are spelled for
whichever vendor answers: `timeout` is the deadline of the call, `thinking` the reasoning effort. The response's
`provider_details` name the entry that answered, its vendor and how many attempts were made.

A failure is Pydantic AI's `ModelHTTPError` if it has a status, else its `ModelAPIError`; `__cause__` is modelhub's.

If a stream breaks after its first words, another model would begin the answer again, and readers of deltas would see
two answers: with `restarts="error"`, the default, the stream fails; with `restarts="buffer"`, streams are held back
until the answer is complete, which no broken stream can then spoil. `agent.run()` is not affected.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_ai import RunContext
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.messages import FinishReason, ModelMessage, ModelResponse, ModelResponseStreamEvent
from pydantic_ai.models import Model, ModelRequestParameters, StreamedResponse, check_allow_model_requests
from pydantic_ai.output import OutputObjectDefinition
from pydantic_ai.profiles import ModelProfile
from pydantic_ai.settings import ModelSettings, ToolOrOutput
from pydantic_ai.tools import ToolDefinition
from pydantic_ai.usage import RequestUsage

from modelhub.core.errors import AllModelsFailed, CallError
from modelhub.core.model import ChatModelBase
from modelhub.core.response import ChatResponse, ChatUsage
from modelhub.core.stream import ChatStream
from modelhub.integrations.pydantic_ai.messages import PROVIDER_NAME, make_messages, make_parts
from modelhub.integrations.replies import Delta, Restarts, StreamDeltas, find_provider, get_details

__all__ = ["ModelHubModel"]

Json = dict[str, Any]

_PARAMETERS: Final = (
    *("max_tokens", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "logit_bias"),
    *("parallel_tool_calls", "service_tier", "extra_headers", "extra_body"),
)
"""Settings that are parameters of a call by the same names."""
_FINISH_REASONS: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_call",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "error": "error",
}


class ModelHubModel(Model[None]):
    """A Pydantic AI model that calls *chain*: `hub.get(name)`, or any other model of modelhub.

    *restarts* says what happens when a stream breaks after its first words; see the module's documentation.
    """

    unsupported_settings = frozenset({"max_retries"})

    def __init__(
        self,
        chain: ChatModelBase,
        *,
        restarts: Restarts = "error",
        profile: ModelProfile | None = None,
        settings: ModelSettings | None = None,
    ) -> None:
        self._chain = chain
        self._restarts: Restarts = restarts
        own = ModelProfile(
            supports_json_schema_output=True,
            supports_json_object_output=True,
            supports_thinking=True,
            supports_inline_system_prompts=True,
        )
        super().__init__(settings=settings, profile=own if profile is None else profile)

    @property
    def model_name(self) -> str:
        """The name of the chain or model in the file."""
        return self._chain.name

    @property
    def system(self) -> str:
        """How Pydantic AI names where the model comes from."""
        return PROVIDER_NAME

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        """Answer *messages*. Raises ModelAPIError, or ModelHTTPError if the failure has a status."""
        arguments = self._make_arguments(messages, model_settings, model_request_parameters)
        with self._translate_errors():
            reply: ChatResponse = await self._chain(**arguments, stream=False)
        return ModelResponse(
            parts=[*make_parts(reply.content)],
            usage=_make_usage(reply.usage),
            model_name=reply.model_name,
            provider_name=PROVIDER_NAME,
            provider_response_id=reply.id,
            provider_details=_describe_reply(reply),
            finish_reason=_FINISH_REASONS.get(reply.finish_reason or ""),
        )

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,  # noqa: ARG002 - the protocol's parameter
    ) -> AsyncGenerator[StreamedResponse]:
        """Answer *messages* with a stream. Raises what `request` does, also while the stream is read."""
        arguments = self._make_arguments(messages, model_settings, model_request_parameters)
        with self._translate_errors():
            stream = await self._chain(**arguments, stream=True)
        async with stream:
            yield _StreamedReply(model_request_parameters, self, stream, self._restarts)

    def _make_arguments(
        self, messages: list[ModelMessage], settings: ModelSettings | None, parameters: ModelRequestParameters
    ) -> Json:
        """Return the keyword arguments of the call."""
        check_allow_model_requests()
        prepared_settings, parameters = self.prepare_request(settings, parameters)
        settings = prepared_settings or {}
        arguments: Json = {name: settings[name] for name in _PARAMETERS if settings.get(name) is not None}
        arguments["messages"] = make_messages(messages, parameters)
        if (stop := settings.get("stop_sequences")) is not None:
            arguments["stop"] = stop
        if isinstance(timeout := settings.get("timeout"), int | float):
            arguments["deadline"] = timeout
        tools, choice = _choose_tools(settings, parameters)
        if tools:
            functions = [_make_definition(tool, "parameters", tool.parameters_json_schema) for tool in tools]
            arguments["tools"] = [{"type": "function", "function": function} for function in functions]
            arguments["tool_choice"] = choice
        if parameters.thinking is not None:
            level = parameters.thinking
            arguments["reasoning_effort"] = level if isinstance(level, str) else "medium" if level else "none"
        if (form := _make_format(parameters)) is not None:
            arguments["response_format"] = form
        return arguments

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except CallError as error:
            reason = error.dominant if isinstance(error, AllModelsFailed) else error
            if reason.status is not None:
                raise ModelHTTPError(reason.status, self.model_name, body=str(error)) from error
            raise ModelAPIError(self.model_name, str(error)) from error


@dataclass
class _StreamedReply(StreamedResponse):
    """The stream of a chain, as Pydantic AI reads it."""

    _model: ModelHubModel
    _stream: ChatStream
    _restarts: Restarts
    _name: str | None = field(default=None, init=False)
    _timestamp: datetime = field(default_factory=lambda: datetime.now(UTC), init=False)

    async def _get_event_iterator(self) -> AsyncIterator[ModelResponseStreamEvent]:
        with self._model._translate_errors():
            deltas = StreamDeltas(self._restarts)
            async for snapshot in self._stream:
                self._name = snapshot.model_name
                for delta in deltas.add(snapshot):
                    for event in self._apply(delta):
                        yield event
                if snapshot.is_last:
                    for event in self._finish(snapshot):
                        yield event

    def _apply(self, delta: Delta) -> Iterator[ModelResponseStreamEvent]:
        part_id = (delta.kind, delta.number)
        if delta.kind == "text":
            yield from self._parts_manager.handle_text_delta(vendor_part_id=None, content=delta.text)
        elif delta.kind == "thinking":
            yield from self._parts_manager.handle_thinking_delta(vendor_part_id=part_id, content=delta.text)
        else:
            call = delta.call or {}
            yield from self._parts_manager.handle_tool_call_delta_events(
                vendor_part_id=part_id,
                tool_name=call.get("name"),
                tool_call_id=call.get("id"),
                args=delta.text or None,
            )

    def _finish(self, reply: ChatResponse) -> Iterator[ModelResponseStreamEvent]:
        """Add what is only known of the complete *reply*, such as signatures of thinking."""
        counts = {"thinking": 0, "tool_use": 0}
        for block in reply.content:
            number = counts.get(block["type"], 0)
            counts[block["type"]] = number + 1
            if not (details := get_details(block)):
                continue
            own: Json = {"provider_name": PROVIDER_NAME, "provider_details": details}
            if block["type"] == "thinking":
                yield from self._parts_manager.handle_thinking_delta(
                    vendor_part_id=("thinking", number), signature=block.get("signature"), **own
                )
            elif block["type"] == "tool_use":
                yield from self._parts_manager.handle_tool_call_delta_events(vendor_part_id=("call", number), **own)
        self._usage = _make_usage(reply.usage)
        self.provider_response_id = reply.id
        self.provider_details = _describe_reply(reply)
        self.finish_reason = _FINISH_REASONS.get(reply.finish_reason or "")

    async def close_stream(self) -> None:
        """Close the stream of modelhub, and so the connection to the vendor."""
        await self._stream.aclose()

    @property
    def model_name(self) -> str:
        """The vendor's name of the model that answers, or the chain's before it is known."""
        return self._name or self._model.model_name

    @property
    def provider_name(self) -> str:
        """How Pydantic AI names where the response comes from."""
        return PROVIDER_NAME

    @property
    def provider_url(self) -> None:
        """No address: a chain has several."""
        return

    @property
    def timestamp(self) -> datetime:
        """The date and time at which the request was made, in UTC."""
        return self._timestamp


def _choose_tools(settings: ModelSettings, parameters: ModelRequestParameters) -> tuple[list[ToolDefinition], Any]:
    """Return the tools of the request, and the choice among them.

    *parameters* has function tools and output tools; the setting `tool_choice` is about the first kind. Without direct
    output one of them must be called.
    """
    declared = list(parameters.declared_tool_defs.values())
    outputs = {tool.name for tool in parameters.output_tools}
    is_direct = parameters.allow_text_output or parameters.allow_image_output
    choice = settings.get("tool_choice")
    if choice in ("none", []):
        if not outputs:
            return declared, "none"
        names = outputs
    elif isinstance(choice, ToolOrOutput):
        names = {*choice.function_tools, *outputs}
    else:
        names = set(choice) if isinstance(choice, list) else {tool.name for tool in declared}
    tools = [tool for tool in declared if tool.name in names]
    is_required = not is_direct or choice == "required" or (isinstance(choice, list) and bool(choice))
    if is_required and len(tools) == 1:
        return tools, {"type": "function", "function": {"name": tools[0].name}}
    return tools, "required" if is_required else "auto"


def _make_format(parameters: ModelRequestParameters) -> Json | None:
    """Return the `response_format` of an output type that is no tool, or None."""
    output = parameters.output_object
    if output is None or parameters.output_mode not in ("native", "prompted"):
        return None
    if parameters.output_mode == "prompted":
        return None if parameters.function_tools else {"type": "json_object"}
    return {"type": "json_schema", "json_schema": _make_definition(output, "schema", output.json_schema)}


def _make_definition(defined: ToolDefinition | OutputObjectDefinition, key: str, schema: Json) -> Json:
    """Return what is said of a tool or an output type, its *schema* under *key*."""
    definition: Json = {"name": defined.name or "output", key: schema}
    if defined.description:
        definition["description"] = defined.description
    if defined.strict is not None:
        definition["strict"] = defined.strict
    return definition


def _make_usage(usage: ChatUsage | None) -> RequestUsage:
    if usage is None:
        return RequestUsage()
    return RequestUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        details={"reasoning_tokens": usage.reasoning_tokens} if usage.reasoning_tokens else {},
    )


def _describe_reply(reply: ChatResponse) -> Json:
    return {"model": reply.model, "provider": find_provider(reply), "attempts": len(reply.attempts)}
