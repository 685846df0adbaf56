"""Bytes to values: JSON bodies, server-sent events and JSON lines, however the network cut them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any
from uuid import uuid4

from pydantic_core import from_json, to_json

from modelhub.errors import BadReply
from modelhub.providers._incoming import INCOMING, Incoming
from modelhub.providers._unicode import clean_text, is_high_surrogate

__all__ = [
    "drain",
    "Marked",
    "Prepended",
    "dumps",
    "json_body",
    "json_lines",
    "loads",
    "server_sent_events",
    "skip_blanks",
    "written",
]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


_LONG = 256 * 1024


def dumps(value: Any) -> bytes:
    """*value* as JSON, as the SDKs write it. Raises TypeError or ValueError for what JSON does not have."""
    return _encode(value).encode()


async def written(value: Any) -> list[bytes]:
    """The same in pieces. A long text, such as an image, is written bit by bit, so that others get their turn."""
    marked = Marked.of(value)
    return [dumps(value)] if marked is None else await marked.filled(dumps(marked.value))


@dataclass(frozen=True, slots=True)
class Marked:
    """*value* with a mark in the place of each long text, whoever writes it; *texts* are those, by number."""

    value: Any
    mark: str
    texts: list[str]

    @classmethod
    def of(cls, value: Any) -> Marked | None:
        """*value* with marks; None if no text in it is long."""
        if not _has_long(value):
            return None
        mark, texts = uuid4().hex, list[str]()
        return cls(_marked(value, mark, texts), mark, texts)

    async def filled(self, data: bytes) -> list[bytes]:
        """The JSON *data*, in which the marks are, in pieces, with the texts in their places."""
        pieces: list[bytes] = []
        parts = re.split(rb"%s-(\d+)-" % self.mark.encode(), data)
        for between, number in zip_longest(parts[::2], parts[1::2]):
            pieces.append(between)
            text = self.texts[int(number)] if number is not None else ""
            for at in range(0, len(text), _LONG):
                pieces.append(to_json(text[at : at + _LONG])[1:-1])
                await asyncio.sleep(0)
        return pieces


def _has_long(value: Any) -> bool:
    kind = type(value)
    if kind is str:
        return len(value) > _LONG
    if kind is dict:
        return any(map(_has_long, value.values()))
    return kind is list and any(map(_has_long, value))


def _marked(value: Any, mark: str, texts: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _marked(inner, mark, texts) for key, inner in value.items()}
    if isinstance(value, list):
        return [_marked(inner, mark, texts) for inner in value]
    if isinstance(value, str) and len(value) > _LONG:
        texts.append(value)
        return f"{mark}-{len(texts) - 1}-"
    return value


def loads(data: bytes | str) -> Any:
    """The value in *data*. Raises BadReply if it is not JSON."""
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        # Accepts what the faster parser does not: lone surrogates, raw control characters.
        return _clean_within(json.loads(data, strict=False))
    except RecursionError as error:
        failure = BadReply("the answer is nested too deeply to be read")
        failure.request_specific = True  # it is what the model wrote, and says nothing about its health
        raise failure from error
    except ValueError as error:
        raise BadReply(f"the answer is not JSON: {describe(data)}") from error


def _clean_within(value: Any) -> Any:
    """*value* without lone surrogates, but at a text's ends: their other halves may be in the pieces around it."""
    if isinstance(value, str):
        start = 1 if "\udc00" <= value[:1] <= "\udfff" else 0
        end = len(value) - 1 if is_high_surrogate(value[-1:]) else len(value)
        return value[:start] + clean_text(value[start:end]) + value[max(start, end) :]
    if isinstance(value, dict):
        return {clean_text(key): _clean_within(item) for key, item in value.items()}
    return [_clean_within(item) for item in value] if isinstance(value, list) else value


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

    def is_plain(self, piece: bytes) -> bool:
        """Whether the lines so far, and those in *piece*, end in LF alone."""
        return b"\r" not in piece and not (self._rest and self._rest[-1].endswith(b"\r"))

    def blocks(self, piece: bytes) -> list[bytes]:
        """*piece*, which is plain, and what came before it, cut at blank lines; the last block may go on."""
        return b"".join((*self._rest, piece)).split(b"\n\n") if self._rest else piece.split(b"\n\n")

    def keep(self, rest: bytes) -> None:
        """Begin the next piece with *rest*."""
        self._rest = [rest] if rest else []

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that *piece* completes."""
        # A long line in small pieces is joined once, when its end is in sight.
        plain = self.is_plain(piece)
        if plain and b"\n" not in piece:
            self._rest.append(piece)
            return []
        data = b"".join((*self._rest, piece))
        if plain:
            *found, rest = data.split(b"\n")
            self.keep(rest)
            return found
        lines = data.splitlines(keepends=True)
        # A CR at the very end may be half of a CRLF.
        self._rest = [lines.pop()] if not lines[-1].endswith(b"\n") else []
        return [line.rstrip(b"\r\n") for line in lines]

    def end(self) -> list[bytes]:
        """What is left, as lines."""
        rest, self._rest = b"".join(self._rest), []
        return [line.rstrip(b"\r\n") for line in rest.splitlines(keepends=True)]


Event = tuple[str, bytes]


class _Events:
    """Events out of pieces. *stray*, if given, gets the lines that are no part of any."""

    __slots__ = ("data", "lines", "name", "stray")

    def __init__(self, stray: list[bytes] | None) -> None:
        self.lines = _Lines()
        self.name = ""
        self.data: list[bytes] = []
        self.stray = stray

    def feed(self, piece: bytes) -> list[Event]:
        """The events that *piece* completes."""
        if not self.lines.is_plain(piece) or b"\n" not in piece:
            return self._by_lines(self.lines.feed(piece))
        *blocks, rest = self.lines.blocks(piece)
        found: list[Event] = []
        for block in blocks:
            # Most events are one line.
            if block[:6] == b"data: " and not self.data and not self.name and b"\n" not in block:
                if not (data := block[6:]).isspace() and data:
                    found.append(("", data))
            else:
                found += self._by_lines((*block.split(b"\n"), b""))
        *whole, rest = rest.split(b"\n")
        self.lines.keep(rest)
        return found + self._by_lines(whole) if whole else found

    def end(self) -> list[Event]:
        """The events in what is left, cut off or not."""
        return self._by_lines((*self.lines.end(), b""))

    def _by_lines(self, lines: Iterable[bytes]) -> list[Event]:
        found: list[Event] = []
        for line in lines:
            field, _, value = line.partition(b":")
            if field == b"data":
                self.data.append(value[1:] if value[:1] == b" " else value)
            elif field == b"event":
                self.name = (value[1:] if value[:1] == b" " else value).decode("utf-8", "replace")
            elif line:
                if self.stray is not None and field not in (b"id", b"retry", b""):
                    self.stray.append(line)
            else:
                texts = self.data if len(self.data) == 1 else _join_data(self.data)
                # an empty event only keeps the stream alive
                found += [(self.name, data) for data in texts if data and not data.isspace()]
                self.name, self.data = "", []
        return found


def _join_data(lines: list[bytes]) -> list[bytes]:
    """Return the data of an event with many *lines*: one text, or each of them where all are JSON objects.

    Those are the events of a server that forgets the blank lines between them.
    """
    if lines and all((line[:1] == b"{" and line.rstrip()[-1:] == b"}") or line == b"[DONE]" for line in lines):
        return lines
    return [b"\n".join(lines)]


async def server_sent_events(
    pieces: AsyncIterable[bytes], stray: list[bytes] | None = None
) -> AsyncGenerator[Event, None]:
    """Each event's name ("" if it has none) and data.

    What the stream's end cuts off is given too, where the standard would drop it: servers forget the last blank line,
    and half an event must be seen to be broken, not overlooked. Lines that are no part of an event, an error that the
    server could only write as it is, are added to *stray*.
    """
    events = _Events(stray)
    start: bytes | None = b""
    async for piece in pieces:
        if start is not None:
            start += piece
            if len(start) < len(_MARK) and _MARK.startswith(start):
                continue
            piece, start = start.removeprefix(_MARK), None  # noqa: PLW2901 - a byte order mark is no text
        for event in events.feed(piece):
            yield event
    for event in (*(events.feed(start) if start else ()), *events.end()):
        yield event


_MARK = b"\xef\xbb\xbf"


async def skip_blanks(pieces: AsyncIterator[bytes]) -> bytes:
    """Return the first of *pieces* that is not blank, from its first byte that is not.

    Blank lines in front of a stream only keep the connection alive. Each is looked at once.
    """
    async for piece in pieces:
        if start := piece.lstrip(b" \t\r\n\xef\xbb\xbf"):
            return start
    return b""


class Prepended:
    """*pieces* with the *start* in front of them that was taken off."""

    def __init__(self, start: bytes, pieces: AsyncIterator[bytes]) -> None:
        self._start = start
        self._pieces = pieces

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        # No coroutine of its own around each piece: most streams are read in hundreds of them.
        return self._take_start() if self._start else self._pieces.__anext__()

    async def _take_start(self) -> bytes:
        start, self._start = self._start, b""
        return start


async def json_lines(pieces: AsyncIterable[bytes]) -> AsyncIterator[Any]:
    """Each line's value. Raises BadReply for a line that is not JSON, the one cut off at the end included."""
    lines = _Lines()
    async for piece in pieces:
        for line in lines.feed(piece):
            if line and not line.isspace():
                yield loads(line)
    for line in lines.end():
        if line and not line.isspace():
            yield loads(line)


async def drain(items: AsyncIterator[Any], seconds: float, response: Any) -> None:
    """Read *items*, which *response* (ours or httpx's) gives, to their end, for *seconds* at most.

    If that has to wait, a task of its own does it: the one that reads a stream may be another one by then, and
    `asyncio.timeout` would cancel the first.
    """
    incoming = response if isinstance(response, Incoming) else response.extensions.get(INCOMING)
    if incoming is not None and incoming.is_done:  # most often: the end comes in one packet with the last event
        await _read_to_end(items)
        return
    task = asyncio.ensure_future(_read_to_end(items))
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


async def _read_to_end(items: AsyncIterator[Any]) -> None:
    with suppress(Exception):
        async for _ in items:
            pass
