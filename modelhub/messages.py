"""What goes into a call: one neutral form, whatever dialect the caller wrote.

`normalise_messages` accepts OpenAI-style dicts and the seed's blocks, mixed, and gives frozen `Message`s whose blocks
every provider translates. The caller's own objects are read, never changed, and nothing of them is shared with a
provider.

What has nothing to send is left out: empty text, thinking without text or signature, messages without blocks, keys
whose value is None, and keys that only describe a message (`id`, `created_at`, `timestamp`, `metadata`; on assistant
messages `annotations`; what a whole reply says about itself). Any other unknown key is refused, never dropped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

from modelhub._parts import Placed, read_content, read_output
from modelhub._shapes import (
    Json,
    as_mapping,
    as_sequence,
    check_keys,
    copied,
    either,
    optional_text,
    read_arguments,
    required_name,
    shown,
    unknown,
)
from modelhub.blocks import ContentBlock, Message, Role, TextBlock, ThinkingBlock, ToolResultBlock, ToolUseBlock
from modelhub.errors import InvalidRequest

__all__ = ["normalise_messages"]


def normalise_messages(messages: str | Sequence[Mapping[str, Any]]) -> tuple[Message, ...]:
    """The conversation in the neutral form.

    *messages* is text (one user message) or a list of dicts: OpenAI's, the seed's, Anthropic's blocks, our own replies,
    mixed. Vendors' reply objects are read through their `model_dump`. Tool calls without an id get one, results without
    one answer the first open call of their name, and every result bears its call's name. Consecutive `tool` messages
    become one `user` message; results in an assistant or system message become a `user` message at that place.

    Raises `InvalidRequest`, with the place and what was expected, for a wrong shape, an unknown key, a result without a
    call, a call without a result (unless nothing follows it), or a conversation with nothing in it.
    """
    if isinstance(messages, str):
        messages = ({"role": "user", "content": messages},)
    talk = _Conversation()
    for index, message in enumerate(as_sequence(messages, "messages", "a string or a list of messages")):
        plain = _plain(message)
        if plain is not None and not talk.open:
            talk.turns.append(plain)
            talk.ends_in_tools = False
        else:
            _read_message(talk, message, f"messages[{index}]")
    if not talk.turns:
        raise InvalidRequest("messages: there is nothing to send" if messages else "messages: the list is empty")
    return tuple(talk.turns)


def _plain(message: Any) -> Message | None:
    # Most messages are a role and a text: they skip everything below.
    if type(message) is dict and len(message) == 2:
        content, role = message.get("content"), message.get("role")
        if type(content) is str and content and type(role) is str and role in _PLAIN_ROLES:
            return Message(_PLAIN_ROLES[role], (TextBlock(content),))
    return None


_PLAIN_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}


def _read_message(talk: _Conversation, message: object, at: str) -> None:
    found = as_mapping(message, at, "a dict with `role` and `content`")
    kind, role = found.get("type"), found.get("role")
    if role is None and kind == "chat":
        role = "assistant"
    if not isinstance(role, str) or role not in _ROLES:
        raise unknown(f"{at}.role", "role", role, _ROLES)
    keys, needs_content, read = _ROLES[role]
    check_keys(found, keys | _REPLY_KEYS.get(kind, _NO_KEYS) if isinstance(kind, str) else keys, at)
    if needs_content and "content" not in found:
        raise InvalidRequest(f"{at}: `content` is missing")
    name = optional_text(found, "name", at)
    if role in _PLAIN_ROLES:
        talk.add(_PLAIN_ROLES[role], read(found, at), name, at)
    else:
        talk.add_results(read(found, at))


def _read_plain(message: Json, at: str) -> Placed:
    found = read_content(message["content"], f"{at}.content")
    for place, block in found:
        if isinstance(block, (ThinkingBlock, ToolUseBlock)):
            kind = "thinking" if isinstance(block, ThinkingBlock) else "tool_use"
            raise InvalidRequest(f"{place}: a {kind} block belongs in an assistant message")
    return found


def _read_assistant(message: Json, at: str) -> Placed:
    # Servers that write both spellings of the reasoning write the same text twice.
    keys = ("reasoning_content", "reasoning", "thinking")
    thoughts = {text: f"{at}.{key}" for key in keys if (text := optional_text(message, key, at))}
    found: Placed = [(place, ThinkingBlock(text)) for text, place in thoughts.items()]
    if details := message.get("reasoning_details"):
        found = [_read_details(details, "".join(thoughts), f"{at}.reasoning_details")]
    found += read_content(message.get("content"), f"{at}.content")
    if refusal := optional_text(message, "refusal", at):
        found.append((f"{at}.refusal", TextBlock(refusal)))
    return found + _read_calls(message, at)


def _read_details(details: object, thought: str, at: str) -> tuple[str, ThinkingBlock]:
    """OpenRouter's form of reasoning: text that anybody may read, and data that only goes back where it came from."""
    listed = [copied(detail, f"{at}[{index}]") for index, detail in enumerate(as_sequence(details, at, "a list"))]
    told = "".join(str(detail.get("text") or detail.get("summary") or "") for detail in listed)
    return at, ThinkingBlock(thought or told, data=json.dumps(listed, ensure_ascii=False), provider="openai")


