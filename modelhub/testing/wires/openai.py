"""OpenAI's chat completions and its Responses API."""

from __future__ import annotations

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
    make_event_frame,
)

__all__ = ["OpenAIResponsesWire", "OpenAIWire", "forced_tool", "get_finish_reason", "make_tool_call"]

_WRONG = "invalid_request_error"
_REFUSALS: dict[Kind, tuple[int, str, str | None, str]] = {
    "rate_limit": (429, "requests", "rate_limit_exceeded", "Rate limit reached for {model} on requests per min (RPM)."),
    "insufficient_quota": (429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota."),
    "context_length": (
        400,
        _WRONG,
        "context_length_exceeded",
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5120 tokens.",
    ),
    "content_filter": (400, _WRONG, "content_policy_violation", "The safety system said no."),
    "auth": (401, _WRONG, "invalid_api_key", "Incorrect API key provided."),
    "not_found": (404, _WRONG, "model_not_found", "The model `{model}` does not exist."),
    "overloaded": (503, "server_error", "overloaded", "The engine is currently overloaded, please try again later."),
    "server_error": (500, "server_error", None, "The server had an error while processing your request."),
    "invalid_request": (400, _WRONG, "invalid_value", "Invalid value in the request."),
    "no_prefill": (
        400,
        _WRONG,
        "unsupported_value",
        "This model takes no assistant message at the end of the conversation.",
    ),
    "unsupported_parameter": (
        400,
        _WRONG,
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
        """Read a request, whose JSON is *body*."""
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
            message["tool_calls"] = [make_tool_call(call) for call in answer.tool_calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": get_finish_reason(answer)}
        tokens_in, tokens_out = answer.usage
        usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
        head = {"id": parsed.id, "object": "chat.completion", "created": 1_767_225_600, "model": parsed.model}
        return {**head, "choices": [choice], "usage": usage}

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The role, the words, the calls, why it ends, the usage if asked for, `[DONE]`."""
        body = self.make_body(answer, parsed)
        head = {name: body[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}

        def chunk(delta: Json, finish: str | None = None) -> bytes:
            return format_event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

        yield Frame("opening", chunk({"role": "assistant", "content": ""}))
        for word in answer.words:
            yield Frame("content", chunk({"content": word}))
        for index, call in enumerate(answer.tool_calls):
            yield Frame("content", chunk({"tool_calls": [{"index": index, **make_tool_call(call)}]}))
        yield Frame("mark", chunk({}, get_finish_reason(answer)))
        if parsed.wants_usage:
            yield Frame("after", format_event({**head, "choices": [], "usage": body["usage"]}))
        yield Frame("done", b"data: [DONE]\n\n")

    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """An `error` object, which both of OpenAI's APIs write alike."""
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


def make_tool_call(call: ToolCall) -> Json:
    """Return *call* in OpenAI's form."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments_text}}


def get_finish_reason(answer: CannedResponse) -> str:
    """Return why *answer* ends, in OpenAI's word."""
    return "tool_calls" if answer.tool_calls else "stop"


class OpenAIResponsesWire(OpenAIWire):
    """OpenAI's Responses API, and of all who speak like it."""

    kind = "openai_responses"
    entry: ClassVar[Mapping[str, str]] = {"provider": "openai", "api": "responses"}
    path: ClassVar[re.Pattern[str]] = re.compile(r"/responses$")
    error_event = "error"
    garbage = b'event: response.output_text.delta\ndata: {"type": "response.output_text.delta", "delta": "te\n\n'

    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002, ARG002
        """Read a request, whose JSON is *body*."""
        input_items = body.get("input") or ""
        items: list[Json] = [{"role": "user", "content": input_items}] if isinstance(input_items, str) else input_items
        last_item = items[-1] if items else {"role": "user"}
        is_output = str(last_item.get("type", "")).endswith("_output")
        last_role = str(last_item.get("role") or ("user" if is_output else "assistant"))
        form = (body.get("text") or {}).get("format") or {}
        tools = [{"function": tool} for tool in body.get("tools") or () if tool.get("type") == "function"]
        choice = body.get("tool_choice")
        return ParsedRequest(
            id=f"resp_{id}",
            model=str(body.get("model", "")),
            stream=bool(body.get("stream")),
            words=count_words([item.get("content") or item.get("output") for item in items], body.get("instructions")),
            last_role=last_role,
            tools=bool(body.get("tools")),
            schema=form.get("schema"),
            forced=forced_tool(tools, {"function": choice} if isinstance(choice, dict) else choice),
        )

    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """Return a whole response of the API."""
        output: list[Json] = []
        if answer.text:
            content = [{"type": "output_text", "text": answer.text, "annotations": []}]
            common = {"status": "completed", "role": "assistant"}
            output.append({"id": f"msg_{parsed.id}", "type": "message", **common, "content": content})
        for call in answer.tool_calls:
            function = {"call_id": call.id, "name": call.name, "arguments": call.arguments_text}
            output.append({"id": f"fc_{call.id}", "type": "function_call", "status": "completed", **function})
        tokens_in, tokens_out = answer.usage
        usage = {
            "input_tokens": tokens_in,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens_out,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": tokens_in + tokens_out,
        }
        return {
            "id": parsed.id,
            "object": "response",
            "created_at": 1_767_225_600,
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "model": parsed.model,
            "output": output,
            "store": False,
            "usage": usage,
        }

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The response, its items with their pieces, the whole response."""
        body = self.make_body(answer, parsed)
        started = {**body, "status": "in_progress", "output": [], "usage": None}
        yield make_event_frame("opening", "response.created", response=started)
        yield make_event_frame("opening", "response.in_progress", response=started)
        for index, item in enumerate(body["output"]):
            is_text = item["type"] == "message"
            yield from _text_frames(index, item, answer) if is_text else _call_frames(index, item)
            yield make_event_frame("closing", "response.output_item.done", output_index=index, item=item)
        yield make_event_frame("mark", "response.completed", response=body)


def _text_frames(index: int, item: Json, answer: CannedResponse) -> Iterator[Frame]:
    """Yield the pieces of the message *item*, the *index*-th of the response, from its beginning to its last part."""
    part: Json = item["content"][0]
    place = {"output_index": index, "item_id": item["id"], "content_index": 0}
    begun = {**item, "status": "in_progress", "content": []}
    yield make_event_frame("opening", "response.output_item.added", output_index=index, item=begun)
    yield make_event_frame("opening", "response.content_part.added", **place, part={**part, "text": ""})
    for word in answer.words:
        yield make_event_frame("content", "response.output_text.delta", **place, delta=word, logprobs=[])
    yield make_event_frame("closing", "response.output_text.done", **place, text=answer.text, logprobs=[])
    yield make_event_frame("closing", "response.content_part.done", **place, part=part)


def _call_frames(index: int, item: Json) -> Iterator[Frame]:
    """Yield the pieces of the tool call *item*, the *index*-th of the response."""
    place = {"output_index": index, "item_id": item["id"]}
    begun = {**item, "status": "in_progress", "arguments": ""}
    yield make_event_frame("content", "response.output_item.added", output_index=index, item=begun)
    yield make_event_frame("content", "response.function_call_arguments.delta", **place, delta=item["arguments"])
    yield make_event_frame("closing", "response.function_call_arguments.done", **place, arguments=item["arguments"])
