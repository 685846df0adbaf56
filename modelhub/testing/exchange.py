"""One request at the fault server, and the methods to answer it, correctly or not."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from modelhub.testing.http import LAST_CHUNK, chunk, head_bytes
from modelhub.testing.wires import CannedResponse, Frame, ParsedRequest, Part, Refusal, VendorFormat

__all__ = ["Exchange", "ClientDisconnected"]

_NO_LINGER = struct.pack("ii", 1, 0)


class ClientDisconnected(Exception):
    """The client has disconnected, or the server must not send anything more on this connection."""


class Exchange:
    """What a fault plays on: the request as *asked*, the *answer* to it, and the connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        wire: VendorFormat,
        asked: ParsedRequest,
        answer: CannedResponse,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self.wire = wire
        self.asked = asked
        self.answer = asked.adapt(answer)
        self.step_size = 0
        """How many bytes are written at a time; 0 for as many as there are."""
        self.broken_off = False
        """Whether the server ended the connection, not the client."""
        self._chunked = True

    # -- the answer ----------------------------------------------------------------------------------------------------

    def frames(self) -> list[Frame]:
        """Return the pieces of the streamed answer."""
        return list(self.wire.make_frames(self.answer, self.asked))

    def first_frames(self, words: int) -> list[Frame]:
        """Return the pieces of the streamed answer up to and including its first *words* words."""
        frames: list[Frame] = []
        words_seen = 0
        for frame in self.frames():
            words_seen += frame.part == "content"
            if words_seen > words or frame.part not in ("opening", "content"):
                break
            frames.append(frame)
        return frames

    def whole(self) -> bytes:
        """Return the body of the plain answer."""
        return _dump_json(self.wire.make_body(self.answer, self.asked))

    def refusal(self, refusal: Refusal) -> tuple[int, bytes]:
        """Return the status and the body of *refusal* in the vendor's format."""
        status, body = self.wire.make_refusal(refusal, self.asked)
        return status, _dump_json(body)

    # -- sending in order ----------------------------------------------------------------------------------------------

    async def send_answer(self, delay: float = 0.0, pause: float = 0.0, without: Collection[Part] = ()) -> None:
        """Send the healthy answer, of a stream without the parts *without*.

        The content begins after *delay* seconds and has *pause* seconds before each word; a plain answer arrives when
        such a stream would be complete.
        """
        if not self.asked.stream:
            if delay or pause:
                await self.wait(delay + pause * sum(frame.part == "content" for frame in self.frames()))
            await self.reply(self.whole(), headers=self.answer.headers)
            return
        await self.open_stream()
        if delay:
            await self.wait(delay)
        await self.send_frames((frame for frame in self.frames() if frame.part not in without), pause)
        await self.end_stream()

    async def reply(
        self,
        body: bytes,
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send a plain answer; *length* replaces the true Content-Length."""
        content_length = str(len(body) if length is None else length)
        all_headers = [("Content-Type", content_type), ("Content-Length", content_length), *(headers or {}).items()]
        await self.send(head_bytes(status, all_headers) + body)

    async def open_stream(self, length: int | None = None) -> None:
        """Send the head of a stream: chunked, or with a Content-Length of *length*."""
        self._chunked = length is None
        framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        headers = [("Content-Type", self.wire.stream_type), ("Cache-Control", "no-cache"), framing]
        headers += self.answer.headers.items()
        await self.send(head_bytes(200, headers))

    async def send_frames(self, frames: Iterable[Frame], pause: float = 0.0) -> None:
        """Send pieces of a stream, each as one chunk, with *pause* before and the answer's interval after each word."""
        for part, data in frames:
            if pause and part == "content":
                await self.wait(pause)
            await self.send_piece(data)
            if part == "content":
                await self.wait(self.answer.interval)

    async def send_piece(self, data: bytes) -> None:
        """Send *data* as one piece of the stream."""
        await self.send(chunk(data) if self._chunked else data)

    async def end_stream(self) -> None:
        """End a chunked stream properly; the connection can be used again."""
        await self.send(LAST_CHUNK)

    async def send(self, data: bytes) -> None:
        """Write *data* as it is. Raises ClientDisconnected if the client is gone."""
        step = self.step_size or len(data)
        try:
            for start in range(0, len(data), step or 1):
                self._writer.write(data[start : start + step])
                await self._writer.drain()
                if self.step_size:
                    await asyncio.sleep(0)
        except ConnectionError as error:
            raise ClientDisconnected from error

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    async def wait(self, seconds: float) -> None:
        """Send nothing for *seconds*. Raises ClientDisconnected as soon as the client disconnects."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._reader.read(1)
        except TimeoutError:
            return
        except ConnectionError as error:
            raise ClientDisconnected from error
        raise ClientDisconnected

    async def ignore(self, seconds: float) -> None:
        """Read nothing for *seconds*, so that a disconnect of the client goes unnoticed."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # every socket's transport has it
        await asyncio.sleep(seconds)

    def hang_up(self) -> None:
        """Close the connection after what was written (FIN). Always raises ClientDisconnected."""
        self.broken_off = True
        self._writer.close()
        raise ClientDisconnected

    def reset(self) -> None:
        """Reset the connection (RST). Always raises ClientDisconnected."""
        self.broken_off = True
        transport = self._writer.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
        raise ClientDisconnected


def _dump_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
