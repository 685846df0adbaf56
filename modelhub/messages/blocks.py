"""What a conversation is made of, in one neutral form: messages of blocks, media by where they are, tools."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "Base64Source",
    "ContentBlock",
    "FileSource",
    "MediaBlock",
    "MediaKind",
    "Message",
    "PathSource",
    "ProviderItemBlock",
    "Role",
    "Source",
    "TextBlock",
    "ThinkingBlock",
    "Tool",
    "ToolChoice",
    "ToolResultBlock",
    "ToolUseBlock",
    "UrlSource",
    "find_media",
]

MediaKind = Literal["image", "audio", "video", "document"]


@dataclass(frozen=True, slots=True)
class UrlSource:
    """Media at an address the vendor fetches itself."""

    url: str
    media_type: str | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Base64Source:
    """Media in the message: *text* is its data in base64, or a `data:` URL in which they begin at *start*.

    An image may be as big as everything else in a process. So the URL is kept as it came, and taken apart for vendors
    who want it so.
    """

    text: str
    media_type: str
    start: int = 0

    @property
    def data(self) -> str:
        """The data, in base64."""
        return self.text[self.start :]

    @property
    def url(self) -> str:
        """The same as a `data:` URL."""
        head = f"data:{self.media_type};base64,"
        return self.text if self.start and self.text.startswith(head) else head + self.data

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Base64Source):
            return NotImplemented
        return (self.media_type, self.data) == (other.media_type, other.data)

    def __hash__(self) -> int:
        return hash((self.media_type, self.data))

    def __repr__(self) -> str:
        return f"Base64Source({len(self.text) - self.start} characters, {self.media_type!r})"


@dataclass(frozen=True, slots=True)
class PathSource:
    """Media in a local file, which is read before anything is sent.

    `origin` says how it was named: by a `pathlib.Path` ("object"), which only the app itself can make, by a source of
    the type `path` ("block"), or by an address that is a path ("address"). `place` is where in the messages.
    """

    path: str
    media_type: str
    origin: Literal["object", "block", "address"] = "block"
    place: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class FileSource:
    """Media that were uploaded to the vendor named in `provider`; no other vendor knows the id."""

    file_id: str
    provider: str
    media_type: str | None = None


Source = UrlSource | Base64Source | PathSource | FileSource


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text. `signature` is a Gemini thought signature that must go back with it; `cache` an Anthropic cache mark.

    `phase` is OpenAI's label of a message that its model wrote: `commentary` or `final_answer`.
    """

    text: str
    signature: str | None = None
    provider: str | None = None
    cache: Mapping[str, Any] | None = None
    phase: str | None = None


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """What a model thought. `signature` and `data` (redacted thinking) are the vendor's, named in `provider`.

    `item` is the reasoning item of OpenAI's Responses API that the thinking was read from, without its encrypted
    content, which is the `signature`; `host` is the server that wrote it, None if that is not known.
    """

    thinking: str
    signature: str | None = None
    data: str | None = None
    provider: str | None = None
    item: Mapping[str, Any] | None = None
    host: str | None = None


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """The model's wish to run a tool. `raw_input` is the text of arguments that are no JSON object; else it is None.

    `item` has further keys of the call in OpenAI's Responses API, such as its `namespace`, which go back with it.
    """

    id: str
    name: str
    input: Mapping[str, Any]
    signature: str | None = None
    provider: str | None = None
    raw_input: str | None = None
    cache: Mapping[str, Any] | None = None
    item: Mapping[str, Any] | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as an object; text that is none is wrapped, in the way that Anthropic's manual shows."""
        return dict(self.input) if self.raw_input is None else {"INVALID_JSON": self.raw_input}


@dataclass(frozen=True, slots=True)
class MediaBlock:
    """An image, a sound, a film or a document."""

    kind: MediaKind
    source: Source
    name: str | None = None
    detail: str | None = None
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolResultBlock:
    """What a tool gave back: text and media. `name` is the tool's, taken from the call it answers."""

    id: str
    name: str
    output: tuple[TextBlock | MediaBlock, ...]
    is_error: bool = False
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProviderItemBlock:
    """An item of a conversation that only the vendor named in `provider` understands, such as a call of a tool of its.

    `item` is the vendor's own JSON; `host` is the server that wrote it, None if that is not known. Other vendors are
    not sent it.
    """

    item: Mapping[str, Any]
    provider: str
    host: str | None = None


ContentBlock = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock | MediaBlock | ProviderItemBlock

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn. `system` covers OpenAI's `developer`; a `tool` message becomes a `user` message with the result."""

    role: Role
    blocks: tuple[ContentBlock, ...]
    name: str | None = None


def find_media(messages: Iterable[Message]) -> Iterator[MediaBlock]:
    """Yield the media in *messages*, those that tools gave back among them."""
    for message in messages:
        for block in message.blocks:
            if isinstance(block, MediaBlock):
                yield block
            elif isinstance(block, ToolResultBlock):
                yield from (part for part in block.output if isinstance(part, MediaBlock))


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the model may ask for; *parameters* is its JSON Schema, always of type object.

    `native` is the vendor's own form of a tool that the vendor runs itself; then `name` is the type of the tool.
    """

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    strict: bool | None = None
    cache: Mapping[str, Any] | None = None
    native: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """`auto`, `none`, `required` (any tool, but one), or `tool` with its *name*."""

    mode: Literal["auto", "none", "required", "tool"]
    name: str | None = None
