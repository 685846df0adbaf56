"""What has come in of one answer, and the snapshots made of it.

Pieces are only ever appended. A snapshot notes how far each part had grown and builds its content when it is read, so
that a long answer costs the same for each piece, however long it already is.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal
from uuid import uuid4

from pydantic_core import from_json

from modelhub.providers._structured import Structured
from modelhub.response import Block, ChatResponse, ChatUsage, FinishReason, Later, Record

__all__ = ["Answer", "ToolUse", "parse_arguments"]

PartKind = Literal["text", "thinking", "tool_use", "image", "audio", "video", "document"]
_WRITTEN = ("text", "thinking")


class ToolUse(Record):
    """A `tool_use` block: `id`, `name`, `input` (a dict, parsed when read), `raw_input`; `error` if it is no JSON."""

    __slots__ = ()


class _Growing:
    """Text that only grows, readable at every length it has had."""

    __slots__ = ("_joined", "_length", "pieces")

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._joined = ""
        self._length = 0

    def upto(self, length: int) -> str:
        if length < self._length:
            return "".join(self.pieces[:length])
        if length > self._length:
            self._joined = "".join((self._joined, *self.pieces[self._length : length]))
            self._length = length
        return self._joined


class _Part:
    """One block in the making. `fields` is replaced, never changed: snapshots hold on to what they saw."""

    __slots__ = ("fields", "key", "kind", "text")

    def __init__(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.key = key
        self.text = _Growing()
        self.fields = fields


def parse_arguments(raw: str) -> tuple[dict[str, Any], str | None]:
    """The arguments in *raw* and None; or an empty dict and what is wrong with them. No text at all is no arguments."""
    if not raw.strip():
        return {}, None
    try:
        value = json.loads(raw)
    except ValueError as error:
        return {}, f"the arguments are not JSON: {error.msg if isinstance(error, json.JSONDecodeError) else error}"
    if not isinstance(value, dict):
        return {}, f"the arguments are no JSON object but {type(value).__name__}"
    return value, None


def _partial_arguments(raw: str) -> dict[str, Any]:
    try:
        value = from_json(raw, allow_partial="trailing-strings")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


class Answer:
    """Collects the pieces of one answer, in the vendor's order.

    Adjacent text is one block; thinking with different keys stays apart, because each block has its own signature.
    *facts* are what every snapshot says of itself; *structured* is the structure that was asked for, if any.
    """

    def __init__(self, facts: Mapping[str, Any], structured: Structured | None = None) -> None:
        self._facts = facts
        self._structured = structured
        self._parts: list[_Part] = []
        self._by_key: dict[tuple[str, Hashable], _Part] = {}
        self._delta: list[str] = []
        self._common: dict[str, Any] = {}
        self._known: tuple[str | None, str | None] | None = None
        self._own_id: str | None = None
        self.grown = False
        """Whether something came in since the last snapshot."""
        self.complete = False
        """Whether the vendor's own mark of the end has been seen."""
        self.finish_reason: FinishReason | None = None
        self.usage: ChatUsage | None = None
        self.id: str | None = None
        self.request_id: str | None = None
        """The vendor's id of the request, where it is another than the answer's (a header)."""
        self.headers: Mapping[str, str] | None = None
        """The answer's headers, by their names in lower case: they may say what is left of the vendor's limits."""
        self.model_name: str | None = None
        """The model's name as the vendor gives it in the answer."""
        self.notes: dict[str, Any] = {}
        """What a provider has to remember from one event to the next."""

    # -- what comes in ---------------------------------------------------------------------------------------------

    def text(self, piece: str, key: Hashable = None, **fields: Any) -> None:
        """Add *piece* to the text; *fields* (a signature) belong to the block."""
        if not piece and not fields:
            return
        self._part("text", key, fields).text.pieces.append(piece)
        self._delta.append(piece)
        self.grown = True

    def thinking(self, piece: str, key: Hashable = None, **fields: Any) -> None:
        """Add *piece* to the thinking; *fields* (`signature`, `data`, `provider`) belong to the block."""
        if not piece and not fields:
            return
        self._part("thinking", key, fields).text.pieces.append(piece)
        self.grown = True

    def tool(self, key: Hashable, *, id: str | None = None, name: str | None = None, **fields: Any) -> None:  # noqa: A002
        """Open the call *key*, or add what was not known of it yet."""
        part = self._by_key.get(("tool_use", key))
        if part is None:
            part = self._open("tool_use", key, {"id": "", "name": ""})
        known = {"id": id, "name": name, **fields}
        part.fields = part.fields | {field: value for field, value in known.items() if value}
        self.grown = True

    def arguments(self, key: Hashable, piece: str) -> None:
        """Add *piece* to the arguments of the call *key*, which is open."""
        if piece:
            self._by_key[("tool_use", key)].text.pieces.append(piece)
            self.grown = True

    def media(self, kind: Literal["image", "audio", "video", "document"], **fields: Any) -> None:
        """Add an image, a sound, a film or a document; *fields* has its `source`."""
        self._open(kind, object(), fields)
        self.grown = True

    def _part(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> _Part:
        last = self._parts[-1] if self._parts else None
        if last is None or last.kind != kind or (kind == "thinking" and last.key != key) or _is_closed(last, key):
            found = self._by_key.get((kind, key)) if key is not None else None
            last = found or self._open(kind, key, {})
        if fields:
            last.fields = last.fields | fields
        return last

    def _open(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> _Part:
        part = _Part(kind, key, fields)
        self._parts.append(part)
        self._by_key[(kind, key)] = part
        return part

    # -- what goes out ---------------------------------------------------------------------------------------------

    @property
    def has_tools(self) -> bool:
        """Whether a tool is asked for."""
        return any(part.kind == "tool_use" for part in self._parts)

    @property
    def has_content(self) -> bool:
        """Whether there is anything to give back yet."""
        return bool(self._parts)

    def snapshot(self) -> ChatResponse:
        """The answer so far; its content is built when it is read."""
        marks = [(part, len(part.text.pieces), part.fields) for part in self._parts]
        delta, self._delta = "".join(self._delta), []
        self.grown = False
        fields = self._fields()
        fields["content"] = Later(lambda: [_block(*mark) for mark in marks])
        fields["delta"] = delta
        if (structured := self._structured) is not None:
            fields["metadata"] = Later(lambda: structured.partial(_raw(structured, marks)))
        return ChatResponse.of(fields)

    def _fields(self) -> dict[str, Any]:
        """What all snapshots have in common, in a dict that is written anew only if the vendor says something new."""
        known = (self.id, self.model_name)
        if self._known != known:
            self._known = known
            self._common = dict(ChatResponse([], is_last=False, delta="", **self._identity()))
        return self._common

    def final(self) -> ChatResponse:
        """The complete answer.

        Arguments are parsed now: what is no JSON object is marked, never passed as empty. Raises BadReply if the
        answer does not have the structure that was asked for.
        """
        marks = [(part, len(part.text.pieces), part.fields) for part in self._parts]
        blocks = [_final_block(*mark) for mark in marks]
        broken = any(block.get("error") for block in blocks)
        return ChatResponse(
            blocks,
            usage=self.usage,
            metadata=self._structured.read(_raw(self._structured, marks))
            if self._structured is not None and self._wants_structure()
            else None,
            finish_reason="error" if broken else self.finish_reason,
            delta="".join(self._delta),
            **self._identity(),
        )

    def _wants_structure(self) -> bool:
        # What was cut off, blocked or refused says so in its finish reason: that it does not fit is not the news.
        return self._structured is not None and self.finish_reason in (None, "stop", "tool_calls", "error")

    def _identity(self) -> dict[str, Any]:
        if self._own_id is None and not self.id:
            self._own_id = uuid4().hex  # the vendor gives none: all snapshots have the same
        model_name = self.model_name or self._facts.get("model_name")
        return {**self._facts, "id": self.id or self._own_id, "model_name": model_name}


def _is_closed(part: _Part, key: Hashable) -> bool:
    # Without keys, a signature is the last word: what it signs may not be joined with what it does not.
    return key is None and "signature" in part.fields


_Mark = tuple[_Part, int, dict[str, Any]]


def _raw(structured: Structured, marks: Sequence[_Mark]) -> str:
    wanted = "tool_use" if structured.method == "tool" else "text"
    return "".join(part.text.upto(length) for part, length, _ in marks if part.kind == wanted)


def _block(part: _Part, length: int, fields: dict[str, Any]) -> Block:
    if part.kind != "tool_use":
        return _plain_block(part, length, fields)
    return ToolUse(
        type="tool_use",
        **fields,
        input=Later(lambda: _partial_arguments(part.text.upto(length))),
        raw_input=Later(lambda: part.text.upto(length)),
    )


def _plain_block(part: _Part, length: int, fields: dict[str, Any]) -> Block:
    written: Block = {part.kind: part.text.upto(length)} if part.kind in _WRITTEN else {}
    return {"type": part.kind, **written, **fields}


def _final_block(part: _Part, length: int, fields: dict[str, Any]) -> Block:
    if part.kind != "tool_use":
        return _plain_block(part, length, fields)
    text = part.text.upto(length)
    value, wrong = parse_arguments(text)
    block = ToolUse(type="tool_use", **fields, input=value, raw_input=text)
    if wrong:
        block["error"] = wrong
    return block
