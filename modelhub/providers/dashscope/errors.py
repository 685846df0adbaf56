"""Errors of DashScope, as statuses with a body, inside a 200 or inside a stream: which failure each means."""

from __future__ import annotations

from collections.abc import Mapping

from modelhub.core.errors import (
    AuthenticationFailed,
    CallError,
    ContentBlocked,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    UnsupportedFeature,
)
from modelhub.providers.error_codes import ERROR_CODES, map_codes
from modelhub.providers.error_mapping import classify, error_from_report, read_error_body

__all__ = ["error_from_response"]

# A code is looked up whole, then by what stands before its first dot.
_ERROR_CODES = ERROR_CODES | map_codes(
    (AuthenticationFailed, "AccessDenied InvalidApiKey"),
    (QuotaExhausted, "AllocationQuota"),  # AllocationQuota.FreeTierOnly: the free quota is used up
    (QuotaExhausted, "CommodityNotPurchased PostpaidBillOverdue PrepaidBillOverdue"),
    (ContentBlocked, "DataInspectionFailed InternalError.Algo.DataInspectionFailed IPInfringementSuspect"),
    (RateLimited, "LimitRequests limit_requests"),
    (RateLimited, "Throttling"),  # and .RateQuota, .BurstRate, .AllocationQuota (tokens per minute)
    (ModelNotFound, "Model.AccessDenied Model.NotExist ModelNotFound"),
    (Overloaded, "ModelServingError ModelUnavailable ServiceUnavailable"),
    (UnsupportedFeature, "UnsupportedOperation"),
)
_STATUSES_OF_CODES = {
    **dict.fromkeys(("BadRequest", "InvalidParameter", "invalid_parameter_error", "InvalidURL"), 400),
    "InternalError.Algo.InvalidParameter": 400,
    **dict.fromkeys(("InternalError", "ModelServiceFailed", "RequestTimeOut", "ResponseTimeout", "SystemError"), 500),
}
"""The status that a code stands for where there is none: inside a stream."""


def error_from_response(status: int | None, headers: Mapping[str, str], body: object) -> CallError:
    """Return the failure that an error's *body* speaks of; *status* is None inside an answer with these *headers*."""
    report = read_error_body(body)
    codes = (*report.codes, *(code.partition(".")[0] for code in report.codes))
    known_status = status
    if status is None:
        known_status = next((_STATUSES_OF_CODES[code] for code in codes if code in _STATUSES_OF_CODES), None)
    cls = classify(known_status, report._replace(codes=codes), _ERROR_CODES)
    shown = " ".join(str(part) for part in (status, report.code) if part) or "no"
    message = f"dashscope said {shown}: {report.message or 'no reason given'}"
    if "url error" in report.message:
        message += " (the model may need the other endpoint: see `multimodality`)"
    failure = error_from_report(status, headers, report, message, cls=cls)
    failure.request_id = report.request_id or headers.get("x-request-id")
    return failure
