"""What Gemini writes, to our own terms: answers, streamed or whole, and errors.

Pure functions of values. Answers of the Gemini API and of Vertex AI have one form, and so have whole answers and the
pieces of a stream. Parts that only report what Google's own tools did (search, code execution) are no content.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
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
from modelhub.providers.provider_errors import SHAPE_ERRORS
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
    try:
        _read_identity(piece, answer)
        candidates = piece.get("candidates") or ()
        if (feedback := piece.get("promptFeedback")) and not answer.has_content:
            _refuse_blocked(feedback, candidates)
        for candidate in candidates:
            if not candidate.get("index"):  # of several candidates the first is the answer
                _read_candidate(candidate, answer)
    except SHAPE_ERRORS as error:
        raise BadReply(f"the answer has another shape than Gemini's: {type(error).__name__}") from error


def _read_identity(piece: Json, answer: ResponseBuilder) -> None:
    answer.id = piece.get("responseId") or answer.id
    answer.model_name = piece.get("modelVersion") or answer.model_name
    if usage := piece.get("usageMetadata") or piece.get("usage_metadata"):
        answer.report_counts(usage, _read_counts)


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
        for kind, read in _READERS.items():
            if part.get(kind) is not None:
                read(part, answer)
                break
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


def _signed(part: Json) -> dict[str, Any]:
    signature = part.get("thoughtSignature")
    return {"signature": signature, "provider": PROVIDER_NAME} if signature else {}


def _read_text(part: Json, answer: ResponseBuilder) -> None:
    text, signed = part["text"], _signed(part)
    if not isinstance(text, str):
        raise TypeError("text")
    if not part.get("thought"):
        answer.text(text, **signed)
    elif text or signed:
        answer.thinking(text, **{"provider": PROVIDER_NAME, **signed})


def _read_media(part: Json, answer: ResponseBuilder) -> None:
    data = part["inlineData"]  # a signature on it is not kept: Google does not ask for those back
    media_type = data["mimeType"]
    if not isinstance(media_type, str):
        raise TypeError("mimeType")
    answer.media(get_media_kind(media_type), source={"type": "base64", "media_type": media_type, "data": data["data"]})


def _read_call(part: Json, answer: ResponseBuilder) -> None:
    call, state = part["functionCall"], answer.state
    key = state.get("call")
    if key is None or (call.get("name") and call.get("id") != key):
        _end_partial(answer)
        key = _open_call(call, part, answer)
        if key is None:
            return  # said twice
    if args := call.get("args"):
        answer.arguments(key, dump_arguments(args))
    if call.get("partialArgs") or call.get("willContinue") or "call" in state:
        _read_partial(key, call, answer)


def _open_call(call: Json, part: Json, answer: ResponseBuilder) -> str | None:
    """Open a call and return its key, or None for one that is there already: with the same id and arguments."""
    call_id, arguments = call.get("id"), dump_arguments(call.get("args"))
    seen: dict[Any, str] = answer.state.setdefault("seen", {})
    if call_id and seen.get(call_id) == arguments:
        return None
    key = str(call_id) if call_id and call_id not in seen else f"{GENERATED_ID_PREFIX}{uuid4().hex[:16]}"
    seen[call_id or key] = arguments
    answer.tool(key, id=key, name=call["name"], **{"provider": PROVIDER_NAME, **_signed(part)})
    return key


_READERS: dict[str, Callable[[Json, ResponseBuilder], None]] = {
    "functionCall": _read_call,
    "text": _read_text,
    "inlineData": _read_media,
}


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
                _place(arguments, _path(piece["jsonPath"]), None if name == "nullValue" else piece[name])
    answer.has_new_content = True  # a sign of life
    if not call.get("willContinue"):
        _end_partial(answer)


def _end_partial(answer: ResponseBuilder, *, cut_off: bool = False) -> None:
    key, arguments = answer.state.pop("call", None), answer.state.pop("arguments", None)
    if key is not None and (arguments or cut_off):
        written = json.dumps(arguments, ensure_ascii=False)
        answer.arguments(key, written[:-1] if cut_off else written)  # what is cut off must not look whole


def _path(text: str) -> list[str | int]:
    return [int(step[2]) if step[2] else step[1] or step[4] for step in _STEP.finditer(text)]


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
