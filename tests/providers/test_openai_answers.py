"""How odd answers of OpenAI's chat completions are read, and those of all who speak like it."""

import asyncio
import gc
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from modelhub.core.errors import CallError
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.http_provider import WholeBody
from modelhub.providers.openai import OpenAIChatModel
from modelhub.providers.openai.apis import CHAT_API
from modelhub.providers.response_builder import ResponseBuilder
from tests.providers.openai_api import chunks
from tests.tables import table

pytestmark = pytest.mark.usefixtures("bare_openai_environment")

SSE = "text/event-stream"
ANSWER = {"id": "c1", "model": "m1", "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}


@pytest.fixture
async def streamed(loopback):
    """Answer with a stream of deltas; the complete reply."""

    async def stream(*deltas, **kwargs):
        loopback.answers(chunks(*deltas, **kwargs), content_type=SSE)
        async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
            return await (await model("hi")).final()

    return stream


def call(index=0, id=None, name=None, arguments=None, **more):  # noqa: A002
    """A delta with a piece of a call."""
    given = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}, **more}
    return {"tool_calls": [{key: value for key, value in given.items() if value is not None}]}


def both(*deltas):
    """One delta with the calls of several."""
    return {"tool_calls": [one for delta in deltas for one in delta["tool_calls"]]}


WHOLE = [("a", "f", {"x": 1}), ("b", "g", {})]


@table(
    ("deltas", "expected"),
    [
        (
            [call(0, "a", "f", ""), call(0, None, None, '{"x"'), call(0, None, None, ": 1}"), call(1, "b", "g", "{}")],
            WHOLE,
        ),
        ([both(call(0, "a", "f", '{"x": 1}'), call(1, "b", "g", "{}"))], WHOLE),
        # index 0 for all: the ids tell
        ([both(call(0, "a", "f", '{"x": 1}'), call(0, "b", "g", "{}"))], WHOLE),
        ([call(0, "a", "f", '{"x": 1}'), call(0, "b", "g", "{}")], WHOLE),
        ([call(0, "a", "f", '{"x":'), call(0, "a", "f", " 1}"), call(0, "b", "g")], WHOLE),
        # no index: the id, else the call before
        ([call(None, "a", "f", '{"x":'), call(None, None, None, " 1}"), call(None, "b", "g", "{}")], WHOLE),
        ([call(None, "a", "f", '{"x":'), call(None, "b", "g", "{}"), call(None, "a", None, " 1}")], WHOLE),
        # in turns
        ([call(0, "a", "f"), call(1, "b", "g"), call(0, None, None, '{"x": 1}'), call(1, None, None, "{}")], WHOLE),
        # the name, or the id, comes late
        ([call(0, "a", None, '{"x":'), call(0, None, "f", " 1}"), call(1, "b", "g")], WHOLE),
        ([call(0, None, "f", '{"x":'), call(0, "a", None, " 1}"), call(1, "b", "g")], WHOLE),
        # ids change from piece to piece, names do not come again
        ([call(0, "a", "f", '{"x":'), call(0, "z", None, " 1}"), call(1, "b", "g")], WHOLE),
        ([call(0, "a", "f", '{"x":'), call(0, "", "", " 1}"), call(1, "b", "g", "")], WHOLE),
        # arguments that are no text
        ([both(call(0, "a", "f", {"x": 1}), call(1, "b", "g", {}))], WHOLE),
        # no ids at all: ids are made
        ([call(0, "", "f", '{"x": 1}'), call(0, "", "f", '{"x": 2}')], [(None, "f", {"x": 1}), (None, "f", {"x": 2})]),
        ([both(call(0, None, "f"), call(0, None, "f"))], [(None, "f", {}), (None, "f", {})]),
        # nothing in it
        ([call(0, None, None, None), {"tool_calls": None}, {"tool_calls": [None]}, {"content": "x"}], []),
        (
            [{"function_call": {"name": "f", "arguments": '{"x"'}}, {"function_call": {"arguments": ": 1}"}}],
            [(None, "f", {"x": 1})],
        ),
        (
            [call(0, "a", None, None, type="custom", function=None, custom={"name": "f", "input": '{"x": 1}'})],
            WHOLE[:1],
        ),
    ],
)
async def test_calls_survive_however_they_come(streamed, deltas, expected):
    """Pieces with wrong or missing indices, late names, ids that come late or change, and several at once."""
    reply = await streamed(*deltas)
    assert [(one["name"], one["input"]) for one in reply.tool_calls] == [one[1:] for one in expected]
    assert all(one["id"] == given or not given for one, (given, *_) in zip(reply.tool_calls, expected, strict=True))
    assert len({one["id"] for one in reply.tool_calls} - {""}) == len(expected)
    assert reply.finish_reason == ("tool_calls" if expected else "stop")


