"""Whatever a server of OpenAI's dialect does wrong: one request, one of our errors, no connection left."""

import asyncio
import gc
import json
import traceback

import httpx2
import pytest

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    ContentBlocked,
    ContextTooLong,
    ModelNotFound,
    NotConfigured,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    StreamBroken,
    TimedOut,
    UnsupportedFeature,
)
from modelhub.providers.openai import OpenAIChatModel
from tests.tables import table

SSE = "text/event-stream"


def error(message="no", **fields):
    """An error's body."""
    return {"error": {"message": message, "type": None, "param": None, "code": None, **fields}}


def chunk(content=None, finish=None, **fields):
    """One event with a chunk."""
    delta = {} if content is None else {"content": content}
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return event({"id": "c1", "model": "m1", "choices": choices, **fields})


def event(value, name=""):
    """One event."""
    return f"{f'event: {name}' if name else ''}\ndata: {json.dumps(value)}\n\n".lstrip("\n")


DONE = "data: [DONE]\n\n"


def model_at(loopback):
    """A model on the scripted server, which hears nothing for at most 0.3 s."""
    arguments = {"timeout": httpx2.Timeout(0.3, connect=5.0)}
    return OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1", client_args=arguments)


async def fails(loopback, kind, stream=False, model=None):
    """Ask; the error, which must be of *kind*, after one request and with no connection left busy."""
    async with model or model_at(loopback) as model:
        with pytest.raises(kind) as caught:
            await ask(model, stream)
        assert type(caught.value) is kind
        assert len(loopback.asked) == 1
    await loopback.idle()
    return caught.value


async def ask(model, stream):
    """The complete reply."""
    reply = await model("hi", stream=stream)
    return await reply.final() if stream else reply


STATUSES = [
    (400, {}, RequestRefused),
    (400, {"code": "context_length_exceeded"}, ContextTooLong),
    (400, {"code": "content_filter"}, ContentBlocked),
    (400, {"code": "unsupported_value"}, UnsupportedFeature),
    (400, {"message": "This model's maximum context length is 8 tokens."}, ContextTooLong),
    (400, {"code": "tool_use_failed"}, BadReply),
    (401, {"code": "invalid_api_key"}, AuthenticationFailed),
    (402, {}, QuotaExhausted),
    (403, {}, AuthenticationFailed),
    (404, {"code": "model_not_found"}, ModelNotFound),
    (408, {}, ServerError),
    (409, {}, ServerError),
    (413, {}, RequestRefused),
    (422, {}, RequestRefused),
    (429, {"code": "rate_limit_exceeded"}, RateLimited),
    (429, {"code": "insufficient_quota", "type": "insufficient_quota"}, QuotaExhausted),
    (500, {}, ServerError),
    (502, {}, ServerError),
    (503, {}, Overloaded),
    (529, {}, Overloaded),
]


@table("stream", [False, True])
@table(("status", "fields", "kind"), STATUSES)
async def test_a_status_is_one_of_our_classes(loopback, status, fields, kind, stream):
    """Every status and code, at a call and at a stream's opening, comes out as the class that the table says."""
    loopback.answers(error(**fields), status=status, x_request_id="req_7")
    caught = await fails(loopback, kind, stream)
    assert (caught.status, caught.code) == (status, fields.get("code"))
    assert (caught.request_id, caught.provider, caught.model) == ("req_7", "openai", "m")
    assert str(caught).startswith(f"127.0.0.1 said {status}: ")


@table(
    ("headers", "seconds"),
    [({"retry_after": "7"}, 7), ({"retry_after": "7", "retry_after_ms": "1500"}, 1.5), ({}, None)],
)
async def test_a_429_says_how_long_to_wait(loopback, headers, seconds):
    """What the vendor asks to wait stands on the error, in seconds."""
    loopback.answers(error(), status=429, **headers)
    assert (await fails(loopback, RateLimited)).retry_after == seconds


