"""Requests, responses, and the protocol of what sends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import NamedTuple, Protocol

from modelhub.core.errors import BadReply
from modelhub.providers.addresses import hide_password

__all__ = ["MAX_RESPONSE_BYTES", "BodySource", "HttpRequest", "HttpResponse", "Timeouts", "Transport"]

MAX_RESPONSE_BYTES = 64 * 1024 * 1024
"""How large the body of a response may be, after decompression; it bounds what a broken or hostile server can do."""
_BLANK = b" \t\r\n\xef\xbb\xbf"
"""White space, and what a byte order mark is made of."""


class Timeouts(NamedTuple):
    """How long connecting may take, TLS included, and how long the server may be silent; seconds, or None for ever.

    `pool` is for how long to wait for a free connection, where a client of the caller's has a bound on them.
    """

    connect: float | None = 5.0
    read: float | None = 600.0
    pool: float | None = 5.0


class HttpRequest(NamedTuple):
    """A request. `url` and the names of headers are sent as they are; `body` comes in pieces.

    `headers` are those that many requests share: the same mapping is best handed in each time. `own_headers` are those
    of this one, such as a trace. The length of the body is added by the transport. `on_sent` is called when there is a
    connection and the request is written to it. The representation shows no header, body or password.
    """

    url: str
    headers: Mapping[str, str]
    body: Sequence[bytes] = ()
    method: str = "POST"
    timeouts: Timeouts = Timeouts()
    own_headers: Mapping[str, str] = MappingProxyType({})
    on_sent: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<HttpRequest {self.method} {hide_password(self.url)}>"


class BodySource(Protocol):
    """Where the body of a response comes from. Its methods raise CallError."""

    def read_available(self) -> bytes | None:
        """Return what has not been read of the body, if all of it has arrived, so that nothing is waited for; or None.

        It is then read.
        """
        ...

    async def read_chunk(self) -> bytes:
        """Return the next decompressed bytes as soon as there are any; b"" at the end of the body."""
        ...

    async def close(self, *, is_complete: bool) -> None:
        """Give the connection back if the body was read to its end, else close it. Must be safe to call twice."""
        ...


class HttpResponse:
    """A response whose status and headers have arrived. It is read once, by `read` or `aiter_bytes`, then closed.

    Names of `headers` are looked up in any case. Closing a response before its body has been read to the end closes
    its connection.
    """

    __slots__ = ("_is_complete", "_max_bytes", "_peeked", "_size", "_source", "headers", "status")

    def __init__(
        self, status: int, headers: Mapping[str, str], source: BodySource, max_bytes: int = MAX_RESPONSE_BYTES
    ) -> None:
        self.status = status
        self.headers = headers
        self._source = source
        self._max_bytes = max_bytes
        self._size = 0
        self._is_complete = False
        self._peeked = b""

    async def peek(self) -> bytes:
        """Return the first bytes that are not blank, which can still be read, or b""; blank ones before are dropped.

        Raises like `read`.
        """
        while chunk := await self._read_chunk():
            if peeked := chunk.lstrip(_BLANK):
                self._peeked = peeked
                break
        return self._peeked

    async def read(self) -> bytes:
        """Return the whole body. Raises CallError: BadReply if it is too large, ConnectionLost if it is cut off."""
        if not self._peeked:
            body = self._source.read_available()
            if body is not None and len(body) <= self._max_bytes:
                self._is_complete = True
                return body
        chunks = []
        while chunk := await self._read_chunk():
            chunks.append(chunk)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def aiter_bytes(self) -> AsyncGenerator[bytes, None]:
        """Yield the body as it arrives. Raises like `read`."""
        while chunk := await self._read_chunk():
            yield chunk

    async def _read_chunk(self) -> bytes:
        if self._peeked:
            chunk, self._peeked = self._peeked, b""
            return chunk
        if self._is_complete:
            return b""
        try:
            chunk = await self._source.read_chunk()
        except BaseException:
            await self._source.close(is_complete=False)
            raise
        self._size += len(chunk)
        if not chunk:
            self._is_complete = True
            await self._source.close(is_complete=True)
        elif self._size > self._max_bytes:
            await self._source.close(is_complete=False)
            raise BadReply(f"the answer is larger than {self._max_bytes // 1024 // 1024} MB")
        return chunk

    async def drain(self, seconds: float) -> None:
        """Read the body to its end, for *seconds* at most.

        The connection can be used again then. If that has to wait, a task of its own does it: the one that reads a
        stream may be another one by then, and `asyncio.timeout` would cancel the first.
        """
        if self._is_complete or self._source.read_available() is not None:  # as nearly always
            self._is_complete = True
            return
        task = asyncio.ensure_future(self._read_to_end())
        try:
            await asyncio.wait({task}, timeout=seconds)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    async def _read_to_end(self) -> None:
        with suppress(Exception):
            while await self._read_chunk():
                pass

    async def aclose(self) -> None:
        """Give the connection back, or close it if the body has not been read to its end."""
        await self._source.close(is_complete=self._is_complete)

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}>"


class Transport(Protocol):
    """Sends requests. The only way out of a provider."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request*, once, and return the response as soon as its headers have arrived, whatever its status.

        Redirects are not followed. Raises CallError: ConnectTimeout and ConnectFailed if nothing was sent,
        ConnectionLost and TimedOut if the server may have received the request, NotConfigured if the request cannot
        be written, BadReply if what came back is not HTTP; HubClosed after `aclose`.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections, also those in use. Nothing is sent afterwards."""
        ...
