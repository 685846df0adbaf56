"""Answers of DashScope: its events and bodies, and what its errors mean. Pure functions of values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import BadReply
from modelhub.core.response import FinishReason
from modelhub.providers.dashscope.errors import error_from_response
from modelhub.providers.dashscope.request import PROVIDER_NAME
from modelhub.providers.error_mapping import is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.token_counts import Counts, read_counts
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["ends_answer", "read_body", "read_event"]

_DONE = b"[DONE]"
"""What gateways that speak OpenAI's dialect too put behind a stream."""
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"(?!null")[^"]')
_SUCCESS = (200, "200", 0, "0", "Success", "success")
"""What gateways write as the code of an answer that is none of a failure."""


def read_body(body: bytes, builder: ResponseBuilder) -> None:
    """Read a whole answer. Raises BadReply, or the error that it is."""
    _read(json_body(body), builder)


def read_event(event: ServerSentEvent, builder: ResponseBuilder) -> None:
    """Read a piece of the message, or the end; each with the counts so far. Raises BadReply, or the event's error."""
    name, data = event
    if data == _DONE:
        if not builder.complete and builder.has_content:
            _finish("tool_calls" if builder.has_tools else "stop", builder)
        return
    body = json_body(data)
    if name == "error":
        raise error_from_response(None, builder.headers or {}, body)
    _read(body, builder)


def ends_answer(event: ServerSentEvent) -> bool:
    """Whether nothing follows *event* but the end of the body."""
    data = event.data
    return data == _DONE or (_FINISHED.search(data) is not None and _is_last(_find_choice(json_body(data))))


def _is_last(choice: Mapping[str, Any]) -> bool:
    # While the answer goes on, the vendor writes the text "null" for the reason.
    return choice.get("finish_reason") not in (None, "", "null")


def _read(body: Mapping[str, Any], answer: ResponseBuilder) -> None:
    """Read a piece of the message, the counts so far, perhaps the end. Raises the error that *body* may be."""
    output = body.get("output")
    is_answer = isinstance(output, dict) and body.get("code") in _SUCCESS
    if (body.get("code") and not is_answer) or body.get("error") or (output is None and is_flat_error(body)):
        raise error_from_response(None, answer.headers or {}, body)
    choice = _find_choice(body)
    answer.id = body.get("request_id") or answer.id
    answer.model_name = body.get("model") or (output or {}).get("model") or answer.model_name
    message = choice.get("message", choice)  # the old form has `text` beside `finish_reason`
    if not isinstance(message, dict):
        raise BadReply("the answer's message is no JSON object")
    for place in (body, output, choice, message):
        if isinstance(place, dict) and place.get("usage"):
            answer.report_counts(place["usage"], _read_counts)
            break
    _read_message(message, choice, answer)
    if _is_last(choice) and (finish := read_finish_reason(choice["finish_reason"], answer.has_tools)) is not None:
        _finish(finish, answer)


def _read_message(message: Mapping[str, Any], choice: Mapping[str, Any], answer: ResponseBuilder) -> None:
    if thought := _text(message.get("reasoning_content")):
        answer.thinking(thought, provider=PROVIDER_NAME)
    text = _text(message.get("content") or message.get("text"))
    if not (_is_last(choice) and answer.is_repeated_by(text)):
        answer.text(text)
    if calls := message.get("tool_calls"):
        seen: set[Any] = set()
        for position, call in enumerate(calls if isinstance(calls, list) else [calls]):
            _read_call(call, position, seen, answer)


def _find_choice(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the first of the choices in *body*, or the output itself in the old form; {} if there is neither."""
    output = body.get("output")
    if not isinstance(output, dict):
        return {}
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices:
        return output
    for choice in choices:
        if isinstance(choice, dict) and not choice.get("index"):
            return choice
    return {}


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_text(part) for part in content)
    if isinstance(content, dict):
        return _text(content["text"]) if "text" in content else "" if "image" in content else dump_arguments(content)
    return ""


def _read_call(raw: Any, position: int, seen: set[Any], answer: ResponseBuilder) -> None:
    """Add a piece of a call; *seen* are the places of the calls before it in the same message."""
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(function, dict):
        raise BadReply("a tool call in the answer has no function")
    name, index = function.get("name"), raw.get("index", position)
    answer.check_called_tool(name)
    if index in seen:
        index = (index, position)
    seen.add(index)
    # Only the first piece of a call has its id and its name; the others go by their place.
    calls: dict[Any, tuple[object, str]] = answer.state.setdefault("calls", {})
    call_id = str(raw.get("id") or "")
    key, known_id = calls.get(index) or (object(), "")
    if call_id and known_id and call_id != known_id:
        key, known_id = object(), ""
    calls[index] = (key, known_id or call_id)
    answer.tool(key, id=call_id, name=name)
    answer.arguments(key, dump_arguments(function.get("arguments") or ""))


def _read_counts(raw: Any) -> Counts:
    """Return the counts of both halves, which are what is billed, without the total."""
    counts = read_counts(raw)
    counts.pop("total", None)
    return counts


def _finish(finish: FinishReason, answer: ResponseBuilder) -> None:
    if finish in ("stop", "tool_calls"):
        answer.check_required_tool()
    answer.finish_reason = finish
    answer.complete = True
