"""The items of OpenAI's Responses API, as its replies and callers write them, to blocks.

Messages, calls and results are read like everybody's. What is read here has no like elsewhere: reasoning that is
encrypted, calls of tools whose input is free text, and what only OpenAI's servers understand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from modelhub.messages.blocks import ProviderItemBlock, TextBlock, ThinkingBlock, ToolUseBlock
from modelhub.messages.sanitize import copy_json
from modelhub.messages.validation import Json, as_mapping, get_optional_text, get_required_name, get_required_text

__all__ = [
    "PROVIDER_ITEMS",
    "read_call_item",
    "read_custom_call",
    "read_kept_item",
    "read_phase",
    "read_provider_item",
    "read_reasoning",
]

PROVIDER_ITEMS = (
    *("web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
    *("computer_call", "computer_call_output", "local_shell_call", "local_shell_call_output"),
    *("shell_call", "shell_call_output", "apply_patch_call", "apply_patch_call_output"),
    *("mcp_list_tools", "mcp_call", "mcp_approval_request", "mcp_approval_response"),
    *("tool_search_call", "tool_search_output", "additional_tools", "program", "program_output"),
    *("compaction", "compaction_trigger", "configuration_update", "item_reference"),
)
"""Types of items that go back as they came: what OpenAI's own tools did, and what steers them."""
_PROVIDER = "openai"
_CALL_KEYS = ("namespace", "caller")
"""What an item of a call says beside what calls say everywhere."""


def read_reasoning(block: Json, path: str) -> ThinkingBlock | None:
    """Return reasoning as the Responses API and some frameworks write it: its text, and the item if it is one."""
    pieces: list[Any] = [block]
    for key in ("summary", "content"):
        if isinstance(parts := block.get(key), (list, tuple)):
            pieces += parts
    texts = [str(piece.get("text") or piece.get("reasoning") or "") for piece in pieces if isinstance(piece, Mapping)]
    encrypted = get_optional_text(block, "encrypted_content", path) or None
    item = None
    if encrypted or block.get("id") is not None:
        item = copy_json({key: value for key, value in block.items() if key != "encrypted_content"}, path)
    text = "\n\n".join(filter(None, texts))
    return ThinkingBlock(text, encrypted, None, _PROVIDER, item) if text or item else None


def read_custom_call(block: Json, path: str) -> ToolUseBlock:
    """Return the call of a tool whose input is free text: its arguments are one, `input`."""
    return ToolUseBlock(
        get_required_name(block, "call_id", path),
        get_required_name(block, "name", path),
        {"input": get_required_text(block, "input", path)},
        item=_call_keys(block, path) | {"type": "custom_tool_call"},
    )


def read_call_item(block: Json, call: ToolUseBlock, path: str) -> ToolUseBlock:
    """Return *call*, which was read from *block*, with what only the Responses API says of it."""
    kept: dict[str, Any] = {}
    if isinstance(block.get("item"), Mapping):
        kept = copy_json(block["item"], f"{path}.item")
    elif block.get("type") == "function_call":
        kept = _call_keys(block, path)
    return replace(call, item=kept) if kept else call


def _call_keys(block: Json, path: str) -> dict[str, Any]:
    return copy_json({key: block[key] for key in _CALL_KEYS if block.get(key) is not None}, path)


def read_phase(block: Json, text: TextBlock | None) -> TextBlock | None:
    """Return *text*, which was read from *block*, with the phase that the block or message has."""
    phase = block.get("phase")
    return replace(text, phase=phase) if text is not None and isinstance(phase, str) else text


def read_provider_item(block: Json, path: str) -> ProviderItemBlock:
    """Return an item that only OpenAI understands."""
    return ProviderItemBlock(copy_json(block, path), _PROVIDER)


def read_kept_item(block: Json, path: str) -> ProviderItemBlock:
    """Return the block of a reply that has an item of a vendor's own."""
    item = as_mapping(block.get("item"), f"{path}.item", "the vendor's own item, a dict")
    return ProviderItemBlock(
        copy_json(item, f"{path}.item"),
        get_required_name(block, "provider", path),
        get_optional_text(block, "host", path),
    )
