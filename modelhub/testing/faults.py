"""What can go wrong between a client and a vendor's server, one small value for each.

A fault is played for one request by `modelhub.testing.server`. It is the same for all vendors: the server writes it
the way the vendor would. A fault of streams has its counterpart for plain answers: what is cut off after some words of
a stream is a body that is cut off.

`FAULTS` is the list a fire drill goes through.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from modelhub.testing.wires import Kind, Refusal, kind_of

if TYPE_CHECKING:
    from modelhub.testing._exchange import Exchange
    from modelhub.testing.server import Recorded

__all__ = [
    "FAULTS",
    "Drill",
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
    "refused",
    "reset",
    "silence",
    "slow_first_token",
    "stall",
    "status",
    "trickle",
    "wrong_json",
]

_EVER = 3600.0
_HTML = b"<html><head><title>502 Bad Gateway</title></head><body><h1>Bad Gateway</h1></body></html>"


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is answered; this one is answered as it should be."""

    reads_body: ClassVar[bool] = True
    """Whether the server reads the request to its end."""
    listens: ClassVar[bool] = True
    """Whether anybody listens at all."""

    async def play(self, exchange: Exchange) -> None:
        """Answer."""
        await (self.stream if exchange.asked.stream else self.plain)(exchange)

    async def plain(self, exchange: Exchange) -> None:
        """Answer a request for a whole answer."""
        await exchange.reply(exchange.whole())

    async def stream(self, exchange: Exchange) -> None:
        """Answer a request for a stream."""
        await exchange.open_stream()
        await exchange.send_frames(exchange.frames())
        await exchange.end_stream()


Item = Fault | Callable[["Recorded"], Fault | None]
"""An entry of a script: a fault, or what finds one for a request (None: the healthy answer)."""


# -- refusals ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Status(Fault):
    refusal: Refusal
    headers: Mapping[str, str] = field(default_factory=dict)
    date_after: float | None = None

    async def play(self, exchange: Exchange) -> None:
        headers = dict(self.headers)
        if self.date_after is not None:
            until = datetime.now(UTC) + timedelta(seconds=self.date_after)
            headers["Retry-After"] = format_datetime(until, usegmt=True)
        status, body = exchange.refusal(self.refusal)
        if status == 200 and exchange.asked.stream:
            await _send_event(exchange, self.refusal)
        else:
            await exchange.reply(body, status, headers=headers)


async def _send_event(exchange: Exchange, refusal: Refusal) -> None:
    await exchange.open_stream()
    await exchange.send_piece(exchange.wire.refusal_event(refusal, exchange.asked))
    await exchange.end_stream()


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

    With *kind* alone, status and words are the vendor's. *retry_after* is written as *form* says.
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
    return _Status(refusal, own, retry_after if form == "date" else None)


@dataclass(frozen=True, slots=True)
class _NoPrefill(_Status):
    async def play(self, exchange: Exchange) -> None:
        if exchange.asked.last_role == "assistant":
            await _Status.play(self, exchange)
        else:
            await Fault.play(self, exchange)


def no_prefill() -> Fault:
    """A refusal if the conversation ends with an assistant's message, else the answer."""
    return _NoPrefill(Refusal("no_prefill"))