async def test_deltas_and_choices_that_are_not_there(streamed):
    """`delta: null`, empty choices and a role without content are passed over."""
    reply = await streamed(None, {"role": "assistant"}, {"content": None}, {"content": "a", "role": None}, {})
    assert (reply.text, reply.finish_reason) == ("a", "stop")


async def test_the_first_choice_is_the_answer(loopback):
    """With n > 1 the others are not mixed in, in a stream nor in a whole answer."""
    events = [
        {"choices": [{"index": i, "delta": {"content": text}}]} for i, text in ((1, "B"), (0, "A"), (1, "b"), (0, "a"))
    ]
    events += [{"choices": [{"index": i, "delta": {}, "finish_reason": "stop"}]} for i in (1, 0)]
    loopback.answers("".join(f"data: {json.dumps(event)}\n\n" for event in events), content_type=SSE)
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        assert (await (await model("hi", n=2)).final()).text == "Aa"
        choices = [
            {"index": i, "message": {"content": text}, "finish_reason": "stop"} for i, text in ((1, "B"), (0, "A"))
        ]
        loopback.answers({"choices": choices})
        assert (await model("hi", n=2, stream=False)).text == "A"


@table(
    ("deltas", "thinking"),
    [
        ([{"reasoning_content": "a"}, {"reasoning_content": "b"}], "ab"),
        ([{"reasoning": "a"}, {"reasoning": "b"}], "ab"),
        ([{"reasoning": "a", "reasoning_content": "a"}, {"reasoning": "b", "reasoning_content": "b"}], "ab"),
        ([{"reasoning_details": [{"type": "reasoning.text", "text": "ab", "index": 0}]}], "ab"),
        ([{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "ab"}]}]}], "ab"),
    ],
)
async def test_thinking_under_all_its_names(streamed, deltas, thinking):
    """One block, marked as this dialect's, in front of the text."""
    reply = await streamed(*deltas, {"content": "x"})
    assert (reply.thinking, reply.text) == (thinking, "x")
    assert [(block["type"], block.get("provider")) for block in reply.content] == [
        ("thinking", "openai"),
        ("text", None),
    ]


async def test_sealed_reasoning_is_kept_whole(streamed):
    """What OpenRouter wants back is put together from its pieces, on the block it belongs to."""
    pieces = [{"type": "reasoning.text", "text": text, "index": 0, "format": "f"} for text in ("a", "b")]
    pieces.append({"type": "reasoning.text", "signature": "sig", "index": 0})
    deltas = [{"reasoning": piece.get("text"), "reasoning_details": [piece]} for piece in pieces]
    reply = await streamed(*deltas, {"content": "x"}, call(0, "a", "f"))
    assert [block["type"] for block in reply.content] == ["thinking", "text", "tool_use"]
    kept = {"type": "reasoning.text", "text": "ab", "index": 0, "format": "f", "signature": "sig"}
    assert json.loads(reply.content[0]["data"]) == [kept]


async def test_a_refusal_is_text(streamed):
    """What the model says instead of an answer can be read, and finish_reason tells what it is."""
    reply = await streamed({"refusal": "I "}, {"refusal": "won't."})
    assert (reply.text, reply.finish_reason) == ("I won't.", "refusal")


@table(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}, (9, 2, 0, 0, 0)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "total_tokens": 16,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            (9, 7, 0, 0, 5),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 7,
                "total_tokens": 16,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            (9, 7, 0, 0, 5),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
            },
            (9, 2, 4, 3, 0),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": None},
            (9, 2, 4, 0, 0),
        ),
    ],
)
async def test_usage_is_counted_the_same_for_all(streamed, usage, expected):
    """Totals hold their parts, also where a server leaves the reasoning out of the answer's tokens."""
    found = (await streamed({"content": "a"}, usage=usage, choices=[])).usage
    parts = (found.cache_read_tokens, found.cache_write_tokens, found.reasoning_tokens)
    assert (found.input_tokens, found.output_tokens, *parts) == expected


