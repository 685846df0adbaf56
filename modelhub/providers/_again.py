"""Requests whose head an SDK has written, sent again with other bodies.

An SDK takes longer to put together the address and the headers of a request than the whole stack takes for a call, and
they are the same each time. So the SDK sends the first requests; once it has written the same head twice, that head is
sent again as it is. Whatever goes wrong is handed to the SDK, as an answer to make an error of, or as the answer to a
request of its own, and its error is the one that is raised.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

from modelhub.providers._http import GIVEN, MARKED, SENT, head_of, unpacked
from modelhub.providers._incoming import Incoming, TransportError
from modelhub.providers._transport import Head, Pool
from modelhub.providers._wire import Marked, written

__all__ = ["Again", "error_maker"]

_MOST = 64  # heads that are kept


class _Known(NamedTuple):
    """What the SDK has written twice, and the same request without what it sends, for its errors to name."""

    head: Head
    request: Any


class Again:
    """The heads of one client, whose connections are *pool*; without one, the SDK sends everything.

    *library* is the client's, httpx or httpx2. *refusals* tells that answers of any status are to be given, and not
    left to the SDK; *refused* is how it makes an error of an answer with a status of 400 or more.
    """

    def __init__(
        self,
        library: ModuleType,
        pool: Pool | None,
        *,
        refusals: bool = False,
        refused: Callable[[Any], Exception] | None = None,
    ) -> None:
        self._library = library
        self._pool = pool
        self._refusals = refusals
        self._refused = refused
        self._heads: dict[Hashable, _Known] = {}
        self._seen: dict[Hashable, Head] = {}

    async def send(
        self,
        key: Hashable,
        value: Any,
        ask: Callable[[Any], Awaitable[Any]],
        body: Callable[[Any], Any] = lambda value: value,
    ) -> Any:
        """The answer to a request for *value*: *ask* lets the SDK send it, *body* gives the JSON that it would send.

        *key* is whatever its head depends on; None where that cannot be said. *ask* gets None instead of the value if
        the answer is there already: then any request to the same address will do. The answer is the HTTP library's
        response, or an `Incoming`, which is used like it.
        """
        known = self._heads.get(key) if key is not None else None
        data = await _written(value, body) if known is not None else None
        if known is None or data is None or self._pool is None:
            return await self.learning(key, value, ask)
        found: Incoming | TransportError
        try:
            found = await self._pool.send(known.head, data)
        except TransportError as error:
            found = error
        else:
            if found.status_code < 300 or self._refusals:
                return found if "content-encoding" not in found.headers else unpacked(self._library, found)
            if found.status_code >= 400 and self._refused is not None:
                response = unpacked(self._library, found, known.request)
                await response.aread()
                raise self._refused(response)
        token = GIVEN.set(found)
        try:
            return await ask(None)
        finally:
            GIVEN.reset(token)

    async def learning(self, key: Hashable, value: Any, ask: Callable[[Any], Awaitable[Any]]) -> Any:
        """The answer to a request that the SDK sends; the head that it writes is noted, whatever comes of it.

        It would write a long text in one go, which keeps the loop from everybody else: it gets marks for them.
        """
        if self._pool is None:
            return await ask(value)
        sent: list[Any] = []
        marked = Marked.of(value)
        tokens = SENT.set(sent), MARKED.set(marked)
        try:
            return await ask(value if marked is None else marked.value)
        finally:
            SENT.reset(tokens[0])
            MARKED.reset(tokens[1])
            if key is not None and len(sent) == 1:
                with suppress(TransportError):  # a head that cannot be sent
                    self._learn(key, sent[0])

    def _learn(self, key: Hashable, request: Any) -> None:
        # Instrumentation that writes a trace into the request has to see each request: none of these is sent again.
        if any(is_tracing_header(name) for name in request.headers):
            return
        # Twice the same: nothing in it was of that one request, like a nonce or a fresh token.
        head = _without_cookies(head_of(request))
        if self._seen.get(key) == head:
            if len(self._heads) >= _MOST:
                self._heads.clear()
            self._heads[key] = _Known(head, self._library.Request(request.method, request.url))
            self._seen.pop(key)
        else:
            self._seen = {key: head, **(self._seen if len(self._seen) < _MOST else {})}


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


def error_maker(client: Any) -> Callable[[Any], Exception] | None:
    """How *client*, of OpenAI's or Anthropic's SDK, makes an error of an answer; None if it does not say.

    It has no public name for it; a release that calls it otherwise is asked the long way.
    """
    found = getattr(client, "_make_status_error_from_response", None)
    return found if callable(found) else None


async def _written(value: Any, body: Callable[[Any], Any]) -> list[bytes] | None:
    try:
        return await written(body(value))
    except (TypeError, ValueError, RecursionError):
        return None  # the SDK may know how to write it, or what to say


def _without_cookies(head: Head) -> Head:
    # They are the client's, who has them from the answers that it saw.
    lines = head.start.split(b"\r\n")
    return replace(head, start=b"\r\n".join(line for line in lines if not line.lower().startswith(b"cookie:")))
