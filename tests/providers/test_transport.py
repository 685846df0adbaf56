"""The connections below the SDKs: what they promise where a server, or a reader, does not behave."""

import asyncio
import contextlib
import json
import random
import socket
import ssl
import struct
import subprocess
import threading
import zlib

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub.providers._again import Again
from modelhub.providers._http import http_client, tls_context
from modelhub.providers._incoming import (
    ConnectError,
    ConnectTimeout,
    Incoming,
    LocalProtocolError,
    PoolTimeout,
    ReadError,
    ReadTimeout,
    RemoteProtocolError,
    TransportError,
    WriteTimeout,
)
from modelhub.providers._transport import Head, Origin, Pool, written_head
from modelhub.providers._wire import dumps, written

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HINTS = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\na: b\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Server:
    """Runs *script* for each request of each connection; counts both."""

    def __init__(self, script):
        self.script, self.connections, self.requests, self.tasks = script, 0, 0, []
        self.heads, self.bodies = [], []

    async def serve(self, reader, writer):
        self.connections += 1
        self.tasks.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                if not await self.script(self, reader, writer, length):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
                    break
        writer.transport.abort()

    @contextlib.asynccontextmanager
    async def running(self, **tls):
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, **tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            if self.tasks:
                await asyncio.wait(self.tasks, timeout=2)


def says(*pieces, keep=True, end="close"):
    """A script: read the request, write *pieces*, then go on, or close, reset, or say no more."""

    async def script(server, reader, writer, length):
        server.bodies.append(await reader.readexactly(length))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002)
        if not keep and end == "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        if not keep and end == "silence":
            await reader.read()
        return keep

    return script


def head(port, host="127.0.0.1", tls=False, **times):
    start = written_head(b"POST", b"/x", [(b"Host", host.encode())])
    return Head(Origin(host, port, tls), start, times)


@contextlib.asynccontextmanager
async def pool(**options):
    """Connections that are closed at the end, none of them in use."""
    made = Pool(tls_context, **options)
    try:
        yield made
        assert not made._busy
    finally:
        await made.aclose()


async def asked(connections, port, body=b"{}", **times):
    answer = await connections.send(head(port, **times), [body])
    return await answer.aread()


# -- answers -----------------------------------------------------------------------------------------------------------


class Line:
    """A connection that does nothing."""

    def __init__(self):
        self.kept = None

    def pause_reading(self): ...

    def resume_reading(self): ...

    def abort(self): ...

    def release(self, keep):
        self.kept = keep


def came(data, sizes):
    """What is read of *data* when it comes in pieces of *sizes*; and whether the connection can be used again."""
    line = Line()
    incoming = Incoming(line, None, False)
    at = 0
    for size in sizes:
        incoming.feed(data[at : at + size])
        at += size
    incoming.feed(data[at:])
    incoming.ended(None)
    if incoming._error is not None:
        raise incoming._error
    return incoming.status_code, b"".join(incoming._pieces), line.kept


BODY = b"0123456789" * 7


