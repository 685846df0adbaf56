"""Ollama's SDK around requests and answers of our own. Imported when the first call is made, since it needs the SDK.

The SDK would drop most of a tool's schema, every call's id and all headers of an answer, and would read strings that
happen to name a file. It is therefore only asked where a request goes and how it is addressed; the transport that it
is given sends our JSON in the place of its own, and keeps the answer for us as it came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
import ollama

from modelhub.errors import NotConfigured
from modelhub.providers._http import tls_context

__all__ = ["http_client", "open_answer"]

# The SDK's `authorization` is not among them: it would be OLLAMA_API_KEY, whatever the host.
_KEPT = ("accept", "content-type", "user-agent")


class _Exchange(httpx.AsyncBaseTransport):
    """One request of the SDK: *body* goes out through *http*, and `response` is what came back, still unread."""

    def __init__(self, http: httpx.AsyncClient, body: bytes) -> None:
        self._http = http
        self._body = body
        self.response: httpx.Response | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name: request.headers[name] for name in _KEPT if name in request.headers}
        sent = self._http.build_request(request.method, request.url, headers=headers, content=self._body)
        self.response = await self._http.send(sent, stream=True)
        return httpx.Response(200, content=b"")  # for the SDK: a stream without a line


def http_client(client_args: Mapping[str, Any], connect_timeout: float) -> httpx.AsyncClient:
    """The client that really sends: with our TLS context and time-outs, then what the user says.

    It follows no redirects: they would send the conversation a second time, to a place that nobody chose.
    """
    defaults: dict[str, Any] = {
        "timeout": httpx.Timeout(600.0, connect=connect_timeout),
        "limits": httpx.Limits(max_connections=1000, max_keepalive_connections=100),
        "verify": tls_context(),
    }
    return httpx.AsyncClient(**(defaults | dict(client_args)))


async def open_answer(http: httpx.AsyncClient, host: str, model_name: str, body: bytes) -> httpx.Response:
    """Send *body* as a chat request to *host*; the answer is open, and the caller's to close, whatever its status."""
    exchange = _Exchange(http, body)
    try:
        client = ollama.AsyncClient(host=host, transport=exchange)
    except ValueError as error:
        raise NotConfigured(f"the host `{host}` cannot be read: {error}") from error
    # As a stream: for plain calls the SDK hides what kept it from connecting.
    async for _ in await client.chat(model=model_name, stream=True):
        pass
    if exchange.response is None:
        raise RuntimeError("the ollama SDK sent nothing")
    return exchange.response
