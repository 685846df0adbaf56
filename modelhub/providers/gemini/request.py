"""Requests in Gemini's form: the JSON body of `generateContent`, written from the neutral one.

Pure functions of values. `contents` alternate between `user` and `model`; the results of a turn's calls stand together
right after it, in the order of the calls; what the vendor signed goes back on the part it came with. Media go as data,
or as an address that Google fetches itself: public or signed https, a registered gs:// object, a video on YouTube.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from mimetypes import guess_type
from typing import Any, Literal

from modelhub.core.errors import InvalidRequest, UnsupportedFeature
from modelhub.core.request import ChatRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
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
from modelhub.providers.gemini.schema import gemini_schema
from modelhub.providers.structured_output import Method, Structured

__all__ = ["GENERATED_ID_PREFIX", "PROVIDER_NAME", "SKIP_SIGNATURE", "encode_request", "structured_method"]

Json = dict[str, Any]

PROVIDER_NAME = "gemini"
"""What blocks with something of this vendor's in them are marked with."""

GENERATED_ID_PREFIX = "gemini_call_"
"""How the ids begin that we give to calls which came without one; the vendor never sees them."""

SKIP_SIGNATURE = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I="
"""`skip_thought_signature_validator`, Google's word for a call that it did not make: Gemini 3 demands a signature."""

# Generations that know neither signatures that must be there nor media inside of tool results.
_OLDER = re.compile(r"gemini-[12]\b|gemma|bison")
# Gemma has no place for instructions but the user's turn, and no JSON mode.
_NO_SYSTEM = re.compile(r"gemma-?[123]")
_IN_RESULTS = frozenset({"image/png", "image/jpeg", "image/webp", "application/pdf", "text/plain"})
_MEDIA_TYPES = {"image/jpg": "image/jpeg", "audio/x-wav": "audio/wav", "audio/vnd.wave": "audio/wav"}
_FETCHED = ("https://", "http://", "gs://")
_LAST = 1_000_000


def encode_request(
    request: ChatRequest, structured: Structured | None, model_name: str, server_tools: Any = None
) -> Json:
    """The body for *request*; *server_tools* are the caller's own entries of `tools` (Google's search, ...)."""
    contents = _contents(request.messages, newer=not _OLDER.search(model_name))
    body: Json = {"contents": contents}
    if system := _system(request.messages):
        if _NO_SYSTEM.search(model_name):
            _in_turn(contents, 0, system)
        else:
            body["systemInstruction"] = {"parts": system}
    tools = _server_tools(server_tools)
    if request.tools:
        tools.append({"functionDeclarations": [_declaration(tool) for tool in request.tools]})
    if tools:
        body["tools"] = tools
    if (choice := request.tool_choice) is not None:
        names = {} if choice.name is None else {"allowedFunctionNames": [choice.name]}
        body["toolConfig"] = {"functionCallingConfig": {"mode": _MODES[choice.mode], **names}}
    if structured is not None and structured.method == "prompt":
        _in_turn(contents, -1, [{"text": structured.prompt()}])
    elif structured is not None:
        body["generationConfig"] = {
            "responseMimeType": "application/json",
            "responseJsonSchema": gemini_schema(structured.schema),
        }
    return body


def structured_method(model_name: str) -> Method:
    """How *model_name* is asked for structured output: Gemma has no JSON mode."""
    return "prompt" if "gemma" in model_name else "native"


def _in_turn(contents: list[Json], place: Literal[0, -1], parts: list[Json]) -> None:
    """Put *parts* at the beginning (0) or the end (-1) of the conversation, in the user's words."""
    turn = contents[place]
    if turn["role"] != "user":
        contents.insert(0 if place == 0 else len(contents), {"role": "user", "parts": parts})
    else:
        turn["parts"] = [*parts, *turn["parts"]] if place == 0 else [*turn["parts"], *parts]


# -- messages ----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Turn:
    """One entry of `contents` in the making. `asked` are the calls of the turn before, `calls` its own: id to call."""

    role: str
    newer: bool
    asked: dict[str, Json] = field(default_factory=dict)
    calls: dict[str, Json] = field(default_factory=dict)
    parts: list[tuple[int, Json]] = field(default_factory=list)

    def add(self, part: Json, rank: int = _LAST) -> None:
        self.parts.append((rank, part))

    def content(self) -> Json:
        ranked = sorted(self.parts, key=lambda pair: pair[0])
        return {"role": self.role, "parts": [part for _, part in ranked]}


def _system(messages: Iterable[Message]) -> list[Json]:
    blocks = [block for message in messages if message.role == "system" for block in message.blocks]
    if any(not isinstance(block, TextBlock) for block in blocks):
        raise UnsupportedFeature("gemini takes text only in system messages")
    return [{"text": block.text} for block in blocks if isinstance(block, TextBlock) and block.text]