@pytest.mark.parametrize(
    ("data", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 70\r\n\r\n" + BODY, True),
        (b"HTTP/1.1 200\ncontent-length:70\n\n" + BODY, True),
        (
            HINTS + b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n" + BODY,
            True,
        ),
        (CHUNKED + b"20\r\n" + BODY[:32] + b"\r\n26;x=y\r\n" + BODY[32:] + b"\r\n0\r\n\r\n", True),
        (CHUNKED + b"46\r\n" + BODY + b"\r\n000\r\nTrailer: x\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\n\r\n" + BODY, False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 70\r\n\r\n" + BODY, False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\ncontent-length: 70\r\n\r\n" + BODY, False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\n" + BODY + b"HTTP/1.1 200 not asked for", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\nCONTENT-LENGTH: 70\r\nx: a\r\n  b\r\n\r\n" + BODY, True),
    ],
    ids=range(10),
)
@given(sizes=st.lists(st.integers(1, 30), max_size=30))
def test_an_answer_is_the_same_however_it_is_cut(data, keep, sizes):
    """Status, body and whether the connection is kept do not depend on the packets."""
    status, body, kept = came(data, sizes)
    assert (status, body) == (200, BODY)
    assert kept is keep or data.endswith(b"asked for")  # such bytes may come when the connection was given back


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 70\r\n\r\nabc",
        CHUNKED + b"5\r\nabc",
        CHUNKED + b"3\r\nabc\r\n",
        CHUNKED + b"3\r\nabcd\r\n0\r\n\r\n",
        CHUNKED + b"0x3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"-3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"0\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"<html>no HTTP at all</html>\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 30_000,
    ],
    ids=range(17),
)
def test_what_is_cut_or_garbled_is_never_an_answer(data):
    """Every answer that breaks off, or is no HTTP/1.1, is an error by its name in httpx."""
    with pytest.raises(RemoteProtocolError):
        came(data, [len(data) // 2])


async def test_an_answer_without_a_body_ends_with_its_headers():
    """204 has no body, and its connection is used again."""
    server = Server(says(b"HTTP/1.1 204 -\r\n\r\n"))
    async with server.running() as port, pool() as connections:
        assert [await asked(connections, port) for _ in range(3)] == [b""] * 3
    assert server.connections == 1


# -- connections -------------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again():
    """One after the other, requests need one connection."""
    server = Server(says(OK))
    async with server.running() as port, pool() as connections:
        assert [await asked(connections, port) for _ in range(5)] == [b"ok"] * 5
    assert (server.connections, server.requests) == (1, 5)


async def test_a_connection_that_ended_meanwhile_is_not_used_again():
    """Its end is seen even if the event loop has had no time to look: nothing is sent into the void."""

    async def script(server, reader, writer, length):
        await reader.readexactly(length)
        writer.write(OK)
        await writer.drain()
        writer.get_extra_info("socket").shutdown(2)  # behind the event loop's back, before the client looks again
        return False

    server = Server(script)
    async with server.running() as port, pool() as connections:
        assert [await asked(connections, port) for _ in range(5)] == [b"ok"] * 5
    assert (server.connections, server.requests) == (5, 5)


async def test_a_request_is_never_sent_twice():
    """A connection that dies before the first byte is an error: who may ask again is decided above."""
    server = Server(says(keep=False))
    async with server.running() as port, pool() as connections:
        with pytest.raises((RemoteProtocolError, ReadError)):
            await asked(connections, port)
    assert server.requests == 1


@pytest.mark.parametrize(
    ("pieces", "end", "error"),
    [
        ((b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"abc"), "close", RemoteProtocolError),
        ((CHUNKED, b"9\r\nabc"), "close", RemoteProtocolError),
        ((CHUNKED, b"9\r\nabc"), "reset", ReadError),
        ((CHUNKED, b"9\r\nabc"), "silence", ReadTimeout),
        ((), "silence", ReadTimeout),
    ],
)
async def test_a_broken_answer_gives_what_came_then_the_error(pieces, end, error):
    """What came before the break is read; then the error says what happened, and the connection is gone."""
    server = Server(says(*pieces, keep=False, end=end))
    read = b""
    async with server.running() as port, pool() as connections:
        with pytest.raises(TransportError) as caught:  # noqa: PT012 - it may break at either
            answer = await connections.send(head(port, read=0.1), [b"{}"])
            async for piece in answer.aiter_bytes():
                read += piece
        assert isinstance(caught.value, error)
        assert not connections._idle.get(Origin("127.0.0.1", port, False))
    assert read == (b"abc" if pieces else b"")


async def test_silence_is_counted_from_the_last_byte():
    """A slow answer takes longer than the time for one silence, and is read to its end."""
    server = Server(says(CHUNKED, *[b"1\r\nx\r\n"] * 60, b"0\r\n\r\n"))
    async with server.running() as port, pool() as connections:
        assert await asked(connections, port, read=0.08) == b"x" * 60


async def test_nobody_listens():
    """A refused connection, a name that is none, and a connection that does not come are told apart."""
    async with Server(says(OK)).running() as port:
        pass
    async with pool() as connections:
        with pytest.raises(ConnectError) as caught:
            await asked(connections, port)
        assert isinstance(caught.value.__cause__, ConnectionRefusedError)
        with pytest.raises(ConnectError):
            await connections.send(head(80, host="x" * 70), [b""])
        assert connections._places._value == 1000


async def test_a_connection_that_does_not_come_in_time(monkeypatch):
    """It is given up, and its place is free again."""

    async def never(*_, **__):
        await asyncio.sleep(60)

    async with pool(most=1) as connections:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
        for _ in range(2):
            with pytest.raises(ConnectTimeout):
                await asked(connections, 1, connect=0.01)


async def test_a_place_is_waited_for():
    """With all places taken the next request waits, in turn, and not for ever."""
    server = Server(says(CHUNKED, b"1\r\nx\r\n", b"0\r\n\r\n"))
    async with server.running() as port, pool(most=1) as connections:
        first = await connections.send(head(port), [b"{}"])
        with pytest.raises(PoolTimeout):
            await asked(connections, port, pool=0.001)
        waiting = asyncio.create_task(asked(connections, port))
        assert await first.aread() == b"x"
        assert await waiting == b"x"
    assert server.connections == 1


async def test_who_gives_up_closes_the_connection():
    """A reader that is cancelled, or closes, leaves neither a connection nor a taken place."""
    server = Server(says(CHUNKED, b"1\r\nx\r\n", keep=False, end="silence"))
    async with server.running() as port, pool(most=1) as connections:
        for _ in range(3):
            task = asyncio.create_task(asked(connections, port))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        answer = await connections.send(head(port), [b"{}"])
        await answer.aclose()
        with pytest.raises(ReadError):
            await answer.aread()
        assert not connections._places.locked()


async def test_closing_ends_what_is_under_way():
    """A reader is not left waiting when the pool is closed; and nothing is sent through it any more."""
    server = Server(says(CHUNKED, b"1\r\nx\r\n", keep=False, end="silence"))
    async with server.running() as port, pool() as connections:
        task = asyncio.create_task(asked(connections, port))
        await asyncio.sleep(0.02)
        await connections.aclose()
        with pytest.raises(ReadError):
            await task
        with pytest.raises(RuntimeError):
            await asked(connections, port)


async def test_a_large_request_arrives_whole():
    """Twenty megabytes in odd pieces come as they were sent, while the server takes its time."""
    pieces = [random.Random(n).randbytes(700_001) for n in range(30)]
    server = Server(says(OK))
    async with server.running() as port, pool() as connections:
        answer = await connections.send(head(port), pieces)
        assert await answer.aread() == b"ok"
        assert await asked(connections, port) == b"ok"
    assert server.bodies[0] == b"".join(pieces)
    assert server.connections == 1


async def test_others_get_their_turn_while_a_large_request_is_written():
    """Also if the server takes all of it at once, as one on this machine does."""
    size, turns = 20_000_000, 0

    def serve(door):
        with door.accept()[0] as line:
            left = size
            while left > 0:
                left -= len(line.recv(1_000_000))
            line.sendall(OK)

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=serve, args=(door,))
        thread.start()
        task = asyncio.ensure_future(others())
        async with pool() as connections:
            answer = await connections.send(head(door.getsockname()[1]), [b"x" * size])
            written_in = turns
            assert await answer.aread() == b"ok"
        task.cancel()
        thread.join()
    assert written_in >= size // 256 // 1024


@pytest.mark.parametrize("reads_on", [True, False])
async def test_an_answer_before_the_request_is_over(reads_on):
    """413 to a large request is read, though not all was sent; the connection is not used again."""

    async def script(server, reader, writer, length):
        writer.write(b"HTTP/1.1 413 -\r\ncontent-length: 2\r\n\r\nno")
        await writer.drain()
        if reads_on:
            await reader.readexactly(length // 2)
        await asyncio.sleep(0.05)
        return False

    server = Server(script)
    async with server.running() as port, pool() as connections:
        answer = await connections.send(head(port), [b"x" * 30_000_000])
        assert (answer.status_code, await answer.aread()) == (413, b"no")
        assert not connections._idle.get(Origin("127.0.0.1", port, False))


async def test_a_server_that_takes_nothing():
    """A request that does not get through ends in time."""

    async def script(server, reader, writer, length):
        await asyncio.sleep(0.5)
        return False

    async with Server(script).running() as port, pool() as connections:
        with pytest.raises(WriteTimeout):
            await connections.send(head(port, write=0.05), [b"x" * 30_000_000])


async def test_a_slow_reader_makes_the_server_wait():
    """What nobody reads is not hoarded: the rest stays with the server."""
    sent = 0

    async def script(server, reader, writer, length):
        nonlocal sent
        await reader.readexactly(length)
        writer.write(CHUNKED)
        for _ in range(400):
            writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await writer.drain()
            sent += 65536
        writer.write(b"0\r\n\r\n")
        return True

    async with Server(script).running() as port, pool() as connections:
        answer = await connections.send(head(port), [b"{}"])
        await asyncio.sleep(0.3)
        assert sent < 400 * 65536
        assert answer._unread < 2_000_000
        assert sum([len(piece) async for piece in answer.aiter_bytes()]) == 400 * 65536


async def test_tls(tmp_path):
    """A server whose certificate is trusted is asked; one whose certificate is not is a ConnectError."""
    files = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    try:
        subprocess.run([*command, "-keyout", files[0], "-out", files[1]], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no certificate can be made: {error}")
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    theirs.load_cert_chain(files[1], files[0])
    ours = ssl.create_default_context(cafile=files[1])
    server = Server(says(OK))
    async with server.running(ssl=theirs) as port:
        connections = Pool(lambda: ours)
        for _ in range(3):
            answer = await connections.send(head(port, "localhost", tls=True), [b"{}"])
            assert await answer.aread() == b"ok"
        await connections.aclose()
        connections = Pool(tls_context)
        with pytest.raises(ConnectError) as caught:
            await connections.send(head(port, "localhost", tls=True), [b"{}"])
        assert isinstance(caught.value.__cause__, ssl.SSLError)
        await connections.aclose()
    assert server.connections <= 2


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\x00", b" a", b"Bearer "])
def test_no_header_smuggles_another(value):
    """What no header may hold is refused before anything is sent."""
    with pytest.raises(LocalProtocolError):
        written_head(b"POST", b"/", [(b"x", value)])


# -- as a client of httpx ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [httpx, httpx2], ids=lambda library: library.__name__)
async def test_as_a_transport(library):
    """Both libraries get their own responses and their own errors, and undo compression."""
    packed = zlib.compress(BODY)
    said = b"HTTP/1.1 200 OK\r\ncontent-encoding: deflate\r\ncontent-length: %d\r\n\r\n" % len(packed)
    server = Server(says(said, packed))
    client, connections = http_client(library, timeout=5)
    assert connections is not None
    async with server.running() as port, client:
        for _ in range(2):
            response = await client.post(f"http://127.0.0.1:{port}/x", json={"a": 1})
            assert (response.status_code, response.content) == (200, BODY)
        server.script = says(CHUNKED, b"5\r\nab", keep=False)
        with pytest.raises(library.RemoteProtocolError):
            await client.post(f"http://127.0.0.1:{port}/x", json={})
        with pytest.raises(library.UnsupportedProtocol):
            await client.post("ftp://127.0.0.1/", json={})
    with pytest.raises(library.ConnectError):
        async with http_client(library)[0] as client:
            await client.post(f"http://127.0.0.1:{port}/x", json={})
    assert server.bodies[0] in (b'{"a":1}', b'{"a": 1}')


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "http_proxy", "ALL_PROXY"])
async def test_a_proxy_in_the_environment_is_left_to_the_library(variable, monkeypatch):
    """Whoever has a proxy is not sent past it."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    client, connections = http_client(httpx2)
    assert connections is None
    await client.aclose()


async def test_who_has_no_proxy_needs_no_exception(monkeypatch):
    """NO_PROXY alone, which many machines have, changes nothing."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NO_PROXY", "localhost")
    client, connections = http_client(httpx2)
    assert connections is not None
    await client.aclose()


