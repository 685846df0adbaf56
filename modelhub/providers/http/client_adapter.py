"""Clients of httpx and httpx2 as transports: one that the caller hands in, and those made with given arguments."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from types import ModuleType
from typing import Any

from modelhub.core.tracebacks import drop_frames
from modelhub.providers.http.failures import HTTPX_ERRORS, call_error_from
from modelhub.providers.http.message import MAX_RESPONSE_BYTES, HttpRequest, HttpResponse
from modelhub.providers.http.per_loop import PerLoop
from modelhub.providers.http.tls import tls_context

__all__ = ["HttpxTransport", "OwnHttpxTransport", "make_httpx_client"]

_HTTPX_DEFAULT_TIMEOUT = 5.0
"""Seconds; what a client has that was made without a time-out."""


class HttpxTransport:
    """Sends requests through *client*, an `AsyncClient` of httpx or httpx2; it stays the caller's, who closes it.

    Proxies, trust, event hooks and limits are the client's; so are its time-outs where it was given some, unless
    *keeps_timeouts* is False.
    """

    def __init__(
        self, client: Any, max_response_bytes: int = MAX_RESPONSE_BYTES, *, keeps_timeouts: bool = True
    ) -> None:
        self._client = client
        self._max_response_bytes = max_response_bytes
        self._keeps_timeouts = keeps_timeouts

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request* once; see `Transport.send`."""
        if request.on_sent is not None:
            request.on_sent()  # about now: httpx does not tell
        try:
            response = await self._client.send(self._build(request), stream=True, follow_redirects=False)
        except asyncio.CancelledError as error:
            drop_frames(error)
            raise
        except Exception as error:
            failure = call_error_from(error, HTTPX_ERRORS, request.url)
        else:
            body = _HttpxBody(response, request.url)
            return HttpResponse(response.status_code, response.headers, body, self._max_response_bytes)
        raise failure

    def _build(self, request: HttpRequest) -> Any:
        own_timeout, timeouts = self._client.timeout, request.timeouts
        make_timeout = type(own_timeout)
        keeps_own = self._keeps_timeouts and own_timeout != make_timeout(_HTTPX_DEFAULT_TIMEOUT)
        timeout = make_timeout(timeouts.read, connect=timeouts.connect, pool=timeouts.pool)
        return self._client.build_request(
            request.method,
            request.url,
            headers={**request.headers, **request.own_headers},
            content=b"".join(request.body),
            timeout=own_timeout if keeps_own else timeout,
        )

    async def aclose(self) -> None:
        """Do nothing: the client is closed by whoever made it."""


class _HttpxBody:
    """The body of a response of httpx or httpx2."""

    def __init__(self, response: Any, url: str) -> None:
        self._response = response
        self._url = url
        self._chunks: AsyncIterator[bytes] = response.aiter_bytes()

    def read_available(self) -> None:
        """Return None: httpx does not tell."""

    async def read_chunk(self) -> bytes:
        """Return the next bytes; b"" at the end."""
        try:
            return await anext(self._chunks, b"")
        except Exception as error:
            failure = call_error_from(error, HTTPX_ERRORS, self._url)
        raise failure

    async def close(self, *, is_complete: bool) -> None:  # noqa: ARG002 - httpx knows whether it is
        """Give the connection back, or close it."""
        await self._response.aclose()


class OwnHttpxTransport:
    """Sends requests through clients that *make_client* makes, one for each event loop; they are closed with it."""

    def __init__(self, make_client: Callable[[], Any]) -> None:
        self._clients = PerLoop(make_client, lambda client: client.aclose())

    def open(self) -> None:
        """Make the client of the running event loop. Raises what keeps it from being made."""
        self._clients.get()

    async def send(self, request: HttpRequest) -> HttpResponse:
        """Send *request* once; see `Transport.send`."""
        return await HttpxTransport(self._clients.get(), keeps_timeouts=False).send(request)

    async def aclose(self) -> None:
        """Close the clients, each in its own event loop."""
        await self._clients.aclose()


def make_httpx_client(library: ModuleType, arguments: Mapping[str, Any]) -> Any:
    """Return an `AsyncClient` of *library*, httpx or httpx2, with *arguments*, and our trust and limits otherwise."""
    limits = library.Limits(max_connections=1000, max_keepalive_connections=100)
    trust = {} if "verify" in arguments else {"verify": tls_context()}
    return library.AsyncClient(**{"limits": limits, **trust, **arguments})
