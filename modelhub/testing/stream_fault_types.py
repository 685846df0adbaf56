"""Faults of streams, and what they are for plain answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelhub.testing.fault_types import Fault, send_half_body, take_words
from modelhub.testing.wires import Part

if TYPE_CHECKING:
    from modelhub.testing.exchange import Exchange

__all__ = ["Cut", "Garbled", "Slow", "SlowWords", "Stall", "Trickle", "Without"]


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
            await send_half_body(exchange)
            exchange.hang_up()
        body = exchange.whole()
        await exchange.reply(body[: len(body) // 2])

    async def stream(self, exchange: Exchange) -> None:
        """Send some words, then close the connection, or, if *clean*, end the body properly."""
        await exchange.open_stream()
        await exchange.send_frames(take_words(exchange, self.after))
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
        await send_half_body(exchange)
        await exchange.wait(self.seconds)
        exchange.hang_up()

    async def stream(self, exchange: Exchange) -> None:
        """Send some words, then nothing."""
        await exchange.open_stream()
        await exchange.send_frames(take_words(exchange, self.after))
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
        before = take_words(exchange, self.at)
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
