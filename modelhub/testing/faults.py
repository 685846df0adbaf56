"""What can go wrong between a client and a vendor's server, one small value for each.

A fault is played for one request by a `FaultServer`. It is the same for all vendors: the server writes it the way the
vendor would. A fault of streams has its counterpart for plain answers: what is cut off after some words of a stream is
a body that is cut off.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from modelhub.testing import fault_types as plays
from modelhub.testing import stream_fault_types as streams
from modelhub.testing.fault_types import Fault, Item
from modelhub.testing.wires import Kind, Refusal, kind_of

__all__ = [
    "Fault",
    "Item",
    "broken_json",
    "close",
    "cut",
    "cut_body",
    "empty",
    "error_event",
    "error_in_200",
    "flap",
    "garbled",
    "half_open",
    "healthy",
    "html",
    "no_done",
    "no_end_mark",
    "no_prefill",
    "refuse_fields",
    "refused",
    "reset",
    "silence",
    "slow",
    "slow_first_token",
    "stall",
    "status",
    "trickle",
    "wrong_json",
]

_EVER = 3600.0
_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


def healthy() -> Fault:
    """The answer, as it should be."""
    return Fault()


# -- refusals ----------------------------------------------------------------------------------------------------------


def status(
    code: int | None = None,
    *,
    kind: Kind | None = None,
    retry_after: float | None = None,
    form: Literal["seconds", "date", "ms"] = "seconds",
    should_retry: bool | None = None,
    error_code: str | None = None,
    message: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Fault:
    """An error of status *code*, of what *kind* (by the code if not given), in the vendor's own words.

    With *kind* alone, the status too is the vendor's. *retry_after*, in seconds, is written as *form* says.
    """
    if kind is None:
        if code is None:
            raise ValueError("status() needs a code or a kind")
        kind = kind_of(code)
    own = dict(headers or {})
    if should_retry is not None:
        own["x-should-retry"] = str(should_retry).lower()
    if retry_after is not None and form != "date":
        own |= {"retry-after-ms": f"{retry_after * 1000:.0f}"} if form == "ms" else {"Retry-After": f"{retry_after:g}"}
    refusal = Refusal(kind, code, error_code, message, retry_after)
    return plays.Status(refusal, own, retry_after if form == "date" else None)


def refuse_fields(*names: str) -> Item:
    """A refusal of every request that holds one of the fields *names*, by the first of them; else the answer.

    The names are those on the wire, such as `temperature`, `generationConfig` or `num_predict`.
    """
    return plays.FieldsRefused(names)


def no_prefill() -> Fault:
    """A refusal if the conversation ends with an assistant's message, else the answer."""
    return plays.NoPrefill(Refusal("no_prefill"))


def error_in_200(kind: Kind = "overloaded") -> Fault:
    """A vendor's error object under status 200, also where a stream was asked for."""
    return plays.ErrorIn200(Refusal(kind))


def error_event(kind: Kind = "overloaded", after: int = 10, message: str | None = None) -> Fault:
    """An error inside a stream, after *after* words; a plain answer is an error inside a 200."""
    return plays.ErrorEvent(Refusal(kind, message=message), after)


# -- bodies ------------------------------------------------------------------------------------------------------------


def empty() -> Fault:
    """A 200 with nothing in it."""
    return plays.Body(b"")


def html() -> Fault:
    """A 200 with a gateway's page of HTML."""
    return plays.Body(_HTML, "text/html; charset=utf-8")


def wrong_json(text: str = '{"status": "ok"}') -> Fault:
    """A 200 with JSON that is no answer, such as `{}` or `[]`."""
    return plays.Body(text.encode())


def broken_json() -> Fault:
    """A 200 with JSON that breaks off, in a body of the right length."""
    return plays.Body(b'{"id": "broken", "choices": [{"mess')


def cut_body(share: float = 0.6) -> Fault:
    """A body that is shorter than its Content-Length says: only *share* of it comes."""
    return plays.CutBody(share)


# -- connections -------------------------------------------------------------------------------------------------------


def refused() -> Fault:
    """Nobody listens: connections are refused until another script is set. Stands alone in a script."""
    return plays.Refused()


def reset() -> Fault:
    """The connection is reset (RST) when the request has been read, before any byte of an answer."""
    return plays.ConnectionDropped("reset")


def close() -> Fault:
    """The connection is closed (FIN) when the request has been read, before any byte of an answer."""
    return plays.ConnectionDropped("close")


def silence(seconds: float = _EVER) -> Fault:
    """Nothing at all for *seconds*; then the connection is closed."""
    return plays.ConnectionDropped("close", seconds)


def half_open(seconds: float = _EVER) -> Fault:
    """A connection that leads nowhere: the request is not read, and that the client hangs up goes unseen."""
    return plays.HalfOpen(seconds)


# -- streams -----------------------------------------------------------------------------------------------------------


def slow_first_token(seconds: float = 20.0) -> Fault:
    """The head of a stream at once, then silence for *seconds*, then the answer."""
    return streams.Slow(seconds)


def slow(words_per_second: float = 3.0) -> Fault:
    """A stream of which *words_per_second* come; a plain answer is as late as such a stream would be whole."""
    return streams.SlowWords(words_per_second)


def cut(after: int = 40, *, clean: bool = False) -> Fault:
    """A stream that ends after *after* words without its end mark; *clean*: in order, as far as HTTP can tell."""
    return streams.Cut(after, clean)


def stall(after: int = 20, seconds: float = _EVER) -> Fault:
    """A stream that falls silent after *after* words, for *seconds*, and is then closed."""
    return streams.Stall(after, seconds)


def garbled(at: int = 10, *, replace: bool = False) -> Fault:
    """An event that breaks off, after *at* words of a stream; *replace*: in the place of the next one."""
    return streams.Garbled(at, replace)


def no_end_mark() -> Fault:
    """A stream with every word but without the event that says that it is whole; plain answers are healthy."""
    return streams.Without(("mark", "after", "done"))


def no_done() -> Fault:
    """A whole stream without OpenAI's last `[DONE]`; for the others, and for plain answers, a healthy one."""
    return streams.Without(("done",))


def trickle(at_once: int = 1) -> Fault:
    """The healthy answer, *at_once* bytes at a time."""
    return streams.Trickle(at_once)


# -- by the clock ------------------------------------------------------------------------------------------------------


def flap(down: float, up: float = _EVER, fault: Fault | None = None) -> Item:
    """*fault* (503 if not given) for *down* seconds from when the script is set, then health for *up*, and so on."""
    return plays.Intermittent(down, up, fault or status(503))
