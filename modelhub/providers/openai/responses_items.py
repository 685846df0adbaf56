"""The output items of OpenAI's Responses API, whole or in pieces, in our own terms.

An item is read as far as it goes: what its events brought is not read again when the whole item comes, nor when the
whole response comes at the end.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from modelhub.providers.error_mapping import get_dicts
from modelhub.providers.openai.tool_calls import as_text
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["ItemReader", "Items"]

Json = Mapping[str, Any]

PROVIDER = "openai"
_CUSTOM_START = '{"input": "'
_CUSTOM_END = '"}'


class ItemReader:
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

    # -- pieces --------------------------------------------------------------------------------------------------------

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

    # -- whole items ---------------------------------------------------------------------------------------------------

    def begin(self, item: Json) -> None:
        """Read an *item* that has begun: what is known of it before its content comes."""
        kind = item.get("type")
        if kind == "message":
            if isinstance(phase := item.get("phase"), str):
                self._fields = {"phase": phase}
        elif kind in ("function_call", "custom_tool_call"):
            self._open_call(item)
        elif kind != "reasoning":
            self._keep(item)

    def finish(self, item: Json) -> None:
        """Read a whole *item*: what of it has not come in pieces."""
        if not self.is_done:
            self.begin(item)
            _FINISHERS.get(str(item.get("type")), ItemReader._keep)(self, item)
            self.is_done = True

    def _finish_message(self, item: Json) -> None:
        text = "".join(self._text_of(part) for part in get_dicts(item.get("content")))
        self.add_text(text[self._length :])

    def _text_of(self, part: Json) -> str:
        if refusal := part.get("refusal"):
            self._answer.state["refused"] = True
            return str(refusal)
        text = part.get("text")
        return text if isinstance(text, str) else ""

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

    def _keep(self, item: Json) -> None:
        self._answer.provider_item(self.key, provider=PROVIDER, host=self._host, item=dict(item))


_FINISHERS: Mapping[str, Callable[[ItemReader, Json], None]] = {
    "message": ItemReader._finish_message,
    "reasoning": ItemReader._finish_reasoning,
    "function_call": ItemReader._finish_call,
    "custom_tool_call": ItemReader._finish_call,
}
"""What is read of a whole item; an item of any other type is kept as it is."""


class Items:
    """The output items of one answer, by the index that the server gives them, or by their id where it gives none."""

    __slots__ = ("_answer", "_by_id", "_by_index", "_host")

    def __init__(self, answer: ResponseBuilder, host: str) -> None:
        self._answer = answer
        self._host = host
        self._by_index: dict[Any, ItemReader] = {}
        self._by_id: dict[str, ItemReader] = {}

    def find(self, index: Any, item_id: Any) -> ItemReader:
        """Return the reader of the item with *index* or, if that is None, with *item_id*; a new one if unknown."""
        reader = self._by_index.get(index) if index is not None else self._by_id.get(item_id)
        return reader if reader is not None else self._open(index, item_id)

    def find_final(self, index: int, item: Json) -> ItemReader:
        """Return the reader of the *item* that stands at *index* in the whole response."""
        reader = self._by_id.get(item.get("id") or "") or self._by_index.get(index)
        return reader if reader is not None else self._open(index, item.get("id"))

    def _open(self, index: Any, item_id: Any) -> ItemReader:
        reader = ItemReader(self._answer, index if index is not None else item_id, self._host)
        if index is not None:
            self._by_index[index] = reader
        if isinstance(item_id, str):
            self._by_id[item_id] = reader
        return reader
