"""A request for a chat completion, as the arguments of a call.

What comes over the network is not the application's own: a path in it must never be read. So only the types of content
that OpenAI's API has go through, no other form that a hub would read, and only addresses that a vendor can fetch.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

from pydantic import ValidationError

from modelhub.integrations.asgi.errors import HttpError
from modelhub.options import AskOptions

__all__ = ["CompletionRequest", "Restarts", "read_request"]

Restarts = Literal["error", "buffer", "announce"]
"""What happens if another model begins the answer again after a part of it was sent."""
_RESTARTS: Final[tuple[Restarts, ...]] = get_args(Restarts)

_UNAVAILABLE: Final[Mapping[str, str]] = {
    "n": "only one answer is given to a request",
    "logprobs": "the probabilities of tokens are not passed on",
    "top_logprobs": "the probabilities of tokens are not passed on",
    "functions": "use `tools`",
    "function_call": "use `tool_choice`",
    "audio": "answers have no sound",
    "modalities": "answers are text",
    "store": "nothing is stored",
}
"""Parameters of OpenAI's whose effect would be lost, and why."""
_HARMLESS: Final[Mapping[str, Any]] = {
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "store": False,
    "modalities": ["text"],
}
"""Values of those parameters that ask for nothing."""
_OWN: Final = frozenset(
    {"model", "messages", "tools", "tool_choice", "response_format", "stream", "stream_options", "metadata"}
)
_NEUTRAL: Final = frozenset(AskOptions.model_fields) - _UNAVAILABLE.keys() - _OWN
_OPENAIS: Final = frozenset(
    {
        *("max_completion_tokens", "logit_bias", "moderation", "prediction", "prompt_cache_key"),
        *("prompt_cache_options", "prompt_cache_retention", "safety_identifier", "verbosity", "web_search_options"),
    }
)
"""OpenAI's parameters that are passed on by its names."""


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """What a client asks for: the *model* by its name in the file, and the keyword *arguments* of the call.

    *tags* are the client's own; *is_structured* tells whether the answer is the JSON of a schema, which is in the
    reply's metadata.
    """

    model: str
    arguments: dict[str, Any] = field(repr=False)
    tags: Mapping[str, str]
    streams: bool
    includes_usage: bool
    restarts: Restarts
    is_structured: bool


def read_request(body: Mapping[str, Any], more_parameters: Collection[str]) -> CompletionRequest:
    """Return the request in *body*; *more_parameters* may be in it too. Raises HttpError if it cannot be served."""
    body = {name: value for name, value in body.items() if value is not None}
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _make_error("model", "expected the name of a model or a chain")
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise _make_error("stream", "expected true or false")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _make_error("messages", "expected a list of messages")
    arguments = {
        "messages": [_read_message(message, f"messages[{index}]") for index, message in enumerate(messages)],
        **_read_parameters(body, more_parameters),
    }
    if tools := _read_tools(body.get("tools", [])):
        arguments["tools"] = tools
    if "tool_choice" in body:
        arguments["tool_choice"] = body["tool_choice"]
    is_structured = _add_format(arguments, body.get("response_format"), has_tools=bool(tools))
    includes_usage, restarts = _read_stream_options(body.get("stream_options", {}))
    if is_structured and restarts == "error":
        restarts = "buffer"  # what was checked against the schema is what is sent
    tags = body.get("metadata", {})
    if not isinstance(tags, Mapping) or not all(isinstance(value, str) for value in tags.values()):
        raise _make_error("metadata", "expected an object of texts")
    return CompletionRequest(model, arguments, dict(tags), stream, includes_usage, restarts, is_structured)


def _read_parameters(body: Mapping[str, Any], more_parameters: Collection[str]) -> dict[str, Any]:
    parameters = {}
    for name, value in body.items():
        if name in _UNAVAILABLE:
            if _HARMLESS.get(name) != value:
                raise _make_error(name, f"this value is not supported: {_UNAVAILABLE[name]}", "unsupported_value")
        elif name in _OWN:
            continue
        elif name in _NEUTRAL or name in _OPENAIS or name in more_parameters:
            parameters[name] = value
        else:
            message = f"unrecognized request argument supplied: {name}"
            raise HttpError(400, message, code="unknown_parameter", param=name)
    try:
        AskOptions.model_validate({name: value for name, value in parameters.items() if name in _NEUTRAL})
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise _make_error(str(problem["loc"][0]), problem["msg"].lower(), "invalid_value") from None
    return parameters


