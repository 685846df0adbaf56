"""What stands below an answer: who gave it, how long it took, what it cost, and what failed before."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from modelhub.cli.error_view import before
from modelhub.cli.output import counted, line, money, took

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.call_trace import CallTrace
    from modelhub.core.response import ChatResponse

__all__ = ["footer"]

_ENDINGS = {
    "length": "cut off at the token limit",
    "content_filter": "cut off by the content filter",
    "refusal": "refused",
    "error": "ended with an error",
}


def footer(reply: ChatResponse, story: CallTrace, seconds: float, *, streamed: bool) -> list[Text]:
    """The lines below *reply*, which took *seconds*."""
    blank = [line("")] if sys.stdout.isatty() else []
    who = line("  ", (" · ".join(_facts(reply, story, seconds, streamed)), "dim"))
    return [*blank, *_calls(reply), who, *before(story.failed())]


def _calls(reply: ChatResponse) -> Iterator[Text]:
    for call in reply.tool_calls:
        arguments = json.dumps(call["input"], ensure_ascii=False)
        yield line("  ", ("asks for ", "dim"), (call["name"], "bold"), f" {arguments}")


def _facts(reply: ChatResponse, story: CallTrace, seconds: float, streamed: bool) -> Iterator[str]:
    name, model = reply["model_name"] or "?", reply["model"] or "?"
    yield model if name == model else f"{name} via {model}"
    part = story.part(model)
    if part is not None and len(part.attempts) > 1:
        yield counted(len(part.attempts), "attempt")
    yield _time(reply, seconds, streamed)
    usage = reply["usage"]
    if usage is not None:
        about = "about " if usage["estimated"] else ""
        yield f"{about}{usage['input_tokens']:,} in, {usage['output_tokens']:,} out"
        if usage.cost is not None:
            yield f"{about}{money(usage.cost)}"
    if reply["finish_reason"] in _ENDINGS:
        yield _ENDINGS[reply["finish_reason"]]


def _time(reply: ChatResponse, seconds: float, streamed: bool) -> str:
    last = reply["attempts"][-1] if reply["attempts"] else None
    if not streamed or last is None or last["first_token"] is None:
        return took(seconds)
    return f"{took(seconds)} (first token {took(last['started'] + last['first_token'])})"
