"""Failures at the border: what an SDK, an HTTP stack or a vendor says, as one of our classes.

By exception type, status and error code only; the SDKs' own classes are recognised by name, so that none is imported.
"""

from __future__ import annotations

import email.utils
import os
import re
import ssl
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from modelhub.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    ContentBlocked,
    ContextTooLong,
    ModelNotFound,
    NotConfigured,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    TimedOut,
    UnknownFailure,
    UnsupportedFeature,
)

__all__ = ["CODES", "causes", "network_failure", "parse_retry_after", "status_failure"]

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

_STATUS: dict[int, type[CallError]] = {
    400: RequestRefused,
    401: AuthenticationFailed,
    402: QuotaExhausted,
    403: AuthenticationFailed,
    404: ModelNotFound,
    408: ServerError,
    409: ServerError,
    425: Overloaded,
    429: RateLimited,
    503: Overloaded,
    529: Overloaded,
}

CODES: dict[str, type[CallError]] = {
    "insufficient_quota": QuotaExhausted,
    "billing_hard_limit_reached": QuotaExhausted,
    "billing_not_active": QuotaExhausted,
    "insufficient_balance": QuotaExhausted,
    "context_length_exceeded": ContextTooLong,
    "content_filter": ContentBlocked,
    "content_policy_violation": ContentBlocked,
    "model_not_found": ModelNotFound,
    "invalid_api_key": AuthenticationFailed,
    "rate_limit_exceeded": RateLimited,
    "overloaded": Overloaded,
    "unsupported_parameter": UnsupportedFeature,
    "unsupported_value": UnsupportedFeature,
}
"""Error codes several vendors use. A provider adds its own; a code says more than the status it came with."""


def causes(error: BaseException) -> Iterator[BaseException]:
    """*error* and what it was raised from, outermost first."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


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


def status_failure(
    status: int | None,
    message: str,
    *,
    codes: Iterable[str | None] = (),
    table: Mapping[str, type[CallError]] = CODES,
    headers: Mapping[str, str] | None = None,
    request_id: str | None = None,
    now: datetime | None = None,
) -> CallError:
    """The failure that a status and error codes mean; the first code that *table* knows decides, else the status.

    *codes* are looked up in order, as the vendor wrote them. An unknown status below 500 is `RequestRefused`; no
    status at all is `UnknownFailure`.
    """
    named = [str(code) for code in codes if code]
    cls = next((table[code] for code in named if code in table), None)
    if cls is None:
        cls = _by_status(status)
    lower = {name.lower(): value for name, value in (headers or {}).items()}
    failure = cls(
        message,
        status=status,
        code=named[0] if named else None,
        request_id=request_id,
        retry_after=parse_retry_after(lower, now),
    )
    failure.should_retry = {"true": True, "false": False}.get(lower.get("x-should-retry", "").lower())
    return failure


def _by_status(status: int | None) -> type[CallError]:
    if status is None or status < 400:
        return UnknownFailure
    return _STATUS.get(status) or (ServerError if status >= 500 else RequestRefused)


def parse_retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float | None:
    """How many seconds the vendor asks to wait: `retry-after-ms`, or `retry-after` in seconds or as a date.

    None where it does not say, or says what cannot be read.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if (milliseconds := _number(lower.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = lower.get("retry-after")
    if value is None or (seconds := _number(value)) is not None:
        return seconds if value is not None else None
    try:
        until = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def _number(value: str | None) -> float | None:
    if value is None or not re.fullmatch(r"\s*\d+(\.\d+)?\s*s?\s*", value):
        return None
    return float(value.strip().removesuffix("s"))
