"""Errors as OpenAI's API sends them: a status, a JSON object, and headers that say when to ask again."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from modelhub.core import errors
from modelhub.core.errors import AllModelsFailed, CallError, HubClosed, ModelHubError, UnknownModel

__all__ = ["HttpError", "as_http_error"]

_log = logging.getLogger("modelhub")


@dataclass
class HttpError(Exception):
    """A response that refuses a request. *type* and *code* are OpenAI's, *param* is the parameter that is wrong."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    headers: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the body of the response, which is also the data of a stream's last event."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return {"error": error}


class _Kind(NamedTuple):
    """How a class of errors is sent; *is_retryable* tells whether the same request may succeed soon."""

    status: int
    type: str
    code: str | None = None
    is_retryable: bool = False


_INVALID: Final = "invalid_request_error"
_SERVER: Final = "server_error"
_KINDS: Final[dict[type[ModelHubError], _Kind]] = {
    UnknownModel: _Kind(404, _INVALID, "model_not_found"),
    HubClosed: _Kind(503, _SERVER, "shutting_down", is_retryable=True),
    errors.InvalidRequest: _Kind(400, _INVALID),
    errors.UnsupportedFeature: _Kind(400, _INVALID, "unsupported_feature"),
    errors.ContextTooLong: _Kind(400, _INVALID, "context_length_exceeded"),
    errors.ContentBlocked: _Kind(400, _INVALID, "content_filter"),
    errors.RateLimited: _Kind(429, "rate_limit_exceeded", "rate_limit_exceeded", is_retryable=True),
    errors.LimitRejected: _Kind(429, "rate_limit_exceeded", "rate_limit_exceeded", is_retryable=True),
    errors.QuotaExhausted: _Kind(429, "insufficient_quota", "insufficient_quota"),
    errors.BudgetExceeded: _Kind(429, "insufficient_quota", "budget_exceeded"),
    errors.Overloaded: _Kind(503, _SERVER, "overloaded", is_retryable=True),
    errors.BreakerOpen: _Kind(503, _SERVER, "overloaded", is_retryable=True),
    errors.TimedOut: _Kind(504, _SERVER, "timeout", is_retryable=True),
    errors.DeadlineExceeded: _Kind(504, _SERVER, "timeout"),
    errors.NotConfigured: _Kind(500, _SERVER, "not_configured"),
    # The client's own key is fine: a 401, a 403 or a 404 would send it to look in the wrong place.
    errors.AuthenticationFailed: _Kind(502, _SERVER, "vendor_authentication_failed"),
    errors.ModelNotFound: _Kind(502, _SERVER, "vendor_model_not_found"),
    errors.BadReply: _Kind(502, _SERVER, "bad_reply", is_retryable=True),
    errors.CallError: _Kind(502, _SERVER, "vendor_error", is_retryable=True),
    errors.ModelHubError: _Kind(500, _SERVER),
}
_VENDORS_STATUSES: Final = frozenset({400, 413, 415, 422})
"""The statuses of a vendor's refusal that are passed on as they are."""


def as_http_error(error: Exception) -> HttpError:
    """Return *error* as a response; what nobody foresaw is logged, and the client learns no more than that."""
    if isinstance(error, HttpError):
        return error
    if not isinstance(error, ModelHubError):
        _log.error("a request of the OpenAI-compatible endpoint failed", exc_info=error)
        return HttpError(500, "the server failed; its log says why", _SERVER, "internal_error")
    reason = error.dominant if isinstance(error, AllModelsFailed) else error
    if isinstance(reason, errors.StreamBroken) and isinstance(reason.__cause__, CallError):
        reason = reason.__cause__
    kind = next(_KINDS[cls] for cls in type(reason).__mro__ if cls in _KINDS)
    status = kind.status
    if isinstance(reason, errors.RequestRefused) and reason.status in _VENDORS_STATUSES:
        status = reason.status
    headers = {} if kind.is_retryable else {"x-should-retry": "false"}
    wait = error.retry_after if isinstance(error, CallError) else None
    if kind.status in (429, 503) and wait is not None and 0 <= wait < math.inf:
        headers["retry-after"] = str(math.ceil(wait))
    param = reason.parameter if isinstance(reason, CallError) else None
    return HttpError(status, str(error), kind.type, kind.code, param, headers)
