"""HTTP clients: one for each event loop, made when it is first needed, sharing one TLS context.

The SDKs get httpx clients that send through connections of ours, unless a proxy is to be used.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import cache
from types import ModuleType
from typing import Any, Generic, TypeVar

from modelhub.process import register_at_fork
from modelhub.providers._incoming import Headers, Incoming, TransportError
from modelhub.providers._transport import Head, Origin, Pool, written_head
from modelhub.providers._wire import Marked

__all__ = ["GIVEN", "MARKED", "SENT", "PerLoop", "connecting", "head_of", "http_client", "tls_context", "unpacked"]

T = TypeVar("T")


@cache
def tls_context() -> ssl.SSLContext:
    """The system's trust and certifi's, loaded once: making one costs more than a call does."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


GIVEN: ContextVar[Incoming | TransportError | None] = ContextVar("modelhub_given", default=None)
"""What a client of ours answers in this context instead of sending: what came of a request that was sent already."""

SENT: ContextVar[list[Any] | None] = ContextVar("modelhub_sent", default=None)
"""Where a client of ours notes, in this context, the requests that it is given."""

MARKED: ContextVar[Marked | None] = ContextVar("modelhub_marked", default=None)
"""Where there are marks, in this context, in the bodies that a client of ours is given, and for which texts."""


def http_client(library: ModuleType, **arguments: Any) -> tuple[Any, Pool | None]:
    """An `AsyncClient` of *library*, httpx or httpx2, as *arguments* say, and the connections it sends through.

    It follows no redirects: they would send the conversation a second time, to a place that nobody chose. With a proxy
    in the environment, or anything in *arguments* about how to connect, the library has connections of its own.
    """
    arguments, pool = connecting(library, arguments)
    return (library.AsyncClient if pool is None else _client_class(library))(**arguments), pool


def connecting(library: ModuleType, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], Pool | None]:
    """*arguments* for a client of *library*, with how to connect added; and its connections, if they are ours."""
    if _PROXIED.isdisjoint(urllib.request.getproxies()) and arguments.keys().isdisjoint(_CONNECTING):
        pool = Pool(tls_context)
        return {**arguments, "transport": _transport_class(library)(pool)}, pool
    limits = library.Limits(max_connections=1000, max_keepalive_connections=100)
    return {"verify": tls_context(), "limits": limits, **arguments}, None


_PROXIED = frozenset({"http", "https", "all"})
"""Whose proxies the libraries heed; `no` stands beside them, for NO_PROXY, and alone it says nothing."""
_CONNECTING = frozenset(
    {"verify", "cert", "http1", "http2", "proxy", "proxies", "mounts", "limits", "transport", "app", "trust_env"}
)


def head_of(request: Any) -> Head:
    """The head of a request of httpx's. Raises LocalProtocolError for what no header may hold."""
    url = request.url
    origin = Origin(
        url.raw_host.decode("ascii"), url.port or (443 if url.scheme == "https" else 80), url.scheme == "https"
    )
    headers: Headers = request.headers.raw
    start = written_head(request.method.encode("ascii"), url.raw_path, headers)
    return Head(origin, start, request.extensions.get("timeout", {}), request.method == "HEAD")


@cache
def _client_class(library: ModuleType) -> Callable[..., Any]:
    class Client(library.AsyncClient):  # type: ignore[name-defined, misc]
        """Goes the short way where the answer is there already."""

        def build_request(self, method: str, url: Any, **kwargs: Any) -> Any:
            return super().build_request(method, url, **kwargs) if GIVEN.get() is None else library.Request(method, url)

        async def send(self, request: Any, *, stream: bool = False, **kwargs: Any) -> Any:
            if (given := GIVEN.get()) is None:
                return await super().send(request, stream=stream, **kwargs)
            response = _answered(library, given, request)
            if not stream:
                await response.aread()
            return response

    return Client


@cache
def _transport_class(library: ModuleType) -> Callable[[Pool], Any]:
    class Transport(library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
        """Sends requests of *library* through *pool*."""

        def __init__(self, pool: Pool) -> None:
            self.pool = pool

        async def handle_async_request(self, request: Any) -> Any:
            if request.url.scheme not in ("http", "https"):
                raise library.UnsupportedProtocol(
                    "Request URL is missing an 'http://' or 'https://' protocol.", request=request
                )
            body = await request.aread()
            if (sent := SENT.get()) is not None:
                sent.append(request)
            found: Incoming | TransportError
            try:
                found = GIVEN.get() or await self.pool.send(head_of(request), await _unmarked(body))
            except TransportError as error:
                found = error
            return _answered(library, found, request)

        async def aclose(self) -> None:
            await self.pool.aclose()

    return Transport


async def _unmarked(body: bytes) -> list[bytes]:
    return [body] if (marked := MARKED.get()) is None else await marked.filled(body)


@cache
def _body_class(library: ModuleType) -> Callable[[Incoming, Any], Any]:
    class Body(library.AsyncByteStream):  # type: ignore[name-defined, misc]
        """The body of an answer, for *library*."""

        def __init__(self, incoming: Incoming, request: Any) -> None:
            self._incoming = incoming
            self._request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._incoming.aiter_bytes():
                    yield piece
            except TransportError as error:
                raise _translated(library, error, self._request) from error

        async def aclose(self) -> None:
            await self._incoming.aclose()

    return Body


def unpacked(library: ModuleType, incoming: Incoming, request: Any = None) -> Any:
    """*incoming* as a response of *library*, which also undoes its compression."""
    return library.Response(
        incoming.status_code,
        headers=incoming.raw_headers,
        stream=_body_class(library)(incoming, request),
        extensions={"http_version": b"HTTP/1.1"},
        request=request,
    )


def _answered(library: ModuleType, found: Incoming | TransportError, request: Any) -> Any:
    """What *found* is for *library*: a response, or an error of its own, which is raised."""
    if isinstance(found, Incoming):
        return unpacked(library, found, request)
    raise _translated(library, found, request) from found


def _translated(library: ModuleType, error: TransportError, request: Any) -> Exception:
    cls: Callable[..., Exception] = getattr(library, type(error).__name__)
    return cls(str(error), request=request)


class PerLoop(Generic[T]):
    """A client for each event loop: connections belong to the loop that opened them.

    *make* builds one inside the running loop; *close* gives it back.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._clients: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = threading.Lock()
        self._inherited: list[dict[asyncio.AbstractEventLoop, T]] = []
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Set aside in a forked child the parent's clients: their connections may be neither used nor closed."""
        self._inherited.append(self._clients)
        self._clients, self._lock = {}, threading.Lock()

    def get(self) -> T:
        """The running loop's client."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._make()
            with self._lock:
                # Loops that have ended took their connections with them; what is left is only memory.
                for ended in [known for known in self._clients if known.is_closed()]:
                    del self._clients[ended]
                self._clients[loop] = client
        return client

    async def aclose(self) -> None:
        """Close every client, each in its own loop. Loops that have ended are skipped."""
        with self._lock:
            clients, self._clients = self._clients, {}
        here = asyncio.get_running_loop()
        for loop, client in clients.items():
            if loop is here:
                await self._close(client)
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_finish(self._close(client)), loop))


async def _finish(closing: Awaitable[None]) -> None:
    await closing
