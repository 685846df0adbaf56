"""OpenAI's chat completions as the wire has them, whoever writes them: whole replies and streams, in our own terms.

Pure functions of values. Requests are written in `_openai_encode`, errors are read in `_openai_errors`, and the
servers' habits stand in `_openai_quirks`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from modelhub.errors import BadReply, CallError, Overloaded, ServerError
from modelhub.providers._answer import Answer
from modelhub.providers._openai_errors import error_in_answer, is_flat_error
from modelhub.providers._wire import loads
from modelhub.response import ChatUsage, FinishReason

__all__ = ["PROVIDER", "read_body", "read_event", "read_headers", "read_usage"]

Json = Mapping[str, Any]

PROVIDER = "openai"
"""What blocks with something of the vendor's own in them are marked with, to be replayed in this dialect only."""

_SHAPES = (AttributeError, TypeError, KeyError, ValueError)
"""What reading raises where a server writes one kind of value in the place of another."""
_REASONING = "reasoning"
"""The key of the block for a message's reasoning: a whole message has one field of it, so a stream has one block."""

# -- whole answers and events ------------------------------------------------------------------------------------------


def read_headers(headers: Mapping[str, str], answer: Answer) -> None:
    """Read what comes in front of a body: the request's id, and what is left of the server's limits."""
    answer.headers = headers
    answer.request_id = headers.get("x-request-id") or None


def read_body(body: Json, answer: Answer) -> None:
    """Read a whole completion. Raises BadReply for one without a choice, and the error it may hold instead."""
    choices = body.get("choices")
    if body.get("error") or (choices is None and is_flat_error(body)):
        raise error_in_answer(body)
    try:
        _read_choices(body, choices, answer)
    except CallError:
        raise
    except _SHAPES as error:
        raise BadReply("the answer has another shape than a completion") from error


def _read_choices(body: Json, choices: Any, answer: Answer) -> None:
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply("the answer has no choices")
    choice = next((one for one in choices if isinstance(one, dict) and not one.get("index")), choices[0])
    message = choice.get("message") or choice.get("delta")
    if not isinstance(message, dict):
        raise BadReply("the answer has no message")
    _read_identity(body, answer)
    _read_message(message, answer)
    _finish(choice, choice.get("finish_reason") or "stop", answer)
    if usage := body.get("usage"):
        answer.usage = read_usage(usage)


def read_event(name: str, data: bytes, answer: Answer) -> None:
    """Read one event of a stream, its *name* and *data*. Raises BadReply, or the error that the event tells of."""
    chunk = loads(data)
    if type(chunk) is not dict:
        raise BadReply(f"an event of the stream is no JSON object but {type(chunk).__name__}")
    choices = chunk.get("choices")
    if name == "error" or chunk.get("error") or (choices is None and is_flat_error(chunk)):
        raise error_in_answer(chunk)
    try:
        if answer.id is None:
            _read_identity(chunk, answer)
        for choice in choices or ():
            if not choice.get("index"):  # with n > 1 the first answer is the answer
                _read_choice(choice, answer)
        if usage := chunk.get("usage"):
            answer.usage = read_usage(usage) or answer.usage
    except CallError:
        raise
    except _SHAPES as error:
        raise BadReply("an event of the stream has another shape than a chunk") from error


def _read_choice(choice: Json, answer: Answer) -> None:
    if delta := choice.get("delta") or choice.get("message"):
        _read_message(delta, answer)
    if (reason := choice.get("finish_reason")) and reason != "null":
        _finish(choice, reason, answer)


def _read_identity(body: Json, answer: Answer) -> None:
    if found := body.get("id"):
        answer.id = str(found)
    if found := body.get("model"):
        answer.model_name = str(found)


def _read_message(message: Json, answer: Answer) -> None:
    for key, read in _READERS:
        if value := message.get(key):
            read(value, message, answer)


def _read_reasoning(value: Any, message: Json, answer: Answer) -> None:
    if isinstance(value, str) and message.get("reasoning_content") in (None, "", value):
        answer.thinking(value, _REASONING, provider=PROVIDER)


def _read_reasoning_content(value: Any, message: Json, answer: Answer) -> None:
    if message.get("reasoning") != value and isinstance(value, str):  # some servers write it under both names
        answer.thinking(value, _REASONING, provider=PROVIDER)


