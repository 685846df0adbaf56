"""Tool calls in OpenAI's dialect, assembled from their pieces.

The index of a piece tells which call it belongs to, except with servers that count no index, write 0 for all of them,
or give several calls one id. Then its id, its name, and whether the call so far is complete JSON tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["as_text", "read_calls", "read_function_call"]

Json = Mapping[str, Any]

_MARKS = re.compile(r'["{}\[\]\\]')


class _Call:
    """A call in the making: the key of its block and what is known of it."""

    __slots__ = ("_depth", "_escaped", "_in_text", "_length", "_scanned", "id", "key", "name", "pieces")

    def __init__(self, key: int) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []
        self._length = 0
        self._scanned = 0
        self._depth = 0
        self._in_text = self._escaped = False

    def add(self, piece: str) -> None:
        """Add *piece* to the arguments."""
        self.pieces.append(piece)
        self._length += len(piece)

    def is_whole(self) -> bool:
        """Whether the arguments so far are a closed JSON object. Each piece is looked at once, when this is asked."""
        for piece in self.pieces[self._scanned :]:
            escaped_at = 0 if self._escaped else -1
            self._escaped = False
            for match in _MARKS.finditer(piece):
                mark = match[0]
                if match.start() == escaped_at:
                    continue
                if mark == "\\":
                    escaped_at = match.end()
                    self._escaped = escaped_at == len(piece)
                elif mark == '"':
                    self._in_text = not self._in_text
                elif not self._in_text:
                    self._depth += 1 if mark in "{[" else -1
        self._scanned = len(self.pieces)
        return bool(self.pieces) and self._depth == 0 and not self._in_text and self.pieces[-1].rstrip()[-1:] == "}"

    def repeats(self, piece: str) -> bool:
        """Whether *piece* says the whole arguments again."""
        return len(piece) == self._length and piece == "".join(self.pieces)


class _Calls:
    """The calls of one answer, by what their pieces may be known by."""

    __slots__ = ("by_id", "by_index", "count", "last")

    def __init__(self) -> None:
        self.by_id: dict[str, _Call] = {}
        self.by_index: dict[Any, _Call] = {}
        self.count = 0
        self.last: _Call | None = None

    def find(self, index: Any, name: str, call_id: str, piece: str, beside: bool) -> _Call:
        """Return the call that a piece belongs to, which may be a new one."""
        at_index = self.by_index.get(index) if index is not None else None
        with_id = self.by_id.get(call_id) if call_id else None
        if name:
            call = at_index if index is not None else with_id or (None if call_id else self.last)
            if call is not None and not _is_another(call, name, call_id, piece, beside):
                return call
            return self._open(index)
        if at_index is not None and (with_id is None or at_index.id == call_id):
            return at_index
        if with_id is not None:
            return with_id
        is_more = self.last is not None and (not call_id or (index is None and not self.last.is_whole()))
        return self.last if self.last is not None and is_more else self._open(index)

    def _open(self, index: Any) -> _Call:
        call = self.last = _Call(self.count)
        self.count += 1
        if index is not None:
            self.by_index[index] = call
        return call


def _is_another(call: _Call, name: str, call_id: str, piece: str, beside: bool) -> bool:
    """Whether a piece with *name* begins another call than *call*; *beside* tells that one message has both."""
    if call_id and call.id and call_id != call.id:
        return True
    if not call.name:
        return False
    if beside or (piece and not call.pieces and not call_id and name != call.name):
        return True
    if call_id and call.id and name == call.name and (not piece or call.repeats(piece)):
        return False  # its head, or all of it, once more
    return call.is_whole()


def read_calls(calls: Any, answer: ResponseBuilder) -> None:
    """Add the pieces of calls in a message or a delta."""
    if not isinstance(calls, list):
        calls = [calls]
    seen: set[Any] = set()
    for call in calls:
        if isinstance(call, dict):
            index = call.get("index")
            index = index if isinstance(index, (int, str)) else None
            _read_call(call, index, answer, index in seen)
            seen.add(index)


def read_function_call(call: Any, answer: ResponseBuilder) -> None:
    """Add a piece of the one call that messages of the older form have."""
    if isinstance(call, dict):
        _read_call({"function": call}, "function_call", answer, False)


def _read_call(raw: Json, index: int | str | None, answer: ResponseBuilder, beside: bool) -> None:
    custom = raw.get("type") == "custom"
    function = raw.get("custom" if custom else "function") or {}
    name, call_id = as_text(function.get("name")), as_text(raw.get("id"))
    piece = dump_arguments(function.get("input" if custom else "arguments") or "")
    if not (name or call_id or piece):
        return
    calls: _Calls = answer.state.setdefault("calls", _Calls())
    call = calls.find(index, name, call_id, piece, beside)
    if _name_call(call, name, call_id, raw, answer) and call.id:
        calls.by_id.setdefault(call.id, call)
    elif piece and name and call_id == call.id and call.repeats(piece):
        return  # the last message of a stream may say all of it again
    if piece:
        call.add(piece)
        answer.arguments(call.key, piece)


def as_text(value: Any) -> str:
    """Return *value* as text, "" for None."""
    return value if isinstance(value, str) else "" if value is None else str(value)


def _name_call(call: _Call, name: str, call_id: str, raw: Json, answer: ResponseBuilder) -> bool:
    """Take what *raw* says of the call beside its arguments; whether it was anything new."""
    new = not call.id and not call.name
    is_more = bool(call.name) and not call_id and not call.pieces and name not in ("", call.name)  # a name in pieces
    if not (new or is_more or (call_id and not call.id) or (name and not call.name)):
        return False
    call.id, call.name = call.id or call_id, call.name + name if is_more else call.name or name
    extra = raw.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    signed = {"signature": signature, "provider": "openai"} if isinstance(signature, str) else {}
    answer.tool(call.key, id=call.id, name=call.name, **signed)
    if answer.finish_reason == "stop":
        answer.finish_reason = "tool_calls"
    return True
