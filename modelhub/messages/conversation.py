"""The order of a conversation: every call of a tool is followed by its results, whatever stands between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import Message, Role, ToolResultBlock, ToolUseBlock
from modelhub.messages.content_parts import Located
from modelhub.messages.sanitize import repair_text, safe_call_id
from modelhub.messages.validation import shown

__all__ = ["STORED_CONVERSATIONS", "Conversation", "refuse_stored_conversation"]

STORED_CONVERSATIONS = frozenset({"previous_response_id", "conversation"})
"""Parameters that name a conversation which the vendor keeps: OpenAI's."""


def refuse_stored_conversation(options: Mapping[str, Any], name: str) -> None:
    """Raise InvalidRequest for *options* that name a conversation which one vendor keeps; *name* is the chain's."""
    for option in STORED_CONVERSATIONS & options.keys():
        raise InvalidRequest(
            f"{option}: only one vendor knows what it names, and `{name}` may ask another one: send the messages, or "
            "call the model itself"
        )


class Conversation:
    """The messages so far, the calls in them that have no result yet, and what was written before those results.

    If *continues*, the beginning of the conversation is at the vendor, and with it calls whose results stand here.
    """

    def __init__(self, *, continues: bool = False) -> None:
        self._continues = continues
        self.turns: list[Message] = []
        self.open: dict[str, tuple[str, str]] = {}  # id: (the tool's name, the call's place)
        self.ends_in_tools = False
        self.ends_in_items = False
        self._postponed: list[Message] = []  # what waits until no call is open
        self._overtaken: dict[str, str] = {}  # id of an open call: the place of what came before its result
        self._answers: dict[str, str] = {}  # id: the place of the result
        self._twins: dict[str, list[str]] = {}  # id: the ids of further open calls that came with it
        self._made: set[str] = set()
        self._count = 0

    def add(self, role: Role, placed: Located, name: str | None, at: str, *, is_item: bool = False) -> None:
        """Append a message; results in one that is not a user's become a user's message of their own.

        Items of the Responses API that a model wrote one after the other (*is_item*) are one message, and so are
        messages with the calls of one turn.
        """
        joins = (
            (is_item or bool(self.open))
            and role == "assistant"
            and bool(self.turns)
            and self.turns[-1].role == "assistant"
        )
        for is_result, run in _runs(role, placed):
            answered = self._answer_calls(run)
            if is_result or role != "assistant":
                blocks = tuple(block for _, block in answered)
                self._append_input(Message("user", blocks) if is_result else Message(role, blocks, name), at)
            else:
                self._append_reply(answered, name, at, joins=joins)
            joins = False
        self.ends_in_items = is_item

    def add_results(self, placed: Located) -> None:
        """Append the results of a `tool` message, to the message before it if that came from one too."""
        before = self.turns.pop().blocks if self.ends_in_tools else ()
        results = (block for _, block in self._answer_calls(placed))
        self.turns.append(Message("user", (*before, *results)))
        self.ends_in_tools, self.ends_in_items = True, False
        self._append_postponed()

    def finish(self) -> None:
        """End the conversation. Raises InvalidRequest where it went on after a call that has no result."""
        if self._overtaken:
            raise self._missing_result(next(iter(self._overtaken)), "")
        self.open.clear()
        self._append_postponed()

    def _append_reply(self, run: Located, name: str | None, at: str, *, joins: bool) -> None:
        if self.open and not joins:
            raise self._missing_result(next(iter(self.open)), at)
        self._overtake(at)
        own_ids = {block.id for _, block in run if isinstance(block, ToolUseBlock)}
        blocks = tuple(self._ask(b, place, own_ids) if isinstance(b, ToolUseBlock) else b for place, b in run)
        if joins:
            last = self.turns.pop()
            self.turns.append(replace(last, blocks=(*last.blocks, *blocks)))
        else:
            self.turns.append(Message("assistant", blocks, name))
        self.ends_in_tools = False

    def _append_input(self, message: Message, at: str) -> None:
        """Append *message* of a user, or the system; what is no result in it only when no call is open."""
        others = tuple(block for block in message.blocks if not isinstance(block, ToolResultBlock))
        if not others or not (self.open or self._postponed):
            self.turns.append(message)
            self.ends_in_tools = False
        else:
            if len(others) < len(message.blocks):
                results = tuple(block for block in message.blocks if isinstance(block, ToolResultBlock))
                self.turns.append(Message("user", results))
                self.ends_in_tools = False
            self._postponed.append(replace(message, blocks=others))
            if message.role == "user":
                self._overtake(at)
        self._append_postponed()

    def _append_postponed(self) -> None:
        if self._postponed and not self.open:
            self.turns += self._postponed
            self._postponed.clear()
            self.ends_in_tools = False

    def _overtake(self, at: str) -> None:
        for call_id in self.open:
            self._overtaken.setdefault(call_id, at)

    def _missing_result(self, call_id: str, at: str) -> InvalidRequest:
        """The error for what comes *at* a place, or came before it, instead of a call's result."""
        place = self._overtaken.get(call_id, at)
        return InvalidRequest(
            f"{place}: call {shown(call_id)} ({self.open[call_id][1]}) has no result before this message"
        )

    def _answer_calls(self, placed: Located) -> Located:
        return [(place, self._answer(b, place) if isinstance(b, ToolResultBlock) else b) for place, b in placed]

    def _ask(self, block: ToolUseBlock, place: str, own_ids: set[str]) -> ToolUseBlock:
        call_id = safe_call_id(block.id)
        if not call_id or call_id in self.open:
            made = self._new_id(own_ids)
            if call_id:  # some servers give two calls one id: their results come in the same order
                self._twins.setdefault(call_id, []).append(made)
            call_id = made
        # Some servers count from call_0 again in every turn: an id is free once its call is answered.
        self._answers.pop(call_id, None)
        self.open[call_id] = (block.name, place)
        return block if call_id == block.id else replace(block, id=call_id)

    def _new_id(self, own_ids: set[str]) -> str:
        while True:
            self._count += 1
            made = f"call_{self._count}"
            if made not in own_ids and made not in self._answers and made not in self.open:
                self._made.add(made)
                return made

    def _answer(self, block: ToolResultBlock, place: str) -> ToolResultBlock:
        call_id = self._open_id(safe_call_id(block.id), repair_text(block.name), place)
        if call_id not in self.open and self._continues and call_id and call_id not in self._answers:
            self._answers[call_id] = place
            return replace(block, id=call_id)
        if call_id not in self.open:
            before = self._answers.get(call_id)
            which = f"which {before} has answered" if before else "which no message before it makes"
            raise InvalidRequest(f"{place}: is a result for call {shown(call_id)}, {which}")
        name, _ = self.open.pop(call_id)
        self._overtaken.pop(call_id, None)
        self._answers[call_id] = place
        return replace(block, id=call_id, name=name)

    def _open_id(self, call_id: str, name: str, place: str) -> str:
        """The id of the open call that is meant: by its id, or by its name where the call came without an id."""
        if not call_id:
            return self._first_open(name, place)
        if call_id in self.open:
            return call_id
        if self._twins.get(call_id):
            return self._twins[call_id].pop(0)
        unnamed = [made for made, (called, _) in self.open.items() if made in self._made and called == name]
        return unnamed[0] if unnamed else call_id

    def _first_open(self, wanted: str, place: str) -> str:
        ids = [call_id for call_id, (name, _) in self.open.items() if name == wanted or not wanted]
        if not ids:
            of = f" of {shown(wanted)}" if wanted else ""
            raise InvalidRequest(f"{place}: is a result, but no call{of} before it waits for one")
        if not wanted and len(ids) > 1:
            raise InvalidRequest(f"{place}: does not say which of {len(ids)} calls it answers: an id is missing")
        return ids[0]


def _runs(role: Role, placed: Located) -> Iterator[tuple[bool, Located]]:
    if role == "user":
        return iter([(False, placed)] if placed else [])
    runs = groupby(placed, key=lambda pair: isinstance(pair[1], ToolResultBlock))
    return ((is_result, list(run)) for is_result, run in runs)
