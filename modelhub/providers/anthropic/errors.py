"""Errors of the Messages API, as statuses with a body, inside a 200 or inside a stream: which failure each means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from modelhub.core.errors import CallError, RateLimited
from modelhub.providers.error_mapping import error_from_report, read_error_body
from modelhub.providers.http.rate_limit_headers import parse_rate_limit_headers
from modelhub.providers.http.requested_waits import parse_duration

__all__ = ["error_from_response"]

_UNNAMED = "api_error"


def error_from_response(status: int | None, headers: Mapping[str, str], body: object) -> CallError:
    """Return the failure that an error's *body* speaks of; *status* is None inside an answer."""
    report = read_error_body(body)
    text = f"anthropic said {status or report.code or _UNNAMED}: {report.message or 'no reason given'}"
    failure = error_from_report(status, headers, report, text)
    if status is None:
        failure.code = failure.code or _UNNAMED
    failure.request_id = headers.get("request-id") or report.request_id
    if isinstance(failure, RateLimited) and failure.retry_after is None:
        # The last of the exhausted limits is full again then. There may be room sooner; but these limits are by the
        # minute, so that it is never far off.
        remaining = parse_rate_limit_headers(headers, datetime.now(UTC)) or {}
        resets = [seconds for left, seconds in remaining.values() if left == 0]
        failure.retry_after = parse_duration(max(resets, default=None))
    return failure
