"""A server that costs next to nothing: canned bytes out of a raw protocol, in a process of its own.

The path says what is answered: `/openai/text/500/...` is 500 pieces of text by OpenAI's wire if a stream is asked for,
else a plain answer; `tool` streams the arguments of one call, `refuse` is a 503, `big` is an answer of a megabyte, and
`paced` leaves 2 ms between one piece and the next. Pieces are chunks of their own, 16 to a packet.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from functools import cache

from modelhub.testing.wires import WIRES, CannedResponse, ParsedRequest, Refusal, ToolCall

TOGETHER = 16
MEGABYTE = 1_000_000
_ENOUGH = 20_000  # of a request, to see what it wants
_STREAMS = re.compile(rb'"stream": ?true|[Xx]-[Dd]ash[Ss]cope-[Ss][Ss][Ee]: ?enable|:streamGenerateContent')
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@cache
def answered(vendor: str, kind: str, count: int, stream: bool) -> list[bytes]:
    """The packets of one answer."""
    if kind == "refuse":
        return [_whole(*WIRES[vendor].make_refusal(Refusal("overloaded"), _asked(stream)))]
    if stream:
        return _streamed(vendor, _frames(vendor, kind, count))
    text = "x" * MEGABYTE if kind == "big" else "A short answer."
    return [_whole(200, WIRES[vendor].make_body(CannedResponse(text, input_tokens=9), _asked(False)))]


def _asked(stream: bool) -> ParsedRequest:
    return ParsedRequest("id1", "m", stream, words=9, tools=True)


def _whole(status: int, value: object) -> bytes:
    body = json.dumps(value).encode()
    head = f"HTTP/1.1 {status} -\r\ncontent-type: application/json\r\nx-request-id: r1\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


def _frames(vendor: str, kind: str, count: int) -> list[bytes]:
    wire = WIRES[vendor]
    if kind != "tool":
        return [frame.data for frame in wire.make_frames(CannedResponse("word " * count, input_tokens=9), _asked(True))]
    # One call's frame, its arguments cut into pieces of ten characters.
    call = CannedResponse("", (ToolCall("f", {"text": "X"}),), input_tokens=9)
    whole, written = json.dumps({"text": "0123456789" * count}), json.dumps(json.dumps({"text": "X"})).encode()
    pieces = [whole[at : at + 10] for at in range(0, len(whole), 10)]
    found: list[bytes] = []
    for frame in wire.make_frames(call, _asked(True)):
        if written in frame.data:
            cut = [frame.data.replace(written, json.dumps(piece).encode()) for piece in pieces]
            found += [_without_name(data, later=at > 0) for at, data in enumerate(cut)]
        else:
            found.append(frame.data)
    return found


def _without_name(data: bytes, later: bool) -> bytes:
    return data.replace(b'"name": "f", ', b"").replace(b'"id": "call_1", ', b"") if later else data


def _streamed(vendor: str, frames: list[bytes]) -> list[bytes]:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {WIRES[vendor].stream_type}\r\n".encode()
    head += b"transfer-encoding: chunked\r\n\r\n"
    chunks = [b"%x\r\n%s\r\n" % (len(frame), frame) for frame in frames]
    packets = [b"".join(chunks[at : at + TOGETHER]) for at in range(0, len(chunks), TOGETHER)]
    return [head + packets[0], *packets[1:], b"0\r\n\r\n"]


class Server(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.head = b""
        self.left = 0
        self.start = b""

    def data_received(self, data: bytes) -> None:
        if self.left:
            self.left -= len(data)
            if len(self.start) < _ENOUGH:
                self.start += data[:_ENOUGH]
        else:
            self.head += data
            end = self.head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(self.head, 0, end)
            self.left = (int(length[1]) if length else 0) - (len(self.head) - end - 4)
            self.start, self.head = self.head[:_ENOUGH], b""
        if self.left <= 0:
            self.left = 0
            self.answer()

    def answer(self) -> None:
        _, vendor, kind, count, *_ = self.start.split(b" ", 2)[1].decode().split("/")
        packets = answered(vendor, kind, int(count), _STREAMS.search(self.start) is not None)
        if kind == "paced":
            asyncio.get_running_loop().create_task(self.pace(packets))
        else:
            self.write(packets, 0)

    def write(self, packets: list[bytes], at: int) -> None:
        if not self.transport.is_closing():
            self.transport.write(packets[at])
            if at + 1 < len(packets):
                asyncio.get_running_loop().call_soon(self.write, packets, at + 1)

    async def pace(self, packets: list[bytes]) -> None:
        for packet in packets:
            self.transport.write(packet)
            await asyncio.sleep(0.002)


async def serve() -> None:
    """Print the port, then serve."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        sys.exit()
