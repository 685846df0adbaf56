"""Normalise messages of all dialects to one neutral form.

`normalise_messages` accepts the messages of OpenAI (chat completions and Responses), Anthropic, Gemini and DashScope,
of AgentScope and other agent frameworks, mixed, and returns frozen `Message`s, whose blocks every provider translates.
The caller's objects are never changed, and never shared with a provider.

Anything without content is left out: empty text, thinking without text or signature, messages without blocks, and
unknown keys. Text that JSON cannot hold is an error in the caller's messages, and is replaced in a model's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
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
    read_is_error,
    read_output,
    read_part,
    read_tool_use,
)
from modelhub.messages.conversation import Conversation
from modelhub.messages.media_sources import detect_image_type, parse_data_url
from modelhub.messages.responses_items import PROVIDER_ITEMS, read_phase
from modelhub.messages.sanitize import change_texts, check_text, copy_json, repair_text
from modelhub.messages.validation import (
    Json,
    as_mapping,
    as_sequence,
    get_first_alias,
    get_optional_text,
    get_required_name,
    make_missing_error,
    make_unknown_error,
)

__all__ = ["normalise_messages"]


def normalise_messages(messages: str | Sequence[Mapping[str, Any]], *, continues: bool = False) -> tuple[Message, ...]:
    """Return *messages* in the neutral form.

    *messages* is text (one user message) or a list of dicts or pydantic objects in any dialect, mixed; replies of ours
    are accepted as well. Tool calls without an id get one, and so does a second call with the id of a pending one. A
    result belongs to the call with its id, or without an id to the first pending call of its tool, and gets that call's
    tool name. Consecutive `tool` messages become one `user` message; results in an assistant or system message become a
    separate `user` message. A user or system message between a call and its results moves behind the results. If the
    conversation *continues* one that is stored at the vendor, results may belong to calls that are not in *messages*.

    Raises `InvalidRequest`, with the path and what was expected, for malformed messages, text that UTF-8 cannot hold,
    results without a call, calls without a result (unless nothing follows them), or no content at all.
    """
    if isinstance(messages, str):
        messages = ({"role": "user", "content": messages},)
    conversation = Conversation(continues=continues)
    for index, message in enumerate(as_sequence(messages, "messages", "a string or a list of messages")):
        # A fast path: most messages are a role and a text.
        if type(message) is dict and len(message) == 2 and not conversation.pending_calls:
            content, role = message.get("content"), message.get("role")
            if type(content) is str and content and content.isascii() and type(role) is str and role in _PLAIN_ROLES:
                conversation.turns.append(Message(_PLAIN_ROLES[role], (TextBlock(content),)))
                conversation.ends_in_tools = conversation.ends_in_items = False
                continue
        _read_message(conversation, message, f"messages[{index}]")
    conversation.finish()
    if not conversation.turns:
        raise InvalidRequest("messages: there is nothing to send" if messages else "messages: the list is empty")
    return tuple(conversation.turns)


_PLAIN_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "model": "assistant",
}
_ROLES = frozenset({*_PLAIN_ROLES, "tool", "function"})
_LANGCHAIN_ROLES = {"human": "user", "ai": "assistant"}


def _read_message(conversation: Conversation, message: object, path: str) -> None:
    mapping = as_mapping(message, path, "a dict with `role` and `content`")
    kind, role = mapping.get("type"), mapping.get("role")
    if isinstance(kind, str) and kind in _ITEM_TYPES and (role is None or kind in PROVIDER_ITEMS):
        block = read_part(mapping, path)
        if isinstance(block, ToolResultBlock):
            conversation.add_results(_make_writable([(path, block)], model=False))
        elif block is not None:
            conversation.add("assistant", _make_writable([(path, block)], model=True), None, path, is_item=True)
        return
    if role is None and isinstance(kind, str):
        # LangChain's messages have the role under `type`.
        role = "assistant" if kind == "chat" else kind if kind in _ROLES or kind in _LANGCHAIN_ROLES else None
    if isinstance(role, str):
        role = _LANGCHAIN_ROLES.get(role, role)
    if role is None and mapping.get("parts") is not None:
        role = "user"  # the default of Google's SDK
    if not isinstance(role, str) or role not in _ROLES:
        raise make_unknown_error(f"{path}.role", "role", role, _ROLES)
    role_sent = _PLAIN_ROLES.get(role)
    is_model = role_sent == "assistant"
    if not is_model and mapping.keys().isdisjoint(_CONTENT_KEYS):
        raise make_missing_error(mapping, "content", path)
    if role_sent is None:
        conversation.add_results(_make_writable(_read_tool(mapping, path), model=False))
        return
    name = get_optional_text(mapping, "name", path)
    blocks = _read_assistant(mapping, path) if is_model else _read_plain(mapping, path)
    located = _add_cache_mark(_make_writable(blocks, model=is_model), mapping, path)
    is_item = kind == "message" or (conversation.ends_in_items and is_model)
    conversation.add(role_sent, located, name and check_text(name, f"{path}.name"), path, is_item=is_item)


def _make_writable(located: Located, *, model: bool) -> Located:
    """Return *located* with text that UTF-8 can hold: repaired in a *model*'s message, else checked."""
    return [
        (place, change_texts(block, repair_text if model else partial(check_text, path=place)))
        for place, block in located
    ]


def _add_cache_mark(located: Located, message: Json, path: str) -> Located:
    """Return *located* with the cache mark of the message, which some frameworks write, on its last block."""
    if not located or (mark := read_cache(message, path)) is None:
        return located
    place, last = located[-1]
    if isinstance(last, (ThinkingBlock, ProviderItemBlock)):
        return located
    return [*located[:-1], (place, last if last.cache is not None else replace(last, cache=mark))]


