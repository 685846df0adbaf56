"""Prompts and answers as JSON in the form of the GenAI conventions; they are only recorded on request."""

from __future__ import annotations

import json
from typing import Any

from modelhub.core.response import Block, ChatResponse
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    FileSource,
    MediaBlock,
    MediaKind,
    Message,
    ProviderItemBlock,
    Source,
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
    turns = []
    for message in messages:
        only_results = all(isinstance(block, ToolResultBlock) for block in message.blocks)
        parts = [_make_part(block) for block in message.blocks]
        turns.append({"role": "tool" if only_results else message.role, "parts": parts})
    return _dump_json(turns)


def format_tools(tools: tuple[Tool, ...]) -> str:
    """Return the definitions of *tools* as JSON."""
    keys = ("name", "description", "parameters")
    return _dump_json([{"type": "function", **{key: getattr(tool, key) for key in keys}} for tool in tools])


def format_reply(reply: ChatResponse) -> str:
    """Return *reply*, which may be incomplete, as JSON."""
    reason = reply["finish_reason"] or ""
    parts = [_make_reply_part(block) for block in reply["content"]]
    finish_reason = names.FINISH_REASONS.get(reason, reason)
    return _dump_json([{"role": "assistant", "parts": parts, "finish_reason": finish_reason}])


def _dump_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=dict)


def _make_part(block: ContentBlock) -> _Part:
    match block:
        case TextBlock():
            return {"type": "text", "content": block.text}
        case ThinkingBlock():
            return {"type": "reasoning", "content": block.thinking}
        case ToolUseBlock():
            return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": block.input}
        case ToolResultBlock():
            parts = [_make_part(part) for part in block.output]
            only_text = all(part["type"] == "text" for part in parts)
            response = "".join(part["content"] for part in parts) if only_text else parts
            return {"type": "tool_call_response", "id": block.id, "response": response}
        case MediaBlock():
            return _make_media(block.kind, block.source)
        case ProviderItemBlock():
            return {"type": str(block.item.get("type")), "content": ""}


def _make_media(kind: MediaKind, source: Source) -> _Part:
    common = {"modality": kind, "mime_type": source.media_type}
    if isinstance(source, Base64Source):
        return {"type": "blob", **common, "content": ""}
    if isinstance(source, FileSource):
        return {"type": "file", **common, "file_id": source.file_id}
    return {"type": "uri", **common, "uri": source.url if isinstance(source, UrlSource) else source.path}


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
