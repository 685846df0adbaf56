"""Anthropic's recorded traffic, and every fault a server or a network can show, through the real SDK.

MODELHUB_LONG=1 reads every recording in pieces too, and longer streams in single bytes.
"""

import asyncio
import gc
import json
import os
import time

import pytest

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
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
from modelhub.core.response import ChatUsage
from modelhub.core.stream import ChatStream
from modelhub.providers.anthropic import AnthropicChatModel
from tests.providers.recordings import address_of, check_in_lanes, sample
from tests.tables import table

KEY = "sk-ant-test-0123456789abcdef"
SSE = "text/event-stream"

# -- the recorded traffic --------------------------------------------------------------------------------------------

FINISH = {"end_turn": "stop", "tool_use": "tool_calls", "refusal": "refusal"}

ERRORS = {
    (400, "invalid_request_error"): RequestRefused,
    (401, "authentication_error"): AuthenticationFailed,
    (404, "not_found_error"): ModelNotFound,
    (429, "rate_limit_error"): RateLimited,
    (200, "overloaded_error"): Overloaded,
}
"""Status and type of every recorded failure to the class it must be."""

WITHOUT_A_CODE = {
    "anthropic-136323fb01516c": ContextTooLong,
    "anthropic-ac8aaf9b862f36": ContextTooLong,
    "anthropic-583c237d8868a7": QuotaExhausted,
}
"""Recorded failures that have only `invalid_request_error` for a code, and are more than that."""

EXPLAINED = {
    "anthropic-a99333934a1b6b": "calls are in the answer though it says end_turn: ours says tool_calls for any vendor",
}
"""Records where ours and the recording differ on purpose."""


BY_BYTE = (12_000, 60) if os.environ.get("MODELHUB_LONG") else (5_000, 47)
COVERED = {"": (10**9, 258), "~split=7": (60_000, 255), "~split=1": BY_BYTE}
"""For each way of replaying: the longest answer that is taken, and how many there must be at least."""


def parts_fit(usage):
    """Whether the parts are not more than their totals."""
    hour, written, read = usage.cache_write_1h_tokens, usage.cache_write_tokens, usage.cache_read_tokens
    return hour <= written <= usage.input_tokens - read and usage.reasoning_tokens <= usage.output_tokens


def differences(record, found):
    """What *found*, a reply or an error, has other than *record* says."""
    expected = record["expect"]
    if error := expected.get("error"):
        wanted = WITHOUT_A_CODE.get(record["id"], ERRORS[record["status"], error["type"]])
        return [] if type(found) is wanted and error["message"][:40] in str(found) else [("error", wanted, found)]
    if isinstance(found, BaseException):
        return [("raised", repr(found))]
    usage = expected.get("usage") or {}
    cached = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    wanted = {
        "text": expected.get("text") or "",
        "thinking": expected.get("thinking") or "",
        "calls": [(call["id"], call["name"], call["arguments"]) for call in expected["tool_calls"]],
        "finish": FINISH[expected["finish_reason"]],
        "input": sum(usage.get(key) or 0 for key in cached),
        "output": usage.get("output_tokens") or 0,
        "read": usage.get("cache_read_input_tokens") or 0,
        "written": usage.get("cache_creation_input_tokens") or 0,
        "for an hour": (usage.get("cache_creation") or {}).get("ephemeral_1h_input_tokens", 0),
        "reasoning": expected.get("reasoning_tokens") or 0,
        "parts": True,
        "model": expected.get("model"),
    }
    has_figures = wanted["input"] or wanted["output"]  # zeros beside an answer are no figures
    figures = found.usage if has_figures or found.usage is not None else ChatUsage(0, 0)
    ours = {
        "text": found.text,
        "thinking": found.thinking,
        "calls": [(call.id, call.name, call.input) for call in found.tool_calls],
        "finish": found.finish_reason,
        "input": figures.input_tokens,
        "output": figures.output_tokens,
        "read": figures.cache_read_tokens,
        "written": figures.cache_write_tokens,
        "for an hour": figures.cache_write_1h_tokens,
        "reasoning": figures.reasoning_tokens,
        "parts": parts_fit(figures),
        "model": found.model_name,
    }
    return [(key, wanted[key], ours[key]) for key in wanted if wanted[key] != ours[key]]


async def read(stream):
    """The last snapshot, after looking at all of them."""
    text, last = "", None
    async for snapshot in stream:
        assert last is None or not last.is_last, "a snapshot after the last"
        assert snapshot.text.startswith(text), "the text has shrunk"
        text, last = snapshot.text, snapshot
    assert last is not None, "no snapshot"
    assert last.is_last, "no last snapshot"
    return last


