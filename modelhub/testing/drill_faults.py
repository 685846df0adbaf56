"""The faults of `modelhub drill` by name, and what a good configuration makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modelhub.testing.faults import (
    Item,
    close,
    cut,
    empty,
    error_event,
    error_in_200,
    garbled,
    html,
    no_done,
    no_end_mark,
    no_prefill,
    refused,
    reset,
    silence,
    slow,
    slow_first_token,
    stall,
    status,
)

__all__ = ["FAULTS", "Drill", "Expected"]

Expected = Literal["answer", "error"]


@dataclass(frozen=True, slots=True)
class Drill:
    """A case of a drill: the *script* of the first model, and the expected result.

    `expects` is what the caller should get if there is another model, `alone` if there is none: an `answer`, or a clean
    `error`: a `CallError` in time, or a reply without text whose finish reason is `content_filter`. `others` is the
    script of the later models; `all_but_last` plays the first script on all models but the last.
    """

    title: str
    script: tuple[Item, ...]
    then: Literal["repeat", "healthy"] = "repeat"
    expects: Expected = "answer"
    alone: Expected = "error"
    others: tuple[Item, ...] = ()
    all_but_last: bool = False
    plain: bool = False
    """Whether the call is a plain one, also where faults of streams are streamed."""


def _make_transient(title: str, *script: Item) -> Drill:
    return Drill(title, script, then="healthy", alone="answer")


FAULTS: dict[str, Drill] = {
    "rate_limit_once": _make_transient("429, Retry-After 2 s", status(429, retry_after=2)),
    "rate_limit_long": Drill("429, Retry-After 300 s", (status(429, retry_after=300),)),
    "rate_limit": Drill("429 for ever", (status(429),)),
    "quota": Drill("quota used up", (status(kind="insufficient_quota"),)),
    "server_error_once": _make_transient("500 once", status(500)),
    "server_error": Drill("500 for ever", (status(500),)),
    "overloaded": Drill("503 for ever", (status(503),)),
    "overloaded_529": Drill("529 for ever", (status(529),)),
    "refused": Drill("connection refused", (refused(),)),
    "reset_once": _make_transient("connection reset once", reset()),
    "closed": Drill("connection closed before the answer", (close(),)),
    "silence": Drill("silence", (silence(),)),
    "slow_first_token": Drill("first token after 120 s", (slow_first_token(120),)),
    "slow_plain": Drill("first token after 120 s, plain call", (slow_first_token(120),), plain=True),
    "slow": Drill("three words a second", (slow(3),)),
    "cut": Drill("stream cut after 40 words", (cut(40),)),
    "cut_clean": Drill("stream ends after 40 words as if whole", (cut(40, clean=True),)),
    "cut_no_prefill": Drill("stream cut, the next takes no prefill", (cut(40),), others=(no_prefill(),)),
    "stall": Drill("stream stalls after 20 words", (stall(20),)),
    "garbled": Drill("garbled event after 10 words", (garbled(10, replace=True),)),
    "no_end_mark": Drill("stream without its end mark", (no_end_mark(),)),
    "no_done": Drill("stream without [DONE]", (no_done(),), alone="answer"),
    "error_event": Drill("error inside a stream", (error_event("overloaded", 10),)),
    "error_in_200": Drill("error inside a 200", (error_in_200(),)),
    "empty": Drill("empty 200", (empty(),)),
    "html": Drill("HTML in a 200", (html(),)),
    "auth": Drill("key refused", (status(kind="auth"),)),
    "not_found": Drill("model gone", (status(kind="not_found"),)),
    "context_length": Drill("prompt too long", (status(kind="context_length"),)),
    "content_filter": Drill("content filter", (status(kind="content_filter"),), expects="error"),
    "invalid_request": Drill("request refused as wrong", (status(kind="invalid_request"),)),
    "all_down": Drill("all but the last down", (status(503),), all_but_last=True),
}
"""What a fire drill plays, in order, by name. The streams among them are worth nothing without `stream=True`."""
