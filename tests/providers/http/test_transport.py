"""Transports: what every one of them promises, whatever library stands behind it."""

import asyncio
import gc
import socket
import threading
import traceback
import warnings
import zlib
from itertools import count

import aiohttp
import httpx
import httpx2
import pytest

from modelhub.core.errors import BadReply, CallError, ConnectFailed, ConnectionLost, HubClosed, NotConfigured, TimedOut
from modelhub.providers.http import HttpRequest
from modelhub.providers.http.aiohttp_transport import AiohttpTransport
from modelhub.providers.http.failures import AIOHTTP_ERRORS, HTTPX_ERRORS, call_error_from
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.http.loopback import OK, Server, open_transport, reply, request_to, stay_silent
from tests.tables import table

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
KEY = "sk-verysecretkey-0123456789"


def gzipped(data):
    packer = zlib.compressobj(wbits=31)
    return packer.compress(data) + packer.flush()


def with_length(body, *headers):
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"Content-Length: %d" % len(body), *headers, b"", body])


# -- answers -------------------------------------------------------------------------------------------------------


@table(
    ("pieces", "keep", "body"),
    [
        ([with_length(b"whole")], True, b"whole"),
        (
            [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n\r\n"],
            True,
            b"abcde",
        ),
        ([b"HTTP/1.1 200 OK\r\n\r\n", b"until the end"], False, b"until the end"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], True, b""),
        ([with_length(gzipped(b"small"), b"Content-Encoding: gzip")], True, b"small"),
        ([b"HTTP/1.1 103 Hints\r\n\r\n", with_length(b"after hints")], True, b"after hints"),
    ],
    ids=["length", "chunks", "until close", "no body", "gzip", "hints"],
)
@table("streamed", [False, True])
async def test_a_body_is_read_however_it_is_framed(transport, pieces, keep, body, streamed):
    """At once or in chunks, the body is the same."""
    async with Server(reply(*pieces, keep=keep)).running() as server:
        response = await transport.send(request_to(server.url))
        chunks = [chunk async for chunk in response.aiter_bytes()] if streamed else [await response.read()]
        await response.aclose()
    assert b"".join(chunks) == body


async def test_the_request_is_sent_as_it_was_written(transport):
    """Path, query, names of headers and body are those of the request."""
    async with Server(reply(OK)).running() as server:
        response = await transport.send(request_to(f"{server.url}/a%2Fb?q=%20x&r=1", b'{"a": 1}'))
        assert await response.read() == b"ok"
    assert server.heads[0].startswith("POST /path/a%2Fb?q=%20x&r=1 HTTP/1.1\r\n")
    assert "\r\nX-Name: value\r\n" in server.heads[0]
    assert server.bodies == [b'{"a": 1}']


async def test_who_waits_for_the_request_to_be_written_is_called_then(transport):
    """Once, before the server has the request, which arrives as without it."""
    calls = []
    async with Server(reply(OK)).running() as server:
        request = request_to(server.url, b'{"a": 1}')._replace(on_sent=lambda: calls.append(len(server.bodies)))
        assert await (await transport.send(request)).read() == b"ok"
    assert (calls, server.bodies) == ([0], [b'{"a": 1}'])
    assert "Content-Length: 8\r\n" in server.heads[0]
    assert "chunked" not in server.heads[0]


async def test_many_headers_at_once_are_kept_apart(transport):
    """However many kinds of headers there are at once, each request is sent with its own, and answered."""
    every_request_is_here, names = asyncio.Event(), [f"n{number}" for number in range(80)]

    async def answer(reader, writer):
        if len(server.heads) == len(names):
            every_request_is_here.set()
        await every_request_is_here.wait()
        writer.write(OK)

    async def ask(name):
        return await (await transport.send(request_to(server.url, headers={"X-Name": name}))).read()

    async with Server(answer).running() as server:
        assert set(await asyncio.gather(*map(ask, names))) == {b"ok"}
    assert sorted(head.partition("X-Name: ")[2].partition("\r\n")[0] for head in server.heads) == sorted(names)