async def answer_to(model, stream):
    """What a call of *model* comes to: a reply, or the error that it ends in."""
    try:
        reply = await model("Hi", stream=stream)
        return await read(reply) if stream else reply
    except (CallError, AssertionError) as error:
        return error


@pytest.mark.parametrize("options", ["", "~split=7", "~split=1"])
async def test_the_recorded_traffic(replay, options):
    """Every recorded answer and failure is read right: whole, in pieces of seven bytes, and streams byte by byte.

    In pieces without the longest, which say nothing new and take as long as all the others together; and one record of
    each kind, with MODELHUB_LONG=1 all.
    """
    records = [
        record
        for record in replay.records.values()
        if record["provider"] == "anthropic" and record["endpoint"] == "messages"
    ]
    if options == "~split=1":
        records = [record for record in records if "stream" in record["tags"]]
    longest, count = COVERED[options]
    records = [record for record in records if len(record["response"]) <= longest]
    assert len(records) >= count
    records = sample(records) if options else records

    def model_for(lane):
        return AnthropicChatModel("claude-haiku-4-5", KEY, base_url=address_of(replay, lane, options))

    async def check(record, model):
        return differences(record, await answer_to(model, "stream" in record["tags"]))

    wrong = await check_in_lanes(records, model_for, check)
    assert {key: found for key, found in wrong.items() if key not in EXPLAINED} == {}
    assert all(found[0][0] == "finish" and len(found) == 1 for found in wrong.values())


# -- faults of whole answers -----------------------------------------------------------------------------------------


def error(kind, text="no", **more):
    """An error body of the API."""
    return {"type": "error", "error": {"type": kind, "message": text, **more}, "request_id": "req_body"}


def make(server, **more):
    """A model at *server*."""
    return AnthropicChatModel("claude-haiku-4-5", KEY, **{"stream": False, "base_url": server.url, **more})


async def failed(server, **more):
    """The failure a call ends in, after exactly one request and with every connection given back."""

    async def call():
        reply = await model("Hi")
        return await reply.final() if isinstance(reply, ChatStream) else reply

    async with make(server, **more) as model:
        with pytest.raises(CallError) as caught:
            await call()
    await server.idle()
    assert len(server.asked) == 1
    assert KEY not in str(caught.value)
    assert caught.value.provider == "anthropic"
    return caught.value


STATUSES = [
    (400, "invalid_request_error", RequestRefused),
    (401, "authentication_error", AuthenticationFailed),
    (402, "billing_error", QuotaExhausted),
    (403, "permission_error", AuthenticationFailed),
    (404, "not_found_error", ModelNotFound),
    (408, "timeout_error", ServerError),
    (409, "conflict_error", ServerError),
    (413, "request_too_large", RequestRefused),
    (422, "invalid_request_error", RequestRefused),
    (429, "rate_limit_error", RateLimited),
    (429, "invalid_request_error", RateLimited),
    (500, "api_error", ServerError),
    (501, None, ServerError),
    (503, None, Overloaded),
    (504, "timeout_error", ServerError),
    (529, "overloaded_error", Overloaded),
]


@table("streams", [False, True])
@table(("status", "kind", "wanted"), STATUSES)
async def test_every_status(loopback, status, kind, wanted, streams):
    """Each status and type becomes our class, with the vendor's words, after one request."""
    loopback.answers(error(kind) if kind else {}, status=status, request_id="req_1")
    failure = await failed(loopback, stream=streams)
    assert type(failure) is wanted
    assert (failure.status, failure.code, failure.request_id) == (status, kind, "req_1")
    assert str(failure).startswith(f"anthropic said {status}: ")


