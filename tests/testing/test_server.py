"""The fault server, through the real providers: what it says when nothing is wrong, and every way it can fail."""

import asyncio
import json
import socket
import urllib.request

import pytest
from pydantic import BaseModel

from modelhub import (
    AnthropicChatModel,
    AuthenticationFailed,
    BadReply,
    ConnectFailed,
    ConnectionLost,
    ContentBlocked,
    ContextTooLong,
    DashScopeChatModel,
    GeminiChatModel,
    ModelNotFound,
    OllamaChatModel,
    OpenAIChatModel,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    StreamBroken,
    TimedOut,
    UnsupportedFeature,
)
from modelhub.core.errors import CallError
from modelhub.testing import FAULTS, CannedResponse, FaultServer, ToolCall, faults, run_virtual
from modelhub.testing.wires import PARAGRAPH, WIRES, wire_at
from tests.tables import table

KEY = "sk-very-secret-0123456789"
TEXT = "one two three four five six seven eight nine ten"
EACH = table("kind", WIRES)
BOTH = table("stream", [False, True], ids=["whole", "stream"])
MODELS = {
    "openai": lambda url, stream: OpenAIChatModel("gpt-5-mini", KEY, stream, base_url=f"{url}/v1"),
    "openai_responses": lambda url, stream: OpenAIChatModel(
        "gpt-5-mini", KEY, stream, api="responses", base_url=f"{url}/v1"
    ),
    "anthropic": lambda url, stream: AnthropicChatModel("claude-haiku-4-5", KEY, stream=stream, base_url=url),
    "dashscope": lambda url, stream: DashScopeChatModel("qwen-plus", KEY, stream, base_url=f"{url}/api/v1"),
    "ollama": lambda url, stream: OllamaChatModel("llama3", stream, host=url, api_key=KEY),
    "gemini": lambda url, stream: GeminiChatModel("gemini-3-flash", KEY, stream, base_url=url),
}


def at(server, kind="openai", stream=False, name="model"):
    """A model of *kind* at the route *name*."""
    return MODELS[kind](server.url(name), stream)


async def ask(model, messages="say the numbers", **kwargs):
    """The complete reply of *model*."""
    reply = await model(messages, **kwargs)
    return await reply.final() if model.stream else reply


async def attempt(model, messages="say the numbers", **kwargs):
    """The complete reply of *model*, or its error."""
    try:
        return await ask(model, messages, **kwargs)
    except CallError as error:
        return error


async def asked(kind, stream, script, messages="say the numbers", **kwargs):
    """What a model of *kind* makes of *script*: its reply or its error, and the server's log of it."""
    async with FaultServer(TEXT) as server, at(server, kind, stream) as model:
        server.script("model", script)
        return await attempt(model, messages, **kwargs), server.requests("model")


# -- when nothing is wrong ---------------------------------------------------------------------------------------------


@EACH
@BOTH
def test_a_healthy_answer_is_whole(kind, stream):
    """Text, usage and reason come out the same for every vendor, whole and streamed."""

    async def main():
        async with FaultServer() as server, at(server, kind, stream) as model:
            return await ask(model), server.requests("model")

    reply, [request] = run_virtual(main())
    assert (reply.text, reply.finish_reason) == (PARAGRAPH, "stop")
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (3, 60)
    assert (request.wire, request.stream, request.attempt, request.healthy) == (kind, stream, 1, True)
    assert len(PARAGRAPH.split()) == 60


@EACH
@BOTH
def test_tools_are_called_where_they_are_offered(kind, stream):
    """An answer with tool calls makes them if the request has tools, and leaves them out otherwise."""
    call = ToolCall("get_weather", {"city": "Paris", "days": [1, 2]}, id="call_7")
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}

    async def main():
        async with FaultServer(CannedResponse("Let me look.", [call])) as server, at(server, kind, stream) as model:
            return await ask(model, tools=[tool]), await ask(model)

    with_tools, without = run_virtual(main())
    [text, block] = with_tools.content
    assert (text["text"], with_tools.finish_reason) == ("Let me look.", "tool_calls")
    assert (block["id"], block["name"], block["input"]) == ("call_7", "get_weather", call.arguments)
    assert (without.text, without.finish_reason, len(without.content)) == ("Let me look.", "stop", 1)