async def test_requests_share_headers_and_have_their_own(transport):
    """What a request has of its own, such as a trace, is not sent with the next one."""
    shared = {"X-Shared": "1"}
    async with Server(reply(OK)).running() as server:
        for own in ({"X-Own": "a"}, {"X-Shared": "2"}, {}):
            request = HttpRequest(server.url, shared, [b"{}"], own_headers=own)
            await (await transport.send(request)).read()
    sent = [[line for line in head.split("\r\n") if line.startswith(("X-Shared", "X-Own"))] for head in server.heads]
    assert sent == [["X-Shared: 1", "X-Own: a"], ["X-Shared: 2"], ["X-Shared: 1"]]


async def test_many_sets_of_headers_do_not_fill_the_memory():
    """Sessions that are no longer used are given up, and connections are shared by all."""
    async with Server(reply(OK)).running() as server, open_transport("aiohttp") as transport:
        for number in range(200):
            await (await transport.send(HttpRequest(server.url, {"X-Number": str(number)}, [b"{}"]))).read()
    assert server.connections == 1
    assert "X-Number: 199" in server.heads[-1]


async def test_names_of_headers_are_found_in_any_case(transport):
    """Servers and proxies write them as they like."""
    async with Server(reply(with_length(b"", b"X-Request-ID: abc"))).running() as server:
        response = await transport.send(request_to(server.url))
        await response.aclose()
    assert response.headers["x-request-id"] == response.headers.get("X-REQUEST-ID") == "abc"


