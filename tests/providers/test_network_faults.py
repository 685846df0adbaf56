"""What the network and its surroundings do to a call: the failure's class, what it costs, and what is left behind."""

import asyncio
import contextlib
import gc
import os
import re
import socket
import threading
from pathlib import Path

import certifi
import pytest

from modelhub import CallError, Hub, HubClosed
from modelhub.core.errors import Chargeable
from tests.providers.certificates import Authority
from tests.tables import table

KEY = "sk-verysecretkey-0123456789"
VENDORS = ("openai", "anthropic", "dashscope", "gemini", "ollama")
OPENAI = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}'


def entry(vendor, url, **more):
    """A model of *vendor* behind *url*, in a file."""
    key = {} if vendor == "ollama" else {"api_key": KEY}
    return {
        "provider": vendor,
        "model_name": "m",
        "base_url": url + ("/v1" if vendor == "openai" else ""),
        **key,
        **more,
    }


def hub_of(models, total="60s", connect="5s", **sections):
    timeout = {"total": total, "connect": connect}
    defaults = {"retry": {"max_attempts": 1}, "timeout": timeout}
    return Hub.from_dict({"version": 1, "defaults": defaults, "models": models, **sections})


@contextlib.asynccontextmanager
async def serving(handler, **options):
    """A server on loopback that does *handler* with each connection, which it then closes: its port."""
    tasks = set()

    async def handle(reader, writer):
        tasks.add(asyncio.current_task())
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
                await handler(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def read_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(re.search(rb"content-length: (\d+)", head.lower())[1]))


async def answer(reader, writer):
    while True:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(OPENAI))
        writer.write(OPENAI)
        await writer.drain()


async def close_at_once(reader, writer):
    await read_request(reader)


async def say_nothing(reader, writer):
    await reader.read()
    await asyncio.Event().wait()


async def failures(hub, **options):
    """The failure of each of the hub's models, called at once."""
    names = list(hub)
    results = await asyncio.gather(*(hub.get(name)("word " * 300, **options) for name in names), return_exceptions=True)
    return dict(zip(names, results, strict=True))


# -- keys ----------------------------------------------------------------------------------------------------------


def frames_of(error):
    """The local variables of every frame that a traceback of *error*, with its causes, shows."""
    seen, waiting = set(), [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        waiting += [current.__cause__, current.__context__, *getattr(current, "exceptions", ())]
        traceback = current.__traceback__
        while traceback is not None:
            yield from ((traceback.tb_frame.f_code.co_qualname, item) for item in traceback.tb_frame.f_locals.items())
            traceback = traceback.tb_next


def written(value, depth=4):
    """*value* as error trackers write it: containers part by part, anything else by its repr."""
    if isinstance(value, dict) and depth:
        return " ".join(f"{key!r}: {written(inner, depth - 1)}" for key, inner in value.items())
    if isinstance(value, list | tuple) and depth:
        return " ".join(written(inner, depth - 1) for inner in value)
    return repr(value)


@pytest.mark.parametrize("handler", [close_at_once, say_nothing])
async def test_the_key_is_in_no_local_variable_of_a_traceback(handler):
    """Error trackers send the local variables of all frames away, also when a call is lost or times out."""
    async with serving(handler) as port:
        models = {vendor: entry(vendor, f"http://127.0.0.1:{port}") for vendor in VENDORS if vendor != "ollama"}
        async with hub_of(models, total="0.5s", connect="0.5s") as hub:
            for stream in (False, True, False):
                for vendor, failure in (await failures(hub, stream=stream)).items():
                    assert isinstance(failure, CallError), vendor
                    shown = [name for name, value in frames_of(failure) if KEY in written(value)]
                    assert not shown, (vendor, shown)


# -- connecting ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def full_backlog():
    """The port of a server to which a connection never comes about, as behind a firewall that drops packets."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(server.getsockname())
        yield server.getsockname()[1]


async def check_never_sent(url, cls, words, connect="5s"):
    """Every vendor's model at *url* fails as *cls*, for the reason in *words*, names the host, and costs nothing."""
    host = url.removeprefix("https://").removeprefix("http://")
    models = {vendor: entry(vendor, url, limit="pool", pricing={"input": 10, "output": 10}) for vendor in VENDORS}
    sections = {"limits": {"pool": {"tokens_per_minute": 10_000}}, "budgets": {"day": {"usd": 1, "per": "day"}}}
    async with hub_of(models, connect=connect, **sections) as hub:
        for vendor, failure in (await failures(hub)).items():
            assert type(failure).__name__ == cls, (vendor, repr(failure))
            assert failure.policy.billed is Chargeable.NO
            assert re.search(words, str(failure)), (vendor, str(failure))
            assert host in str(failure), (vendor, str(failure))
        assert hub.usage.total.input_tokens == 0
        assert float(hub.usage.budgets[0]["spent"]) == 0
        assert hub.limits["pool"].left().rates[0].left == 10_000


async def test_a_connection_that_does_not_come_in_time_was_never_sent():
    """It is a ConnectTimeout, names the host, and neither tokens nor money are counted."""
    with full_backlog() as port:
        await check_never_sent(f"http://127.0.0.1:{port}", "ConnectTimeout", "no connection in time", connect="100ms")


async def test_a_tls_handshake_that_hangs_was_never_sent():
    """It is part of connecting, so that its time is `timeout.connect`."""
    async with serving(say_nothing) as port:
        await check_never_sent(f"https://127.0.0.1:{port}", "ConnectTimeout", "no connection in time", connect="100ms")


async def test_a_reset_in_the_tls_handshake_was_never_sent():
    """It is a ConnectFailed: no byte of the request has left."""

    async def reset(reader, writer):
        await reader.read(10)

    async with serving(reset) as port:
        await check_never_sent(f"https://127.0.0.1:{port}", "ConnectFailed", "cannot connect|TLS failed")


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ({"days": (-2, -1)}, "certificate has expired"),
        ({"name": "other.example"}, "not valid for '127.0.0.1'"),
        (None, "self-signed certificate|unable to get local issuer"),
    ],
    ids=["expired", "wrong name", "unknown authority"],
)
async def test_a_certificate_that_does_not_hold_was_never_sent(certificate, words, tmp_path, monkeypatch):
    """The error says what is wrong with it, and nothing is counted."""
    trusted = Authority(tmp_path, "trusted")
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted.file))
    signer = trusted if certificate else Authority(tmp_path, "unknown")
    async with serving(answer, ssl=signer.server(**(certificate or {}))) as port:
        await check_never_sent(f"https://127.0.0.1:{port}", "ConnectFailed", words)


