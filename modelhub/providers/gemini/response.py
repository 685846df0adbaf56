"""What Gemini writes, to our own terms: answers, streamed or whole, and errors.

Pure functions of values. Answers of the Gemini API and of Vertex AI have one form, and so have whole answers and the
pieces of a stream. Parts that only report what Google's own tools did (search, code execution) are no content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any
from uuid import uuid4

from modelhub.core.errors import BadReply, ContentBlocked
from modelhub.core.response import FinishReason
from modelhub.messages.media_sources import get_media_kind
from modelhub.providers.error_mapping import is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.gemini.errors import error_from_response
from modelhub.providers.gemini.request import GENERATED_ID_PREFIX, PROVIDER_NAME
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import loads
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.token_counts import Counts, read_count
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["FINISH", "read_body", "read_event"]

Json = Mapping[str, Any]

_BLOCKED = (
    *("SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR", "ESCALATION"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "PUP_LIMITED_DISABLED"),
)
_FAILED = (
    *("FINISH_REASON_UNSPECIFIED", "OTHER", "IMAGE_OTHER", "NO_IMAGE", "MALFORMED_FUNCTION_CALL"),
    *("UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE"),
)
FINISH: dict[str, FinishReason] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "CONTINUATION": "length",
    **dict.fromkeys(_BLOCKED, "content_filter"),
    **dict.fromkeys(_FAILED, "error"),
}
"""Google's reasons to ours; one that is not here is an `error`. Those of a model's own slip are a `BadReply`."""

_ANSWER_KEYS = ("candidates", "promptFeedback", "usageMetadata")

# -- answers -----------------------------------------------------------------------------------------------------------


def read_body(body: bytes, builder: ResponseBuilder) -> None:
    """Read a whole answer, or, of a server that does not know SSE, a list of its pieces.

    Raises BadReply for one without an answer in it, and the error it may hold instead.
    """
    content = loads(body)
    for piece in content if isinstance(content, list) else [content]:
        _read_piece(piece, builder)
    if not builder.complete and not builder.has_content:
        raise BadReply("the answer has no candidates")
    _read_done(builder)  # a whole body is a whole answer, even if it does not say why it ends


def _read_done(answer: ResponseBuilder) -> None:
    """Read the end of a body, or of a gateway's stream: behind content it ends an answer that gave no reason."""
    if not answer.complete and answer.has_content:
        answer.finish_reason = "tool_calls" if answer.has_tools else "stop"
        answer.complete = True


def read_event(event: ServerSentEvent, builder: ResponseBuilder) -> None:
    """Read one piece of a stream. Raises BadReply for what is none, and the error it may hold instead."""
    if event.data == b"[DONE]":  # of a gateway that speaks OpenAI's dialect too
        _read_done(builder)
    else:
        _read_piece(loads(event.data), builder)


def _read_piece(piece: Any, answer: ResponseBuilder) -> None:
    if not isinstance(piece, dict):
        raise BadReply(f"a part of the answer is no JSON object but {type(piece).__name__}")
    if piece.get("error") or (piece.keys().isdisjoint(_ANSWER_KEYS) and is_flat_error(piece)):
        raise error_from_response(None, {}, piece)
    answer.id = piece.get("responseId") or answer.id
    answer.model_name = piece.get("modelVersion") or answer.model_name
    if usage := piece.get("usageMetadata") or piece.get("usage_metadata"):
        answer.report_counts(usage, _read_counts)
    candidates = piece.get("candidates") or ()
    if (feedback := piece.get("promptFeedback")) and not answer.has_content:
        _refuse_blocked(feedback, candidates)
    for candidate in candidates:
        if not candidate.get("index"):  # of several candidates the first is the answer
            _read_candidate(candidate, answer)


def _refuse_blocked(feedback: Json, candidates: Sequence[Json]) -> None:
    """Raise ContentBlocked if *feedback* says that the prompt was blocked, and no candidate answers it."""
    reason = ", ".join(str(feedback[key]) for key in ("blockReason", "blockReasonMessage") if feedback.get(key))
    if reason and not any(_parts_of(candidate.get("content")) for candidate in candidates):
        raise ContentBlocked(f"gemini blocked the prompt: {reason}", code=feedback.get("blockReason"))


def _read_candidate(candidate: Json, answer: ResponseBuilder) -> None:
    reason, parts = candidate.get("finishReason"), _parts_of(candidate.get("content"))
    if reason and answer.is_repeated_by("".join(str(part.get("text") or "") for part in parts)):
        parts = []
    for part in parts:
        _read_part(part, answer)
    if usage := candidate.get("usageMetadata"):
        answer.report_counts(usage, _read_counts)
    if isinstance(reason, str) and reason.upper() in FINISH:
        reason = reason.upper()
    if finish := read_finish_reason(reason, answer.has_tools, FINISH, "error"):
        _end_partial(answer, cut_off=True)
        answer.finish_reason = finish
        answer.complete = True


