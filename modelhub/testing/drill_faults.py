"""The faults of `modelhub drill` by name, and what a good configuration makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

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


def _make_lasting(title: str, *script: Item, **options: Any) -> Drill:
    return Drill(title, script, **options)


def _make_transient(title: str, *script: Item) -> Drill:
    return Drill(title, script, then="healthy", alone="answer")


FAULTS: dict[str, Drill] = {
    "rate_limit_once": _make_transient("429, Retry-After 2 s", status(429, retry_after=2)),
    "rate_limit_long": _make_lasting("429, Retry-After 300 s", status(429, retry_after=300)),
    "rate_limit": _make_lasting("429 for ever", status(429)),
    "quota": _make_lasting("quota used up", status(kind="insufficient_quota")),
    "server_error_once": _make_transient("500 once", status(500)),
    "server_error": _make_lasting("500 for ever", status(500)),
    "overloaded": _make_lasting("503 for ever", status(503)),
    "overloaded_529": _make_lasting("529 for ever", status(529)),
    "refused": _make_lasting("connection refused", refused()),
    "reset_once": _make_transient("connection reset once", reset()),
    "closed": _make_lasting("connection closed before the answer", close()),
    "silence": _make_lasting("silence", silence()),
    "slow_first_token": _make_lasting("first token after 120 s", slow_first_token(120)),
    "slow_plain": _make_lasting("first token after 120 s, plain call", slow_first_token(120), plain=True),
    "slow": _make_lasting("three words a second", slow(3)),
    "cut": _make_lasting("stream cut after 40 words", cut(40)),
    "cut_clean": _make_lasting("stream ends after 40 words as if whole", cut(40, clean=True)),
    "cut_no_prefill": _make_lasting("stream cut, the next takes no prefill", cut(40), others=(no_prefill(),)),
    "stall": _make_lasting("stream stalls after 20 words", stall(20)),
    "garbled": _make_lasting("garbled event after 10 words", garbled(10, replace=True)),
    "no_end_mark": _make_lasting("stream without its end mark", no_end_mark()),
    "no_done": _make_lasting("stream without [DONE]", no_done(), alone="answer"),
    "error_event": _make_lasting("error inside a stream", error_event("overloaded", 10)),
    "error_in_200": _make_lasting("error inside a 200", error_in_200()),
    "empty": _make_lasting("empty 200", empty()),
    "html": _make_lasting("HTML in a 200", html()),
    "auth": _make_lasting("key refused", status(kind="auth")),
    "not_found": _make_lasting("model gone", status(kind="not_found")),
    "context_length": _make_lasting("prompt too long", status(kind="context_length")),
    "content_filter": _make_lasting("content filter", status(kind="content_filter"), expects="error"),
    "invalid_request": _make_lasting("request refused as wrong", status(kind="invalid_request")),
    "all_down": _make_lasting("all but the last down", status(503), all_but_last=True),
}
"""What a fire drill plays, in order, by name. The streams among them are worth nothing without `stream=True`."""
