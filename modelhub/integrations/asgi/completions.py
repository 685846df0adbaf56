"""Replies as OpenAI's API sends them: a chat completion, or the chunks of one."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from modelhub.core.response import Block, ChatResponse, ChatUsage
from modelhub.integrations.asgi.errors import HttpError
from modelhub.integrations.asgi.requests import CompletionRequest
from modelhub.integrations.replies import Delta, DeltaReader

__all__ = ["ChunkWriter", "make_completion"]

Json = dict[str, Any]

_FINISH_REASONS: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "content_filter",
    "error": "stop",
}


def make_completion(reply: ChatResponse, request: CompletionRequest) -> Json:
    """Return *reply* as the body of a response to *request*."""
    message: Json = {"role": "assistant", "content": _get_content(reply, request), "refusal": None}
    if reply.thinking:
        message["reasoning_content"] = reply.thinking
    if not request.is_structured and reply.tool_calls:
        message["tool_calls"] = [
            {
                "id": block["id"],
                "type": "function",
                "function": {"name": block["name"], "arguments": _get_arguments(block)},
            }
            for block in reply.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _get_finish_reason(reply, request)}
    return {**_make_head(reply, "chat.completion"), "choices": [choice], "usage": _make_usage(reply.usage)}


def _get_content(reply: ChatResponse, request: CompletionRequest) -> str | None:
    """Return the text; None if there is none. Of a structured answer it is the JSON that fits the schema."""
    if not request.is_structured:
        return reply.text or None
    if reply.metadata is not None:
        return json.dumps(reply.metadata, ensure_ascii=False)
    # It was cut off or blocked, as its finish reason says; where a tool was forced, its arguments are the answer.
    return reply.text or "".join(block["raw_input"] for block in reply.tool_calls) or None


def _get_finish_reason(reply: ChatResponse, request: CompletionRequest) -> str:
    reason = _FINISH_REASONS[reply.finish_reason or "stop"]
    return "stop" if request.is_structured and reason == "tool_calls" else reason


def _get_arguments(block: Block) -> str:
    """Return the arguments as JSON text: as the model wrote them, if that is JSON or was cut off."""
    raw: str = block.get("raw_input") or ""
    if "error" in block:
        return raw
    try:
        is_object = isinstance(json.loads(raw), dict)
    except ValueError:
        is_object = False
    return raw if is_object else json.dumps(block["input"], ensure_ascii=False)


def _make_head(reply: ChatResponse, kind: str) -> Json:
    reply_id = reply.id if reply.id.startswith("chatcmpl") else f"chatcmpl-{reply.id}"
    return {"id": reply_id, "object": kind, "created": int(time.time()), "model": reply.model_name}


def _make_usage(usage: ChatUsage | None) -> Json | None:
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


class ChunkWriter:
    """Makes the chunks of one streamed answer to *request* from its snapshots.

    A chunk has what a snapshot adds to the one before. If another model begins the answer again, it does what
    `request.restarts` says; with `buffer`, all chunks are made of the last snapshot.
    """

    def __init__(self, request: CompletionRequest) -> None:
        self._request = request
        self._head: Json = {}
        self._reader = DeltaReader()

    def write(self, snapshot: ChatResponse) -> Iterator[Json]:
        """Yield the chunks that *snapshot* adds. Raises HttpError if what was sent would be void."""
        is_whole = self._request.restarts == "buffer"
        if is_whole and not snapshot["is_last"]:
            return
        if not self._head:
            self._head = _make_head(snapshot, "chat.completion.chunk")
            yield self._make_chunk({"role": "assistant", "content": ""})
        if is_whole:
            yield from self._write_whole(snapshot)
        else:
            if self._reader.detect_restart(snapshot):
                yield self._begin_again(snapshot)
            yield from self._write(self._reader.read(snapshot))
        if snapshot["is_last"]:
            yield self._make_chunk({}, finish_reason=_get_finish_reason(snapshot, self._request))
            if self._request.includes_usage:
                yield {**self._head, "choices": [], "usage": _make_usage(snapshot.usage)}

    def _begin_again(self, snapshot: ChatResponse) -> Json:
        """Return the chunk that announces that the text so far is void. Raises HttpError unless that was asked for."""
        if self._request.restarts != "announce":
            raise HttpError(
                502,
                "the stream broke, and another model would begin the answer again; ask again, or choose what is to "
                'happen then with `stream_options: {"restarts": "buffer"}` or "announce"',
                "server_error",
                "stream_restarted",
            )
        self._reader = DeltaReader(snapshot.restarts)
        self._head["model"] = snapshot.model_name
        return {**self._make_chunk({}), "modelhub": {"restart": snapshot.restarts}}

    def _write_whole(self, reply: ChatResponse) -> Iterator[Json]:
        """Yield the content of the complete *reply*; a structured one has no text and no calls beside its JSON."""
        deltas = self._reader.read_whole(reply)
        if not self._request.is_structured:
            yield from self._write(deltas)
            return
        yield from self._write(delta for delta in deltas if delta.kind == "thinking")
        if content := _get_content(reply, self._request):
            yield self._make_chunk({"content": content})

    def _write(self, deltas: Iterable[Delta]) -> Iterator[Json]:
        for delta in deltas:
            if delta.kind == "text":
                yield self._make_chunk({"content": delta.text})
            elif delta.kind == "thinking":
                yield self._make_chunk({"reasoning_content": delta.text})
            else:
                call: Json = {"index": delta.number, "function": {"arguments": delta.text}}
                if delta.call is not None:
                    call |= {"id": delta.call["id"], "type": "function"}
                    call["function"]["name"] = delta.call["name"]
                yield self._make_chunk({"tool_calls": [call]})

    def _make_chunk(self, delta: Json, finish_reason: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = {**self._head, "choices": [choice]}
        return {**chunk, "usage": None} if self._request.includes_usage else chunk
