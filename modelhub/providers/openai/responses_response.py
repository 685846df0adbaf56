"""OpenAI's Responses API as the wire has it: whole answers and the events of streams, in our own terms.

An output item is read as far as it goes: what its events brought is not read again when the whole item comes, nor when
the whole response comes at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import BadReply, CallError, ServerError
from modelhub.providers.error_mapping import get_dicts, is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body, loads
from modelhub.providers.openai.errors import error_in_answer
from modelhub.providers.openai.response import PROVIDER, read_identity, set_finish_reason
from modelhub.providers.openai.tool_calls import as_text
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.token_counts import read_counts
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["LAST_EVENTS", "read_body", "read_event"]

Json = Mapping[str, Any]

LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events that nothing follows but the end of the body."""
_CUSTOM_START = '{"input": "'
_CUSTOM_END = '"}'

# -- whole answers -----------------------------------------------------------------------------------------------------


def read_body(data: bytes, answer: ResponseBuilder, host: str) -> None:
    """Read a whole response of the server *host*. Raises BadReply, or the failure that it tells of."""
    _read_response(json_body(data), answer, host)


def _read_response(response: Json, answer: ResponseBuilder, host: str) -> None:
    status = response.get("status")
    if status == "failed" or response.get("error"):
        raise _failure(response, answer)
    if "output" not in response and is_flat_error(response):
        raise error_in_answer(response)
    if status in ("queued", "in_progress"):
        raise BadReply(f"the answer is not there yet: its status is {status} (background responses are not waited for)")
    output = response.get("output")
    if not isinstance(output, list):
        raise BadReply("the answer has no output")
    read_identity(response, answer)
    for index, item in enumerate(output):
        if isinstance(item, dict):
            _find_item(answer, host, index, item.get("id"), is_final=True).finish(item)
    answer.report_counts(response.get("usage"), read_counts)
    _end(response, answer)


def _failure(response: Json, answer: ResponseBuilder) -> CallError:
    answer.report_counts(response.get("usage"), read_counts)  # what failed may have cost something
    return error_in_answer({"error": response.get("error")})  # its own fields are about the response


def _end(response: Json, answer: ResponseBuilder) -> None:
    """End the answer, for the reason that *response* gives. Raises ServerError if it was broken off."""
    status = response.get("status")
    reason = "stop"
    if status == "incomplete":
        details = response.get("incomplete_details")
        reason = (details.get("reason") if isinstance(details, dict) else None) or "length"
    elif status == "cancelled":
        raise ServerError("the answer was broken off: its status is `cancelled`", code="cancelled")
    set_finish_reason(read_finish_reason(reason, answer.has_tools, default="length") or "stop", answer)


# -- events ------------------------------------------------------------------------------------------------------------


def read_event(sent: ServerSentEvent, answer: ResponseBuilder, host: str) -> None:
    """Read *sent*, one event of a stream. Raises BadReply, or the failure that the event tells of."""
    if sent.data.strip() == b"[DONE]":  # what some servers put behind every stream says nothing here
        return
    event = loads(sent.data)
    if type(event) is not dict:
        raise BadReply(f"an event of the stream is no JSON object but {type(event).__name__}")
    kind = event.get("type") or sent.name
    if kind in _DELTAS:
        _read_delta(kind, event, answer, host)
    elif kind.startswith("response."):
        _read_progress(kind, event, answer, host)
    elif kind == "error":
        # The older form has the error's fields in the event itself, whose type is not the error's.
        raise error_in_answer(event if event.get("error") else {"error": {**event, "type": None}})
    elif event.get("error") or is_flat_error(event):
        raise error_in_answer(event)
    elif event.get("object") == "response":  # a server that does not stream gives the answer whole
        _read_response(event, answer, host)


_REFUSAL = "response.refusal.delta"
_SUMMARY = "response.reasoning_summary_text.delta"
_REASONING = "response.reasoning_text.delta"
_ARGUMENTS = ("response.function_call_arguments.delta", "response.custom_tool_call_input.delta")
_DELTAS = frozenset({"response.output_text.delta", _REFUSAL, _SUMMARY, _REASONING, *_ARGUMENTS})


def _read_delta(kind: str, event: Json, answer: ResponseBuilder, host: str) -> None:
    """Read a piece of an item."""
    piece = event["delta"]
    item = _find_item(answer, host, event.get("output_index"), event.get("item_id"))
    if kind in _ARGUMENTS:
        item.add_arguments(piece)
    elif kind == _SUMMARY:
        item.add_thinking(piece, ("summary", event.get("summary_index")))
    elif kind == _REASONING:
        item.add_thinking(piece, ("content", event.get("content_index")))
    else:
        if kind == _REFUSAL:
            answer.state["refused"] = True
        if piece:
            item.add_text(piece)


def _read_progress(kind: str, event: Json, answer: ResponseBuilder, host: str) -> None:
    """Read how far the response has come; events that are not read here say what others say too."""
    match kind:
        case "response.output_item.added" | "response.output_item.done":
            item = event["item"]
            reader = _find_item(answer, host, event.get("output_index"), item.get("id"))
            if kind == "response.output_item.added":
                reader.begin(item)
            else:
                reader.finish(item)
        case "response.created" | "response.in_progress":
            read_identity(event["response"], answer)
        case "response.completed" | "response.incomplete":
            response = event["response"]
            if not isinstance(response.get("output"), list):
                response = {**response, "output": []}
            _read_response(response, answer, host)
        case "response.failed" | "response.cancelled":
            raise _failure(event["response"], answer)


