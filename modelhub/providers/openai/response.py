"""OpenAI's chat completions as the wire has them, whoever writes them: whole replies and streams, in our own terms.

Pure functions of values. Requests are written in `request`, errors are read in `errors`, and the servers' habits stand
in `servers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelhub.core.errors import BadReply
from modelhub.core.response import FinishReason
from modelhub.providers.error_mapping import is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body, loads
from modelhub.providers.openai.errors import error_in_answer
from modelhub.providers.openai.tool_calls import read_calls, read_function_call
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.token_counts import read_count, read_counts
from modelhub.providers.tool_arguments import dump_arguments

__all__ = ["PROVIDER", "read_body", "read_event", "read_identity", "set_finish_reason"]

Json = Mapping[str, Any]

PROVIDER = "openai"
"""What blocks with something of the vendor's own in them are marked with, to be replayed in this dialect only."""

_PART_KEYS = frozenset({"text", "thinking", "refusal"})
_REASONING = "reasoning"
"""The key of the block for a message's reasoning: a whole message has one field of it, so a stream has one block."""

# -- whole answers and events ------------------------------------------------------------------------------------------


def read_body(data: bytes, answer: ResponseBuilder) -> None:
    """Read a whole completion. Raises BadReply for one without a choice, and the error it may hold instead."""
    body = json_body(data)
    choices = body.get("choices")
    if body.get("error") or (choices is None and is_flat_error(body)):
        raise error_in_answer(body)
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadReply("the answer has no choices")
    choice = next((each for each in choices if isinstance(each, dict) and not each.get("index")), choices[0])
    message = choice.get("message") or choice.get("delta")
    if message is None and isinstance(choice.get("text"), str):  # the older completions' form
        message = {"content": choice["text"]}
    if not isinstance(message, dict):
        raise BadReply("the answer has no message")
    read_identity(body, answer)
    _read_message(message, answer)
    _finish(choice, choice.get("finish_reason"), answer)
    if not answer.complete:  # a whole body is a whole answer, even if it does not say why it ends
        _end("tool_calls" if answer.has_tools else "stop", answer)
    _read_usage(body, answer)


def read_event(event: ServerSentEvent, answer: ResponseBuilder) -> None:
    """Read one event of a stream. Raises BadReply, or the error that the event tells of."""
    if event.data.strip() == b"[DONE]":
        if not answer.complete and answer.has_content:  # it ends an answer that gave no reason for its end
            _end("tool_calls" if answer.has_tools else "stop", answer)
        return
    chunk = loads(event.data)
    if type(chunk) is not dict:
        raise BadReply(f"an event of the stream is no JSON object but {type(chunk).__name__}")
    choices = chunk.get("choices")
    if event.name == "error" or chunk.get("error") or (choices is None and is_flat_error(chunk)):
        raise error_in_answer(chunk)
    if answer.id is None or answer.model_name is None:
        read_identity(chunk, answer)
    for choice in choices or ():
        if not choice.get("index"):  # with n > 1 the first answer is the answer
            _read_choice(choice, chunk, answer)
    if usage := chunk.get("usage"):
        answer.report_counts(usage, read_counts)
    elif answer.complete or "x_groq" in chunk or "timings" in chunk:
        _read_usage(chunk, answer)


def _read_choice(choice: Json, chunk: Json, answer: ResponseBuilder) -> None:
    reason = choice.get("finish_reason")
    if message := choice.get("delta"):
        if reason and answer.is_repeated_by(message.get("content")):
            message = {**message, "content": None}
        _read_message(message, answer)
    elif message := choice.get("message"):
        is_whole = reason or chunk.get("object") == "chat.completion"
        _read_message(_unread_part(message, answer) if is_whole else message, answer)
    elif "text" in choice:  # the older completions' form
        _read_content(choice["text"] or "", answer)
    if reason:
        _finish(choice, reason, answer)


def _unread_part(message: Json, answer: ResponseBuilder) -> Json:
    """What *message*, which says the whole answer behind its pieces, has beyond them."""
    content, so_far = message.get("content"), answer.text_so_far
    if not answer.has_content or not isinstance(content, (str, type(None))):
        return message
    if so_far and content is not None:
        content = content[len(so_far) :] if content.startswith(so_far) else None
    read_before = ("reasoning", "reasoning_content", "reasoning_details") if answer.has_thinking else ()
    skipped = {*read_before, *(("tool_calls", "function_call") if answer.has_tools else ())}
    return {key: value for key, value in message.items() if key not in skipped} | {"content": content}


def read_identity(body: Json, answer: ResponseBuilder) -> None:
    """Read the answer's id and the model's name, where *body* has them."""
    if answer_id := body.get("id"):
        answer.id = str(answer_id)
    if model := body.get("model"):
        answer.model_name = str(model)


