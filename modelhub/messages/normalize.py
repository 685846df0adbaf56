"""What goes into a call: one neutral form, whatever dialect the caller wrote.

`normalise_messages` accepts OpenAI-style dicts and the seed's blocks, mixed, and gives frozen `Message`s whose blocks
every provider translates. Gemini's messages (`role`, `parts`), the items of OpenAI's Responses API, and what the
formatters of agent frameworks write are accepted like them. The caller's own objects are read, never changed, and
nothing of them is shared with a provider.

What has nothing to send is left out: empty text, thinking without text or signature, messages without blocks, and keys
that no vendor takes. What cannot be written as JSON is an error in the caller's messages, and is replaced in a model's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import (
    Base64Source,
    MediaBlock,
    Message,
    ProviderItemBlock,
    Role,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.messages.content_parts import (
    SERVER_TOOLS,
    Located,
    read_arguments,
    read_cache,
    read_content,
    read_failed,
    read_output,
    read_part,
    read_tool_use,
)
from modelhub.messages.conversation import Conversation
from modelhub.messages.media_sources import from_data_url, image_type
from modelhub.messages.responses_items import PROVIDER_ITEMS, read_phase
from modelhub.messages.sanitize import check_block, check_text, copy_json, repair_block
from modelhub.messages.validation import (
    Json,
    as_mapping,
    as_sequence,
    either,
    missing,
    optional_text,
    required_name,
    unknown,
)

__all__ = ["normalise_messages"]


def normalise_messages(messages: str | Sequence[Mapping[str, Any]], *, continues: bool = False) -> tuple[Message, ...]:
    """The conversation in the neutral form.

    *messages* is text (one user message) or a list of dicts: OpenAI's (chat completions or Responses), Gemini's, the
    seed's, Anthropic's blocks, our own replies, mixed. Vendors' reply objects are read through their `model_dump`. Tool
    calls without an id get one, and so does a second call with the id of one that is still open. Results answer the
    call of their id, or without one the first open call of their name, and every result bears its call's name.
    Consecutive `tool` messages become one `user` message; results in an assistant or system message become a `user`
    message at that place. A user's or system message between a call and its results moves behind the results. If the
    conversation *continues* one that the vendor keeps, results may answer calls that are there.

    Raises `InvalidRequest`, with the place and what was expected, for a wrong shape, text that UTF-8 cannot hold, a
    result without a call, a call without a result (unless nothing follows it), or a conversation with nothing in it.
    """
    if isinstance(messages, str):
        messages = ({"role": "user", "content": messages},)
    talk = Conversation(continues=continues)
    for index, message in enumerate(as_sequence(messages, "messages", "a string or a list of messages")):
        plain = _plain(message)
        if plain is not None and not talk.open:
            talk.turns.append(plain)
            talk.ends_in_tools = talk.ends_in_items = False
        else:
            _read_message(talk, message, f"messages[{index}]")
    talk.finish()
    if not talk.turns:
        raise InvalidRequest("messages: there is nothing to send" if messages else "messages: the list is empty")
    return tuple(talk.turns)


def _plain(message: Any) -> Message | None:
    # Most messages are a role and a text: they skip everything below.
    if type(message) is dict and len(message) == 2:
        content, role = message.get("content"), message.get("role")
        if type(content) is str and content and content.isascii() and type(role) is str and role in _PLAIN_ROLES:
            return Message(_PLAIN_ROLES[role], (TextBlock(content),))
    return None


_PLAIN_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
}
_LANGCHAIN_ROLES = {"human": "user", "ai": "assistant"}


def _read_message(talk: Conversation, message: object, at: str) -> None:
    found = as_mapping(message, at, "a dict with `role` and `content`")
    kind, role = found.get("type"), found.get("role")
    if isinstance(kind, str) and kind in _ITEMS and (role is None or kind in PROVIDER_ITEMS):
        _read_item(talk, found, at)
        return
    if role is None and isinstance(kind, str):
        # LangChain's messages say `type` for the role.
        role = "assistant" if kind == "chat" else kind if kind in _ROLES or kind in _LANGCHAIN_ROLES else None
    if isinstance(role, str):
        role = _LANGCHAIN_ROLES.get(role, role)
    if role is None and found.get("parts") is not None:
        role = "user"  # as Google's SDK has it
    if not isinstance(role, str) or role not in _ROLES:
        raise unknown(f"{at}.role", "role", role, _ROLES)
    needs_content, read = _ROLES[role]
    if needs_content and found.keys().isdisjoint(_CONTENTS):
        raise missing(found, "content", at)
    if role not in _PLAIN_ROLES:
        talk.add_results(_written(read(found, at), model=False))
        return
    name = optional_text(found, "name", at)
    role_sent = _PLAIN_ROLES[role]
    placed = _marked(_written(read(found, at), model=role_sent == "assistant"), found, at)
    is_item = kind == "message" or (talk.ends_in_items and role_sent == "assistant")
    talk.add(role_sent, placed, name and check_text(name, f"{at}.name"), at, is_item=is_item)


def _written(placed: Located, *, model: bool) -> Located:
    """*placed* as JSON in UTF-8 can hold it: repaired in what a *model* wrote, checked in all else."""
    return [(place, repair_block(block) if model else check_block(block, place)) for place, block in placed]


def _marked(placed: Located, message: Json, at: str) -> Located:
    """*placed* with the cache mark of the whole message, which some frameworks write, on the last block."""
    if not placed or (mark := read_cache(message, at)) is None:
        return placed
    place, last = placed[-1]
    if isinstance(last, (ThinkingBlock, ProviderItemBlock)):
        return placed
    return [*placed[:-1], (place, last if last.cache is not None else replace(last, cache=mark))]


_ITEMS = frozenset(
    {
        *("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning"),
        *SERVER_TOOLS,
        *PROVIDER_ITEMS,
    }
)
"""What stands beside messages in the input of OpenAI's Responses API."""