async def test_a_redirect_is_not_followed(transport):
    """The conversation is not sent to a place that nobody chose."""
    script = reply(b"HTTP/1.1 307 Temporary\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
    async with Server(script).running() as server:
        response = await transport.send(request_to(server.url))
        await response.read()
    assert (response.status, response.headers["location"]) == (307, "http://127.0.0.1:9/")
    assert len(server.heads) == 1


# -- connections -----------------------------------------------------------------------------------------------------


async def test_a_connection_is_used_again(transport):
    """After an answer that was read to its end, and after one that has none."""
    async with Server(reply(OK)).running() as server:
        for _ in range(3):
            response = await transport.send(request_to(server.url))
            assert await response.read() == b"ok"
            await response.aclose()
    assert (server.connections, len(server.heads)) == (1, 3)


async def test_a_connection_that_ended_meanwhile_is_not_used_again():
    """The server closed it while the event loop had other things to do: the next request does not fail for it."""
    async with Server(reply(OK)).running() as server, open_transport("aiohttp") as transport:
        await (await transport.send(request_to(server.url))).read()
        server.script = reply(OK, keep=False)
        await (await transport.send(request_to(server.url))).read()
        await server.closed.wait()
        assert await (await transport.send(request_to(server.url))).read() == b"ok"
    assert server.connections == 2


async def test_an_abandoned_answer_closes_its_connection(transport):
    """A model that goes on writing for nobody costs money."""
    numbers = count()

    async def endless(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in numbers:
            writer.write(b"4\r\ntext\r\n")
            await writer.drain()
            await asyncio.sleep(0)

    async with Server(endless).running() as server, asyncio.timeout(10):
        response = await transport.send(request_to(server.url))
        async for _ in response.aiter_bytes():
            break
        await response.aclose()
        await server.closed.wait()
    assert server.open == 0


@pytest.mark.parametrize("cyclic", [False, True])
async def test_a_forgotten_answer_closes_its_connection(cyclic):
    """Without a warning that it was not closed, also where the garbage collector finds it."""
    script = reply(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegin")
    async with Server(script).running() as server, open_transport("aiohttp") as transport, asyncio.timeout(10):
        response = await transport.send(request_to(server.url))
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b"begin"
        if cyclic:
            cycle = [response, chunks]
            cycle.append(cycle)
            del cycle
        del response, chunks
        gc.collect()
        await server.closed.wait()


async def test_a_cancelled_request_closes_its_connection(transport):
    """Also while its answer is waited for."""
    async with Server(stay_silent).running() as server, asyncio.timeout(10):
        task = asyncio.create_task(transport.send(request_to(server.url)))
        while not server.heads:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.closed.wait()


async def test_a_request_is_never_sent_twice(transport):
    """Not even when a connection that was used before is closed without an answer: it may have been received."""
    async with Server(reply(OK)).running() as server:
        await (await transport.send(request_to(server.url))).read()
        server.script = reply(keep=False)
        with pytest.raises(ConnectionLost):
            await transport.send(request_to(server.url, b"once"))
        server.script = reply(OK, reset=True)
    assert server.bodies.count(b"once") == 1


# -- failures --------------------------------------------------------------------------------------------------------


@table(
    ("script", "cls"),
    [
        (reply(keep=False), ConnectionLost),
        (reply(reset=True, keep=False), ConnectionLost),
        (stay_silent, TimedOut),
    ],
    ids=["closed", "reset", "silent"],
)
async def test_no_answer_is_a_failure_that_may_have_been_billed(transport, script, cls):
    """The class says what may be done about it; the text names the server."""
    async with Server(script).running() as server:
        with pytest.raises(cls) as caught:
            await transport.send(request_to(server.url, read=0.05))
    assert f"127.0.0.1:{server.port}" in str(caught.value)


@table(
    "pieces",
    [
        [b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4\r\nhalf\r\n"],
    ],
    ids=["length", "chunks"],
)
async def test_an_answer_that_is_cut_off_is_never_a_short_answer(transport, pieces):
    """What came is given, then the failure."""
    async with Server(reply(*pieces, keep=False)).running() as server:
        response = await transport.send(request_to(server.url))
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b"half"
        with pytest.raises(ConnectionLost):
            await anext(chunks)


async def test_what_came_before_a_failure_is_given_first(transport):
    """Also where both were there before anybody read: an answer may be complete but for its last bytes."""
    script = reply(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"half", keep=False)
    async with Server(script).running() as server:
        response = await transport.send(request_to(server.url))
        await server.closed.wait()
        for _ in range(5):
            await asyncio.sleep(0.001)
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b"half"
        with pytest.raises(ConnectionLost):
            await anext(chunks)


async def test_silence_in_an_answer_is_a_failure(transport):
    """The time is counted from the last bytes."""

    async def begin(reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        return await stay_silent(reader, writer)

    async with Server(begin).running() as server:
        response = await transport.send(request_to(server.url, read=0.05))
        with pytest.raises(TimedOut):
            await response.read()


async def test_nobody_listens(transport):
    """Nothing was sent; the text says so."""
    async with Server(reply(OK)).running() as server:
        pass
    with pytest.raises(ConnectFailed, match=r"refused|cannot connect"):
        await transport.send(request_to(server.url))


async def test_what_is_not_http_is_a_failure(transport):
    """It is neither an answer nor an unknown failure."""
    async with Server(reply(b"220 mail.example ESMTP\r\n\r\n", keep=False)).running() as server:
        with pytest.raises((BadReply, ConnectionLost)):
            await transport.send(request_to(server.url))


@table("value", ["a\r\nInjected: yes", "a\nb", "a\0b"])
async def test_no_header_smuggles_another(transport, value):
    """A value with a line break is refused before anything is sent."""
    async with Server(reply(OK)).running() as server:
        with pytest.raises(CallError) as caught:
            await (await transport.send(request_to(server.url, headers={"X-Bad": value}))).read()
    assert not any("Injected: yes" in head.split("\r\n") for head in server.heads)
    assert caught.value.__class__ in (NotConfigured, ConnectionLost, TimedOut, BadReply)


async def test_an_address_that_cannot_be_used(transport):
    """It is a matter of the configuration."""
    with pytest.raises(NotConfigured):
        await transport.send(request_to("ftp://127.0.0.1/x"))


def exceptions_of(module):
    found = {name: value for name, value in vars(module).items() if isinstance(value, type)}
    return {name: cls for name, cls in found.items() if issubclass(cls, Exception) and not name.startswith("_")}


def test_every_exception_of_aiohttp_has_a_row():
    """aiohttp is asked for them: a release with a new one fails here, not at a user."""
    missing = [
        name
        for name, cls in exceptions_of(aiohttp).items()
        if issubclass(cls, aiohttp.ClientError) and name not in AIOHTTP_ERRORS
    ]
    assert missing == []


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_every_exception_of_httpx_has_a_row(library):
    """Both are asked for theirs."""
    assert [name for name in exceptions_of(library) if name not in HTTPX_ERRORS] == []


def test_a_row_is_found_for_subclasses():
    """The most derived class that has a row decides."""

    class Derived(aiohttp.ServerDisconnectedError):
        pass

    failure = call_error_from(Derived(), AIOHTTP_ERRORS, "https://user:secret@host.example:8443/v1")
    assert type(failure) is ConnectionLost
    assert "host.example:8443" in str(failure)
    assert "secret" not in str(failure)


@table("script", [reply(keep=False), stay_silent], ids=["closed", "silent"])
async def test_no_header_is_in_a_frame_of_a_failure(transport, script):
    """Error trackers send local variables away; requests and responses are shown without headers."""
    async with Server(script).running() as server:
        request = request_to(server.url, headers={"Authorization": f"Bearer {KEY}"}, read=0.05)
        with pytest.raises(CallError) as caught:
            await transport.send(request)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "send" in shown
    assert KEY not in shown
    assert KEY not in repr(request)


# -- bounds ----------------------------------------------------------------------------------------------------------


async def drain(response):
    async for _ in response.aiter_bytes():
        pass


@table("kind", ["aiohttp", "httpx", "httpx2"])
@table("compressed", [False, True], ids=["plain", "bomb"])
@table("streamed", [False, True], ids=["read", "streamed"])
async def test_the_size_of_an_answer_is_bounded(kind, compressed, streamed):
    """Also of one that grows a thousandfold when it is unpacked, and of one without end."""
    body = gzipped(bytes(3_000_000)) if compressed else bytes(1_500_000)
    headers = [b"Content-Encoding: gzip"] if compressed else []
    async with (
        Server(reply(with_length(body, *headers))).running() as server,
        open_transport(kind, max_response_bytes=1_000_000) as transport,
    ):
        response = await transport.send(request_to(server.url))
        with pytest.raises(BadReply, match="larger than"):
            await (drain(response) if streamed else response.read())


@pytest.mark.parametrize("kind", ["aiohttp"])
async def test_a_large_request_arrives_whole_and_others_have_their_turn(kind):
    """20 MB are not written in one step of the event loop."""
    body = [bytes(range(256)) * 4096] * 20
    turns = 0

    async def take_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with Server(reply(OK)).running() as server, open_transport(kind) as transport:
        others = asyncio.create_task(take_turns())
        assert await (await transport.send(request_to(server.url, body))).read() == b"ok"
        others.cancel()
    assert server.bodies == [b"".join(body)]
    assert "\r\nContent-Length: 20971520\r\n" in server.heads[0]
    assert turns > 20


async def test_an_answer_before_the_request_is_over_is_seen():
    """A server that refuses a large request by its head does not read the rest of it."""

    async def refuse(reader, writer):
        await reader.read(1000)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
        await writer.drain()
        await asyncio.sleep(0.05)
        return False

    async with Server(refuse, read_body=False).running() as server, open_transport("aiohttp") as transport:
        async with asyncio.timeout(10):
            response = await transport.send(request_to(server.url, [bytes(1_000_000)] * 20))
            assert (response.status, await response.read()) == (413, b"too large")
            await response.aclose()


async def test_an_answer_before_a_reset_is_seen():
    """A server that refuses and closes at once resets the connection, for it has not read all: its answer was sent."""
    accepted, closed = threading.Event(), threading.Event()

    def refuse(listener):
        connection, _ = listener.accept()
        accepted.set()
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 9\r\n\r\ntoo large")
        connection.close()
        closed.set()

    class Body(list):
        """The event loop has no chance to read the answer between the reset and the next write."""

        def __iter__(self):
            for number, piece in enumerate(super().__iter__()):
                if number and accepted.is_set():
                    closed.wait(10)
                yield piece

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        request = HttpRequest(url, {}, Body([bytes(1_000_000)] * 4))
        server = threading.Thread(target=refuse, args=[listener])
        async with open_transport("aiohttp") as transport:
            server.start()
            async with asyncio.timeout(10):
                response = await transport.send(request)
                assert (response.status, await response.read()) == (413, b"too large")
                await response.aclose()
        server.join()


@table("coding", [b"gzip", b"deflate", b"br", b"zstd"])
async def test_a_compression_that_cannot_be_undone_is_said(coding):
    """It is an answer that cannot be read, not a connection that broke."""
    script = reply(with_length(b"not compressed", b"Content-Encoding: " + coding))
    async with Server(script).running() as server, open_transport("aiohttp") as transport:
        with pytest.raises(BadReply, match="compression"):
            await (await transport.send(request_to(server.url))).read()


async def test_a_switch_of_protocols_is_refused():
    """Nobody asked for one; the connection is closed, and nothing is left to warn of."""
    script = reply(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    async with Server(script).running() as server, open_transport("aiohttp") as transport:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with pytest.raises(BadReply, match="another protocol"):
                await transport.send(request_to(server.url))
            gc.collect()
        await server.closed.wait()
    assert not caught


@table(
    "pieces",
    [
        [CHUNKED, b"\r\n0\r\n", *[b"X: a\r\n" * 20_000] * 40],
        [CHUNKED, b"Content-Length: -1\r\n\r\n0\r\n\r\n"],
        [CHUNKED, b"X: a\0b\r\n\r\n0\r\n\r\n"],
        [CHUNKED.replace(b"chunked", b"chunked\x0b"), b"\r\n0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\nX: ", *[b"a" * 100_000] * 20],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"],
    ],
    ids=["endless trailers", "negative length", "NUL in a header", "unknown coding", "endless header", "two lengths"],
)
async def test_garbled_framing_ends(pieces):
    """It is refused, or an answer without a body; it never goes on for ever and never makes up a body."""
    async with Server(reply(*pieces, keep=False)).running() as server, open_transport("aiohttp") as transport:
        try:
            async with asyncio.timeout(10):
                body = await (await transport.send(request_to(server.url))).read()
        except (BadReply, ConnectionLost):
            return
    assert body == b""


# -- loops and surroundings --------------------------------------------------------------------------------------------


async def test_closing_ends_what_is_under_way():
    """Requests under way fail, nothing is sent afterwards, and nothing is left open."""
    async with Server(stay_silent).running() as server, asyncio.timeout(10):
        transport = AiohttpTransport()
        task = asyncio.create_task(transport.send(request_to(server.url)))
        while not server.heads:
            await asyncio.sleep(0.001)
        await transport.aclose()
        with pytest.raises(ConnectionLost):
            await task
        with pytest.raises(HubClosed):
            await transport.send(request_to(server.url))
        await server.closed.wait()
    assert len(server.heads) == 1


def test_each_loop_has_connections_of_its_own_which_end_with_it():
    """One transport serves several calls of `asyncio.run`."""
    transport = AiohttpTransport()

    async def call():
        async with Server(reply(OK)).running() as server, asyncio.timeout(10):
            return await (await transport.send(request_to(server.url))).read()

    assert [asyncio.run(call()) for _ in range(3)] == [b"ok"] * 3
    gc.collect()


@table("forgotten", ["by a loop that goes on", "by a loop that ended", "with its loop"])
def test_a_transport_that_nobody_closed_logs_nothing(forgotten, caplog):
    """aiohttp complains in the log of each session and each connection pool that the garbage collector finds open."""
    kept = []

    async def call():
        async with Server(reply(OK)).running() as server, asyncio.timeout(10):
            transport = AiohttpTransport()
            await (await transport.send(request_to(server.url))).read()
            if forgotten == "by a loop that goes on":
                del transport
                gc.collect()
                await server.closed.wait()
            else:
                kept.append(transport)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(call())
    if forgotten == "with its loop":
        kept.append(loop)
    loop.close()
    del loop
    kept.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's own, for the loop that nobody shut down
        gc.collect()
    assert not caplog.records


async def test_a_cancelled_connect_leaves_no_socket():
    """The warning for an unclosed socket would fail this test; one address or several make no difference."""
    async with Server(stay_silent).running() as server, open_transport("aiohttp") as transport:
        for host in ("127.0.0.1", "localhost"):
            for turns in range(12):
                url = f"http://{host}:{server.port}/"
                tasks = [asyncio.create_task(transport.send(request_to(url))) for _ in range(3)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
    gc.collect()


@pytest.mark.skipif(not hasattr(asyncio, "eager_task_factory"), reason="needs Python 3.12")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_eager_tasks_connect(host):
    """Tasks that begin at once do not disturb connecting."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    async with Server(reply(OK)).running() as server, open_transport("aiohttp") as transport:
        assert await (await transport.send(request_to(f"http://{host}:{server.port}/"))).read() == b"ok"


async def test_instrumentation_of_aiohttp_sees_each_request(monkeypatch):
    """OpenTelemetry and Sentry hand `trace_configs` to every session: each request gets a trace of its own."""
    numbers = count()
    config = aiohttp.TraceConfig()

    async def add_trace(session, context, params):
        params.headers["traceparent"] = f"trace-{next(numbers)}"

    config.on_request_start.append(add_trace)
    original = aiohttp.ClientSession.__init__

    def instrumented(self, *args, **kwargs):
        original(self, *args, **kwargs, trace_configs=[config])

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", instrumented)
    request = request_to("")
    async with Server(reply(OK)).running() as server, open_transport("aiohttp") as transport:
        for _ in range(3):
            await (await transport.send(request_to(server.url))).read()
    traces = [line for head in server.heads for line in head.split("\r\n") if line.startswith("traceparent")]
    assert traces == ["traceparent: trace-0", "traceparent: trace-1", "traceparent: trace-2"]
    assert "traceparent" not in request.headers


async def test_two_answers_are_never_mixed_under_cancellation():
    """Each request gets its own answer, however many are given up around it."""

    async def echo(reader, writer):
        body = server.bodies[-1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        await asyncio.sleep(0)
        writer.write(body)
        return True

    server = Server(echo)
    async with server.running(), open_transport("aiohttp") as transport:

        async def call(number):
            body = b"request %d" % number
            response = await transport.send(request_to(server.url, body))
            assert await response.read() == body

        for first in range(0, 300, 10):
            tasks = [asyncio.create_task(call(first + n)) for n in range(10)]
            for _ in range(first % 7):
                await asyncio.sleep(0)
            for task in tasks[:: 2 + first % 3]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results), results


@pytest.mark.parametrize("timeout", [(1.0, 0.05), [1.0, 0.05, 9.0, 9.0]], ids=["tuple", "list"])
async def test_a_tuple_of_timeouts_is_heeded(timeout):
    """It says what httpx's does: connect, read, write, pool."""
    async with Server(stay_silent).running() as server:
        model = OpenAIChatModel("m", "k", base_url=server.url, client_args={"timeout": timeout})
        async with asyncio.timeout(5):
            with pytest.raises(TimedOut):
                await model("hi", stream=False)
        await model.aclose()
