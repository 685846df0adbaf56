"""What Anthropic's Messages API says: answers, events of a stream, and failures, from the wire's own JSON.

Tools that Anthropic runs itself (`server_tool_use` and the like), their results, citations and compaction are its own
affair: they are neither text nor calls for the client, and are passed over, as is whatever a later API may add.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from modelhub.core.errors import BadReply
from modelhub.core.response import FinishReason
from modelhub.providers.anthropic.errors import error_from_response
from modelhub.providers.anthropic.request import PROVIDER_NAME
from modelhub.providers.error_mapping import is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body, loads
from modelhub.providers.provider_errors import SHAPE_ERRORS, raise_shape_error
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
    message = json_body(body)
    try:
        _read_message(message, builder)
    except SHAPE_ERRORS as error:
        raise_shape_error(error, "the answer has another shape than the API's")


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
    if not answer.has_content:  # else the end of a stream says all of it again
        for index, block in enumerate(_blocks(message.get("content"))):
            _block(("whole", index), block, answer)
    _usage(message.get("usage"), answer)
    _finish(message.get("stop_reason"), answer)


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return content if isinstance(content, list) else [content] if content else []


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


def _bedrock_usage(raw: Any, answer: ResponseBuilder) -> None:
    answer.count(
        {
            "fresh_input": read_count(raw, "inputTokenCount"),
            "output": read_count(raw, "outputTokenCount"),
            "cache_read": read_count(raw, "cacheReadInputTokenCount"),
            "cache_write": read_count(raw, "cacheWriteInputTokenCount"),
        }
    )


# -- blocks ----------------------------------------------------------------------------------------------------------

_Key = tuple[str, int] | int


def _block(key: _Key, block: Json, answer: ResponseBuilder) -> None:
    if (read := _BLOCKS.get(block["type"])) is not None:
        read(key, block, answer)


def _piece(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise TypeError("expected text")


def _text(key: _Key, block: Json, answer: ResponseBuilder) -> None:
    answer.text(_piece(block.get("text")), key)


def _thinking(key: _Key, block: Json, answer: ResponseBuilder) -> None:
    if text := _piece(block.get("thinking")):
        answer.thinking(text, key, provider=PROVIDER_NAME)
    if signature := block.get("signature"):
        answer.thinking("", key, provider=PROVIDER_NAME, signature=signature)


def _redacted_thinking(key: _Key, block: Json, answer: ResponseBuilder) -> None:
    answer.thinking("", key, provider=PROVIDER_NAME, data=block["data"])


def _tool_use(key: _Key, block: Json, answer: ResponseBuilder) -> None:
    answer.tool(key, id=_piece(block.get("id")), name=_piece(block["name"]))
    answer.arguments(key, dump_arguments(block.get("input")))


_BLOCKS: dict[str, Callable[[_Key, Json, ResponseBuilder], None]] = {
    "text": _text,
    "thinking": _thinking,
    "redacted_thinking": _redacted_thinking,
    "tool_use": _tool_use,
}

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
    try:
        if (read := _find_reader(name, content)) is not None:
            read(content, builder)
    except SHAPE_ERRORS as error:
        raise_shape_error(error, "an event has another shape than the API's")


def _find_reader(name: str, event: Json) -> Callable[[Json, ResponseBuilder], None] | None:
    kind = event.get("type") or ("error" if "error" in event else name)
    read = _EVENTS.get(kind)
    if read is not None or not is_flat_error(event):
        return read
    return _raise_error if not kind or "error" in (name, event.get("object"), kind[-5:].lower()) else None


def _start(event: Json, answer: ResponseBuilder) -> None:
    _message(event.get("message") or {}, answer)


def _block_start(event: Json, answer: ResponseBuilder) -> None:
    block, index = event["content_block"], _open_block(event.get("index"), event["content_block"], answer)
    if block["type"] not in _BLOCKS:
        answer.state[f"passed over {index}"] = True
    if block["type"] == "tool_use":
        # The arguments here count if no pieces follow: usually there are none, but some servers give them whole.
        answer.state[f"input {index}"] = block.get("input") or {}
        block = {**block, "input": None}
    _block(index, block, answer)


def _open_block(index: Any, block: Json, answer: ResponseBuilder) -> Any:
    """Return the key of a block that begins: its index, unless the server gave that to an earlier block too."""
    opened: dict[Any, Any] = answer.state.setdefault("blocks", {})
    key = (index, len(opened), block.get("id")) if index in opened or index is None else index
    opened[key] = opened[index] = answer.state["last block"] = key
    return key


def _key_of(event: Json, answer: ResponseBuilder) -> Any:
    index = event.get("index")
    return answer.state.get("last block") if index is None else answer.state.get("blocks", {}).get(index, index)


def _block_stop(event: Json, answer: ResponseBuilder) -> None:
    _take_input(_key_of(event, answer), answer)


def _take_input(index: Any, answer: ResponseBuilder) -> None:
    if (arguments := answer.state.pop(f"input {index}", None)) is not None:
        answer.arguments(index, dump_arguments(arguments))


def _end_blocks(answer: ResponseBuilder) -> None:
    """End the blocks whose end the server has not said."""
    for index in list(answer.state.get("blocks", {}).values()):
        _take_input(index, answer)


def _block_delta(event: Json, answer: ResponseBuilder) -> None:
    delta = event["delta"]
    if (read := _DELTAS.get(delta["type"])) is not None:
        read(_key_of(event, answer), delta, answer)


def _arguments(index: int, delta: Json, answer: ResponseBuilder) -> None:
    piece = _piece(delta["partial_json"])
    if piece and f"passed over {index}" not in answer.state:
        answer.state.pop(f"input {index}", None)
        answer.arguments(index, piece)


_DELTAS: dict[str, Callable[[Any, Json, ResponseBuilder], None]] = {
    "text_delta": _text,
    "thinking_delta": _thinking,
    "signature_delta": _thinking,
    "input_json_delta": _arguments,
}


def _message_delta(event: Json, answer: ResponseBuilder) -> None:
    delta = event.get("delta") or {}
    _usage(event.get("usage") or delta.get("usage"), answer)
    _end_blocks(answer)
    _finish(delta.get("stop_reason"), answer)


def _stop(event: Json, answer: ResponseBuilder) -> None:
    _usage(event.get("usage"), answer)
    _bedrock_usage(event.get("amazon-bedrock-invocationMetrics"), answer)
    _end(answer)


def _end(answer: ResponseBuilder) -> None:
    """End the answer, whether or not the server has said why it ends."""
    _end_blocks(answer)
    if answer.has_content:
        answer.finish_reason = answer.finish_reason or ("tool_calls" if answer.has_tools else "stop")
    answer.complete = True


def _raise_error(event: object, answer: ResponseBuilder) -> NoReturn:
    # Of the headers only the id counts: what they say of waiting is not about this failure.
    headers = {"request-id": answer.request_id} if answer.request_id else {}
    raise error_from_response(None, headers, event) from None


_EVENTS: dict[str, Callable[[Json, ResponseBuilder], None]] = {
    "message_start": _start,
    "content_block_start": _block_start,
    "content_block_delta": _block_delta,
    "content_block_stop": _block_stop,
    "message_delta": _message_delta,
    "message_stop": _stop,
    "error": _raise_error,
    "message": _read_message,  # a server that does not stream gives the answer whole
}