@table(
    ("status", "body", "wanted"),
    [
        (429, error("rate_limit_error", details={"error_code": "contract_spend_limit_reached"}), QuotaExhausted),
        (429, error("rate_limit_error", details={"error_code": "enforced_spend_limit_reached"}), QuotaExhausted),
        (429, error("rate_limit_error", details={"error_code": "ramp_limit_exceeded"}), RateLimited),
        (400, error("invalid_request_error", details={"error_code": "organization_on_hold"}), AuthenticationFailed),
        (400, error("invalid_request_error", details={"error_code": "image_dimensions_too_large"}), RequestRefused),
        (400, error("invalid_request_error", "prompt is too long: 3 tokens > 2 maximum"), ContextTooLong),
        (
            400,
            error("invalid_request_error", "input length and `max_tokens` exceed context limit: 1 + 2 > 2"),
            ContextTooLong,
        ),
        (400, error("invalid_request_error", "Your credit balance is too low to access"), QuotaExhausted),
        (400, error("invalid_request_error", "You have reached your specified API usage limits."), QuotaExhausted),
        (400, error("invalid_request_error", "Output blocked by content filtering policy"), ContentBlocked),
        (
            400,
            error("invalid_request_error", "This model does not support assistant message prefill."),
            UnsupportedFeature,
        ),
        (400, error("invalid_request_error", "Is it true that the prompt is too long?"), RequestRefused),
        (400, {"error": {"code": 400, "message": "n", "type": "exceed_context_size_error"}}, ContextTooLong),
        (404, {"error": {"message": "n", "code": "model_not_found", "type": "invalid_request_error"}}, ModelNotFound),
    ],
)
async def test_codes_say_more_than_the_status(loopback, status, body, wanted):
    """Finer codes decide; for the few failures without one, the beginning of the message does."""
    loopback.answers(body, status=status)
    assert type(await failed(loopback)) is wanted


@table(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 3600),
        ({}, None),
        (
            {
                "date": "Sun, 01 Nov 2026 10:00:00 GMT",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2026-11-01T10:00:20Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-01T10:00:50Z",
                "anthropic-ratelimit-output-tokens-remaining": "800",
                "anthropic-ratelimit-output-tokens-reset": "2026-11-01T10:05:00Z",
            },
            50,
        ),
        ({"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "soon"}, None),
    ],
)
async def test_how_long_to_wait(loopback, headers, wait):
    """Retry-After in every form; without it the last reset of the limits that are used up."""
    loopback.answers(error("rate_limit_error"), status=429, **headers)
    failure = await failed(loopback)
    assert failure.retry_after == wait


BODIES = [
    (502, "<html>Bad gateway</html>", "text/html", ServerError),
    (503, "", "application/json", Overloaded),
    (500, "", "application/json", ServerError),
    (400, '{"type": "error", "err', "application/json", RequestRefused),
    (400, '"just text"', "application/json", RequestRefused),
    (400, '{"error": "just text"}', "application/json", RequestRefused),
    (400, "[1, 2]", "application/json", RequestRefused),
    (400, '{"error": {"type": 3, "details": []}}', "application/json", RequestRefused),
    (307, "", "text/plain", NotConfigured),
    (200, '{"content": [', "application/json", BadReply),
    (200, "<html>Welcome</html>", "text/html", BadReply),
    (200, "", "application/json", BadReply),
    (200, "[]", "application/json", BadReply),
    (200, "null", "application/json", BadReply),
    (200, "{}", "application/json", BadReply),
    (200, '{"type": "message", "content": []}', "application/json", BadReply),
    (200, '{"type": "message", "content": "text"}', "application/json", BadReply),
    (200, '{"type": "message", "content": [3]}', "application/json", BadReply),
    (200, '{"type": "message", "content": [{"type": "tool_use"}]}', "application/json", BadReply),
    (200, '{"type": "message", "content": [], "usage": {"input_tokens": "many"}}', "application/json", BadReply),
    (200, json.dumps(error("overloaded_error")), "application/json", Overloaded),
    (200, json.dumps(error("rate_limit_error")), "application/json", RateLimited),
    (200, '{"error": {"message": "odd"}}', "application/json", ServerError),
]


@pytest.mark.parametrize("streams", [False, True])
async def test_strange_bodies(loopback, streams):
    """Broken, empty, foreign and misshapen bodies, and errors under 200, become our classes, streamed or not."""
    for status, body, content_type, wanted in BODIES:
        loopback.answers(body, status=status, content_type=content_type, location="/elsewhere")
        loopback.asked.clear()
        assert type(await failed(loopback, stream=streams)) is wanted, (status, body)


@pytest.mark.parametrize("streams", [False, True])
async def test_a_body_that_is_no_stream_at_all(loopback, streams):
    """An error object under the name of a stream is still that error."""
    loopback.answers(json.dumps(error("overloaded_error"), indent=1), content_type=SSE)
    assert type(await failed(loopback, stream=streams)) is Overloaded


@table("streams", [False, True])
@table("end", ["cut", "reset"])
async def test_a_connection_that_breaks_before_the_answer(loopback, end, streams):
    """Closed or reset without a byte: the connection was lost, and nobody asks again."""
    loopback.breaks(end=end)
    assert type(await failed(loopback, stream=streams)) is ConnectionLost


@pytest.mark.parametrize("status", [200, 500])
async def test_a_body_that_is_cut(loopback, status):
    """A body that ends early is a lost connection for an answer; for a refusal, its status says more."""
    loopback.breaks(b"HTTP/1.1 %d -\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{" % status)
    assert type(await failed(loopback)) is (ConnectionLost if status == 200 else ServerError)


