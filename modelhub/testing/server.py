"""A server on loopback that speaks like the vendors and fails as it is told.

    async with FaultServer() as server:
        server.script("gpt", [faults.status(429, retry_after=2)], then="healthy")
        model = OpenAIChatModel("gpt-5-mini", api_key="any", base_url=server.url("gpt"))

Every *route* is one model's endpoint, with an address, a script and a log of its own. Which vendor is spoken is told by
the path of the request. In a loop of its own choosing (`async with`) the server follows that loop's time, also if it is
virtual; `with FaultServer().running()` runs it in a thread.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from modelhub.testing.exchange import ClientDisconnected, Exchange
from modelhub.testing.fault_types import Fault, Item, Recorded
from modelhub.testing.http import Head, head_bytes, read_body, read_head
from modelhub.testing.wires import CannedResponse, VendorFormat, wire_at

__all__ = ["FaultServer", "Recorded"]

T = TypeVar("T")
_HOST = "127.0.0.1"
_SECRET = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)


class _Script:
    """What a route plays: one item for each request, then the last one again, or health."""

    def __init__(self, items: Sequence[Item], then: str, answer: CannedResponse, began: float) -> None:
        self.items = items
        self.then = then
        self.answer = answer
        self.began = began
        self.played = 0

    def item(self) -> Item:
        """What is played for the next request."""
        self.played += 1
        if self.played <= len(self.items):
            return self.items[self.played - 1]
        return self.items[-1] if self.items and self.then == "repeat" else Fault()


class _Listener:
    """A port of its own. When it is shut, connections are refused; nobody else can take the number meanwhile."""

    def __init__(self, loop: asyncio.AbstractEventLoop, welcome: Callable[[socket.socket], None]) -> None:
        self._loop = loop
        self._on_accept = welcome
        self._socket = _bound(0)
        self._is_open = False
        self.port: int = self._socket.getsockname()[1]

    def open(self) -> None:
        if not self._is_open:
            self._socket.listen(128)
            self._loop.add_reader(self._socket.fileno(), self._accept)
            self._is_open = True

    def shut(self) -> None:
        if self._is_open:
            self.close()
            self._socket = _bound(self.port)
            self._is_open = False

    def close(self) -> None:
        if self._is_open:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            connection, _ = self._socket.accept()
            connection.setblocking(False)
            self._on_accept(connection)


def _bound(port: int) -> socket.socket:
    # Named as TCP, for asyncio to send small pieces at once: else the kernel holds them back.
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((_HOST, port))
    found.setblocking(False)
    return found


class _Route:
    """One endpoint: its door, its script, its log, and the connections that stand."""

    def __init__(self, name: str, door: _Listener, script: _Script) -> None:
        self.name = name
        self.door = door
        self.script = script
        self.log: list[Recorded] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: set[asyncio.StreamWriter] = set()


class FaultServer:
    """Speaks like the five vendors on loopback, OpenAI in both of its APIs, and fails as it is told.

    *answer* is what it says when nothing is wrong: an `CannedResponse`, or its text.
    """

    def __init__(self, answer: CannedResponse | str | None = None) -> None:
        self.answer = _answer(answer) or CannedResponse()
        self._routes: dict[str, _Route] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._began = 0.0
        self._numbers = count(1)
        self._refused: socket.socket | None = None

    # -- starting and stopping -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin, in the running loop and by its clock."""
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()

    async def stop(self) -> None:
        """End every connection and shut every port."""
        tasks = [task for route in self._routes.values() for task in route.tasks]
        for route in self._routes.values():
            route.door.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports let go of their sockets in the loop's next turn
        if self._refused is not None:
            self._refused.close()
        self._routes, self._loop, self._refused = {}, None, None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.stop()

    @contextmanager
    def running(self) -> Iterator[Self]:
        """The same in a thread with a loop of its own, for code that has none."""
        loop = asyncio.SelectorEventLoop()
        thread = threading.Thread(target=loop.run_forever, name="fault server", daemon=True)
        thread.start()
        try:
            asyncio.run_coroutine_threadsafe(self.start(), loop).result()
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self.stop(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _in_loop(self, work: Callable[[], T]) -> T:
        """Do *work* in the server's thread, which may be this one."""
        if self._loop is None:
            raise RuntimeError("the fault server is not running: use `async with` or `running()`")
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                return work()

        async def done() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result()

    # -- what a test says and asks -------------------------------------------------------------------------------------

    def url(self, name: str) -> str:
        """The base address of the route *name*, which is healthy until a script says otherwise."""
        return f"http://{_HOST}:{self._in_loop(lambda: self._route(name)).door.port}/{name}"

    def refused_url(self) -> str:
        """An address where nobody listens, nor will while the server runs."""
        if self._refused is None:
            self._refused = self._in_loop(lambda: _bound(0))
        return f"http://{_HOST}:{self._refused.getsockname()[1]}"

    def script(
        self,
        name: str,
        faults: Item | Sequence[Item],
        then: Literal["repeat", "healthy"] = "repeat",
        *,
        answer: CannedResponse | str | None = None,
    ) -> None:
        """Play *faults* at the route *name*, one for each request from now on, and *then* the last one again, or none.

        *answer* is what this route says when nothing is wrong. Raises ValueError if `refused()` is one of several.
        """
        items = [faults] if isinstance(faults, Fault) or not isinstance(faults, Sequence) else list(faults)
        shut = any(isinstance(item, Fault) and not item.listens for item in items)
        if shut and len(items) > 1:
            raise ValueError("refused() stands alone in a script: nobody can count connections that never came")
        self._in_loop(lambda: self._set(name, _Script(items, then, _answer(answer) or self.answer, self.now()), shut))

    def heal(self, name: str) -> None:
        """Answer every request at the route *name* as it should be."""
        self.script(name, ())

    def requests(self, name: str | None = None) -> list[Recorded]:
        """The requests at the route *name*, or at all routes, in the order they came."""
        if name is not None:
            return list(self._routes[name].log) if name in self._routes else []
        return sorted((one for route in list(self._routes.values()) for one in route.log), key=lambda one: one.at)

    @property
    def connections(self) -> int:
        """How many connections stand."""
        return sum(len(route.writers) for route in list(self._routes.values()))

    def now(self) -> float:
        """Seconds since the server began, or was last reset."""
        if self._loop is None:
            raise RuntimeError("the fault server is not running: use `async with` or `running()`")
        return self._loop.time() - self._began

    def reset(self) -> None:
        """Forget all requests and scripts, and begin the clock anew; addresses and connections stay."""
        self._in_loop(self._forget)

    # -- routes --------------------------------------------------------------------------------------------------------

    def _route(self, name: str) -> _Route:
        assert self._loop is not None  # noqa: S101 - `_in_loop` has seen to it
        if name not in self._routes:
            door = _Listener(self._loop, lambda connection: self._on_accept(name, connection))
            self._routes[name] = _Route(name, door, _Script((), "healthy", self.answer, self.now()))
            door.open()
        return self._routes[name]

    def _set(self, name: str, script: _Script, shut: bool) -> None:
        route = self._route(name)
        route.script = script
        if not shut:
            route.door.open()
            return
        route.door.shut()
        for writer in route.writers:
            # Seen at once by who asks next: the transport closes only in the loop's next turn.
            with suppress(OSError):
                writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            writer.transport.abort()

    def _forget(self) -> None:
        assert self._loop is not None  # noqa: S101 - `_in_loop` has seen to it
        self._began = self._loop.time()
        for name, route in self._routes.items():
            route.log.clear()
            self._set(name, _Script((), "healthy", self.answer, 0.0), shut=False)

    # -- connections ---------------------------------------------------------------------------------------------------

    def _on_accept(self, name: str, connection: socket.socket) -> None:
        assert self._loop is not None  # noqa: S101 - a door is only open while the server runs
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        route = self._routes[name]
        task = self._loop.create_task(self._handle_connection(route, connection, reader, protocol))
        route.tasks.add(task)
        task.add_done_callback(route.tasks.discard)

    async def _handle_connection(
        self,
        route: _Route,
        connection: socket.socket,
        reader: asyncio.StreamReader,
        protocol: asyncio.StreamReaderProtocol,
    ) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        route.writers.add(writer)
        try:
            while await self._serve(route, reader, writer):
                pass
        except (ClientDisconnected, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            route.writers.discard(writer)
            writer.close()

    async def _serve(self, route: _Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Gives back whether the connection can be used again."""
        head = await read_head(reader)
        if head is None:
            return False
        wire = wire_at(head.path)
        if wire is None or head.method != "POST":
            await read_body(reader, head.headers)
            writer.write(head_bytes(404, [("Content-Length", "0")]))
            await writer.drain()
            return head.keeps_alive
        script = route.script
        request = self._record(route, script, head, wire)
        item = script.item()
        if not isinstance(item, Fault) or item.reads_body:
            request.body = _parsed(await read_body(reader, head.headers))
        asked = wire.read(str(next(self._numbers)), head.path, head.headers, request.body or {})
        request.stream = asked.stream
        request.fault = (item if isinstance(item, Fault) else item(request)) or Fault()
        await self._respond(request, Exchange(reader, writer, wire, asked, script.answer))
        return head.keeps_alive

    def _record(self, route: _Route, script: _Script, head: Head, wire: VendorFormat) -> Recorded:
        now = self.now()
        request = Recorded(
            route=route.name,
            at=now,
            elapsed=now - script.began,
            attempt=script.played + 1,
            method=head.method,
            path=_without_secrets(head.target),
            headers={name: "***" if _SECRET.search(name) else value for name, value in head.headers.items()},
            wire=wire.kind,
        )
        route.log.append(request)
        return request

    async def _respond(self, request: Recorded, exchange: Exchange) -> None:
        try:
            await request.fault.respond(exchange)
        except ClientDisconnected:
            if not exchange.broken_off:
                request.gave_up_at = self.now()
            raise


def _answer(given: CannedResponse | str | None) -> CannedResponse | None:
    return CannedResponse(given) if isinstance(given, str) else given


def _parsed(data: bytes) -> Any:
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _without_secrets(target: str) -> str:
    return re.sub(r"([?&][^=&]*(?:key|token|secret|auth)[^=&]*=)[^&]*", r"\1***", target, flags=re.IGNORECASE)
