"""What OpenAI's client gets from a hub behind the endpoint: plain, streamed, tools, structured, cancelled."""

import asyncio
import json

import httpx
import pytest
from openai import APIError
from pydantic import BaseModel

from modelhub.core.clock import SystemClock
from modelhub.core.context import Services
from modelhub.core.events import CallEnded
from modelhub.integrations.asgi import OpenAIApp
from tests.asgi.conftest import connected, make_hub, serving

WEATHER = {"name": "get_weather", "arguments": {"city": "Paris"}, "id": "call_a"}
CLOCK = {"name": "get_time", "arguments": {"zone": "CET"}, "id": "call_b"}
TOOLS = [
    {"type": "function", "function": {"name": call["name"], "parameters": {"type": "object", "properties": {}}}}
    for call in (WEATHER, CLOCK)
]


def text_of(chunks):
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


async def test_a_plain_answer_has_text_usage_and_who_answered(app_of):
    """A completion has what a client reads: text, finish reason, tokens, the vendor's model; headers name the entry."""
    app = app_of({"down": {"fail": "Overloaded"}, "up": {"say": "two words"}}, {"c": ["down", "up"]})
    async with connected(app) as client:
        raw = await client.chat.completions.with_raw_response.create(
            model="c", messages=[{"role": "user", "content": "hi"}]
        )
    reply = raw.parse()
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("two words", "stop")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens, reply.usage.total_tokens) == (1, 2, 3)
    assert (raw.headers["x-modelhub-model"], raw.headers["x-modelhub-attempts"], reply.model) == ("up", "2", "scripted")


async def test_a_stream_comes_word_by_word(stream, app_of):
    """Chunks hold what is new; the role comes first, the finish reason last, and usage only on request."""
    chunks = await stream(app_of({"m": {"say": "one two three"}}))
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["", "one", " two", " three", None]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * 4 + ["stop"]
    assert {chunk.usage for chunk in chunks} == {None}
    assert len({chunk.id for chunk in chunks}) == 1


async def test_usage_ends_a_stream_that_asks_for_it(stream, app_of):
    """With `include_usage` the last chunk has the tokens and no choice."""
    chunks = await stream(app_of({"m": {"say": "one two"}}), stream_options={"include_usage": True})
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 3)


async def test_thinking_is_reasoning_content(ask, stream, app_of):
    """Thinking is sent beside the text, as other servers of this API send it."""
    steps = {"m": {"think": "let me see", "say": "yes"}}
    reply = await ask(app_of(steps))
    assert reply.choices[0].message.reasoning_content == "let me see"
    deltas = [chunk.choices[0].delta for chunk in await stream(app_of(steps))]
    assert "".join(getattr(delta, "reasoning_content", "") for delta in deltas) == "let me see"


async def test_parallel_tool_calls_and_their_results(ask, app_of):
    """Calls come with ids and JSON arguments, and their results lead to the answer."""
    app = app_of({"m": [{"call": [WEATHER, CLOCK]}, {"say": "Sunny."}]})
    question = {"role": "user", "content": "weather and time?"}
    async with connected(app) as client:
        create = client.chat.completions.create
        first = await create(model="m", messages=[question], tools=TOOLS, tool_choice="required")
        message = first.choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": "ok"} for call in message.tool_calls]
        second = await create(model="m", messages=[question, message, *results], tools=TOOLS)
    assert first.choices[0].finish_reason == "tool_calls"
    assert [(call.id, call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls] == [
        ("call_a", "get_weather", {"city": "Paris"}),
        ("call_b", "get_time", {"zone": "CET"}),
    ]
    assert second.choices[0].message.content == "Sunny."


async def test_streamed_tool_calls_accumulate(app_of):
    """The client's own accumulator puts the calls of a stream together."""
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "tools": TOOLS}
    async with (
        connected(app_of({"m": {"say": "wait", "call": [WEATHER, CLOCK]}})) as client,
        client.chat.completions.stream(**request) as stream,
    ):
        reply = await stream.get_final_completion()
    message = reply.choices[0].message
    assert (message.content, reply.choices[0].finish_reason) == ("wait", "tool_calls")
    assert [json.loads(call.function.arguments) for call in message.tool_calls] == [{"city": "Paris"}, {"zone": "CET"}]


class Invoice(BaseModel):
    number: int
    total: float


async def test_a_structured_answer_is_parsed(app_of):
    """The client's `parse` gives the class, of a plain answer and of a stream, which is sent in one piece."""
    steps = [{"say": 'Here it is: {"number": 7, "total": 1.5}'}]
    request = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "response_format": Invoice}
    async with connected(app_of({"m": steps})) as client:
        plain = await client.chat.completions.parse(**request)
        async with client.chat.completions.stream(**request) as stream:
            streamed = await stream.get_final_completion()
    for reply in (plain, streamed):
        assert reply.choices[0].message.parsed == Invoice(number=7, total=1.5)
        assert reply.choices[0].finish_reason == "stop"


