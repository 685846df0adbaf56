"""OpenAI's two APIs, chat completions and Responses, and which of them a request goes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol
from urllib.parse import urlsplit

from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import MediaBlock, ToolResultBlock
from modelhub.providers.endpoint import Endpoint
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body
from modelhub.providers.openai import request as chat_request
from modelhub.providers.openai import response as chat_response
from modelhub.providers.openai import responses_request, responses_response
from modelhub.providers.openai.models import (
    lacks_responses,
    needs_responses,
    reasons_with_tools_in_responses_only,
)
from modelhub.providers.openai.servers import Quirks
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.structured_output import Structured

__all__ = [
    "CHAT_PARAMETERS",
    "MIN_OUTPUT_TOKENS",
    "RESPONSES_PARAMETERS",
    "Api",
    "ApiName",
    "ChatApi",
    "ResponsesApi",
    "choose_api",
    "has_responses",
]

ApiName = Literal["auto", "responses", "chat"]


class Api(Protocol):
    """One of the two: how it is asked, and how its answers are read."""

    path: ClassVar[str]
    """What follows the server's address."""

    def encode_request(
        self,
        model: str,
        request: ChatRequest,
        structured: Structured | None,
        stream: bool,
        *,
        parameters: Mapping[str, Any],
        quirks: Quirks,
    ) -> dict[str, Any]:
        """Return the parameters of one request. Raises UnsupportedFeature for what the API cannot take."""

    def read_body(self, body: bytes, builder: ResponseBuilder) -> None:
        """Read a whole answer. Raises BadReply, or the failure that the body tells of."""

    def read_event(self, event: ServerSentEvent, builder: ResponseBuilder) -> None:
        """Read one event of a stream. Raises like `read_body`."""


class ChatApi:
    """Chat completions, which every server of the dialect has."""

    path: ClassVar[str] = "/chat/completions"

    def encode_request(
        self,
        model: str,
        request: ChatRequest,
        structured: Structured | None,
        stream: bool,
        *,
        parameters: Mapping[str, Any],
        quirks: Quirks,
    ) -> dict[str, Any]:
        """Return the parameters of a completion."""
        return chat_request.encode_request(model, request, structured, stream, parameters=parameters, quirks=quirks)

    def read_body(self, body: bytes, builder: ResponseBuilder) -> None:
        """Read a whole completion."""
        chat_response.read_body(json_body(body), builder)

    def read_event(self, event: ServerSentEvent, builder: ResponseBuilder) -> None:
        """Read one chunk of a completion."""
        if event.data.strip() == b"[DONE]":
            chat_response.read_done(builder)
        else:
            chat_response.read_event(event.name, event.data, builder)


class ResponsesApi:
    """Responses, at the server *host*, to which what only it can read goes back."""

    path: ClassVar[str] = "/responses"

    def __init__(self, host: str) -> None:
        self._host = host

    def encode_request(
        self,
        model: str,
        request: ChatRequest,
        structured: Structured | None,
        stream: bool,
        *,
        parameters: Mapping[str, Any],
        quirks: Quirks,
    ) -> dict[str, Any]:
        """Return the parameters of a response."""
        return responses_request.encode_request(
            model, request, structured, stream, parameters=parameters, quirks=quirks, host=self._host
        )

    def read_body(self, body: bytes, builder: ResponseBuilder) -> None:
        """Read a whole response."""
        responses_response.read_body(json_body(body), builder, self._host)

    def read_event(self, event: ServerSentEvent, builder: ResponseBuilder) -> None:
        """Read one event of a response."""
        if event.data.strip() != b"[DONE]":  # what some servers put behind every stream says nothing here
            responses_response.read_event(event.name, event.data, builder, self._host)


# -- which of them -----------------------------------------------------------------------------------------------------

CHAT_PARAMETERS = frozenset(
    {
        *("n", "stop", "seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"),
        *("modalities", "audio", "prediction", "web_search_options", "functions", "function_call"),
    }
)
"""What only chat completions take."""
RESPONSES_PARAMETERS = frozenset(
    {
        *("previous_response_id", "conversation", "instructions", "prompt", "background", "include", "text"),
        *("reasoning", "truncation", "max_tool_calls", "context_management", "max_output_tokens"),
    }
)
"""What only Responses take."""
MIN_OUTPUT_TOKENS = 16
"""The smallest limit of an answer's tokens that Responses take."""


def has_responses(server: str, endpoint: Endpoint) -> bool:
    """Whether `auto` is Responses at this *endpoint*: at OpenAI's own address, and at Azure's of version 1."""
    if server == "openai":
        return endpoint.is_official
    return server == "azure" and urlsplit(endpoint.address).path.rstrip("/").endswith("/openai/v1")


def choose_api(model: str, request: ChatRequest, parameters: Mapping[str, Any]) -> Literal["responses", "chat"]:
    """Return the API that *request* goes to where both are there and nobody has said which.

    It is Responses, unless the request needs what only chat completions have: a parameter of theirs, audio in the
    messages, a model that is served there only. A model that is served by Responses only, or cannot think and call
    tools elsewhere, goes to Responses all the same, and the server says what it does not take.
    """
    if lacks_responses(model):
        return "chat"
    says = {name for name, value in parameters.items() if not responses_request.says_nothing(name, value)}
    if not says.isdisjoint(RESPONSES_PARAMETERS) or needs_responses(model) or _has_native_tools(request):
        return "responses"
    if request.tools and reasons_with_tools_in_responses_only(model) and parameters.get("reasoning_effort") != "none":
        return "responses"
    wants_chat = not says.isdisjoint(CHAT_PARAMETERS) or _wants_few_tokens(parameters) or _has_audio(request)
    return "chat" if wants_chat else "responses"


def _wants_few_tokens(parameters: Mapping[str, Any]) -> bool:
    limits = (parameters.get(name) for name in ("max_completion_tokens", "max_tokens"))
    return any(isinstance(limit, int) and limit < MIN_OUTPUT_TOKENS for limit in limits)


def _has_native_tools(request: ChatRequest) -> bool:
    return any(tool.native is not None for tool in request.tools)


def _has_audio(request: ChatRequest) -> bool:
    blocks = (block for message in request.messages for block in message.blocks)
    return any(
        part.kind == "audio"
        for block in blocks
        for part in (block.output if isinstance(block, ToolResultBlock) else (block,))
        if isinstance(part, MediaBlock)
    )
