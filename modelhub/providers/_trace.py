"""The headers that put a request to a vendor into the caller's trace."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

__all__ = ["add_trace_headers", "trace_headers"]

trace_headers: ContextVar[Mapping[str, str]] = ContextVar("modelhub_trace_headers", default=MappingProxyType({}))
"""`traceparent` and `tracestate` of the attempt that is being made. They are each request's own: whatever keeps the
headers of one request for the next must read them anew."""


async def add_trace_headers(request: Any) -> None:
    """Add the headers to *request*: an event hook for clients of httpx that have connections of their own."""
    request.headers.update(trace_headers.get())
