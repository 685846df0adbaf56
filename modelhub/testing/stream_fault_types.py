"""Faults of streams, and what they are for plain answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhub.testing.fault_types import Fault, frames_up_to, send_half
from modelhub.testing.wires import Part

if TYPE_CHECKING:
    from modelhub.testing.exchange import Exchange

__all__ = ["Cut", "Garbled", "Slow", "SlowWords", "Stall", "Trickle", "Without"]


@dataclass(frozen=True, slots=True)
class Slow(Fault):
    """Silence before the first content."""

    seconds: float

    async def plain(self, exchange: Exchange) -> None:
        """The answer, late."""
        await exchange.wait(self.seconds)
        await Fault.plain(self, exchange)

    async def stream(self, exchange: Exchange) -> None:
        """The head at once, the rest late."""
        await exchange.open_stream()
        await exchange.wait(self.seconds)
        await exchange.send_frames(exchange.frames())
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class SlowWords(Fault):
    """An answer that comes word by word, slowly."""

    words_per_second: float

    async def plain(self, exchange: Exchange) -> None:
        """The answer, when all its words would have come."""
        await exchange.wait(sum(frame.part == "content" for frame in exchange.frames()) / self.words_per_second)
        await Fault.plain(self, exchange)

    async def stream(self, exchange: Exchange) -> None:
        """Every word after its pause."""
        await exchange.open_stream()
        for frame in exchange.frames():
            if frame.part == "content":
                await exchange.wait(1 / self.words_per_second)
            await exchange.send_frames([frame])
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Cut(Fault):
    """An end after some words."""

    after: int
    clean: bool

    async def plain(self, exchange: Exchange) -> None:
        """Half of the body: of the length that was said, or said to be all."""
        if not self.clean:
            await send_half(exchange)
            exchange.hang_up()
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2])

    async def stream(self, exchange: Exchange) -> None:
        """Some words, and the end of the connection, or of the body."""
        await exchange.open_stream()
        await exchange.send_frames(frames_up_to(exchange, self.after))
        if not self.clean:
            exchange.hang_up()
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Stall(Fault):
    """Silence after some words."""

    after: int
    seconds: float

    async def plain(self, exchange: Exchange) -> None:
        """Half of the body, and silence."""
        await send_half(exchange)
        await exchange.wait(self.seconds)
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        """Some words, and silence."""
        await exchange.open_stream()
        await exchange.send_frames(frames_up_to(exchange, self.after))
        await exchange.wait(self.seconds)
        exchange.hang_up()


@dataclass(frozen=True, slots=True)
class Garbled(Fault):
    """An event that breaks off, among whole ones."""

    at: int
    replace: bool

    async def plain(self, exchange: Exchange) -> None:
        """Half of the body and rubbish, said to be all."""
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2] + b'"oops')

    async def stream(self, exchange: Exchange) -> None:
        """Some words, rubbish, and the rest."""
        before = frames_up_to(exchange, self.at)
        rest = exchange.frames()[len(before) :]
        await exchange.open_stream()
        await exchange.send_frames(before)
        await exchange.send_piece(exchange.wire.garbage)
        await exchange.send_frames(rest[1:] if self.replace else rest)
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Without(Fault):
    """A stream that lacks some of its parts."""

    parts: tuple[Part, ...]

    async def stream(self, exchange: Exchange) -> None:
        """All the others."""
        await exchange.open_stream()
        await exchange.send_frames(frame for frame in exchange.frames() if frame.part not in self.parts)
        await exchange.end_stream()


@dataclass(frozen=True, slots=True)
class Trickle(Fault):
    """The healthy answer in small pieces."""

    at_once: int

    async def respond(self, exchange: Exchange) -> None:
        """The answer."""
        exchange.at_once = self.at_once
        await Fault.respond(self, exchange)