@table(
    ("body", "status", "content_type", "kind"),
    [
        (b"<html>bad gateway</html>", 502, "text/html", ServerError),
        (b"", 500, "application/json", ServerError),
        (b'{"error": {"mess', 400, "application/json", RequestRefused),
        (b'"no"', 400, "application/json", RequestRefused),
        (b'{"message": "Unauthorized"}', 401, "application/json", AuthenticationFailed),
        (b'{"detail": [{"msg": "wrong"}]}', 422, "application/json", RequestRefused),
        (b'{"code": "x", "error": "words"}', 400, "application/json", RequestRefused),
        (b'{"id": "c1", "choi', 200, "application/json", BadReply),
        (b"<html>log in</html>", 200, "text/html", BadReply),
        (b"", 200, "application/json", BadReply),
        (b"[]", 200, "application/json", BadReply),
        (b"{}", 200, "application/json", BadReply),
        (b'{"choices": []}', 200, "application/json", BadReply),
        (b'{"choices": [{"index": 0}]}', 200, "application/json", BadReply),
        (b'{"choices": [null]}', 200, "application/json", BadReply),
        (b'{"choices": {"a": 1}}', 200, "application/json", BadReply),
        (json.dumps(error(code=429)).encode(), 200, "application/json", RateLimited),
        (json.dumps(error(type="server_error")).encode(), 200, "application/json", ServerError),
        (json.dumps(error()).encode(), 200, "application/json", ServerError),
        (b'{"object": "error", "message": "no", "code": 404}', 200, "application/json", ModelNotFound),
    ],
)
@table("stream", [False, True])
async def test_a_body_that_is_no_answer_is_an_error(loopback, body, status, content_type, kind, stream):
    """Garbled, empty, foreign and mistaken bodies are errors of ours, asked for as a stream or not."""
    loopback.answers(body, status=status, content_type=content_type)
    await fails(loopback, kind, stream)


@pytest.mark.parametrize("stream", [False, True])
async def test_nobody_listens(stream):
    """A refused connection is ConnectFailed."""
    async with OpenAIChatModel("m", "key-of-test", base_url="http://127.0.0.1:9/v1") as model:
        with pytest.raises(ConnectFailed):
            await ask(model, stream)


@table("stream", [False, True])
@table(("end", "kind"), [("cut", ConnectionLost), ("reset", ConnectionLost), ("hang", TimedOut)])
async def test_the_connection_ends_before_an_answer(loopback, end, kind, stream):
    """Closed, reset or silent before the first byte: a lost connection, or time run out."""
    loopback.breaks(end=end)
    await fails(loopback, kind, stream)


@table(("end", "kind"), [("cut", ConnectionLost), ("reset", ConnectionLost), ("hang", TimedOut)])
async def test_a_whole_answer_is_cut(loopback, end, kind):
    """An answer that stops in its middle is a lost connection, or time run out."""
    loopback.breaks(b'HTTP/1.1 200 -\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"id"', end)
    await fails(loopback, kind)


async def test_no_free_connection(loopback):
    """Waiting for a connection of an exhausted pool ends as ConnectTimeout."""
    limits, timeout = httpx2.Limits(max_connections=1), httpx2.Timeout(5, pool=0.1)
    async with httpx2.AsyncClient(limits=limits) as client:
        arguments = {"http_client": client, "timeout": timeout}
        model = OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1", client_args=arguments)
        loopback.breaks(end="hang")
        first = asyncio.ensure_future(model("hi", stream=False))
        await asyncio.sleep(0.05)
        with pytest.raises(ConnectTimeout):
            await model("hi", stream=False)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
    await loopback.idle()


async def test_a_redirect_is_not_followed(loopback):
    """The conversation is not sent to an address that the server names; the error says which it was."""
    loopback.answers(b"", status=307, location="https://elsewhere.example/v1")
    caught = await fails(loopback, NotConfigured)
    assert "elsewhere.example" in str(caught)
    assert "base_url" in str(caught)


# Streams: the fault comes before any content, then behind some.

FAULTS = [
    ([], "cut", ConnectionLost),
    ([], "reset", ConnectionLost),
    ([], "hang", TimedOut),
    ([], "clean", BadReply),
    ([DONE], "clean", BadReply),
    (['data: {"id": "c1", "choi'], "clean", BadReply),
    (['data: {"id": "c1", "choi\n\n'], "clean", BadReply),
    (["data: junk\n\n"], "clean", BadReply),
    (["data: []\n\n"], "clean", BadReply),
    ([event(error(type="server_error"))], "clean", ServerError),
    ([event(error(code="rate_limit_exceeded"))], "clean", RateLimited),
    ([event(error(code=502))], "hang", ServerError),
    ([event(error("context", code="context_length_exceeded"))], "clean", ContextTooLong),
    ([event({"message": "no", "code": "insufficient_quota"}, "error")], "clean", QuotaExhausted),
    ([event({"detail": "no"}, "error")], "clean", ServerError),
    ([event({"object": "error", "message": "no", "code": 503})], "clean", Overloaded),
    ([chunk(finish="error")], "clean", ServerError),
    ([chunk(finish="insufficient_system_resource")], "clean", Overloaded),
    (
        [event({"choices": [{"index": 0, "delta": {}, "error": {"code": 429}, "finish_reason": "error"}]})],
        "clean",
        RateLimited,
    ),
]


