"""Answers of DashScope: its events and bodies, and what its errors mean. Pure functions of values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.errors import BadReply
from modelhub.providers._answer import Answer
from modelhub.providers._arguments import dump_arguments
from modelhub.providers._counts import Counts, read_count
from modelhub.providers._errors import misfit
from modelhub.providers._finish import read_finish_reason
from modelhub.providers.dashscope.request import KIND
from modelhub.response import FinishReason

__all__ = ["choice_of", "is_last", "read_body", "read_done"]


def is_last(choice: Mapping[str, Any]) -> bool:
    """Whether the answer ends with *choice*; while it goes on, the vendor writes the text "null" for the reason."""
    return choice.get("finish_reason") not in (None, "", "null")


def read_body(body: Mapping[str, Any], choice: dict[str, Any], wanted: str | None, answer: Answer) -> None:
    """Read an event or a whole body: a piece of the message, the counts so far, perhaps the end.

    *choice* is the `choice_of` the body, *wanted* the tool that must be called by then: its name, "" for any, or None.
    """
    answer.id = body.get("request_id") or answer.id
    output = body.get("output")
    answer.model_name = body.get("model") or (output or {}).get("model") or answer.model_name
    message = choice.get("message", choice)  # the old form has `text` beside `finish_reason`
    if not isinstance(message, dict):
        raise BadReply("the answer's message is no JSON object")
    for place in (body, output, choice, message):
        if isinstance(place, dict) and place.get("usage"):
            answer.report_counts(place["usage"], _read_counts)
            break
    _read_message(message, choice, wanted, answer)
    if is_last(choice) and (finish := read_finish_reason(choice["finish_reason"], answer.has_tools)) is not None:
        _finish(finish, wanted, answer)


def _read_message(message: Mapping[str, Any], choice: Mapping[str, Any], wanted: str | None, answer: Answer) -> None:
    if thought := _text(message.get("reasoning_content")):
        answer.thinking(thought, provider=KIND)
    text = _text(message.get("content") or message.get("text"))
    if not (is_last(choice) and answer.is_repeated_by(text)):
        answer.text(text)
    if calls := message.get("tool_calls"):
        seen: set[Any] = set()
        for position, call in enumerate(calls if isinstance(calls, list) else [calls]):
            _read_call(call, position, wanted, seen, answer)


def read_done(wanted: str | None, answer: Answer) -> None:
    """Read the `[DONE]` that gateways put behind every stream: behind content it ends the answer."""
    if not answer.complete and answer.has_content:
        _finish("tool_calls" if answer.has_tools else "stop", wanted, answer)


def choice_of(body: Mapping[str, Any]) -> dict[str, Any]:
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
        return "".join(part if isinstance(part, str) else _text(part) for part in content)
    if isinstance(content, dict):
        return _text(content["text"]) if "text" in content else "" if "image" in content else dump_arguments(content)
    return ""


def _read_call(raw: Any, position: int, wanted: str | None, seen: set[Any], answer: Answer) -> None:
    """Add a piece of a call; *seen* are the places of the calls before it in the same message."""
    function = raw.get("function") if isinstance(raw, dict) else None
    if not isinstance(function, dict):
        raise BadReply("a tool call in the answer has no function")
    name, index = function.get("name"), raw.get("index", position)
    if wanted and name and name != wanted:
        raise misfit(f"the model called `{name}`, not `{wanted}`")
    if index in seen:
        index = (index, position)
    seen.add(index)
    # Only the first piece of a call has its id and its name; the others go by their place.
    keys: dict[Any, int] = answer.notes.setdefault("calls", {})
    ids: dict[Any, str] = answer.notes.setdefault("ids", {})
    call_id = str(raw.get("id") or "")
    if index not in keys or (call_id and ids[index] and call_id != ids[index]):
        keys[index] = answer.notes["count"] = answer.notes.get("count", 0) + 1
        ids[index] = call_id
    ids[index] = ids[index] or call_id
    answer.tool(keys[index], id=call_id, name=name)
    answer.arguments(keys[index], dump_arguments(function.get("arguments") or ""))


def _read_counts(raw: Any) -> Counts:
    inner = raw.get("prompt_tokens_details") or raw.get("input_tokens_details") if isinstance(raw, dict) else None
    outer = raw.get("output_tokens_details") or raw.get("completion_tokens_details") if isinstance(raw, dict) else None
    return {
        "input": read_count(raw, "input_tokens", "prompt_tokens"),
        "output": read_count(raw, "output_tokens", "completion_tokens"),
        "cache_read": read_count(inner, "cached_tokens"),
        "cache_write": read_count(inner, "cache_creation_input_tokens"),
        "reasoning": read_count(outer, "reasoning_tokens"),
    }


def _finish(finish: FinishReason, wanted: str | None, answer: Answer) -> None:
    if finish in ("stop", "tool_calls") and wanted is not None and not answer.has_tools:
        raise misfit(f"the model answered without calling {f'`{wanted}`' if wanted else 'a tool'}")
    answer.finish_reason = finish
    answer.complete = True