@dataclass(frozen=True, slots=True)
class _ErrorEvent(Fault):
    refusal: Refusal
    after: int

    async def plain(self, exchange: Exchange) -> None:
        await exchange.reply(exchange.refusal(self.refusal)[1])

    async def stream(self, exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send_frames(_upto(exchange, self.after))
        await exchange.send_piece(exchange.wire.refusal_event(self.refusal, exchange.asked))
        await exchange.end_stream()


def error_event(kind: Kind = "overloaded", after: int = 10, message: str | None = None) -> Fault:
    """An error inside a stream, after *after* words; a plain answer is an error inside a 200."""
    return _ErrorEvent(Refusal(kind, message=message), after)


# -- bodies ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Body(Fault):
    body: bytes
    content_type: str = "application/json"

    async def play(self, exchange: Exchange) -> None:
        await exchange.reply(self.body, content_type=self.content_type)


def empty() -> Fault:
    """A 200 with nothing in it."""
    return _Body(b"")


def html() -> Fault:
    """A 200 with a gateway's page of HTML."""
    return _Body(_HTML, "text/html; charset=utf-8")


def wrong_json(text: str = '{"status": "ok"}') -> Fault:
    """A 200 with JSON that is no answer, such as `{}` or `[]`."""
    return _Body(text.encode())


def broken_json() -> Fault:
    """A 200 with JSON that breaks off, in a body of the right length."""
    return _Body(b'{"id": "broken", "choices": [{"mess')


@dataclass(frozen=True, slots=True)
class _ErrorIn200(Fault):
    refusal: Refusal

    async def play(self, exchange: Exchange) -> None:
        await exchange.reply(exchange.refusal(self.refusal)[1])


def error_in_200(kind: Kind = "overloaded") -> Fault:
    """A vendor's error object under status 200, also where a stream was asked for."""
    return _ErrorIn200(Refusal(kind))


# -- connections -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Lost(Fault):
    how: Literal["reset", "close"]
    seconds: float = 0.0

    async def play(self, exchange: Exchange) -> None:
        await exchange.wait(self.seconds)
        (exchange.reset if self.how == "reset" else exchange.hang_up)()


def reset() -> Fault:
    """The connection is reset (RST) when the request has been read, before any byte of an answer."""
    return _Lost("reset")


def close() -> Fault:
    """The connection is closed (FIN) when the request has been read, before any byte of an answer."""
    return _Lost("close")


def silence(seconds: float = _EVER) -> Fault:
    """Nothing at all for *seconds*; then the connection is closed."""
    return _Lost("close", seconds)


@dataclass(frozen=True, slots=True)
class _HalfOpen(Fault):
    seconds: float
    reads_body: ClassVar[bool] = False

    async def play(self, exchange: Exchange) -> None:
        await exchange.ignore(self.seconds)
        exchange.hang_up()


def half_open(seconds: float = _EVER) -> Fault:
    """A connection that stands and leads nowhere: the request is not read, and that the client hangs up goes unseen."""
    return _HalfOpen(seconds)


@dataclass(frozen=True, slots=True)
class _Refused(Fault):
    listens: ClassVar[bool] = False

    async def play(self, exchange: Exchange) -> None:
        exchange.reset()


def refused() -> Fault:
    """Nobody listens: connections are refused, until another script is set. Stands alone in a script."""
    return _Refused()


@dataclass(frozen=True, slots=True)
class _CutBody(Fault):
    share: float

    async def plain(self, exchange: Exchange) -> None:
        body = exchange.whole()
        await exchange.reply(body[: int(len(body) * self.share)], length=len(body))
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        frames = exchange.frames()
        left = int(len(frames) * self.share)
        await exchange.open_stream(length=sum(len(frame.data) for frame in frames))
        await exchange.send_frames(frames[:left])
        exchange.hang_up()


def cut_body(share: float = 0.6) -> Fault:
    """A body that is shorter than its Content-Length says: only *share* of it comes."""
    return _CutBody(share)


# -- streams -----------------------------------------------------------------------------------------------------------


def _upto(exchange: Exchange, words: int) -> list[Any]:
    """The pieces of the stream before the content that follows *words* pieces of it."""
    found, seen = [], 0
    for frame in exchange.frames():
        seen += frame.part == "content"
        if seen > words or frame.part not in ("opening", "content"):
            break
        found.append(frame)
    return found


@dataclass(frozen=True, slots=True)
class _Slow(Fault):
    seconds: float

    async def plain(self, exchange: Exchange) -> None:
        await exchange.wait(self.seconds)
        await Fault.plain(self, exchange)

    async def stream(self, exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.wait(self.seconds)
        await exchange.send_frames(exchange.frames())
        await exchange.end_stream()


def slow_first_token(seconds: float = 20.0) -> Fault:
    """The head of a stream at once, then silence for *seconds*, then the answer."""
    return _Slow(seconds)


@dataclass(frozen=True, slots=True)
class _Cut(Fault):
    after: int
    clean: bool

    async def plain(self, exchange: Exchange) -> None:
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2], length=None if self.clean else len(body))
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send_frames(_upto(exchange, self.after))
        if not self.clean:
            exchange.hang_up()
        await exchange.end_stream()


def cut(after: int = 40, *, clean: bool = False) -> Fault:
    """A stream that ends after *after* words without its end mark; *clean*: in order, as far as HTTP can tell."""
    return _Cut(after, clean)


@dataclass(frozen=True, slots=True)
class _Stall(Fault):
    after: int
    seconds: float

    async def plain(self, exchange: Exchange) -> None:
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2], length=len(body))
        await exchange.wait(self.seconds)
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send_frames(_upto(exchange, self.after))
        await exchange.wait(self.seconds)
        exchange.hang_up()


def stall(after: int = 20, seconds: float = _EVER) -> Fault:
    """A stream that falls silent after *after* words, for *seconds*, and is then closed."""
    return _Stall(after, seconds)


@dataclass(frozen=True, slots=True)
class _Garbled(Fault):
    at: int
    replace: bool

    async def plain(self, exchange: Exchange) -> None:
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2] + b'"oops')

    async def stream(self, exchange: Exchange) -> None:
        before = _upto(exchange, self.at)
        rest = exchange.frames()[len(before) :]
        await exchange.open_stream()
        await exchange.send_frames(before)
        await exchange.send_piece(exchange.wire.garbage)
        await exchange.send_frames(rest[1:] if self.replace else rest)
        await exchange.end_stream()


