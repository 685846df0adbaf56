"""Errors in OpenAI's dialect, as statuses with a body, inside a 200 or inside a stream: which failure each means."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from modelhub.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ContentBlocked,
    ContextTooLong,
    ModelNotFound,
    NotConfigured,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
)
from modelhub.providers._address import hide_password
from modelhub.providers._errors import CODES as COMMON
from modelhub.providers._errors import status_failure
from modelhub.providers._wire import loads

__all__ = ["CODES", "error_in_answer", "http_failure", "is_flat_error"]

Json = Mapping[str, Any]

CODES: dict[str, type[CallError]] = {
    **COMMON,
    "account_deactivated": AuthenticationFailed,
    "invalid_authentication": AuthenticationFailed,
    "authentication_error": AuthenticationFailed,
    "permission_denied": AuthenticationFailed,
    "invalid_model": ModelNotFound,
    "DeploymentNotFound": ModelNotFound,
    "model_not_supported": ModelNotFound,
    "RateLimitReached": RateLimited,
    "rate_limited": RateLimited,
    "rate_limit_error": RateLimited,
    "exceeded_current_quota_error": QuotaExhausted,
    "insufficient_user_quota": QuotaExhausted,
    "Arrearage": QuotaExhausted,
    "string_above_max_length": ContextTooLong,
    "exceed_context_size_error": ContextTooLong,
    "3051": ContextTooLong,
    "ResponsibleAIPolicyViolation": ContentBlocked,
    "data_inspection_failed": ContentBlocked,
    # The model's own answer was no call, or no JSON: another try may do.
    "tool_use_failed": BadReply,
    "json_validate_failed": BadReply,
}
"""Codes and types that say what is wrong, of OpenAI and of those who speak like it."""

_KINDS: dict[str, type[CallError]] = {
    "invalid_request_error": RequestRefused,
    "not_found_error": ModelNotFound,
    "server_error": ServerError,
    "internal_server_error": ServerError,
    "overloaded_error": Overloaded,
    "service_unavailable": Overloaded,
    "engine_overloaded_error": Overloaded,
    "tokens": RateLimited,
    "requests": RateLimited,
}
"""Types that say roughly what is wrong: read only where there is no status."""

_WORDS: Sequence[tuple[re.Pattern[str], type[CallError]]] = (
    (re.compile(r"max\w* context|context (length|window|size)|prompt (is )?too long", re.IGNORECASE), ContextTooLong),
    (re.compile(r"(incorrect|invalid) api key|api key not valid", re.IGNORECASE), AuthenticationFailed),
)
"""For a 400 whose code says nothing: words that servers without codes use."""


def http_failure(who: str, status: int, content: bytes, headers: Mapping[str, str]) -> CallError:
    """The failure that an answer with an error *status* means; *who* gave it."""
    request_id = headers.get("x-request-id") or headers.get("apim-request-id")
    if 300 <= status < 400:
        to = hide_password(headers.get("location", "another address"))
        return NotConfigured(f"{who} sends elsewhere, to {to}: set `base_url`", status=status)
    try:
        body = loads(content)
    except BadReply:
        body = _plain(content)
    message, codes = _told(body)
    if status == 400 and not any(code in CODES for code in codes):
        cls = next((cls for words, cls in _WORDS if words.search(message)), None)
        if cls is not None:
            codes = [code for code in codes if code] or [""]
            return cls(f"{who} said 400: {message}", status=400, code=codes[0] or None, request_id=request_id)
    text = f"{who} said {status}: {message or 'nothing that could be read'}"
    return status_failure(status, text, codes=codes, table=CODES, headers=headers, request_id=request_id)


def _plain(content: bytes) -> str:
    """The text that a gateway wrote in the place of JSON; pages of HTML say nothing."""
    text = content[:300].decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{", "[")) else text


def error_in_answer(body: Json) -> CallError:
    """The failure that an error inside an answer means: its code or type, else that the server failed."""
    message, codes = _told(body)
    status = next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)
    text = f"the server broke off: {message or 'it does not say why'}"
    if status is not None:
        return status_failure(status, text, codes=codes, table=CODES)
    kind = next((CODES.get(code) or _KINDS[code] for code in codes if code in CODES or code in _KINDS), ServerError)
    return kind(text, code=codes[0] if codes else None)


def is_flat_error(body: Json) -> bool:
    """Whether *body*, in which there are no choices, is itself an error."""
    return body.get("object") == "error" or any(key in body for key in ("message", "detail", "error_msg"))


def _told(body: Any) -> tuple[str, list[str]]:
    """The message and the codes of an error, in any of the shapes that servers write."""
    if not isinstance(body, dict):
        return (body if isinstance(body, str) else ""), []
    inner = body.get("error")
    error = inner if isinstance(inner, dict) else body
    message = error.get("message") or error.get("detail") or error.get("msg") or inner
    nested = error.get("innererror")
    codes = [error.get("code"), error.get("type"), nested.get("code") if isinstance(nested, dict) else None]
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False) if message else ""
    return text, [str(code) for code in codes if isinstance(code, str | int) and str(code)]
