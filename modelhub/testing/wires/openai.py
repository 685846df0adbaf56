"""OpenAI's chat completions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

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
    format_event,
)

__all__ = ["OpenAIWire"]

_REFUSALS: dict[Kind, tuple[int, str, str | None, str]] = {
    "rate_limit": (429, "requests", "rate_limit_exceeded", "Rate limit reached for {model} on requests per min (RPM)."),
    "insufficient_quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "context_length": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5120 tokens.",
    ),
    "content_filter": (400, "invalid_request_error", "content_policy_violation", "The safety system said no."),
    "auth": (401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided."),
    "not_found": (404, "invalid_request_error", "model_not_found", "The model `{model}` does not exist."),
    "overloaded": (503, "server_error", "overloaded", "The engine is currently overloaded, please try again later."),
    "server_error": (500, "server_error", None, "The server had an error while processing your request."),
    "invalid_request": (400, "invalid_request_error", "invalid_value", "Invalid value in the request."),
    "no_prefill": (
        400,
        "invalid_request_error",
        "unsupported_value",
        "This model takes no assistant message at the end of the conversation.",
    ),
    "unsupported_parameter": (
        400,
        "invalid_request_error",
        "unsupported_parameter",
        "Unsupported parameter: '{parameter}' is not supported with this model.",
    ),
}
"""Status, type, code and words of every refusal."""


class OpenAIWire(VendorFormat):
    """OpenAI's chat completions, and of all who speak like it."""

    kind = "openai"
    entry: ClassVar[Mapping[str, str]] = {"provider": "openai", "api": "chat"}
    path: ClassVar[re.Pattern[str]] = re.compile(r"/chat/completions$")

    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002, ARG002
        """What the request wants."""
        messages = body.get("messages") or [{}]
        form = (body.get("response_format") or {}).get("json_schema") or {}
        return ParsedRequest(
            id=f"chatcmpl-{id}",
            model=str(body.get("model", "")),
            stream=bool(body.get("stream")),
            words=count_words([message.get("content") for message in messages]),
            last_role=messages[-1].get("role", "user"),
            tools=bool(body.get("tools")),
            schema=form.get("schema"),
            forced=forced_tool(body.get("tools"), body.get("tool_choice")),
            wants_usage=bool((body.get("stream_options") or {}).get("include_usage")),
        )

    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """A chat completion."""
        message: Json = {"role": "assistant", "content": answer.text or None}
        if answer.tool_calls:
            message["tool_calls"] = [_call(call) for call in answer.tool_calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(answer)}
        return {**_head(parsed, "chat.completion"), "choices": [choice], "usage": _usage(answer)}

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The role, the words, the calls, why it ends, the usage if asked for, `[DONE]`."""
        head = _head(parsed, "chat.completion.chunk")

        def chunk(delta: Json, finish: str | None = None) -> bytes:
            return format_event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        yield Frame("opening", chunk({"role": "assistant", "content": ""}))
        for word in answer.words:
            yield Frame("content", chunk({"content": word}))
        for index, call in enumerate(answer.tool_calls):
            yield Frame("content", chunk({"tool_calls": [{"index": index, **_call(call)}]}))
        yield Frame("mark", chunk({}, _finish(answer)))
        if parsed.wants_usage:
            yield Frame("after", format_event({**head, "choices": [], "usage": _usage(answer)}))
        yield Frame("done", b"data: [DONE]\n\n")

    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """An `error` object."""
        return format_refusal(refusal, parsed)


def format_refusal(refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
    """Return the status and the body of a refusal, which both of OpenAI's APIs write alike."""
    status, kind, code, words = _REFUSALS[refusal.kind]
    message = refusal.message or words.format(model=parsed.model, parameter=refusal.parameter)
    error = {"message": message, "type": kind, "param": refusal.parameter, "code": refusal.code or code}
    return refusal.status or status, {"error": error}


def forced_tool(tools: Any, choice: Any) -> tuple[str, Json] | None:
    """The tool in OpenAI's form that *choice* demands, and its schema."""
    name = (choice.get("function") or {}).get("name") if isinstance(choice, dict) else None
    functions = [tool.get("function") or {} for tool in tools or ()]
    if name is None and choice == "required" and functions:
        name = functions[0].get("name")
    schemas = {function.get("name"): function.get("parameters") or {} for function in reversed(functions)}
    return (str(name), schemas[name]) if name in schemas else None


def _head(parsed: ParsedRequest, kind: str) -> Json:
    return {"id": parsed.id, "object": kind, "created": 1_767_225_600, "model": parsed.model}


def _call(call: ToolCall) -> Json:
    arguments = json.dumps(dict(call.arguments), ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


def _finish(answer: CannedResponse) -> str:
    return "tool_calls" if answer.tool_calls else "stop"


def _usage(answer: CannedResponse) -> Json:
    tokens_in, tokens_out = answer.usage
    return {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