class Person(BaseModel):
    name: str
    age: int
    tags: list[str]
    nick: str | None


@EACH
@BOTH
def test_structured_output_gets_what_fits(kind, stream):
    """Whoever asks for a structure, by schema or by a forced tool, gets the least that fits."""
    reply, _ = run_virtual(asked(kind, stream, faults.healthy(), structured_model=Person))
    assert reply.metadata == {"name": "text", "age": 0, "tags": [], "nick": "text"}


def test_words_come_one_by_one_in_their_time():
    """A stream pauses between words, in the loop's own time."""

    async def main():
        loop = asyncio.get_running_loop()
        async with FaultServer(CannedResponse(TEXT, interval=0.5)) as server, at(server, stream=True) as model:
            stream = await model("hi")
            times = [(loop.time(), snapshot.delta) async for snapshot in stream]
        return [round(time - times[0][0], 1) for time, delta in times if delta], [delta for _, delta in times if delta]

    times, deltas = run_virtual(main())
    assert "".join(deltas) == TEXT
    assert times == [0.5 * number for number in range(10)]


# -- every fault, every vendor, whole and streamed ---------------------------------------------------------------------

OK = "ok"
Broken = lambda cause: (StreamBroken, cause)  # noqa: E731 - reads well in the table
CASES = {
    # name: fault, what a plain call gives, what a stream gives, what is different for whom
    "400": (faults.status(400), RequestRefused, RequestRefused, {}),
    "401": (faults.status(401), AuthenticationFailed, AuthenticationFailed, {}),
    "402": (faults.status(402), QuotaExhausted, QuotaExhausted, {}),
    "403": (faults.status(403), AuthenticationFailed, AuthenticationFailed, {}),
    "404": (faults.status(404), ModelNotFound, ModelNotFound, {}),
    "413": (faults.status(413), RequestRefused, RequestRefused, {}),
    "422": (faults.status(422), RequestRefused, RequestRefused, {}),
    "429": (faults.status(429), RateLimited, RateLimited, {}),
    "500": (faults.status(500), ServerError, ServerError, {}),
    "502": (faults.status(502), ServerError, ServerError, {}),
    "503": (faults.status(503), Overloaded, Overloaded, {}),
    "529": (faults.status(529), Overloaded, Overloaded, {}),
    "rate_limit": (faults.status(kind="rate_limit"), RateLimited, RateLimited, {}),
    "quota": (faults.status(kind="insufficient_quota"), QuotaExhausted, QuotaExhausted, {}),
    "context": (faults.status(kind="context_length"), ContextTooLong, ContextTooLong, {}),
    "filter": (
        faults.status(kind="content_filter"),
        ContentBlocked,
        ContentBlocked,
        {},
    ),
    "auth": (faults.status(kind="auth"), AuthenticationFailed, AuthenticationFailed, {}),
    "not_found": (faults.status(kind="not_found"), ModelNotFound, ModelNotFound, {}),
    "overloaded": (faults.status(kind="overloaded"), Overloaded, Overloaded, {}),
    "server_error": (faults.status(kind="server_error"), ServerError, ServerError, {}),
    "invalid": (faults.status(kind="invalid_request"), RequestRefused, RequestRefused, {}),
    "reset": (faults.reset(), ConnectionLost, ConnectionLost, {}),
    "close": (faults.close(), ConnectionLost, ConnectionLost, {}),
    "refused": (faults.refused(), ConnectFailed, ConnectFailed, {}),
    "silence": (faults.silence(), TimedOut, TimedOut, {}),
    "short silence": (faults.silence(15), ConnectionLost, ConnectionLost, {}),
    "half open": (faults.half_open(), TimedOut, TimedOut, {}),
    "slow": (faults.slow_first_token(20), OK, OK, {}),
    "cut": (faults.cut(4), ConnectionLost, Broken(ConnectionLost), {}),
    "cut clean": (faults.cut(4, clean=True), BadReply, Broken(BadReply), {}),
    "cut at once": (faults.cut(0), ConnectionLost, ConnectionLost, {}),
    "cut at once, clean": (faults.cut(0, clean=True), BadReply, BadReply, {}),
    "cut body": (faults.cut_body(), ConnectionLost, Broken(ConnectionLost), {}),
    "stall": (faults.stall(4), TimedOut, Broken(TimedOut), {}),
    "garbled": (faults.garbled(4), BadReply, Broken(BadReply), {}),
    "garbled, replaced": (faults.garbled(4, replace=True), BadReply, Broken(BadReply), {}),
    "no end mark": (faults.no_end_mark(), OK, Broken(BadReply), {}),
    "no done": (faults.no_done(), OK, OK, {}),
    "error in 200": (faults.error_in_200(), Overloaded, Overloaded, {}),
    "error event": (
        faults.error_event(after=4),
        Overloaded,
        Broken(Overloaded),
        {},
    ),
    "error event first": (
        faults.error_event("rate_limit", after=0),
        RateLimited,
        RateLimited,
        {},
    ),
    "empty": (faults.empty(), BadReply, BadReply, {}),
    "html": (faults.html(), BadReply, BadReply, {}),
    "{}": (faults.wrong_json("{}"), BadReply, BadReply, {}),
    "[]": (faults.wrong_json("[]"), BadReply, BadReply, {}),
    "null": (faults.wrong_json("null"), BadReply, BadReply, {}),
    "wrong JSON": (faults.wrong_json(), BadReply, BadReply, {}),
    "broken JSON": (faults.broken_json(), BadReply, BadReply, {}),
    "trickle": (faults.trickle(), OK, OK, {}),
    "healthy": (faults.healthy(), OK, OK, {}),
}


