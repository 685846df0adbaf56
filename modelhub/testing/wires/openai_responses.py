"""OpenAI's Responses API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from modelhub.testing.wires.base import (
    CannedResponse,
    Frame,
    Json,
    ParsedRequest,
    Part,
    Refusal,
    ToolCall,
    VendorFormat,
    count_words,
    format_event,
)
from modelhub.testing.wires.openai import forced_tool, format_refusal

__all__ = ["OpenAIResponsesWire"]


class OpenAIResponsesWire(VendorFormat):
    """OpenAI's Responses API, and of all who speak like it."""

    kind = "openai_responses"
    entry: ClassVar[Mapping[str, str]] = {"provider": "openai", "api": "responses"}
    path: ClassVar[re.Pattern[str]] = re.compile(r"/responses$")
    garbage = b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "te\n\n'

    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002, ARG002
        """What the request wants."""
        input_items = body.get("input") or ""
        items: list[Json] = [{"role": "user", "content": input_items}] if isinstance(input_items, str) else input_items
        form = (body.get("text") or {}).get("format") or {}
        return ParsedRequest(
            id=f"resp_{id}",
            model=str(body.get("model", "")),
            stream=bool(body.get("stream")),
            words=count_words([item.get("content") or item.get("output") for item in items], body.get("instructions")),
            last_role=_role(items[-1]) if items else "user",
            tools=bool(body.get("tools")),
            schema=form.get("schema"),
            forced=_find_forced(body.get("tools"), body.get("tool_choice")),
        )

    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """A response."""
        return _response(parsed, "completed", list(_items(answer, parsed)), _usage(answer))

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The response, its items with their pieces, the whole response."""
        started = _response(parsed, "in_progress", [], None)
        yield _frame("opening", "response.created", response=started)
        yield _frame("opening", "response.in_progress", response=started)
        for index, item in enumerate(_items(answer, parsed)):
            place = {"output_index": index, "item_id": item["id"]}
            yield from _message(item, answer, place) if item["type"] == "message" else _call(item, place)
            yield _frame("closing", "response.output_item.done", output_index=index, item=item)
        yield _frame("mark", "response.completed", response=self.make_body(answer, parsed))

    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """An `error` object."""
        return format_refusal(refusal, parsed)

    def make_refusal_event(self, refusal: Refusal, parsed: ParsedRequest) -> bytes:
        """The event `error`."""
        return format_event({"type": "error", **self.make_refusal(refusal, parsed)[1]}, "error")


def _role(item: Json) -> str:
    if "role" in item:
        return str(item["role"])
    return "user" if str(item.get("type", "")).endswith("_output") else "assistant"


def _find_forced(tools: Any, choice: Any) -> tuple[str, Json] | None:
    nested = [{"function": tool} for tool in tools or () if tool.get("type") == "function"]
    return forced_tool(nested, {"function": choice} if isinstance(choice, dict) else choice)


def _response(parsed: ParsedRequest, status: str, output: list[Json], usage: Json | None) -> Json:
    return {
        "id": parsed.id,
        "object": "response",
        "created_at": 1_767_225_600,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": parsed.model,
        "output": output,
        "store": False,
        "usage": usage,
    }


def _items(answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Json]:
    if answer.text:
        content = [{"type": "output_text", "text": answer.text, "annotations": []}]
        common = {"status": "completed", "role": "assistant"}
        yield {"id": f"msg_{parsed.id}", "type": "message", **common, "content": content}
    for call in answer.tool_calls:
        yield {"id": f"fc_{call.id}", "type": "function_call", "status": "completed", **_arguments(call)}


def _arguments(call: ToolCall) -> Json:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"call_id": call.id, "name": call.name, "arguments": arguments}


def _message(item: Json, answer: CannedResponse, place: Json) -> Iterator[Frame]:
    part: Json = item["content"][0]
    at = {**place, "content_index": 0}
    begun = {**item, "status": "in_progress", "content": []}
    yield _frame("opening", "response.output_item.added", output_index=place["output_index"], item=begun)
    yield _frame("opening", "response.content_part.added", **at, part={**part, "text": ""})
    for word in answer.words:
        yield _frame("content", "response.output_text.delta", **at, delta=word, logprobs=[])
    yield _frame("closing", "response.output_text.done", **at, text=answer.text, logprobs=[])
    yield _frame("closing", "response.content_part.done", **at, part=part)


def _call(item: Json, place: Json) -> Iterator[Frame]:
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield _frame("content", "response.output_item.added", output_index=place["output_index"], item=begun)
    yield _frame("content", "response.function_call_arguments.delta", **place, delta=item["arguments"])
    yield _frame("closing", "response.function_call_arguments.done", **place, arguments=item["arguments"])


def _frame(stage: Part, kind: str, /, **fields: Any) -> Frame:
    return Frame(stage, format_event({"type": kind, **fields}, kind))


def _usage(answer: CannedResponse) -> Json:
    tokens_in, tokens_out = answer.usage
    return {
        "input_tokens": tokens_in,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": tokens_out,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens_in + tokens_out,
    }
