"""Requests to Ollama: messages, tools and parameters as `/api/chat` takes them. Pure functions of values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelhub.blocks import (
    Base64Source,
    MediaBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.errors import UnsupportedFeature
from modelhub.providers._tool_schema import plain_root

__all__ = ["KIND", "encode_messages", "encode_tools", "set_parameters", "wanted_tool"]

KIND = "ollama"

Wire = dict[str, Any]

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
    if block.thinking and block.provider in (None, KIND):
        turn.thoughts.append(block.thinking)


def _add_call(turn: _Turn, block: ToolUseBlock) -> None:
    turn.calls.append({"id": block.id, "function": {"name": block.name, "arguments": block.arguments}})


def _add_media(turn: _Turn, block: MediaBlock) -> None:
    if block.kind != "image":
        raise UnsupportedFeature(f"ollama cannot take {block.kind}, only text and images")
    if not isinstance(block.source, Base64Source):
        raise UnsupportedFeature("ollama cannot take an image by its address: send the image itself")
    turn.images.append(block.source.data)


_ADD: dict[type, Callable[[_Turn, Any], None]] = {
    TextBlock: _add_text,
    ThinkingBlock: _add_thinking,
    ToolUseBlock: _add_call,
    MediaBlock: _add_media,
}

_MUST_CALL = "Answer by calling one of the tools, not in words of your own."


def encode_messages(messages: Sequence[Message], wanted: str | None) -> list[Wire]:
    """The conversation, with a word about the tool that must be called, if one is *wanted*.

    Neighbours of one role become one message: the server would merge them too, but lose images and calls.
    """
    if wanted is not None:
        messages = (Message("system", (TextBlock(_MUST_CALL),)), *messages)
    turns: list[_Turn] = []
    for message in messages:
        for turn in _turns(message, turns[-1] if turns else None):
            if not turns or turn is not turns[-1]:
                turns.append(turn)
    return [turn.wire() for turn in turns if turn.texts or turn.images or turn.calls or turn.answers]


def _turns(message: Message, last: _Turn | None) -> Iterator[_Turn]:
    results = [block for block in message.blocks if isinstance(block, ToolResultBlock)]
    for result in results:
        last = _Turn("tool", answers=result).add(result.output)
        yield last
    rest = [block for block in message.blocks if not isinstance(block, ToolResultBlock)]
    if rest:
        same = last is not None and last.role == message.role
        yield (last if same and last is not None else _Turn(message.role)).add(rest)


# Tools


def wanted_tool(choice: ToolChoice | None) -> str | None:
    """The name of the tool that must be called, "" for any of them, None where none must."""
    if choice is None or choice.mode in ("auto", "none"):
        return None
    return choice.name or ""


def encode_tools(tools: Sequence[Tool], choice: ToolChoice | None) -> list[Wire]:
    """The tools to show: Ollama knows no choice, so a chosen tool is the only one, and `none` shows none."""
    if choice is not None and choice.mode == "none":
        return []
    return [_tool(tool) for tool in tools if choice is None or choice.name in (None, tool.name)]


def _tool(tool: Tool) -> Wire:
    schema, words = plain_root(tool.parameters)
    function: Wire = {"name": tool.name, "parameters": _without_references(schema)}
    if description := " ".join(filter(None, [tool.description, words])):
        function["description"] = description
    return {"type": "function", "function": function}


def _without_references(schema: Mapping[str, Any]) -> Wire:
    """*schema* with what its `$ref`s name in their place: the server shows a property's schema to the model without
    its `$ref`. A reference inside of what it names stays."""
    named = {f"#/$defs/{name}": found for name, found in (schema.get("$defs") or {}).items()}

    def resolved(value: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [resolved(item, inside) for item in value]
        if not isinstance(value, Mapping):
            return value
        reference = value.get("$ref")
        if isinstance(reference, str) and isinstance(named.get(reference), Mapping) and reference not in inside:
            beside = {key: item for key, item in value.items() if key != "$ref"}
            return resolved({**named[reference], **beside}, (*inside, reference))
        return {key: resolved(item, inside) for key, item in value.items()}

    plain: Wire = resolved({key: value for key, value in schema.items() if key != "$defs"}, ())
    return plain | {"$defs": schema["$defs"]} if "$defs" in schema and _refers(plain) else plain


def _refers(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "$ref" in value or any(_refers(item) for item in value.values())
    return isinstance(value, list) and any(_refers(item) for item in value)


# Parameters

_OF_THE_REQUEST = frozenset({"format", "keep_alive", "logprobs", "shift", "think", "top_logprobs", "truncate"})
_ALIASES = {"enable_thinking": "think"}


def set_parameters(body: Wire, *layers: Mapping[str, Any]) -> None:
    """Put parameters into *body*, later layers over earlier ones; None takes a parameter out.

    What is no parameter of the request itself, such as `temperature`, is one of its `options`: the server would
    overlook it anywhere else.
    """
    options: Wire = {}
    for layer in layers:
        for name, value in layer.items():
            key = _ALIASES.get(name, name)
            if key == "options":
                options |= value or {}
            else:
                (body if key in _OF_THE_REQUEST else options)[key] = value
    for key in [key for key in _OF_THE_REQUEST if key in body and body[key] is None]:
        del body[key]
    if options := {key: value for key, value in options.items() if value is not None}:
        body["options"] = options
