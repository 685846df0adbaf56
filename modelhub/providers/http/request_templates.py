"""Request templates: what an official SDK writes around a body, recorded once and sent with ours.

The SDK is given a client that only records. It writes its request (address, key, headers, API version) into that
client, which sends nothing and answers an empty object; what was written, less what belongs to one request, is the
template. Only public parameters of the SDKs are used.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

from modelhub.providers.addresses import split_userinfo
from modelhub.providers.http.message import HttpRequest, Timeouts

__all__ = ["RequestRecorder", "RequestTemplate", "RequestTemplates", "SdkClient", "is_tracing_header"]

MAX_TEMPLATES = 64

_OF_ONE_REQUEST = frozenset({"content-length", "transfer-encoding", "cookie", "host", "connection"})
_NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_DECODABLE = frozenset({"gzip", "deflate", "identity"})
_TRACING_HEADERS = frozenset(
    {"traceparent", "tracestate", "baggage", "correlation-context", "b3", "uber-trace-id", "x-cloud-trace-context"}
)
_TRACING_PREFIXES = (
    "sentry-",
    "x-b3-",
    "x-datadog-",
    "x-amzn-trace-",
    "x-ot-span-",
    "ot-tracer-",
    "newrelic",
    "elastic-apm-",
)


def is_tracing_header(name: str) -> bool:
    """Whether the header *name* carries the trace of one request: W3C, B3, Jaeger, and the names of vendors."""
    lower = name.lower()
    return lower in _TRACING_HEADERS or lower.startswith(_TRACING_PREFIXES)


@dataclass(frozen=True, slots=True, repr=False)
class RequestTemplate:
    """A request without its body.

    `body` is what the SDK wrote there; `parameters` is what of it is sent, for vendors whose SDK has a part in it.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def fill(
        self,
        body: Sequence[bytes],
        timeouts: Timeouts,
        own_headers: Mapping[str, str] = _NO_HEADERS,
        on_sent: Callable[[], None] | None = None,
    ) -> HttpRequest:
        """Return the request with *body*; *own_headers* are those of this one request, such as its trace."""
        return HttpRequest(self.url, self.headers, body, self.method, timeouts, own_headers, on_sent)

    def __repr__(self) -> str:
        return repr(self.fill((), Timeouts()))


class RequestRecorder:
    """A client for an SDK, of *library* (httpx or httpx2), that records requests in place of sending them.

    `client` is what the SDK is given; it opens no connection and needs no closing. *arguments* are further arguments
    of the client. The answer to every request is *answer*, a JSON text.
    """

    def __init__(self, library: ModuleType, answer: bytes = b"{}", **arguments: Any) -> None:
        self._lock = asyncio.Lock()
        self._requests: list[RequestTemplate] = []
        requests = self._requests

        class RecordingTransport(library.AsyncBaseTransport):  # type: ignore[name-defined, misc]
            async def handle_async_request(self, request: Any) -> Any:
                requests.append(_template_from(request, await request.aread()))
                return library.Response(200, content=answer, headers={"content-type": "application/json"})

        self.transport = RecordingTransport()
        self.client = library.AsyncClient(transport=self.transport, trust_env=False, **arguments)

    async def record(self, write: Callable[[], Awaitable[Any]]) -> RequestTemplate:
        """Return what the SDK writes when *write* calls it; what it makes of the empty answer does not matter.

        Raises what *write* raises if nothing was written.
        """
        async with self._lock:
            self._requests.clear()
            try:
                await write()
            except Exception:
                if not self._requests:
                    raise
            if not self._requests:
                raise RuntimeError("the SDK wrote no request")
            return self._requests[0]


def _template_from(request: Any, body: bytes) -> RequestTemplate:
    headers = {}
    for raw_name, raw_value in request.headers.raw:
        name, value = raw_name.decode("ascii"), raw_value.decode("latin-1")
        if name.lower() == "accept-encoding":
            codings = [
                coding.strip() for coding in value.split(",")
            ]  # but what the transport may not be able to decode
            value = ", ".join(coding for coding in codings if coding.partition(";")[0] in _DECODABLE)
        if name.lower() not in _OF_ONE_REQUEST and not is_tracing_header(name):
            headers[name] = value
    url, _ = split_userinfo(str(request.url))  # it has become a header
    return RequestTemplate(request.method, url, headers, body)


class SdkClient(NamedTuple):
    """An SDK's client, and what it writes into."""

    sdk: Any
    recorder: RequestRecorder


class RequestTemplates:
    """The templates of one client, by what a request's address and headers depend on.

    *writer* is what the SDK writes with. *lifetime* bounds, in seconds, how long a template is used: for credentials
    that are renewed; with 0 none is kept. *clock* counts the seconds.
    """

    def __init__(
        self, writer: Any, *, lifetime: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.writer = writer
        self._lifetime = lifetime
        self._clock = clock
        self._templates: OrderedDict[Hashable, tuple[RequestTemplate, float]] = OrderedDict()

    def find(self, key: Hashable) -> RequestTemplate | None:
        """Return the template for *key*, or None if none is known, or its time is over."""
        entry = self._templates.get(key)
        if entry is not None and (self._lifetime is None or self._clock() - entry[1] < self._lifetime):
            return entry[0]
        return None

    async def record(self, key: Hashable, write: Callable[[Any], Awaitable[RequestTemplate]]) -> RequestTemplate:
        """Return what *write* has the writer write, and keep it for *key*, unless that is None. Raises like *write*."""
        template = await write(self.writer)
        if self._lifetime != 0 and key is not None:
            while len(self._templates) >= MAX_TEMPLATES:
                self._templates.popitem(last=False)
            self._templates[key] = template, self._clock()
        return template

    def clear(self) -> None:
        """Forget all templates: the vendor has refused the credentials in them."""
        self._templates.clear()