def _read_tools(tools: Any) -> list[Any]:
    if not isinstance(tools, list):
        raise _make_error("tools", "expected a list")
    for index, tool in enumerate(tools):
        is_function = isinstance(tool, Mapping) and tool.get("type") == "function"
        if not is_function or not isinstance(tool.get("function"), Mapping):
            raise _make_error(f"tools[{index}]", 'expected {"type": "function", "function": {...}}')
    return tools


def _add_format(arguments: dict[str, Any], response_format: Any, *, has_tools: bool) -> bool:
    """Add *response_format* to *arguments*; return whether the answer is checked against its schema."""
    if response_format is None:
        return False
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind not in ("text", "json_object", "json_schema"):
        raise _make_error("response_format.type", "expected text, json_object or json_schema")
    form = response_format.get("json_schema")
    if kind == "json_schema" and not (isinstance(form, Mapping) and isinstance(form.get("schema"), Mapping)):
        raise _make_error("response_format.json_schema", 'expected {"name": ..., "schema": {...}}')
    # A hub's structured call has no tools: then the vendor alone is asked to keep to the schema.
    is_structured = kind == "json_schema" and not has_tools
    arguments["structured_model" if is_structured else "response_format"] = response_format
    return is_structured


def _read_stream_options(options: Any) -> tuple[bool, Restarts]:
    if not isinstance(options, Mapping):
        raise _make_error("stream_options", "expected an object")
    restarts: Restarts = options.get("restarts") or "error"
    if restarts not in _RESTARTS:
        raise _make_error("stream_options.restarts", f"expected one of {', '.join(_RESTARTS)}")
    return options.get("include_usage") is True, restarts


def _make_error(param: str, expectation: str, code: str | None = None) -> HttpError:
    return HttpError(400, f"{param}: {expectation}", code=code, param=param)


# -- messages ----------------------------------------------------------------------------------------------------------

_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_KEYS: Final = (
    *("role", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content", "reasoning"),
    *("cache_control", "audio"),
)
"""The keys of a message beside its content."""
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": (),
    "refusal": (),
    "image_url": ("url", "detail"),
    "video_url": ("url",),
    "input_audio": ("data", "format"),
    "file": ("file_data", "filename", "file_id"),
}
"""The types of parts, and the keys of the object that is called like the part; where it is text, none."""
_ADDRESS: Final = re.compile(r"(https?://|data:)", re.IGNORECASE)
_DATA: Final = re.compile(r"data:|[A-Za-z0-9+/_=\s-]*\Z", re.IGNORECASE)


def _read_message(message: Any, path: str) -> dict[str, Any]:
    """Return *message*, with nothing in it but what OpenAI's API has. Raises HttpError for other roles and types."""
    if not isinstance(message, Mapping):
        raise _make_error(path, "expected an object with `role` and `content`")
    if message.get("role") not in _ROLES:
        raise _make_error(f"{path}.role", f"expected one of {', '.join(_ROLES)}")
    allowed = {key: message[key] for key in _KEYS if message.get(key) is not None}
    content = message.get("content")
    if isinstance(content, list):
        content = [_read_part(part, f"{path}.content[{index}]") for index, part in enumerate(content)]
    elif content is not None and not isinstance(content, str):
        raise _make_error(f"{path}.content", "expected text or a list of parts")
    return {**allowed, "content": content}


def _read_part(part: Any, path: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str) or kind not in _PARTS:
        raise _make_error(f"{path}.type", f"expected one of {', '.join(_PARTS)}")
    value = part.get(kind)
    if _PARTS[kind]:
        value = _read_media(value, kind, f"{path}.{kind}")
    elif not isinstance(value, str):
        raise _make_error(f"{path}.{kind}", "expected text")
    mark = part.get("cache_control")
    return {"type": kind, kind: value, **({} if mark is None else {"cache_control": mark})}


def _read_media(value: Any, kind: str, path: str) -> dict[str, Any]:
    """Return media that are data, or at an address that a vendor can fetch. Raises HttpError for any other place."""
    if not isinstance(value, Mapping):
        raise _make_error(path, "expected an object")
    media = {key: value[key] for key in _PARTS[kind] if value.get(key) is not None}
    for key, pattern, expectation in (
        ("url", _ADDRESS, "expected an address that begins with http://, https:// or data:"),
        ("data", _DATA, "expected data in base64, or a data: URL"),
        ("file_data", _DATA, "expected data in base64, or a data: URL"),
    ):
        if key in media and not (isinstance(media[key], str) and pattern.match(media[key])):
            raise _make_error(f"{path}.{key}", expectation)
    return media
