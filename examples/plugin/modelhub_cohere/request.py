"""A conversation in Cohere's form."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from modelhub import UnsupportedFeature
from modelhub import messages as neutral
from modelhub.providers import ChatRequest, Structured

Json = dict[str, Any]


def encode(
    model_name: str, request: ChatRequest, structured: Structured | None, stream: bool, parameters: Mapping[str, Any]
) -> Json:
    """Return the body of *request*; *parameters* go into it as they are."""
    body: Json = {"model": model_name, "messages": list(_messages(request.messages)), "stream": stream, **parameters}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
    if (choice := request.tool_choice) is not None and choice.mode != "auto":
        if choice.name is not None:  # one tool can only be demanded by showing no other
            body["tools"] = [_tool(tool) for tool in request.tools if tool.name == choice.name]
        body["tool_choice"] = "NONE" if choice.mode == "none" else "REQUIRED"
    if structured is not None:
        body["response_format"] = {"type": "json_object", "json_schema": structured.schema}
    return body


def _messages(messages: Iterable[neutral.Message]) -> Iterator[Json]:
    for message in messages:
        yield from (_result(block) for block in message.blocks if isinstance(block, neutral.ToolResultBlock))
        parts = [part for block in message.blocks if (part := _part(block)) is not None]
        calls = [_call(block) for block in message.blocks if isinstance(block, neutral.ToolUseBlock)]
        if calls or parts:
            filled = {"content": parts, "tool_calls": calls}
            yield {"role": message.role, **{key: value for key, value in filled.items() if value}}


def _part(block: Any) -> Json | None:
    if isinstance(block, neutral.TextBlock):
        return {"type": "text", "text": block.text}
    if isinstance(block, neutral.ThinkingBlock) and block.provider in (None, "cohere"):
        return {"type": "thinking", "thinking": block.thinking}
    if not isinstance(block, neutral.MediaBlock):
        return None
    if block.kind != "image" or not isinstance(block.source, neutral.Base64Source | neutral.UrlSource):
        raise UnsupportedFeature(f"cohere cannot take {block.kind}, only text and images")
    return {"type": "image_url", "image_url": {"url": block.source.url}}


def _call(block: neutral.ToolUseBlock) -> Json:
    function = {"name": block.name, "arguments": json.dumps(block.arguments)}
    return {"id": block.id, "type": "function", "function": function}


def _result(block: neutral.ToolResultBlock) -> Json:
    text = "\n".join(part.text for part in block.output if isinstance(part, neutral.TextBlock))
    return {"role": "tool", "tool_call_id": block.id, "content": text}


def _tool(tool: neutral.Tool) -> Json:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
