"""Answers of Cohere's, whole or by events."""

from collections.abc import Mapping
from typing import Any

from modelhub.providers import Counts, ResponseBuilder, read_count, read_finish_reason
from modelhub_cohere.errors import error_from_response

Json = Mapping[str, Any]


def read_message(body: Json, builder: ResponseBuilder) -> None:
    """Read a whole answer. Raises the failure that the body tells of."""
    if not isinstance(message := body.get("message"), Mapping):
        raise error_from_response(None, {}, body)  # its `message` is a text then
    builder.id = body.get("id")
    for number, part in enumerate(message.get("content") or ()):
        _read_part(number, part, builder)
    for number, call in enumerate(message.get("tool_calls") or ()):
        _read_call(number, call, builder)
    _read_end(body, builder)


def read_event(event: Json, builder: ResponseBuilder) -> None:
    """Read one event of a stream. Raises the failure that it tells of."""
    kind, delta = event.get("type"), event.get("delta") or {}
    message = delta.get("message") or {}
    if kind == "message-start":
        builder.id = event.get("id")
    elif kind in ("content-start", "content-delta"):
        _read_part(event.get("index"), message.get("content") or {}, builder)
    elif kind in ("tool-call-start", "tool-call-delta"):
        _read_call(event.get("index"), message.get("tool_calls") or {}, builder)
    elif kind == "message-end":
        _read_end(delta, builder)
    elif kind is None:
        raise error_from_response(None, {}, event)


def _read_part(number: Any, part: Json, builder: ResponseBuilder) -> None:
    if thinking := part.get("thinking"):
        builder.thinking(thinking, key=("content", number), provider="cohere")
    elif text := part.get("text"):
        builder.text(text, key=("content", number))


def _read_call(number: Any, call: Json, builder: ResponseBuilder) -> None:
    function = call.get("function") or {}
    builder.tool(number, id=call.get("id"), name=function.get("name"))
    builder.arguments(number, function.get("arguments") or "")


def _read_end(body: Json, builder: ResponseBuilder) -> None:
    builder.report_counts(body.get("usage") or {}, _read_counts)
    if (finish := read_finish_reason(body.get("finish_reason"), builder.has_tools)) is not None:
        builder.finish_reason, builder.complete = finish, True


def _read_counts(usage: Any) -> Counts:
    tokens = usage.get("tokens") or usage.get("billed_units") or {}
    return {
        "input": read_count(tokens, "input_tokens"),
        "output": read_count(tokens, "output_tokens"),
        "cache_read": read_count(usage, "cached_tokens"),
    }
