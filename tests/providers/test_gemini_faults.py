"""What Google, a proxy or the network can do wrong, and the one class of ours that comes out."""

import asyncio
import json

import pytest

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    ConnectFailed,
    ConnectionLost,
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
from modelhub.providers.gemini import GeminiChatModel
from tests.providers.connections import check_cancelled, check_left_early, check_reused_and_closed, find_closed_port
from tests.providers.wires import failure_of
from tests.tables import table

JSON, EVENTS, HTML = "application/json; charset=UTF-8", "text/event-stream", "text/html"
KEY = "AIzaTest0123456789abcdef"
BOTH = table("stream", [False, True], ids=["whole", "stream"])


def piece(text="", finish=None, **more):
    """One piece of an answer, or a whole one."""
    candidate = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], **more}


def event(value):
    """A piece as a stream writes it."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\r\n\r\n"


def error(code, status="", message="it failed", *details):
    """An error as Google writes it."""
    return {"error": {"code": code, "message": message, "status": status, "details": list(details)}}


def reason(name):
    """Why, as Google writes it beside the status."""
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": name, "domain": "googleapis.com"}


def quota(name, value="20"):
    """The quota that was met."""
    violation = {"quotaMetric": "requests", "quotaId": name} | ({"quotaValue": value} if value else {})
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def model(loopback, **more):
    """The model under test."""
    return GeminiChatModel("gemini-3-flash", KEY, base_url=loopback.url, **more)


HALF = [event(piece("half ")), event(piece("an answer "))]
END = event(piece("", "STOP", usageMetadata={"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}))
RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36.4s"}
PER_MINUTE = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier"
PER_DAY = "GenerateRequestsPerDayPerProjectPerModel-FreeTier"
TOO_LONG = "The input token count (1250074) exceeds the maximum number of tokens allowed (1048576)."

STATUSES = [
    (400, error(400, "INVALID_ARGUMENT"), RequestRefused),
    (400, error(400, "INVALID_ARGUMENT", "API key not valid.", reason("API_KEY_INVALID")), AuthenticationFailed),
    (400, error(400, "INVALID_ARGUMENT", TOO_LONG), ContextTooLong),
    (400, error(400, "INVALID_ARGUMENT", "JSON mode is not enabled for models/gemma-3-27b-it"), UnsupportedFeature),
    (400, error(400, "INVALID_ARGUMENT", "Unsupported MIME type: image/gif"), UnsupportedFeature),
    (400, error(400, "FAILED_PRECONDITION", "User location is not supported"), AuthenticationFailed),
    (401, error(401, "UNAUTHENTICATED"), AuthenticationFailed),
    (402, error(402), QuotaExhausted),
    (403, error(403, "PERMISSION_DENIED", "no", reason("SERVICE_DISABLED")), AuthenticationFailed),
    (403, error(403, "PERMISSION_DENIED", "pay", reason("BILLING_DISABLED")), QuotaExhausted),
    (404, error(404, "NOT_FOUND", "models/tiny is not found for API version v1"), ModelNotFound),
    (404, "404 page not found", ModelNotFound),
    (408, error(408), ServerError),
    (409, error(409, "ABORTED"), ServerError),
    (413, error(413, "INVALID_ARGUMENT"), RequestRefused),
    (422, error(422), RequestRefused),
    (429, error(429, "RESOURCE_EXHAUSTED"), RateLimited),
    (429, error(429, "RESOURCE_EXHAUSTED", "slower", quota(PER_MINUTE), RETRY), RateLimited),
    (429, error(429, "RESOURCE_EXHAUSTED", "tomorrow", quota(PER_DAY), RETRY), QuotaExhausted),
    (429, error(429, "RESOURCE_EXHAUSTED", "limit: 0", quota(PER_MINUTE, None), RETRY), QuotaExhausted),
    (499, error(499, "CANCELLED"), ServerError),
    (500, error(500, "INTERNAL"), ServerError),
    (501, error(501, "UNIMPLEMENTED"), UnsupportedFeature),
    (502, "<html><body>Bad gateway</body></html>", ServerError),
    (503, error(503, "UNAVAILABLE", "The model is overloaded."), Overloaded),
    (503, [error(503, "UNAVAILABLE", "in a list, as streams without alt=sse")], Overloaded),
    (504, error(504, "DEADLINE_EXCEEDED"), ServerError),
    (529, {}, Overloaded),
    (500, b"", ServerError),
    (400, b'{"error": ', RequestRefused),
    (400, b'"a text"', RequestRefused),
    (400, b"[1]", RequestRefused),
    (400, b"\xff\xfe", RequestRefused),
    (400, {"error": "a text"}, RequestRefused),
    (400, {"error": {"code": "x", "message": {"odd": 1}, "details": [1, {"violations": "x"}]}}, RequestRefused),
    (
        429,
        {"error": {"details": [{"violations": [1, {"quotaId": 1, "quotaValue": 5}]}, {"retryDelay": 7}]}},
        RateLimited,
    ),
    (302, b"", NotConfigured),
    (201, piece("created", "STOP"), BadReply),
]


@BOTH
async def test_a_refusal_is_told_by_its_codes(loopback, stream):
    """Any status but 200, with whatever body, is one of our classes, with the status on it and one request made."""
    async with model(loopback, stream=stream) as asked:
        for requests, (status, body, wanted) in enumerate(STATUSES, start=1):
            loopback.answers(body, status=status, content_type=HTML if b"<" in str(body).encode() else JSON)
            failure = await failure_of(asked, stream)
            assert type(failure) is wanted, (status, body)
            assert (failure.status, failure.provider, failure.model) == (status, "gemini", "gemini-3-flash")
            assert (f"gemini said {status}" if status != 302 else "redirects") in str(failure)
            assert len(loopback.asked) == requests
    await loopback.idle()


@BOTH
async def test_a_refusal_keeps_its_status_if_its_body_is_cut(loopback, stream):
    """What went wrong is known from the first line."""
    loopback.streams('{"error": {"co', status=503, content_type=JSON, end="cut")
    async with model(loopback, stream=stream) as asked:
        with pytest.raises(Overloaded):
            await asked("hi")
    await loopback.idle()


@BOTH
async def test_nothing_is_sent_twice_even_if_asked_for(loopback, stream):
    """The SDK's own retries stay off: retrying is a layer's work."""
    loopback.answers(error(503, "UNAVAILABLE"), status=503)
    arguments = {"http_options": {"retry_options": {"attempts": 5, "initial_delay": 0}}}
    async with model(loopback, stream=stream, client_args=arguments, generate_kwargs=arguments) as asked:
        with pytest.raises(Overloaded):
            await asked("hi")
    assert len(loopback.asked) == 1


@table(
    ("headers", "details", "wait"),
    [({"retry_after": "7"}, [RETRY], 7), ({}, [RETRY], 36.4), ({}, [{"retryDelay": "47s"}], 47), ({}, [], None)],
)
async def test_how_long_to_wait_is_in_a_header_or_in_the_body(loopback, headers, details, wait):
    """Google writes it into the body; a gateway's header goes first."""
    loopback.answers(error(429, "RESOURCE_EXHAUSTED", "slower", *details), status=429, **headers)
    async with model(loopback, stream=False) as asked:
        with pytest.raises(RateLimited) as caught:
            await asked("hi")
    assert (caught.value.retry_after, caught.value.code) == (wait, "RESOURCE_EXHAUSTED")


