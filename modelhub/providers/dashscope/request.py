"""Requests to DashScope: messages and parameters of its own (native) API. Pure functions of values.

The API has two endpoints: one takes text only, content being a string; the other one takes media too, and content is a
list of `{"text": ...}`, `{"image": ...}` and so on. They differ in nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelhub.core.errors import UnsupportedFeature
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    MediaBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
    find_media,
)
from modelhub.providers.dashscope.schema import encode_tools
from modelhub.providers.structured_output import CALL_PROMPT, Structured, offer_tools

__all__ = ["PROVIDER_NAME", "encode_request", "is_multimodal", "must_stream"]

PROVIDER_NAME = "dashscope"

Wire = dict[str, Any]

_MULTIMODAL = re.compile(r"^qvq|-vl\b|-vl-|omni|-ocr|-audio|^gui-|^qwen3\.[5-9](?!.*(-max|-coder))")
"""Models that live on the multimodal endpoint only, by their names: elsewhere they answer "url error"."""

_STREAM_ONLY = re.compile(r"^qwq|^qvq|-thinking|omni|^qwen3(\.\d+)?-\d")
"""Models that answer in streams only, or as long as they think: thinking-only, omni and open-weight Qwen3 models."""


def must_stream(model_name: str, parameters: Mapping[str, Any]) -> bool:
    """Whether the vendor gives this model's answer as a stream only."""
    return parameters.get("enable_thinking") is True or _STREAM_ONLY.search(model_name) is not None


def is_multimodal(model_name: str, messages: Iterable[Message], multimodality: bool | None) -> bool:
    """Which endpoint to take: as *multimodality* says, else by what is in the messages, else by the model's name."""
    media = any(find_media(messages))
    if multimodality is False and media:
        raise UnsupportedFeature("dashscope cannot take media with `multimodality: false`")
    return multimodality if multimodality is not None else media or _MULTIMODAL.search(model_name) is not None


# Requests


def encode_request(
    model_name: str,
    request: ChatRequest,
    structured: Structured | None,
    stream: bool,
    parameters: Mapping[str, Any],
    multimodal: bool,
) -> Wire:
    """Return the body of *request*. Raises UnsupportedFeature for what the vendor cannot take."""
    tools, choice, instruction = offer_tools(request, structured)
    if choice is not None and choice.mode == "required":
        instruction = CALL_PROMPT
    return {
        "model": model_name,
        "input": {"messages": _encode_messages(request.messages, multimodal, instruction)},
        "parameters": {
            "result_format": "message",
            **({"incremental_output": True} if stream else {}),
            **parameters,
            **encode_tools(tools, choice, parameters.get("enable_thinking") is True),
        },
    }


# Messages


def _parts(blocks: Iterable[ContentBlock]) -> list[Wire]:
    """Return the texts and media among *blocks*. Raises UnsupportedFeature for media that the vendor cannot take."""
    parts: list[Wire] = []
    for block in blocks:
        match block:
            case TextBlock():
                part: Wire = {"text": block.text}
            case MediaBlock(kind="document"):
                raise UnsupportedFeature("dashscope cannot take documents, only text, images, audio and video")
            case MediaBlock(source=Base64Source(url=url)):
                part = {block.kind: url}
            # Nothing that the SDK or the vendor would read from a disk: files are in the message by now.
            case MediaBlock(source=UrlSource(url=url)) if url.lower().startswith(("http://", "https://")):
                part = {block.kind: url}
            case MediaBlock():
                raise UnsupportedFeature("dashscope cannot take media by an address that is not http:// or https://")
            case _:
                continue
        if block.cache:
            part["cache_control"] = dict(block.cache)
        parts.append(part)
    return parts


def _content(parts: list[Wire], multimodal: bool, separator: str = "\n") -> Any:
    # Cache marks stand on parts, which the text endpoint takes too.
    if multimodal or any("cache_control" in part for part in parts):
        return parts
    return separator.join(part["text"] for part in parts)


def _encode_messages(messages: Sequence[Message], multimodal: bool, instruction: str | None) -> list[Wire]:
    """The conversation. System messages go together to the front, where the vendor wants them, *instruction* last."""
    system = [part for message in messages if message.role == "system" for part in _parts(message.blocks)]
    system += [{"text": instruction}] if instruction else []
    encoded: list[Wire] = [{"role": "system", "content": _content(system, multimodal, "\n\n")}] if system else []
    for message in messages:
        if message.role == "user":
            encoded += _encode_user(message.blocks, multimodal)
        elif message.role == "assistant":
            encoded += _encode_assistant(message.blocks, multimodal)
    return encoded


def _encode_user(blocks: Sequence[ContentBlock], multimodal: bool) -> list[Wire]:
    """Return each result of a tool as a message, then the user's. A tool's holds text: its media are the user's."""
    encoded: list[Wire] = []
    parts: list[Wire] = []
    for block in blocks:
        if isinstance(block, ToolResultBlock):
            texts = _parts(part for part in block.output if isinstance(part, TextBlock))
            if block.is_error:  # there is no place for it but the text
                texts.insert(0, {"text": "Error:"})
            content = _content(texts, multimodal)
            encoded.append({"role": "tool", "tool_call_id": block.id, "name": block.name, "content": content})
            parts += _parts(part for part in block.output if isinstance(part, MediaBlock))
    parts += _parts(blocks)
    return [*encoded, {"role": "user", "content": _content(parts, multimodal)}] if parts else encoded


def _encode_assistant(blocks: Sequence[ContentBlock], multimodal: bool) -> list[Wire]:
    message: Wire = {"role": "assistant", "content": _content(_parts(blocks), multimodal)}
    thoughts = [
        block.thinking
        for block in blocks
        if isinstance(block, ThinkingBlock) and block.provider in (None, PROVIDER_NAME)
    ]
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls := [block for block in blocks if isinstance(block, ToolUseBlock)]:
        message["tool_calls"] = []
        for index, call in enumerate(calls):
            function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
            message["tool_calls"].append({"id": call.id, "type": "function", "index": index, "function": function})
    return [message] if len(message) > 2 or message["content"] else []
