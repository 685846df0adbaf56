"""The types of faults: what is sent, what is not, and how the connection ends. `faults` makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar, Literal

from modelhub.testing.exchange import Exchange
from modelhub.testing.wires import Frame, Part, Refusal

__all__ = [
    "Body",
    "ConnectionDropped",
    "Cut",
    "CutBody",
    "ErrorEvent",
    "ErrorIn200",
    "Fault",
    "Garbled",
    "HalfOpen",
    "Item",
    "NoPrefill",
    "Recorded",
    "Refused",
    "Slow",
    "SlowWords",
    "Stall",
    "Status",
    "Trickle",
    "Without",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is answered; this base class gives the healthy answer."""

    reads_body: ClassVar[bool] = True
    """Whether the server reads the whole request."""
    listens: ClassVar[bool] = True
    """Whether the server accepts connections."""

    async def respond(self, exchange: Exchange) -> None:
        """Answer the request, as a stream or not."""
        await (self.stream if exchange.asked.stream else self.plain)(exchange)

    async def plain(self, exchange: Exchange) -> None:
        """Send a plain answer."""
        await exchange.reply(exchange.whole(), headers=exchange.answer.headers)

    async def stream(self, exchange: Exchange) -> None:
        """Send a streamed answer."""
        await exchange.open_stream()
        await exchange.send_frames(exchange.frames())
        await exchange.end_stream()


@dataclass(slots=True)
class Recorded:
    """A recorded request, without its credentials.

    `at` is the server's time in seconds, `elapsed` the time since the route's script was set, `attempt` counts from 1
    since then. `fault` is the fault that was played. `gave_up_at` is when the client disconnected before the answer.
    """

    route: str
    at: float
    elapsed: float
    attempt: int
    method: str
    path: str
    headers: Mapping[str, str]
    wire: str = ""
    stream: bool = False
    body: Any = field(default=None, repr=False)
    fault: Fault = field(default_factory=Fault)
    gave_up_at: float | None = None

    @property
    def healthy(self) -> bool:
        """Whether the answer was the healthy one."""
        return type(self.fault) is Fault


Item = Fault | Callable[[Recorded], Fault | None]
"""An item of a script: a fault, or a function that returns one for a request (None: the healthy answer)."""


def _take_words(exchange: Exchange, words: int) -> list[Frame]:
    """Return the pieces of the stream up to and including its first *words* words."""
    frames: list[Frame] = []
    words_seen = 0
    for frame in exchange.frames():
        words_seen += frame.part == "content"
        if words_seen > words or frame.part not in ("opening", "content"):
            break
        frames.append(frame)
    return frames


async def _send_share(exchange: Exchange, share: float) -> None:
    """Send the first *share* (0 to 1) of a plain answer, with the length of the whole."""
    body = exchange.whole()
    await exchange.reply(body[: int(len(body) * share)], length=len(body))


# -- refusals and bodies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """A refusal with an error status; *date_after* is a Retry-After in seconds that is written as a date."""

    refusal: Refusal
    headers: Mapping[str, str] = field(default_factory=dict)
    date_after: float | None = None

    async def respond(self, exchange: Exchange) -> None:
        """Send the refusal; if its status is 200, as an event of a stream where one was requested."""
        headers = dict(self.headers)
        if self.date_after is not None:
            until = datetime.now(UTC) + timedelta(seconds=self.date_after)
            headers["Retry-After"] = format_datetime(until, usegmt=True)
        status, body = exchange.refusal(self.refusal)
        if status == 200 and exchange.asked.stream:
            await ErrorEvent(self.refusal, 0).stream(exchange)
        else:
            await exchange.reply(body, status, headers=headers)


@dataclass(frozen=True, slots=True)
class NoPrefill(Status):
    """A refusal of conversations that end with an assistant message."""

    async def respond(self, exchange: Exchange) -> None:
        """Refuse if the last message is an assistant's, else send the healthy answer."""
        await (Status if exchange.asked.last_role == "assistant" else Fault).respond(self, exchange)


@dataclass(frozen=True, slots=True)
class ErrorEvent(Fault):
    """An error event after some words of a stream."""

    refusal: Refusal
    after: int

    async def plain(self, exchange: Exchange) -> None:
        """Send the error instead of the answer, with status 200."""
        await exchange.reply(exchange.refusal(self.refusal)[1])

    async def stream(self, exchange: Exchange) -> None:
        """Send some words, the error, and the proper end of the body."""
        await exchange.open_stream()
        await exchange.send_frames(_take_words(exchange, self.after) if self.after else ())
        await exchange.send_piece(exchange.wire.make_refusal_event(self.refusal, exchange.asked))
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class ErrorIn200(Fault):
    """An error object with status 200, not as a stream."""

    refusal: Refusal

    async def respond(self, exchange: Exchange) -> None:
        """Send the error object."""
        await exchange.reply(exchange.refusal(self.refusal)[1])


@dataclass(frozen=True, slots=True)
class Body(Fault):
    """A 200 with another body."""

    body: bytes
    content_type: str = "application/json"

    async def respond(self, exchange: Exchange) -> None:
        """Send the body."""
        await exchange.reply(self.body, content_type=self.content_type)


@dataclass(frozen=True, slots=True)
class CutBody(Fault):
    """A body that is shorter than its Content-Length."""

    share: float

    async def plain(self, exchange: Exchange) -> None:
        """Send a part of the body, with the length of the whole."""
        await _send_share(exchange, self.share)
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        """Send a part of the pieces of a stream with a Content-Length."""
        frames = exchange.frames()
        await exchange.open_stream(length=sum(len(frame.data) for frame in frames))
        await exchange.send_frames(frames[: int(len(frames) * self.share)])
        exchange.hang_up()


# -- connections -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionDropped(Fault):
    """A connection that is closed or reset without an answer, at once or after some seconds."""

    how: Literal["reset", "close"]
    seconds: float = 0.0

    async def respond(self, exchange: Exchange) -> None:
        """Wait, then close or reset the connection."""
        await exchange.wait(self.seconds)
        (exchange.reset if self.how == "reset" else exchange.hang_up)()


@dataclass(frozen=True, slots=True)
class HalfOpen(Fault):
    """A half-open connection, as after a crash of the server."""

    seconds: float
    reads_body: ClassVar[bool] = False

    async def respond(self, exchange: Exchange) -> None:
        """Neither read nor write, then close the connection."""
        await exchange.ignore(self.seconds)
        exchange.hang_up()


@dataclass(frozen=True, slots=True)
class Refused(Fault):
    """Refused connections: the server closes the port."""

    listens: ClassVar[bool] = False

    async def respond(self, exchange: Exchange) -> None:
        """Reset a connection that was open when the port was closed."""
        exchange.reset()


# -- streams -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """A delay before the first content."""

    seconds: float

    async def plain(self, exchange: Exchange) -> None:
        """Send the answer after the delay."""
        await exchange.wait(self.seconds)
        await Fault.plain(self, exchange)

    async def stream(self, exchange: Exchange) -> None:
        """Send the head at once, and the rest after the delay."""
        await exchange.open_stream()
        await exchange.wait(self.seconds)
        await exchange.send_frames(exchange.frames())
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class SlowWords(Fault):
    """An answer that arrives slowly, word by word."""

    words_per_second: float

    async def plain(self, exchange: Exchange) -> None:
        """Send the answer when a stream of it would be complete."""
        await exchange.wait(sum(frame.part == "content" for frame in exchange.frames()) / self.words_per_second)
        await Fault.plain(self, exchange)

    async def stream(self, exchange: Exchange) -> None:
        """Send each word after a pause."""
        await exchange.open_stream()
        for frame in exchange.frames():
            if frame.part == "content":
                await exchange.wait(1 / self.words_per_second)
            await exchange.send_frames([frame])
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """A stream that ends after some words."""

    after: int
    clean: bool

    async def plain(self, exchange: Exchange) -> None:
        """Send half of the body, with the length of the whole, or, if *clean*, of the half."""
        if not self.clean:
            await _send_share(exchange, 0.5)
            exchange.hang_up()
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2])

    async def stream(self, exchange: Exchange) -> None:
        """Send some words, then close the connection, or, if *clean*, end the body properly."""
        await exchange.open_stream()
        await exchange.send_frames(_take_words(exchange, self.after))
        if not self.clean:
            exchange.hang_up()
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """A stream that stalls after some words."""

    after: int
    seconds: float

    async def plain(self, exchange: Exchange) -> None:
        """Send half of the body, then nothing."""
        await _send_share(exchange, 0.5)
        await exchange.wait(self.seconds)
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        """Send some words, then nothing."""
        await exchange.open_stream()
        await exchange.send_frames(_take_words(exchange, self.after))
        await exchange.wait(self.seconds)
        exchange.hang_up()


@dataclass(frozen=True, slots=True)
class Garbled(Fault):
    """A malformed event among valid ones."""

    at: int
    replace: bool

    async def plain(self, exchange: Exchange) -> None:
        """Send half of the body followed by garbage."""
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2] + b'"oops')

    async def stream(self, exchange: Exchange) -> None:
        """Send some words, garbage, and the rest."""
        before = _take_words(exchange, self.at)
        remaining = exchange.frames()[len(before) :]
        await exchange.open_stream()
        await exchange.send_frames(before)
        await exchange.send_piece(exchange.wire.garbage)
        await exchange.send_frames(remaining[1:] if self.replace else remaining)
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Without(Fault):
    """A stream without some of its parts."""

    parts: tuple[Part, ...]

    async def stream(self, exchange: Exchange) -> None:
        """Send the other parts."""
        await exchange.open_stream()
        await exchange.send_frames(frame for frame in exchange.frames() if frame.part not in self.parts)
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Trickle(Fault):
    """The healthy answer in small pieces."""

    step_size: int

    async def respond(self, exchange: Exchange) -> None:
        """Send the healthy answer."""
        exchange.step_size = self.step_size
        await Fault.respond(self, exchange)
