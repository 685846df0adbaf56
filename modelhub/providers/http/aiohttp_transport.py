"""The transport that is used unless the caller hands in a client: aiohttp, one session for each event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import sys
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from http import HTTPStatus
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from modelhub.core.errors import BadReply, CallError
from modelhub.core.tracebacks import drop_frames
from modelhub.providers.http.failures import AIOHTTP_ERRORS, call_error_from
from modelhub.providers.http.message import MAX_RESPONSE_BYTES, HttpRequest, HttpResponse, Timeouts
from modelhub.providers.http.per_loop import PerLoop
from modelhub.providers.http.proxies import ProxySettings
from modelhub.providers.http.tls import check_trust_settings, tls_context

if TYPE_CHECKING:
    import aiohttp
    from yarl import URL

__all__ = ["AiohttpTransport"]

_MAX_WRITE_BYTES = 256 * 1024  # of a body, in one step of the event loop
_KEEPALIVE_SECONDS = 5.0  # how long an idle connection is used again, as with httpx
_IDLE_SECONDS = 0.5
_MAX_SESSIONS = 64
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_MAX_HEADER_BYTES = 64 * 1024
_ADDED_HEADERS = ("Accept", "Accept-Encoding", "User-Agent", "Content-Type")
_TCP_KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5))


class AiohttpTransport:
    """Sends requests through aiohttp; each event loop has a session and connections of its own.

    Proxies and trust are what the environment says when a session is made. *max_response_bytes* bounds the body of a
    response, after decompression.
    """

    def __init__(self, max_response_bytes: int = MAX_RESPONSE_BYTES) -> None:
        self._max_response_bytes = max_response_bytes
        self._sessions = PerLoop(_Session, _Session.aclose)

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request* once; see `Transport.send`."""
        session = self._sessions.get()
        try:
            now = session.loop.time()
            was_idle, session.last_used = now - session.last_used > _IDLE_SECONDS, now
            if was_idle:  # have the event loop read what has come on idle connections, such as their end
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            client, sending = session.request(request)
            client.pending += 1
            try:
                response = await sending
            finally:
                client.pending -= 1
                client.detach_if_retired()
        except asyncio.CancelledError as error:
            drop_frames(error)  # aiohttp's frames hold the headers
            raise
        except Exception as error:
            failure = call_error_from(error, AIOHTTP_ERRORS, request.url)
        else:
            _check_response(response)
            body = _AiohttpBody(response, request.url, session.open_responses)
            return HttpResponse(response.status, response.headers, body, self._max_response_bytes)
        raise failure

    async def aclose(self) -> None:
        """Close all connections, each in its own event loop."""
        await self._sessions.aclose()


class _Client:
    """aiohttp's session whose every request has *headers*, and how many of its requests await their response."""

    __slots__ = ("headers", "is_retired", "pending", "session")

    def __init__(self, headers: Mapping[str, str], session: aiohttp.ClientSession) -> None:
        self.headers = headers  # kept, so that no other mapping can have its id
        self.session = session
        self.pending = 0
        self.is_retired = False

    def detach_if_retired(self) -> None:
        """Part with the connections if nobody will use this again: aiohttp warns of a session that just goes."""
        if self.is_retired and not self.pending:
            self.session.detach()


