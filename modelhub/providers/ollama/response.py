"""Answers of Ollama: a line of JSON for each piece, or one that says all. Pure functions of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import BadReply
from modelhub.providers.error_mapping import is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body, loads
from modelhub.providers.ollama.errors import error_in_answer
from modelhub.providers.ollama.request import PROVIDER_NAME
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.token_counts import read_count
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["read_body", "read_event"]

_NO_ANSWER = {"load": "the model was only loaded", "unload": "the model was unloaded"}


def read_body(body: bytes, builder: ResponseBuilder) -> None:
    """Read a whole answer, which is one line that says all. Raises like `read_event`."""
    _read_line(json_body(body), builder)


def read_event(event: ServerSentEvent, builder: ResponseBuilder) -> None:
    """Read a line: a piece of the message, an error, or the end with its counts. Raises BadReply, or the error."""
    _read_line(loads(event.data), builder)


def _read_line(line: Any, answer: ResponseBuilder) -> None:
    if not isinstance(line, dict):
        raise BadReply(f"a line of the answer is no JSON object but {type(line).__name__}")
    message = line.get("message")
    is_answer = isinstance(message, dict) or line.get("done")
    if line.get("error") or (not is_answer and is_flat_error(line)):
        raise error_in_answer(line)
    if message is not None and not isinstance(message, dict):
        raise BadReply(f"the answer's message is no object but {type(message).__name__}")
    answer.model_name = answer.model_name or line.get("model")
    if message is not None:
        _read_message(message, bool(line.get("done")), answer)
    if line.get("done"):
        _finish(line, answer)


def _read_message(message: Mapping[str, Any], is_last: bool, answer: ResponseBuilder) -> None:
    if thinking := _content_text(message.get("thinking")):
        answer.thinking(thinking, provider=PROVIDER_NAME)
    content = _content_text(message.get("content"))
    if not (is_last and answer.is_repeated_by(content)):
        answer.text(content)
    calls = message.get("tool_calls") or []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BadReply("a tool call in the answer has no name")
        answer.check_called_tool(function["name"])
        key = object()
        answer.tool(key, id=str(call.get("id") or ""), name=function["name"])
        answer.arguments(key, dump_arguments(function.get("arguments") or {}))


def _content_text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_content_text(part) for part in content)
    if isinstance(content, dict) and isinstance(content.get("text"), str):
        return str(content["text"])
    return dump_arguments(content)


def _finish(line: Mapping[str, Any], answer: ResponseBuilder) -> None:
    answer.model_name = line.get("model") or answer.model_name
    answer.count({"input": read_count(line, "prompt_eval_count"), "output": read_count(line, "eval_count")})
    reason = line.get("done_reason")
    if not answer.has_content and reason in _NO_ANSWER:
        raise BadReply(_NO_ANSWER[reason])
    finish = read_finish_reason(reason or "stop", answer.has_tools) or "stop"
    if finish in ("stop", "tool_calls"):
        answer.check_required_tool()
    answer.finish_reason = finish
    answer.complete = True