async def test_the_code_is_googles_most_exact_word(loopback):
    """The reason, where there is one, says more than INVALID_ARGUMENT."""
    loopback.answers(error(400, "INVALID_ARGUMENT", "no", reason("API_KEY_INVALID")), status=400)
    async with model(loopback) as asked:
        with pytest.raises(AuthenticationFailed) as caught:
            await asked("hi")
    assert caught.value.code == "API_KEY_INVALID"
    assert str(caught.value) == "gemini said 400 INVALID_ARGUMENT: no"


WHOLE = [
    (b'{"candidates": [{"con', BadReply),
    (b"<html><body>a proxy</body></html>", BadReply),
    (b"", BadReply),
    (b"[]", BadReply),
    (b"{}", BadReply),
    (b'"text"', BadReply),
    (b'{"candidates": []}', BadReply),
    (b'{"candidates": [{}]}', BadReply),
    (b'{"candidates": [1]}', BadReply),
    (b'{"candidates": "text"}', BadReply),
    (b'{"candidates": [{"content": {"parts": [{"text": 7}]}, "finishReason": "STOP"}]}', BadReply),
    (b'{"candidates": [{"content": {"parts": [{"functionCall": {"args": {}}}]}, "finishReason": "STOP"}]}', BadReply),
    (b'{"candidates": [{"content": {"parts": [{"inlineData": {}}]}, "finishReason": "STOP"}]}', BadReply),
    (json.dumps(error(429, "RESOURCE_EXHAUSTED")).encode(), RateLimited),
    (json.dumps(error(503, "UNAVAILABLE")).encode(), Overloaded),
    (b'{"error": {"message": "odd"}}', ServerError),
    (b'{"error": "odd"}', ServerError),
]


