"""Answers of DashScope: its events and bodies, and what its errors mean. Pure functions of values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from modelhub.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ContentBlocked,
    ContextTooLong,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    UnsupportedFeature,
)
from modelhub.providers._answer import Answer
from modelhub.providers._dashscope_encode import KIND
from modelhub.providers._errors import CODES, status_failure
from modelhub.providers._wire import describe
from modelhub.response import ChatUsage, FinishReason

__all__ = ["finish_reason", "read_body", "said"]

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
}

# A code is looked up whole, then by what stands before its first dot.
_CODES: dict[str, type[CallError]] = {
    **CODES,
    "AccessDenied": AuthenticationFailed,
    "AllocationQuota": QuotaExhausted,  # AllocationQuota.FreeTierOnly: the free quota is used up
    "Arrearage": QuotaExhausted,
    "BadRequest": RequestRefused,
    "CommodityNotPurchased": QuotaExhausted,
    "DataInspectionFailed": ContentBlocked,
    "data_inspection_failed": ContentBlocked,
    "InternalError": ServerError,
    "InternalError.Algo.DataInspectionFailed": ContentBlocked,
    "InternalError.Algo.InvalidParameter": RequestRefused,
    "InvalidApiKey": AuthenticationFailed,
    "InvalidParameter": RequestRefused,
    "invalid_parameter_error": RequestRefused,
    "InvalidURL": RequestRefused,
    "IPInfringementSuspect": ContentBlocked,
    "LimitRequests": RateLimited,
    "limit_requests": RateLimited,
    "Model.AccessDenied": ModelNotFound,
    "Model.NotExist": ModelNotFound,
    "ModelNotFound": ModelNotFound,
    "ModelServiceFailed": ServerError,
    "ModelServingError": Overloaded,
    "ModelUnavailable": Overloaded,
    "PostpaidBillOverdue": QuotaExhausted,
    "PrepaidBillOverdue": QuotaExhausted,
    "RequestTimeOut": ServerError,
    "ResponseTimeout": ServerError,
    "ServiceUnavailable": Overloaded,
    "SystemError": ServerError,
    "Throttling": RateLimited,  # and .RateQuota, .BurstRate, .AllocationQuota (tokens per minute)
    "UnsupportedOperation": UnsupportedFeature,
}

# One code, InvalidParameter, stands for all that may be wrong with a request: these words tell the cases apart.
_BY_WORDS: tuple[tuple[str, type[CallError]], ...] = (
    (r"range of input length|maximum context length|input length exceeds|input is too long", ContextTooLong),
    (r"thinking mode|enable_thinking|support stream mode|not support http call|url error", UnsupportedFeature),
    (r"(does|do) not support", UnsupportedFeature),
)


def said(body: Any, headers: Mapping[str, str], *, status: int | None = None, text: str = "") -> CallError:
    """The failure that an answer speaks of: in its *body* if that is an object, in its *text* otherwise."""
    found = body if isinstance(body, dict) else {}
    inner = found["error"] if isinstance(found.get("error"), dict) else {}
    code = found.get("code") or inner.get("code") or inner.get("type")
    text = describe(text) if text.lstrip()[:1] in ("<", "{", "[") else text
    told = str(found.get("message") or inner.get("message") or text or "no reason given")
    message = f"dashscope said {' '.join(str(part) for part in (status, code) if part) or 'no'}: {told}"
    if "url error" in told:
        message += " (the model may need the other endpoint: see `multimodality`)"
    request_id = found.get("request_id") or headers.get("x-request-id")
    codes = [str(code), str(code).partition(".")[0]] if code else []
    failure = status_failure(status, message, codes=codes, table=_CODES, headers=headers, request_id=request_id)
    if type(failure) is not RequestRefused:
        return failure
    cls = next((cls for words, cls in _BY_WORDS if re.search(words, told, re.IGNORECASE)), RequestRefused)
    return cls(message, status=status, code=failure.code, request_id=request_id, retry_after=failure.retry_after)


def finish_reason(body: Mapping[str, Any]) -> str | None:
    """Why the answer ended; None while it goes on, which the vendor writes as the text "null"."""
    reason = _choice(body).get("finish_reason")
    return reason if isinstance(reason, str) and reason not in ("", "null") else None


def read_body(body: Mapping[str, Any], wanted: str | None, answer: Answer) -> None:
    """Read an event or a whole body: a piece of the message, the counts so far, perhaps the end.

    *wanted* is the tool that must be called by then: its name, "" for any, or None.
    """
    answer.id = body.get("request_id") or answer.id
    if isinstance(usage := body.get("usage"), dict):
        answer.usage = _usage(usage)
    choice = _choice(body)
    message = choice.get("message", choice)  # the old form has `text` beside `finish_reason`
    if not isinstance(message, dict):
        raise BadReply("the answer's message is no JSON object")
    if thought := message.get("reasoning_content"):
        answer.thinking(thought, provider=KIND)
    answer.text(_text(message.get("content") or message.get("text")))
    for position, call in enumerate(message.get("tool_calls") or ()):
        _take_call(call, position, wanted, answer)
    if reason := finish_reason(body):
        _finish(reason, wanted, answer)


def _choice(body: Mapping[str, Any]) -> dict[str, Any]:
    output = body.get("output")
    if not isinstance(output, dict):
        return {}
    choices = output.get("choices")
    if not isinstance(choices, list) or not choices:
        return output
    found = [choice for choice in choices if isinstance(choice, dict) and not choice.get("index")]
    return found[0] if found else {}


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _take_call(call: Any, position: int, wanted: str | None, answer: Answer) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        raise BadReply("a tool call in the answer has no function")
    name, index = function.get("name"), call.get("index", position)
    if wanted and name and name != wanted:
        raise BadReply(f"the model called `{name}`, not `{wanted}`")
    # Only the first piece of a call has its id; the others go by their place.
    ids = answer.notes.setdefault("ids", {})
    if call.get("id") or index not in ids:
        ids[index] = call.get("id") or f"call_{uuid4().hex}"
    answer.tool(ids[index], id=ids[index], name=name)
    answer.arguments(ids[index], function.get("arguments") or "")


def _usage(usage: Mapping[str, Any]) -> ChatUsage:
    read, thought = usage.get("prompt_tokens_details") or {}, usage.get("output_tokens_details") or {}
    return ChatUsage(
        usage.get("input_tokens") or 0,
        usage.get("output_tokens") or 0,
        cache_read_tokens=read.get("cached_tokens") or 0,
        cache_write_tokens=read.get("cache_creation_input_tokens") or 0,
        reasoning_tokens=thought.get("reasoning_tokens") or 0,
    )


def _finish(told: str, wanted: str | None, answer: Answer) -> None:
    reason = _FINISH.get(told, "stop")
    if reason in ("stop", "tool_calls") and wanted is not None and not answer.has_tools:
        raise BadReply(f"the model answered without calling {f'`{wanted}`' if wanted else 'a tool'}")
    answer.finish_reason = "tool_calls" if reason == "stop" and answer.has_tools else reason
    answer.complete = True