def _read_details(details: Any, message: Json, answer: Answer) -> None:
    if not isinstance(details, list):
        return
    found = [detail for detail in details if isinstance(detail, dict)]
    answer.notes.setdefault("details", []).extend(found)
    if not message.get("reasoning") and not message.get("reasoning_content"):
        text = "".join(str(detail.get("text") or detail.get("summary") or "") for detail in found)
        if text or _must_go_back(found):
            answer.thinking(text, _REASONING, provider=PROVIDER)


def _read_content(content: Any, _: Json, answer: Answer) -> None:
    if type(content) is str:
        answer.text(content)
    elif isinstance(content, list):
        for part in content:
            _read_part(part, answer)


def _read_part(part: Any, answer: Answer) -> None:
    if isinstance(part, str):
        answer.text(part)
    elif isinstance(part, dict):
        thoughts = part.get("thinking")
        if isinstance(thoughts, list):  # Mistral: parts within the part
            thoughts = "".join(str(one.get("text") or "") for one in thoughts if isinstance(one, dict))
        if thoughts:
            answer.thinking(str(thoughts), provider=PROVIDER)
        if isinstance(text := part.get("text"), str):
            answer.text(text)
        if refusal := part.get("refusal"):
            _read_refusal(refusal, part, answer)


def _read_refusal(refusal: Any, _: Json, answer: Answer) -> None:
    if isinstance(refusal, str):
        answer.text(refusal)
        answer.notes["refused"] = True


def _read_audio(audio: Any, message: Json, answer: Answer) -> None:
    # Spoken answers are not in our terms; what was said is.
    if isinstance(audio, dict) and isinstance(said := audio.get("transcript"), str) and not message.get("content"):
        answer.text(said)


# -- tool calls --------------------------------------------------------------------------------------------------------


class _Call:
    """A call in the making: the key of its block and what is known of it."""

    __slots__ = ("id", "key", "name", "pieces")

    def __init__(self, key: int) -> None:
        self.key = key
        self.id = ""
        self.name = ""
        self.pieces: list[str] = []

    def is_whole(self) -> bool:
        """Whether the arguments are complete."""
        if not self.pieces or not self.pieces[-1].rstrip().endswith("}"):
            return False
        try:
            json.loads("".join(self.pieces))
        except ValueError:
            return False
        return True


def _read_calls(calls: Any, _: Json, answer: Answer) -> None:
    if not isinstance(calls, list):
        return
    seen: set[Any] = set()
    for given in calls:
        if isinstance(given, dict):
            _read_call(given, answer, given.get("index") in seen)
            seen.add(given.get("index"))


def _read_call(given: Json, answer: Answer, beside: bool) -> None:
    """Add a piece of a call; *beside* tells that the same message has another one at its index."""
    custom = given.get("type") == "custom"
    function = given.get("custom" if custom else "function") or {}
    name, call_id = function.get("name") or "", given.get("id") or ""
    piece = function.get("input" if custom else "arguments")
    if not isinstance(piece, str):
        piece = json.dumps(piece, ensure_ascii=False) if piece else ""
    if name or call_id or piece:
        call = _call_at(given.get("index"), name, call_id, beside, answer)
        _name_call(call, name, call_id, given, answer)
        if piece:
            call.pieces.append(piece)
            answer.arguments(call.key, piece)


def _call_at(index: Any, name: str, call_id: str, beside: bool, answer: Answer) -> _Call:
    """The call that a piece belongs to. Some servers count no index, or write 0 for all; then id and name tell."""
    calls: dict[Any, _Call] = answer.notes.setdefault("calls", {})
    call = calls.get(index) if index is not None else calls.get(call_id or "last")
    if call is not None and not (name and _is_another(call, call_id, beside)):
        return call
    call = _Call(answer.notes.get("count", 0))
    answer.notes["count"] = call.key + 1
    calls["last"] = call
    calls[index if index is not None else call_id or "last"] = call
    return call


def _is_another(call: _Call, call_id: str, beside: bool) -> bool:
    if call_id and call.id:
        return call_id != call.id
    return bool(call.name) and (beside or call.is_whole())