def _read_item(talk: Conversation, item: Json, at: str) -> None:
    block = read_part(item, at)
    if isinstance(block, ToolResultBlock):
        talk.add_results(_written([(at, block)], model=False))
    elif block is not None:
        talk.add("assistant", _written([(at, block)], model=True), None, at, is_item=True)


_CONTENTS = frozenset({"content", "parts", "images"})


def _contents(message: Json, at: str) -> Located:
    """The blocks of the message's content: under `content`, Gemini's `parts`, Ollama's `images`."""
    placed = read_content(message.get("content"), f"{at}.content")
    if message.get("parts") is not None:
        placed += read_content(message["parts"], f"{at}.parts")
    if (images := message.get("images")) is not None:
        listed = enumerate(as_sequence(images, f"{at}.images", "a list of images"))
        placed += [(place, _read_image(image, place)) for place, image in ((f"{at}.images[{i}]", x) for i, x in listed)]
    return placed


def _read_image(image: object, at: str) -> MediaBlock:
    """Ollama's form of an image: its data in base64, without a type."""
    if not isinstance(image, str) or not image:
        raise InvalidRequest(f"{at}: expected an image in base64")
    if image.startswith("data:"):
        return MediaBlock("image", from_data_url(image, at))
    return MediaBlock("image", Base64Source(image, image_type(image) or "image/png"))


def _read_plain(message: Json, at: str) -> Located:
    placed = _contents(message, at)
    for place, block in placed:
        if isinstance(block, (ThinkingBlock, ToolUseBlock)):
            kind = "thinking" if isinstance(block, ThinkingBlock) else "tool_use"
            raise InvalidRequest(f"{place}: a {kind} block belongs in an assistant message")
    return placed


