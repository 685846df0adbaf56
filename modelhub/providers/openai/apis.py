"""OpenAI's two APIs, chat completions and Responses, and which of them a request goes to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from modelhub.core.errors import ConfigError
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import find_media
from modelhub.providers.endpoint import Endpoint
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.openai import request as chat_request
from modelhub.providers.openai import response as chat_response
from modelhub.providers.openai import responses_request, responses_response
from modelhub.providers.openai.models import find_model
from modelhub.providers.openai.servers import Quirks
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.structured_output import Structured

__all__ = [
    "CHAT_API",
    "CHAT_PARAMETERS",
    "MIN_OUTPUT_TOKENS",
    "RESPONSES_PARAMETERS",
    "Api",
    "ApiName",
    "choose_api",
    "find_api",
    "responses_api",
]

ApiName = Literal["auto", "responses", "chat"]


@dataclass(frozen=True, slots=True, eq=False)
class Api:
    """One of the two: how it is asked, and how its answers are read.

    `path` is what follows the server's address. `encode_request` gets the model, the request, the structure that is
    asked for or None, whether the answer is a stream, and the server's quirks; it returns the parameters, or raises
    UnsupportedFeature for what the API cannot take. `read_body` and `read_event` raise BadReply, or the failure that
    the answer tells of.
    """

    path: str
    encode_request: Callable[[str, ChatRequest, Structured | None, bool, Quirks], dict[str, Any]]
    read_body: Callable[[bytes, ResponseBuilder], None]
    read_event: Callable[[ServerSentEvent, ResponseBuilder], None]


CHAT_API = Api("/chat/completions", chat_request.encode_request, chat_response.read_body, chat_response.read_event)
"""Chat completions, which every server of the dialect has."""


def responses_api(host: str) -> Api:
    """Return the Responses API of the server *host*, to which what only it can read goes back."""
    return Api(
        "/responses",
        partial(responses_request.encode_request, host=host),
        partial(responses_response.read_body, host=host),
        partial(responses_response.read_event, host=host),
    )


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


def find_api(api: ApiName, server: str, endpoint: Endpoint) -> ApiName:
    """Return *api*; in place of `auto` `chat`, unless OpenAI's own address is asked, or Azure's of version 1, where
    both are there. Raises ConfigError for another name."""
    if api not in get_args(ApiName):
        raise ConfigError(f"api: expected {', '.join(get_args(ApiName))}, not {api!r}")
    is_openai = server == "openai" and endpoint.is_official
    is_azure = server == "azure" and urlsplit(endpoint.address).path.rstrip("/").endswith("/openai/v1")
    return "chat" if api == "auto" and not is_openai and not is_azure else api


def choose_api(model: str, request: ChatRequest, parameters: Mapping[str, Any]) -> Literal["responses", "chat"]:
    """Return the API that *request* goes to where both are there and nobody has said which.

    It is Responses, unless the request needs what only chat completions have: a parameter of theirs, audio in the
    messages, a model that is served there only. A model that is served by Responses only, or cannot think and call
    tools elsewhere, goes to Responses all the same, and the server says what it does not take.
    """
    known = find_model(model)
    if known.is_chat_only:
        return "chat"
    says = {name for name, value in parameters.items() if not responses_request.says_nothing(name, value)}
    has_native_tools = any(tool.native is not None for tool in request.tools)
    if not says.isdisjoint(RESPONSES_PARAMETERS) or known.is_responses_only or has_native_tools:
        return "responses"
    if request.tools and known.reasons and known.version >= (5, 4) and parameters.get("reasoning_effort") != "none":
        return "responses"  # GPTs from 5.4 on are refused tools elsewhere unless they may not think
    limits = (parameters.get(name) for name in ("max_completion_tokens", "max_tokens"))
    wants_few_tokens = any(isinstance(limit, int) and limit < MIN_OUTPUT_TOKENS for limit in limits)
    wants_chat = not says.isdisjoint(CHAT_PARAMETERS) or wants_few_tokens
    has_audio = any(media.kind == "audio" for media in find_media(request.messages))
    return "chat" if wants_chat or has_audio else "responses"
