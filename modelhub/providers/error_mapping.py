"""From what a server answers to a failure: one reader for every shape of an error's body, one rule for its class.

The rule, in this order: words that say more than any code; exact codes; other words, at statuses at which they are to
be believed; the status; where that is 400, 500 or absent, the type. All functions are pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from modelhub.core.errors import (
    BadReply,
    CallError,
    QuotaExhausted,
    RateLimited,
    ServerError,
    UnknownFailure,
)
from modelhub.providers.error_codes import ERROR_CODES, ERROR_TYPES, GENERIC_TYPES, class_of_status
from modelhub.providers.error_patterns import find_class
from modelhub.providers.http.requested_waits import parse_duration, parse_message_wait, parse_retry_after
from modelhub.providers.json_text import loads

__all__ = ["ErrorReport", "classify", "error_from_report", "get_dicts", "is_flat_error", "read_error_body"]

Json = Mapping[str, Any]

_WRAPPERS: Final = re.compile(
    r"(?:<\d{3}> |(?:litellm\.)?\w*(?:Error|Exception)(?: - |: )|Error code: \d{3} - |[Ee]rror from provider: "
    r"|InternalError\.Algo(?:\.\w+)?: )+"
)
"""What gateways write in front of the message that they pass on (LiteLLM, DashScope, SDKs in the middle)."""
_STATUS: Final = re.compile(r"[1-5]\d\d")
_TITLE: Final = re.compile(r"<title[^>]*>([^<]{1,200})</title>", re.IGNORECASE)
_MESSAGE_KEYS: Final = ("message", "Message", "detail", "msg", "error_msg", "error_message", "status_msg", "title")
_INNER_KEYS: Final = ("error", "errors", "base_resp", "external_model_error")
_NO_CODES: Final = frozenset({"", "error"})
_INEXACT_STATUSES: Final = (None, 400, 500)
_FLAT_KEYS: Final = ("message", "detail", "error_msg", "msg")
_MAX_BODY_LENGTH = 100_000


class ErrorReport(NamedTuple):
    """What an error's body says: the *message*, its *codes* (the most exact first), and Google's *details*.

    *parameter* is the one at fault, where a field says so.
    """

    message: str = ""
    codes: tuple[str, ...] = ()
    details: tuple[Json, ...] = ()
    request_id: str | None = None
    parameter: str | None = None

    @property
    def code(self) -> str | None:
        """The most exact code; an HTTP status in the body only where there is no other."""
        exact = (code for code in self.codes if not _STATUS.fullmatch(code))
        return next(exact, self.codes[0] if self.codes else None)

    @property
    def status(self) -> int | None:
        """The HTTP status that a server writes into the body, where an answer has begun with 200."""
        return next((int(code) for code in self.codes if re.fullmatch(r"[45]\d\d", code)), None)

    @property
    def wait(self) -> float | None:
        """The wait that the body asks for, as a field (Google's `retryDelay`) or in the message."""
        fields = (parse_duration(detail["retryDelay"]) for detail in self.details if "retryDelay" in detail)
        wait = next((seconds for seconds in fields if seconds is not None), None)
        return parse_message_wait(self.message) if wait is None else wait


def read_error_body(body: object) -> ErrorReport:
    """What *body* says, be it bytes, text or JSON, in any of the shapes in which servers write an error."""
    if isinstance(body, bytes):
        body = _parse(body[:_MAX_BODY_LENGTH])
    if isinstance(body, list) and body and isinstance(body[0], dict):
        body = body[0]  # Google's answers to what was to be streamed are lists
    if not isinstance(body, dict):
        return ErrorReport(body.strip() if isinstance(body, str) else "")
    values = (body.get(key) for key in _INNER_KEYS)
    inner = next((value for value in values if value), None)
    if isinstance(inner, list):
        inner = inner[0]
    error = inner if isinstance(inner, dict) else body
    request_id = body.get("request_id") or body.get("requestId")
    report = ErrorReport(
        _find_message(error, body, inner),
        tuple(_find_codes(error, body)),
        tuple(get_dicts(error.get("details"))),
        request_id if isinstance(request_id, str) else None,
        _find_parameter(error, body),
    )
    return _unwrap(report, error)


def _find_parameter(error: Json, body: Json) -> str | None:
    """Return the parameter at fault: OpenAI's `param`, the last place of FastAPI's `loc`, a field that Google names."""
    for value in (error.get("param"), error.get("parameter"), body.get("param")):
        if isinstance(value, str) and value:
            return value
    for item in get_dicts(body.get("detail")):
        places = [place for place in item.get("loc") or () if isinstance(place, str) and place != "body"]
        if places:
            return ".".join(places)
    violations = [field for item in get_dicts(error.get("details")) for field in get_dicts(item.get("fieldViolations"))]
    return next((str(item["field"]) for item in violations if item.get("field")), None)


def is_flat_error(body: Json) -> bool:
    """Whether *body*, which holds nothing of an answer, is itself an error: its message stands beside all else."""
    minimax = body.get("base_resp")
    if isinstance(minimax, Mapping) and minimax.get("status_code"):
        return True
    texts = (body.get(key) for key in _FLAT_KEYS)
    return body.get("object") == "error" or any(text and not isinstance(text, Mapping) for text in texts)


def _parse(data: bytes) -> object:
    try:
        return loads(data)
    except BadReply:
        text = data[:1000].decode("utf-8", "replace").strip()
        if text.startswith("<"):
            title = _TITLE.search(data.decode("utf-8", "replace"))
            return title[1] if title else ""
        return "" if text.startswith(("{", "[")) else text


def _find_message(error: Json, body: Json, inner: object) -> str:
    if isinstance(message := error.get("message"), str) and message:
        return message
    named = (error.get(key) for key in _MESSAGE_KEYS)
    outer = (inner, body.get("message"), body.get("detail"), body.get("error"))
    value = next((value for value in (*named, *outer) if value and not isinstance(value, bool)), "")
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "; ".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _find_codes(error: Json, body: Json) -> Iterator[str]:
    nested, details = error.get("innererror"), error.get("details")
    values = [
        details.get("error_code") if isinstance(details, dict) else None,
        *(detail.get("reason") for detail in get_dicts(details)),
        nested.get("code") if isinstance(nested, dict) else None,
        error.get("code"),
        error.get("status"),
        error.get("type"),
        error.get("error_code"),
        error.get("error_type"),
        *(body.get(key) for key in ("code", "error_code", "error_type", "__type", "status_code") if error is not body),
        error.get("__type"),
    ]
    for value in values:
        if value is not None and isinstance(value, (str, int)) and not isinstance(value, bool):
            code = str(value)
            if code not in _NO_CODES:
                yield code.rpartition("#")[2]


def _unwrap(report: ErrorReport, error: Json) -> ErrorReport:
    """The report of the server behind a gateway, where the gateway only passes it on; else *report* itself."""
    match = _WRAPPERS.match(report.message)
    if match:
        names = re.findall(r"\w+(?:Error|Exception)", match[0])
        report = report._replace(message=report.message[match.end() :], codes=(*report.codes, *names))
    message = report.message
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if not isinstance(raw, (str, dict)) and message.startswith(("{", "b'{", 'b"{')):
        raw = message[message.index("{") : message.rindex("}") + 1] if "}" in message else None
    body = raw.encode("utf-8", "replace") if isinstance(raw, str) and len(raw) <= _MAX_BODY_LENGTH else raw
    upstream = read_error_body(body) if isinstance(body, (bytes, dict)) else None
    if upstream is None or not (upstream.message or upstream.codes):
        return report
    return ErrorReport(
        upstream.message or message,
        (*upstream.codes, *report.codes),
        (*upstream.details, *report.details),
        report.request_id,
        upstream.parameter or report.parameter,
    )


def classify(
    status: int | None, report: ErrorReport, codes: Mapping[str, type[CallError]] = ERROR_CODES
) -> type[CallError]:
    """The class of the failure that a *status* (None inside an answer) and a *report* mean.

    *codes* are the codes known of the vendor, on top of the common ones. An error inside an answer that has no code
    means that the server has failed; one with a code that nobody knows is an `UnknownFailure`.
    """
    if (cls := find_class(report.message, status, overriding=True)) is not None:
        return cls
    violations = [item for detail in report.details for item in get_dicts(detail.get("violations"))]
    if quotas := [item for item in violations if item.get("quotaId")]:
        # Those of a day, and those of 0, which may be left out, do not refill in seconds.
        spent = any("PerDay" in str(item["quotaId"]) or str(item.get("quotaValue", "0")) == "0" for item in quotas)
        return QuotaExhausted if spent else RateLimited
    # A number stands for something else at every vendor: 1000 is a wrong key at Z.ai, and any failure at Mistral (500).
    is_server_error = status is not None and status >= 500
    named = (codes[code] for code in report.codes if code in codes and not (is_server_error and code.isdecimal()))
    if (cls := next(named, None)) is not None:
        return cls
    if (cls := find_class(report.message, status)) is not None:
        # A quota that is whole again in a moment is a rate: Google's words for both are the same.
        return RateLimited if cls is QuotaExhausted and report.wait is not None else cls
    if status not in _INEXACT_STATUSES:
        return class_of_status(status)
    types = ERROR_TYPES if status is not None else {**ERROR_TYPES, **GENERIC_TYPES}
    cls = next((types[code] for code in report.codes if code in types), None)
    if cls is None and status is None:
        return UnknownFailure if report.code else ServerError
    return cls or class_of_status(status)


def error_from_report(
    status: int | None,
    headers: Mapping[str, str],
    report: ErrorReport,
    message: str,
    *,
    cls: type[CallError] | None = None,
    codes: Mapping[str, type[CallError]] = ERROR_CODES,
) -> CallError:
    """The failure that an answer means, with *message* as its text; *cls* if its class is known already."""
    lower = {name.lower(): value for name, value in headers.items()}
    failure = (cls or classify(status or report.status, report, codes))(
        message,
        status=status or report.status,
        code=report.code,
        request_id=report.request_id,
    )
    wait = parse_retry_after(lower)
    failure.retry_after = report.wait if wait is None and isinstance(failure, RateLimited) else wait
    failure.should_retry = {"true": True, "false": False}.get(lower.get("x-should-retry", "").lower())
    failure.parameter = report.parameter
    # A refusal that calls the model's answer unusable speaks of the answer to this one request.
    failure.request_specific = isinstance(failure, BadReply)
    return failure


def get_dicts(value: object) -> list[Json]:
    """Return the objects in *value*, if it is a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
