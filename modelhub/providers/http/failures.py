"""What an HTTP library's exceptions mean, by their class: one table for each library, read once at the border.

The tables have names, not classes, so that no library is loaded for them. Every exception that a library exports has a
row: a test asks the library for them.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit

from modelhub.core.errors import (
    BadReply,
    CallError,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    NotConfigured,
    TimedOut,
    UnknownFailure,
)
from modelhub.core.tracebacks import drop_frames
from modelhub.providers.addresses import server_name

__all__ = ["AIOHTTP_ERRORS", "HTTPX_ERRORS", "call_error_from", "find_network_failure"]

ErrorTable = Mapping[str, tuple[type[CallError], str]]

_NO_CONNECTION = "no connection in time"
_CANNOT_CONNECT = "cannot connect"
_TLS_FAILED = "TLS failed"
_NO_ANSWER = "no answer in time"
_BROKEN = "the connection broke"
_CUT_OFF = "the connection was closed before the answer was complete"
_DISCONNECTED = "the connection was closed before the answer"
_NOT_HTTP = "the answer is not HTTP/1.1, or its headers are garbled"
_NOT_READABLE = f"{_NOT_HTTP}, or its compression was not asked for"
_BAD_URL = "the address cannot be used"
_UNWRITABLE = "the request cannot be written: look at the key and the headers"
_UNDECODABLE = "the answer's compression is broken"
_REDIRECTED = "the server redirects: look at the base URL"

AIOHTTP_ERRORS: ErrorTable = {
    "ConnectionTimeoutError": (ConnectTimeout, _NO_CONNECTION),
    "SocketTimeoutError": (TimedOut, _NO_ANSWER),
    "ServerTimeoutError": (TimedOut, _NO_ANSWER),
    "ClientConnectorDNSError": (ConnectFailed, "no such host"),
    "ClientConnectorCertificateError": (ConnectFailed, _TLS_FAILED),
    "ClientConnectorSSLError": (ConnectFailed, _TLS_FAILED),
    "ClientSSLError": (ConnectFailed, _TLS_FAILED),
    "ServerFingerprintMismatch": (ConnectFailed, _TLS_FAILED),
    "ClientProxyConnectionError": (ConnectFailed, "cannot connect to the proxy"),
    "ClientHttpProxyError": (ConnectFailed, "the proxy refuses the connection"),
    "UnixClientConnectorError": (ConnectFailed, _CANNOT_CONNECT),
    "ClientConnectorError": (ConnectFailed, _CANNOT_CONNECT),
    "ServerDisconnectedError": (ConnectionLost, _DISCONNECTED),
    "ServerConnectionError": (ConnectionLost, _BROKEN),
    "ClientConnectionResetError": (ConnectionLost, _BROKEN),
    "ClientOSError": (ConnectionLost, _BROKEN),
    "ClientConnectionError": (ConnectionLost, _BROKEN),
    "UploadAbortedError": (ConnectionLost, _BROKEN),
    "ClientPayloadError": (ConnectionLost, _CUT_OFF),
    "ContentTypeError": (BadReply, _NOT_HTTP),
    "WSServerHandshakeError": (BadReply, _NOT_HTTP),
    "TooManyRedirects": (NotConfigured, _REDIRECTED),
    "ClientResponseError": (BadReply, _NOT_READABLE),
    "InvalidUrlRedirectClientError": (NotConfigured, _REDIRECTED),
    "NonHttpUrlRedirectClientError": (NotConfigured, _REDIRECTED),
    "RedirectClientError": (NotConfigured, _REDIRECTED),
    "InvalidUrlClientError": (NotConfigured, _BAD_URL),
    "NonHttpUrlClientError": (NotConfigured, _BAD_URL),
    "InvalidURL": (NotConfigured, _BAD_URL),
    "ClientError": (UnknownFailure, "the HTTP client failed"),
    "ContentEncodingError": (BadReply, _UNDECODABLE),
}
"""aiohttp's client exceptions. What concerns WebSockets or servers cannot happen here and has no row."""

