"""The answers and failures that the contract is about, and what each must be in our terms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from modelhub.core import errors
from modelhub.core.errors import CallError
from modelhub.core.response import Block, ChatResponse

__all__ = [
    "ANSWERS",
    "CALLS",
    "DATA",
    "ERRORS",
    "FACTS",
    "KEY",
    "QUESTION",
    "REFUSAL",
    "TEXT",
    "THOUGHT",
    "TOOL",
    "USAGE",
    "Timetable",
    "assert_equal",
    "check_answer",
    "assert_true",
    "assert_same_reply",
]

KEY = "key-of-the-contract-0001"
"""The API key that the provider is given; no error, record or repr may show it."""
QUESTION = "When does the ferry to the island leave, and is there room for two?"
"""What is asked."""
TEXT = "The ferry to Ærø leaves at seven."
"""The text of every answer that has one in full."""
THOUGHT = "The timetable of the harbour says seven."
"""What the model of `thinking` thinks before it says `TEXT`."""
REFUSAL = "I cannot help with that."
"""What the model of `refusal` says."""
CALLS: tuple[Block, ...] = (
    {"id": "call_1", "name": "find_ferry", "input": {"harbour": "Søby", "seats": 2}},
    {"id": "call_2", "name": "find_ferry", "input": {"harbour": "Faaborg", "seats": 1}},
)
"""The calls of `parallel`; the first one alone is that of `tool`."""
DATA = {"harbour": "Søby", "hours": [7, 12]}
"""The answer of `structured`, which fits `Timetable`."""
USAGE = {
    "input_tokens": 120,
    "output_tokens": 45,
    "cache_read_tokens": 30,
    "cache_write_tokens": 10,
    "reasoning_tokens": 25,
}
"""The counts of `usage`: totals, and the parts in them."""
TOOL = {
    "type": "function",
    "function": {
        "name": "find_ferry",
        "description": "Find the next ferry with room.",
        "parameters": {
            "type": "object",
            "properties": {"harbour": {"type": "string"}, "seats": {"type": "integer"}},
            "required": ["harbour", "seats"],
        },
    },
}
"""The tool that is offered."""


class Timetable(BaseModel):
    """The structure that is asked for."""

    harbour: str
    hours: list[int]


ANSWERS: dict[str, str] = {
    "text": "`TEXT`, and the finish reason stop",
    "usage": "`TEXT`, with the counts of `USAGE`",
    "thinking": "`THOUGHT`, then `TEXT`",
    "tool": "the first of `CALLS`",
    "parallel": "both `CALLS`",
    "structured": "`DATA`, the way this provider asks for it",
    "length": "the beginning of `TEXT`, cut off by the limit of tokens",
    "content_filter": "the beginning of `TEXT` or nothing, cut off by a filter",
    "refusal": "`REFUSAL`",
}
"""Every case that is answered, and with what."""

ERRORS: dict[str, type[CallError]] = {
    "error_auth": errors.AuthenticationFailed,
    "error_not_found": errors.ModelNotFound,
    "error_rate_limited": errors.RateLimited,
    "error_quota": errors.QuotaExhausted,
    "error_overloaded": errors.Overloaded,
    "error_server": errors.ServerError,
    "error_context": errors.ContextTooLong,
    "error_blocked": errors.ContentBlocked,
    "error_invalid": errors.RequestRefused,
}
"""Every case that fails, and what it is."""

FACTS: dict[str, str] = {
    "call_ids": "calls have ids of the vendor's; else they are made, and only must be there",
    "model_name": "answers name the vendor's model",
    "cache_read_tokens": "usage tells them",
    "cache_write_tokens": "usage tells them",
    "reasoning_tokens": "usage tells them",
}
"""What else a vendor may lack."""


def assert_equal(subject: str, actual: object, expected: object) -> None:
    """Raise AssertionError about *subject* unless *actual* equals *expected*."""
    if actual != expected:
        raise AssertionError(f"{subject}: {actual!r}, not {expected!r}")


def assert_true(condition: object, message: str) -> None:
    """Raise AssertionError with *message* unless *condition* is true."""
    if not condition:
        raise AssertionError(message)


def assert_same_reply(last: ChatResponse, plain: ChatResponse, *, by_id: bool) -> None:
    """Raise AssertionError unless the *last* snapshot of a stream equals the *plain* reply, with *by_id* its id too."""
    streamed, expected = _make_comparable(last), _make_comparable(plain)
    for key, value in expected.items():
        assert_equal(f"{key} of the last snapshot", streamed[key], value)
    if by_id:
        assert_equal("id of the last snapshot", last.id, plain.id)


def _make_comparable(reply: ChatResponse) -> dict[str, Any]:
    """Return what must be equal for a plain and a streamed reply: not generated ids, nor the spacing of arguments."""
    generated = ("id", "raw_input")
    blocks = [{key: value for key, value in block.items() if key not in generated} for block in reply.content]
    usage = {**reply.usage, "time": 0.0} if reply.usage is not None else None
    names = ("metadata", "finish_reason", "model_name", "model", "requested")
    return {"content": blocks, "usage": usage, **{name: reply[name] for name in names}}


# -- what each answer must be ------------------------------------------------------------------------------------------


def check_answer(case: str, reply: ChatResponse, lacks: Mapping[str, str]) -> None:
    """Raise AssertionError unless *reply* is the answer of *case*, except for what the vendor *lacks*."""
    kinds = [block["type"] for block in reply.content]
    if case == "thinking":
        assert_equal("the kinds of blocks", kinds, ["thinking", "text"])
        assert_equal("the thinking", reply.thinking, THOUGHT)
        assert_equal("the text", reply.text, TEXT)
    elif case in ("text", "usage"):
        assert_equal("the kinds of blocks", kinds, ["text"])
        assert_equal("the text", reply.text, TEXT)
        assert_equal("finish_reason", reply.finish_reason, "stop")
        assert_true(reply.model_name or "model_name" in lacks, "the reply names the vendor's model")
        if case == "usage":
            for name, count in USAGE.items():
                assert_equal(name, reply.usage[name] if reply.usage else None, 0 if name in lacks else count)
            assert_equal("total_tokens", reply.usage and reply.usage.total_tokens, 165)
    elif case in ("tool", "parallel"):
        _check_calls(reply, lacks, 1 if case == "tool" else 2)
    elif case == "structured":
        assert_equal("metadata", reply.metadata, DATA)
    else:
        assert_equal("finish_reason", reply.finish_reason, case)
        is_right = reply.text == REFUSAL if case == "refusal" else TEXT.startswith(reply.text)
        assert_true(is_right, f"the text: {reply.text!r}")


def _check_calls(reply: ChatResponse, lacks: Mapping[str, str], count: int) -> None:
    assert_equal("the kinds of blocks", [block["type"] for block in reply.content], ["tool_use"] * count)
    for reply_call, expected in zip(reply.tool_calls, CALLS, strict=False):
        assert_equal("the call", (reply_call["name"], reply_call["input"]), (expected["name"], expected["input"]))
        assert_equal("raw_input", json.loads(reply_call["raw_input"]), expected["input"])
        if "call_ids" not in lacks:
            assert_equal("the call's id", reply_call["id"], expected["id"])
    ids = {call["id"] for call in reply.tool_calls}
    assert_true(len(ids) == count and all(ids), f"every call has an id of its own: {ids}")
    assert_equal("finish_reason", reply.finish_reason, "tool_calls")
