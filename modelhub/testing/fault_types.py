"""How each fault is played: what is sent, what is not, and how the connection ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from modelhub.testing.wires import Frame, Refusal

if TYPE_CHECKING:
    from modelhub.testing.exchange import Exchange

__all__ = [
    "frames_up_to",
    "send_half",
    "Body",
    "CutBody",
    "ErrorEvent",
    "ErrorIn200",
    "FieldsRefused",
    "Fault",
    "Intermittent",
    "HalfOpen",
    "Item",
    "ConnectionDropped",
    "NoPrefill",
    "Recorded",
    "Refused",
    "Status",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """How one request is answered; this one is answered as it should be."""

    reads_body: ClassVar[bool] = True
    """Whether the server reads the request to its end."""
    listens: ClassVar[bool] = True
    """Whether anybody listens at all."""

    async def respond(self, exchange: Exchange) -> None:
        """Answer."""
        await (self.stream if exchange.asked.stream else self.plain)(exchange)

    async def plain(self, exchange: Exchange) -> None:
        """Answer a request for a whole answer."""
        await exchange.reply(exchange.whole(), headers=exchange.answer.headers)

    async def stream(self, exchange: Exchange) -> None:
        """Answer a request for a stream."""
        await exchange.open_stream()
        await exchange.send_frames(exchange.frames())
        await exchange.end_stream()


@dataclass(slots=True)
class Recorded:
    """A request as it came. What authorizes it is not kept.

    `at` is the server's time in seconds, `elapsed` the time since the route's script was set, `attempt` counts from 1
    since then. `fault` is what was played. `gave_up_at` is when the client hung up before it was answered, if it did.
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
        """Whether it was answered as it should be."""
        return type(self.fault) is Fault


Item = Fault | Callable[[Recorded], Fault | None]
"""An entry of a script: a fault, or what finds one for a request (None: the healthy answer)."""


def frames_up_to(exchange: Exchange, words: int) -> list[Frame]:
    """The pieces of the stream before the content that follows *words* pieces of it."""
    found: list[Frame] = []
    seen = 0
    for frame in exchange.frames():
        seen += frame.part == "content"
        if seen > words or frame.part not in ("opening", "content"):
            break
        found.append(frame)
    return found


async def send_half(exchange: Exchange) -> None:
    """The first half of a plain answer, as if all of it were to come."""
    body = exchange.whole()
    await exchange.reply(body[: len(body) // 2], length=len(body))


# -- refusals and bodies -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Status(Fault):
    """A refusal; *date_after* is the Retry-After in seconds where it is written as a date."""

    refusal: Refusal
    headers: Mapping[str, str] = field(default_factory=dict)
    date_after: float | None = None

    async def respond(self, exchange: Exchange) -> None:
        """Refuse; what a vendor says under 200 comes as a stream where one was asked for."""
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
class FieldsRefused:
    """A refusal of requests that hold one of *fields* anywhere but in messages and tools, by the first of them."""

    fields: tuple[str, ...]

    def __call__(self, request: Recorded) -> Fault | None:
        """The refusal for *request*, None if it holds none of them."""
        names = set(_field_names(request.body))
        refused = next((field for field in self.fields if field in names), None)
        return None if refused is None else Status(Refusal("unsupported_parameter", parameter=refused))


_CONTENTS = frozenset({"contents", "format", "input", "messages", "tools"})


def _field_names(body: Any) -> Iterator[str]:
    for name, value in body.items() if isinstance(body, Mapping) else ():
        yield name
        if name not in _CONTENTS:
            yield from _field_names(value)


@dataclass(frozen=True, slots=True)
class NoPrefill(Status):
    """A refusal of what ends with an assistant's message."""

    async def respond(self, exchange: Exchange) -> None:
        """Look who spoke last."""
        await (Status if exchange.asked.last_role == "assistant" else Fault).respond(self, exchange)


@dataclass(frozen=True, slots=True)
class ErrorEvent(Fault):
    """An error after some words of a stream."""

    refusal: Refusal
    after: int

    async def plain(self, exchange: Exchange) -> None:
        """The error in the place of the answer."""
        await exchange.reply(exchange.refusal(self.refusal)[1])

    async def stream(self, exchange: Exchange) -> None:
        """Some words, the error, and an orderly end."""
        await exchange.open_stream()
        await exchange.send_frames(frames_up_to(exchange, self.after) if self.after else ())
        await exchange.send_piece(exchange.wire.refusal_event(self.refusal, exchange.asked))
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class ErrorIn200(Fault):
    """An error object that is no stream, under status 200."""

    refusal: Refusal

    async def respond(self, exchange: Exchange) -> None:
        """The object."""
        await exchange.reply(exchange.refusal(self.refusal)[1])


@dataclass(frozen=True, slots=True)
class Body(Fault):
    """A 200 with something else in it."""

    body: bytes
    content_type: str = "application/json"

    async def respond(self, exchange: Exchange) -> None:
        """The body."""
        await exchange.reply(self.body, content_type=self.content_type)


@dataclass(frozen=True, slots=True)
class CutBody(Fault):
    """Less of a body than its length says."""

    share: float

    async def plain(self, exchange: Exchange) -> None:
        """A part of the body."""
        body = exchange.whole()
        await exchange.reply(body[: int(len(body) * self.share)], length=len(body))
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        """A part of the pieces, of a stream with a length."""
        frames = exchange.frames()
        await exchange.open_stream(length=sum(len(frame.data) for frame in frames))
        await exchange.send_frames(frames[: int(len(frames) * self.share)])
        exchange.hang_up()


# -- connections -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ConnectionDropped(Fault):
    """Silence for some seconds, perhaps none, and then no connection."""

    how: Literal["reset", "close"]
    seconds: float = 0.0

    async def respond(self, exchange: Exchange) -> None:
        """Wait, and go."""
        await exchange.wait(self.seconds)
        (exchange.reset if self.how == "reset" else exchange.hang_up)()


@dataclass(frozen=True, slots=True)
class HalfOpen(Fault):
    """A connection to nowhere."""

    seconds: float
    reads_body: ClassVar[bool] = False

    async def respond(self, exchange: Exchange) -> None:
        """Neither read nor write."""
        await exchange.ignore(self.seconds)
        exchange.hang_up()


@dataclass(frozen=True, slots=True)
class Refused(Fault):
    """No connection; the server shuts the port."""

    listens: ClassVar[bool] = False

    async def respond(self, exchange: Exchange) -> None:
        """What was under way when the port was shut."""
        exchange.reset()


# -- by the clock ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Intermittent:
    """Down for a while, up for a while, and so on."""

    down: float
    up: float
    fault: Fault

    def __call__(self, request: Recorded) -> Fault | None:
        """The fault of the hour."""
        return self.fault if request.elapsed % (self.down + self.up) < self.down else None