def _parts_of(content: Any) -> list[Json]:
    """The parts of a candidate's content, which some servers write as one part, or as text."""
    if isinstance(content, dict):
        content = content.get("parts")
    parts = content if isinstance(content, list) else [content] if content else []
    return [{"text": part} if isinstance(part, str) else part for part in parts]


def _read_part(part: Json, answer: ResponseBuilder) -> None:
    """Read a call, a text, a thought or media. Raises one of `SHAPE_ERRORS` for what has another shape."""
    signature = part.get("thoughtSignature")
    signed = {"signature": signature, "provider": PROVIDER_NAME} if signature else {}
    if (call := part.get("functionCall")) is not None:
        _read_call(call, signed, answer)
    elif (text := part.get("text")) is not None:
        if not isinstance(text, str):
            raise TypeError("text")
        if not part.get("thought"):
            answer.text(text, **signed)
        elif text or signed:
            answer.thinking(text, **{"provider": PROVIDER_NAME, **signed})
    elif (media := part.get("inlineData")) is not None:  # its signature is not kept: Google does not ask for it back
        media_type = media["mimeType"]
        if not isinstance(media_type, str):
            raise TypeError("mimeType")
        source = {"type": "base64", "media_type": media_type, "data": media["data"]}
        answer.media(get_media_kind(media_type), source=source)


def _read_call(call: Json, signed: Mapping[str, Any], answer: ResponseBuilder) -> None:
    key = answer.state.get("call")
    if key is None or (call.get("name") and call.get("id") != key):
        _end_partial(answer)
        key = _open_call(call, signed, answer)
        if key is None:
            return  # said twice
    if args := call.get("args"):
        answer.arguments(key, dump_arguments(args))
    if call.get("partialArgs") or call.get("willContinue") or "call" in answer.state:
        _read_partial(key, call, answer)


def _open_call(call: Json, signed: Mapping[str, Any], answer: ResponseBuilder) -> str | None:
    """Open a call and return its key, or None for one that is there already: with the same id and arguments."""
    call_id, arguments = call.get("id"), dump_arguments(call.get("args"))
    seen: dict[Any, str] = answer.state.setdefault("seen", {})
    if call_id and seen.get(call_id) == arguments:
        return None
    key = str(call_id) if call_id and call_id not in seen else f"{GENERATED_ID_PREFIX}{uuid4().hex[:16]}"
    seen[call_id or key] = arguments
    answer.tool(key, id=key, name=call["name"], **{"provider": PROVIDER_NAME, **signed})
    return key


def _read_counts(raw: Any) -> Counts:
    """Google's counts: its own output leaves thoughts out, and its input what its tools were told."""
    return {
        "input": read_count(raw, "promptTokenCount", "prompt_token_count"),
        "tool_input": read_count(raw, "toolUsePromptTokenCount"),
        "visible_output": read_count(raw, "candidatesTokenCount", "candidates_token_count"),
        "cache_read": read_count(raw, "cachedContentTokenCount"),
        "reasoning": read_count(raw, "thoughtsTokenCount", "thoughts_token_count"),
        "total": read_count(raw, "totalTokenCount", "total_token_count"),
    }


# -- arguments in pieces (Vertex AI, where the request asks for them) --------------------------------------------------

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(['\"])(.*?)\3\]")
_VALUES = ("stringValue", "numberValue", "boolValue", "nullValue")


def _read_partial(key: str, call: Json, answer: ResponseBuilder) -> None:
    """Collect the pieces of one call's arguments; they are only known, and given, when the call ends."""
    arguments = answer.state.setdefault("arguments", {})
    answer.state["call"] = key
    for piece in call.get("partialArgs") or ():
        for name in _VALUES:
            if name in piece:
                steps = _STEP.finditer(piece["jsonPath"])
                path = [int(step[2]) if step[2] else step[1] or step[4] for step in steps]
                _place(arguments, path, None if name == "nullValue" else piece[name])
    answer.has_new_content = True  # a sign of life
    if not call.get("willContinue"):
        _end_partial(answer)


def _end_partial(answer: ResponseBuilder, *, cut_off: bool = False) -> None:
    key, arguments = answer.state.pop("call", None), answer.state.pop("arguments", None)
    if key is not None and (arguments or cut_off):
        written = json.dumps(arguments, ensure_ascii=False)
        answer.arguments(key, written[:-1] if cut_off else written)  # what is cut off must not look whole


def _place(root: dict[str, Any], path: list[str | int], value: Any) -> None:
    node: Any = root
    for step, after in pairwise(path):
        node = _child(node, step, [] if isinstance(after, int) else {})
    last = path[-1]
    before = _child(node, last, "" if isinstance(value, str) else value)
    node[last] = before + value if isinstance(before, str) and isinstance(value, str) else value


def _child(node: Any, step: str | int, default: Any) -> Any:
    if isinstance(node, dict):
        return node.setdefault(step, default)
    if step == len(node):
        node.append(default)
    return node[step]