def garbled(at: int = 10, *, replace: bool = False) -> Fault:
    """An event that breaks off, after *at* words of a stream; *replace*: in the place of the next one."""
    return _Garbled(at, replace)


@dataclass(frozen=True, slots=True)
class _Without(Fault):
    parts: tuple[str, ...]

    async def stream(self, exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.send_frames(frame for frame in exchange.frames() if frame.part not in self.parts)
        await exchange.end_stream()


def no_end_mark() -> Fault:
    """A stream with every word but without the event that says that it is whole; plain answers are healthy."""
    return _Without(("mark", "after", "done"))


def no_done() -> Fault:
    """A whole stream without OpenAI's last `[DONE]`; for the others, and for plain answers, a healthy one."""
    return _Without(("done",))


@dataclass(frozen=True, slots=True)
class _Trickle(Fault):
    at_once: int

    async def play(self, exchange: Exchange) -> None:
        exchange.at_once = self.at_once
        await Fault.play(self, exchange)


def trickle(at_once: int = 1) -> Fault:
    """The healthy answer, *at_once* bytes at a time."""
    return _Trickle(at_once)


def healthy() -> Fault:
    """The answer, as it should be."""
    return Fault()


# -- by the clock ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Flap:
    down: float
    up: float
    fault: Fault

    def __call__(self, request: Recorded) -> Fault | None:
        return self.fault if request.elapsed % (self.down + self.up) < self.down else None


def flap(down: float, up: float = _EVER, fault: Fault | None = None) -> Item:
    """*fault* (503 if not given) for *down* seconds from when the script is set, then health for *up*, and so on."""
    return _Flap(down, up, fault or status(503))


# -- the fire drill ----------------------------------------------------------------------------------------------------

Expected = Literal["answer", "error"]


@dataclass(frozen=True, slots=True)
class Drill:
    """A fault as a fire drill plays it: the script of the model asked first, and what a good policy makes of it.

    `expects` is what the caller is to get if another model stands behind, `alone` if none does: an `answer`, or a clean
    `error` (a `CallError` in good time, or a reply whose finish reason is `content_filter`). `others` is the script of
    the models behind, `all_but_last` plays the first one's script at all models but the last.
    """

    title: str
    script: tuple[Item, ...]
    then: Literal["repeat", "healthy"] = "repeat"
    expects: Expected = "answer"
    alone: Expected = "error"
    others: tuple[Item, ...] = ()
    all_but_last: bool = False


def _drill(title: str, *script: Item, **facts: Any) -> Drill:
    return Drill(title, script, **facts)


def _once(title: str, *script: Item) -> Drill:
    return Drill(title, script, then="healthy", alone="answer")


FAULTS: dict[str, Drill] = {
    "rate_limit_once": _once("429, Retry-After 2 s", status(429, retry_after=2)),
    "rate_limit_long": _drill("429, Retry-After 300 s", status(429, retry_after=300)),
    "rate_limit": _drill("429 for ever", status(429)),
    "quota": _drill("quota used up", status(kind="insufficient_quota")),
    "server_error_once": _once("500 once", status(500)),
    "server_error": _drill("500 for ever", status(500)),
    "overloaded": _drill("503 for ever", status(503)),
    "overloaded_529": _drill("529 for ever", status(529)),
    "refused": _drill("connection refused", refused()),
    "reset_once": _once("connection reset once", reset()),
    "closed": _drill("connection closed before the answer", close()),
    "silence": _drill("silence", silence()),
    "slow_first_token": _drill("first token after 120 s", slow_first_token(120)),
    "cut": _drill("stream cut after 40 words", cut(40)),
    "cut_clean": _drill("stream ends after 40 words as if whole", cut(40, clean=True)),
    "cut_no_prefill": _drill("stream cut, the next takes no prefill", cut(40), others=(no_prefill(),)),
    "stall": _drill("stream stalls after 20 words", stall(20)),
    "garbled": _drill("garbled event after 10 words", garbled(10, replace=True)),
    "no_end_mark": _drill("stream without its end mark", no_end_mark()),
    "no_done": _drill("stream without [DONE]", no_done(), alone="answer"),
    "error_event": _drill("error inside a stream", error_event("overloaded", 10)),
    "error_in_200": _drill("error inside a 200", error_in_200()),
    "empty": _drill("empty 200", empty()),
    "html": _drill("HTML in a 200", html()),
    "auth": _drill("key refused", status(kind="auth")),
    "not_found": _drill("model gone", status(kind="not_found")),
    "context_length": _drill("prompt too long", status(kind="context_length")),
    "content_filter": _drill("content filter", status(kind="content_filter"), expects="error"),
    "invalid_request": _drill("request refused as wrong", status(kind="invalid_request"), expects="error"),
    "all_down": _drill("all but the last down", status(503), all_but_last=True),
}
"""What a fire drill plays, in order, by name."""
