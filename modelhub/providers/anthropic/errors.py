"""Errors of the Messages API, as statuses with a body, inside a 200 or inside a stream: which failure each means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from modelhub.errors import CallError, RateLimited
from modelhub.providers._error_mapping import error_from_report, read_error_body
from modelhub.providers._left import left_of
from modelhub.providers._waits import parse_duration

__all__ = ["REQUEST_ID_HEADER", "error_from_response"]

REQUEST_ID_HEADER = "request-id"
"""The header with the request's id."""


def error_from_response(status: int | None, headers: Mapping[str, str], body: object) -> CallError:
    """The failure that an error *body* speaks of; *status* is None in a stream and inside a 200."""
    report = read_error_body(body)
    inner = body.get("error") if isinstance(body, Mapping) else None
    kind = inner.get("type") if isinstance(inner, Mapping) else None
    text = f"anthropic said {status or kind or 'api_error'}: {report.message or 'no reason given'}"
    failure = error_from_report(status, headers, report, text)
    failure.code = failure.code or (None if status else "api_error")
    failure.request_id = headers.get(REQUEST_ID_HEADER) or report.request_id
    if isinstance(failure, RateLimited) and failure.retry_after is None:
        failure.retry_after = _reset(headers)
    return failure


def _reset(headers: Mapping[str, str]) -> float | None:
    """Seconds until the last of the exhausted limits is full again, where the API gives no `retry-after`.

    There may be room again sooner; but these limits are by the minute, so that it is never far off.
    """
    remaining = left_of(headers, datetime.now(UTC)) or {}
    return parse_duration(max((seconds for left, seconds in remaining.values() if left == 0), default=None))
