"""Ollama's `/api/chat`."""

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
    Part,
    Refusal,
    VendorFormat,
    count_words,
)

__all__ = ["OllamaWire"]

_REFUSALS: dict[Kind, tuple[int, str]] = {
    "rate_limit": (429, "too many requests"),
    "insufficient_quota": (402, "your plan does not cover this request"),
    "context_length": (400, "the request exceeds the available context size, try increasing it"),
    "content_filter": (400, "the request was blocked"),
    "auth": (401, "unauthorized"),
    "not_found": (404, "model '{model}' not found"),
    "overloaded": (503, "server busy, please try again. maximum pending requests exceeded"),
    "server_error": (500, "llama runner process has terminated: exit status 2"),
    "invalid_request": (400, "invalid options"),
    "no_prefill": (400, "this model does not support a prefilled answer"),
    "unsupported_parameter": (400, '"{model}" does not support {parameter}'),
}
"""Status and words of every refusal; Ollama has no codes."""
_SPOKEN = {"think": "thinking"}
"""How it speaks of a field."""


class OllamaWire(VendorFormat):
    """Ollama's `/api/chat`."""

    kind = "ollama"
    entry: ClassVar[Mapping[str, str]] = {"provider": "ollama"}
    path: ClassVar[re.Pattern[str]] = re.compile(r"/api/chat$")
    stream_type = "application/x-ndjson"
    garbage = b'{"model": "broken", "message": {"role": "assis\n'

    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002, ARG002
        """What the request wants."""
        messages = body.get("messages") or [{}]
        form = body.get("format")
        return ParsedRequest(
            id=id,
            model=str(body.get("model", "")),
            stream=bool(body.get("stream", True)),
            words=count_words([message.get("content") for message in messages]),
            last_role=messages[-1].get("role", "user"),
            tools=bool(body.get("tools")),
            schema=form if isinstance(form, dict) else None,
        )

    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """One line that says all."""
        tokens_in, tokens_out = answer.usage
        message: Json = {"role": "assistant", "content": answer.text}
        if answer.tool_calls:
            message["tool_calls"] = [
                {"id": call.id, "function": {"name": call.name, "arguments": dict(call.arguments)}}
                for call in answer.tool_calls
            ]
        return {
            "model": parsed.model,
            "created_at": "2026-01-01T00:00:00.000000Z",
            "message": message,
            "done": True,
            "done_reason": "stop",
            "total_duration": 1_000_000,
            "load_duration": 1_000,
            "prompt_eval_count": tokens_in,
            "eval_count": tokens_out,
        }

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The words, the calls, and the line that says `done`."""
        body = self.make_body(answer, parsed)
        unfinished = {"model": body["model"], "created_at": body["created_at"], "done": False}

        def line(part: Part, fields: Json, **message: object) -> Frame:
            return Frame(part, _dump_line({**fields, "message": {"role": "assistant", "content": "", **message}}))

        for word in answer.words:
            yield line("content", unfinished, content=word)
        for call in body["message"].get("tool_calls", ()):
            yield line("content", unfinished, tool_calls=[call])
        yield line("mark", body)

    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """A text under `error`."""
        status, words = _REFUSALS[refusal.kind]
        parameter = _SPOKEN.get(refusal.parameter or "", refusal.parameter)
        message = refusal.message or words.format(model=parsed.model, parameter=parameter)
        return refusal.status or status, {"error": message}

    def make_refusal_event(self, refusal: Refusal, parsed: ParsedRequest) -> bytes:
        """The same as a line."""
        return _dump_line(self.make_refusal(refusal, parsed)[1])


def _dump_line(fields: Json) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"
