"""A scripted server on loopback, and the recorded traffic of the vendors, for tests through the real SDKs."""

import asyncio
import importlib.util
import json
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from modelhub.testing import VirtualLoop

SHARED = Path(__file__).parents[3] / "shared"


def pytest_asyncio_loop_factories(config, item):
    """The scripted server is in the test's own loop: what waits for it, or gives it up, does so in virtual time."""
    if {"loopback", "shared_loopback"}.isdisjoint(item.fixturenames):
        return {"real": asyncio.new_event_loop}
    return {"virtual": partial(VirtualLoop, grace=0.01)}


class ParsedRequest:
    """One request as it came over the wire."""

    def __init__(self, method, target, headers, body):
        self.method, self.target, self.headers, self.body = method, target, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Loopback:
    """A server that answers every request with the bytes it was told, and notes what it was asked.

    `asked` are the requests so far, `open` is the number of connections that stand.
    """

    def __init__(self):
        self.asked, self.open, self.url = [], 0, ""
        self._pieces, self._end = [b""], "keep"
        self._left = asyncio.Event()
        self._first_answer = None

    def begin_row(self):
        """Answer as before the first row of a table, and forget what was asked."""
        self._first_answer = self._first_answer or (self._pieces, self._end)
        self._pieces, self._end = self._first_answer
        self.asked.clear()

    def answers(self, body, status=200, content_type="application/json", **headers):
        """A whole answer; *body* is bytes, text, or what becomes JSON."""
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        self._pieces = [self._head(status, content_type, headers, f"content-length: {len(data)}") + data]
        self._end = "keep"

    def streams(self, *pieces, status=200, content_type="application/x-ndjson", end="clean", **headers):
        """An answer in *pieces*; then the stream ends clean, or `cut`s, `reset`s or `hang`s."""
        data = [piece if isinstance(piece, bytes) else piece.encode() for piece in pieces]
        chunks = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in data if piece]
        self._pieces = [self._head(status, content_type, headers, "transfer-encoding: chunked"), *chunks]
        self._end = end

    def breaks(self, raw=b"", end="cut"):
        """Nothing but *raw*, then the connection `cut`s, `reset`s or `hang`s."""
        self._pieces, self._end = [raw], end

    def _head(self, status, content_type, headers, length):
        lines = [f"HTTP/1.1 {status} -", f"content-type: {content_type}", length]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    async def _serve(self, reader, writer):
        self.open += 1
        try:
            while True:
                self.asked.append(await self._read(reader))
                for piece in self._pieces:
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)
                if self._end == "clean":
                    writer.write(b"0\r\n\r\n")
                elif self._end == "hang":
                    await reader.read()
                    return
                elif self._end == "reset":
                    writer.transport.abort()
                    return
                elif self._end == "cut":
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self._left.set()
            writer.close()

    async def _read(self, reader):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
        return ParsedRequest(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))

    async def idle(self):
        """Wait until no connection stands any more."""
        try:
            async with asyncio.timeout(2):
                while self.open:
                    self._left.clear()
                    await self._left.wait()
        except TimeoutError:
            raise AssertionError(f"{self.open} connections are still open") from None

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()


@pytest.fixture
async def loopback():
    """A running scripted server."""
    async with Loopback().running() as server:
        yield server


@pytest.fixture(scope="session")
def replay():
    """The replay server over the recorded traffic; `records` by id, `url` to it."""
    tool, traffic = SHARED / "tools" / "replay_server.py", SHARED / "corpus" / "dev.jsonl.gz"
    if not (tool.exists() and traffic.exists()):
        pytest.skip(f"the recorded traffic is not there: {traffic}")
    spec = importlib.util.spec_from_file_location("replay_server", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.running([str(traffic)]) as server:
        yield server


@pytest.fixture(scope="module")
def wrong_in():
    """What the types of Anthropic's SDK say against a request body."""
    tool = SHARED / "tools" / "sdk_spec.py"
    if not tool.exists():
        pytest.skip(f"the checker of request bodies is not there: {tool}")
    spec = importlib.util.spec_from_file_location("sdk_spec", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda body: module.check("anthropic.messages", body)


@pytest.fixture
def bare_openai_environment(monkeypatch):
    """The environment without keys and addresses of OpenAI's, and without a proxy."""
    names = [
        "API_KEY",
        "BASE_URL",
        "ORG_ID",
        "ORGANIZATION",
        "PROJECT_ID",
        "CUSTOM_HEADERS",
        "ADMIN_KEY",
        "API_VERSION",
    ]
    for name in [f"OPENAI_{name}" for name in names] + [
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
        "DEEPSEEK_API_KEY",
    ]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")
