"""Failures at the border: what an SDK, an HTTP stack or a vendor says, as one of our classes.

By exception type only, along explicit causes; the SDKs' own classes are recognised by name, so that none is imported.
What a server answers is classified in `_error_mapping`.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator

from modelhub.errors import (
    BadReply,
    CallError,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    NotConfigured,
    TimedOut,
)

__all__ = ["causes", "misfit", "network_failure"]

_NETWORK: dict[str, tuple[type[CallError], str]] = {
    "ConnectTimeout": (ConnectTimeout, "no connection in time"),
    "PoolTimeout": (ConnectTimeout, "no free connection in time"),
    "ReadTimeout": (TimedOut, "no answer in time"),
    "WriteTimeout": (TimedOut, "the request could not be sent in time"),
    "ConnectError": (ConnectFailed, "cannot connect"),
    "ProxyError": (ConnectFailed, "cannot connect through the proxy"),
    "ClientConnectorError": (ConnectFailed, "cannot connect"),
    "ConnectionRefusedError": (ConnectFailed, "connection refused"),
    "gaierror": (ConnectFailed, "no such host"),
    "SSLError": (ConnectFailed, "TLS failed"),
    "UnsupportedProtocol": (NotConfigured, "the base URL must begin with http:// or https://"),
    "LocalProtocolError": (NotConfigured, "the request cannot be written: look at the key and the headers"),
    "InvalidURL": (NotConfigured, "the base URL cannot be read"),
    "TooManyRedirects": (BadReply, "too many redirects: look at the base URL"),
    "DecodingError": (BadReply, "the answer's compression is broken"),
    "ReadError": (ConnectionLost, "the connection broke"),
    "WriteError": (ConnectionLost, "the connection broke"),
    "CloseError": (ConnectionLost, "the connection broke"),
    "RemoteProtocolError": (ConnectionLost, "the connection was closed before the answer was complete"),
    "ServerDisconnectedError": (ConnectionLost, "the connection was closed before the answer"),
    "ClientPayloadError": (ConnectionLost, "the connection was closed before the answer was complete"),
    "ClientConnectionError": (ConnectionLost, "the connection broke"),
    "TimeoutError": (TimedOut, "no answer in time"),
    "ConnectionError": (ConnectionLost, "the connection broke"),
    "JSONDecodeError": (BadReply, "the answer is not JSON"),
    "UnicodeDecodeError": (BadReply, "the answer is not UTF-8"),
    "ValidationError": (BadReply, "the answer has another shape than the SDK expects"),
}
"""Names of exception classes (httpx, httpx2, aiohttp, built-in) to ours and what to say; the most derived name wins."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and what it was explicitly raised from, outermost first.

    An exception's `__context__` is not among them: it is whatever happened to be handled at that time, such as the
    failure of an earlier attempt.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and not isinstance(current, CallError):
        seen.add(id(current))
        yield current
        current = current.__cause__


def network_failure(error: BaseException) -> CallError | None:
    """What the HTTP stack met, if *error* or one of its causes says so.

    The outermost error that is known decides the class: it says in which phase (connecting, sending, reading) the
    request was. The innermost cause of the same class gives the reason.
    """
    chain = list(causes(error))
    known = [_NETWORK[name] for cause in chain if (name := _network_name(cause)) is not None]
    if not known:
        return None
    cls = known[0][0]
    words = [words for other, words in known if other is cls][-1]
    reasons = [reason for cause in chain if (reason := _reason(cause)) is not None]
    return cls(f"{words}: {reasons[-1]}" if reasons and cls is ConnectFailed else words)


def _network_name(error: BaseException) -> str | None:
    return next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in _NETWORK), None)


def _reason(error: BaseException) -> str | None:
    """Why there is no connection, in OpenSSL's or the operating system's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError):
        return error.reason.replace("_", " ").lower() if error.reason else None
    if type(error) is OSError and error.errno is not None:
        return os.strerror(error.errno)
    return None


def misfit(message: str) -> BadReply:
    """The failure of an answer that is sound but not what this one request demanded: no breaker counts it."""
    failure = BadReply(message)
    failure.request_specific = True
    return failure
