"""Errors of Google's APIs, as statuses with a body or inside a stream: which failure each means."""

from __future__ import annotations

from collections.abc import Mapping

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    UnsupportedFeature,
)
from modelhub.providers.error_codes import ERROR_CODES, map_codes
from modelhub.providers.error_mapping import classify, error_from_report, read_error_body

__all__ = ["error_from_response"]

_CODES = ERROR_CODES | map_codes(
    # google.rpc.ErrorInfo.reason: more exact than the status, which is INVALID_ARGUMENT for a wrong key
    (AuthenticationFailed, "API_KEY_INVALID API_KEY_EXPIRED API_KEY_SERVICE_BLOCKED API_KEY_HTTP_REFERRER_BLOCKED"),
    (AuthenticationFailed, "API_KEY_IP_ADDRESS_BLOCKED CREDENTIALS_MISSING ACCESS_TOKEN_EXPIRED"),
    (AuthenticationFailed, "IAM_PERMISSION_DENIED SERVICE_DISABLED CONSUMER_SUSPENDED"),
    (QuotaExhausted, "BILLING_DISABLED"),
    (RateLimited, "RATE_LIMIT_EXCEEDED"),
)
"""Google's codes that name one failure, on top of the common ones."""

_STATES = map_codes(
    (AuthenticationFailed, "UNAUTHENTICATED PERMISSION_DENIED"),
    (AuthenticationFailed, "FAILED_PRECONDITION"),  # no free tier or no service in the caller's country: not allowed
    (ModelNotFound, "NOT_FOUND"),
    (RateLimited, "RESOURCE_EXHAUSTED"),
    (Overloaded, "UNAVAILABLE"),
    (ServerError, "INTERNAL UNKNOWN DATA_LOSS DEADLINE_EXCEEDED ABORTED CANCELLED"),
    (UnsupportedFeature, "UNIMPLEMENTED"),
    (RequestRefused, "INVALID_ARGUMENT OUT_OF_RANGE"),
)
"""google.rpc.Code: one for many failures, so that the words of the message are looked at before it."""


def error_from_response(status: int | None, headers: Mapping[str, str], body: object) -> CallError:
    """Return the failure that an error's *body* speaks of; *status* is None inside of a stream."""
    if status is not None and status < 300:
        return BadReply(f"gemini said {status}, as no Gemini API does: look at the base URL", status=status)
    report = read_error_body(body)
    state = next((code for code in report.codes if code in _STATES), "")
    status = status or report.status
    cls = classify(status, report, _CODES)
    is_vague = cls in (RequestRefused, ServerError) and not any(code in _CODES for code in report.codes)
    if is_vague and state:
        cls = _STATES[state]
    shown = " ".join(str(word) for word in (status, state) if word) or "error"
    message = f"gemini said {shown}: {report.message or 'no message'}"
    return error_from_report(status, headers, report, message, cls=cls)
