"""Requests and responses of the ASGI protocol."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, MutableMapping
from typing import Any, NoReturn

from modelhub.integrations.asgi.errors import HttpError

__all__ = [
    "ClientGone",
    "EventStream",
    "Receive",
    "Scope",
    "Send",
    "read_headers",
    "read_json",
    "run_while_connected",
    "send_json",
]


class ClientGone(Exception):
    """The client has disconnected before its request was read."""


Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def read_headers(scope: Scope) -> dict[str, str]:
    """Return the headers of a request by their names in lower case."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


async def read_json(receive: Receive, headers: Mapping[str, str], max_bytes: int) -> dict[str, Any]:
    """Return the JSON object of a request.

    Raises HttpError for anything else and for more than *max_bytes*, and ClientGone if there is nobody to answer.
    """
    # A page of another site may send any type of text from a browser, but not this one without asking first.
    if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HttpError(415, "the request must have the header `content-type: application/json`")
    body = await _read_body(receive, headers, max_bytes)
    try:
        data = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise HttpError(400, "the body of the request is not valid JSON") from None
    if not isinstance(data, dict):
        raise HttpError(400, "the body of the request must be a JSON object")
    return data


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


async def _read_body(receive: Receive, headers: Mapping[str, str], max_bytes: int) -> bytes:
    length = headers.get("content-length", "")
    declared = int(length) if length.isdecimal() and len(length) < 20 else 0
    body, received, is_whole = bytearray(), 0, False
    # Most clients read no answer before they have sent everything: of what is a little too long, all is received.
    while not is_whole and max(declared, received) <= max_bytes * _MAX_DISCARDED:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece = message.get("body", b"")
        received += len(piece)
        body += piece if received <= max_bytes else b""
        is_whole = not message.get("more_body", False)
    if is_whole and received <= max_bytes:
        return bytes(body)
    text = f"the request has more than {max_bytes:,} bytes (`max_request_bytes` of `serve`)"
    raise HttpError(413, text, code="request_too_large", headers={"x-should-retry": "false"})


_MAX_DISCARDED = 4
"""How many times the permitted size is received of a request that is too long."""


async def send_json(send: Send, data: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
    """Send *data* as the whole response."""
    body = json.dumps(data, ensure_ascii=False).encode("utf-8", "replace")
    all_headers = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    await send({"type": "http.response.start", "status": status, "headers": _encode_headers(all_headers.items())})
    await send({"type": "http.response.body", "body": body})


def _encode_headers(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]


class EventStream:
    """A response of server-sent events."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_open = False
        """Whether the response has begun: then its status is 200, whatever happens."""

    async def open(self, headers: Mapping[str, str]) -> None:
        """Begin the response."""
        self.is_open = True
        # The last header asks nginx not to hold events back.
        own = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }
        encoded = _encode_headers({**own, **headers}.items())
        await self._send({"type": "http.response.start", "status": 200, "headers": encoded})

    async def send(self, data: Any) -> None:
        """Send an event with *data*, as JSON."""
        await self._write(f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n")

    async def send_comment(self) -> None:
        """Send what clients skip, so that nobody between takes the connection for dead."""
        await self._write(": the answer is under way\n\n")

    async def finish(self) -> None:
        """End the response with OpenAI's mark of a complete stream."""
        await self._write("data: [DONE]\n\n")
        await self.close()

    async def close(self) -> None:
        """End the response without that mark."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _write(self, text: str) -> None:
        body = text.encode("utf-8", "replace")
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def run_while_connected(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Run *work*, and cancel it when the client disconnects. Raises what *work* raises."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watcher.cancel()
        is_abandoned = task.cancel()  # False if it is done already
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task, watcher})
    if not is_abandoned:
        task.result()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
