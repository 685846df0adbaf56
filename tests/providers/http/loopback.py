"""A server that does what a script says, for tests of the transports."""

import asyncio
import base64
import contextlib
import re
import socket
import struct

import httpx
import httpx2

from modelhub.providers.http import HttpRequest, HttpxTransport, Timeouts
from modelhub.providers.http.aiohttp_transport import AiohttpTransport
from modelhub.providers.http.tls import tls_context

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """Answers each request by *script*, which writes to the connection and returns whether it goes on."""

    def __init__(self, script, **options):
        self.script, self.options = script, options
        self.heads, self.bodies, self.connections, self.open = [], [], 0, 0
        self.closed = asyncio.Event()
        self._tasks = set()

    async def _handle(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        self.connections += 1
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()
        self.open -= 1
        self.closed.set()

    async def _answer(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head.decode("latin-1"))
        if self.options.get("read_body", True):
            length = re.search(rb"content-length: (\d+)", head.lower())
            self.bodies.append(await reader.readexactly(int(length[1])) if length else b"")
        return await self.script(reader, writer)

    @contextlib.asynccontextmanager
    async def running(self, ssl=None):
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0, ssl=ssl)
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"{'https' if ssl else 'http'}://127.0.0.1:{self.port}/path"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)


def reply(*pieces, keep=True, reset=False):
    """A script: write *pieces*, then keep the connection, close it, or reset it."""

    async def script(reader, writer):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        return keep

    return script


async def stay_silent(reader, writer):
    """A script: say nothing until the client goes."""
    await reader.read()
    return False


class Proxy:
    """An HTTP proxy on loopback: tunnels CONNECT and forwards the rest; wants *credentials*, if any are given."""

    def __init__(self, credentials=""):
        self.expected = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else None
        self.lines, self.credentials = [], []
        self._tasks = set()

    async def _handle(self, reader, writer):
        self._tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *headers = head.split("\r\n")
            named = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
            self.lines.append(line)
            self.credentials.append(named.get("proxy-authorization"))
            if self.expected and self.credentials[-1] != self.expected:
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            else:
                await self._forward(line, head, reader, writer)
        writer.transport.abort()

    async def _forward(self, line, head, reader, writer):
        method, target, _ = line.split(" ")
        place = target if method == "CONNECT" else target.split("/")[2]
        there_reader, there_writer = await asyncio.open_connection(*place.rsplit(":", 1))
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            there_writer.write(head.replace(f"http://{place}", "", 1).encode())
        copies = [asyncio.ensure_future(copy) for copy in (_copy(reader, there_writer), _copy(there_reader, writer))]
        try:
            await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        finally:
            there_writer.transport.abort()
            writer.transport.abort()
            await asyncio.wait(copies)

    @contextlib.asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)


async def _copy(reader, writer):
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


def request_to(url, body=b"{}", headers=None, **timeouts):
    chunks = body if isinstance(body, list) else [body]
    return HttpRequest(url, {"X-Name": "value", **(headers or {})}, chunks, timeouts=Timeouts(**timeouts))


@contextlib.asynccontextmanager
async def open_transport(kind, **options):
    """The transport *kind*: aiohttp's, or one around a client of httpx or httpx2."""
    if kind == "aiohttp":
        transport = AiohttpTransport(**options)
        try:
            yield transport
        finally:
            await transport.aclose()
    else:
        library = {"httpx": httpx, "httpx2": httpx2}[kind]
        async with library.AsyncClient(verify=tls_context()) as client:  # which takes its time to make one of its own
            yield HttpxTransport(client, **options)
