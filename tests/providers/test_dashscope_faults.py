"""What DashScope, its gateway or the network can do wrong, and the one class of ours that comes out."""

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
    UnknownFailure,
    UnsupportedFeature,
)
from modelhub.providers.dashscope import DashScopeChatModel
from tests.providers.connections import check_cancelled, check_left_early, check_reused_and_closed, find_closed_port
from tests.providers.wires import failure_of
from tests.tables import table

JSON, EVENTS, HTML = "application/json", "text/event-stream;charset=UTF-8", "text/html"
KEY = "sk-0123456789abcdef"


def body(content="", reason="null", **fields):
    """What is in an event, or a whole answer."""
    message = {"role": "assistant", "content": content}
    return {
        "output": {"choices": [{"message": message, "finish_reason": reason}]},
        "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
        "request_id": "req-1",
        **fields,
    }


def event(data, name="result", status=200):
    """An event as the vendor frames it."""
    data = data if isinstance(data, str) else json.dumps(data)
    return f"id:1\nevent:{name}\n:HTTP_STATUS/{status}\ndata:{data}\n\n"


HALF = [event(body("half ")), event(body("an answer "))]
END = event(body("", "stop"))


def model_at(server, stream=False, **kwargs):
    """A model of the scripted server."""
    return DashScopeChatModel("qwen-plus", KEY, stream, base_url=f"{server.url}/api/v1", **kwargs)


def told(code, message="a reason"):
    """An error as the vendor writes it."""
    return {"code": code, "message": message, "request_id": "req-1"}


