"""Prompts and answers as JSON in the form of the GenAI conventions; they are only recorded on request."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from modelhub.core.response import Block, ChatResponse
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    FileSource,
    MediaBlock,
    Message,
    ProviderItemBlock,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.telemetry import names

__all__ = ["format_reply", "format_messages", "format_tools"]

_Part = dict[str, Any]


def format_messages(messages: tuple[Message, ...]) -> str:
    """Return *messages* as JSON, without signatures and the bytes of media."""
    return _dump_json(
        [{"role": _get_role(message), "parts": [_make_part(block) for block in message.blocks]} for message in messages]
    )


def format_tools(tools: tuple[Tool, ...]) -> str:
    """Return the definitions of *tools* as JSON."""
    return _dump_json(
        [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in tools
        ]
    )


def format_reply(reply: ChatResponse) -> str:
    """Return *reply*, which may be incomplete, as JSON."""
    reason = reply["finish_reason"] or ""
    parts = [_make_reply_part(block) for block in reply["content"]]
    finish_reason = names.FINISH_REASONS.get(reason, reason)
    return _dump_json([{"role": "assistant", "parts": parts, "finish_reason": finish_reason}])


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=dict)


def _get_role(message: Message) -> str:
    results = all(isinstance(block, ToolResultBlock) for block in message.blocks)
    return "tool" if results else message.role


def _make_part(block: ContentBlock) -> _Part:
    return _MAKE_PART[type(block)](block)


def _make_text(block: TextBlock) -> _Part:
    return {"type": "text", "content": block.text}


def _make_reasoning(block: ThinkingBlock) -> _Part:
    return {"type": "reasoning", "content": block.thinking}


def _make_tool_call(block: ToolUseBlock) -> _Part:
    return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": block.input}


def _make_tool_response(block: ToolResultBlock) -> _Part:
    parts = [_make_part(part) for part in block.output]
    only_text = all(part["type"] == "text" for part in parts)
    response = "".join(part["content"] for part in parts) if only_text else parts
    return {"type": "tool_call_response", "id": block.id, "response": response}


def _make_media(block: MediaBlock) -> _Part:
    source = block.source
    common = {"modality": block.kind, "mime_type": source.media_type}
    if isinstance(source, Base64Source):
        return {"type": "blob", **common, "content": ""}
    if isinstance(source, FileSource):
        return {"type": "file", **common, "file_id": source.file_id}
    return {"type": "uri", **common, "uri": source.url if isinstance(source, UrlSource) else source.path}


def _make_item(block: ProviderItemBlock) -> _Part:
    return {"type": str(block.item.get("type")), "content": ""}


_MAKE_PART: Mapping[type, Callable[[Any], _Part]] = {
    TextBlock: _make_text,
    ThinkingBlock: _make_reasoning,
    ToolUseBlock: _make_tool_call,
    ToolResultBlock: _make_tool_response,
    MediaBlock: _make_media,
    ProviderItemBlock: _make_item,
}


def _make_reply_part(block: Block) -> _Part:
    match block["type"]:
        case "text":
            return {"type": "text", "content": block["text"]}
        case "thinking":
            return {"type": "reasoning", "content": block["thinking"]}
        case "tool_use":
            return {"type": "tool_call", "id": block["id"], "name": block["name"], "arguments": block["input"]}
        case "provider_item":
            return {"type": str(block["item"].get("type")), "content": ""}
        case block_type:
            return {"type": "blob", "modality": block_type, "content": ""}
