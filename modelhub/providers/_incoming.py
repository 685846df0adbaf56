"""An HTTP/1.1 answer as it comes in: pieces of bytes to status, headers and body, for one reader who waits for them.

An answer that is cut, or is not HTTP, is an error, never a short answer. Errors bear httpx's names.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from functools import cached_property
from typing import Protocol

__all__ = [
    "INCOMING",
    "NAME",
    "ConnectError",
    "ConnectTimeout",
    "Headers",
    "Incoming",
    "LocalProtocolError",
    "PoolTimeout",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "TransportError",
    "WriteTimeout",
]

Headers = list[tuple[bytes, bytes]]
INCOMING = "modelhub.incoming"
"""The extension of httpx's response under which the `Incoming` is that it was made from."""


class TransportError(Exception):
    """What the network met; the classes below bear the names of httpx's."""


class ConnectError(TransportError):
    """No connection: refused, no such host, TLS."""


class ConnectTimeout(TransportError):
    """No connection in time."""


class PoolTimeout(TransportError):
    """No free place for a connection in time."""


class ReadTimeout(TransportError):
    """Silence."""


class WriteTimeout(TransportError):
    """The server does not take the request."""


class ReadError(TransportError):
    """The connection broke."""


class RemoteProtocolError(TransportError):
    """The server closed the connection too early, or does not speak HTTP/1.1."""


class LocalProtocolError(TransportError):
    """The request cannot be written."""


NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header may be called."""
_BLANK_LINE = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: .*)?")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_NEVER_IN_HEADERS = (b"\0", b"\r")  # a line break that is none may hide a header from whoever reads after us
_LONGEST_HEAD = 100 * 1024
_MOST_UNREAD = 256 * 1024  # bytes that are held for a reader who takes his time

# What comes next: the headers; a body of known length, in chunks, or up to the connection's end.
_HEAD, _LENGTH, _CHUNKS, _ALL = range(4)
# And in chunks: the size of the next one, the end of this one, the lines behind the last.
_AT_SIZE, _AT_END, _AT_TRAILER = range(3)


class Line(Protocol):
    """The connection as an answer knows it."""

    def pause_reading(self) -> None:
        """Let the server wait."""

    def resume_reading(self) -> None:
        """Go on."""

    def release(self, keep: bool) -> None:
        """The answer is here; *keep* tells whether the connection can be used again."""

    def abort(self) -> None:
        """Close at once."""


class Incoming:
    """One answer; the reader's methods bear the names of httpx's response. *seconds* of silence are an error."""

    def __init__(self, line: Line, seconds: float | None, bodiless: bool) -> None:
        self.status_code = 0
        self.raw_headers: Headers = []
        self.is_done = False
        """Whether all of it is here."""
        self._line = line
        self._seconds = seconds
        self._bodiless = bodiless
        self._mode = _HEAD
        self._at = _AT_SIZE
        self._rest = b""  # the beginning of a line whose end has not come
        self._left = 0  # bytes to come, of the body or of the chunk
        self._trailer_bytes = 0
        self._keep = True
        self._pieces: list[bytes] = []
        self._unread = 0
        self._whole = self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = 0.0  # when something came last, or was first waited for
        self._error: TransportError | None = None

    # -- for the reader ------------------------------------------------------------------------------------------------

    @cached_property
    def headers(self) -> dict[str, str]:
        """The headers by their names in lower case; those that came several times joined by commas."""
        found: dict[str, str] = {}
        for name, value in self.raw_headers:
            key, text = name.decode("ascii").lower(), value.decode("latin-1")
            found[key] = f"{found[key]}, {text}" if key in found else text
        return found

    @property
    def is_redirect(self) -> bool:
        """Whether it sends elsewhere."""
        return self.status_code in (301, 302, 303, 307, 308) and "location" in self.headers

    async def headed(self) -> None:
        """Wait for status and headers."""
        while self._mode == _HEAD:
            await self._more()

    async def aread(self) -> bytes:
        """The whole body."""
        self._whole = True
        self._resume()
        while not self.is_done:
            await self._more()
        if len(self._pieces) != 1:
            self._pieces = [b"".join(self._pieces)]
        return self._pieces[0]

    async def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes, each time all that is there."""
        while True:
            while not self._pieces:
                if self.is_done:
                    return
                await self._more()
            pieces, self._pieces, self._unread = self._pieces, [], 0
            self._resume()
            yield pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Give up on what has not come, and on the connection."""
        self.abandon()

    def abandon(self) -> None:
        """The same, at once."""
        if not self.is_done and self._error is None:
            self._fail(ReadError("the answer was closed before its end"))

    async def _more(self) -> None:
        if self._error is not None:
            raise self._error
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._since = loop.time()
        # One timer for the whole answer: it looks, when it rings, how long the silence has lasted.
        if self._timer is None and self._seconds is not None:
            self._timer = loop.call_later(self._seconds, self._ring, loop, self._seconds)
        try:
            await waiter
        except BaseException:
            self.abandon()
            raise
        finally:
            self._waiter = None

    def _ring(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        left = self._since + seconds - loop.time()
        if self._waiter is None or self.is_done or self._error is not None:
            self._timer = None
        elif left > 0:
            self._timer = loop.call_later(left, self._ring, loop, seconds)
        else:
            self._fail(ReadTimeout("timed out"))

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._line.resume_reading()

    # -- for the connection --------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Take what came over the wire."""
        try:
            if self._mode == _HEAD:
                self._take_head(data)
            else:
                self._take_body(data)
        except RemoteProtocolError as error:
            self._fail(error)
        if self.is_done or not (self._whole or self._mode == _HEAD):
            self._wake()
        elif self._waiter is not None:
            self._since = self._waiter.get_loop().time()

    def ended(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self.is_done or self._error is not None:
            return
        if error is not None:
            failure: TransportError = ReadError(str(error))
            failure.__cause__ = error
            self._fail(failure)
        elif self._mode == _ALL:
            self._finish(keep=False)
            self._wake()
        elif self._mode == _HEAD:
            self._fail(RemoteProtocolError("Server disconnected without sending a response."))
        else:
            self._fail(RemoteProtocolError("peer closed connection without sending complete message body"))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, error: TransportError) -> None:
        self._error = error
        self._stop_timer()
        self._line.abort()
        self._wake()

    def _finish(self, keep: bool) -> None:
        self.is_done = True
        self._stop_timer()
        self._line.release(keep and self._keep)

    # -- status and headers --------------------------------------------------------------------------------------------

    def _take_head(self, data: bytes) -> None:
        data = self._rest + data
        while (end := _BLANK_LINE.search(data)) is not None:
            self._read_head(data[: end.start()])
            data = data[end.end() :]
            if self.status_code >= 200:  # what comes before is no answer yet
                self._rest = b""
                self._expect()
                self._take_body(data)
                return
        if len(data) > _LONGEST_HEAD:
            raise RemoteProtocolError("the answer's headers do not end")
        self._rest = data

    def _read_head(self, head: bytes) -> None:
        head = head.lstrip(b"\r\n").replace(b"\r\n", b"\n")
        first, *lines = head.split(b"\n")
        status = _STATUS.fullmatch(first)
        if status is None or status[2] == b"101":
            raise RemoteProtocolError("the answer is not HTTP/1.1")
        self._keep = status[1] == b"1"
        self.status_code = int(status[2])
        headers: Headers = []
        self.raw_headers = headers
        if any(octet in head for octet in _NEVER_IN_HEADERS):
            raise RemoteProtocolError("the answer's headers are garbled")
        for line in lines:
            name, colon, value = line.partition(b":")
            if line[:1] in (b" ", b"\t") and headers:  # the rest of a header, as it was once written
                headers[-1] = (headers[-1][0], headers[-1][1] + b" " + line.strip())
            elif colon and NAME.fullmatch(name):
                headers.append((name, value.strip(b" \t")))
            else:
                raise RemoteProtocolError("the answer's headers are garbled")

    def _expect(self) -> None:
        """Find out how the body ends."""
        headers = self.headers
        if "connection" in headers and "close" in headers["connection"].lower():
            self._keep = False
        if self._bodiless or self.status_code in (204, 304):
            self._mode = _LENGTH
        elif (coding := headers.get("transfer-encoding")) is not None:
            if coding.lower() != "chunked":
                raise RemoteProtocolError("the answer's transfer-encoding is unknown")
            _read_length(headers)  # it does not count beside chunks, but nonsense is nonsense
            self._mode = _CHUNKS
        elif (length := _read_length(headers)) is not None:
            self._mode, self._left = _LENGTH, length
        else:
            self._mode, self._keep = _ALL, False

    # -- the body ------------------------------------------------------------------------------------------------------

    def _take_body(self, data: bytes) -> None:
        if self._mode == _CHUNKS:
            self._take_chunks(data)
        elif self._mode == _ALL:
            self._add(data)
        else:
            over = len(data) - self._left
            self._add(data[: self._left] if over > 0 else data)
            self._left = max(0, -over)
            if over >= 0:
                self._finish(keep=over == 0)
        if self._unread > _MOST_UNREAD and not (self._whole or self._paused or self.is_done):
            self._paused = True
            self._line.pause_reading()

    def _add(self, piece: bytes) -> None:
        if piece:
            self._pieces.append(piece)
            self._unread += len(piece)

    def _take_chunks(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                piece = data[at : at + self._left]
                self._add(piece)
                at += len(piece)
                self._left -= len(piece)
                continue
            stop = data.find(b"\r\n", at)
            if stop < 0:
                if end - at > _LONGEST_HEAD:
                    raise RemoteProtocolError("a chunk's size does not end")
                self._rest = data[at:]
                return
            is_last = self._take_line(data, at, stop)
            at = stop + 2
            if is_last:
                self._finish(keep=at == end)
                return

    def _take_line(self, data: bytes, start: int, stop: int) -> bool:
        """Take a line of the chunks' own; gives whether it is the last."""
        if self._at == _AT_TRAILER:
            self._trailer_bytes += stop - start
            name, colon, _ = data[start:stop].partition(b":")
            if start != stop and not (colon and NAME.fullmatch(name)):
                raise RemoteProtocolError("the answer's trailers are garbled")
            if self._trailer_bytes > _LONGEST_HEAD:
                raise RemoteProtocolError("the answer's trailers do not end")
            return start == stop
        if self._at == _AT_END:
            if start != stop:
                raise RemoteProtocolError("a chunk is longer than it says")
            self._at = _AT_SIZE
            return False
        size = _SIZE.fullmatch(data, start, stop)
        if size is None:
            raise RemoteProtocolError("a chunk's size is no number")
        self._left = int(size[1], 16)
        self._at = _AT_END if self._left else _AT_TRAILER
        return False


def _read_length(headers: Mapping[str, str]) -> int | None:
    """Return the Content-Length in *headers*, or None. Raises RemoteProtocolError unless it is one number."""
    if (text := headers.get("content-length")) is None:
        return None
    lengths = {part.strip() for part in text.split(",")}
    length = lengths.pop()
    if lengths or not length.isascii() or not length.isdigit() or len(length) > 15:
        raise RemoteProtocolError("the answer's length is no number")
    return int(length)