async def test_the_request_id_is_kept(loopback):
    """The id that the vendor's support asks for stands in the story of the call."""
    loopback.answers(ANSWER, x_request_id="req_1")
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        assert (await model("hi", stream=False)).attempts[0].request_id == "req_1"
        loopback.answers(chunks({"content": "a"}), content_type=SSE, x_request_id="req_2")
        assert (await (await model("hi")).final()).attempts[0].request_id == "req_2"


async def test_a_stream_and_a_whole_answer_are_the_same(loopback, streamed):
    """The last snapshot is the reply that would have come whole."""
    one = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"reasoning_content": "hm", "content": "text", "tool_calls": [one]}
    last = await streamed(
        {"reasoning_content": "h"},
        {"content": "te"},
        {"reasoning_content": "m"},
        {"content": "xt"},
        call(0, "a", "f", '{"x": 1}'),
    )
    loopback.answers({"id": "c1", "choices": [{"message": message, "finish_reason": "tool_calls"}]})
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        whole = await model("hi", stream=False)
    assert (whole.content, whole.finish_reason, whole.id) == (last.content, last.finish_reason, last.id)


KEYS = ["id", "choices", "index", "delta", "message", "content", "tool_calls", "function", "name", "arguments", "usage"]
KEYS += ["finish_reason", "reasoning", "reasoning_details", "refusal", "prompt_tokens", "error", "code", "text", "type"]
LEAVES = st.none() | st.booleans() | st.integers(-3, 999) | st.sampled_from(["", "stop", "length", "a", "{}", "custom"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
NOTHING = {"created_at": "", "model": "m", "model_name": "m", "requested": "m", "attempts": []}


@given(st.lists(VALUES, max_size=5), VALUES)
def test_no_value_is_too_odd(deltas, last):
    """Whatever JSON stands where a delta or a chunk should: an answer, or an error of ours."""
    model, streamed, whole = OpenAIChatModel("m", "key-of-test"), ResponseBuilder(NOTHING), ResponseBuilder(NOTHING)
    streamed.api = whole.api = CHAT_API
    try:
        body = {"choices": [{"message": last, "finish_reason": "stop"}]}
        model.decode_event(WholeBody(json.dumps(body).encode()), whole)
        events = [*({"choices": [{"index": 0, "delta": delta}]} for delta in deltas), last]
        for event in events:
            model.decode_event(ServerSentEvent("", json.dumps(event).encode()), streamed)
        for answer in (whole, streamed):
            assert json.dumps(answer.snapshot())
            assert json.dumps(answer.final())
    except CallError:
        return


class Person(BaseModel):
    """Somebody."""

    name: str


async def test_structure_grows_in_a_stream(loopback):
    """Snapshots show what can be read so far; the last one is validated."""
    loopback.answers(chunks({"content": '{"na'}, {"content": 'me": "B'}, {"content": 'o"}'}), content_type=SSE)
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        seen = [snapshot.metadata async for snapshot in await model("who?", structured_model=Person)]
    assert seen == [{}, {"name": "B"}, {"name": "Bo"}, {"name": "Bo"}]


async def test_many_fragments_are_little_work(loopback):
    """Arguments are parsed when they are read: once, however many pieces they come in."""
    text = json.dumps({"text": "x" * 20_000})
    pieces = [text[at : at + 10] for at in range(0, len(text), 10)]
    loopback.answers(chunks(call(0, "a", "f"), *(call(0, arguments=piece) for piece in pieces)), content_type=SSE)
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        stream = await model("hi")
        snapshots = [snapshot async for snapshot in stream]
    assert len(snapshots) > len(pieces)
    assert all(type(dict.__getitem__(one, "content")).__name__ == "Lazy" for one in snapshots[:-1])
    assert snapshots[-1].tool_calls[0]["input"] == json.loads(text)
    halfway = snapshots[len(snapshots) // 2].tool_calls[0]["input"]["text"]
    assert 9_000 < len(halfway) < 11_000


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_several_event_loops(loopback_thread):
    """One model serves one loop after the other, each with connections of its own, which end with their loop."""
    models = [OpenAIChatModel("m", "key-of-test", False, base_url=f"{loopback_thread}/v1")]

    async def twice():
        return [(await models[0]("hi")).text for _ in range(2)]

    assert [asyncio.run(twice()) for _ in range(3)] == [["ok", "ok"]] * 3
    models.clear()
    gc.collect()


@pytest.fixture
def loopback_thread():
    """The address of a server in a thread of its own, which answers everything with `ok`."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