@pytest.mark.parametrize("streams", [False, True])
async def test_silence(loopback, streams):
    """No answer within the client's own timeout is a timeout of ours."""
    loopback.breaks(end="hang")
    assert type(await failed(loopback, stream=streams, client_args={"timeout": 0.2})) is TimedOut


@pytest.mark.parametrize("streams", [False, True])
async def test_nobody_listens(loopback, streams):
    """A refused connection surely sent nothing."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    async with make(loopback, stream=streams, base_url=f"http://127.0.0.1:{port}") as model:
        with pytest.raises(ConnectFailed):
            await model("Hi")


async def test_an_exhausted_pool(loopback):
    """No free connection in time is a connect timeout: nothing was sent."""
    import httpx2

    loopback.breaks(end="hang")
    limits = httpx2.Limits(max_connections=1)
    async with httpx2.AsyncClient(limits=limits) as http:
        args = {"http_client": http, "timeout": httpx2.Timeout(5, pool=0.1)}
        async with make(loopback, client_args=args) as model:
            first = asyncio.create_task(model("Hi"))
            while not loopback.asked:
                await asyncio.sleep(0.01)
            with pytest.raises(ConnectTimeout):
                await model("Hi")
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first


# -- faults of streams -----------------------------------------------------------------------------------------------


def sse(*events):
    """Events as a stream writes them."""
    return ["event: {}\ndata: {}\n\n".format(event["type"], json.dumps(event)) for event in events]


START = {
    "type": "message_start",
    "message": {"id": "msg_1", "model": "m", "content": [], "usage": {"input_tokens": 9, "output_tokens": 1}},
}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}}
DELTA = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
STOP = {"type": "message_stop"}
BEGUN = sse(START, {"type": "ping"}, BLOCK)

ENDINGS = [
    ([], "clean", BadReply),
    (sse(DELTA), "clean", BadReply),
    ([], "cut", ConnectionLost),
    ([], "reset", ConnectionLost),
    ([], "hang", TimedOut),
    (["event: content_block_delta\nda"], "clean", BadReply),
    (['event: content_block_delta\ndata: {"type": "content_bl'], "clean", BadReply),
    (["event: content_block_delta\ndata: {oops}\n\n"], "clean", BadReply),
    (["data: [1]\n\n"], "clean", BadReply),
    (sse({"type": "content_block_delta", "index": 0}), "clean", BadReply),
    (sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": 3}}), "clean", BadReply),
    (
        sse({"type": "content_block_delta", "index": 5, "delta": {"type": "input_json_delta", "partial_json": "{"}}),
        "clean",
        BadReply,
    ),
    (sse(error("overloaded_error")), "clean", Overloaded),
    (sse(error("rate_limit_error")), "clean", RateLimited),
    (sse(error("api_error")), "clean", ServerError),
    (sse(error("invalid_request_error", "Output blocked by content filtering policy")), "clean", ContentBlocked),
    (sse(error("invalid_request_error")), "clean", RequestRefused),
    (["data: " + json.dumps(error("overloaded_error")) + "\n\n"], "clean", Overloaded),
    (['data: {"error": {"type": "overloaded_error", "message": "n"}}\n\n'], "clean", Overloaded),
    (["event: error\ndata: upstream is gone\n\n"], "clean", ServerError),
    (sse({"type": "error", "error": "upstream is gone"}), "clean", ServerError),
]


CALL = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
CALLED = {"type": "content_block_start", "index": 0, "content_block": CALL}
LEFT_OUT = {
    "the start": [CALLED, {"type": "content_block_stop", "index": 0}, DELTA, STOP],
    "the start's message": [{"type": "message_start", "message": None}, CALLED, DELTA, STOP],
    "a block's end": [START, CALLED, DELTA, STOP],
    "the reason": [START, CALLED, {**DELTA, "delta": {"stop_reason": None}}, STOP],
    "all but the end": [CALLED, STOP],
}


@table("events", LEFT_OUT.values(), ids=list(LEFT_OUT))
async def test_a_stream_may_leave_out_what_goes_without_saying(loopback, events):
    """A call's arguments are never lost, and an answer with calls ends for their sake."""
    loopback.streams(*sse(*events), content_type=SSE)
    async with make(loopback) as model:
        reply = await (await model("hi", stream=True)).final()
    assert [call["input"] for call in reply.tool_calls] == [{"a": 1}]
    assert reply.finish_reason == "tool_calls"