async def test_a_process_without_file_descriptors_asks_the_next_model(monkeypatch):
    """The failure is ours and says what is lacking; a model that needs no connection still answers."""
    models = {"far": entry("openai", "http://127.0.0.1:9"), "near": {"provider": "scripted", "reply": "here"}}

    def no_socket(*args, **kwargs):
        raise OSError(24, os.strerror(24))

    async with hub_of(models, chains={"chain": {"models": ["far", "near"]}}) as hub:
        await failures(hub)  # the SDK is loaded
        monkeypatch.setattr(socket.socket, "__init__", no_socket)
        reply = await hub.get("chain")("hi")
        failure = (await failures(hub))["far"]
        monkeypatch.undo()
    assert reply.text == "here"
    assert type(failure).__name__ == "ConnectFailed"
    assert "Too many open files" in str(failure)


# -- trust ---------------------------------------------------------------------------------------------------------


async def test_ssl_cert_file_is_all_that_is_trusted(tmp_path, monkeypatch):
    """A process that was told to trust one authority does not trust the public ones besides."""
    ours, public = Authority(tmp_path, "ours"), Authority(tmp_path, "public")
    monkeypatch.setattr(certifi, "where", lambda: str(public.file))
    monkeypatch.setenv("SSL_CERT_FILE", str(ours.file))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    async with serving(answer, ssl=public.server()) as port:
        await check_never_sent(f"https://127.0.0.1:{port}", "ConnectFailed", "unable to get local issuer")
    async with (
        serving(answer, ssl=ours.server()) as port,
        hub_of({"m": entry("openai", f"https://127.0.0.1:{port}")}) as hub,
    ):
        assert (await hub.get("m")("hi")).text == "hello"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
async def test_a_missing_trust_store_is_an_error(variable, tmp_path, monkeypatch):
    """It is no reason to trust anything else; the failure names the variable and the path, for every vendor."""
    monkeypatch.setenv(variable, str(tmp_path / "missing"))
    async with hub_of({vendor: entry(vendor, "https://127.0.0.1:9") for vendor in VENDORS}) as hub:
        for vendor, failure in (await failures(hub)).items():
            assert type(failure).__name__ == "NotConfigured", (vendor, repr(failure))
            assert variable in str(failure)
            assert "missing" in str(failure)


# -- loops and ends ------------------------------------------------------------------------------------------------


class Threaded:
    """A server with a loop of its own: its port, and how many connections stand."""

    def __init__(self):
        self.port, self.open, self.peak = 0, 0, 0

    async def _serve(self, started, stop):
        async def handle(reader, writer):
            self.open += 1
            try:
                await answer(reader, writer)
            finally:
                self.open -= 1

        async with serving(handle) as self.port:
            started.set()
            await stop.wait()

    def __enter__(self):
        started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

        def run():
            self._loop.run_until_complete(self._serve(started, self._stop))
            self._loop.close()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *exc):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()