HTTPX_ERRORS: ErrorTable = {
    "ConnectTimeout": (ConnectTimeout, _NO_CONNECTION),
    "PoolTimeout": (ConnectTimeout, "no free connection in time"),
    "ReadTimeout": (TimedOut, _NO_ANSWER),
    "WriteTimeout": (TimedOut, "the request could not be sent in time"),
    "TimeoutException": (TimedOut, _NO_ANSWER),
    "ConnectError": (ConnectFailed, _CANNOT_CONNECT),
    "ProxyError": (ConnectFailed, "cannot connect through the proxy"),
    "ReadError": (ConnectionLost, _BROKEN),
    "WriteError": (ConnectionLost, _BROKEN),
    "CloseError": (ConnectionLost, _BROKEN),
    "NetworkError": (ConnectionLost, _BROKEN),
    "RemoteProtocolError": (ConnectionLost, _CUT_OFF),
    "LocalProtocolError": (NotConfigured, _UNWRITABLE),
    "ProtocolError": (ConnectionLost, _BROKEN),
    "UnsupportedProtocol": (NotConfigured, _BAD_URL),
    "InvalidURL": (NotConfigured, _BAD_URL),
    "DecodingError": (BadReply, _UNDECODABLE),
    "TooManyRedirects": (NotConfigured, _REDIRECTED),
    "HTTPStatusError": (BadReply, "the client refuses the answer's status"),
    "SSEError": (BadReply, _NOT_HTTP),
    "CookieConflict": (UnknownFailure, "the HTTP client failed"),
    "TransportError": (ConnectionLost, _BROKEN),
    "RequestError": (UnknownFailure, "the HTTP client failed"),
    "HTTPError": (UnknownFailure, "the HTTP client failed"),
    "StreamConsumed": (UnknownFailure, "the HTTP client failed"),
    "StreamClosed": (ConnectionLost, _BROKEN),
    "ResponseNotRead": (UnknownFailure, "the HTTP client failed"),
    "RequestNotRead": (UnknownFailure, "the HTTP client failed"),
    "StreamError": (UnknownFailure, "the HTTP client failed"),
}
"""The exceptions of httpx and httpx2."""

_SYSTEM_ERRORS: ErrorTable = {
    "ConnectionRefusedError": (ConnectFailed, _CANNOT_CONNECT),
    "ConnectionError": (ConnectionLost, _BROKEN),
    "TimeoutError": (TimedOut, _NO_ANSWER),
    "gaierror": (ConnectFailed, "no such host"),
    "SSLError": (ConnectFailed, _TLS_FAILED),
    "JSONDecodeError": (BadReply, "the answer is not JSON"),
    "UnicodeDecodeError": (BadReply, "the answer is not UTF-8"),
    "ValidationError": (BadReply, "the answer has another shape than the SDK expects"),
}
"""What the operating system raises, and what SDKs let through."""

_OTHER_ERRORS: ErrorTable = {
    **_SYSTEM_ERRORS,
    "OSError": (ConnectFailed, _CANNOT_CONNECT),
    "ValueError": (NotConfigured, _UNWRITABLE),
    "TypeError": (NotConfigured, _UNWRITABLE),
}
"""What is raised as it is below or beside the libraries: by the operating system, or by what checks a header."""


_LIBRARY_ERRORS: ErrorTable = {**_SYSTEM_ERRORS, **HTTPX_ERRORS, **AIOHTTP_ERRORS}


def call_error_from(error: Exception, table: ErrorTable, url: str) -> CallError:
    """Return what *error* of a request to *url* means, by *table*, with *error* as its cause.

    The message names the server, and the reason where there is no connection. Tracebacks are taken off the cause: its
    frames hold the request's headers.
    """
    if isinstance(error, CallError):
        return error
    rows = {**_OTHER_ERRORS, **table}
    # aiohttp wraps this one in its errors of cut-off bodies, or of garbled headers.
    is_coding = type(error.__cause__).__name__ == "ContentEncodingError"
    deciding = type(error.__cause__ if is_coding else error)
    row = next((rows[cls.__name__] for cls in deciding.__mro__ if cls.__name__ in rows), None)
    cls, words = row or (UnknownFailure, type(error).__name__)
    reason = _find_reason(error) if cls is ConnectFailed else None
    parts = [words, reason, server_name(url) or urlsplit(url).netloc]
    failure = cls(": ".join(part for part in parts if part))
    failure.__cause__ = error
    drop_frames(error)
    return failure


def find_network_failure(error: BaseException, url: str) -> CallError | None:
    """Return what *error*, or what it was explicitly raised from, means; None if no network has a part in it.

    For providers that send by other means than a `Transport`: the outermost error that is known decides.
    """
    current: BaseException | None = error
    while current is not None and not isinstance(current, CallError):
        names = {cls.__name__ for cls in type(current).__mro__}
        if isinstance(current, Exception) and not names.isdisjoint(_LIBRARY_ERRORS):
            return call_error_from(current, _LIBRARY_ERRORS, url)
        current = current.__cause__
    return None


def _find_reason(error: BaseException) -> str | None:
    """Return why there is no connection, in the words of OpenSSL, the proxy or the operating system."""
    reason: str | None = None
    current: BaseException | None = error
    while current is not None:
        reason = _reason(current) or reason
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return reason


def _reason(error: BaseException) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError) and hasattr(error, "verify_message"):
        return error.verify_message.rstrip(".")
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None)  # aiohttp's own has none: its cause says it
        return reason.replace("_", " ").lower() if reason else None
    if type(error).__name__ == "ClientHttpProxyError":
        return str(getattr(error, "status", "")) or None
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if type(error) is OSError and error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return None