def _contents(messages: Iterable[Message], *, newer: bool) -> list[Json]:
    turns: list[_Turn] = []
    for message in messages:
        if message.role != "system":
            turn = _open_turn(turns, "model" if message.role == "assistant" else "user", newer)
            for block in message.blocks:
                _WRITERS[type(block)](block, turn)
    contents = [turn.content() for turn in turns if turn.parts]
    if not contents:
        raise UnsupportedFeature("gemini needs at least one message besides system messages")
    if contents[0]["role"] == "model":
        contents.insert(0, {"role": "user", "parts": [{"text": ""}]})  # a call is taken only after a turn of the user
    return contents


def _open_turn(turns: list[_Turn], role: str, newer: bool) -> _Turn:
    if turns and not turns[-1].parts:
        turns.pop()  # all of it was thinking that only another vendor can read
    if not turns or turns[-1].role != role:
        turns.append(_Turn(role, newer, asked=turns[-1].calls if turns else {}))
    return turns[-1]


def _write_text(block: TextBlock, turn: _Turn) -> None:
    signed = _signature(block)
    if block.text or signed:
        turn.add({"text": block.text, **signed})


def _write_thinking(block: ThinkingBlock, turn: _Turn) -> None:
    if block.provider == PROVIDER_NAME:
        turn.add({"text": block.thinking, "thought": True, **_signature(block)})


def _signature(block: TextBlock | ThinkingBlock | ToolUseBlock) -> Json:
    return {"thoughtSignature": block.signature} if block.signature and block.provider == PROVIDER_NAME else {}


def _write_call(block: ToolUseBlock, turn: _Turn) -> None:
    call: Json = {"name": block.name, "args": block.arguments}
    if block.provider == PROVIDER_NAME and not block.id.startswith(GENERATED_ID_PREFIX):
        call["id"] = block.id
    signed = _signature(block)
    if not signed and turn.newer and not turn.calls:
        # Only the first call of a turn must be signed, and this one was made elsewhere.
        signed = {"thoughtSignature": SKIP_SIGNATURE}
    turn.calls[block.id] = call
    turn.add({"functionCall": call, **signed})


def _write_result(block: ToolResultBlock, turn: _Turn) -> None:
    call = turn.asked.get(block.id, {})
    rank = list(turn.asked).index(block.id) if block.id in turn.asked else len(turn.asked)
    media = [part for part in block.output if isinstance(part, MediaBlock)]
    inside = [part for part in media if turn.newer and _goes_inside(part)]
    text = "\n".join(part.text for part in block.output if isinstance(part, TextBlock))
    answer: Json = {"name": block.name, "response": {"error" if block.is_error else "output": text}}
    if "id" in call:
        answer["id"] = call["id"]
    if inside:
        answer["parts"] = [_media_part(part) for part in inside]
    turn.add({"functionResponse": answer}, rank)
    if rest := [part for part in media if part not in inside]:
        turn.add({"text": f"Attached to the result of `{block.name}`:"})
        for part in rest:
            turn.add(_media_part(part))


def _goes_inside(block: MediaBlock) -> bool:
    return isinstance(block.source, Base64Source) and _media_type(block.source.media_type) in _IN_RESULTS


def _write_media(block: MediaBlock, turn: _Turn) -> None:
    turn.add(_media_part(block))


def _drop(block: ProviderItemBlock, turn: _Turn) -> None:
    """Leave out what only another vendor understands."""


def _media_part(block: MediaBlock) -> Json:
    source = block.source
    if isinstance(source, Base64Source):
        return {"inlineData": {"mimeType": _media_type(source.media_type), "data": source.data}}
    if not isinstance(source, UrlSource) or not source.url.startswith(_FETCHED):
        raise UnsupportedFeature(
            f"gemini cannot fetch the {block.kind}: it takes https:// and gs:// addresses, or data"
        )
    found = source.media_type or guess_type(source.url.partition("?")[0], strict=False)[0]
    return {"fileData": {"fileUri": source.url, **({"mimeType": _media_type(found)} if found else {})}}


def _media_type(name: str) -> str:
    return _MEDIA_TYPES.get(name, name)


_WRITERS: dict[type[ContentBlock], Callable[[Any, _Turn], None]] = {
    TextBlock: _write_text,
    ThinkingBlock: _write_thinking,
    ToolUseBlock: _write_call,
    ToolResultBlock: _write_result,
    MediaBlock: _write_media,
    ProviderItemBlock: _drop,
}

# -- tools -------------------------------------------------------------------------------------------------------------


def _declaration(tool: Tool) -> Json:
    found: Json = {"name": tool.name}
    if tool.description:
        found["description"] = tool.description
    if tool.parameters.get("properties") or tool.parameters.keys() - {"type", "properties"}:
        found["parametersJsonSchema"] = gemini_schema(tool.parameters)
    return found


def _server_tools(tools: Any) -> list[Any]:
    """The caller's own `tools` as JSON: dicts, or the SDK's objects. Functions are refused: nothing here runs them."""
    found = []
    for tool in tools if isinstance(tools, (list, tuple)) else [tools] if tools else []:
        if isinstance(tool, Mapping):
            found.append(dict(tool))
        elif hasattr(tool, "model_dump"):
            found.append(tool.model_dump(mode="json", by_alias=True, exclude_none=True))
        else:
            raise InvalidRequest("generate_kwargs.tools: give functions as `tools` of the call, by their JSON schemas")
    return found


_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}
