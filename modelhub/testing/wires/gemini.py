"""Gemini's `generateContent`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import ClassVar

from modelhub.testing.wires.base import (
    CannedResponse,
    Frame,
    Json,
    Kind,
    ParsedRequest,
    Refusal,
    VendorFormat,
    count_words,
    format_event,
)

__all__ = ["GeminiWire"]

_TYPE = "type.googleapis.com/google.rpc."
_EXHAUSTED = "RESOURCE_EXHAUSTED"
_WRONG = "INVALID_ARGUMENT"


def _reason(name: str) -> Json:
    return {"@type": f"{_TYPE}ErrorInfo", "reason": name, "domain": "googleapis.com"}


def _quota(period: str) -> Json:
    violation = {"quotaId": f"GenerateRequestsPer{period}PerProjectPerModel", "quotaValue": "10"}
    return {"@type": f"{_TYPE}QuotaFailure", "violations": [violation]}


_REFUSALS: dict[Kind, tuple[int, str, str, tuple[Json, ...]]] = {
    "rate_limit": (429, _EXHAUSTED, "You exceeded your current quota: requests per minute.", (_quota("Minute"),)),
    "insufficient_quota": (429, _EXHAUSTED, "You exceeded your current quota: requests per day.", (_quota("Day"),)),
    "context_length": (
        400,
        _WRONG,
        "The input token count (1051200) exceeds the maximum number of tokens allowed (1048576).",
        (),
    ),
    "content_filter": (400, _WRONG, "The prompt was blocked.", ()),
    "auth": (400, _WRONG, "API key not valid. Please pass a valid API key.", (_reason("API_KEY_INVALID"),)),
    "not_found": (404, "NOT_FOUND", "models/{model} is not match for API version v1.", ()),
    "overloaded": (503, "UNAVAILABLE", "The model is overloaded. Please try again later.", ()),
    "server_error": (500, "INTERNAL", "An internal error has occurred.", ()),
    "invalid_request": (400, _WRONG, "Request contains an invalid argument.", ()),
    "no_prefill": (400, _WRONG, "Please ensure that the conversation ends with a user turn.", ()),
    "unsupported_parameter": (
        400,
        _WRONG,
        "Invalid JSON payload received. Unknown name \"{parameter}\" at 'generation_config': Cannot find field.",
        (),
    ),
}
"""Status, name of the status, words and details of every refusal."""


class GeminiWire(VendorFormat):
    """Gemini's `generateContent` and `streamGenerateContent`."""

    kind = "gemini"
    entry: ClassVar[Mapping[str, str]] = {"provider": "gemini"}
    path: ClassVar[re.Pattern[str]] = re.compile(r"/models/(?P<model>[^/]+):(generateContent|streamGenerateContent)$")
    garbage = b'data: {"candidates": [{"content": {"parts": [{"te\r\n\r\n'

    def parse(self, id: str, path: str, headers: Mapping[str, str], body: Json) -> ParsedRequest:  # noqa: A002, ARG002
        """What the request wants."""
        contents = body.get("contents") or [{}]
        config = body.get("generationConfig") or {}
        calling = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
        declared = [function for tool in body.get("tools") or () for function in tool.get("functionDeclarations") or ()]
        forced: tuple[str, Json] | None = None
        if calling.get("mode") == "ANY" and declared:
            allowed = calling.get("allowedFunctionNames") or [declared[0].get("name")]
            chosen = next((function for function in declared if function.get("name") in allowed), declared[0])
            forced = str(chosen.get("name")), chosen.get("parametersJsonSchema") or chosen.get("parameters") or {}
        match = self.path.search(path)
        return ParsedRequest(
            id=f"gemini-{id}",
            model=match["model"] if match else "",
            stream=path.endswith(":streamGenerateContent"),
            words=count_words([content.get("parts") for content in contents], body.get("systemInstruction")),
            last_role="assistant" if contents[-1].get("role") == "model" else "user",
            tools=bool(body.get("tools")),
            schema=config.get("responseJsonSchema") or config.get("responseSchema"),
            forced=forced,
        )

    def make_body(self, answer: CannedResponse, parsed: ParsedRequest) -> Json:
        """A whole answer."""
        parts = ([{"text": answer.text}] if answer.text else []) + _calls(answer)
        return _piece(answer, parsed, parts, "STOP")

    def make_frames(self, answer: CannedResponse, parsed: ParsedRequest) -> Iterator[Frame]:
        """The words, then the calls, then why it ends."""
        for part in [{"text": word} for word in answer.words] + _calls(answer):
            yield Frame("content", format_event(_piece(answer, parsed, [part]), end="\r\n\r\n"))
        yield Frame("mark", format_event(_piece(answer, parsed, [{"text": ""}], "STOP"), end="\r\n\r\n"))

    def make_refusal(self, refusal: Refusal, parsed: ParsedRequest) -> tuple[int, Json]:
        """An `error` object; what the filter stops is answered with 200 and no candidate, as Google does."""
        if refusal.kind == "content_filter" and refusal.status is None:
            blocked = {"blockReason": "PROHIBITED_CONTENT"}
            return 200, {"promptFeedback": blocked, "modelVersion": parsed.model, "responseId": parsed.id}
        status, state, words, details = _REFUSALS[refusal.kind]
        status = refusal.status or status
        if refusal.retry_after is not None:
            details = (*details, {"@type": f"{_TYPE}RetryInfo", "retryDelay": f"{refusal.retry_after:g}s"})
        if refusal.code is not None:
            details = (_reason(refusal.code), *details)
        message = refusal.message or words.format(model=parsed.model, parameter=refusal.parameter)
        return status, {"error": {"code": status, "message": message, "status": state, "details": list(details)}}


def _calls(answer: CannedResponse) -> list[Json]:
    return [
        {"functionCall": {"id": call.id, "name": call.name, "args": dict(call.arguments)}} for call in answer.tool_calls
    ]


def _piece(answer: CannedResponse, parsed: ParsedRequest, parts: list[Json], finish: str | None = None) -> Json:
    tokens_in, tokens_out = answer.usage
    candidate: Json = {"content": {"role": "model", "parts": parts}, "index": 0}
    usage: Json = {"promptTokenCount": tokens_in, "totalTokenCount": tokens_in}
    if finish is not None:
        candidate["finishReason"] = finish
        usage |= {"candidatesTokenCount": tokens_out, "totalTokenCount": tokens_in + tokens_out}
    head = {"modelVersion": parsed.model, "responseId": parsed.id}
    return {"candidates": [candidate], "usageMetadata": usage, **head}
