"""The furniture of these tests: the vendors' rules, readers of their requests, servers that listen, recordings."""

import asyncio
import gzip
import importlib.util
import json
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from modelhub.registry import load_provider_options

HERE = Path(__file__).parent
TRAFFIC = HERE.parents[2] / "shared" / "corpus" / "dev.jsonl.gz"
MODELS = {
    "openai": {"model_name": "gpt-5-mini", "compat": "openai", "api": "chat"},
    "openai_responses": {"model_name": "gpt-5-mini", "compat": "openai", "api": "responses"},
    "anthropic": {"model_name": "claude-sonnet-4-5", "max_tokens": 512},
    "gemini": {"model_name": "gemini-3-flash"},
    "dashscope": {"model_name": "qwen-plus"},
    "ollama": {"model_name": "qwen3:8b"},
}


def _module(name):
    spec = importlib.util.spec_from_file_location(f"contract_{name}", HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def rules():
    """What each vendor demands of a request."""
    return _module("rules")


@pytest.fixture(scope="session")
def wire():
    """What a request says, whoever it is for."""
    return _module("wire")


@pytest.fixture(scope="session")
def recorded():
    """Every recorded exchange."""
    if not TRAFFIC.exists():
        pytest.skip(f"the recorded traffic is not there: {TRAFFIC}")
    with gzip.open(TRAFFIC, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


class Listener:
    """A vendor of which only the ears matter: it keeps the last request, and gives the same answer to all."""

    def __init__(self, kind):
        self.kind, self.url, self.body, self.target = kind, "", None, ""
        self.answer = (HERE / "fixtures" / kind / "text.json").read_bytes()

    def begins(self):
        """Answer with thoughts and two calls from now on."""
        self.answer = (HERE / "begun" / f"{self.kind}.json").read_bytes()

    def model(self, **changes):
        """A model that asks this vendor."""
        cls = load_provider_options(self.kind.removesuffix("_responses"))
        key = {"api_key": "k-of-nobody"} if "api_key" in cls.model_fields else {}
        return cls(base_url=self.url, **key, **{**MODELS[self.kind], **changes}).connect()

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
                lines = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
                self.target = head.split(" ")[1]
                self.body = json.loads(await reader.readexactly(int(lines["content-length"])))
                start = (
                    f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(self.answer)}\r\n\r\n"
                )
                writer.write(start.encode() + self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self):
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()


@pytest.fixture
def listening():
    """Listen as the vendor of that kind: `async with listening("openai") as vendor`."""
    return lambda kind: Listener(kind).running()