def outcome(found):
    """What came out, as the table says it."""
    if not isinstance(found, CallError):
        return OK if found.text == TEXT and found.finish_reason == "stop" else found.finish_reason
    return (StreamBroken, type(found.__cause__)) if isinstance(found, StreamBroken) else type(found)


async def play_all(kind, stream):
    """What one model of *kind* makes of every fault, one after another, and the server's log of each."""
    async with FaultServer(TEXT) as server, at(server, kind, stream) as model:
        answers = {}
        for name, (fault, *_) in CASES.items():
            server.script("model", fault)
            before = len(server.requests("model"))
            answers[name] = await attempt(model), server.requests("model")[before:]
        return answers


@EACH
@BOTH
def test_every_fault_is_what_the_provider_makes_of_it(kind, stream):
    """One class of ours for every fault, on every wire; one request; no waiting in real time."""
    answers = run_virtual(play_all(kind, stream))
    expected = {
        name: different.get(kind, (whole, streamed))[stream] for name, (_, whole, streamed, different) in CASES.items()
    }
    assert {name: outcome(found) for name, (found, _) in answers.items()} == expected
    assert [name for name, (_, log) in answers.items() if len(log) != 1] == ["refused"]
    assert answers["refused"][1] == []
    for found, _ in answers.values():
        if isinstance(found, StreamBroken):
            assert TEXT.startswith(found.partial.text.strip())
            assert found.partial.text


@EACH
@table(("form", "least"), [("seconds", 37), ("ms", 37), ("date", 35)])
def test_how_long_to_wait_is_said_in_every_form(kind, form, least):
    """Seconds, milliseconds, or a date; some SDKs also look for `x-should-retry`, which here changes nothing."""
    fault = faults.status(429, retry_after=37, form=form, should_retry=True)
    found, log = run_virtual(asked(kind, form == "ms", fault))
    assert type(found) is RateLimited
    assert least <= found.retry_after <= 37
    assert len(log) == 1


