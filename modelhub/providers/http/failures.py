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
"""What an exception means, by the name of its class, and in which words."""


def _by_name(*rows: tuple[type[CallError], str, str]) -> ErrorTable:
    """Return the table of *rows*: a meaning, its words, and the names of all exceptions that mean this."""
    return {name: (cls, words) for cls, words, names in rows for name in names.split()}


_NO_CONNECTION = "no connection in time"
_CANNOT_CONNECT = "cannot connect"
_NO_HOST = "no such host"
_TLS_FAILED = "TLS failed"
_NO_ANSWER = "no answer in time"
_BROKEN = "the connection broke"
_CUT_OFF = "the connection was closed before the answer was complete"
_NOT_HTTP = "the answer is not HTTP/1.1, or its headers are garbled"
_BAD_URL = "the address cannot be used"
_UNWRITABLE = "the request cannot be written: look at the key and the headers"
_UNDECODABLE = "the answer's compression is broken"
_REDIRECTED = "the server redirects: look at the base URL"
_CLIENT_FAILED = "the HTTP client failed"

AIOHTTP_ERRORS = _by_name(
    (ConnectTimeout, _NO_CONNECTION, "ConnectionTimeoutError"),
    (TimedOut, _NO_ANSWER, "SocketTimeoutError ServerTimeoutError"),
    (ConnectFailed, _NO_HOST, "ClientConnectorDNSError"),
    (ConnectFailed, _TLS_FAILED, "ClientConnectorCertificateError ClientConnectorSSLError ClientSSLError"),
    (ConnectFailed, _TLS_FAILED, "ServerFingerprintMismatch"),
    (ConnectFailed, "cannot connect to the proxy", "ClientProxyConnectionError"),
    (ConnectFailed, "the proxy refuses the connection", "ClientHttpProxyError"),
    (ConnectFailed, _CANNOT_CONNECT, "UnixClientConnectorError ClientConnectorError"),
    (ConnectionLost, "the connection was closed before the answer", "ServerDisconnectedError"),
    (ConnectionLost, _BROKEN, "ServerConnectionError ClientConnectionResetError ClientOSError"),
    (ConnectionLost, _BROKEN, "ClientConnectionError UploadAbortedError"),
    (ConnectionLost, _CUT_OFF, "ClientPayloadError"),
    (BadReply, _NOT_HTTP, "ContentTypeError WSServerHandshakeError"),
    (BadReply, f"{_NOT_HTTP}, or its compression was not asked for", "ClientResponseError"),
    (BadReply, _UNDECODABLE, "ContentEncodingError"),
    (NotConfigured, _REDIRECTED, "TooManyRedirects RedirectClientError"),
    (NotConfigured, _REDIRECTED, "InvalidUrlRedirectClientError NonHttpUrlRedirectClientError"),
    (NotConfigured, _BAD_URL, "InvalidUrlClientError NonHttpUrlClientError InvalidURL"),
    (UnknownFailure, _CLIENT_FAILED, "ClientError"),
)
"""aiohttp's client exceptions. What concerns WebSockets or servers cannot happen here and has no row."""

HTTPX_ERRORS = _by_name(
    (ConnectTimeout, _NO_CONNECTION, "ConnectTimeout"),
    (ConnectTimeout, "no free connection in time", "PoolTimeout"),
    (TimedOut, _NO_ANSWER, "ReadTimeout TimeoutException"),
    (TimedOut, "the request could not be sent in time", "WriteTimeout"),
    (ConnectFailed, _CANNOT_CONNECT, "ConnectError"),
    (ConnectFailed, "cannot connect through the proxy", "ProxyError"),
    (ConnectionLost, _BROKEN, "ReadError WriteError CloseError NetworkError ProtocolError TransportError StreamClosed"),
    (ConnectionLost, _CUT_OFF, "RemoteProtocolError"),
    (NotConfigured, _UNWRITABLE, "LocalProtocolError"),
    (NotConfigured, _BAD_URL, "UnsupportedProtocol InvalidURL"),
    (NotConfigured, _REDIRECTED, "TooManyRedirects"),
    (BadReply, _UNDECODABLE, "DecodingError"),
    (BadReply, "the client refuses the answer's status", "HTTPStatusError"),
    (BadReply, _NOT_HTTP, "SSEError"),
    (UnknownFailure, _CLIENT_FAILED, "CookieConflict RequestError HTTPError"),
    (UnknownFailure, _CLIENT_FAILED, "StreamConsumed ResponseNotRead RequestNotRead StreamError"),
)
"""The exceptions of httpx and httpx2."""

_SYSTEM_ERRORS = _by_name(
    (ConnectFailed, _CANNOT_CONNECT, "ConnectionRefusedError"),
    (ConnectionLost, _BROKEN, "ConnectionError"),
    (TimedOut, _NO_ANSWER, "TimeoutError"),
    (ConnectFailed, _NO_HOST, "gaierror"),
    (ConnectFailed, _TLS_FAILED, "SSLError"),
    (BadReply, "the answer is not JSON", "JSONDecodeError"),
    (BadReply, "the answer is not UTF-8", "UnicodeDecodeError"),
    (BadReply, "the answer has another shape than the SDK expects", "ValidationError"),
)
"""What the operating system raises, and what SDKs let through."""

_OTHER_ERRORS: ErrorTable = {
    **_SYSTEM_ERRORS,
    **_by_name((ConnectFailed, _CANNOT_CONNECT, "OSError"), (NotConfigured, _UNWRITABLE, "ValueError TypeError")),
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