# -- output items ------------------------------------------------------------------------------------------------------


class _ItemReader:
    """One output item of an answer, and how much of it has been read.

    *key* tells it from the other items; *host* is the server that wrote it.
    """

    __slots__ = ("_answer", "_fields", "_host", "_is_custom", "_is_open", "_last_part", "_length", "is_done", "key")

    def __init__(self, answer: ResponseBuilder, key: Any, host: str) -> None:
        self.key = key
        self.is_done = False
        self._answer = answer
        self._host = host
        self._length = 0
        self._last_part: Any = None
        self._fields: dict[str, Any] = {}
        self._is_open = self._is_custom = False

    def add_text(self, piece: str) -> None:
        """Add *piece* to the text of a message."""
        self._length += len(piece)
        if self._length:
            self._answer.text(piece, self.key, **self._fields)

    def add_thinking(self, piece: str, part: Any) -> None:
        """Add *piece* to the *part* of a reasoning; a blank line stands between two parts."""
        if self._last_part is not None and part != self._last_part:
            piece = "\n\n" + piece
        self._last_part = part
        self._length += len(piece)
        self._answer.thinking(piece, self.key, provider=PROVIDER)

    def add_arguments(self, piece: str) -> None:
        """Add *piece* to the arguments of a call, or to the input of a custom tool, which becomes its one argument."""
        if not piece:
            return
        self._open_call({})
        start = ""
        if self._is_custom:
            piece = json.dumps(piece, ensure_ascii=False)[1:-1]
            start = "" if self._length else _CUSTOM_START
        self._length += len(piece)
        self._answer.arguments(self.key, start + piece)

    def begin(self, item: Json) -> None:
        """Read an *item* that has begun: what is known of it before its content comes."""
        kind = item.get("type")
        if kind == "message":
            if isinstance(phase := item.get("phase"), str):
                self._fields = {"phase": phase}
        elif kind in ("function_call", "custom_tool_call"):
            self._open_call(item)
        elif kind != "reasoning":
            self._answer.provider_item(self.key, provider=PROVIDER, host=self._host, item=dict(item))

    def finish(self, item: Json) -> None:
        """Read a whole *item*: what of it has not come in pieces."""
        if self.is_done:
            return
        self.begin(item)
        match item.get("type"):
            case "message":
                self._finish_message(item)
            case "reasoning":
                self._finish_reasoning(item)
            case "function_call" | "custom_tool_call":
                self._finish_call(item)
        self.is_done = True

    def _finish_message(self, item: Json) -> None:
        text = ""
        for part in get_dicts(item.get("content")):
            if refusal := part.get("refusal"):
                self._answer.state["refused"] = True
                text += str(refusal)
            elif isinstance(piece := part.get("text"), str):
                text += piece
        self.add_text(text[self._length :])

    def _finish_reasoning(self, item: Json) -> None:
        parts = [*get_dicts(item.get("summary")), *get_dicts(item.get("content"))]
        text = "\n\n".join(text for part in parts if isinstance(text := part.get("text"), str))
        encrypted = item.get("encrypted_content")
        if not text and not self._length and not encrypted:
            return  # nothing that anybody could read, or that could be sent back
        kept = {key: value for key, value in item.items() if key != "encrypted_content"}
        signature = {"signature": encrypted} if encrypted else {}
        unread = text[self._length :]
        self._answer.thinking(unread, self.key, provider=PROVIDER, host=self._host, item=kept, **signature)

    def _finish_call(self, item: Json) -> None:
        if self._is_custom:
            text = item.get("input")
            written = json.dumps(text if isinstance(text, str) else "", ensure_ascii=False)[1:-1]
            start = "" if self._length else _CUSTOM_START
            self._answer.arguments(self.key, start + written[self._length :] + _CUSTOM_END)
        else:
            self.add_arguments(dump_arguments(item.get("arguments") or "")[self._length :])

    def _open_call(self, item: Json) -> None:
        if self._is_open and not item:
            return
        self._is_open = True
        if item.get("type") == "custom_tool_call":
            self._is_custom = True
        kept = {key: item[key] for key in ("namespace", "caller") if item.get(key) is not None}
        if self._is_custom:
            kept["type"] = "custom_tool_call"
        fields = {"provider": PROVIDER, "item": kept} if kept else {}
        self._answer.tool(self.key, id=as_text(item.get("call_id")), name=as_text(item.get("name")), **fields)
        if self._answer.finish_reason == "stop":
            self._answer.finish_reason = "tool_calls"


def _find_item(answer: ResponseBuilder, host: str, index: Any, item_id: Any, *, is_final: bool = False) -> _ItemReader:
    """Return the reader of an item, which may be a new one: by its *index* or, if that is None, by its id.

    In a whole response (*is_final*), where the index may be another, its id goes before that.
    """
    items: dict[Any, _ItemReader] = answer.state.setdefault("items", {})  # by both
    key = item_id if index is None else index
    reader = (items.get(item_id) if is_final else None) or items.get(key)
    if reader is None:
        reader = _ItemReader(answer, key, host)
        if index is not None:
            items[index] = reader
        if isinstance(item_id, str):
            items[item_id] = reader
    return reader