def _read_assistant(message: Json, at: str) -> Located:
    # Servers that write both spellings of the reasoning write the same text twice.
    keys = ("reasoning_content", "reasoning", "thinking")
    thoughts = {text: f"{at}.{key}" for key in keys if isinstance(text := message.get(key), str) and text}
    placed: Located = [(place, ThinkingBlock(text)) for text, place in thoughts.items()]
    if details := message.get("reasoning_details"):
        placed = [_read_details(details, "".join(thoughts), f"{at}.reasoning_details")]
    placed += _contents(message, at)
    if message.get("phase") is not None:
        placed = [(place, read_phase(message, b) or b if isinstance(b, TextBlock) else b) for place, b in placed]
    if refusal := optional_text(message, "refusal", at):
        placed.append((f"{at}.refusal", TextBlock(refusal)))
    if isinstance(audio := message.get("audio"), Mapping) and (spoken := optional_text(audio, "transcript", at)):
        placed.append((f"{at}.audio", TextBlock(spoken)))
    # LangChain writes a call twice: as its vendor's block, and in its own form.
    in_blocks = {(block.id, block.name) for _, block in placed if isinstance(block, ToolUseBlock) and block.id}
    calls = _read_calls(message, at)
    return [*placed, *((place, call) for place, call in calls if (call.id, call.name) not in in_blocks)]


def _read_details(details: object, thought: str, at: str) -> tuple[str, ThinkingBlock]:
    """OpenRouter's form of reasoning: text that anybody may read, and data that only goes back where it came from."""
    listed = [copy_json(detail, f"{at}[{index}]") for index, detail in enumerate(as_sequence(details, at, "a list"))]
    told = "".join(str(detail.get("text") or detail.get("summary") or "") for detail in listed)
    return at, ThinkingBlock(thought or told, data=json.dumps(listed, ensure_ascii=False), provider="openai")


def _read_calls(message: Json, at: str) -> list[tuple[str, ToolUseBlock]]:
    placed: list[tuple[str, ToolUseBlock]] = []
    if (calls := message.get("tool_calls")) is not None:
        for index, call in enumerate(as_sequence(calls, f"{at}.tool_calls", "a list of calls")):
            place = f"{at}.tool_calls[{index}]"
            placed.append((place, _read_call(as_mapping(call, place, '{"id": ..., "function": ...}'), place)))
    if (call := message.get("function_call")) is not None:
        place = f"{at}.function_call"
        placed.append((place, _called("", as_mapping(call, place, _CALLED), place)))
    return placed


_CALLED = '{"name": ..., "arguments": ...}'


def _read_call(call: Json, at: str) -> ToolUseBlock:
    if call.get("function") is None and call.get("name") is not None:  # LangChain's form: name, args, id
        return read_tool_use(call, at)
    if call.get("type") not in (None, "function"):
        raise unknown(f"{at}.type", "type", call["type"], ("function",))
    function = as_mapping(call.get("function"), f"{at}.function", _CALLED)
    block = _called(optional_text(call, "id", at) or "", function, f"{at}.function")
    return replace(block, **_thought_signature(call))


def _thought_signature(call: Json) -> dict[str, Any]:
    """Gemini's signature of a call, where its endpoint for OpenAI's dialect puts it."""
    extra = call.get("extra_content")
    google = extra.get("google") if isinstance(extra, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    return {"signature": signature, "provider": "openai"} if isinstance(signature, str) and signature else {}


def _called(call_id: str, function: Json, at: str) -> ToolUseBlock:
    arguments, raw = read_arguments(function.get("arguments"), None, f"{at}.arguments")
    return ToolUseBlock(call_id, required_name(function, "name", at), arguments, raw_input=raw)


def _read_tool(message: Json, at: str) -> Located:
    call_id = optional_text(message, "tool_call_id", at)
    name = optional_text(message, either(message, "name", "tool_name", at), at)
    if call_id is None and (name is None or "parts" in message):
        placed = _contents(message, at)
        if placed and all(isinstance(block, ToolResultBlock) for _, block in placed):
            return placed
    output = read_output(message.get("content"), f"{at}.content")
    result = ToolResultBlock(call_id or "", name or "", output, read_failed(message, at), read_cache(message, at))
    return [(at, result)]


_ROLES: dict[str, tuple[bool, Callable[[Json, str], Located]]] = {
    "system": (True, _read_plain),
    "developer": (True, _read_plain),
    "user": (True, _read_plain),
    "assistant": (False, _read_assistant),
    "model": (False, _read_assistant),
    "tool": (True, _read_tool),
    "function": (True, _read_tool),
}