@EACH
@BOTH
def test_a_prefilled_answer_is_refused(kind, stream):
    """Only a conversation that ends with the assistant is refused."""
    user, assistant = {"role": "user", "content": "count"}, {"role": "assistant", "content": "one two"}
    refused, _ = run_virtual(asked(kind, stream, faults.no_prefill(), [user, assistant]))
    taken, _ = run_virtual(asked(kind, stream, faults.no_prefill(), [user, assistant, user]))
    unsupported = kind != "dashscope"
    assert type(refused) is (UnsupportedFeature if unsupported else RequestRefused)
    assert refused.status == 400
    assert outcome(taken) == OK


# -- scripts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "expected"),
    [("repeat", [429, 500, 500, 500]), ("healthy", [429, 500, None, None])],
)
def test_a_script_is_played_one_fault_a_request(then, expected):
    """In order; then the last one again, or none."""

    async def main():
        async with FaultServer() as server, at(server) as model:
            server.script("model", [faults.status(429), faults.status(500)], then)
            found = [await status_of(model) for _ in range(4)]
            server.heal("model")
            return found, await status_of(model), [one.attempt for one in server.requests("model")]

    assert run_virtual(main()) == (expected, None, [1, 2, 3, 4, 1])


async def status_of(model):
    try:
        await model("hi")
    except CallError as error:
        return error.status
    return None


def test_a_flap_follows_the_clock():
    """Down for a while from when the script is set, then up, and again."""

    async def main():
        async with FaultServer() as server, at(server) as model:
            await asyncio.sleep(7)
            server.script("model", faults.flap(down=60, up=30))
            found = []
            for _ in range(8):
                found.append(await status_of(model))
                await asyncio.sleep(20)
            return found, [one.at for one in server.requests("model")][:2]

    found, times = run_virtual(main())
    assert found == [503, 503, 503, None, None, 503, 503, 503]
    assert times == [7, 27]


def test_a_script_may_be_a_function_of_the_request():
    """Whatever can be read off a request can decide."""

    def picky(request):
        return faults.status(400) if "please" not in str(request.body) else None

    async def main():
        async with FaultServer() as server, at(server, "anthropic", False) as model:
            server.script("model", picky)
            with pytest.raises(RequestRefused):
                await model("now")
            return await model("now, please")

    assert run_virtual(main()).text == PARAGRAPH


def test_routes_do_not_know_each_other():
    """Every model has a script, an answer and a log of its own."""

    async def main():
        async with FaultServer() as server:
            server.script("bad", faults.status(503))
            server.script("other", (), answer="Something else.")
            async with (
                at(server, name="bad") as bad,
                at(server, "gemini", False, "other") as other,
            ):
                with pytest.raises(Overloaded):
                    await bad("hi")
                reply = await other("hi")
            return reply.text, [one.route for one in server.requests()], server.requests("nobody")

    assert run_virtual(main()) == ("Something else.", ["bad", "other"], [])


def test_a_refusing_port_opens_again():
    """Refused connections, those that stood included, until another script is set; the address stays."""

    async def main():
        async with FaultServer() as server, at(server) as model:
            before = (await model("hi")).text, server.url("model"), server.connections
            server.script("model", faults.refused())
            await asyncio.sleep(1)  # the end of the connection that stood arrives
            for _ in range(2):
                with pytest.raises(ConnectFailed):
                    await model("hi")
            server.heal("model")
            assert ((await model("hi")).text, server.url("model"), server.connections) == before
            with pytest.raises(ValueError, match="must be the only fault"):
                server.script("model", [faults.refused(), faults.status(500)])
            async with MODELS["openai"](server.refused_url(), False) as nobody:
                with pytest.raises(ConnectFailed):
                    await nobody("hi")

    run_virtual(main())


