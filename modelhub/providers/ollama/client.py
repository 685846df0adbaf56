"""Ollama's SDK around requests and answers of our own.

The SDK would drop most of a tool's schema, every call's id and all headers of an answer, and would read strings that
happen to name a file. It is therefore only asked where a request goes and how it is addressed; the transport that it
is given sends our JSON in the place of its own, and keeps the answer for us as it came.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelhub.errors import InvalidRequest, NotConfigured
from modelhub.providers._address import hide_password
from modelhub.providers._again import Again
from modelhub.providers._http import http_client

if TYPE_CHECKING:
    import httpx

__all__ = ["OllamaClient", "connect"]

_STEADY = frozenset({"auth", "headers", "timeout"})
"""Keywords of the client with which its requests all have the same head."""

# The SDK's `authorization` is not among them: it would be OLLAMA_API_KEY, whatever the host.
_KEPT = ("accept", "content-type", "user-agent")


class _Exchange:
    """A transport for one request of the SDK: *body* goes out through *http*; `response` came back, still unread."""

    def __init__(self, http: httpx.AsyncClient, body: bytes) -> None:
        self._http = http
        self._body = body
        self.response: httpx.Response | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        import httpx

        headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
        sent = self._http.build_request(request.method, request.url, headers=headers, content=self._body)
        self.response = await self._http.send(sent, stream=True)
        return httpx.Response(200, content=b"")  # for the SDK: a stream without a line

    async def aclose(self) -> None:
        """Nothing: the connections are those of *http*."""


def connect(client_args: Mapping[str, Any], connect_timeout: float) -> OllamaClient:
    """The client that really sends: with our time-outs, then what the user says."""
    import httpx

    arguments = {"timeout": httpx.Timeout(600.0, connect=connect_timeout), **client_args}
    http, pool = http_client(httpx, **arguments)
    return OllamaClient(http, Again(httpx, pool if client_args.keys() <= _STEADY else None, refusals=True))


@dataclass(frozen=True, slots=True)
class OllamaClient:
    """The HTTP client of one event loop, and what the SDK need not write again."""

    http: httpx.AsyncClient
    again: Again

    async def open_answer(self, host: str, model_name: str, body: Mapping[str, Any]) -> Any:
        """Send *body* as a chat request to *host*; the answer is the caller's to close, whatever its status."""
        return await self.again.send("chat", body, lambda body: _ask(self.http, host, model_name, body or {}))


async def _ask(http: httpx.AsyncClient, host: str, model_name: str, body: Mapping[str, Any]) -> httpx.Response:
    try:
        written = json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise InvalidRequest(f"the parameters cannot be written as JSON: {error}") from error
    exchange = _Exchange(http, written)
    client = _sdk_client(host, exchange)
    # As a stream: for plain calls the SDK hides what kept it from connecting.
    async for _ in await client.chat(model=model_name, stream=True):
        pass
    if exchange.response is None:
        raise RuntimeError("the ollama SDK sent nothing")
    return exchange.response


def _sdk_client(host: str, exchange: _Exchange) -> Any:
    try:
        import ollama
    except Exception as error:
        # The SDK makes a client while it is imported, out of OLLAMA_HOST and the proxy variables.
        raise NotConfigured(
            f"the ollama SDK cannot be imported ({error}): look at OLLAMA_HOST and the proxy variables"
        ) from error
    try:
        return ollama.AsyncClient(host=host, transport=exchange)
    except ValueError as error:
        raise NotConfigured(f"the host `{hide_password(host)}` cannot be read: {error}") from error
