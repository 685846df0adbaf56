"""Prompts and answers in the form the conventions give them; only who asks for them gets them."""

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

__all__ = ["answer", "conversation", "definitions"]

_Part = dict[str, Any]


def conversation(messages: tuple[Message, ...]) -> str:
    """What was asked, as JSON. Signatures and the bytes of media are left out."""
    return _json(
        [{"role": _role(message), "parts": [_part(block) for block in message.blocks]} for message in messages]
    )


def definitions(tools: tuple[Tool, ...]) -> str:
    """The tools that could be asked for, as JSON."""
    return _json(
        [
            {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.parameters}
            for tool in tools
        ]
    )


def answer(reply: ChatResponse) -> str:
    """What was answered, or as much of it as came, as JSON."""
    reason = reply["finish_reason"] or ""
    parts = [_answered(block) for block in reply["content"]]
    return _json([{"role": "assistant", "parts": parts, "finish_reason": names.FINISH_REASONS.get(reason, reason)}])


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=dict)


def _role(message: Message) -> str:
    results = all(isinstance(block, ToolResultBlock) for block in message.blocks)
    return "tool" if results else message.role


def _part(block: ContentBlock) -> _Part:
    return _PARTS[type(block)](block)


def _text(block: TextBlock) -> _Part:
    return {"type": "text", "content": block.text}


def _thinking(block: ThinkingBlock) -> _Part:
    return {"type": "reasoning", "content": block.thinking}


def _call(block: ToolUseBlock) -> _Part:
    return {"type": "tool_call", "id": block.id, "name": block.name, "arguments": block.input}


def _result(block: ToolResultBlock) -> _Part:
    parts = [_part(part) for part in block.output]
    only_text = all(part["type"] == "text" for part in parts)
    response = "".join(part["content"] for part in parts) if only_text else parts
    return {"type": "tool_call_response", "id": block.id, "response": response}


def _media(block: MediaBlock) -> _Part:
    source = block.source
    about = {"modality": block.kind, "mime_type": source.media_type}
    if isinstance(source, Base64Source):
        return {"type": "blob", **about, "content": ""}
    if isinstance(source, FileSource):
        return {"type": "file", **about, "file_id": source.file_id}
    return {"type": "uri", **about, "uri": source.url if isinstance(source, UrlSource) else source.path}


def _item(block: ProviderItemBlock) -> _Part:
    return {"type": str(block.item.get("type")), "content": ""}


_PARTS: Mapping[type, Callable[[Any], _Part]] = {
    TextBlock: _text,
    ThinkingBlock: _thinking,
    ToolUseBlock: _call,
    ToolResultBlock: _result,
    MediaBlock: _media,
    ProviderItemBlock: _item,
}


def _answered(block: Block) -> _Part:
    match block["type"]:
        case "text":
            return {"type": "text", "content": block["text"]}
        case "thinking":
            return {"type": "reasoning", "content": block["thinking"]}
        case "tool_use":
            return {"type": "tool_call", "id": block["id"], "name": block["name"], "arguments": block["input"]}
        case "provider_item":
            return {"type": str(block["item"].get("type")), "content": ""}
        case kind:
            return {"type": "blob", "modality": kind, "content": ""}