_ITEM_TYPES = frozenset(
    {
        *("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "reasoning"),
        *SERVER_TOOLS,
        *PROVIDER_ITEMS,
    }
)
"""Types of items in the input of OpenAI's Responses API that are not messages."""


_CONTENT_KEYS = frozenset({"content", "parts", "images"})


def _read_contents(message: Json, path: str) -> Located:
    """Return the blocks under `content`, Gemini's `parts` and Ollama's `images`."""
    located = read_content(message.get("content"), f"{path}.content")
    if message.get("parts") is not None:
        located += read_content(message["parts"], f"{path}.parts")
    if (images := message.get("images")) is not None:
        for index, image in enumerate(as_sequence(images, f"{path}.images", "a list of images")):
            place = f"{path}.images[{index}]"
            if not isinstance(image, str) or not image:
                raise InvalidRequest(f"{place}: expected an image in base64")
            if image.startswith("data:"):
                source = parse_data_url(image, place)
            else:
                source = Base64Source(image, detect_image_type(image) or "image/png")
            located.append((place, MediaBlock("image", source)))
    return located


def _read_plain(message: Json, path: str) -> Located:
    located = _read_contents(message, path)
    for place, block in located:
        if isinstance(block, (ThinkingBlock, ToolUseBlock)):
            kind = "thinking" if isinstance(block, ThinkingBlock) else "tool_use"
            raise InvalidRequest(f"{place}: a {kind} block belongs in an assistant message")
    return located


def _read_assistant(message: Json, path: str) -> Located:
    # Servers that send several of these keys send the same text under each.
    keys = ("reasoning_content", "reasoning", "thinking")
    thoughts = {text: f"{path}.{key}" for key in keys if isinstance(text := message.get(key), str) and text}
    located: Located = [(place, ThinkingBlock(text)) for text, place in thoughts.items()]
    if details := message.get("reasoning_details"):  # OpenRouter's: text, and data that only OpenRouter is sent
        place = f"{path}.reasoning_details"
        items = [copy_json(d, f"{place}[{i}]") for i, d in enumerate(as_sequence(details, place, "a list"))]
        text = "".join(thoughts) or "".join(str(item.get("text") or item.get("summary") or "") for item in items)
        data = json.dumps(items, ensure_ascii=False)
        located = [(place, ThinkingBlock(text, data=data, provider="openai"))]
    located += _read_contents(message, path)
    if message.get("phase") is not None:
        located = [(place, read_phase(message, b) or b if isinstance(b, TextBlock) else b) for place, b in located]
    if refusal := get_optional_text(message, "refusal", path):
        located.append((f"{path}.refusal", TextBlock(refusal)))
    if isinstance(audio := message.get("audio"), Mapping) and (
        transcript := get_optional_text(audio, "transcript", path)
    ):
        located.append((f"{path}.audio", TextBlock(transcript)))
    # LangChain writes a call twice: as the vendor's block, and in a form of its own.
    in_blocks = {(block.id, block.name) for _, block in located if isinstance(block, ToolUseBlock) and block.id}
    calls = _read_calls(message, path)
    return [*located, *((place, call) for place, call in calls if (call.id, call.name) not in in_blocks)]


def _read_calls(message: Json, path: str) -> list[tuple[str, ToolUseBlock]]:
    located: list[tuple[str, ToolUseBlock]] = []
    if (calls := message.get("tool_calls")) is not None:
        for index, call in enumerate(as_sequence(calls, f"{path}.tool_calls", "a list of calls")):
            place = f"{path}.tool_calls[{index}]"
            located.append((place, _read_call(as_mapping(call, place, '{"id": ..., "function": ...}'), place)))
    if (call := message.get("function_call")) is not None:
        place = f"{path}.function_call"
        located.append((place, _read_function("", as_mapping(call, place, _FUNCTION_EXAMPLE), place)))
    return located


_FUNCTION_EXAMPLE = '{"name": ..., "arguments": ...}'


def _read_call(call: Json, path: str) -> ToolUseBlock:
    if call.get("function") is None and call.get("name") is not None:  # LangChain's form: name, args, id
        return read_tool_use(call, path)
    if call.get("type") not in (None, "function"):
        raise make_unknown_error(f"{path}.type", "type", call["type"], ("function",))
    function = as_mapping(call.get("function"), f"{path}.function", _FUNCTION_EXAMPLE)
    block = _read_function(get_optional_text(call, "id", path) or "", function, f"{path}.function")
    extra = call.get("extra_content")  # as Gemini's OpenAI-compatible endpoint writes it
    google = extra.get("google") if isinstance(extra, Mapping) else None
    signature = google.get("thought_signature") if isinstance(google, Mapping) else None
    if isinstance(signature, str) and signature:
        block = replace(block, signature=signature, provider="openai")
    return block


def _read_function(call_id: str, function: Json, path: str) -> ToolUseBlock:
    arguments, raw = read_arguments(function.get("arguments"), None, f"{path}.arguments")
    return ToolUseBlock(call_id, get_required_name(function, "name", path), arguments, raw_input=raw)


def _read_tool(message: Json, path: str) -> Located:
    call_id = get_optional_text(message, "tool_call_id", path)
    name = get_optional_text(message, get_first_alias(message, "name", "tool_name", path), path)
    if call_id is None and (name is None or "parts" in message):
        located = _read_contents(message, path)
        if located and all(isinstance(block, ToolResultBlock) for _, block in located):
            return located
    output = read_output(message.get("content"), f"{path}.content")
    result = ToolResultBlock(call_id or "", name or "", output, read_is_error(message, path), read_cache(message, path))
    return [(path, result)]
