"""One request at the fault server and the means to answer it, rightly or wrongly."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from modelhub.testing.http import LAST_CHUNK, chunk, head_bytes
from modelhub.testing.wires import CannedResponse, Frame, ParsedRequest, Refusal, VendorFormat

__all__ = ["Exchange", "ClientDisconnected"]

_NO_LINGER = struct.pack("ii", 1, 0)


class ClientDisconnected(Exception):
    """The client has hung up, or the server is to say nothing more on this connection."""


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
        self.answer = asked.fitted(answer)
        self.at_once = 0
        """How many bytes are written at a time; 0 for as many as there are."""
        self.broken_off = False
        """Whether the server ended the connection, not the client."""
        self._chunked = True

    # -- the answer ----------------------------------------------------------------------------------------------------

    def frames(self) -> list[Frame]:
        """The pieces of the streamed answer."""
        return list(self.wire.frames(self.answer, self.asked))

    def whole(self) -> bytes:
        """The body of the plain answer."""
        return _json(self.wire.whole(self.answer, self.asked))

    def refusal(self, refusal: Refusal) -> tuple[int, bytes]:
        """The status and the body of *refusal* in the vendor's words."""
        status, body = self.wire.refuse(refusal, self.asked)
        return status, _json(body)

    # -- sending in order ----------------------------------------------------------------------------------------------

    async def reply(
        self,
        body: bytes,
        status: int = 200,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> None:
        """Send a plain answer; *length* is what is said of the body's, if not the truth."""
        said = str(len(body) if length is None else length)
        own = [("Content-Type", content_type), ("Content-Length", said), *(headers or {}).items()]
        await self.send(head_bytes(status, own) + body)

    async def open_stream(self, length: int | None = None) -> None:
        """Send the head of a stream: chunked, or of a *length* that is said beforehand."""
        self._chunked = length is None
        framing = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", str(length))
        own = [("Content-Type", self.wire.stream_type), ("Cache-Control", "no-cache"), framing]
        own += self.answer.headers.items()
        await self.send(head_bytes(200, own))

    async def send_frames(self, frames: Iterable[Frame]) -> None:
        """Send pieces of a stream, each in a chunk of its own and each content after its pause."""
        for part, data in frames:
            await self.send_piece(data)
            if part == "content":
                await self.wait(self.answer.interval)

    async def send_piece(self, data: bytes) -> None:
        """Send *data* as one piece of the stream."""
        await self.send(chunk(data) if self._chunked else data)

    async def end_stream(self) -> None:
        """End a chunked stream in order; the connection can be used again."""
        await self.send(LAST_CHUNK)

    async def send(self, data: bytes) -> None:
        """Write *data* as it is. Raises GoneError if nobody reads any more."""
        step = self.at_once or len(data)
        try:
            for start in range(0, len(data), step or 1):
                self._writer.write(data[start : start + step])
                await self._writer.drain()
                if self.at_once:
                    await asyncio.sleep(0)
        except ConnectionError as error:
            raise ClientDisconnected from error

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    async def wait(self, seconds: float) -> None:
        """Say nothing for *seconds*. Raises GoneError as soon as the client hangs up."""
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
        """Read nothing for *seconds*, not even that the client hangs up."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]  # every socket's transport has it
        await asyncio.sleep(seconds)

    def hang_up(self) -> None:
        """Close the connection behind what was written (FIN). Raises GoneError, always."""
        self.broken_off = True
        self._writer.close()
        raise ClientDisconnected

    def reset(self) -> None:
        """Break the connection (RST). Raises GoneError, always."""
        self.broken_off = True
        transport = self._writer.transport
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()
        raise ClientDisconnected


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()
