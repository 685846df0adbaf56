"""The summary below an answer: the model, the time, the cost, and what failed before."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelhub.cli.error_view import format_earlier_failures
from modelhub.cli.output import format_cost, format_count, format_duration, is_terminal, make_line

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.call_trace import CallTrace
    from modelhub.core.response import ChatResponse

__all__ = ["format_summary"]

_FINISH_TEXTS = {
    "length": "cut off at the token limit",
    "content_filter": "cut off by the content filter",
    "refusal": "refused",
    "error": "ended with an error",
}


def format_summary(reply: ChatResponse, trace: CallTrace, seconds: float, *, streamed: bool) -> list[Text]:
    """Return the lines below *reply*, which took *seconds*."""
    blank = [make_line("")] if is_terminal(sys.stdout) else []
    facts = make_line("  ", (" · ".join(_list_facts(reply, trace, seconds, streamed)), "dim"))
    return [*blank, *_format_tool_calls(reply), facts, *format_earlier_failures(trace.list_failed())]


def _format_tool_calls(reply: ChatResponse) -> Iterator[Text]:
    for call in reply.tool_calls:
        arguments = json.dumps(call["input"], ensure_ascii=False)
        yield make_line("  ", ("calls ", "dim"), (call["name"], "bold"), f" {arguments}")


def _list_facts(reply: ChatResponse, trace: CallTrace, seconds: float, streamed: bool) -> Iterator[str]:
    name, model = reply["model_name"] or "?", reply["model"] or "?"
    yield model if name == model else f"{name} via {model}"
    turn = trace.get_open_turn(model)
    if turn is not None and len(turn.attempts) > 1:
        yield format_count(len(turn.attempts), "attempt")
    yield _format_time(reply, seconds, streamed)
    usage = reply["usage"] or (reply["attempts"][-1]["usage"] if reply["attempts"] else None)
    if usage is not None:
        approximately = "about " if usage["estimated"] else ""
        yield f"{approximately}{usage['input_tokens']:,} in, {usage['output_tokens']:,} out"
        if usage.cost is not None:
            yield f"{approximately}{format_cost(usage.cost)}"
    if reply["finish_reason"] in _FINISH_TEXTS:
        yield _FINISH_TEXTS[reply["finish_reason"]]


def _format_time(reply: ChatResponse, seconds: float, streamed: bool) -> str:
    last = reply["attempts"][-1] if reply["attempts"] else None
    if not streamed or last is None or last["first_token"] is None:
        return format_duration(seconds)
    return f"{format_duration(seconds)} (first token {format_duration(last['started'] + last['first_token'])})"