def _read_calls(message: Json, at: str) -> Placed:
    found: Placed = []
    if (calls := message.get("tool_calls")) is not None:
        for index, call in enumerate(as_sequence(calls, f"{at}.tool_calls", "a list of calls")):
            place = f"{at}.tool_calls[{index}]"
            found.append((place, _read_call(as_mapping(call, place, '{"id": ..., "function": ...}'), place)))
    if (call := message.get("function_call")) is not None:
        place = f"{at}.function_call"
        found.append((place, _called("", as_mapping(call, place, _CALLED), place)))
    return found


_CALLED = '{"name": ..., "arguments": ...}'


def _read_call(call: Json, at: str) -> ToolUseBlock:
    check_keys(call, frozenset({"id", "type", "function", "index"}), at)
    if call.get("type") not in (None, "function"):
        raise unknown(f"{at}.type", "type", call["type"], ("function",))
    function = as_mapping(call.get("function"), f"{at}.function", _CALLED)
    return _called(optional_text(call, "id", at) or "", function, f"{at}.function")


def _called(call_id: str, function: Json, at: str) -> ToolUseBlock:
    check_keys(function, frozenset({"name", "arguments", "index"}), at)
    arguments, raw = read_arguments(function.get("arguments"), f"{at}.arguments")
    return ToolUseBlock(call_id, required_name(function, "name", at), arguments, raw_input=raw)


def _read_tool(message: Json, at: str) -> Placed:
    call_id = optional_text(message, "tool_call_id", at)
    name = optional_text(message, either(message, "name", "tool_name", at), at)
    if call_id is None and name is None:
        found = read_content(message["content"], f"{at}.content")
        if found and all(isinstance(block, ToolResultBlock) for _, block in found):
            return found
    return [(at, ToolResultBlock(call_id or "", name or "", read_output(message["content"], f"{at}.content")))]


_DESCRIBING = frozenset({"role", "content", "name", "id", "created_at", "timestamp", "metadata"})
_ASSISTANT_KEYS = frozenset(
    {
        *_DESCRIBING,
        "tool_calls",
        "function_call",
        "reasoning_content",
        "reasoning",
        "reasoning_details",
        "thinking",
        "refusal",
        "annotations",
    }
)
_ROLES: dict[str, tuple[frozenset[str], bool, Callable[[Json, str], Placed]]] = {
    "system": (_DESCRIBING, True, _read_plain),
    "developer": (_DESCRIBING, True, _read_plain),
    "user": (_DESCRIBING, True, _read_plain),
    "assistant": (_ASSISTANT_KEYS, False, _read_assistant),
    "tool": (_DESCRIBING | {"tool_call_id", "tool_name"}, True, _read_tool),
    "function": (_DESCRIBING, True, _read_tool),
}
# What a whole reply, ours (`chat`) or Anthropic's (`message`), says about itself.
_NO_KEYS: frozenset[str] = frozenset()
_REPLY_KEYS = {
    "chat": frozenset(
        {
            "type",
            "usage",
            "finish_reason",
            "model",
            "model_name",
            "response_model",
            "requested",
            "attempts",
            "restarts",
            "is_last",
            "delta",
        }
    ),
    "message": frozenset({"type", "usage", "model", "stop_reason", "stop_sequence"}),
}