@table(("pieces", "end", "kind"), FAULTS)
async def test_a_stream_fails_before_its_content(loopback, pieces, end, kind):
    """Nothing has been seen yet: the call itself raises what happened."""
    loopback.streams(": hello\n\n", chunk(""), *pieces, content_type=SSE, end=end)
    await fails(loopback, kind, stream=True)


@table(("pieces", "end", "kind"), [fault for fault in FAULTS if fault[0] != [DONE]])
async def test_a_stream_breaks_behind_its_content(loopback, pieces, end, kind):
    """Something has been seen: StreamBroken, with what came and the reason."""
    loopback.streams(chunk("half an "), chunk("answer"), *pieces, content_type=SSE, end=end)
    caught = await fails(loopback, StreamBroken, stream=True)
    assert type(caught.__cause__) is kind
    assert caught.partial.text == "half an answer"


@table("body", [b"", b"\n\n", b": nothing\n\n"])
async def test_an_empty_stream_is_an_error(loopback, body):
    """A stream without any event is no answer."""
    loopback.answers(body, content_type=SSE)
    assert "finish_reason" in str(await fails(loopback, BadReply, stream=True))


@table("end", ["clean", "cut", "reset", "hang"])
async def test_what_comes_behind_the_end_does_not_matter(loopback, end):
    """With its finish_reason seen an answer is complete, however the connection ends."""
    loopback.streams(chunk("all"), chunk(finish="stop"), DONE, content_type=SSE, end=end)
    async with model_at(loopback) as model:
        reply = await ask(model, True)
    assert (reply.text, reply.finish_reason, reply.is_last) == ("all", "stop", True)
    await loopback.idle()


async def test_what_is_no_event_is_passed_over(loopback):
    """Comments, unknown fields and lines without a colon are no events."""
    loopback.streams(": ping\n\n", "retry: 5\n\n", "junk\n\n", chunk("a"), chunk(finish="stop"), content_type=SSE)
    async with model_at(loopback) as model:
        assert (await ask(model, True)).text == "a"


async def test_a_whole_answer_in_the_place_of_a_stream(loopback):
    """A server that does not stream is understood all the same."""
    body = {"id": "c1", "model": "m1", "choices": [{"message": {"content": "all"}, "finish_reason": "stop"}]}
    loopback.answers(body)
    async with model_at(loopback) as model:
        reply = await ask(model, True)
    assert (reply.text, reply.finish_reason, reply.id) == ("all", "stop", "c1")


async def forget(model):
    """Ask for a stream and drop it."""
    await model("hi")
    gc.collect()


@table("how", ["break", "aclose", "cancel", "forget"])
async def test_a_stream_that_is_left_gives_its_connection_back(loopback, how):
    """However a reader goes away, no connection stays busy, with the model still open."""
    model = OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1")
    loopback.streams(chunk("a"), chunk("b"), content_type=SSE, end="hang")
    seen = asyncio.Event()

    async def read():
        async with await model("hi") as stream:
            async for _ in stream:
                seen.set()
                if how == "break":
                    break
                if how == "aclose":
                    await stream.aclose()

    if how == "cancel":
        task = asyncio.ensure_future(read())
        await seen.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    elif how == "forget":
        with pytest.warns(ResourceWarning, match="never read"):
            await forget(model)
    else:
        await read()
    await loopback.idle()
    assert len(loopback.asked) == 1
    await model.aclose()


async def test_cancelling_an_open_call_gives_the_connection_back(loopback):
    """A call that is cancelled while it waits leaves nothing open, and the cancellation is not changed."""
    model = OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1")
    loopback.breaks(end="hang")
    task = asyncio.ensure_future(model("hi", stream=False))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await loopback.idle()
    await model.aclose()


async def test_connections_are_used_again(loopback):
    """Streams read to their end hand their connection to the next call."""
    loopback.streams(chunk("a"), chunk(finish="stop"), DONE, content_type=SSE)
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        for _ in range(3):
            await ask(model, True)
        assert (len(loopback.asked), loopback.open) == (3, 1)
    await loopback.idle()


async def test_a_key_that_the_vendor_echoes_is_not_shown(loopback):
    """Neither message, repr nor traceback has the key, though the vendor's words do."""
    key = "sk-very-secret-4711"
    model = OpenAIChatModel("m", key, base_url=f"{loopback.url}/v1")
    loopback.answers(error(f"Incorrect API key provided: {key}", code="invalid_api_key"), status=401)
    caught = await fails(loopback, AuthenticationFailed, model=model)
    shown = "".join(traceback.format_exception(caught)) + str(caught) + repr(caught) + repr(model) + str(vars(model))
    assert key not in shown
    assert "***" in str(caught)
