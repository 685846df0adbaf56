"""HTTP/1.1 over asyncio, as much of it as the vendors' APIs speak: a request with its whole body, any kind of answer.

The SDKs' own stacks spend more time on one exchange than all layers of a call do. This one keeps what they promise:
connections are kept for a while and looked at before they are used again, nothing is ever sent twice, an answer that is
cut is an error, and whoever gives up on an answer closes its connection. A pool belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import re
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from modelhub.providers._incoming import (
    NAME,
    ConnectError,
    ConnectTimeout,
    Headers,
    Incoming,
    LocalProtocolError,
    PoolTimeout,
    WriteTimeout,
)
from modelhub.providers._trace import trace_headers

__all__ = ["Head", "Origin", "Pool", "written_head"]

_AT_ONCE = 256 * 1024  # bytes of a request that are handed on in one step
_KEPT = 5.0  # seconds that an idle connection is used again, as httpx has it
_AHEAD = 0.25  # seconds that one of several addresses is ahead of the next
_ALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))


class Origin(NamedTuple):
    """Where connections go."""

    host: str
    port: int
    tls: bool


@dataclass(frozen=True, slots=True, repr=False)
class Head:
    """A request but for its body: where to, what comes first, and httpx's four times, in seconds or None for ever.

    No tuple: error trackers write those out part by part, and `start` holds the key.
    """

    origin: Origin
    start: bytes
    times: Mapping[str, float | None]
    bodiless: bool = False
    """Whether the answer has no body, whatever it says."""

    def __repr__(self) -> str:
        return f"Head({self.origin})"


_VALUE = re.compile(rb"(?:[^\x00\s](?:[^\x00\r\n\v\f]*[^\x00\s])?)?")


def written_head(method: bytes, target: bytes, headers: Headers) -> bytes:
    """The first lines but for the body's length. Raises LocalProtocolError for what no header may hold."""
    lines = [method + b" " + target + b" HTTP/1.1"]
    for name, value in headers:
        if not NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise LocalProtocolError(f"Illegal header {name.decode('latin-1')}")
        if name.lower() not in (b"content-length", b"transfer-encoding"):
            lines.append(name + b": " + value)
    return b"\r\n".join(lines) + b"\r\n"


class Connection(asyncio.Protocol):
    """One connection; one exchange at a time."""

    def __init__(self, pool: Pool, origin: Origin) -> None:
        self.origin = origin
        self.lost = False
        self.expires = 0.0
        self._pool = pool
        self._transport: asyncio.Transport
        self._readable: Callable[[int], list[Any]] | None = None
        self._incoming: Incoming | None = None
        self._full: asyncio.Future[None] | None = None  # while the server takes no more
        self._sent = True

    # -- asyncio's part ------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast(asyncio.Transport, transport)
        if (sock := transport.get_extra_info("socket")) is not None:
            _keep_alive(sock)
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(sock.fileno(), select.POLLIN)
                self._readable = poll.poll

    def data_received(self, data: bytes) -> None:
        """Bytes of the answer, if one was asked for: nobody can tell what others belong to."""
        if (incoming := self._incoming) is None:
            self.abort()
            return
        incoming.feed(data)
        if not self._sent and incoming.status_code:
            self.resume_writing()  # it answers before it has heard all

    def eof_received(self) -> None:
        """The server will send no more."""
        self.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        """It is gone."""
        self.lost = True
        self.resume_writing()
        self._pool.forget(self)
        if (incoming := self._incoming) is not None:
            self._incoming = None
            incoming.ended(error)

    def pause_writing(self) -> None:
        """The server takes no more for now."""
        self._full = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It takes more again, or never will."""
        full, self._full = self._full, None
        if full is not None and not full.done():
            full.set_result(None)

    # -- the answer's part ---------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Let the server wait."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on."""
        if not self.lost and not self._transport.is_closing():
            self._transport.resume_reading()

    def release(self, keep: bool) -> None:
        """The answer is here."""
        self._incoming = None
        if keep and self._sent and not self.lost:
            self._pool.put_back(self)
        else:
            self.abort()

    def abort(self) -> None:
        """Close at once."""
        self.lost = True
        self.resume_writing()
        self._pool.forget(self)
        self._transport.abort()
        if (incoming := self._incoming) is not None:
            self._incoming = None
            incoming.abandon()

    # -- the pool's part -----------------------------------------------------------------------------------------------

    def is_stale(self, now: float) -> bool:
        """Whether it cannot be used again: it stood too long, or there is something to read, such as its end."""
        if self.lost or now > self.expires or self._transport.is_closing():
            return True
        return self._readable is not None and bool(self._readable(0))

    async def ask(self, head: Head, body: Sequence[bytes]) -> Incoming:
        """Send a request; gives its answer when status and headers are there."""
        self._incoming = incoming = Incoming(self, head.times.get("read"), head.bodiless)
        size = sum(map(len, body))
        own = b"".join(f"{name}: {value}\r\n".encode("ascii") for name, value in trace_headers.get().items())
        length = own + b"content-length: %d\r\n\r\n" % size
        # The head holds the key: it is never in a local variable, which tracebacks show to error trackers.
        if size <= _AT_ONCE:
            self._transport.write(b"".join((head.start, length, *body)))
        else:
            self._transport.write(head.start + length)
            await self._write(body, incoming, head.times.get("write"))
        await incoming.headed()
        return incoming

    async def _write(self, body: Sequence[bytes], incoming: Incoming, seconds: float | None) -> None:
        self._sent = False
        for piece in body:
            for at in range(0, len(piece), _AT_ONCE):
                if self._full is not None:
                    await _until(self._full, seconds)
                if self.lost or incoming.status_code:
                    return  # the server has heard enough: it has answered, or is gone
                self._transport.write(memoryview(piece)[at : at + _AT_ONCE])
                await asyncio.sleep(0)  # a server that takes all at once must not have the loop to itself
        self._sent = True