@pytest.mark.parametrize("argument", [{"http2": False}, {"verify": False}, {"limits": httpx2.Limits()}])
async def test_who_says_how_to_connect_is_obeyed(argument):
    """Arguments about connections are the library's matter."""
    client, connections = http_client(httpx2, **argument)
    assert connections is None
    await client.aclose()


# -- requests written again --------------------------------------------------------------------------------------------


class Sdk:
    """Writes requests in the manner of an SDK, with *headers* of its own, and raises for refusals."""

    def __init__(self, client, port, headers=dict):
        self.client, self.url, self.headers, self.asked = client, f"http://127.0.0.1:{port}/x", headers, []

    async def ask(self, body):
        self.asked.append(body is None)
        response = await self.client.post(self.url, json=body or {}, headers=self.headers())
        return response.raise_for_status()


@contextlib.asynccontextmanager
async def repeating(script, headers=dict):
    server = Server(script)
    client, connections = http_client(httpx2, timeout=1)
    async with server.running() as port, client:
        yield server, Sdk(client, port, headers), Again(httpx2, connections)


async def test_the_third_request_is_written_from_the_head_of_the_first():
    """Once the SDK has written the same head twice it is not asked again; each body is the request's own."""
    async with repeating(says(OK)) as (server, sdk, again):
        for number in range(5):
            answer = await again.send("k", {"n": number}, sdk.ask)
            assert await answer.aread() == b"ok"
        assert sdk.asked == [False, False]
    assert [body.replace(b" ", b"") for body in server.bodies] == [b'{"n":%d}' % number for number in range(5)]
    assert server.connections == 1


