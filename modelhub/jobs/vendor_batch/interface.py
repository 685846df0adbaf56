"""What the batch API of a vendor is asked for, and how: the same five things at every vendor."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

from modelhub.core.errors import BadReply, CallError
from modelhub.providers.http import HttpRequest, HttpResponse, Timeouts, Transport

__all__ = ["BatchClient", "BatchRow", "BatchState", "RowResponse", "VendorBatches"]

PRICE_FACTOR = Decimal("0.5")
"""What a batch costs at every vendor, compared with single calls."""


class BatchRow(NamedTuple):
    """A row as a vendor's batch has it: an id of ours, and the body of the request."""

    row_id: str
    body: Mapping[str, Any]


class BatchState(NamedTuple):
    """How far a batch is: whether it `has_ended`, in whatever way, and how it stands in the vendor's words.

    `failure` is why the vendor has refused the batch as a whole, if it has: none of its rows was answered then.
    """

    has_ended: bool
    status: str
    failure: str | None = None


class RowResponse(NamedTuple):
    """What became of a row: the `body` of the vendor's answer, or None with the `reason` why there is none."""

    row_id: str
    body: bytes | None
    reason: str = ""


class VendorBatches(Protocol):
    """The batch API of one vendor, for one model. All methods raise CallError."""

    async def submit(self, batch_id: str, rows: Sequence[BatchRow]) -> str:
        """Hand in *rows* as a batch that can be found by *batch_id*; return the vendor's name for it."""
        ...

    async def find(self, batch_id: str, row_ids: Sequence[str]) -> str | None:
        """Return the vendor's name of the batch *batch_id* with these rows, or None if it was never handed in."""
        ...

    async def poll(self, name: str) -> BatchState:
        """Return how far the batch *name* is."""
        ...

    def results(self, name: str) -> AsyncIterator[RowResponse]:
        """Yield what became of each row of the batch *name*, which has ended, in any order; rows may be missing."""
        ...

    async def cancel(self, name: str) -> None:
        """Have the vendor stop the batch *name*; what is answered by then can still be read when it has ended."""
        ...


class BatchClient:
    """Sends requests to a vendor's batch API, authorized like *sample*, a request for a single answer.

    *make_error* says what an answer that is no success means.
    """

    def __init__(
        self,
        transport: Transport,
        sample: HttpRequest,
        make_error: Callable[[int, Mapping[str, str], bytes], CallError],
    ) -> None:
        self._transport = transport
        self._make_error = make_error
        skipped = ("content-type", "accept", "x-stainless-raw-response")
        self._headers = {name: value for name, value in sample.headers.items() if name.lower() not in skipped}

    async def get(self, url: str) -> Any:
        """Return the JSON at *url*."""
        return await self._read_json(HttpRequest(url, self._headers, (), "GET", Timeouts()))

    async def post(self, url: str, value: Any = None) -> Any:
        """Send *value* as JSON, or nothing, and return the JSON that is answered."""
        body = b"" if value is None else json.dumps(value).encode()
        return await self.post_bytes(url, body, "application/json")

    async def post_bytes(self, url: str, body: bytes, content_type: str) -> Any:
        """Send *body* and return the JSON that is answered."""
        headers = {**self._headers, "Content-Type": content_type}
        return await self._read_json(HttpRequest(url, headers, (body,) if body else (), "POST", Timeouts()))

    async def get_lines(self, url: str) -> AsyncIterator[Any]:
        """Yield the JSON value of each line at *url*."""
        response = await self._send(HttpRequest(url, self._headers, (), "GET", Timeouts()))
        try:
            buffer = b""
            async for chunk in response.aiter_bytes():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield json.loads(line)
            if buffer.strip():
                yield json.loads(buffer)
        finally:
            await response.aclose()

    async def _read_json(self, request: HttpRequest) -> Any:
        response = await self._send(request)
        try:
            return json.loads(await response.read() or b"{}")
        except ValueError:
            raise BadReply("the batch API answered something that is not JSON") from None
        finally:
            await response.aclose()

    async def _send(self, request: HttpRequest) -> HttpResponse:
        response = await self._transport.send(request)
        if 200 <= response.status < 300:
            return response
        try:
            body = await response.read()
        finally:
            await response.aclose()
        raise self._make_error(response.status, response.headers, body)
