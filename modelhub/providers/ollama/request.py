"""Requests to Ollama: messages, tools and parameters as `/api/chat` takes them. Pure functions of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
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
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.providers.ollama.schema import inline_references
from modelhub.providers.structured_output import CALL_PROMPT, Structured
from modelhub.providers.tool_schema import plain_root

__all__ = ["PROVIDER_NAME", "encode_request"]

PROVIDER_NAME = "ollama"

Wire = dict[str, Any]

_OF_THE_REQUEST = frozenset({"format", "keep_alive", "logprobs", "shift", "think", "top_logprobs", "truncate"})
"""Parameters of the request itself; any other, such as `temperature`, is one of its `options`.

The server would overlook it anywhere else.
"""
_ALIASES = {"enable_thinking": "think"}


def encode_request(model_name: str, request: ChatRequest, structured: Structured | None, stream: bool) -> Wire:
    """Return the body of *request*. Raises UnsupportedFeature for what the vendor cannot take."""
    choice, messages = request.tool_choice, request.messages
    if choice is not None and choice.mode in ("required", "tool"):
        messages = (Message("system", (TextBlock(CALL_PROMPT),)), *messages)
    body: Wire = {"model": model_name, "stream": stream, "messages": _encode_messages(messages)}
    if tools := _encode_tools(request.tools, choice):
        body["tools"] = tools
    if structured is not None:
        body["format"] = structured.schema
    options: Wire = {}
    for name, value in request.options.items():
        key = _ALIASES.get(name, name)
        (body if key in _OF_THE_REQUEST else options)[key] = value
    if options:
        body["options"] = options
    return body


def _encode_tools(tools: Sequence[Tool], choice: ToolChoice | None) -> list[Wire]:
    """Return the tools to show: Ollama knows no choice, so a chosen tool is the only one, and `none` shows none."""
    shown = []
    for tool in tools:
        if choice is not None and (choice.mode == "none" or choice.name not in (None, tool.name)):
            continue
        schema, description = plain_root(tool)
        function: Wire = {"name": tool.name, "parameters": inline_references(schema)}
        if description:
            function["description"] = description
        shown.append({"type": "function", "function": function})
    return shown


# -- messages ----------------------------------------------------------------------------------------------------------


@dataclass
class _MessageDraft:
    """A message in the making; `result` is what a tool gave back, if it is one of a tool."""

    role: str
    result: ToolResultBlock | None = None
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    calls: list[Wire] = field(default_factory=list)

    def add(self, block: ContentBlock) -> None:
        """Add *block*, unless only another vendor understands it. Raises UnsupportedFeature for media but images."""
        match block:
            case TextBlock():
                self.texts.append(block.text)
            case ThinkingBlock():
                # Nothing is signed here; what another vendor wrote would still not be this model's thought.
                if block.thinking and block.provider in (None, PROVIDER_NAME):
                    self.thoughts.append(block.thinking)
            case ToolUseBlock():
                self.calls.append({"id": block.id, "function": {"name": block.name, "arguments": block.arguments}})
            case MediaBlock(kind="image", source=Base64Source(data=data)):
                self.images.append(data)
            case MediaBlock(kind="image"):
                raise UnsupportedFeature("ollama cannot take an image by its address: send the image itself")
            case MediaBlock():
                raise UnsupportedFeature(f"ollama cannot take {block.kind}, only text and images")

    def encode(self) -> Wire:
        message: Wire = {"role": self.role, "content": "\n\n".join(self.texts)}
        if self.thoughts:
            message["thinking"] = "\n".join(self.thoughts)
        if self.images:
            message["images"] = self.images
        if self.calls:
            message["tool_calls"] = self.calls
        if self.result is not None:  # older servers go by the name, newer ones by the id
            message |= {"tool_name": self.result.name, "tool_call_id": self.result.id}
        return message


def _encode_messages(messages: Sequence[Message]) -> list[Wire]:
    """Return the conversation.

    Neighbours of one role become one message: the server would merge them too, but lose images and calls.
    """
    drafts: list[_MessageDraft] = []
    for message in messages:
        other_blocks = []
        for block in message.blocks:
            if isinstance(block, ToolResultBlock):
                drafts.append(_MessageDraft("tool", block))
                for part in block.output:
                    drafts[-1].add(part)
            else:
                other_blocks.append(block)
        if other_blocks and not (drafts and drafts[-1].role == message.role):
            drafts.append(_MessageDraft(message.role))
        for block in other_blocks:
            drafts[-1].add(block)
    return [draft.encode() for draft in drafts if draft.texts or draft.images or draft.calls or draft.result]