async def test_a_head_that_changes_is_written_by_the_sdk_each_time():
    """A nonce, a trace or a fresh token is never sent a second time; and no key means: ask the SDK."""
    count = iter(range(100))
    async with repeating(says(OK), lambda: {"x-nonce": str(next(count))}) as (_, sdk, again):
        for _ in range(4):
            await again.send("k", {}, sdk.ask)
        assert sdk.asked == [False] * 4
    async with repeating(says(OK)) as (_, sdk, again):
        for _ in range(4):
            await again.send(None, {}, sdk.ask)
        assert sdk.asked == [False] * 4


async def test_cookies_are_not_written_again():
    """A cookie that an answer set stays with the client that has it."""
    said = b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 2\r\n\r\nok"
    async with repeating(says(said)) as (server, sdk, again):
        for _ in range(4):
            await again.send("k", {}, sdk.ask)
        assert len(sdk.asked) == 2
        assert [b"cookie" in head.lower() for head in server.heads] == [False, True, False, False]


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (says(b"HTTP/1.1 503 -\r\ncontent-length: 2\r\n\r\nno"), httpx2.HTTPStatusError),
        (says(b"HTTP/1.1 302 -\r\nlocation: /y\r\ncontent-length: 2\r\n\r\nno"), httpx2.HTTPStatusError),
        (says(keep=False), httpx2.RemoteProtocolError),
        (says(keep=False, end="silence"), httpx2.ReadTimeout),
    ],
    ids=["503", "302", "closed", "silent"],
)
async def test_the_sdk_says_what_went_wrong(script, error):
    """The SDK gets the answer to a request of its own, and raises what it raises; the server is asked once."""
    async with repeating(says(OK)) as (server, sdk, again):
        for _ in range(3):
            await again.send("k", {}, sdk.ask)
        server.script, server.requests = script, 0
        with pytest.raises(error):
            await again.send("k", {}, sdk.ask)
        assert server.requests == 1
        assert sdk.asked == [False, False, True]