class _Session:
    """The connections of the running event loop, and aiohttp's sessions over them."""

    def __init__(self) -> None:
        check_trust_settings()
        self._proxies = ProxySettings.from_environment() or None
        self._proxy_by_origin: dict[str, str | None] = {}
        self.open_responses: set[aiohttp.ClientResponse] = set()
        """What has not been read to its end: kept here, because aiohttp warns of what the garbage collector closes."""
        self.last_used = 0.0
        """When the last request was sent, by the clock of the `loop`."""
        self.loop = asyncio.get_running_loop()
        self._connector = _connector_class()(
            limit=0,
            keepalive_timeout=_KEEPALIVE_SECONDS,
            socket_factory=_create_socket,
        )
        self._by_headers: OrderedDict[int, _Client] = OrderedDict()
        # Holds aiohttp's sessions, which warn when they are collected open, for longer than this object; not only until
        # the process ends, because a handler of its end may still make a call.
        weakref.finalize(self, _detach_forgotten, self.loop, self._by_headers).atexit = False

    def _client_with(self, headers: Mapping[str, str]) -> _Client:
        """Return the client whose every request has *headers*: that spares copying them for each."""
        client = self._by_headers.get(id(headers))
        if client is not None:
            return client
        import aiohttp

        while len(self._by_headers) >= _MAX_SESSIONS:
            retired = self._by_headers.popitem(last=False)[1]
            retired.is_retired = True  # takes no further requests; those that are pending go on
            retired.detach_if_retired()
        # aiohttp would add these: a request has the headers that its SDK wrote, and no others.
        written = {name.lower() for name in headers}
        skipped = [name for name in _ADDED_HEADERS if name.lower() not in written]
        session = aiohttp.ClientSession(
            connector=self._connector,
            connector_owner=False,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=skipped or None,
            timeout=aiohttp.ClientTimeout(total=None),
            max_field_size=_MAX_HEADER_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
        )
        client = self._by_headers[id(headers)] = _Client(headers, session)
        return client

    def request(self, request: HttpRequest) -> tuple[_Client, Awaitable[aiohttp.ClientResponse]]:
        """Return what sends *request* when it is awaited, and the client it does it with.

        That raises aiohttp's exceptions; NotConfigured is raised at once.
        """
        url = _parse_url(request.url)
        own_headers = request.own_headers
        size = sum(map(len, request.body))
        if size <= _MAX_WRITE_BYTES and request.on_sent is None:
            data: Any = request.body[0] if len(request.body) == 1 else b"".join(request.body)
        else:
            data, own_headers = _split(request.body, request.on_sent), {**own_headers, "Content-Length": str(size)}
        shared_headers, proxy = request.headers, None
        if self._proxies is not None:
            origin = str(url.origin())
            if origin not in self._proxy_by_origin:
                self._proxy_by_origin[origin] = self._proxies.find_proxy(origin)
            proxy = self._proxy_by_origin[origin]
        if proxy is not None:  # aiohttp sends the headers of a session to the proxy too, the key among them
            shared_headers, own_headers = _NO_HEADERS, {**shared_headers, **own_headers}
        client = self._client_with(shared_headers)
        return client, client.session.request(
            request.method,
            url,
            headers=own_headers,
            data=data,
            allow_redirects=False,
            timeout=_client_timeout(request.timeouts),
            proxy=proxy,
            ssl=self._tls if url.scheme == "https" else True,
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return tls_context()

    async def aclose(self) -> None:
        """Close all connections."""
        while self.open_responses:
            self.open_responses.pop().close()
        while self._by_headers:
            self._by_headers.popitem()[1].session.detach()
        await self._connector.close()
        await asyncio.sleep(0)  # asyncio closes the sockets in its next step


class _AiohttpBody:
    """The body of one of aiohttp's responses, which is one of *open_responses* until it is complete or closed."""

    __slots__ = ("_failure", "_open_responses", "_response", "_url")

    def __init__(self, response: aiohttp.ClientResponse, url: str, open_responses: set[aiohttp.ClientResponse]) -> None:
        self._response = response
        self._url = url
        self._open_responses = open_responses
        self._failure: CallError | None = None
        if not response.content.is_eof():
            open_responses.add(response)

    def read_available(self) -> bytes | None:
        """Return the whole body if it has arrived."""
        content = self._response.content
        return content.read_nowait() if content.is_eof() and content.exception() is None else None

    async def read_chunk(self) -> bytes:
        """Return the next bytes; b"" at the end. What came before a failure is returned before it is raised."""
        if self._failure is None:
            try:
                return await self._response.content.readany()
            except Exception as error:
                self._failure = call_error_from(error, AIOHTTP_ERRORS, self._url)
            content = self._response.content
            content.set_exception(None)  # type: ignore[arg-type]  # what arrived is kept, but the failure given first
            if remainder := content.read_nowait():
                return remainder
        raise self._failure

    async def close(self, *, is_complete: bool) -> None:
        """Close the connection, unless the body was read to its end: aiohttp has taken it back then."""
        self._open_responses.discard(self._response)
        if not is_complete:
            self._response.close()

    def __del__(self) -> None:
        if self._response in self._open_responses:  # forgotten by its reader
            self._open_responses.discard(self._response)
            self._response.close()


@cache
def _connector_class() -> type[aiohttp.TCPConnector]:
    """Return what opens and keeps connections; it does not complain in the log of a hub that nobody closed."""
    import aiohttp

    is_finalizing = sys.is_finalizing  # modules are emptied while the process ends

    class Connector(aiohttp.TCPConnector):
        @property
        def closed(self) -> bool:
            """Whether nothing can be sent, which aiohttp's sessions ask as they go; so it is when the process ends."""
            return super().closed or is_finalizing()

        def __del__(self, _warnings: object = None) -> None:
            """Do nothing: a loop that goes on closes the connections, one that has ended took them with it."""

    return Connector


def _detach_forgotten(loop: asyncio.AbstractEventLoop, clients: Mapping[int, _Client]) -> None:
    """Part with the connections of *clients* if *loop* does not run any more; otherwise it closes them itself."""
    if not loop.is_running():
        for client in clients.values():
            client.session.detach()


def _check_response(response: aiohttp.ClientResponse) -> None:
    """Raise BadReply for an answer whose end nobody can tell: another protocol, or an unknown transfer coding."""
    coding = response.headers.get("Transfer-Encoding")
    if response.status == HTTPStatus.SWITCHING_PROTOCOLS:
        problem = "the answer switches to another protocol, which nobody asked for"
    elif coding is not None and coding.lower() != "chunked":
        problem = "the answer has an unknown transfer coding"
    else:
        return
    response.close()
    raise BadReply(problem)


@lru_cache(maxsize=64)
def _client_timeout(timeouts: Timeouts) -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(total=None, connect=timeouts.connect, sock_read=timeouts.read)


@lru_cache(maxsize=1024)
def _parse_url(url: str) -> URL:
    from yarl import URL

    return URL(url, encoded=True)


async def _split(body: Sequence[bytes], on_sent: Callable[[], None] | None) -> AsyncIterator[memoryview]:
    """Yield *body* in pieces of bounded size, so that the event loop has others run in between."""
    if on_sent is not None:
        on_sent()
    for piece in body:
        view = memoryview(piece)
        for start in range(0, len(view), _MAX_WRITE_BYTES):
            yield view[start : start + _MAX_WRITE_BYTES]
            await asyncio.sleep(0)


class _Socket(socket.socket):
    """A socket that can be read after the server has reset the connection.

    A server that refuses a large request by its head may answer and close while the body is still being sent. The
    event loop would drop the connection at the next write, and the answer that waits in it.
    """

    def send(self, data: Any, *flags: int) -> int:
        """Send *data*; what the server does not take any more counts as sent: reading tells what became of it."""
        try:
            return super().send(data, *flags)
        except (BrokenPipeError, ConnectionResetError):
            return memoryview(data).nbytes

    def sendmsg(self, buffers: Iterable[Any], *arguments: Any) -> int:
        """Send *buffers*, and count what the server does not take as sent, as `send` does. Returns the bytes sent."""
        pieces = list(buffers)
        try:
            return super().sendmsg(pieces, *arguments)
        except (BrokenPipeError, ConnectionResetError):
            return sum(memoryview(piece).nbytes for piece in pieces)


def _create_socket(address: Any) -> socket.socket:
    """Return a socket for *address* that probes silent connections.

    A model may think for minutes in silence, and routers on the way forget connections that are silent.
    """
    family, kind, protocol, _, _ = address
    sock = _Socket(family, kind, protocol)
    with contextlib.suppress(OSError, AttributeError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _TCP_KEEPALIVE:
            if hasattr(socket, name):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock
