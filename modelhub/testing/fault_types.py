"""The types of faults: what is sent, what is not, and how the connection ends. `faults` makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, ClassVar, Literal

from modelhub.testing.exchange import Exchange
from modelhub.testing.wires import Part, Refusal

__all__ = [
    "Body",
    "CleanCut",
    "ConnectionDropped",
    "Cut",
    "CutBody",
    "ErrorEvent",
    "ErrorIn200",
    "Fault",
    "Garbled",
    "HalfOpen",
    "Item",
    "Recorded",
    "Refused",
    "Slow",
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
    stream_effect: ClassVar[Literal["same", "different", "none on plain answers"]] = "same"
    """How it affects a stream: as it affects a plain answer, or in another way, or a stream is all that it affects."""

    async def respond(self, exchange: Exchange) -> None:
        """Answer the request, as a stream or not."""
        await exchange.send_answer()


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


# -- refusals and bodies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """A refusal with an error status.

    *date_after* is a Retry-After in seconds that is written as a date. With *only_prefill*, just conversations that end
    with an assistant's message are refused, and the others are answered.
    """

    refusal: Refusal
    headers: Mapping[str, str] = field(default_factory=dict)
    date_after: float | None = None
    only_prefill: bool = False

    async def respond(self, exchange: Exchange) -> None:
        """Send the refusal; if its status is 200, as an event of a stream where one was requested."""
        if self.only_prefill and exchange.asked.last_role != "assistant":
            await exchange.send_answer()
            return
        headers = dict(self.headers)
        if self.date_after is not None:
            until = datetime.now(UTC) + timedelta(seconds=self.date_after)
            headers["Retry-After"] = format_datetime(until, usegmt=True)
        status, body = exchange.refusal(self.refusal)
        if status == 200 and exchange.asked.stream:
            await ErrorEvent(self.refusal, 0).respond(exchange)
        else:
            await exchange.reply(body, status, headers=headers)


@dataclass(frozen=True, slots=True)
class ErrorEvent(Fault):
    """An error event after some words of a stream, and then the proper end of the body.

    For a plain answer, it is an error object with status 200.
    """

    refusal: Refusal
    after: int
    stream_effect = "different"

    async def respond(self, exchange: Exchange) -> None:
        """Send the error, in a stream after its first words."""
        if not exchange.asked.stream:
            await ErrorIn200(self.refusal).respond(exchange)
            return
        await exchange.open_stream()
        await exchange.send_frames(exchange.first_frames(self.after) if self.after else ())
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
    """A body that is shorter than its Content-Length; of a stream, only the first pieces are sent."""

    share: float
    stream_effect = "different"

    async def respond(self, exchange: Exchange) -> None:
        """Send the first *share* (0 to 1) of the answer with the length of the whole, then close the connection."""
        if exchange.asked.stream:
            frames = exchange.frames()
            await exchange.open_stream(length=sum(len(frame.data) for frame in frames))
            await exchange.send_frames(frames[: int(len(frames) * self.share)])
        else:
            body = exchange.whole()
            await exchange.reply(body[: int(len(body) * self.share)], length=len(body))
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
class Refused(ConnectionDropped):
    """Refused connections: the server closes the port, and drops a connection that was open then."""

    listens: ClassVar[bool] = False


@dataclass(frozen=True, slots=True)
class HalfOpen(Fault):
    """A half-open connection, as after a crash of the server."""

    seconds: float
    reads_body: ClassVar[bool] = False

    async def respond(self, exchange: Exchange) -> None:
        """Neither read nor write, then close the connection."""
        await exchange.ignore(self.seconds)
        exchange.hang_up()


# -- streams -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """A delay in seconds before the first content, and a pause in seconds before each word."""

    delay: float = 0.0
    pause: float = 0.0
    stream_effect = "different"

    async def respond(self, exchange: Exchange) -> None:
        """Send the healthy answer so; a plain one when a stream of it would be complete."""
        await exchange.send_answer(self.delay, self.pause)


@dataclass(frozen=True, slots=True)
class Without(Fault):
    """A stream without some of its parts."""

    parts: tuple[Part, ...]
    stream_effect = "none on plain answers"

    async def respond(self, exchange: Exchange) -> None:
        """Send the healthy answer without the `parts`."""
        await exchange.send_answer(without=self.parts)


@dataclass(frozen=True, slots=True)
class Trickle(Fault):
    """The healthy answer in small pieces."""

    step_size: int

    async def respond(self, exchange: Exchange) -> None:
        """Send the healthy answer, at most `step_size` bytes at a time."""
        exchange.step_size = self.step_size
        await exchange.send_answer()


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """A stream that stops after some words, or a plain answer in the middle; later, the connection is closed."""

    after: int
    seconds: float = 0.0
    stream_effect = "different"

    async def respond(self, exchange: Exchange) -> None:
        """Send the beginning of the answer, then nothing for some seconds, then close the connection."""
        if exchange.asked.stream:
            await exchange.open_stream()
            await exchange.send_frames(exchange.first_frames(self.after))
        else:
            body = exchange.whole()
            await exchange.reply(body[: len(body) // 2], length=len(body))
        await exchange.wait(self.seconds)
        exchange.hang_up()


@dataclass(frozen=True, slots=True)
class CleanCut(Fault):
    """A stream that ends after some words, or a plain answer in the middle, in a body that ends properly."""

    after: int
    stream_effect = "different"

    async def respond(self, exchange: Exchange) -> None:
        """Send the beginning of the answer as if it were the whole."""
        if exchange.asked.stream:
            await exchange.open_stream()
            await exchange.send_frames(exchange.first_frames(self.after))
            await exchange.end_stream()
        else:
            body = exchange.whole()
            await exchange.reply(body[: len(body) // 2])


@dataclass(frozen=True, slots=True)
class Garbled(Fault):
    """A malformed event among valid ones; in a plain answer, garbage in place of the second half."""

    at: int
    replace: bool
    stream_effect = "different"

    async def respond(self, exchange: Exchange) -> None:
        """Send some words, garbage, and the rest; with *replace*, without the next word."""
        if not exchange.asked.stream:
            body = exchange.whole()
            await exchange.reply(body[: len(body) // 2] + b'"oops')
            return
        before = exchange.first_frames(self.at)
        remaining = exchange.frames()[len(before) :]
        await exchange.open_stream()
        await exchange.send_frames(before)
        await exchange.send_piece(exchange.wire.garbage)
        await exchange.send_frames(remaining[1:] if self.replace else remaining)
        await exchange.end_stream()
