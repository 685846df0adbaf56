"""Requests to OpenAI's Responses API: the neutral conversation, tools and wishes as its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.request import ChatRequest
from modelhub.providers.openai.models import does_reason
from modelhub.providers.openai.request import ask_in_words, encode_tools
from modelhub.providers.openai.responses_conversation import encode_conversation
from modelhub.providers.openai.schema import is_object, write_schema
from modelhub.providers.openai.servers import Quirks
from modelhub.providers.structured_output import Structured

__all__ = ["SPELLINGS", "encode_request", "says_nothing"]

Json = dict[str, Any]

ENCRYPTED_REASONING = "reasoning.encrypted_content"
SPELLINGS: Mapping[str, str] = {
    "max_tokens": "max_output_tokens",
    "reasoning_effort": "reasoning.effort",
    "response_format": "text.format",
}
"""What neutral parameters are called here that have another name than in chat completions."""


def encode_request(
    model: str, request: ChatRequest, structured: Structured | None, stream: bool, quirks: Quirks, *, host: str
) -> Json:
    """Return the parameters of a response; the caller's own are in the request's options; *host* is where it is sent.

    Nothing is stored at the server unless the caller says so, and reasoning is asked for in its encrypted form.
    """
    payload: Json = {"model": model, "store": False, **_spell_parameters(request.options)}
    payload["input"] = encode_conversation(request.messages, quirks, host, is_stored=payload["store"] is True)
    if does_reason(model) or "reasoning" in payload:
        payload["include"] = list(dict.fromkeys([*payload.get("include", ()), ENCRYPTED_REASONING]))
    own_tools = payload.pop("tools", None) or []
    if request.tools:
        payload |= _flatten_tools(encode_tools(request.tools, request.tool_choice, quirks))
    if own_tools:
        payload["tools"] = [*payload.get("tools", ()), *own_tools]
    if structured is not None:
        _ask_structured(payload, structured, quirks)
    payload["stream"] = stream
    return payload


# -- parameters --------------------------------------------------------------------------------------------------------


def _spell_parameters(parameters: Mapping[str, Any]) -> Json:
    """Return *parameters* by the names of this API, those of chat completions too; those that say nothing left out."""
    spelled = {name: value for name, value in parameters.items() if not says_nothing(name, value)}
    for name in ("max_completion_tokens", "max_tokens"):  # see `SPELLINGS`
        if name in spelled:
            limit = spelled.pop(name)
            spelled.setdefault("max_output_tokens", limit)
    if (effort := spelled.pop("reasoning_effort", None)) is not None:
        spelled["reasoning"] = {"effort": effort, **spelled.get("reasoning", {})}
    text: Json = {}
    if (verbosity := spelled.pop("verbosity", None)) is not None:
        text["verbosity"] = verbosity
    if (form := spelled.pop("response_format", None)) is not None:
        text["format"] = _flatten_form(form)
    if text:
        spelled["text"] = {**text, **spelled.get("text", {})}
    options = spelled.pop("stream_options", None)
    # Usage always comes here, and may not be asked for.
    if isinstance(options, Mapping) and (kept := {key: options[key] for key in options if key != "include_usage"}):
        spelled["stream_options"] = kept
    return spelled


def says_nothing(name: str, value: Any) -> bool:
    """Whether the parameter *name* with *value* asks for nothing but what chat completions do without it."""
    return value is None or (name in _NEUTRAL and value == _NEUTRAL[name])


_NEUTRAL: Mapping[str, Any] = {
    "n": 1,
    "logprobs": False,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "stop": [],
    "logit_bias": {},
}


def _flatten_form(form: Any) -> Any:
    """Return a `response_format` as the format of a text: what is in `json_schema` there stands beside the type."""
    if isinstance(form, Mapping) and isinstance(schema := form.get("json_schema"), Mapping):
        return {"type": "json_schema", **schema}
    return form


# -- tools and structure -----------------------------------------------------------------------------------------------


def _flatten_tools(parameters: Json) -> Json:
    """Return the *parameters* of chat completions that are about tools, in the form of this API."""
    flat: Json = {}
    if "tools" in parameters:
        flat["tools"] = [  # left out, `strict` means true here
            {"type": "function", "strict": False, **tool["function"]} if "function" in tool else tool
            for tool in parameters["tools"]
        ]
    if "tool_choice" in parameters:
        choice, types = parameters["tool_choice"], {tool["type"] for tool in flat["tools"]}
        if isinstance(choice, dict):
            name = choice["function"]["name"]
            is_function = any(tool.get("name") == name for tool in flat["tools"])
            choice = {"type": name} if not is_function and name in types else {"type": "function", "name": name}
        flat["tool_choice"] = choice
    return flat


def _ask_structured(payload: Json, structured: Structured, quirks: Quirks) -> None:
    if structured.method == "native":
        form = _flatten_form(write_schema(structured, quirks))
        payload["text"] = {**payload.get("text", {}), "format": form}
    elif structured.method == "tool":
        payload |= _flatten_tools(encode_tools([structured.tool()], structured.tool_choice(), quirks))
    else:
        ask_in_words(payload["input"], structured.prompt(), "input_text")
        if quirks.structured == "json_object" and is_object(structured.schema):
            payload["text"] = {**payload.get("text", {}), "format": {"type": "json_object"}}
