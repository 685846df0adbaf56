"""Errors of the Messages API, as statuses with a body, inside a 200 or inside a stream: which failure each means."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from modelhub.core.errors import CallError, RateLimited
from modelhub.providers.error_mapping import error_from_report, read_error_body
from modelhub.providers.http.rate_limit_headers import parse_rate_limit_headers
from modelhub.providers.http.requested_waits import parse_duration

__all__ = ["error_from_response", "error_in_answer"]

_UNNAMED = "api_error"


def error_from_response(status: int, headers: Mapping[str, str], body: bytes) -> CallError:
    """Return what an answer with an error *status* means."""
    report = read_error_body(body)
    text = f"anthropic said {status}: {report.message or 'no reason given'}"
    failure = error_from_report(status, headers, report, text)
    failure.request_id = headers.get("request-id") or report.request_id
    if isinstance(failure, RateLimited) and failure.retry_after is None:
        failure.retry_after = _reset(headers)
    return failure


def error_in_answer(body: object, request_id: str | None) -> CallError:
    """Return what an error inside an answer means, the answer to the request *request_id*."""
    report = read_error_body(body)
    text = f"anthropic said {report.code or _UNNAMED}: {report.message or 'no reason given'}"
    failure = error_from_report(None, {}, report, text)
    failure.code = failure.code or _UNNAMED
    failure.request_id = request_id or report.request_id
    return failure


def _reset(headers: Mapping[str, str]) -> float | None:
    """Return the seconds until the last of the exhausted limits is full again, where there is no `retry-after`.

    There may be room again sooner; but these limits are by the minute, so that it is never far off.
    """
    remaining = parse_rate_limit_headers(headers, datetime.now(UTC)) or {}
    return parse_duration(max((seconds for left, seconds in remaining.values() if left == 0), default=None))