@table(("body", "wanted"), WHOLE)
async def test_an_unusable_answer_is_no_success(loopback, body, wanted):
    """A 200 with anything but an answer in it is an error, where the SDK gives an empty answer."""
    loopback.answers(body)
    async with model(loopback, stream=False) as asked:
        with pytest.raises(wanted) as caught:
            await asked("hi")
    assert type(caught.value) is wanted
    assert len(loopback.asked) == 1


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_an_answer_that_is_cut_off_is_no_answer(loopback, end):
    """Half a body is a lost connection."""
    loopback.streams(json.dumps(piece("half"))[:20], content_type=JSON, end=end)
    async with model(loopback, stream=False) as asked:
        with pytest.raises(ConnectionLost):
            await asked("hi")
    await loopback.idle()


BARE = json.dumps(error(503, "UNAVAILABLE", "overloaded: later"), indent=2)
STREAMS = [
    ([], EVENTS, "clean", BadReply),
    ([": ping\n\n"], EVENTS, "clean", BadReply),
    (["<html>\n<body>a proxy</body>\n</html>"], HTML, "clean", BadReply),
    ([json.dumps(error(429, "RESOURCE_EXHAUSTED"))], JSON, "clean", RateLimited),
    ([json.dumps([error(429, "RESOURCE_EXHAUSTED")])], JSON, "clean", RateLimited),
    ([BARE], EVENTS, "clean", Overloaded),
    ([event(error(503, "UNAVAILABLE"))], EVENTS, "clean", Overloaded),
    ([event({"error": {"message": "no code"}})], EVENTS, "clean", ServerError),
    ([event("[]")], EVENTS, "clean", BadReply),
    ([event("{}")], EVENTS, "clean", BadReply),
    ([event("null")], EVENTS, "clean", BadReply),
    ([event(piece("half"))[:40]], EVENTS, "clean", BadReply),
    ([event('{"candidates": ')], EVENTS, "clean", BadReply),
    (["data"], EVENTS, "clean", BadReply),
    ([], EVENTS, "cut", ConnectionLost),
    ([], EVENTS, "reset", ConnectionLost),
]


@table(("pieces", "content_type", "end", "wanted"), STREAMS)
async def test_a_stream_without_content_fails_before_it_is_handed_out(loopback, pieces, content_type, end, wanted):
    """Until the first content a stream's fault comes out of the call itself, with its own class."""
    loopback.streams(*pieces, content_type=content_type, end=end)
    async with model(loopback) as asked:
        with pytest.raises(wanted) as caught:
            await asked("hi")
        assert type(caught.value) is wanted
        assert len(loopback.asked) == 1


BROKEN = [
    ([], "clean", BadReply),
    ([event(piece("half"))[:40]], "clean", BadReply),
    ([event('{"candidates": ')], "clean", BadReply),
    ([event(error(503, "UNAVAILABLE"))], "clean", Overloaded),
    ([BARE], "clean", Overloaded),
    ([event({"error": {"message": "no code"}})], "clean", ServerError),
    ([event("null")], "clean", BadReply),
    ([], "cut", ConnectionLost),
    ([], "reset", ConnectionLost),
]


