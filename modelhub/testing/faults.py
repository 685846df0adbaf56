"""Faults between a client and a vendor's server, as values for the scripts of a `FaultServer`.

A fault is played for one request, in the format of the vendor whose API is called. A fault of streams has a counterpart
for plain answers: a stream that is cut after some words corresponds to a body that is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from modelhub.testing import fault_types
from modelhub.testing.fault_types import Fault, Item, Recorded
from modelhub.testing.wires import Kind, Refusal

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

_FOREVER = 3600.0
_KINDS: dict[int, Kind] = {
    401: "auth",
    402: "insufficient_quota",
    403: "auth",
    404: "not_found",
    429: "rate_limit",
    503: "overloaded",
    529: "overloaded",
}
"""The usual kind of error with a status, where it is not one of the server's or of the request's."""
_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


def healthy() -> Fault:
    """The healthy answer."""
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
    """An error with status *code* and of the given *kind* (default: by the code), in the vendor's format.

    Without *code*, the status is the vendor's. *retry_after* is in seconds, and is written as *form* says.
    """
    if kind is None:
        if code is None:
            raise ValueError("status() needs a code or a kind")
        kind = _KINDS.get(code) or ("server_error" if code >= 500 or code in (408, 409) else "invalid_request")
    all_headers = dict(headers or {})
    if should_retry is not None:
        all_headers["x-should-retry"] = str(should_retry).lower()
    if retry_after is not None and form != "date":
        all_headers |= (
            {"retry-after-ms": f"{retry_after * 1000:.0f}"} if form == "ms" else {"Retry-After": f"{retry_after:g}"}
        )
    refusal = Refusal(kind, code, error_code, message, retry_after)
    return fault_types.Status(refusal, all_headers, retry_after if form == "date" else None)


def refuse_fields(*names: str) -> Item:
    """A refusal of every request that holds one of the fields *names*, by the first of them; else the answer.

    The names are those on the wire, such as `temperature`, `generationConfig` or `num_predict`.
    """

    def refuse(request: Recorded) -> Fault | None:
        sent = set(_list_fields(request.body))
        refused = next((name for name in names if name in sent), None)
        return None if refused is None else fault_types.Status(Refusal("unsupported_parameter", parameter=refused))

    return refuse


def _list_fields(body: Any) -> Iterator[str]:
    """Yield the names of the fields in *body*, but not those in messages and tools."""
    for name, value in body.items() if isinstance(body, Mapping) else ():
        yield name
        if name not in ("contents", "format", "input", "messages", "tools"):
            yield from _list_fields(value)


def no_prefill() -> Fault:
    """A refusal if the conversation ends with an assistant's message, else the answer."""
    return fault_types.Status(Refusal("no_prefill"), only_prefill=True)


def error_in_200(kind: Kind = "overloaded") -> Fault:
    """A vendor's error object with status 200, also where a stream was requested."""
    return fault_types.ErrorIn200(Refusal(kind))


def error_event(kind: Kind = "overloaded", after: int = 10, message: str | None = None) -> Fault:
    """An error event after *after* words of a stream; for a plain answer, an error object with status 200."""
    return fault_types.ErrorEvent(Refusal(kind, message=message), after)


# -- bodies ------------------------------------------------------------------------------------------------------------


def empty() -> Fault:
    """A 200 with nothing in it."""
    return fault_types.Body(b"")


def html() -> Fault:
    """A 200 with an HTML page, as from a gateway."""
    return fault_types.Body(_HTML, "text/html; charset=utf-8")


def wrong_json(text: str = '{"status": "ok"}') -> Fault:
    """A 200 with JSON that is not an answer, such as `{}` or `[]`."""
    return fault_types.Body(text.encode())


def broken_json() -> Fault:
    """A 200 with JSON that breaks off, in a body of the right length."""
    return fault_types.Body(b'{"id": "broken", "choices": [{"mess')


def cut_body(share: float = 0.6) -> Fault:
    """A body that is shorter than its Content-Length: only *share* (0 to 1) of it is sent."""
    return fault_types.CutBody(share)


# -- connections -------------------------------------------------------------------------------------------------------


def refused() -> Fault:
    """Connections are refused until another script is set. Must be the only fault of a script."""
    return fault_types.Refused("reset")


def reset() -> Fault:
    """The connection is reset (RST) when the request has been read, before any byte of an answer."""
    return fault_types.ConnectionDropped("reset")


def close() -> Fault:
    """The connection is closed (FIN) when the request has been read, before any byte of an answer."""
    return fault_types.ConnectionDropped("close")


def silence(seconds: float = _FOREVER) -> Fault:
    """No answer for *seconds*; then the connection is closed."""
    return fault_types.ConnectionDropped("close", seconds)


def half_open(seconds: float = _FOREVER) -> Fault:
    """A half-open connection: the request is not read, and a disconnect of the client goes unnoticed."""
    return fault_types.HalfOpen(seconds)


# -- streams -----------------------------------------------------------------------------------------------------------


def slow_first_token(seconds: float = 20.0) -> Fault:
    """The head of a stream at once, then silence for *seconds*, then the answer."""
    return fault_types.Slow(seconds)


def slow(words_per_second: float = 3.0) -> Fault:
    """A stream with *words_per_second*; a plain answer arrives when such a stream would be complete."""
    return fault_types.Slow(pause=1 / words_per_second)


def cut(after: int = 40, *, clean: bool = False) -> Fault:
    """A stream that ends after *after* words without its end marker; with *clean*, the HTTP body ends properly."""
    return fault_types.CleanCut(after) if clean else fault_types.Cut(after)


def stall(after: int = 20, seconds: float = _FOREVER) -> Fault:
    """A stream that stalls after *after* words for *seconds*, and is then closed."""
    return fault_types.Cut(after, seconds)


def garbled(at: int = 10, *, replace: bool = False) -> Fault:
    """A malformed event after *at* words of a stream; with *replace*, instead of the next word."""
    return fault_types.Garbled(at, replace)


def no_end_mark() -> Fault:
    """A stream with every word but without its end marker; plain answers are healthy."""
    return fault_types.Without(("mark", "after", "done"))


def no_done() -> Fault:
    """A complete stream without OpenAI's final `[DONE]`; for other vendors and plain answers, the healthy answer."""
    return fault_types.Without(("done",))


def trickle(at_once: int = 1) -> Fault:
    """The healthy answer, *at_once* bytes at a time."""
    return fault_types.Trickle(at_once)


# -- by the clock ------------------------------------------------------------------------------------------------------


def flap(down: float, up: float = _FOREVER, fault: Fault | None = None) -> Item:
    """*fault* (default: 503) for *down* seconds after the script is set, then healthy for *up* seconds, and so on."""
    played = fault or status(503)

    def play(request: Recorded) -> Fault | None:
        return played if request.elapsed % (down + up) < down else None

    return play
