"""Requests to Ollama: messages, tools and parameters as `/api/chat` takes them. Pure functions of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelhub.core.errors import UnsupportedFeature
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import (
    Base64Source,
    MediaBlock,
    Message,
    ProviderItemBlock,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.providers.ollama.schema import inline_references
from modelhub.providers.prompts import CALL_PROMPT
from modelhub.providers.structured_output import Structured
from modelhub.providers.tool_schema import plain_root

__all__ = ["PROVIDER_NAME", "encode_request"]

PROVIDER_NAME = "ollama"

Wire = dict[str, Any]


def encode_request(model_name: str, request: ChatRequest, structured: Structured | None, stream: bool) -> Wire:
    """Return the body of *request*. Raises UnsupportedFeature for what the vendor cannot take."""
    choice = request.tool_choice
    must_call = choice is not None and choice.mode in ("required", "tool")
    messages = _encode_messages(request.messages, must_call)
    body: Wire = {"model": model_name, "stream": stream, "messages": messages}
    if tools := _encode_tools(request.tools, request.tool_choice):
        body["tools"] = tools
    if structured is not None:
        body["format"] = structured.schema
    _set_parameters(body, request.options)
    return body


# Messages


@dataclass
class _Turn:
    """A message in the making."""

    role: str
    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)
    calls: list[Wire] = field(default_factory=list)
    answers: ToolResultBlock | None = None

    def add(self, blocks: Iterable[Any]) -> _Turn:
        for block in blocks:
            _ADD[type(block)](self, block)
        return self

    def wire(self) -> Wire:
        found: Wire = {"role": self.role, "content": "\n\n".join(self.texts)}
        if self.thoughts:
            found["thinking"] = "\n".join(self.thoughts)
        if self.images:
            found["images"] = self.images
        if self.calls:
            found["tool_calls"] = self.calls
        if self.answers is not None:  # older servers go by the name, newer ones by the id
            found |= {"tool_name": self.answers.name, "tool_call_id": self.answers.id}
        return found


def _add_text(turn: _Turn, block: TextBlock) -> None:
    turn.texts.append(block.text)


def _add_thinking(turn: _Turn, block: ThinkingBlock) -> None:
    # Nothing is signed here; what another vendor wrote would still not be this model's thought.
    if block.thinking and block.provider in (None, PROVIDER_NAME):
        turn.thoughts.append(block.thinking)


def _add_call(turn: _Turn, block: ToolUseBlock) -> None:
    turn.calls.append({"id": block.id, "function": {"name": block.name, "arguments": block.arguments}})


def _add_media(turn: _Turn, block: MediaBlock) -> None:
    if block.kind != "image":
        raise UnsupportedFeature(f"ollama cannot take {block.kind}, only text and images")
    if not isinstance(block.source, Base64Source):
        raise UnsupportedFeature("ollama cannot take an image by its address: send the image itself")
    turn.images.append(block.source.data)


def _drop(turn: _Turn, block: ProviderItemBlock) -> None:
    """Leave out what only another vendor understands."""


_ADD: dict[type, Callable[[_Turn, Any], None]] = {
    TextBlock: _add_text,
    ThinkingBlock: _add_thinking,
    ToolUseBlock: _add_call,
    MediaBlock: _add_media,
    ProviderItemBlock: _drop,
}


def _encode_messages(messages: Sequence[Message], must_call: bool) -> list[Wire]:
    """Return the conversation, with the request to call a tool in front of it if the model *must_call* one.

    Neighbours of one role become one message: the server would merge them too, but lose images and calls.
    """
    if must_call:
        messages = (Message("system", (TextBlock(CALL_PROMPT),)), *messages)
    turns: list[_Turn] = []
    for message in messages:
        for turn in _turns(message, turns[-1] if turns else None):
            if not turns or turn is not turns[-1]:
                turns.append(turn)
    return [turn.wire() for turn in turns if turn.texts or turn.images or turn.calls or turn.answers]


def _turns(message: Message, last: _Turn | None) -> Iterator[_Turn]:
    for result in message.blocks:
        if isinstance(result, ToolResultBlock):
            last = _Turn("tool", answers=result).add(result.output)
            yield last
    rest = [block for block in message.blocks if not isinstance(block, ToolResultBlock)]
    if rest:
        turn = last if last is not None and last.role == message.role else _Turn(message.role)
        yield turn.add(rest)


# Tools


def _encode_tools(tools: Sequence[Tool], choice: ToolChoice | None) -> list[Wire]:
    """The tools to show: Ollama knows no choice, so a chosen tool is the only one, and `none` shows none."""
    if choice is not None and choice.mode == "none":
        return []
    return [_tool(tool) for tool in tools if choice is None or choice.name in (None, tool.name)]


def _tool(tool: Tool) -> Wire:
    schema, words = plain_root(tool.parameters)
    function: Wire = {"name": tool.name, "parameters": inline_references(schema)}
    if description := " ".join(filter(None, [tool.description, words])):
        function["description"] = description
    return {"type": "function", "function": function}


# Parameters

_OF_THE_REQUEST = frozenset({"format", "keep_alive", "logprobs", "shift", "think", "top_logprobs", "truncate"})
_ALIASES = {"enable_thinking": "think"}


def _set_parameters(body: Wire, parameters: Mapping[str, Any]) -> None:
    """Put *parameters* into *body*.

    What is no parameter of the request itself, such as `temperature`, is one of its `options`: the server would
    overlook it anywhere else.
    """
    options: Wire = {}
    for name, value in parameters.items():
        key = _ALIASES.get(name, name)
        (body if key in _OF_THE_REQUEST else options)[key] = value
    if options:
        body["options"] = options
