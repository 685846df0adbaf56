"""DashScope's own (native) API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from modelhub.testing.wires.base import (
    CannedResponse,
    Frame,
    Json,
    Kind,
    ParsedRequest,
    Refusal,
    ToolCall,
    VendorFormat,
    count_words,
)
from modelhub.testing.wires.openai import forced_tool, get_finish_reason, make_tool_call

__all__ = ["DashScopeWire"]

_REFUSALS: dict[Kind, tuple[int, str, str]] = {
    "rate_limit": (429, "Throttling.RateQuota", "Requests rate limit exceeded, please try again later."),
    "insufficient_quota": (400, "Arrearage", "Access denied, please make sure your account is in good standing."),
    "context_length": (400, "InvalidParameter", "Range of input length should be [1, 30720]"),
    "content_filter": (400, "DataInspectionFailed", "Input data may contain inappropriate content."),
    "auth": (401, "InvalidApiKey", "Invalid API-key provided."),
    "not_found": (404, "ModelNotFound", "The model `{model}` does not exist or you do not have access to it."),
    "overloaded": (503, "ModelServingError", "Too many requests. Your requests are being throttled."),
    "server_error": (500, "InternalError", "An internal error has occurred, please try again later."),
    "invalid_request": (400, "InvalidParameter", "Required parameter missing or invalid."),
    "no_prefill": (400, "InvalidParameter", "The last message must be the user's."),
    "unsupported_parameter": (400, "InvalidParameter", "The parameter `{parameter}` is not supported by this model."),
}
"""Status, code and words of every refusal."""


class DashScopeWire(VendorFormat):
    """DashScope's two endpoints, for text and for media."""

    kind = "dashscope"
    entry: ClassVar[Mapping[str, str]] = {"provider": "dashscope"}
    path: ClassVar[re.Pattern[str]] = re.compile(r"/services/aigc/(text|multimodal)-generation/generation$")
    stream_type = "text/event-stream;charset=UTF-8"
    garbage = b'id:0\nevent:result\n:HTTP_STATUS/200\ndata:{"output":{"choices":[{"mess\n\n'

    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002
        """What the request wants."""
        messages = (body.get("input") or {}).get("messages") or [{}]
        parameters = body.get("parameters") or {}
        return ParsedRequest(
            id=id,
            model=str(body.get("model", "")),
            stream=headers.get("x-dashscope-sse") == "enable",
            words=count_words([message.get("content") for message in messages]),
            last_role=messages[-1].get("role", "user"),
            tools=bool(parameters.get("tools")),
            forced=forced_tool(parameters.get("tools"), parameters.get("tool_choice")),
            multimodal="/multimodal-generation/" in path,
        )

    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """A whole answer."""
        return _body(answer, parsed, answer.text, answer.tool_calls, get_finish_reason(answer))

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The words, the calls, and the event that says why it ends."""
        for number, word in enumerate(answer.words, start=1):
            yield Frame("content", _event(number, _body(answer, parsed, word)))
        number = len(answer.words) + 1
        if answer.tool_calls:
            yield Frame("content", _event(number, _body(answer, parsed, "", answer.tool_calls)))
        yield Frame("mark", _event(number + 1, _body(answer, parsed, "", (), get_finish_reason(answer))))

    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """A flat object with `code` and `message`."""
        status, code, words = _REFUSALS[refusal.kind]
        message = refusal.message or words.format(model=parsed.model, parameter=refusal.parameter)
        body = {"code": refusal.code or code, "message": message, "request_id": parsed.id}
        return refusal.status or status, body

    def make_refusal_event(self, refusal: Refusal, parsed: ParsedRequest) -> bytes:
        """The event `error`, with the status beside it."""
        status, body = self.make_refusal(refusal, parsed)
        return _event(0, body, "error", status)


def _body(
    answer: CannedResponse, parsed: ParsedRequest, text: str, calls: Sequence[ToolCall] = (), finish: str = "null"
) -> Json:
    message: Json = {"role": "assistant", "content": [{"text": text}] if parsed.multimodal else text}
    if calls:
        message["tool_calls"] = [{"index": index, **make_tool_call(call)} for index, call in enumerate(calls)]
    tokens_in, tokens_out = answer.usage
    usage = {"input_tokens": tokens_in, "output_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    output = {"choices": [{"message": message, "finish_reason": finish}]}
    return {"output": output, "usage": usage, "request_id": parsed.id}


def _event(number: int, body: Json, name: str = "result", status: int = 200) -> bytes:
    data = json.dumps(body, ensure_ascii=False)
    return f"id:{number}\nevent:{name}\n:HTTP_STATUS/{status}\ndata:{data}\n\n".encode()
