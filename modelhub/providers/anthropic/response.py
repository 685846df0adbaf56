"""What Anthropic's Messages API says: answers, events of a stream, and failures, from the wire's own JSON.

Tools that Anthropic runs itself (`server_tool_use` and the like), their results, citations and compaction are its own
affair: they are neither text nor calls for the client, and are passed over, as is whatever a later API may add.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from modelhub.core.errors import BadReply
from modelhub.core.response import FinishReason
from modelhub.providers.anthropic.errors import error_from_response
from modelhub.providers.anthropic.request import PROVIDER_NAME
from modelhub.providers.error_mapping import is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body, loads
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.token_counts import read_count
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["DONE", "read_body", "read_event"]

DONE = b"[DONE]"
"""What gateways that speak OpenAI's dialect too put behind a stream."""

Json = Mapping[str, Any]

# -- answers ---------------------------------------------------------------------------------------------------------

_FINISH: dict[str, FinishReason] = {
    "pause_turn": "length",  # Anthropic stopped its own tools half way: the answer is not whole
    "compaction": "length",
}
"""Its own reasons, beside those that all servers have."""


def read_body(body: bytes, builder: ResponseBuilder) -> None:
    """Read a whole answer. Raises BadReply, or the failure the body speaks of."""
    _read_message(json_body(body), builder)


def _read_message(body: Json, answer: ResponseBuilder) -> None:
    if body.get("type") == "error" or (not body.get("content") and (body.get("error") or is_flat_error(body))):
        _raise_error(body, answer)
    if not isinstance(body.get("content"), (list, str, dict) if body.get("stop_reason") else list):
        raise BadReply("the answer has no content")
    _message(body, answer)
    if not answer.has_content and answer.finish_reason is None:
        raise BadReply("the answer is empty")
    answer.complete = True


def _message(message: Json, answer: ResponseBuilder) -> None:
    answer.id = message.get("id") or answer.id
    answer.model_name = message.get("model") or answer.model_name
    content = message.get("content")
    if content and not answer.has_content:  # else the end of a stream says all of it again
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
        for index, block in enumerate(blocks if isinstance(blocks, list) else [blocks]):
            _read_block(("whole", index), block, answer)
    _usage(message.get("usage"), answer)
    _finish(message.get("stop_reason"), answer)


def _finish(reason: Any, answer: ResponseBuilder) -> None:
    finish = read_finish_reason(reason, answer.has_tools, _FINISH)
    answer.finish_reason = finish or answer.finish_reason


def _usage(raw: Any, answer: ResponseBuilder) -> None:
    """Take counts that exclude each other; some servers that speak this API have OpenAI's names instead."""
    if isinstance(raw, Mapping):
        answer.count(
            {
                "fresh_input": read_count(raw, "input_tokens"),
                "input": read_count(raw, "prompt_tokens"),
                "output": read_count(raw, "output_tokens", "completion_tokens"),
                "cache_read": read_count(raw, "cache_read_input_tokens"),
                "cache_write": read_count(raw, "cache_creation_input_tokens"),
                # By how long they are kept; a stream tells it at the start only.
                "cache_write_1h": read_count(raw.get("cache_creation"), "ephemeral_1h_input_tokens"),
                "reasoning": read_count(raw.get("output_tokens_details"), "thinking_tokens"),
            }
        )


# -- blocks ----------------------------------------------------------------------------------------------------------

_BLOCKS = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})
"""The types that are read; others are passed over."""


def _read_block(key: Any, block: Json, answer: ResponseBuilder) -> None:
    match block["type"]:
        case "text":
            answer.text(_piece(block.get("text")), key)
        case "thinking":
            _read_thinking(key, block, answer)
        case "redacted_thinking":
            answer.thinking("", key, provider=PROVIDER_NAME, data=block["data"])
        case "tool_use":
            answer.tool(key, id=_piece(block.get("id")), name=_piece(block["name"]))
            answer.arguments(key, dump_arguments(block.get("input")))


def _read_thinking(key: Any, block: Json, answer: ResponseBuilder) -> None:
    if text := _piece(block.get("thinking")):
        answer.thinking(text, key, provider=PROVIDER_NAME)
    if signature := block.get("signature"):
        answer.thinking("", key, provider=PROVIDER_NAME, signature=signature)


