"""HTTP clients: one for each event loop, made when it is first needed, sharing one TLS context.

The SDKs get httpx clients that send through connections of ours, unless a proxy is to be used.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import threading
import urllib.request
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

from modelhub.errors import HubClosed, NotConfigured
from modelhub.process import register_at_fork
from modelhub.providers._incoming import INCOMING, Headers, Incoming, TransportError
from modelhub.providers._trace import add_trace_headers
from modelhub.providers._transport import Head, Origin, Pool, written_head
from modelhub.providers._wire import Marked

__all__ = ["GIVEN", "MARKED", "SENT", "PerLoop", "connecting", "head_of", "http_client", "tls_context", "unpacked"]

T = TypeVar("T")


def tls_context() -> ssl.SSLContext:
    """The TLS context of all connections, made once: making one costs more than a call does.

    SSL_CERT_FILE and SSL_CERT_DIR, where set, name the only certificate authorities that are trusted, as with httpx,
    curl and OpenSSL; otherwise the system's and certifi's are. Raises OSError if a named file cannot be used.
    """
    return _tls_context(*_trust_settings())


@cache
def _tls_context(cafile: str | None, capath: str | None) -> ssl.SSLContext:
    if cafile or capath:
        return ssl.create_default_context(cafile=cafile, capath=capath)
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _trust_settings() -> tuple[str | None, str | None]:
    return os.environ.get("SSL_CERT_FILE") or None, os.environ.get("SSL_CERT_DIR") or None


def _check_trust_settings() -> None:
    """Raise NotConfigured if SSL_CERT_FILE or SSL_CERT_DIR names what is not there."""
    cafile, capath = _trust_settings()
    if cafile and not Path(cafile).is_file():
        raise NotConfigured(f"SSL_CERT_FILE names {cafile}, which is no file")
    if capath and not Path(capath).is_dir():
        raise NotConfigured(f"SSL_CERT_DIR names {capath}, which is no folder")


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
    _check_trust_settings()
    if _PROXIED.isdisjoint(urllib.request.getproxies()) and arguments.keys().isdisjoint(_CONNECTING):
        pool = Pool(tls_context)
        return {**arguments, "transport": _transport_class(library)(pool)}, pool
    limits = library.Limits(max_connections=1000, max_keepalive_connections=100)
    hooks = {"request": [add_trace_headers]}
    return {"verify": tls_context(), "limits": limits, "event_hooks": hooks, **arguments}, None


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
        extensions={"http_version": b"HTTP/1.1", INCOMING: incoming},
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

    *make* builds one inside the running loop; *close* gives it back, at the latest when the loop shuts down, as
    `asyncio.run` does at its end. After `aclose` there are no new clients.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._clients: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._inherited: list[Any] = []
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Set aside in a forked child the parent's clients: their connections may be neither used nor closed."""
        self._inherited.append(self._clients)
        self._clients, self._lock = {}, threading.Lock()

    def get(self) -> T:
        """The running loop's client. Raises HubClosed after `aclose`."""
        loop = asyncio.get_running_loop()
        entry = self._clients.get(loop)
        if entry is None:
            entry = self._open(loop)
        return entry[0]

    def _open(self, loop: asyncio.AbstractEventLoop) -> tuple[T, AsyncGenerator[None, None]]:
        if self._is_closed:
            raise HubClosed("the model was closed: it sends nothing any more")
        client = self._make()
        entry = client, _start_closer(lambda: self._discard(loop, client))
        with self._lock:
            # Loops that ended without shutting down took their connections with them; what is left is only memory.
            for ended in [known for known in self._clients if known.is_closed()]:
                del self._clients[ended]
            self._clients[loop] = entry
        return entry

    async def _discard(self, loop: asyncio.AbstractEventLoop, client: T) -> None:
        with self._lock:
            if (entry := self._clients.get(loop)) is not None and entry[0] is client:
                del self._clients[loop]
        await self._close(client)

    async def aclose(self) -> None:
        """Close every client, each in its own loop. Loops that have ended are skipped."""
        with self._lock:
            self._is_closed = True
            entries, self._clients = self._clients, {}
        here = asyncio.get_running_loop()
        for loop, (_, closer) in entries.items():
            if loop is here:
                await closer.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_close_generator(closer), loop))


def _start_closer(close: Callable[[], Awaitable[None]]) -> AsyncGenerator[None, None]:
    """An async generator that calls *close* when it is closed.

    The running loop closes all async generators when it shuts down (`loop.shutdown_asyncgens`): the only notice of its
    end that a loop gives.
    """

    async def wait_for_close() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await close()

    closer = wait_for_close()
    with contextlib.suppress(StopIteration):  # the generator is at its `yield` now, without having been awaited
        closer.__anext__().send(None)
    return closer


async def _close_generator(closer: AsyncGenerator[None, None]) -> None:
    await closer.aclose()
