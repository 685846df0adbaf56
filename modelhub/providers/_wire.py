"""Bytes to values: JSON bodies, server-sent events and JSON lines, however the network cut them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any

from pydantic_core import from_json

from modelhub.errors import BadReply

__all__ = ["dumps", "json_body", "json_lines", "loads", "server_sent_events"]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dumps(value: Any) -> bytes:
    """*value* as JSON, as the SDKs write it. Raises TypeError or ValueError for what JSON does not have."""
    return _encode(value).encode()


def loads(data: bytes | str) -> Any:
    """The value in *data*. Raises BadReply if it is not JSON."""
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        return json.loads(data)  # accepts what the faster parser does not: lone surrogates, NaN in odd places
    except ValueError as error:
        raise BadReply(f"the answer is not JSON: {describe(data)}") from error


def describe(data: bytes | str) -> str:
    """What *data* looks like, without showing it: an answer may hold what was asked."""
    start = data[:64].lstrip()
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    if not text:
        return "an empty body"
    if text[:1] == "<":
        return f"HTML or XML of {len(data)} bytes"
    return f"{len(data)} bytes that break off or are garbled" if text[:1] in "{[" else f"{len(data)} bytes of text"


def json_body(data: bytes) -> dict[str, Any]:
    """The JSON object that is a whole answer. Raises BadReply for anything else: empty, HTML, a list, broken."""
    value = loads(data)
    if not isinstance(value, dict):
        raise BadReply(f"the answer is no JSON object but {type(value).__name__}")
    return value


class _Lines:
    """Lines out of pieces; a line may end in LF, CR or CRLF, and a piece anywhere."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def feed(self, piece: bytes) -> list[bytes]:
        # A long line in small pieces is joined once, when its end is in sight.
        if b"\n" not in piece and b"\r" not in piece and not (self._rest and self._rest[-1].endswith(b"\r")):
            self._rest.append(piece)
            return []
        lines = b"".join((*self._rest, piece)).splitlines(keepends=True)
        # A CR at the very end may be half of a CRLF.
        self._rest = [lines.pop()] if not lines[-1].endswith(b"\n") else []
        return [line.rstrip(b"\r\n") for line in lines]

    def end(self) -> list[bytes]:
        rest, self._rest = b"".join(self._rest), []
        return [line.rstrip(b"\r\n") for line in rest.splitlines(keepends=True)]


class _Events:
    """Events out of lines. *stray*, if given, gets the lines that are no part of any."""

    __slots__ = ("data", "name", "stray")

    def __init__(self, stray: list[bytes] | None) -> None:
        self.name = ""
        self.data: list[bytes] = []
        self.stray = stray

    def take(self, line: bytes) -> tuple[str, bytes] | None:
        """The event that *line* completes, if it does."""
        if not line:
            return self.end()
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if field == b"data":
            self.data.append(value)
        elif field == b"event":
            self.name = value.decode("utf-8", "replace")
        elif self.stray is not None and field not in (b"id", b"retry", b""):
            self.stray.append(line)
        return None

    def end(self) -> tuple[str, bytes] | None:
        name, data = self.name, self.data
        self.name, self.data = "", []
        return (name, data[0] if len(data) == 1 else b"\n".join(data)) if data else None


async def server_sent_events(
    pieces: AsyncIterable[bytes], stray: list[bytes] | None = None
) -> AsyncGenerator[tuple[str, bytes], None]:
    """Each event's name ("" if it has none) and data.

    What the stream's end cuts off is given too, where the standard would drop it: servers forget the last blank line,
    and half an event must be seen to be broken, not overlooked. Lines that are no part of an event, an error that the
    server could only write as it is, are added to *stray*.
    """
    lines, events, first = _Lines(), _Events(stray), True
    async for piece in pieces:
        for line in lines.feed(piece):
            if first:
                line, first = line.removeprefix(b"\xef\xbb\xbf"), False  # noqa: PLW2901 - a byte order mark is no text
            if (event := events.take(line)) is not None:
                yield event
    for line in (*lines.end(), b""):
        if (event := events.take(line)) is not None:
            yield event


async def json_lines(pieces: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    """Each line's value. Raises BadReply for a line that is not JSON, the one cut off at the end included."""
    lines = _Lines()
    async for piece in pieces:
        for line in lines.feed(piece):
            if line.strip():
                yield loads(line)
    for line in lines.end():
        if line.strip():
            yield loads(line)
