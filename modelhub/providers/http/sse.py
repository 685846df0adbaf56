"""Server-sent events and JSON lines out of the bytes of a response, however the network cut them.

Both readers also give what the end of the response cuts off, where the standard would drop it: servers forget the
last blank line, and half an event must be seen to be broken, not overlooked.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import NamedTuple

from modelhub.core.errors import BadReply
from modelhub.providers.http.message import MAX_RESPONSE_BYTES

__all__ = ["ServerSentEvent", "read_events", "read_lines"]

_FIELDS_WITHOUT_MEANING = (b"id", b"retry", b"")


class ServerSentEvent(NamedTuple):
    """An event: its name, "" if it has none, and its data."""

    name: str
    data: bytes


async def read_events(
    chunks: AsyncIterable[bytes], *, unparsed_lines: list[bytes] | None = None, max_bytes: int = MAX_RESPONSE_BYTES
) -> AsyncGenerator[ServerSentEvent, None]:
    """Yield the events in *chunks* that have data.

    Lines that belong to no event, such as an error that a server could only write as it is, are added to
    *unparsed_lines*. Raises BadReply for an event larger than *max_bytes*.
    """
    parser = _EventParser(unparsed_lines)
    pending = 0
    async for chunk in chunks:
        events = parser.feed(chunk)
        pending = 0 if events else _add_pending(pending, chunk, max_bytes)
        for event in events:
            yield event
    for event in parser.end():
        yield event


async def read_lines(
    chunks: AsyncIterable[bytes], *, max_bytes: int = MAX_RESPONSE_BYTES
) -> AsyncGenerator[ServerSentEvent, None]:
    """Yield the lines in *chunks* that are not blank, as events. Raises BadReply for one longer than *max_bytes*."""
    splitter = _LineSplitter()
    pending = 0
    async for chunk in chunks:
        lines = splitter.feed(chunk)
        pending = 0 if lines else _add_pending(pending, chunk, max_bytes)
        for line in lines:
            if line and not line.isspace():
                yield ServerSentEvent("", line)
    for line in splitter.end():
        if line and not line.isspace():
            yield ServerSentEvent("", line)


def _add_pending(pending: int, chunk: bytes, max_bytes: int) -> int:
    if pending + len(chunk) > max_bytes:
        raise BadReply(f"an event of the stream is larger than {max_bytes // 1024 // 1024} MB")
    return pending + len(chunk)


class _LineSplitter:
    """Splits chunks into lines; a line may end in LF, CR or CRLF, and a chunk anywhere."""

    __slots__ = ("_remainder",)

    def __init__(self) -> None:
        self._remainder: list[bytes] = []

    def has_plain_endings(self, chunk: bytes) -> bool:
        """Whether the unfinished line and the lines in *chunk* end in LF alone."""
        return b"\r" not in chunk and not (self._remainder and self._remainder[-1].endswith(b"\r"))

    def split_blocks(self, chunk: bytes) -> list[bytes]:
        """Split the unfinished line and *chunk*, which has plain endings, at blank lines; the last block may go on."""
        return b"".join((*self._remainder, chunk)).split(b"\n\n") if self._remainder else chunk.split(b"\n\n")

    def keep(self, remainder: bytes) -> None:
        """Begin the next chunk with *remainder*."""
        self._remainder = [remainder] if remainder else []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that *chunk* completes."""
        # A long line in small chunks is joined once, when its end is in sight.
        plain = self.has_plain_endings(chunk)
        if plain and b"\n" not in chunk:
            self._remainder.append(chunk)
            return []
        data = b"".join((*self._remainder, chunk))
        if plain:
            *lines, remainder = data.split(b"\n")
            self.keep(remainder)
            return lines
        lines = data.splitlines(keepends=True)
        # A CR at the very end may be half of a CRLF.
        self._remainder = [lines.pop()] if not lines[-1].endswith(b"\n") else []
        return [line.rstrip(b"\r\n") for line in lines]

    def end(self) -> list[bytes]:
        """Return what is left, as lines."""
        data, self._remainder = b"".join(self._remainder), []
        return [line.rstrip(b"\r\n") for line in data.splitlines(keepends=True)]


class _EventParser:
    """Parses chunks into events."""

    __slots__ = ("_data", "_lines", "_name", "_unparsed")

    def __init__(self, unparsed: list[bytes] | None) -> None:
        self._lines = _LineSplitter()
        self._name = ""
        self._data: list[bytes] = []
        self._unparsed = unparsed

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Return the events that *chunk* completes."""
        if not self._lines.has_plain_endings(chunk) or b"\n" not in chunk:
            return self._parse_lines(self._lines.feed(chunk))
        *blocks, remainder = self._lines.split_blocks(chunk)
        events: list[ServerSentEvent] = []
        for block in blocks:
            # Most events are one line.
            if block[:6] == b"data: " and not self._data and not self._name and b"\n" not in block:
                if (data := block[6:]) and not data.isspace():
                    events.append(ServerSentEvent("", data))
            else:
                events += self._parse_lines((*block.split(b"\n"), b""))
        *complete, remainder = remainder.split(b"\n")
        self._lines.keep(remainder)
        return events + self._parse_lines(complete) if complete else events

    def end(self) -> list[ServerSentEvent]:
        """Return the events in what is left, cut off or not."""
        return self._parse_lines((*self._lines.end(), b""))

    def _parse_lines(self, lines: Iterable[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"data":
                self._data.append(value.removeprefix(b" "))
            elif field == b"event":
                self._name = value.removeprefix(b" ").decode("utf-8", "replace")
            elif line:
                if self._unparsed is not None and field not in _FIELDS_WITHOUT_MEANING:
                    self._unparsed.append(line)
            else:
                texts = self._data
                # Lines that are all JSON objects are events of a server that forgets the blank lines between them.
                if len(texts) > 1 and not all(
                    (text[:1] == b"{" and text.rstrip()[-1:] == b"}") or text == b"[DONE]" for text in texts
                ):
                    texts = [b"\n".join(texts)]
                # An event without data only keeps the stream alive.
                events += [ServerSentEvent(self._name, data) for data in texts if data and not data.isspace()]
                self._name, self._data = "", []
        return events