def test_connections_are_used_again_and_counted():
    """Answers in order leave the connection open, errors too; what breaks takes its connection along."""

    async def main():
        async with FaultServer() as server, at(server, "ollama", True) as model:
            await ask(model)
            server.script("model", faults.status(500), "healthy")
            assert await status_of(model) == 500
            await ask(model)
            assert server.connections == 1
            server.script("model", faults.reset(), "healthy")
            with pytest.raises(ConnectionLost):
                await ask(model)
            await asyncio.sleep(0.1)
            assert server.connections == 0

    run_virtual(main())


def test_who_hangs_up_is_noticed():
    """The log tells when a client lost patience, and the connection is gone."""

    async def main():
        async with FaultServer() as server, at(server, "gemini", True) as model:
            server.script("model", faults.silence())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(12):
                    await model("hi")
            await asyncio.sleep(1)
            [request] = server.requests("model")
            return request.gave_up_at, server.connections

    gave_up_at, connections = run_virtual(main())
    assert gave_up_at == pytest.approx(12, abs=0.1)
    assert connections == 0


def test_reset_begins_anew():
    """Requests, scripts and the clock are forgotten; addresses stay."""

    async def main():
        async with FaultServer() as server, at(server) as model:
            url = server.url("model")
            server.script("model", faults.refused())
            await asyncio.sleep(5)
            server.reset()
            assert (server.url("model"), server.requests(), server.now()) == (url, [], 0)
            return (await model("hi")).text

    assert run_virtual(main()) == PARAGRAPH


# -- what is kept ------------------------------------------------------------------------------------------------------


@EACH
def test_no_secret_is_recorded(kind):
    """The log has the request, and nothing that authorizes."""
    _, [request] = run_virtual(asked(kind, False, faults.healthy()))
    assert KEY not in repr(request) + str(request.headers) + str(request.body) + request.path
    assert "***" in request.headers.values()
    assert "say the numbers" in json.dumps(request.body)
    assert wire_at(request.path.partition("?")[0]) is WIRES[kind]


def test_a_key_in_the_query_is_not_recorded():
    """Google's keys may stand in the address."""
    with FaultServer("Fine.").running() as server:
        url = f"{server.url('model')}/v1/models/m:generateContent?key={KEY}&alt=json"
        request = urllib.request.Request(url, b'{"contents": []}', {"X-Api-Key": KEY})
        with urllib.request.urlopen(request, timeout=5) as reply:
            assert json.load(reply)["candidates"][0]["content"]["parts"] == [{"text": "Fine."}]
        [recorded] = server.requests("model")
    assert KEY not in repr(recorded)
    assert recorded.path.endswith("?key=***&alt=json")


# -- in a thread, and by itself ----------------------------------------------------------------------------------------


@EACH
async def test_a_server_in_a_thread_serves_other_loops(kind):
    """The same in real time, for code that has a loop of its own, or none."""
    with FaultServer(TEXT).running() as server:
        server.script("model", faults.status(503), "healthy")
        async with at(server, kind, True) as model:
            with pytest.raises(Overloaded):
                await ask(model)
            assert (await ask(model)).text == TEXT
        assert [one.attempt for one in server.requests("model")] == [1, 2]


def test_a_server_that_does_not_run_says_so():
    """Before `async with` and after it there are no addresses."""
    server = FaultServer()
    with pytest.raises(RuntimeError, match="not running"):
        server.url("model")
    with server.running():
        url = server.url("model")
    with pytest.raises(RuntimeError, match="not running"):
        server.script("model", faults.close())
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0])), timeout=1)


def test_other_paths_are_not_found():
    """A path that is no vendor's gets a 404 and is not recorded as a chat."""
    with FaultServer().running() as server:
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{server.url('model')}/v1/models", timeout=5)
        caught.value.close()
        assert (caught.value.code, server.requests()) == (404, [])


def test_the_drill_has_titles_and_expectations():
    """Every entry of the standard list can be told from the others, and says what should come of it."""
    titles = [drill.title for drill in FAULTS.values()]
    assert len(set(titles)) == len(titles) >= 21
    assert {drill.expects for drill in FAULTS.values()} == {"answer", "error"}
    assert all(drill.script for drill in FAULTS.values())
