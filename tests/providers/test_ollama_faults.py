"""What Ollama, its host or the network can do wrong, and the one class of ours that comes out."""

import asyncio
import json
import traceback

import httpx
import pytest

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
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
from modelhub.providers.ollama import OllamaChatModel
from tests.providers.connections import check_cancelled, check_left_early, check_reused_and_closed, find_closed_port
from tests.providers.wires import failure_of
from tests.tables import table

JSON, LINES, HTML = "application/json", "application/x-ndjson", "text/html"
KEY = "ollama-key-0123456789"


def line(content="", done=False, **fields):
    """A line of a stream."""
    told = {"model": "m", "message": {"role": "assistant", "content": content}, "done": done, **fields}
    return json.dumps(told) + "\n"


HALF = [line("half "), line("an answer ")]
END = line(done=True, done_reason="stop", prompt_eval_count=3, eval_count=2)

STATUSES = [
    (400, {"error": "invalid think value"}, RequestRefused),
    (400, {"error": '"tiny" does not support tools'}, UnsupportedFeature),
    (400, {"error": '"tiny" does not support thinking'}, UnsupportedFeature),
    (500, {"error": "this model is missing data required for image input"}, UnsupportedFeature),
    (400, {"error": "the input length exceeds the context length"}, ContextTooLong),
    (401, {"error": "unauthorized", "signin_url": "https://ollama.com/connect"}, AuthenticationFailed),
    (402, {"error": "usage"}, QuotaExhausted),
    (403, {"error": "this model requires a subscription, upgrade for access"}, AuthenticationFailed),
    (404, {"error": 'model "tiny" not found, try pulling it first'}, ModelNotFound),
    (404, "404 page not found", ModelNotFound),
    (408, {"error": "slow"}, ServerError),
    (409, {"error": "conflict"}, ServerError),
    (413, {"error": "too large"}, RequestRefused),
    (422, {"error": "unprocessable"}, RequestRefused),
    (429, {"error": "you have reached your hourly usage limit, please upgrade to continue"}, QuotaExhausted),
    (429, {"error": "too many concurrent requests"}, RateLimited),
    (500, {"error": "llama runner process has terminated: exit status 2"}, ServerError),
    (502, "<html><body>Bad gateway</body></html>", ServerError),
    (503, {"error": "server busy, please try again.  maximum pending requests exceeded"}, Overloaded),
    (529, {"error": "overloaded"}, Overloaded),
    (500, b"", ServerError),
    (400, b'{"error": ', RequestRefused),
    (400, b'"a text"', RequestRefused),
    (400, b"[1]", RequestRefused),
    (400, {"error": {"message": "an object", "code": 7}}, RequestRefused),
    (400, b"\xff\xfe", RequestRefused),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refusal_is_told_by_its_status_and_words(loopback, stream):
    """A status over 400, with whatever body, is one of our classes, with the status on it and one request made."""
    async with OllamaChatModel("tiny", host=loopback.url, stream=stream) as model:
        for requests, (status, body, wanted) in enumerate(STATUSES, start=1):
            loopback.answers(body, status=status, content_type=HTML if b"<" in str(body).encode() else JSON)
            failure = await failure_of(model, stream)
            assert type(failure) is wanted, (status, body)
            assert (failure.status, failure.provider, failure.model) == (status, "ollama", "tiny")
            assert f"ollama said {status}: " in str(failure)
            assert len(loopback.asked) == requests


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_retry_after_is_not_lost(loopback, stream):
    """The SDK's own errors have no headers; ours have the wait the server asks for."""
    loopback.answers({"error": "slow down"}, status=429, retry_after="7")
    async with OllamaChatModel("tiny", host=loopback.url, stream=stream) as model:
        with pytest.raises(RateLimited) as caught:
            await model("hi")
    assert caught.value.retry_after == 7


async def test_a_missing_model_comes_with_what_to_do(loopback):
    """The message says which command fetches the model."""
    loopback.answers({"error": "model 'tiny' not found"}, status=404)
    async with OllamaChatModel("tiny", host=loopback.url) as model:
        with pytest.raises(ModelNotFound, match="`ollama pull tiny`"):
            await model("hi")


WHOLE = [
    (b'{"message": {"role"', BadReply),
    (b"<html><body>a proxy</body></html>", BadReply),
    (b"", BadReply),
    (b"[]", BadReply),
    (b"{}", BadReply),
    (b'{"message": "text", "done": true}', BadReply),
    (b'{"error": "llama runner process has terminated"}', ServerError),
    (b'{"error": {"message": "odd"}}', ServerError),
    (line("cut off", done=False).encode(), BadReply),
    (line("", done=True, done_reason="load").encode(), BadReply),
    (line("", done=True, done_reason="unload").encode(), BadReply),
    (b'{"message": {"tool_calls": [{"function": {}}]}, "done": true}', BadReply),
    (b'{"message": {"tool_calls": ["x"]}, "done": true}', BadReply),
]


@table(("body", "wanted"), WHOLE)
async def test_an_unusable_answer_is_no_success(loopback, body, wanted):
    """A 200 with anything but a complete answer in it is an error."""
    loopback.answers(body)
    async with OllamaChatModel("tiny", host=loopback.url) as model:
        with pytest.raises(wanted) as caught:
            await model("hi")
    assert type(caught.value) is wanted
    assert len(loopback.asked) == 1


STREAMS = [
    ([], "clean", BadReply),
    (["<html>a proxy</html>"], "clean", BadReply),
    (['{"error": "llama runner process has terminated"}'], "clean", ServerError),
    (['{"error": "the input length exceeds the context length", "status_code": 400}\n'], "clean", ContextTooLong),
    (['{"error": {"message": "odd"}}\n'], "clean", ServerError),
    (['{"error": "unauthorized"}\n'], "clean", AuthenticationFailed),
    (["[]\n"], "clean", BadReply),
    ([line("half")[:-9]], "clean", BadReply),
    ([], "cut", ConnectionLost),
    ([], "reset", ConnectionLost),
]


@table(("pieces", "end", "wanted"), STREAMS)
async def test_a_stream_without_content_fails_before_it_is_handed_out(loopback, pieces, end, wanted):
    """Until the first content a stream's fault comes out of the call itself, with its own class."""
    loopback.streams(*pieces, end=end)
    async with OllamaChatModel("tiny", host=loopback.url, stream=True) as model:
        with pytest.raises(wanted) as caught:
            await model("hi")
        assert type(caught.value) is wanted
        assert len(loopback.asked) == 1


BROKEN = [
    ([], "clean", BadReply),
    ([line("half")[:-9]], "clean", BadReply),
    (['{"message": \n'], "clean", BadReply),
    (['{"error": "an error was encountered while running the model"}\n'], "clean", ServerError),
    (["null\n"], "clean", BadReply),
    ([], "cut", ConnectionLost),
    ([], "reset", ConnectionLost),
]


@table(("pieces", "end", "cause"), BROKEN)
async def test_a_stream_that_breaks_keeps_what_came(loopback, pieces, end, cause):
    """After the first content a fault is a broken stream, with the answer so far and the reason."""
    loopback.streams(*HALF, *pieces, end=end)
    async with OllamaChatModel("tiny", host=loopback.url, stream=True) as model:
        stream = await model("hi")
        with pytest.raises(StreamBroken) as caught:
            await stream.final()
        assert caught.value.partial.text == "half an answer "
        assert type(caught.value.__cause__) is cause
        assert len(loopback.asked) == 1


async def test_what_follows_the_end_does_not_matter(loopback):
    """A connection that breaks after the last line has broken no answer."""
    loopback.streams(*HALF, END, "garbage", end="cut")
    async with OllamaChatModel("tiny", host=loopback.url, stream=True) as model:
        reply = await (await model("hi")).final()
    assert (reply.text, reply.finish_reason, reply.usage.output_tokens) == ("half an answer ", "stop", 2)


@table("stream", [False, True], ids=["whole", "stream"])
@table("end", ["cut", "reset"])
async def test_a_connection_closed_without_a_word_is_lost(loopback, stream, end):
    """The request may have arrived: this is not a failure to connect."""
    loopback.breaks(end=end)
    async with OllamaChatModel("tiny", host=loopback.url, stream=stream) as model:
        with pytest.raises(ConnectionLost):
            await model("hi")
    assert len(loopback.asked) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_silence_is_a_timeout_if_the_client_has_one(loopback, stream):
    """A timeout given for the client is the client's."""
    loopback.breaks(end="hang")
    async with OllamaChatModel("tiny", host=loopback.url, stream=stream, timeout=0.1) as model:
        with pytest.raises(TimedOut):
            await model("hi")
    await loopback.idle()


async def test_a_pool_without_a_free_connection_is_a_failure_to_connect(loopback):
    """Nothing was sent: all connections that the client may have are taken."""
    loopback.streams(*HALF, end="hang")
    limits = httpx.Limits(max_connections=1)
    async with OllamaChatModel("tiny", True, host=loopback.url, limits=limits, timeout=0.1) as model:
        stream = await model("hi")
        with pytest.raises(ConnectTimeout):
            await model("hi")
        await stream.aclose()
    assert len(loopback.asked) == 1


async def test_a_redirect_is_not_followed(loopback):
    """The conversation goes where it was meant to go, and nowhere else."""
    loopback.answers("", status=307, location="http://127.0.0.1:1/elsewhere")
    async with OllamaChatModel("tiny", host=loopback.url) as model:
        with pytest.raises(NotConfigured, match=r"redirects to http://127\.0\.0\.1:1/elsewhere"):
            await model("hi")
    assert len(loopback.asked) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refused_connection_names_the_host(stream):
    """Nobody listens: the message says where nobody does, and that the server is probably not running."""
    port = find_closed_port()
    async with OllamaChatModel("tiny", host=f"127.0.0.1:{port}", stream=stream) as model:
        with pytest.raises(ConnectFailed, match=rf": 127\.0\.0\.1:{port}: is the server running"):
            await model("hi")


@pytest.mark.parametrize("host", ["http://127.0.0.1:port", "ftp://127.0.0.1"])
async def test_a_host_that_is_no_address_is_not_configured(host):
    """A mistake in the address is told as one."""
    async with OllamaChatModel("tiny", host=host) as model:
        with pytest.raises(NotConfigured):
            await model("hi")


@table("how", ["break", "cancel", "forget"])
async def test_a_stream_left_early_leaves_no_connection(loopback, how):
    """The connection goes when the reader goes, whatever way he goes."""
    loopback.streams(*HALF, end="hang")
    async with OllamaChatModel("tiny", host=loopback.url, stream=True) as model:
        await check_left_early(model, loopback, how)


async def test_a_cancelled_call_leaves_no_connection(loopback):
    """Cancelling while the server is silent gives the connection back and raises nothing else."""
    loopback.breaks(end="hang")
    async with OllamaChatModel("tiny", host=loopback.url) as model:
        await check_cancelled(model, loopback)


async def test_connections_are_reused_and_closed(loopback):
    """Calls and streams read to their end share one connection; `aclose` closes it."""
    loopback.streams(*HALF, END)
    await check_reused_and_closed(OllamaChatModel("tiny", host=loopback.url, stream=True), loopback)


def test_one_model_serves_several_event_loops():
    """Connections belong to a loop; a model does not."""
    model = OllamaChatModel("tiny", host="http://127.0.0.1:1")
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            asyncio.run(model("hi"))


async def test_the_key_is_never_shown(loopback):
    """A server may repeat the key in its error; no message, repr or traceback does."""
    loopback.answers({"error": f"no such key: {KEY}"}, status=401)
    async with OllamaChatModel("tiny", host=loopback.url, api_key=KEY) as model:
        with pytest.raises(AuthenticationFailed) as caught:
            await model("hi")
        told = [str(caught.value), repr(caught.value), repr(model), *traceback.format_exception(caught.value)]
    assert loopback.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert "***" in str(caught.value)
    assert not [text for text in told if KEY in text]


async def test_an_empty_answer_that_is_complete_is_an_answer(loopback):
    """A stream of nothing but the end mark gives one snapshot, which says why it is empty."""
    loopback.streams(END, end="clean")
    async with OllamaChatModel("tiny", host=loopback.url, stream=True) as model:
        snapshots = [snapshot async for snapshot in await model("hi")]
    assert [(snapshot.text, snapshot.finish_reason, snapshot.is_last) for snapshot in snapshots] == [("", "stop", True)]
