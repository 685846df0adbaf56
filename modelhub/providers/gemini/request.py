"""Requests in Gemini's form: the JSON body of `generateContent`, written from the neutral one.

Pure functions of values. `contents` alternate between `user` and `model`; the results of a turn's calls stand together
right after it, in the order of the calls; what the vendor signed goes back on the part it came with. Media go as data,
or as an address that Google fetches itself: public or signed https, a registered gs:// object, a video on YouTube.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.providers.gemini.schema import gemini_schema
from modelhub.providers.structured_output import Structured

__all__ = ["GENERATED_ID_PREFIX", "PROVIDER_NAME", "SKIP_SIGNATURE", "encode_request"]

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
    if tools := _encode_tools(request.tools, server_tools):
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
    """One entry of `contents` in the making, of a model that is *newer* than those that `_OLDER` names.

    `asked` are the calls of the turn before, `calls` its own, by their ids. `parts` have a rank each, to be sorted by.
    """

    role: str
    newer: bool
    asked: dict[str, Json] = field(default_factory=dict)
    calls: dict[str, Json] = field(default_factory=dict)
    parts: list[tuple[int, Json]] = field(default_factory=list)

    def add(self, part: Json, rank: int = _LAST) -> None:
        self.parts.append((rank, part))

    def add_block(self, block: ContentBlock) -> None:
        """Add *block*, unless only another vendor understands it."""
        match block:
            case TextBlock():
                signed = _signature(block)
                if block.text or signed:
                    self.add({"text": block.text, **signed})
            case ThinkingBlock():
                if block.provider == PROVIDER_NAME:
                    self.add({"text": block.thinking, "thought": True, **_signature(block)})
            case ToolUseBlock():
                self._add_call(block)
            case ToolResultBlock():
                self._add_result(block)
            case MediaBlock():
                self.add(_media_part(block))

    def _add_call(self, block: ToolUseBlock) -> None:
        call: Json = {"name": block.name, "args": block.arguments}
        if block.provider == PROVIDER_NAME and not block.id.startswith(GENERATED_ID_PREFIX):
            call["id"] = block.id
        signed = _signature(block)
        if not signed and self.newer and not self.calls:
            # Only the first call of a turn must be signed, and this one was made elsewhere.
            signed = {"thoughtSignature": SKIP_SIGNATURE}
        self.calls[block.id] = call
        self.add({"functionCall": call, **signed})

    def _add_result(self, block: ToolResultBlock) -> None:
        inside: list[Json] = []
        outside: list[Json] = []
        for media in (part for part in block.output if isinstance(part, MediaBlock)):
            source = media.source
            is_inside = (
                self.newer and isinstance(source, Base64Source) and _media_type(source.media_type) in _IN_RESULTS
            )
            (inside if is_inside else outside).append(_media_part(media))
        text = "\n".join(part.text for part in block.output if isinstance(part, TextBlock))
        answer: Json = {"name": block.name, "response": {"error" if block.is_error else "output": text}}
        if "id" in self.asked.get(block.id, {}):
            answer["id"] = self.asked[block.id]["id"]
        if inside:
            answer["parts"] = inside
        rank = list(self.asked).index(block.id) if block.id in self.asked else len(self.asked)
        self.add({"functionResponse": answer}, rank)
        if outside:
            self.add({"text": f"Attached to the result of `{block.name}`:"})
            for part in outside:
                self.add(part)

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
        if message.role == "system":
            continue
        role = "model" if message.role == "assistant" else "user"
        if turns and not turns[-1].parts:
            turns.pop()  # all of it was thinking that only another vendor can read
        if not turns or turns[-1].role != role:
            turns.append(_Turn(role, newer, asked=turns[-1].calls if turns else {}))
        for block in message.blocks:
            turns[-1].add_block(block)
    contents = [turn.content() for turn in turns if turn.parts]
    if not contents:
        raise UnsupportedFeature("gemini needs at least one message besides system messages")
    if contents[0]["role"] == "model":
        contents.insert(0, {"role": "user", "parts": [{"text": ""}]})  # a call is taken only after a turn of the user
    return contents


def _signature(block: TextBlock | ThinkingBlock | ToolUseBlock) -> Json:
    return {"thoughtSignature": block.signature} if block.signature and block.provider == PROVIDER_NAME else {}


def _media_part(block: MediaBlock) -> Json:
    source = block.source
    if isinstance(source, Base64Source):
        return {"inlineData": {"mimeType": _media_type(source.media_type), "data": source.data}}
    if not isinstance(source, UrlSource) or not source.url.startswith(_FETCHED):
        raise UnsupportedFeature(
            f"gemini cannot fetch the {block.kind}: it takes https:// and gs:// addresses, or data"
        )
    media_type = source.media_type or guess_type(source.url.partition("?")[0], strict=False)[0]
    return {"fileData": {"fileUri": source.url, **({"mimeType": _media_type(media_type)} if media_type else {})}}


def _media_type(name: str) -> str:
    return _MEDIA_TYPES.get(name, name)


# -- tools -------------------------------------------------------------------------------------------------------------


def _encode_tools(tools: Iterable[Tool], server_tools: Any) -> list[Any]:
    """Return the caller's own *server_tools*, dicts or the SDK's objects, as JSON, and the functions *tools*.

    Functions among the caller's own are refused: nothing here runs them.
    """
    encoded: list[Any] = []
    listed = server_tools if isinstance(server_tools, (list, tuple)) else [server_tools] if server_tools else []
    for server_tool in listed:
        if isinstance(server_tool, Mapping):
            encoded.append(dict(server_tool))
        elif hasattr(server_tool, "model_dump"):
            encoded.append(server_tool.model_dump(mode="json", by_alias=True, exclude_none=True))
        else:
            raise InvalidRequest("generate_kwargs.tools: give functions as `tools` of the call, by their JSON schemas")
    declarations: list[Json] = []
    for tool in tools:
        declaration: Json = {"name": tool.name}
        if tool.description:
            declaration["description"] = tool.description
        if tool.parameters.get("properties") or tool.parameters.keys() - {"type", "properties"}:
            declaration["parametersJsonSchema"] = gemini_schema(tool.parameters)
        declarations.append(declaration)
    return [*encoded, {"functionDeclarations": declarations}] if declarations else encoded


_MODES = {"auto": "AUTO", "none": "NONE", "required": "ANY", "tool": "ANY"}
