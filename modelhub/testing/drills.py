"""The standard list of a fire drill: every fault by name, and what a good policy makes of it."""

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
    """A fault as a fire drill plays it: the *script* of the model asked first, and what comes of it.

    `expects` is what the caller is to get if another model stands behind, `alone` if none does: an `answer`, or a clean
    `error`: a `CallError` in good time, or a reply without text whose finish reason is `content_filter`. `others` is
    the script of the models behind; `all_but_last` plays the first one's script at all models but the last.
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


def _always(title: str, *script: Item, **facts: Any) -> Drill:
    return Drill(title, script, **facts)


def _once(title: str, *script: Item) -> Drill:
    return Drill(title, script, then="healthy", alone="answer")


FAULTS: dict[str, Drill] = {
    "rate_limit_once": _once("429, Retry-After 2 s", status(429, retry_after=2)),
    "rate_limit_long": _always("429, Retry-After 300 s", status(429, retry_after=300)),
    "rate_limit": _always("429 for ever", status(429)),
    "quota": _always("quota used up", status(kind="insufficient_quota")),
    "server_error_once": _once("500 once", status(500)),
    "server_error": _always("500 for ever", status(500)),
    "overloaded": _always("503 for ever", status(503)),
    "overloaded_529": _always("529 for ever", status(529)),
    "refused": _always("connection refused", refused()),
    "reset_once": _once("connection reset once", reset()),
    "closed": _always("connection closed before the answer", close()),
    "silence": _always("silence", silence()),
    "slow_first_token": _always("first token after 120 s", slow_first_token(120)),
    "slow_plain": _always("first token after 120 s, plain call", slow_first_token(120), plain=True),
    "slow": _always("three words a second", slow(3)),
    "cut": _always("stream cut after 40 words", cut(40)),
    "cut_clean": _always("stream ends after 40 words as if whole", cut(40, clean=True)),
    "cut_no_prefill": _always("stream cut, the next takes no prefill", cut(40), others=(no_prefill(),)),
    "stall": _always("stream stalls after 20 words", stall(20)),
    "garbled": _always("garbled event after 10 words", garbled(10, replace=True)),
    "no_end_mark": _always("stream without its end mark", no_end_mark()),
    "no_done": _always("stream without [DONE]", no_done(), alone="answer"),
    "error_event": _always("error inside a stream", error_event("overloaded", 10)),
    "error_in_200": _always("error inside a 200", error_in_200()),
    "empty": _always("empty 200", empty()),
    "html": _always("HTML in a 200", html()),
    "auth": _always("key refused", status(kind="auth")),
    "not_found": _always("model gone", status(kind="not_found")),
    "context_length": _always("prompt too long", status(kind="context_length")),
    "content_filter": _always("content filter", status(kind="content_filter"), expects="error"),
    "invalid_request": _always("request refused as wrong", status(kind="invalid_request")),
    "all_down": _always("all but the last down", status(503), all_but_last=True),
}
"""What a fire drill plays, in order, by name. The streams among them are worth nothing without `stream=True`."""
