"""OpenAI's Responses API as the wire has it: whole answers and the events of streams, in our own terms."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from modelhub.core.errors import BadReply, CallError, ServerError
from modelhub.providers.error_mapping import is_flat_error
from modelhub.providers.finish_reasons import read_finish_reason
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.json_text import json_body, loads
from modelhub.providers.openai.errors import error_in_answer
from modelhub.providers.openai.response import read_counts, read_identity, set_finish_reason
from modelhub.providers.openai.responses_items import ItemReader, Items
from modelhub.providers.provider_errors import SHAPE_ERRORS, raise_shape_error
from modelhub.providers.response_builder import ResponseBuilder

__all__ = ["LAST_EVENTS", "read_body", "read_event"]

Json = Mapping[str, Any]

LAST_EVENTS = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events that nothing follows but the end of the body."""

# -- whole answers -----------------------------------------------------------------------------------------------------


def read_body(data: bytes, answer: ResponseBuilder, host: str) -> None:
    """Read a whole response of the server *host*. Raises BadReply, or the failure that it tells of."""
    body = json_body(data)
    try:
        _read_response(body, answer, host)
    except SHAPE_ERRORS as error:
        raise_shape_error(error, "the answer has another shape than a response")


def _read_response(response: Json, answer: ResponseBuilder, host: str) -> None:
    status = response.get("status")
    if status == "failed" or response.get("error"):
        raise _failure(response, answer)
    if "output" not in response and is_flat_error(response):
        raise error_in_answer(response)
    if status in ("queued", "in_progress"):
        raise BadReply(f"the answer is not there yet: its status is {status} (background responses are not waited for)")
    output = response.get("output")
    if not isinstance(output, list):
        raise BadReply("the answer has no output")
    read_identity(response, answer)
    items = _items(answer, host)
    for index, item in enumerate(output):
        if isinstance(item, dict):
            items.find_final(index, item).finish(item)
    answer.report_counts(response.get("usage"), read_counts)
    _end(response, answer)


def _failure(response: Json, answer: ResponseBuilder) -> CallError:
    answer.report_counts(response.get("usage"), read_counts)  # what failed may have cost something
    return error_in_answer({"error": response.get("error")})  # its own fields are about the response


def _items(answer: ResponseBuilder, host: str) -> Items:
    items: Items | None = answer.state.get("items")
    if items is None:
        items = answer.state["items"] = Items(answer, host)
    return items


def _reader(event: Json, answer: ResponseBuilder, host: str) -> ItemReader:
    return _items(answer, host).find(event.get("output_index"), event.get("item_id"))


def _end(response: Json, answer: ResponseBuilder) -> None:
    """End the answer, for the reason that *response* gives. Raises ServerError if it was broken off."""
    status = response.get("status")
    reason = "stop"
    if status == "incomplete":
        details = response.get("incomplete_details")
        reason = (details.get("reason") if isinstance(details, dict) else None) or "length"
    elif status == "cancelled":
        raise ServerError("the answer was broken off: its status is `cancelled`", code="cancelled")
    set_finish_reason(read_finish_reason(reason, answer.has_tools, default="length") or "stop", answer)


# -- events ------------------------------------------------------------------------------------------------------------


def read_event(sent: ServerSentEvent, answer: ResponseBuilder, host: str) -> None:
    """Read *sent*, one event of a stream. Raises BadReply, or the failure that the event tells of."""
    if sent.data.strip() == b"[DONE]":  # what some servers put behind every stream says nothing here
        return
    event = loads(sent.data)
    if type(event) is not dict:
        raise BadReply(f"an event of the stream is no JSON object but {type(event).__name__}")
    kind = event.get("type") or sent.name
    read = _EVENTS.get(kind)
    try:
        if read is not None:
            read(event, answer, host)
        elif kind.startswith("response."):
            return
        elif event.get("error") or is_flat_error(event):
            raise error_in_answer(event)
        elif event.get("object") == "response":  # a server that does not stream gives the answer whole
            _read_response(event, answer, host)
    except SHAPE_ERRORS as error:
        raise_shape_error(error, "an event of the stream has another shape than the API's")


def _read_start(event: Json, answer: ResponseBuilder, _: str) -> None:
    read_identity(event["response"], answer)


def _read_end(event: Json, answer: ResponseBuilder, host: str) -> None:
    response = event["response"]
    if not isinstance(response.get("output"), list):
        response = {**response, "output": []}
    _read_response(response, answer, host)


def _read_failure(event: Json, answer: ResponseBuilder, _: str) -> None:
    raise _failure(event["response"], answer)


def _read_error(event: Json, _: ResponseBuilder, __: str) -> None:
    # The older form has the error's fields in the event itself, whose type is not the error's.
    raise error_in_answer(event if event.get("error") else {"error": {**event, "type": None}})


def _begin_item(event: Json, answer: ResponseBuilder, host: str) -> None:
    item = event["item"]
    _items(answer, host).find(event.get("output_index"), item.get("id")).begin(item)


def _finish_item(event: Json, answer: ResponseBuilder, host: str) -> None:
    item = event["item"]
    _items(answer, host).find(event.get("output_index"), item.get("id")).finish(item)


def _read_text(event: Json, answer: ResponseBuilder, host: str) -> None:
    if piece := event["delta"]:
        _reader(event, answer, host).add_text(piece)


def _read_refusal(event: Json, answer: ResponseBuilder, host: str) -> None:
    answer.state["refused"] = True
    _read_text(event, answer, host)


def _read_summary(event: Json, answer: ResponseBuilder, host: str) -> None:
    _reader(event, answer, host).add_thinking(event["delta"], ("summary", event.get("summary_index")))


def _read_reasoning(event: Json, answer: ResponseBuilder, host: str) -> None:
    _reader(event, answer, host).add_thinking(event["delta"], ("content", event.get("content_index")))


def _read_arguments(event: Json, answer: ResponseBuilder, host: str) -> None:
    _reader(event, answer, host).add_arguments(event["delta"])


_EVENTS: Mapping[str, Callable[[Json, ResponseBuilder, str], None]] = {
    "response.output_text.delta": _read_text,
    "response.reasoning_summary_text.delta": _read_summary,
    "response.reasoning_text.delta": _read_reasoning,
    "response.function_call_arguments.delta": _read_arguments,
    "response.custom_tool_call_input.delta": _read_arguments,
    "response.refusal.delta": _read_refusal,
    "response.output_item.added": _begin_item,
    "response.output_item.done": _finish_item,
    "response.created": _read_start,
    "response.in_progress": _read_start,
    "response.completed": _read_end,
    "response.incomplete": _read_end,
    "response.failed": _read_failure,
    "response.cancelled": _read_failure,
    "error": _read_error,
}
"""What is read of a stream; the other events say what these say too, or how far a tool has come."""