LENGTH = "Range of input length should be [1, 30720]"
FORCED = "The tool_choice parameter does not support being set to required or object in thinking mode"
STATUSES = [
    (400, told("InvalidParameter"), RequestRefused),
    (400, told("InvalidParameter", LENGTH), ContextTooLong),
    (400, told("InvalidParameter", f"<400> InternalError.Algo.InvalidParameter: {LENGTH}"), ContextTooLong),
    (400, told("InvalidParameter", FORCED), UnsupportedFeature),
    (400, told("InvalidParameter", "parameter.enable_thinking only support stream call"), UnsupportedFeature),
    (400, told("InvalidParameter", "This model does not support enable_search."), UnsupportedFeature),
    (400, told("InvalidParameter", "url error, please check url"), UnsupportedFeature),
    (400, told("DataInspectionFailed"), ContentBlocked),
    (400, told("data_inspection_failed"), ContentBlocked),
    (400, told("Arrearage"), QuotaExhausted),
    (400, told("BadRequest.EmptyInput"), RequestRefused),
    (401, told("InvalidApiKey"), AuthenticationFailed),
    (403, told("AccessDenied.Unpurchased"), AuthenticationFailed),
    (403, told("AllocationQuota.FreeTierOnly"), QuotaExhausted),
    (403, told("Model.AccessDenied"), ModelNotFound),
    (404, told("ModelNotFound"), ModelNotFound),
    (404, {"error": {"code": "model_not_found", "message": "no"}}, ModelNotFound),
    (408, told("RequestTimeOut"), ServerError),
    (409, told("Conflict"), ServerError),
    (413, told("BadRequest.TooLarge"), RequestRefused),
    (422, told("Strange"), RequestRefused),
    (429, told("Throttling"), RateLimited),
    (429, told("Throttling.RateQuota"), RateLimited),
    (429, told("Throttling.AllocationQuota"), RateLimited),
    (429, told("CommodityNotPurchased"), QuotaExhausted),
    (429, told("LimitRequests"), RateLimited),
    (500, told("InternalError"), ServerError),
    (500, told("InternalError.Algo"), ServerError),
    (500, told("InternalError.Timeout"), ServerError),
    (503, told("ModelServingError"), Overloaded),
    (503, told("ServiceUnavailable"), Overloaded),
    (529, told("Strange"), Overloaded),
    (502, "<html><body>Bad gateway</body></html>", ServerError),
    (500, b"", ServerError),
    (400, b'{"code": ', RequestRefused),
    (400, b'"a text"', RequestRefused),
    (400, b"[1]", RequestRefused),
    (400, b"\xff\xfe", RequestRefused),
    (400, event(told("InvalidParameter", LENGTH), "error", 400), ContextTooLong),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refusal_is_told_by_its_code_and_status(loopback, stream):
    """A status over 400, with whatever body, is one of our classes, with the status on it and one request made."""
    async with model_at(loopback, stream) as model:
        for requests, (status, answer, wanted) in enumerate(STATUSES, start=1):
            kind = HTML if isinstance(answer, str) and "<" in answer else JSON
            loopback.answers(answer, status=status, content_type=kind, retry_after="7")
            failure = await failure_of(model, stream)
            assert type(failure) is wanted, (status, answer)
            assert (failure.status, failure.provider, failure.model) == (status, "dashscope", "qwen-plus")
            assert failure.retry_after == 7
            assert str(failure).startswith(f"dashscope said {status}")
            if isinstance(answer, dict) and "code" in answer:
                assert (failure.code, failure.request_id) == (answer["code"], "req-1")
            assert len(loopback.asked) == requests


async def test_the_wrong_endpoint_comes_with_what_to_do(loopback):
    """The vendor only says that the address is wrong."""
    loopback.answers(told("InvalidParameter", "url error, please check url"), status=400)
    async with model_at(loopback) as model:
        with pytest.raises(UnsupportedFeature, match="see `multimodality`"):
            await model("hi")


WHOLE = [
    (b'{"output": {"choices"', BadReply),
    (b"<html><body>a proxy</body></html>", BadReply),
    (b"", BadReply),
    (b"[]", BadReply),
    (b"{}", BadReply),
    (b'{"output": null}', BadReply),
    (b'{"output": {"choices": []}}', BadReply),
    (b'{"output": {"choices": [null]}}', BadReply),
    (b'{"output": {"choices": [{"message": "text", "finish_reason": "stop"}]}}', BadReply),
    (b'{"output": {"choices": [{"message": {"tool_calls": ["x"]}, "finish_reason": "stop"}]}}', BadReply),
    (json.dumps(body("cut off", "null")).encode(), BadReply),
    (json.dumps(told("Throttling.RateQuota")).encode(), RateLimited),
    (b'{"error": {"type": "rate_limit_exceeded", "message": "slow down"}}', RateLimited),
    (json.dumps(told("NeverHeardOf")).encode(), UnknownFailure),
]


async def asked(model):
    """The reply of *model*, complete."""
    reply = await model("hi")
    return await reply.final() if model.stream else reply


@table("stream", [False, True], ids=["whole", "stream"])
@table(("answer", "wanted"), WHOLE)
async def test_an_unusable_answer_is_no_success(loopback, answer, wanted, stream):
    """A 200 with anything but a complete answer in it is an error, also where a stream was asked for."""
    loopback.answers(answer)
    async with model_at(loopback, stream) as model:
        with pytest.raises((wanted, StreamBroken)) as caught:
            await asked(model)
    cause = caught.value.__cause__ if isinstance(caught.value, StreamBroken) else caught.value
    assert type(cause) is wanted
    assert len(loopback.asked) == 1


@table("code", [None, "", 200, "Success"])
async def test_a_whole_answer_in_the_place_of_a_stream_is_taken(loopback, code):
    """Gateways that overlook the wish for a stream still answer; some write a code that says that all is well."""
    loopback.answers({**body("fine", "stop"), "code": code})
    async with model_at(loopback, True) as model:
        reply = await (await model("hi")).final()
    assert (reply.text, reply.finish_reason) == ("fine", "stop")


STREAMS = [
    ([], "clean", BadReply),
    (["<html>a proxy</html>"], "clean", BadReply),
    ([event(told("Throttling.RateQuota"), "error", 429)], "clean", RateLimited),
    ([event(told("DataInspectionFailed"), "result", 400)], "clean", ContentBlocked),
    ([event(told("InvalidParameter", LENGTH), "error", 400)], "clean", ContextTooLong),
    ([event({"message": "no code"}, "error", 500)], "clean", ServerError),
    ([event("plain text", "error", 500)], "clean", BadReply),
    ([event("[]")], "clean", BadReply),
    ([event('{"output": ')], "clean", BadReply),
    ([event(body("half"))[:-20]], "clean", BadReply),
    ([], "cut", ConnectionLost),
    ([], "reset", ConnectionLost),
]


@table(("pieces", "end", "wanted"), STREAMS)
async def test_a_stream_without_content_fails_before_it_is_handed_out(loopback, pieces, end, wanted):
    """Until the first content a stream's fault comes out of the call itself, with its own class."""
    loopback.streams(*pieces, end=end, content_type=EVENTS)
    async with model_at(loopback, True) as model:
        with pytest.raises(wanted) as caught:
            await model("hi")
        assert type(caught.value) is wanted
        assert len(loopback.asked) == 1


BROKEN = [
    ([], "clean", BadReply),
    ([event(body("half"))[:-20]], "clean", BadReply),
    ([event('{"output": ')], "clean", BadReply),
    ([event("null")], "clean", BadReply),
    ([event(told("InternalError.Algo"), "error", 500)], "clean", ServerError),
    ([event(told("DataInspectionFailed"), "error", 400)], "clean", ContentBlocked),
    ([], "cut", ConnectionLost),
    ([], "reset", ConnectionLost),
]


@table(("pieces", "end", "cause"), BROKEN)
async def test_a_stream_that_breaks_keeps_what_came(loopback, pieces, end, cause):
    """After the first content a fault is a broken stream, with the answer so far and the reason."""
    loopback.streams(*HALF, *pieces, end=end, content_type=EVENTS)
    async with model_at(loopback, True) as model:
        stream = await model("hi")
        with pytest.raises(StreamBroken) as caught:
            await stream.final()
        assert caught.value.partial.text == "half an answer "
        assert type(caught.value.__cause__) is cause
        assert len(loopback.asked) == 1


@table(("pieces", "end", "cause"), [*STREAMS, *(([*HALF, *row[0]], *row[1:]) for row in BROKEN)])
async def test_a_collected_stream_fails_as_itself(loopback, pieces, end, cause):
    """A plain call whose answer is streamed inside is whole or an error: nobody has seen a part of it."""
    loopback.streams(*pieces, end=end, content_type=EVENTS)
    async with model_at(loopback, enable_thinking=True) as model:
        with pytest.raises(cause) as caught:
            await model("hi")
        assert type(caught.value) is cause
        assert len(loopback.asked) == 1


async def test_what_follows_the_end_does_not_matter(loopback):
    """A connection that breaks after the last event has broken no answer."""
    loopback.streams(*HALF, END, "garbage", end="cut", content_type=EVENTS)
    async with model_at(loopback, True) as model:
        reply = await (await model("hi")).final()
    assert (reply.text, reply.finish_reason, reply.usage.total_tokens) == ("half an answer ", "stop", 5)


@table("stream", [False, True], ids=["whole", "stream"])
@table("end", ["cut", "reset"])
async def test_a_connection_closed_without_a_word_is_lost(loopback, stream, end):
    """The request may have arrived: this is not a failure to connect."""
    loopback.breaks(end=end)
    async with model_at(loopback, stream) as model:
        with pytest.raises(ConnectionLost):
            await model("hi")
    assert len(loopback.asked) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_silence_is_a_timeout_if_the_client_has_one(loopback, stream):
    """A timeout given for the client is the client's, also over our own HTTP client."""
    loopback.breaks(end="hang")
    async with model_at(loopback, stream, client_args={"timeout": 0.1}) as model:
        with pytest.raises(TimedOut):
            await model("hi")
    await loopback.idle()


async def test_silence_in_a_stream_is_a_timeout_too(loopback):
    """The SDK leaves this one unwrapped."""
    loopback.streams(*HALF, end="hang", content_type=EVENTS)
    async with model_at(loopback, True, client_args={"timeout": 0.1}) as model:
        stream = await model("hi")
        with pytest.raises(StreamBroken) as caught:
            await stream.final()
    assert type(caught.value.__cause__) is TimedOut


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_refused_connection_is_a_failure_to_connect(stream):
    """Nothing was sent."""
    port = find_closed_port()
    async with DashScopeChatModel("qwen-plus", KEY, stream, base_url=f"http://127.0.0.1:{port}/api/v1") as model:
        with pytest.raises(ConnectFailed):
            await model("hi")


async def test_a_pool_without_a_free_connection_is_a_failure_to_connect(loopback):
    """Nothing was sent: all connections that the client may have are taken."""
    loopback.streams(*HALF, end="hang", content_type=EVENTS)
    async with (
        httpx.AsyncClient(limits=httpx.Limits(max_connections=1)) as client,
        model_at(loopback, True, client_args={"http_client": client, "timeout": 0.1}) as model,
    ):
        stream = await model("hi")
        with pytest.raises(ConnectTimeout):
            await model("hi")
        await stream.aclose()
    assert len(loopback.asked) == 1


async def test_a_redirect_is_not_followed(loopback):
    """The conversation and the key go where they were meant to go, and nowhere else."""
    loopback.answers("", status=307, location="http://127.0.0.1:1/elsewhere")
    async with model_at(loopback) as model:
        with pytest.raises(NotConfigured, match=r"redirects to http://127\.0\.0\.1:1/elsewhere"):
            await model("hi")
    assert len(loopback.asked) == 1


@table("how", ["break", "cancel", "forget"])
async def test_a_stream_left_early_leaves_no_connection(loopback, how):
    """The connection goes when the reader goes, whatever way he goes."""
    loopback.streams(*HALF, end="hang", content_type=EVENTS)
    async with model_at(loopback, True) as model:
        await check_left_early(model, loopback, how)


@pytest.mark.parametrize("thinking", [None, True], ids=["whole", "collected"])
async def test_a_cancelled_call_leaves_no_connection(loopback, thinking):
    """Cancelling while the server is silent gives the connection back and raises nothing else."""
    loopback.streams(*HALF, end="hang", content_type=EVENTS)
    async with model_at(loopback, enable_thinking=thinking) as model:
        await check_cancelled(model, loopback)


async def test_connections_are_reused_and_closed(loopback):
    """Calls and streams read to their end share one connection; `aclose` closes it."""
    loopback.streams(*HALF, END, content_type=EVENTS)
    await check_reused_and_closed(model_at(loopback, True), loopback)


def test_one_model_serves_several_event_loops():
    """Connections belong to a loop; a model does not."""
    model = DashScopeChatModel("qwen-plus", KEY, False, base_url="http://127.0.0.1:1/api/v1")
    for _ in range(2):
        with pytest.raises(ConnectFailed):
            asyncio.run(model("hi"))


async def test_the_key_is_never_shown(loopback):
    """The vendor may repeat the key in its error; no message, repr or traceback does."""
    loopback.answers(told("InvalidApiKey", f"Incorrect API key provided: {KEY}"), status=401)
    async with model_at(loopback) as model:
        with pytest.raises(AuthenticationFailed) as caught:
            await model("hi")
        shown = [str(caught.value), repr(caught.value), repr(model), *traceback.format_exception(caught.value)]
    assert loopback.asked[0].headers["authorization"] == f"Bearer {KEY}"
    assert "***" in str(caught.value)
    assert not [text for text in shown if KEY in text]


async def test_an_empty_answer_that_is_complete_is_an_answer(loopback):
    """A stream of nothing but the end mark gives one snapshot, which says why it is empty."""
    loopback.streams(END, end="clean", content_type=EVENTS)
    async with model_at(loopback, True) as model:
        snapshots = [snapshot async for snapshot in await model("hi")]
    assert [(snapshot.text, snapshot.finish_reason, snapshot.is_last) for snapshot in snapshots] == [("", "stop", True)]