async def test_what_is_no_json_is_left_to_the_sdk():
    """It may know how to write it, or says what is wrong."""
    async with repeating(says(OK)) as (_, sdk, again):
        for body in ({}, {}, {"a": object()}, {"a": float("nan")}, {"a": "\ud800"}):
            await again.send("k", body, lambda _: sdk.ask({}))
        assert sdk.asked == [False] * 5


async def test_the_sdk_never_writes_a_long_text():
    """It gets marks for them, which only the server never sees: what arrives is the whole, first time and later."""
    value = {"a": [1, LONG, {"b": LONG + "x"}], "c": "short"}
    given = []

    async with repeating(says(OK)) as (server, sdk, again):

        def ask(body):
            given.append(json.dumps(body))
            return sdk.ask(body)

        for _ in range(3):
            await again.send("k", value, ask)
        await again.send(None, value, ask)
    assert [json.loads(body) for body in server.bodies] == [value] * 4
    assert len(given) == 3
    assert max(map(len, given)) < 500


LONG = 'é"\\\n\x01\u2028😀' * 60_000


@pytest.mark.parametrize("value", [{"a": [1, LONG, {"b": LONG + "x"}], "c": "short"}, {"a": LONG}, {}, LONG])
async def test_a_long_text_is_written_in_pieces(value):
    """The pieces together are the JSON of the whole; none takes long to write."""
    pieces = await written(value)
    assert json.loads(b"".join(pieces)) == value == json.loads(dumps(value))
    assert max(map(len, pieces)) < 3_000_000


def test_a_pool_for_each_loop():
    """Every event loop has connections of its own: runs one after another share nothing that has ended."""

    async def run():
        server = Server(says(OK))
        async with server.running() as port, pool() as connections:
            return await asked(connections, port)

    assert [asyncio.run(run()) for _ in range(3)] == [b"ok"] * 3


async def test_a_head_is_learnt_from_refused_requests_too():
    """A server that only ever refuses costs no more than one that answers."""
    async with repeating(says(b"HTTP/1.1 503 -\r\ncontent-length: 2\r\n\r\nno")) as (server, sdk, again):
        for _ in range(4):
            with pytest.raises(httpx2.HTTPStatusError):
                await again.send("k", {}, sdk.ask)
        assert sdk.asked == [False, False, True, True]
        assert server.requests == 4