async def _until(event: asyncio.Future[None], seconds: float | None) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event
    except TimeoutError:
        raise WriteTimeout("timed out") from None


async def _has_several_addresses(loop: asyncio.AbstractEventLoop, origin: Origin) -> bool:
    """Whether it is worth racing the addresses of *origin*: asyncio's race loses the socket of a cancelled connect."""
    if not isinstance(loop, asyncio.BaseEventLoop) or _is_ip_address(origin.host):
        return False
    addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return len({address[4][0] for address in addresses}) > 1


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _keep_alive(sock: Any) -> None:
    # A model may think for minutes in silence, and routers on the way forget connections that are silent.
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Pool:
    """The connections of one event loop, at most *most* in use at a time. *tls* gives the context for TLS."""

    def __init__(self, tls: Callable[[], ssl.SSLContext], most: int = 1000) -> None:
        self._tls = tls
        self._places = asyncio.Semaphore(most)
        self._idle: dict[Origin, deque[Connection]] = {}
        self._busy: set[Connection] = set()
        self._closed = False

    async def send(self, head: Head, body: Sequence[bytes]) -> Incoming:
        """Send a request, once, its body in pieces. The caller reads the answer to its end, or closes it.

        Raises TransportError.
        """
        if self._closed:
            raise RuntimeError("Cannot send a request, as the client has been closed.")
        await self._place(head.times.get("pool"))
        try:
            connection = self._standing(head.origin) or await self._connected(head.origin, head.times.get("connect"))
        except BaseException:
            self._places.release()
            raise
        self._busy.add(connection)
        try:
            return await connection.ask(head, body)
        except BaseException:
            connection.abort()
            raise

    async def _place(self, seconds: float | None) -> None:
        if not self._places.locked():
            await self._places.acquire()  # comes back at once
            return
        try:
            async with asyncio.timeout(seconds):
                await self._places.acquire()
        except TimeoutError:
            raise PoolTimeout("no free connection") from None

    def _standing(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        now = asyncio.get_running_loop().time()
        while idle:
            connection = idle.pop()  # the last one used: the others may rest, and end
            if not connection.is_stale(now):
                return connection
            connection.abort()
        return None

    async def _connected(self, origin: Origin, seconds: float | None) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            options: dict[str, Any] = {"ssl": self._tls(), "server_hostname": origin.host} if origin.tls else {}
            async with asyncio.timeout(seconds):
                if await _has_several_addresses(loop, origin):
                    options["happy_eyeballs_delay"] = _AHEAD
                _, connection = await loop.create_connection(
                    lambda: Connection(self, origin), origin.host, origin.port, **options
                )
        except TimeoutError as error:
            raise ConnectTimeout("timed out") from error
        except (OSError, UnicodeError, ValueError) as error:
            raise ConnectError(str(error)) from error
        return connection

    def put_back(self, connection: Connection) -> None:
        """*connection* has done its work, and can do more."""
        self._leave(connection)
        now = asyncio.get_running_loop().time()
        idle = self._idle.setdefault(connection.origin, deque())
        while idle and now > idle[0].expires:
            idle.popleft().abort()
        connection.expires = now + _KEPT
        idle.append(connection)
        if self._closed:
            self._close_idle()

    def forget(self, connection: Connection) -> None:
        """*connection* is gone."""
        self._leave(connection)
        idle = self._idle.get(connection.origin)
        if idle and connection in idle:
            idle.remove(connection)

    def _leave(self, connection: Connection) -> None:
        if connection in self._busy:
            self._busy.remove(connection)
            self._places.release()

    def _close_idle(self) -> None:
        idle = [connection for kept in self._idle.values() for connection in kept]
        self._idle.clear()
        for connection in idle:
            connection.abort()

    async def aclose(self) -> None:
        """Close all connections, those in use too."""
        self._closed = True
        for connection in list(self._busy):
            connection.abort()
        self._close_idle()
        await asyncio.sleep(0)  # asyncio closes the sockets in its next step
