"""The shape of a call for the ledger: what it asks for, without what it says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import ToolChoice, find_media

__all__ = ["describe_shape", "record_shape"]

_OUR_KEYWORDS = frozenset({"deadline", "fallback"})
_PLACEHOLDERS: Mapping[str, Any] = {"seed": 1, "stop": "END", "user": "user"}
"""What is recorded of parameters whose value does not matter to a model's taking them."""
_WORDS = frozenset({"reasoning_effort", "service_tier"})
"""Parameters whose value is one of a few words."""
_MAX_WORD_LENGTH = 20


def record_shape(request: ChatRequest) -> None:
    """Keep the shape of *request* in its context, for the record of the call. It is an `Instrumentation`."""
    request.context.shape = describe_shape(request)


def describe_shape(request: ChatRequest) -> dict[str, Any]:
    """Return what *request* asks for, as JSON data: tools, kinds of media, a schema, a stream, and its parameters.

    Nothing that the caller wrote is in it: of parameters, numbers, switches and a few known words are kept, and
    placeholders of the same type in the place of all other values. What is not asked for is left out.
    """
    shape: dict[str, Any] = {}
    if request.tools:
        if any(tool.native is None for tool in request.tools):
            shape["tools"] = True
        if native := sorted({tool.name for tool in request.tools if tool.native is not None}):
            shape["native_tools"] = native
        choice: ToolChoice | None = request.tool_choice
        if choice is not None:
            shape["tool_choice"] = choice.mode
    for kind in sorted({block.kind for block in find_media(request.messages)}):
        shape[kind] = True
    if request.structured_model is not None:
        shape["schema"] = True
    if request.stream:
        shape["stream"] = True
    if parameters := {
        name: _describe_value(name, value)
        for name, value in request.options.items()
        if value is not None and name not in _OUR_KEYWORDS
    }:
        shape["ask"] = parameters
    return shape


def _describe_value(name: str, value: Any) -> Any:
    if name in _PLACEHOLDERS:
        return _PLACEHOLDERS[name]
    if isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if name in _WORDS and len(value) <= _MAX_WORD_LENGTH else "text"
    if isinstance(value, Mapping):
        # Of an object only its type is told, such as that of a `response_format`.
        kind = value.get("type")
        return {"type": kind} if name == "response_format" and isinstance(kind, str) else {}
    return [_describe_value(name, item) for item in value[:1]] if isinstance(value, list | tuple) else "text"