def descriptors():
    return sum(1 for _ in Path("/dev/fd").iterdir())


def test_a_loop_that_ends_leaves_no_socket():
    """One `asyncio.run` a call, as in scripts and workers: its connections are closed with it, not by the collector."""

    async def call(hub):
        await asyncio.gather(*(hub.get("m")("hi") for _ in range(3)))

    with Threaded() as server:
        hub = hub_of({"m": entry("openai", f"http://127.0.0.1:{server.port}")})
        asyncio.run(call(hub))
        gc.collect()
        gc.disable()
        try:
            before = descriptors()
            for _ in range(5):
                asyncio.run(call(hub))
                assert descriptors() <= before + 3  # what the server has not closed yet: its part of the last three
        finally:
            gc.enable()
        hub.close()


async def test_a_cancelled_connect_leaves_no_socket():
    """The warning that asyncio gives for a socket that nobody closed would fail this test."""

    async def hang(reader, writer):
        await reader.read()

    async with serving(hang, backlog=1000) as port, hub_of({"m": entry("openai", f"http://127.0.0.1:{port}")}) as hub:
        with contextlib.suppress(TimeoutError, CallError):
            await asyncio.wait_for(hub.get("m")("hi"), 0.1)  # the SDK is loaded
        for turns in range(1, 12):
            tasks = [asyncio.create_task(hub.get("m")("hi", stream=True)) for _ in range(5)]
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    gc.collect()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="needs Python 3.12")
@table("vendor", VENDORS)
async def test_eager_tasks_reach_a_server(vendor):
    """Tasks that begin at once do not disturb connecting: the server's answer decides what comes of the call."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with serving(answer) as port, hub_of({"m": entry(vendor, f"http://127.0.0.1:{port}")}) as hub:
        outcome = (await failures(hub))["m"]
    assert getattr(outcome, "text", None) == "hello" or type(outcome).__name__ == "BadReply"


@table("vendor", VENDORS)
async def test_a_closed_hub_sends_nothing(vendor):
    """A call that is under way when its hub closes ends, and is not sent again; no client is made for a later one."""
    under_way, sent = asyncio.Event(), 0

    async def count(reader, writer):
        nonlocal sent
        await read_request(reader)
        sent += 1
        under_way.set()
        await asyncio.Event().wait()

    retry = {"max_attempts": 3, "initial_wait": 0}
    async with serving(count) as port, asyncio.timeout(60):
        hub = hub_of({"m": entry(vendor, f"http://127.0.0.1:{port}", retry=retry)})
        calls = [asyncio.create_task(hub.get("m")("hi", stream=stream)) for stream in (False, True)]
        while sent < 2:
            under_way.clear()
            await under_way.wait()
        await hub.aclose(grace=0)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, HubClosed | CallError) for outcome in outcomes), outcomes
    assert sent == 2


# -- answers whose framing nobody may trust ----------------------------------------------------------------------------

BODY = b"%x\r\n%b\r\n0\r\n" % (len(OPENAI), OPENAI)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
MISFRAMED = {
    "endless trailers": (CHUNKED, BODY + b"X: a\r\n" * 60_000),
    "a trailer that is none": (CHUNKED, BODY + b"no trailer\r\n\r\n"),
    "an unknown coding": (b"Transfer-Encoding: chunked\x0b\r\n", BODY + b"\r\n"),
    "a coding without a name": (b"Transfer-Encoding:\r\nContent-Length: %d\r\n" % len(OPENAI), OPENAI),
    "a NUL in a header": (CHUNKED + b"X: a\0b\r\n", BODY + b"\r\n"),
    "a CR in a header": (CHUNKED + b"X: a\rb\r\n", BODY + b"\r\n"),
    "a negative length": (CHUNKED + b"Content-Length: -1\r\n", BODY + b"\r\n"),
    "two lengths": (CHUNKED + b"Content-Length: 1\r\nContent-Length: 2\r\n", BODY + b"\r\n"),
}


@table(("headers", "body"), MISFRAMED.values(), ids=list(MISFRAMED))
async def test_an_answer_with_doubtful_framing_is_no_answer(headers, body):
    """Two readers may see two answers in it: it is a failure, and the next model is asked."""

    async def misframed(reader, writer):
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" + headers + b"\r\n" + body)
        await asyncio.Event().wait()

    async with serving(misframed) as port, serving(answer) as other:
        models = {
            "m": entry("openai", f"http://127.0.0.1:{port}"),
            "n": entry("openai", f"http://127.0.0.1:{other}"),
        }
        async with hub_of(models, chains={"c": {"models": ["m", "n"]}}) as hub:
            reply = await hub.get("c")("hi")
    assert (reply.model, reply.text) == ("n", "hello")