@table(("ending", "end", "wanted"), ENDINGS)
async def test_a_stream_that_fails_before_its_content(loopback, ending, end, wanted):
    """Before the first content the failure itself comes out of the call, after one request."""
    loopback.streams(*BEGUN, *ending, content_type=SSE, end=end, request_id="req_3")
    failure = await failed(loopback, stream=True, client_args={"timeout": 0.3})
    assert type(failure) is wanted
    assert failure.status is None


@table(("ending", "end", "wanted"), ENDINGS)
async def test_a_stream_that_fails_after_its_content(loopback, ending, end, wanted):
    """After content has been seen, the stream is broken: with what there was, what it had cost, and why."""
    loopback.streams(*BEGUN, *sse(TEXT), *ending, content_type=SSE, end=end)
    failure = await failed(loopback, stream=True, client_args={"timeout": 0.3})
    assert type(failure) is StreamBroken
    assert failure.partial.text == "Hel"
    assert type(failure.__cause__) is wanted
    assert failure.attempts[0].usage.input_tokens == 9


@table("end", ["clean", "cut", "reset", "hang"])
async def test_after_the_end_mark_nothing_can_fail(loopback, end):
    """Once message_stop is there the answer is whole, whatever becomes of the connection, and nobody waits for it."""
    loopback.streams(*BEGUN, *sse(TEXT, DELTA, STOP), content_type=SSE, end=end)
    loop = asyncio.get_running_loop()
    async with make(loopback, stream=True) as model:
        began = loop.time()
        last = await (await model("Hi")).final()
    assert (last.text, last.usage.output_tokens) == ("Hel", 3)
    assert loop.time() - began < 2
    await loopback.idle()


@table("left", ["broken off", "closed", "cancelled", "dropped"])
async def test_a_stream_that_is_left_gives_its_connection_back(loopback, left):
    """Whoever stops reading, in whatever way, leaves no connection behind."""
    loopback.streams(*BEGUN, *sse(TEXT), content_type=SSE, end="hang")
    model = make(loopback, stream=True)
    stream = await model("Hi")
    if left == "broken off":
        async with stream:
            async for _ in stream:
                break
    elif left == "closed":
        await stream.aclose()
    elif left == "cancelled":
        task = asyncio.create_task(stream.final())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = None  # who still has it may read on
    else:
        forgotten = [stream]
        del stream
        with pytest.warns(ResourceWarning, match="never read"):
            forgotten.clear()
    await loopback.idle()
    await model.aclose()
    assert len(loopback.asked) == 1


@pytest.mark.parametrize("streams", [False, True])
async def test_a_call_that_is_cancelled_gives_its_connection_back(loopback, streams):
    """Cancelling before the first byte closes the connection and is not taken for a failure."""
    loopback.breaks(end="hang")
    async with make(loopback, stream=streams) as model:
        task = asyncio.create_task(model("Hi"))
        while not loopback.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await loopback.idle()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_one_model_serves_several_event_loops(replay):
    """Connections belong to their loop: the same model works in one loop after the other, and closes in a fourth."""
    record = next(
        record
        for record in replay.records.values()
        if record["provider"] == "anthropic" and record["expect"].get("finish_reason") == "end_turn"
        if "stream" not in record["tags"]
    )
    models = [AnthropicChatModel("m", "sk-ant-test", stream=False, base_url=f"{replay.url}/i/{record['id']}")]

    async def twice():
        return [(await models[0]("Hi")).finish_reason for _ in range(2)]

    assert [asyncio.run(twice()) for _ in range(3)] == [["stop", "stop"]] * 3
    asyncio.run(models.pop().aclose())
    gc.collect()


async def test_a_long_stream_costs_the_same_for_each_piece(loopback):
    """Four times the pieces of arguments take about four times as long: nothing is read again for each piece."""

    async def seconds(count):
        call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
        piece = {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "1,"}}
        pieces = sse(START, {**BLOCK, "content_block": call})
        pieces += sse({**piece, "delta": {**piece["delta"], "partial_json": '{"a": ['}}, *[piece] * count)
        pieces += sse({**piece, "delta": {**piece["delta"], "partial_json": "1]}"}}, DELTA, STOP)
        loopback.streams("".join(pieces), content_type=SSE)
        async with make(loopback, stream=True) as model:
            began = time.process_time()
            last = await (await model("Hi")).final()
        assert len(last.tool_calls[0].input["a"]) == count + 1
        return time.process_time() - began

    await seconds(200)
    few, many = [min([await seconds(count) for _ in range(3)]) for count in (1000, 4000)]
    assert many < 8 * few
