"""Answers, refusals and requests independent of a vendor, and the interface of a vendor's format."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, NamedTuple

from modelhub.testing.wires.schema import make_instance

__all__ = [
    "PARAGRAPH",
    "CannedResponse",
    "ParsedRequest",
    "Frame",
    "Json",
    "Kind",
    "Part",
    "Refusal",
    "ToolCall",
    "VendorFormat",
    "count_words",
    "format_event",
    "make_event_frame",
]

Json = dict[str, Any]

PARAGRAPH = (
    "The harbour master keeps two lamps burning through the night. When the first one fails, ships still find the "
    "channel by the second, and nobody aboard notices that anything happened. In the morning she cleans the broken "
    "lamp, fills it with oil, and hangs it back on its hook, because a spare is only useful while it is really spare."
)
"""The default answer of the server, sixty words."""

Kind = Literal[
    "rate_limit",
    "insufficient_quota",
    "context_length",
    "content_filter",
    "auth",
    "not_found",
    "overloaded",
    "server_error",
    "invalid_request",
    "no_prefill",
    "unsupported_parameter",
]
"""What a vendor may refuse a request for; each vendor has its own status, code and words for it."""

Part = Literal["opening", "content", "closing", "mark", "after", "done"]
"""What a piece of a stream is: `content` is a word or a tool call, `mark` says that the answer is whole, `done` follows
when nothing will."""


class Frame(NamedTuple):
    """One piece of a stream, as it goes over the wire."""

    part: Part
    data: bytes


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call of the answer."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    id: str = "call_1"

    @property
    def arguments_text(self) -> str:
        """The arguments as JSON text."""
        return json.dumps(dict(self.arguments), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class CannedResponse:
    """The healthy answer of the server.

    The words of *text* are streamed one by one with *interval* seconds between them. *tool_calls* are made where the
    request offers tools. Tokens are words, unless *input_tokens* or *output_tokens* say otherwise. *headers* come with
    the answer, whole or streamed.
    """

    text: str = PARAGRAPH
    tool_calls: Sequence[ToolCall] = ()
    interval: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """The words of the text, each with the spaces before it."""
        return re.findall(r"\s*\S+(?:\s+$)?", self.text)

    @property
    def usage(self) -> tuple[int, int]:
        """Input and output tokens."""
        written = len(self.words) + len(self.tool_calls) if self.output_tokens is None else self.output_tokens
        return self.input_tokens or 0, written


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request independent of its vendor.

    `schema` is the JSON Schema that the answer must fit, `forced` the tool that must be called and its schema.
    """

    id: str
    model: str
    stream: bool
    words: int = 0
    last_role: str = "user"
    tools: bool = False
    schema: Json | None = None
    forced: tuple[str, Json] | None = None
    wants_usage: bool = True
    multimodal: bool = False

    def adapt(self, answer: CannedResponse) -> CannedResponse:
        """*answer* as this request wants it: in the structure it asks for, and with tool calls only if it has tools."""
        if answer.input_tokens is None:
            answer = replace(answer, input_tokens=self.words)
        if self.schema is not None:
            return replace(answer, text=json.dumps(make_instance(self.schema)), tool_calls=())
        if self.forced is not None and not answer.tool_calls:
            name, schema = self.forced
            return replace(answer, text="", tool_calls=(ToolCall(name, make_instance(schema)),))
        return answer if self.tools else replace(answer, tool_calls=())


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the server: its *kind*, and values that replace the vendor's usual ones.

    *parameter* is the name of what is not supported, as it stands in the request.
    """

    kind: Kind
    status: int | None = None
    code: str | None = None
    message: str | None = None
    retry_after: float | None = None
    parameter: str | None = None


class VendorFormat(ABC):
    """The format of one vendor's requests, answers, streams and refusals."""

    kind: ClassVar[str]
    """Its name: the provider's, and for a further API of a vendor's that of the API behind it."""
    entry: ClassVar[Mapping[str, str]]
    """What an entry of the file says to speak so."""
    path: ClassVar[re.Pattern[str]]
    """The end of the paths where it answers chats."""
    stream_type: ClassVar[str] = "text/event-stream; charset=utf-8"
    """The content type of its streams."""
    garbage: ClassVar[bytes] = b'data: {"id": "broken", "choices": [{"delta": {"content": \n\n'
    """An event that breaks off."""
    error_event: ClassVar[str] = ""
    """The name and type of the event that is a refusal in a stream; empty for events without a name."""

    @abstractmethod
    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002
        """What the request wants; *id* is to be the answer's."""

    @abstractmethod
    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """The body of a plain answer."""

    @abstractmethod
    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The pieces of a streamed answer."""

    @abstractmethod
    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """The status and the body of a refusal."""

    def make_refusal_event(self, refusal: Refusal, parsed: ParsedRequest) -> bytes:
        """Return a refusal as an event of a stream."""
        body = self.make_refusal(refusal, parsed)[1]
        return format_event({"type": self.error_event, **body} if self.error_event else body, self.error_event)


def format_event(data: Json, name: str = "", end: str = "\n\n") -> bytes:
    """Return *data* as a server-sent event."""
    before = f"event: {name}\n" if name else ""
    return f"{before}data: {json.dumps(data, ensure_ascii=False)}{end}".encode()


def make_event_frame(part: Part, kind: str, /, **fields: Any) -> Frame:
    """Return the piece of a stream that is an event of type *kind*, which is also its name, with *fields*."""
    return Frame(part, format_event({"type": kind, **fields}, kind))


def count_words(*values: Any) -> int:
    """Return the number of words in the messages in *values*."""
    total = 0
    for value in values:
        if isinstance(value, str):
            total += len(value.split())
        elif isinstance(value, Mapping):
            total += count_words(*(inner for key, inner in value.items() if key in ("text", "content", "parts")))
        elif isinstance(value, list):
            total += count_words(*value)
    return total
