"""A server on loopback that simulates the vendors' APIs and their faults.

    async with FaultServer() as server:
        server.script("gpt", [faults.status(429, retry_after=2)], then="healthy")
        model = OpenAIChatModel("gpt-5-mini", api_key="any", base_url=server.url("gpt"))

Every *route* is the endpoint of one model, with its own address, script and log. The path of a request selects the
vendor's format. With `async with`, the server runs in the current loop and uses its time, also virtual time; with
`with FaultServer().running()`, it runs in a thread.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import count
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from modelhub.testing.batches import BatchEndpoints
from modelhub.testing.exchange import ClientDisconnected, Exchange
from modelhub.testing.fault_types import Fault, Item, Recorded
from modelhub.testing.http import Head, head_bytes, read_body, read_head
from modelhub.testing.wires import CannedResponse, VendorFormat, wire_at

__all__ = ["FaultServer", "Recorded"]

T = TypeVar("T")
_HOST = "127.0.0.1"
_SECRET_HEADERS = re.compile(r"auth|key|token|secret|cookie", re.IGNORECASE)
_SECRET_PARAMETERS = re.compile(r"([?&][^=&]*(?:key|token|secret|auth)[^=&]*=)[^&]*", re.IGNORECASE)


@dataclass(slots=True)
class _Script:
    """The script of a route: one item for each request, then the last one again, or healthy answers."""

    items: Sequence[Item]
    then: str
    answer: CannedResponse
    started: float
    played: int = 0

    def item(self) -> Item:
        """Return the item for the next request."""
        self.played += 1
        if self.played <= len(self.items):
            return self.items[self.played - 1]
        return self.items[-1] if self.items and self.then == "repeat" else Fault()


def _bind(port: int) -> socket.socket:
    # Explicitly TCP, so that asyncio sets TCP_NODELAY: else the kernel would delay small pieces.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((_HOST, port))
    listener.setblocking(False)
    return listener


class _Route:
    """One endpoint: its port, its script, its log, and the open connections, which *serve* handles.

    While it refuses connections, the port number stays reserved.
    """

    def __init__(self, name: str, serve: Callable[[_Route, socket.socket], Coroutine[Any, Any, None]]) -> None:
        self.name = name
        self.script = _Script((), "healthy", CannedResponse(), 0.0)
        self.log: list[Recorded] = []
        self.batches = BatchEndpoints()
        self.tasks: set[asyncio.Task[None]] = set()
        self.writers: set[asyncio.StreamWriter] = set()
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._socket = _bind(0)
        self._is_open = False
        self.port: int = self._socket.getsockname()[1]

    def play(self, script: _Script, shut: bool = False) -> None:
        """Answer as *script* says from now on; with *shut*, refuse connections and drop those that are open."""
        self.script = script
        if not shut and not self._is_open:
            self._socket.listen(128)
            self._loop.add_reader(self._socket.fileno(), self._accept)
            self._is_open = True
        elif shut and self._is_open:
            self.close()
            self._socket = _bind(self.port)
            self._is_open = False
            for writer in self.writers:
                # Shut down at once for the next request: the transport only closes in the loop's next iteration.
                with suppress(OSError):
                    writer.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
                writer.transport.abort()

    def close(self) -> None:
        """Stop listening; connections that are open go on."""
        if self._is_open:
            self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _accept(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            connection, _ = self._socket.accept()
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(self, connection))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)


class FaultServer:
    """Simulates the APIs of the five vendors on loopback, both of OpenAI's, and the faults of its scripts.

    *answer* is the healthy answer: a `CannedResponse`, or its text.
    """

    def __init__(self, answer: CannedResponse | str | None = None) -> None:
        self.answer = CannedResponse(answer) if isinstance(answer, str) else answer or CannedResponse()
        self._routes: dict[str, _Route] = {}
        self._models: set[str] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._started = 0.0
        self._request_numbers = count(1)
        self._refused: socket.socket | None = None

    # -- starting and stopping -----------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start in the running loop, with its clock."""
        self._loop = asyncio.get_running_loop()
        self._started = self._loop.time()

    async def stop(self) -> None:
        """Close every connection and every port."""
        tasks = [task for route in self._routes.values() for task in route.tasks]
        for route in self._routes.values():
            route.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # closed transports release their sockets in the loop's next iteration
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
        """Run the server in a thread with its own loop, for code without one."""
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

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise RuntimeError("the fault server is not running: use `async with` or `running()`")
        return self._loop

    def _run_in_loop(self, work: Callable[[], T]) -> T:
        """Run *work* in the server's loop, which may be that of the current thread, and return its result."""
        loop = self._get_loop()
        running_loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):
            running_loop = asyncio.get_running_loop()
        if running_loop is loop:
            return work()

        async def run() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(run(), loop).result()

    # -- what a test says and asks -------------------------------------------------------------------------------------

    def url(self, name: str) -> str:
        """Return the base URL of the route *name*, which is healthy until it has a script."""
        return f"http://{_HOST}:{self._run_in_loop(lambda: self._get_route(name)).port}/{name}"

    def refused_url(self) -> str:
        """Return a URL at which connections are refused as long as the server runs."""
        if self._refused is None:
            self._refused = self._run_in_loop(lambda: _bind(0))
        return f"http://{_HOST}:{self._refused.getsockname()[1]}"

    def script(
        self,
        name: str,
        faults: Item | Sequence[Item],
        then: Literal["repeat", "healthy"] = "repeat",
        *,
        answer: CannedResponse | str | None = None,
    ) -> None:
        """Play *faults* at the route *name*, one for each request, and *then* repeat the last one, or be healthy.

        *answer* is the healthy answer of this route. Raises ValueError if `refused()` is one of several faults, and,
        once a configuration is rerouted, for a name that neither it has nor anybody has asked the address of.
        """
        if self._models and name not in self._models and name not in self._routes:
            close = get_close_matches(name, self._models, 1)
            hint = f": did you mean `{close[0]}`?" if close else ""
            raise ValueError(f"no model is called `{name}`{hint} (there are: {', '.join(sorted(self._models))})")
        items = [faults] if isinstance(faults, Fault) or not isinstance(faults, Sequence) else list(faults)
        shut = any(isinstance(item, Fault) and not item.listens for item in items)
        if shut and len(items) > 1:
            raise ValueError("refused() must be the only fault of a script: refused connections cannot be counted")
        healthy = CannedResponse(answer) if isinstance(answer, str) else answer or self.answer
        script = _Script(items, then, healthy, self.now())
        self._run_in_loop(lambda: self._get_route(name).play(script, shut))

    def add_models(self, names: Iterable[str]) -> None:
        """Take *names* for those of models: from now on a script for a name that is not known is a mistake."""
        self._models |= set(names)

    def heal(self, name: str) -> None:
        """Give healthy answers at the route *name*."""
        self.script(name, ())

    def requests(self, name: str | None = None) -> list[Recorded]:
        """Return the requests at the route *name*, or at all routes, in the order of their arrival."""
        if name is not None:
            return list(self._routes[name].log) if name in self._routes else []
        return sorted(
            (request for route in list(self._routes.values()) for request in route.log), key=lambda request: request.at
        )

    def batches(self, name: str) -> BatchEndpoints:
        """Return the batch endpoints of the route *name*: their script, the batches, and what was answered."""
        return self._run_in_loop(lambda: self._get_route(name)).batches

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return sum(len(route.writers) for route in list(self._routes.values()))

    def now(self) -> float:
        """Return the seconds since the server was started or last reset."""
        return self._get_loop().time() - self._started

    def reset(self) -> None:
        """Drop all requests, scripts and models' names, and restart the clock; addresses and connections are kept."""

        def clear() -> None:
            self._started = asyncio.get_running_loop().time()
            self._models = set()
            for route in self._routes.values():
                route.log.clear()
                route.play(_Script((), "healthy", self.answer, 0.0))

        self._run_in_loop(clear)

    # -- routes --------------------------------------------------------------------------------------------------------

    def _get_route(self, name: str) -> _Route:
        if name not in self._routes:
            self._routes[name] = _Route(name, self._handle_connection)
            self._routes[name].play(_Script((), "healthy", self.answer, self.now()))
        return self._routes[name]

    # -- connections ---------------------------------------------------------------------------------------------------

    async def _handle_connection(self, route: _Route, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
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
        """Answer one request. Returns whether the connection can be used again."""
        head = await read_head(reader)
        if head is None:
            return False
        wire = wire_at(head.path)
        if wire is None or head.method != "POST":
            # No call of a model: a request to the batch endpoints, or to none at all.
            body = await read_body(reader, head.headers)
            status, answer = route.batches.respond(head, body, route.script.answer, self.now()) or (404, b"")
            headers = [("Content-Length", str(len(answer))), ("Content-Type", "application/json")]
            writer.write(head_bytes(status, headers) + answer)
            await writer.drain()
            return head.keeps_alive
        script = route.script
        request = self._record_request(route, script, head, wire)
        item = script.item()
        if not isinstance(item, Fault) or item.reads_body:
            with suppress(ValueError):
                request.body = json.loads(await read_body(reader, head.headers))
            if not isinstance(request.body, dict):
                request.body = {}
        parsed = wire.parse(str(next(self._request_numbers)), head.path, head.headers, request.body or {})
        request.stream = parsed.stream
        request.fault = (item if isinstance(item, Fault) else item(request)) or Fault()
        exchange = Exchange(reader, writer, wire, parsed, script.answer)
        try:
            await request.fault.respond(exchange)
        except ClientDisconnected:
            if not exchange.broken_off:
                request.gave_up_at = self.now()
            raise
        return head.keeps_alive

    def _record_request(self, route: _Route, script: _Script, head: Head, wire: VendorFormat) -> Recorded:
        """Return the record of a request that has arrived, without secrets; it is in the log from here on."""
        now = self.now()
        request = Recorded(
            route=route.name,
            at=now,
            elapsed=now - script.started,
            attempt=script.played + 1,
            method=head.method,
            path=_SECRET_PARAMETERS.sub(r"\1***", head.target),
            headers={name: "***" if _SECRET_HEADERS.search(name) else value for name, value in head.headers.items()},
            wire=wire.kind,
        )
        route.log.append(request)
        return request