async def test_an_answer_that_does_not_fit_moves_on_to_the_next_model(ask, app_of):
    """A schema is kept to, whichever model answers."""
    app = app_of({"bad": {"say": "no"}, "good": {"data": {"number": 1, "total": 2}}}, {"c": ["bad", "good"]})
    schema = {"type": "json_schema", "json_schema": {"name": "invoice", "schema": Invoice.model_json_schema()}}
    reply = await ask(app, "c", response_format=schema)
    assert json.loads(reply.choices[0].message.content) == {"number": 1, "total": 2}


async def test_an_answer_that_was_cut_off_says_so(ask, app_of):
    """Finish reasons are OpenAI's."""
    reply = await ask(app_of({"m": {"say": "and then", "finish_reason": "length"}}))
    assert reply.choices[0].finish_reason == "length"
    reply = await ask(app_of({"m": {"say": "I cannot", "finish_reason": "refusal"}}))
    assert reply.choices[0].finish_reason == "content_filter"


async def test_what_is_sent_reaches_any_vendor(hub_faults):
    """An image, a system message and parameters by OpenAI's names arrive in the form of the vendor that answers."""
    config = {"version": 1, "models": {"llama": {"provider": "ollama", "model_name": "llama3"}}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, image]},
    ]
    async with hub_faults.hub(config) as hub, connected(OpenAIApp(hub)) as client:
        await client.chat.completions.create(
            model="llama", messages=messages, max_completion_tokens=77, stop=["END"], user="u1"
        )
    body = hub_faults.requests("llama")[0].body
    assert (body["options"]["num_predict"], body["options"]["stop"]) == (77, ["END"])
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is it?", "images": ["iVBORw0KGgo="]},
    ]


# -- streams that begin again ------------------------------------------------------------------------------------------

BROKEN = {"a": {"say": "one two three", "break_after": 2}, "b": {"say": "four five"}}


async def test_text_that_was_sent_is_never_doubled(stream, app_of):
    """Without a word about it, a stream that another model would begin again ends with an error."""
    with pytest.raises(APIError) as caught:
        await stream(app_of(BROKEN, {"m": ["a", "b"]}))
    assert caught.value.code == "stream_restarted"


async def test_a_buffered_stream_is_the_whole_answer_of_one_model(stream, app_of):
    """With `restarts: buffer`, nothing is sent before the answer is complete."""
    chunks = await stream(app_of(BROKEN, {"m": ["a", "b"]}), stream_options={"restarts": "buffer"})
    assert text_of(chunks) == "four five"


async def test_a_restart_can_be_announced(stream, app_of):
    """With `restarts: announce`, a chunk says that the text so far is void."""
    chunks = await stream(app_of(BROKEN, {"m": ["a", "b"]}), stream_options={"restarts": "announce"})
    (position,) = [index for index, chunk in enumerate(chunks) if getattr(chunk, "modelhub", None) == {"restart": 1}]
    assert (text_of(chunks[:position]), text_of(chunks[position:])) == ("one two", "four five")


async def test_thinking_alone_can_be_given_up(stream, app_of):
    """If only thinking was sent, the next model's answer follows, without its thoughts."""
    models = {"a": {"think": "hm hm", "break_after": 0}, "b": {"think": "aha", "say": "four five"}}
    chunks = await stream(app_of(models, {"m": ["a", "b"]}))
    assert text_of(chunks) == "four five"
    thoughts = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks]
    assert "".join(filter(None, thoughts)) == "hm hm"


async def test_a_stream_that_nobody_can_begin_again_ends_with_its_error(stream, app_of):
    """After the status, an error is the last event, and no mark of a complete stream follows."""
    with pytest.raises(APIError) as caught:
        await stream(app_of({"m": BROKEN["a"]}))
    assert caught.value.code == "vendor_error"


# -- clients that leave ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [False, True])
async def test_a_client_that_leaves_cancels_its_call(streams):
    """The call under way ends when its client disconnects, and the vendor is asked no further."""
    waits, ended = asyncio.Event(), asyncio.Future()

    class Clock(SystemClock):
        async def sleep(self, seconds):
            if seconds:
                waits.set()
            await super().sleep(seconds)

    def observe(event):
        if isinstance(event, CallEnded):
            ended.set_result(event.how)

    step = {"say": "one two", "pause": "1h"} if streams else {"say": "one", "wait": "1h"}
    app = OpenAIApp(make_hub({"m": step}, services=Services(observers=(observe,), clock=Clock())))
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": streams}

    async def read(url):
        async with (
            httpx.AsyncClient(verify=False) as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply,
        ):
            await reply.aread()

    async with serving(app) as url:
        reader = asyncio.create_task(read(url))
        await waits.wait()
        reader.cancel()
        assert await ended in ("cancelled", "closed")