def _piece(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError("expected text")


# -- streams ---------------------------------------------------------------------------------------------------------


def read_event(event: ServerSentEvent, builder: ResponseBuilder) -> None:
    """Read one event, called by the `type` in its data: its own name is not always sent.

    Raises BadReply, or the failure the event speaks of.
    """
    name, data = event
    if name == "ping":
        return
    if data == DONE:  # gateways put it behind every stream: behind content it ends the answer
        if builder.has_content:
            _end(builder)
        return
    try:
        content = loads(data)
    except BadReply:
        if name == "error":
            _raise_error(data, builder)
        raise
    if not isinstance(content, dict):
        raise BadReply(f"an event of the stream is no JSON object but {type(content).__name__}")
    _read_known(name, content, builder)


def _read_known(name: str, event: Json, answer: ResponseBuilder) -> None:
    """Read an *event* of a kind that is known; others are passed over, unless they speak of an error."""
    match kind := event.get("type") or ("error" if "error" in event else name):
        case "content_block_delta":
            _block_delta(event, answer)
        case "content_block_start":
            _block_start(event, answer)
        case "content_block_stop":
            _take_input(_key_of(event, answer), answer)
        case "message_start":
            _message(event.get("message") or {}, answer)
        case "message_delta":
            delta = event.get("delta") or {}
            _usage(event.get("usage") or delta.get("usage"), answer)
            _finish(delta.get("stop_reason"), answer)
        case "message_stop":
            _stop(event, answer)
        case "message":  # a server that does not stream gives the answer whole
            _read_message(event, answer)
        case "error":
            _raise_error(event, answer)
        case _ if is_flat_error(event) and (not kind or "error" in (name, event.get("object"), kind[-5:].lower())):
            _raise_error(event, answer)


def _block_start(event: Json, answer: ResponseBuilder) -> None:
    block, index = event["content_block"], event.get("index")
    opened: dict[Any, Any] = answer.state.setdefault("blocks", {})
    # A block's key is its index, unless the server gave that to an earlier block too.
    key = (index, len(opened), block.get("id")) if index in opened or index is None else index
    opened[key] = opened[index] = answer.state["last block"] = key
    if block["type"] not in _BLOCKS:
        answer.state[f"passed over {key}"] = True
    if block["type"] == "tool_use":
        # The arguments here count if no pieces follow: usually there are none, but some servers give them whole.
        answer.state[f"input {key}"] = block.get("input") or {}
        block = {**block, "input": None}
    _read_block(key, block, answer)


def _key_of(event: Json, answer: ResponseBuilder) -> Any:
    index = event.get("index")
    return answer.state.get("last block") if index is None else answer.state.get("blocks", {}).get(index, index)


def _take_input(key: Any, answer: ResponseBuilder) -> None:
    if (arguments := answer.state.pop(f"input {key}", None)) is not None:
        answer.arguments(key, dump_arguments(arguments))


def _block_delta(event: Json, answer: ResponseBuilder) -> None:
    delta, key = event["delta"], _key_of(event, answer)
    match delta["type"]:
        case "text_delta":
            answer.text(_piece(delta.get("text")), key)
        case "thinking_delta" | "signature_delta":
            _read_thinking(key, delta, answer)
        case "input_json_delta":
            piece = _piece(delta["partial_json"])
            if piece and f"passed over {key}" not in answer.state:
                answer.state.pop(f"input {key}", None)
                answer.arguments(key, piece)


def _stop(event: Json, answer: ResponseBuilder) -> None:
    _usage(event.get("usage"), answer)
    bedrock = event.get("amazon-bedrock-invocationMetrics")
    answer.count(
        {
            "fresh_input": read_count(bedrock, "inputTokenCount"),
            "output": read_count(bedrock, "outputTokenCount"),
            "cache_read": read_count(bedrock, "cacheReadInputTokenCount"),
            "cache_write": read_count(bedrock, "cacheWriteInputTokenCount"),
        }
    )
    _end(answer)


def _end(answer: ResponseBuilder) -> None:
    """End the answer, whether or not the server has said why it ends."""
    for key in list(answer.state.get("blocks", {}).values()):  # those whose end the server has not said
        _take_input(key, answer)
    if answer.has_content:
        answer.finish_reason = answer.finish_reason or ("tool_calls" if answer.has_tools else "stop")
    answer.complete = True


def _raise_error(event: object, answer: ResponseBuilder) -> NoReturn:
    # Of the headers only the id counts: what they say of waiting is not about this failure.
    headers = {"request-id": answer.request_id} if answer.request_id else {}
    raise error_from_response(None, headers, event) from None
