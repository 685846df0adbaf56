"""What has come in of one answer, and the snapshots made of it.

Pieces are only ever appended. A snapshot notes how far each part had grown and builds its content when it is read, so
that a long answer costs the same for each piece, however long it already is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Any, Literal
from uuid import uuid4

from modelhub.core.record import Lazy, LazyRecord
from modelhub.core.response import Block, ChatResponse, ChatUsage, FinishReason
from modelhub.messages.blocks import ToolChoice
from modelhub.providers.json_text import (
    LAST_BEFORE_SURROGATES,
    REPLACEMENT,
    clean_text,
    clean_value,
    make_misfit,
    split_half,
)
from modelhub.providers.structured_output import TOOL_NAME, Structured
from modelhub.providers.token_counts import Counts, merge_counts, supersedes, usage_from_counts
from modelhub.providers.tool_arguments import parse_arguments, parse_partial_arguments

__all__ = ["ResponseBuilder", "ToolUse"]

PartKind = Literal["text", "thinking", "tool_use", "image", "audio", "video", "document", "provider_item"]


class ToolUse(LazyRecord):
    """A `tool_use` block: `id`, `name`, `input` (a dict, parsed when read), `raw_input`; `error` if it is no JSON."""

    __slots__ = ()


class AnswerPart:
    """One block in the making: its text only grows, and can be read at every length it has had.

    `pieces` are those of the text. `fields` is replaced, never changed: snapshots hold on to what they saw.
    """

    __slots__ = ("_half", "_joined", "_length", "fields", "key", "kind", "pieces")

    def __init__(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.key = key
        self.fields = fields
        self.pieces: list[str] = []
        self._half = ""
        self._joined = ""
        self._length = 0

    def text(self, length: int) -> str:
        """Return the text as it was after *length* pieces."""
        if length < self._length:
            return "".join(self.pieces[:length])
        if length > self._length:
            self._joined = "".join((self._joined, *self.pieces[self._length : length]))
            self._length = length
        return self._joined

    def add(self, piece: str) -> str:
        """Add *piece* and return what was added: half a character at its end waits for the other half."""
        if self._half or (
            not piece.isascii() and (piece[0] > LAST_BEFORE_SURROGATES or piece[-1] > LAST_BEFORE_SURROGATES)
        ):
            piece, self._half = split_half(self._half + piece)
        if piece:
            self.pieces.append(piece)
        return piece

    def end(self) -> str:
        """Return what is added in the place of half a character whose other half never came."""
        if not self._half:
            return ""
        self._half = ""
        self.pieces.append(REPLACEMENT)
        return REPLACEMENT


_Mark = tuple[AnswerPart, int, dict[str, Any]]
"""A part, the number of its pieces, and its fields: what it was at one time."""


class ResponseBuilder:
    """Collects the pieces of one answer, in the vendor's order.

    Adjacent text is one block; thinking with different keys stays apart, because each block has its own signature.
    *facts* are what every snapshot says of itself; *structured* is the structure that was asked for, if any;
    *tool_names* are the caller's names of tools by those that the vendor was sent, among them the one that
    *tool_choice* may demand.
    """

    def __init__(
        self,
        facts: Mapping[str, Any],
        structured: Structured | None = None,
        tool_names: Mapping[str, str] = MappingProxyType({}),
        tool_choice: ToolChoice | None = None,
    ) -> None:
        self._facts = facts
        self._structured = structured
        self._tool_names = tool_names
        is_required = tool_choice is not None and tool_choice.mode in ("required", "tool")
        self._required_tool = (tool_choice.name or "") if tool_choice is not None and is_required else None
        self._parts: list[AnswerPart] = []
        self._by_key: dict[tuple[str, Hashable], AnswerPart] = {}
        self._delta: list[str] = []
        self._common: dict[str, Any] = {}
        self._known: tuple[str | None, str | None] | None = None
        self._own_id: str | None = None
        self._usage: ChatUsage | None = None
        self._is_usage_due = False
        self._counts = Counts()
        self._report: tuple[Any, Callable[[Any], Counts]] | None = None  # the last one, and what will read it
        self._call_ids: dict[str, AnswerPart] = {}
        self._generated_ids: set[str] = set()
        self.has_new_content = False
        """Whether something came in since the last snapshot."""
        self.complete = False
        """Whether the vendor's own mark of the end has been seen."""
        self.finish_reason: FinishReason | None = None
        self.id: str | None = None
        self.request_id: str | None = None
        """The vendor's id of the request, where it is another than the answer's (a header)."""
        self.headers: Mapping[str, str] | None = None
        """The answer's headers, by their names in lower case: they may say what is left of the vendor's limits."""
        self.model_name: str | None = None
        """The model's name as the vendor gives it in the answer."""
        self.api: Any = None
        """Which of the vendor's APIs answers, where it has several."""
        self.state: dict[str, Any] = {}
        """What a provider has to remember from one event to the next."""

    # -- what comes in ---------------------------------------------------------------------------------------------

    def text(self, piece: str, key: Hashable = None, **fields: Any) -> None:
        """Add *piece* to the text; *fields* (a signature) belong to the block."""
        if piece or fields:
            part = self._part("text", key, fields)
            if piece:
                self._delta.append(part.add(piece))
            self.has_new_content = True

    def thinking(self, piece: str, key: Hashable = None, **fields: Any) -> None:
        """Add *piece* to the thinking; *fields* (`signature`, `data`, `provider`) belong to the block."""
        if piece or fields:
            part = self._part("thinking", key, fields)
            if piece:
                part.add(piece)
            self.has_new_content = True

    def tool(self, key: Hashable, *, id: str | None = None, name: str | None = None, **fields: Any) -> None:  # noqa: A002
        """Open the call *key*, or add what was not known of it yet.

        A call is answered by its id: one without an id, or with one that another call has, is given its own.
        """
        part = self._by_key.get(("tool_use", key))
        if part is None:
            part = self._open("tool_use", key, {"id": "", "name": ""})
        known = {
            "id": self._claim_id(part, clean_text(id or "")),
            "name": name and self._tool_names.get(name, name),
            **fields,
        }
        part.fields = part.fields | {field: clean_value(value) for field, value in known.items() if value}
        self.has_new_content = True

    def _claim_id(self, part: AnswerPart, call_id: str) -> str:
        """Return the id of the call *part*: *call_id* if no other call has it, else the one it has, or a new one."""
        own: str = part.fields["id"]
        if own and own not in self._generated_ids:
            return own
        if not call_id or call_id in self._call_ids:
            if own:
                return own
            call_id = f"call_{uuid4().hex[:24]}"
            self._generated_ids.add(call_id)
        self._call_ids[call_id] = part
        return call_id

    def arguments(self, key: Hashable, piece: str) -> None:
        """Add *piece* to the arguments of the call *key*, which is open."""
        if piece:
            self._by_key[("tool_use", key)].add(piece)
            self.has_new_content = True

    def count(self, counts: Counts) -> None:
        """Take what the server says of the tokens so far; later figures replace earlier ones, but a 0 none."""
        self._read_report()
        self._counts = merge_counts(self._counts, counts)
        self._is_usage_due = True

    def report_counts(self, report: Any, read: Callable[[Any], Counts]) -> None:
        """Take what the server says of the tokens so far, as it says it; *read* is called if it is needed.

        Some servers report in every event. Most of those reports say no more than that the next one replaces them.
        """
        last = self._report
        if last is not None and not (type(report) is type(last[0]) is dict and supersedes(report, last[0])):
            self._read_report()
        self._report = (report, read)
        self._is_usage_due = True

    def _read_report(self) -> None:
        if self._report is not None:
            (report, read), self._report = self._report, None
            self._counts = merge_counts(self._counts, read(report))

    @property
    def usage(self) -> ChatUsage | None:
        """What the counts so far amount to; made when it is asked for, because some vendors count in every event."""
        if self._is_usage_due:
            self._read_report()
            self._is_usage_due, self._usage = False, usage_from_counts(self._counts)
        return self._usage

    @usage.setter
    def usage(self, usage: ChatUsage | None) -> None:
        self._is_usage_due, self._usage = False, usage

    def media(self, kind: Literal["image", "audio", "video", "document"], **fields: Any) -> None:
        """Add an image, a sound, a film or a document; *fields* has its `source`."""
        self._open(kind, object(), clean_value(fields))
        self.has_new_content = True

    def provider_item(self, key: Hashable, **fields: Any) -> None:
        """Add the vendor's own item *key*, or replace what is known of it: `provider`, `host` and `item`."""
        part = self._by_key.get(("provider_item", key)) or self._open("provider_item", key, {})
        part.fields = clean_value(fields)
        self.has_new_content = True

    def _part(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> AnswerPart:
        last = self._parts[-1] if self._parts else None
        if last is None or last.kind != kind:
            goes_on = False
        elif key is None:  # what a signature signs may not be joined with what it does not
            goes_on = "signature" not in last.fields and (kind == "text" or last.key is None)
        else:
            goes_on = last.key == key or (kind == "text" and "phase" not in last.fields)
        if last is None or not goes_on:
            last = (self._by_key.get((kind, key)) if key is not None else None) or self._open(kind, key, {})
        if fields:
            last.fields = last.fields | clean_value(fields)
        return last

    def _open(self, kind: PartKind, key: Hashable, fields: dict[str, Any]) -> AnswerPart:
        part = AnswerPart(kind, key, fields)
        self._parts.append(part)
        self._by_key[(kind, key)] = part
        return part

    # -- what goes out ---------------------------------------------------------------------------------------------

    @property
    def has_tools(self) -> bool:
        """Whether a tool is asked for."""
        return any(part.kind == "tool_use" for part in self._parts)

    def check_called_tool(self, name: str | None) -> None:
        """Raise BadReply if the model called the tool *name* where it must call another one.

        For vendors whose API cannot demand a call; so is `check_required_tool`.
        """
        if self._required_tool and name and name != self._required_tool:
            raise make_misfit(f"the model called `{name}`, not `{self._required_tool}`")

    def check_required_tool(self) -> None:
        """Raise BadReply if the answer, which has come to its end, must call a tool and calls none."""
        if self._required_tool is not None and not self.has_tools:
            tool = f"`{self._required_tool}`" if self._required_tool else "a tool"
            raise make_misfit(f"the model answered without calling {tool}")

    @property
    def has_thinking(self) -> bool:
        """Whether any thinking has come in."""
        return any(part.kind == "thinking" for part in self._parts)

    @property
    def has_content(self) -> bool:
        """Whether there is anything to give back yet."""
        return bool(self._parts)

    @property
    def text_so_far(self) -> str:
        """All text that has come in."""
        return "".join(part.text(len(part.pieces)) for part in self._parts if part.kind == "text")

    def is_repeated_by(self, content: Any) -> bool:
        """Whether *content*, which comes with the end, says all the text again that came before it in pieces."""
        if not content or not isinstance(content, str):
            return False
        texts = [part.pieces for part in self._parts if part.kind == "text" and part.pieces]
        if not texts or not content.startswith(texts[0][0]):
            return False
        pieces = list(chain.from_iterable(texts))
        return len(pieces) > 1 and len(content) == sum(map(len, pieces)) and content == "".join(pieces)

    def snapshot(self) -> ChatResponse:
        """The answer so far; its content is built when it is read."""
        marks = [(part, len(part.pieces), part.fields) for part in self._parts]
        delta, self._delta = "".join(self._delta), []
        self.has_new_content = False
        known = (self.id, self.model_name)
        if self._known != known:  # what all snapshots have in common is written anew if the vendor says something new
            self._known = known
            self._common = dict(dict.items(ChatResponse([], is_last=False, delta="", **self._identity())))
        fields = {**self._common, "content": Lazy(lambda: [_make_block(*mark) for mark in marks]), "delta": delta}
        if (structured := self._structured) is not None:
            fields["metadata"] = Lazy(lambda: structured.partial(_structured_text(structured, marks)))
        return ChatResponse.of(fields)

    def final(self) -> ChatResponse:
        """The complete answer.

        Raises BadReply if a call's arguments are no JSON object, although the answer was not cut off, or if the answer
        does not have the structure that was asked for. In an answer that was cut off such a call has an `error`.
        """
        self._delta += [added for part in self._parts if (added := part.end()) and part.kind == "text"]
        marks = [(part, len(part.pieces), part.fields) for part in self._parts]
        blocks = [_make_block(*mark, is_final=True) for mark in marks]
        # What was cut off, blocked or refused says so in its finish reason: that it does not fit is not the news.
        is_whole = self.finish_reason in (None, "stop", "tool_calls")
        self._check_calls(blocks, is_whole)
        reply = ChatResponse(
            blocks,
            usage=self.usage,
            finish_reason=self.finish_reason,
            delta="".join(self._delta),
            **self._identity(),
        )
        if self._structured is not None and is_whole:
            reply["metadata"], reply.output = self._structured.read(_structured_text(self._structured, marks))
        return reply

    def _check_calls(self, blocks: Sequence[Block], is_whole: bool) -> None:
        """Raise BadReply for a call that cannot be made; in an answer that is not whole it is marked instead."""
        for block in blocks:
            if block["type"] == "tool_use":
                wrong = block.get("error") or (None if block["name"] else "the call has no name")
                if wrong is None and block is blocks[-1] and not block["input"] and self.finish_reason == "length":
                    wrong = "the answer was cut off before the arguments"
                if wrong and is_whole:
                    raise make_misfit(f"the call of `{block['name']}` cannot be made: {wrong}")
                if wrong:
                    block["error"] = wrong

    def _identity(self) -> dict[str, Any]:
        if self._own_id is None and not self.id:
            self._own_id = os.urandom(16).hex()  # the vendor gives none: all snapshots have the same
        response_model = self.response_model
        return {
            **self._facts,
            "id": clean_text(str(self.id)) if self.id else self._own_id,
            "model_name": response_model or self._facts.get("model_name"),
            "response_model": response_model,
        }

    @property
    def response_model(self) -> str | None:
        """The model's name as the vendor gives it in the answer, if it does."""
        return clean_text(self.model_name) if isinstance(self.model_name, str) and self.model_name else None


def _structured_text(structured: Structured, marks: Sequence[_Mark]) -> str:
    """The text that has the structure: the forced tool's arguments, or what a model wrote that did not call it."""
    if structured.method == "tool":
        calls = [(part, length) for part, length, fields in marks if part.kind == "tool_use"]
        forced = [mark for mark in calls if mark[0].fields["name"] == TOOL_NAME] or calls
        if forced:
            return forced[0][0].text(forced[0][1])
    return "".join(part.text(length) for part, length, _ in marks if part.kind == "text")


def _make_block(part: AnswerPart, length: int, fields: dict[str, Any], *, is_final: bool = False) -> Block:
    """Return the block that a mark stands for; a call's arguments are parsed at once only if it *is_final*."""
    if part.kind != "tool_use":
        written: Block = {part.kind: part.text(length)} if part.kind in ("text", "thinking") else {}
        return {"type": part.kind, **written, **fields}
    if not is_final:
        return ToolUse(
            type="tool_use",
            **fields,
            input=Lazy(lambda: parse_partial_arguments(part.text(length))),
            raw_input=Lazy(lambda: part.text(length)),
        )
    text = part.text(length)
    value, wrong = parse_arguments(text)
    block = ToolUse(type="tool_use", **fields, input=value, raw_input=text)
    if wrong:
        block["error"] = wrong
    return block