class _Conversation:
    """The messages so far, and the calls in them that still wait for their results."""

    def __init__(self) -> None:
        self.turns: list[Message] = []
        self.open: dict[str, tuple[str, str]] = {}  # id: (the tool's name, the call's place)
        self.ends_in_tools = False
        self._answers: dict[str, str] = {}  # id: the place of the result
        self._made = 0

    def add(self, role: Role, found: Placed, name: str | None, at: str) -> None:
        """Append a message; results in one that is not a user's become a user's message of their own."""
        for is_result, run in _runs(role, found):
            blocks = self._paired(role, run, at)
            self.turns.append(Message("user", blocks) if is_result else Message(role, blocks, name))
            self.ends_in_tools = False

    def add_results(self, found: Placed) -> None:
        """Append the results of a `tool` message, to the message before it if that came from one too."""
        before = self.turns.pop().blocks if self.ends_in_tools else ()
        self.turns.append(Message("user", (*before, *self._paired("user", found, ""))))
        self.ends_in_tools = True

    def _paired(self, role: Role, run: Placed, at: str) -> tuple[ContentBlock, ...]:
        run = [(place, self._answer(b, place) if isinstance(b, ToolResultBlock) else b) for place, b in run]
        if self.open and role != "system" and any(not isinstance(block, ToolResultBlock) for _, block in run):
            call_id, (_, asked) = next(iter(self.open.items()))
            raise InvalidRequest(f"{at}: call {shown(call_id)} ({asked}) has no result before this message")
        given = {block.id for _, block in run if isinstance(block, ToolUseBlock)}
        return tuple(self._ask(b, place, given) if isinstance(b, ToolUseBlock) else b for place, b in run)

    def _ask(self, block: ToolUseBlock, place: str, given: set[str]) -> ToolUseBlock:
        if not block.id:
            block = replace(block, id=self._new_id(given))
        if block.id in self.open:
            raise InvalidRequest(f"{place}: id {shown(block.id)} is already that of {self.open[block.id][1]}")
        # Some servers count from call_0 again in every turn: an id is free once its call is answered.
        self._answers.pop(block.id, None)
        self.open[block.id] = (block.name, place)
        return block

    def _new_id(self, given: set[str]) -> str:
        while True:
            self._made += 1
            made = f"call_{self._made}"
            if made not in given and made not in self._answers:
                return made

    def _answer(self, block: ToolResultBlock, place: str) -> ToolResultBlock:
        call_id = block.id or self._first_open(block.name, place)
        if call_id not in self.open:
            before = self._answers.get(call_id)
            which = f"which {before} has answered" if before else "which no message before it makes"
            raise InvalidRequest(f"{place}: is a result for call {shown(call_id)}, {which}")
        name, _ = self.open.pop(call_id)
        self._answers[call_id] = place
        return replace(block, id=call_id, name=name)

    def _first_open(self, wanted: str, place: str) -> str:
        ids = [call_id for call_id, (name, _) in self.open.items() if name == wanted or not wanted]
        if not ids:
            of = f" of {shown(wanted)}" if wanted else ""
            raise InvalidRequest(f"{place}: is a result, but no call{of} before it waits for one")
        if not wanted and len(ids) > 1:
            raise InvalidRequest(f"{place}: does not say which of {len(ids)} calls it answers: an id is missing")
        return ids[0]


def _runs(role: Role, found: Placed) -> Iterator[tuple[bool, Placed]]:
    if role == "user":
        return iter([(False, found)] if found else [])
    runs = groupby(found, key=lambda pair: isinstance(pair[1], ToolResultBlock))
    return ((is_result, list(run)) for is_result, run in runs)