def _read_message(message: Json, answer: ResponseBuilder) -> None:
    """Read a message or a delta, in the order in which its parts are shown; anything else in it is not for us."""
    thoughts = message.get("reasoning_content") or message.get("reasoning")  # some servers write it under both names
    if thoughts and isinstance(thoughts, str):
        answer.thinking(thoughts, _REASONING, provider=PROVIDER)
    if (details := message.get("reasoning_details")) and isinstance(details, list):
        _read_details(details, not thoughts, answer)
    if content := message.get("content"):
        _read_content(content, answer)
    if refusal := message.get("refusal"):
        _read_refusal(refusal, answer)
    audio = message.get("audio")
    if not content and isinstance(audio, dict) and isinstance(transcript := audio.get("transcript"), str):
        answer.text(transcript)  # spoken answers are not in our terms; what was said is
    if calls := message.get("tool_calls"):
        read_calls(calls, answer)
    if call := message.get("function_call"):
        read_function_call(call, answer)


def _read_details(details: Sequence[Any], is_only_form: bool, answer: ResponseBuilder) -> None:
    """Read *details* of the reasoning, as OpenRouter writes it; their text only if it stands nowhere else."""
    known = [detail for detail in details if isinstance(detail, dict)]
    answer.state.setdefault("details", []).extend(known)
    if is_only_form:
        text = "".join(str(detail.get("text") or detail.get("summary") or "") for detail in known)
        if text or _must_go_back(known):
            answer.thinking(text, _REASONING, provider=PROVIDER)


def _read_content(content: Any, answer: ResponseBuilder) -> None:
    if type(content) is str:
        answer.text(content)
    elif isinstance(content, list):
        for part in content:
            _read_part(part, answer)
    elif isinstance(content, dict) and not content.keys().isdisjoint(_PART_KEYS):
        _read_part(content, answer)
    else:  # a server that parsed the structure that it was asked for
        answer.text(dump_arguments(content))


def _read_part(part: Any, answer: ResponseBuilder) -> None:
    if isinstance(part, str):
        answer.text(part)
    elif isinstance(part, dict):
        thoughts = part.get("thinking")
        if isinstance(thoughts, list):  # Mistral: parts within the part
            thoughts = "".join(str(thought.get("text") or "") for thought in thoughts if isinstance(thought, dict))
        if thoughts:
            answer.thinking(str(thoughts), provider=PROVIDER)
        if isinstance(text := part.get("text"), str):
            answer.text(text)
        if refusal := part.get("refusal"):
            _read_refusal(refusal, answer)


def _read_refusal(refusal: Any, answer: ResponseBuilder) -> None:
    if isinstance(refusal, str):
        answer.text(refusal)
        answer.state["refused"] = True


# -- the end -----------------------------------------------------------------------------------------------------------


def _finish(choice: Json, reason: Any, answer: ResponseBuilder) -> None:
    if error := choice.get("error"):
        raise error_in_answer({"error": error})
    finish = read_finish_reason(reason, answer.has_tools)
    if finish is not None:
        _end(finish, answer)


def _end(finish: FinishReason, answer: ResponseBuilder) -> None:
    """End the answer, and keep of its reasoning what only the server can read, to be sent back as it came."""
    set_finish_reason(finish, answer)
    joined: dict[tuple[Any, Any], dict[str, Any]] = {}
    for detail in answer.state.pop("details", ()):
        kept = joined.setdefault((detail.get("type"), detail.get("index")), {})
        for key, value in detail.items():
            grows = key in ("text", "summary", "data") and isinstance(kept.get(key), str) and isinstance(value, str)
            kept[key] = kept[key] + value if grows else kept.get(key) if value is None else value
    if _must_go_back(joined.values()):
        data = json.dumps(list(joined.values()), ensure_ascii=False)
        answer.thinking("", _REASONING, provider=PROVIDER, data=data)


def set_finish_reason(finish: FinishReason, answer: ResponseBuilder) -> None:
    """End the answer for the reason *finish*: an answer that holds a refusal ends with it."""
    answer.finish_reason = "refusal" if finish == "stop" and answer.state.get("refused") else finish
    answer.complete = True


def _must_go_back(details: Iterable[Json]) -> bool:
    return any(detail.get("signature") or detail.get("data") for detail in details)


# -- usage -------------------------------------------------------------------------------------------------------------


def _read_usage(chunk: Json, answer: ResponseBuilder) -> None:
    """Read the usage, wherever the server puts it."""
    choices = chunk.get("choices")
    places: list[Any] = [chunk]
    for choice in choices if isinstance(choices, list) else ():
        places += (choice, choice.get("message"), choice.get("delta")) if isinstance(choice, dict) else ()
    places.append(chunk.get("x_groq"))
    raw = next((place["usage"] for place in places if isinstance(place, dict) and place.get("usage")), None)
    if raw:
        answer.report_counts(raw, read_counts)
    elif (timings := chunk.get("timings")) and answer.usage is None:
        cached = read_count(timings, "cache_n")  # llama.cpp counts what it computed
        fresh, output = read_count(timings, "prompt_n"), read_count(timings, "predicted_n")
        answer.count({"fresh_input": fresh, "cache_read": cached, "output": output})
