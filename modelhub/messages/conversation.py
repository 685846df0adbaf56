"""Put a conversation in order: every tool call is followed directly by its results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import ContentBlock, Message, Role, ToolResultBlock, ToolUseBlock
from modelhub.messages.content_parts import Located
from modelhub.messages.sanitize import repair_text, safe_call_id
from modelhub.messages.validation import format_safe_name

__all__ = ["STORED_CONVERSATIONS", "Conversation", "refuse_stored_conversation"]

STORED_CONVERSATIONS = frozenset({"previous_response_id", "conversation"})
"""OpenAI's parameters that continue a conversation which is stored at the vendor."""


def refuse_stored_conversation(options: Mapping[str, Any], name: str) -> None:
    """Raise InvalidRequest if *options* continue a stored conversation, which the chain *name* cannot do."""
    for option in STORED_CONVERSATIONS & options.keys():
        raise InvalidRequest(
            f"{option}: the conversation is stored at one vendor, and the chain `{name}` may call another: send the "
            "messages, or call the model by its name"
        )


class Conversation:
    """The messages so far, the calls without a result, and the messages that wait for those results.

    With *continues*, the conversation began at the vendor, so that results may belong to calls that are not here.
    """

    def __init__(self, *, continues: bool = False) -> None:
        self._continues = continues
        self.turns: list[Message] = []
        self.pending_calls: dict[str, tuple[str, str]] = {}  # id: (the tool's name, the call's place)
        self.ends_in_tools = False
        self.ends_in_items = False
        self._deferred: list[Message] = []  # what waits until no call is open
        self._skipped_calls: dict[str, str] = {}  # id of an open call: the place of what came before its result
        self._results: dict[str, str] = {}  # id: the place of the result
        self._duplicates: dict[str, list[str]] = {}  # id: the ids of further open calls that came with it
        self._generated_ids: set[str] = set()
        self._count = 0

    def add(self, role: Role, located: Located, name: str | None, path: str, *, is_item: bool = False) -> None:
        """Append a message; tool results in a message that is not a user's become a separate user message.

        Consecutive items of the Responses API (*is_item*) become one message, and so do messages with the calls of one
        turn.
        """
        joins = (
            (is_item or bool(self.pending_calls))
            and role == "assistant"
            and bool(self.turns)
            and self.turns[-1].role == "assistant"
        )
        runs = [(False, located)] if located and role == "user" else []
        if role != "user":
            groups = groupby(located, key=lambda pair: isinstance(pair[1], ToolResultBlock))
            runs = [(is_result, list(group)) for is_result, group in groups]
        for is_result, run in runs:
            answered = self._match_results(run)
            if is_result or role != "assistant":
                blocks = tuple(block for _, block in answered)
                self._append_input(Message("user", blocks) if is_result else Message(role, blocks, name), path)
            else:
                self._append_reply(answered, name, path, joins=joins)
            joins = False
        self.ends_in_items = is_item

    def add_results(self, located: Located) -> None:
        """Append the results of a `tool` message, to the previous message if that has results as well."""
        before = self.turns.pop().blocks if self.ends_in_tools else ()
        results = (block for _, block in self._match_results(located))
        self.turns.append(Message("user", (*before, *results)))
        self.ends_in_tools, self.ends_in_items = True, False
        self._append_deferred()

    def finish(self) -> None:
        """End the conversation. Raises InvalidRequest if a message follows a call that has no result."""
        if self._skipped_calls:
            raise self._missing_result(next(iter(self._skipped_calls)), "")
        self.pending_calls.clear()
        self._append_deferred()

    def _append_reply(self, run: Located, name: str | None, path: str, *, joins: bool) -> None:
        if self.pending_calls and not joins:
            raise self._missing_result(next(iter(self.pending_calls)), path)
        self._mark_skipped(path)
        reserved_ids = {block.id for _, block in run if isinstance(block, ToolUseBlock)}
        blocks = tuple(
            self._open_call(b, place, reserved_ids) if isinstance(b, ToolUseBlock) else b for place, b in run
        )
        if joins:
            last = self.turns.pop()
            self.turns.append(replace(last, blocks=(*last.blocks, *blocks)))
        else:
            self.turns.append(Message("assistant", blocks, name))
        self.ends_in_tools = False

    def _append_input(self, message: Message, path: str) -> None:
        """Append a user or system *message*; blocks other than results wait until no call is pending."""
        others: tuple[ContentBlock, ...] = ()
        if self.pending_calls or self._deferred:
            others = tuple(block for block in message.blocks if not isinstance(block, ToolResultBlock))
        if not others:
            self.turns.append(message)
            self.ends_in_tools = False
        else:
            if len(others) < len(message.blocks):
                results = tuple(block for block in message.blocks if isinstance(block, ToolResultBlock))
                self.turns.append(Message("user", results))
                self.ends_in_tools = False
            self._deferred.append(replace(message, blocks=others))
            if message.role == "user":
                self._mark_skipped(path)
        self._append_deferred()

    def _append_deferred(self) -> None:
        if self._deferred and not self.pending_calls:
            self.turns += self._deferred
            self._deferred.clear()
            self.ends_in_tools = False

    def _mark_skipped(self, path: str) -> None:
        for call_id in self.pending_calls:
            self._skipped_calls.setdefault(call_id, path)

    def _missing_result(self, call_id: str, path: str) -> InvalidRequest:
        """Return the error for a message that stands in the place of a call's result."""
        place, (_, call_path) = self._skipped_calls.get(call_id, path), self.pending_calls[call_id]
        return InvalidRequest(
            f"{place}: call {format_safe_name(call_id)} ({call_path}) has no result before this message"
        )

    def _match_results(self, located: Located) -> Located:
        return [(place, self._match_result(b, place) if isinstance(b, ToolResultBlock) else b) for place, b in located]

    def _open_call(self, block: ToolUseBlock, place: str, reserved_ids: set[str]) -> ToolUseBlock:
        call_id = safe_call_id(block.id)
        if not call_id or call_id in self.pending_calls:
            generated_id = self._make_call_id(reserved_ids)
            if call_id:  # some servers use one id for two calls: their results come in the same order
                self._duplicates.setdefault(call_id, []).append(generated_id)
            call_id = generated_id
        # Some servers count from call_0 again in every turn: an id can be reused once its call has a result.
        self._results.pop(call_id, None)
        self.pending_calls[call_id] = (block.name, place)
        return block if call_id == block.id else replace(block, id=call_id)

    def _make_call_id(self, reserved_ids: set[str]) -> str:
        while True:
            self._count += 1
            call_id = f"call_{self._count}"
            if call_id not in reserved_ids and call_id not in self._results and call_id not in self.pending_calls:
                self._generated_ids.add(call_id)
                return call_id

    def _match_result(self, block: ToolResultBlock, place: str) -> ToolResultBlock:
        call_id = self._find_call_id(safe_call_id(block.id), repair_text(block.name), place)
        if call_id not in self.pending_calls and self._continues and call_id and call_id not in self._results:
            self._results[call_id] = place
            return replace(block, id=call_id)
        if call_id not in self.pending_calls:
            before = self._results.get(call_id)
            reason = f"which {before} has answered" if before else "which no message before it makes"
            raise InvalidRequest(f"{place}: is a result for call {format_safe_name(call_id)}, {reason}")
        name, _ = self.pending_calls.pop(call_id)
        self._skipped_calls.pop(call_id, None)
        self._results[call_id] = place
        return replace(block, id=call_id, name=name)

    def _find_call_id(self, call_id: str, name: str, place: str) -> str:
        """Return the id of the pending call for a result: by id, or by tool name if the call or the result has none."""
        if call_id in self.pending_calls:
            return call_id
        if self._duplicates.get(call_id):
            return self._duplicates[call_id].pop(0)
        ids = [pending for pending, (tool_name, _) in self.pending_calls.items() if tool_name == name]
        if call_id:
            return next((pending for pending in ids if pending in self._generated_ids), call_id)
        if not name:
            ids = list(self.pending_calls)
        if not ids:
            suffix = f" of {format_safe_name(name)}" if name else ""
            raise InvalidRequest(f"{place}: is a result, but no call{suffix} before it is without a result")
        if not name and len(ids) > 1:
            raise InvalidRequest(f"{place}: does not say which of {len(ids)} calls it answers: an id is missing")
        return ids[0]
