"""Anthropic's messages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

from modelhub.testing.wires.base import (
    CannedResponse,
    Frame,
    Json,
    Kind,
    ParsedRequest,
    Refusal,
    VendorFormat,
    count_words,
    make_event_frame,
)

__all__ = ["AnthropicWire"]

_WRONG = "invalid_request_error"
_REFUSALS: dict[Kind, tuple[int, str, str]] = {
    "rate_limit": (429, "rate_limit_error", "This request would exceed your organization's rate limit."),
    "insufficient_quota": (400, _WRONG, "Your credit balance is too low to access the Anthropic API."),
    "context_length": (400, _WRONG, "prompt is too long: 205120 tokens > 200000 maximum"),
    "content_filter": (400, _WRONG, "Output blocked by content filtering policy"),
    "auth": (401, "authentication_error", "invalid x-api-key"),
    "not_found": (404, "not_found_error", "model: {model}"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "server_error": (500, "api_error", "Internal server error"),
    "invalid_request": (400, _WRONG, "max_tokens: must be a positive number"),
    "no_prefill": (400, _WRONG, "This model does not support assistant message prefill."),
    "unsupported_parameter": (400, _WRONG, "`{parameter}` is deprecated for this model."),
}
"""Status, type and words of every refusal."""


class AnthropicWire(VendorFormat):
    """Anthropic's messages."""

    kind = "anthropic"
    entry: ClassVar[Mapping[str, str]] = {"provider": "anthropic"}
    path: ClassVar[re.Pattern[str]] = re.compile(r"/v1/messages$")
    error_event = "error"
    garbage = b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": {"te\n\n'

    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002, ARG002
        """What the request wants."""
        messages = body.get("messages") or [{}]
        form = (body.get("output_config") or {}).get("format") or {}
        offered = {tool.get("name"): tool.get("input_schema") or {} for tool in body.get("tools") or ()}
        choice = body.get("tool_choice") or {}
        forced = next(iter(offered), None) if choice.get("type") == "any" else choice.get("name")
        return ParsedRequest(
            id=f"msg_{id}",
            model=str(body.get("model", "")),
            stream=bool(body.get("stream")),
            words=count_words([message.get("content") for message in messages], body.get("system")),
            last_role=messages[-1].get("role", "user"),
            tools=bool(offered),
            schema=form.get("schema"),
            forced=(str(forced), offered[forced]) if forced in offered else None,
        )

    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """A message."""
        tokens_in, tokens_out = answer.usage
        content: list[Json] = [{"type": "text", "text": answer.text}] if answer.text else []
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": dict(call.arguments)}
            for call in answer.tool_calls
        ]
        return {
            "id": parsed.id,
            "type": "message",
            "role": "assistant",
            "model": parsed.model,
            "content": content,
            "stop_reason": "tool_use" if answer.tool_calls else "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": tokens_in, "output_tokens": tokens_out},
        }

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The message, its blocks with their pieces, why it ends, `message_stop`."""
        body = self.make_body(answer, parsed)
        usage = {**body["usage"], "output_tokens": 1}
        started = {**body, "content": [], "stop_reason": None, "usage": usage}
        yield make_event_frame("opening", "message_start", message=started)
        yield make_event_frame("opening", "ping")
        for index, block in enumerate(body["content"]):
            if block["type"] == "text":
                begun: Json = {"type": "text", "text": ""}
                yield make_event_frame("opening", "content_block_start", index=index, content_block=begun)
                for word in answer.words:
                    delta: Json = {"type": "text_delta", "text": word}
                    yield make_event_frame("content", "content_block_delta", index=index, delta=delta)
            else:
                begun = {**block, "input": {}}
                yield make_event_frame("content", "content_block_start", index=index, content_block=begun)
                delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"], ensure_ascii=False)}
                yield make_event_frame("closing", "content_block_delta", index=index, delta=delta)
            yield make_event_frame("closing", "content_block_stop", index=index)
        delta = {"stop_reason": body["stop_reason"], "stop_sequence": None}
        output_tokens = body["usage"]["output_tokens"]
        yield make_event_frame("closing", "message_delta", delta=delta, usage={"output_tokens": output_tokens})
        yield make_event_frame("mark", "message_stop")

    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """An object of type `error`."""
        status, kind, words = _REFUSALS[refusal.kind]
        message = refusal.message or words.format(model=parsed.model, parameter=refusal.parameter)
        error = {"type": refusal.code or kind, "message": message}
        return refusal.status or status, {"type": "error", "error": error, "request_id": f"req_{parsed.id}"}