def _name_call(call: _Call, name: str, call_id: str, given: Json, answer: Answer) -> None:
    new = not call.id and not call.name
    if new or (call_id and not call.id) or (name and not call.name):
        call.id, call.name = call.id or call_id, call.name or name
        fields = _signature(given)
        # A call is answered by its id: one that has none is given one, until a real one comes.
        made = f"call_{uuid4().hex[:24]}" if new and not call.id else None
        answer.tool(call.key, id=call.id or made, name=call.name, **fields)
        if answer.finish_reason == "stop":
            answer.finish_reason = "tool_calls"


def _signature(given: Json) -> dict[str, Any]:
    extra = given.get("extra_content")
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return {"signature": signature, "provider": PROVIDER} if isinstance(signature, str) else {}


def _read_function_call(given: Any, _: Json, answer: Answer) -> None:
    if isinstance(given, dict):
        _read_call({"index": "function_call", "function": given}, answer, False)


_READERS: Sequence[tuple[str, Callable[[Any, Json, Answer], None]]] = (
    ("reasoning", _read_reasoning),
    ("reasoning_content", _read_reasoning_content),
    ("reasoning_details", _read_details),
    ("content", _read_content),
    ("refusal", _read_refusal),
    ("audio", _read_audio),
    ("tool_calls", _read_calls),
    ("function_call", _read_function_call),
)
"""What is looked for in a message or a delta, in the order in which it is read; anything else is not for us."""

# -- the end -----------------------------------------------------------------------------------------------------------

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
    "refusal": "refusal",
    # Servers in front of other models pass their words on.
    "max_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "safety": "content_filter",
    "sensitive": "content_filter",
}
_BROKEN_OFF: dict[str, type[CallError]] = {
    "error": ServerError,
    "network_error": ServerError,
    "insufficient_system_resource": Overloaded,
}


def _finish(choice: Json, reason: Any, answer: Answer) -> None:
    if error := choice.get("error"):
        raise error_in_answer({"error": error})
    if reason in _BROKEN_OFF:
        raise _BROKEN_OFF[reason](f"the answer was broken off: finish_reason is `{reason}`", code=reason)
    finish = _FINISH.get(reason, "stop")
    if finish == "stop" and answer.notes.get("refused"):
        finish = "refusal"
    elif finish == "stop" and answer.has_tools:
        finish = "tool_calls"
    answer.finish_reason = finish
    answer.complete = True
    if details := answer.notes.pop("details", None):
        _keep_details(details, answer)


def _keep_details(details: Sequence[dict[str, Any]], answer: Answer) -> None:
    """Keep what only the server can read, to be sent back as it came; plain text needs no keeping."""
    joined: dict[tuple[Any, Any], dict[str, Any]] = {}
    for detail in details:
        kept = joined.setdefault((detail.get("type"), detail.get("index")), {})
        for key, value in detail.items():
            grows = key in ("text", "summary", "data") and isinstance(kept.get(key), str) and isinstance(value, str)
            kept[key] = kept[key] + value if grows else kept.get(key) if value is None else value
    if _must_go_back(joined.values()):
        data = json.dumps(list(joined.values()), ensure_ascii=False)
        answer.thinking("", _REASONING, provider=PROVIDER, data=data)


def _must_go_back(details: Iterable[Json]) -> bool:
    return any(detail.get("signature") or detail.get("data") for detail in details)


def read_usage(raw: Any) -> ChatUsage | None:
    """The usage in our terms; the total decides where a server leaves the reasoning out of the answer's tokens."""
    if not isinstance(raw, dict):
        return None
    taken, given = _count(raw, "prompt_tokens"), _count(raw, "completion_tokens")
    inner, outer = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    return ChatUsage(
        taken,
        max(given, _count(raw, "total_tokens") - taken),
        cache_read_tokens=_count(inner, "cached_tokens")
        or _count(raw, "prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"),
        cache_write_tokens=_count(inner, "cache_write_tokens", "cache_creation_input_tokens")
        or _count(raw, "cache_creation_input_tokens"),
        reasoning_tokens=_count(outer, "reasoning_tokens") or _count(raw, "reasoning_tokens"),
    )


def _count(raw: Any, *keys: str) -> int:
    found = (raw.get(key) for key in keys) if isinstance(raw, dict) else ()
    return next((int(value) for value in found if isinstance(value, (int, float)) and value > 0), 0)