@table(("pieces", "end", "cause"), BROKEN)
async def test_a_stream_that_breaks_keeps_what_came(loopback, pieces, end, cause):
    """After the first content a fault is a broken stream, with the answer so far and the reason."""
    loopback.streams(*HALF, *pieces, content_type=EVENTS, end=end)
    async with model(loopback) as asked:
        stream = await asked("hi")
        with pytest.raises(StreamBroken) as caught:
            await stream.final()
        assert caught.value.partial.text == "half an answer "
        assert type(caught.value.__cause__) is cause
        assert len(loopback.asked) == 1


async def test_what_follows_the_end_does_not_matter(loopback):
    """A connection that breaks after the finishReason has broken no answer."""
    loopback.streams(*HALF, END, "garbage", content_type=EVENTS, end="cut")
    async with model(loopback) as asked:
        reply = await (await asked("hi")).final()
    assert (reply.text, reply.finish_reason, reply.usage.output_tokens) == ("half an answer ", "stop", 2)


async def test_a_server_that_does_not_know_sse_is_understood(loopback):
    """Without `alt=sse` the pieces come as one list."""
    loopback.answers([piece("half "), piece("an answer ", "STOP")])
    async with model(loopback) as asked:
        reply = await (await asked("hi")).final()
    assert (reply.text, reply.finish_reason) == ("half an answer ", "stop")


@BOTH
@table("end", ["cut", "reset"])
async def test_a_connection_closed_without_a_word_is_lost(loopback, stream, end):
    """The request may have arrived: this is not a failure to connect, and it is not sent again."""
    loopback.breaks(end=end)
    async with model(loopback, stream=stream) as asked:
        with pytest.raises(ConnectionLost):
            await asked("hi")
    assert len(loopback.asked) == 1


@BOTH
async def test_silence_is_a_timeout_if_the_client_has_one(loopback, stream):
    """A timeout given for the client, in the SDK's milliseconds, is the client's."""
    loopback.breaks(end="hang")
    async with model(loopback, stream=stream, client_args={"http_options": {"timeout": 100}}) as asked:
        with pytest.raises(TimedOut):
            await asked("hi")
    await loopback.idle()


async def test_silence_in_a_stream_is_a_timeout(loopback):
    """The same after the first content."""
    loopback.streams(*HALF, content_type=EVENTS, end="hang")
    async with model(loopback, client_args={"http_options": {"timeout": 100}}) as asked:
        with pytest.raises(StreamBroken) as caught:
            await (await asked("hi")).final()
    assert isinstance(caught.value.__cause__, TimedOut)
    await loopback.idle()


@BOTH
async def test_a_refused_connection_was_surely_not_sent(stream):
    """Nobody listens."""
    port = find_closed_port()
    async with GeminiChatModel("m", KEY, stream, base_url=f"http://127.0.0.1:{port}") as asked:
        with pytest.raises(ConnectFailed):
            await asked("hi")


@pytest.mark.parametrize("base_url", ["ftp://127.0.0.1", "127.0.0.1:80"])
async def test_an_address_that_is_none_is_not_configured(base_url):
    """A mistake in the address is told as one."""
    async with GeminiChatModel("m", KEY, base_url=base_url) as asked:
        with pytest.raises(NotConfigured):
            await asked("hi")


@table("how", ["break", "close", "cancel", "forget"])
async def test_a_stream_left_early_leaves_no_connection(loopback, how):
    """The connection goes when the reader goes, whatever way he goes; the SDK alone keeps it until a collection."""
    loopback.streams(*HALF, content_type=EVENTS, end="hang")
    async with model(loopback) as asked:
        await check_left_early(asked, loopback, how)


@BOTH
async def test_a_cancelled_call_leaves_no_connection(loopback, stream):
    """Cancelling while the server is silent gives the connection back and raises nothing else."""
    loopback.breaks(end="hang")
    async with model(loopback, stream=stream) as asked:
        await check_cancelled(asked, loopback)


async def test_connections_are_reused_and_closed(loopback):
    """Calls and streams read to their end share one connection; `aclose` closes it."""
    loopback.streams(*HALF, END, content_type=EVENTS)
    await check_reused_and_closed(model(loopback), loopback)


def test_one_model_serves_several_event_loops():
    """Connections belong to a loop; a model does not."""
    asked = GeminiChatModel("m", KEY, base_url="http://127.0.0.1:1")
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            asyncio.run(asked("hi"))
