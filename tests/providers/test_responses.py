"""OpenAI's Responses API: what is asked, and what of an answer goes back to whom."""

import json

import httpx2
import pytest

from modelhub import Hub
from modelhub.core.errors import (
    BadReply,
    ConfigError,
    InvalidRequest,
    RateLimited,
    ServerError,
    StreamBroken,
    UnsupportedFeature,
)
from modelhub.providers.anthropic import AnthropicChatModel
from modelhub.providers.dashscope import DashScopeChatModel
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.ollama import OllamaChatModel
from modelhub.providers.openai import OpenAIChatModel
from modelhub.testing import FaultServer, reroute_config
from tests.providers.test_openai_corpus import KEY
from tests.tables import table

THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}],
    "encrypted_content": "c2VhbGVk",
}
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}


def message(text, **fields):
    """An item with a text."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": content, **fields}


def response(*output, **fields):
    """A whole response."""
    return {"id": "resp_1", "object": "response", "status": "completed", "model": "m-1", "output": list(output)} | {
        "error": None,
        "usage": USAGE,
        **fields,
    }


def event(kind, **fields):
    """One event of a stream."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n"


def ended(*output, **fields):
    """The last event of a stream."""
    return event("response.completed", response=response(*output, **fields))


class Anywhere(httpx2.AsyncBaseTransport):
    """A server at every address, which speaks both APIs; `asked` has the requests."""

    def __init__(self):
        self.asked = []

    def client(self):
        return httpx2.AsyncClient(transport=self)

    async def handle_async_request(self, request):
        self.asked.append(request)
        streams = json.loads(await request.aread())["stream"]
        if request.url.path.endswith("/responses"):
            body = ended(message("hello")) if streams else json.dumps(response(message("hello")))
        else:
            choice = {"index": 0, "delta" if streams else "message": {"content": "hello"}, "finish_reason": "stop"}
            body = json.dumps({"id": "c", "choices": [choice]})
            body = f"data: {body}\n\ndata: [DONE]\n\n" if streams else body
        kind = "text/event-stream" if streams else "application/json"
        return httpx2.Response(200, content=body.encode(), headers={"content-type": kind})


@pytest.fixture
def anywhere():
    """A server at every address."""
    return Anywhere()


@pytest.fixture
async def model(loopback):
    """A model that thinks, on the scripted server."""
    loopback.answers(response(message("hello")))
    async with OpenAIChatModel("gpt-5-mini", KEY, False, api="responses", base_url=f"{loopback.url}/v1") as made:
        yield made


async def body_of(loopback, model, messages="hi", **kwargs):
    """What is sent."""
    loopback.asked.clear()
    await model(messages, **kwargs)
    return loopback.asked[-1].json


# -- requests ----------------------------------------------------------------------------------------------------------


async def test_a_request_stores_nothing_and_asks_for_encrypted_reasoning(loopback, model):
    """The question goes to /responses as input."""
    assert await body_of(loopback, model) == {
        "model": "gpt-5-mini",
        "store": False,
        "input": [{"role": "user", "content": "hi"}],
        "include": ["reasoning.encrypted_content"],
        "stream": False,
    }
    assert loopback.asked[-1].target == "/v1/responses"


@table(
    ("name", "asks"),
    [
        ("gpt-5", True),
        ("gpt-5.6-luna", True),
        ("o4-mini", True),
        ("ft:o4-mini:acme", True),
        ("openai.gpt-5.6", True),
        ("codex-mini-latest", True),
        ("gpt-5-chat-latest", False),
        ("gpt-4o", False),
        ("gpt-35-turbo", False),
        ("my-deployment", False),
    ],
)
async def test_only_models_that_reason_are_asked_for_their_reasoning(loopback, name, asks):
    """Others refuse the wish."""
    loopback.answers(response(message("hello")))
    async with OpenAIChatModel(name, KEY, False, api="responses", base_url=f"{loopback.url}/v1") as model:
        assert ("include" in await body_of(loopback, model)) == asks
        assert "include" in await body_of(loopback, model, reasoning={"effort": "low"})


PARAMETERS = [
    ({"max_tokens": 50}, {"max_output_tokens": 50}),
    ({"max_completion_tokens": 50}, {"max_output_tokens": 50}),
    ({"reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
    (
        {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
        {"reasoning": {"effort": "low", "summary": "auto"}},
    ),
    ({"verbosity": "low"}, {"text": {"verbosity": "low"}}),
    ({"response_format": {"type": "json_object"}}, {"text": {"format": {"type": "json_object"}}}),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}, "strict": True}}},
        {"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True}}},
    ),
    ({"service_tier": "flex", "user": "u"}, {"service_tier": "flex", "user": "u"}),
    ({"store": True}, {"store": True}),
    ({"include": ["message.output_text.logprobs"]}, {}),
    ({"n": 1, "stop": None, "logprobs": False, "presence_penalty": 0.0, "seed": None}, {}),
    ({"stream_options": {"include_usage": True}}, {}),
    ({"tools": [{"type": "web_search"}]}, {"tools": [{"type": "web_search"}]}),
    ({"extra_body": {"future": 1}}, {"future": 1}),
]


@table(("given", "sent"), PARAMETERS)
async def test_parameters_go_by_the_names_of_the_api(loopback, model, given, sent):
    """Those of chat completions are spelled anew, others are sent as they are, and what says nothing is left out."""
    body = await body_of(loopback, model, **given)
    plain = {"model": "gpt-5-mini", "input": [{"role": "user", "content": "hi"}], "stream": False, "store": False}
    include = body.pop("include")
    assert body == {**plain, **sent}
    assert include == [*given.get("include", ()), "reasoning.encrypted_content"]


async def test_sampling_is_sent_to_models_that_take_it(loopback):
    """Models that do not reason take it, and those of the next generation while they do not."""
    loopback.answers(response(message("hello")))
    sampling = {"temperature": 0.5, "top_p": 0.9}
    for name, given, sent in [
        ("gpt-4.1", sampling, sampling),
        ("gpt-5.2", {**sampling, "reasoning_effort": "none"}, {**sampling, "reasoning": {"effort": "none"}}),
        ("gpt-5.2", {**sampling, "reasoning_effort": "low"}, {"reasoning": {"effort": "low"}}),
    ]:
        async with OpenAIChatModel(name, KEY, False, api="responses", base_url=f"{loopback.url}/v1") as model:
            body = await body_of(loopback, model, **given)
        assert {key: body[key] for key in ("temperature", "top_p", "reasoning") if key in body} == sent


async def test_tools_say_whether_they_are_strict(loopback, model):
    """Left out, `strict` would mean true; a choice names the function."""
    body = await body_of(loopback, model, tools=[TOOL], tool_choice="f")
    function = {"name": "f", "parameters": {"type": "object", "properties": {}}}
    assert body["tools"] == [{"type": "function", "strict": False, **function}]
    assert body["tool_choice"] == {"type": "function", "name": "f"}


async def test_the_vendors_own_tools_are_sent_as_they_are(loopback, model):
    """They stand among the caller's functions, and may be chosen."""
    own = {"type": "web_search", "filters": {"allowed_domains": ["example.com"]}}
    body = await body_of(loopback, model, tools=[TOOL, own], tool_choice={"type": "web_search"})
    assert body["tools"][1] == own
    assert body["tool_choice"] == {"type": "web_search"}


@table("cls", [AnthropicChatModel, GeminiChatModel, DashScopeChatModel, OllamaChatModel])
async def test_another_vendor_is_not_sent_the_tools(cls):
    """Nor are OpenAI's own chat completions: the next model of a chain may have them."""
    with pytest.raises(UnsupportedFeature, match="web_search"):
        await cls("m", api_key="k")("hi", [{"type": "web_search"}], stream=False)
    with pytest.raises(UnsupportedFeature, match="Responses"):
        await OpenAIChatModel("m", "k", api="chat")("hi", [{"type": "web_search"}], stream=False)


async def test_a_structure_is_asked_for_in_the_forms_of_the_api(loopback, model):
    """By a strict schema, or in words where no schema of an object says it."""
    loopback.answers(response(message('{"a": 1}')))
    schema = {"title": "T", "type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = (await body_of(loopback, model, structured_model=schema))["text"]["format"]
    assert (form["type"], form["name"], form["strict"]) == ("json_schema", "T", True)
    assert form["schema"]["additionalProperties"] is False
    loopback.answers(response(message("[1]")))
    body = await body_of(loopback, model, structured_model={"type": "array", "items": {"type": "integer"}})
    assert "text" not in body
    assert "JSON Schema" in body["input"][-1]["content"]


def test_there_are_two_apis():
    """Another one is a mistake in the configuration."""
    with pytest.raises(ConfigError, match="auto, responses, chat"):
        OpenAIChatModel("m", "k", api="response")


async def test_media_go_in_the_forms_of_the_api(loopback, model):
    """Images, documents and sound, given or by their address; results hold images too, and sound follows them."""
    image = {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}}
    page = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}}
    paper = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    sound = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    result = {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "see"}, image, sound]}
    asked = [{"role": "user", "content": [image, page, paper, sound]}, call, result]
    items = (await body_of(loopback, model, asked))["input"]
    shown = {"type": "input_image", "detail": "low", "image_url": "https://example.com/a.png"}
    assert items[0]["content"] == [
        shown,
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"},
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        sound,
    ]
    assert items[2]["output"][:2] == [{"type": "input_text", "text": "see"}, shown]
    assert items[3] == {
        "role": "user",
        "content": [{"type": "input_text", "text": "From the result of f (c):"}, sound],
    }
    with pytest.raises(UnsupportedFeature, match="video"):
        await model([{"role": "user", "content": [{"type": "video", "source": {"type": "url", "url": "https://x/v"}}]}])


async def test_a_failed_tool_says_so(loopback, model):
    """There is no other place for it than the text."""
    call = {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
    result = {"role": "user", "content": [{"type": "tool_result", "id": "c", "output": "no", "is_error": True}]}
    items = (await body_of(loopback, model, [{"role": "user", "content": "hi"}, call, result]))["input"]
    assert items[-1] == {"type": "function_call_output", "call_id": "c", "output": "Error: no"}


# -- what goes back ----------------------------------------------------------------------------------------------------


def goes_on(reply, *more):
    """The conversation with *reply* in it."""
    return [{"role": "user", "content": "hi"}, {"role": "assistant", "content": reply.content}, *more]


async def test_reasoning_and_own_items_go_back_unchanged_in_their_order(loopback, model):
    """As blocks of the reply, also through JSON; calls and texts go back as what they say."""
    first, final = message("Let me see.", phase="commentary"), message("Done.", phase="final_answer")
    loopback.answers(response(THOUGHT, first, SEARCH, {**THOUGHT, "id": "rs_2"}, CALL))
    reply = await model("hi")
    assert [block["type"] for block in reply.content] == ["thinking", "text", "provider_item", "thinking", "tool_use"]
    assert (reply.thinking, reply.finish_reason) == ("One.\n\nTwo.One.\n\nTwo.", "tool_calls")
    result = {"role": "tool", "tool_call_id": "call_1", "content": "3"}
    asked = json.loads(json.dumps(goes_on(reply, result)))
    loopback.answers(response(final))
    items = (await body_of(loopback, model, asked))["input"]
    assert items[1:] == [
        THOUGHT,
        {"role": "assistant", "content": "Let me see.", "phase": "commentary"},
        SEARCH,
        {**THOUGHT, "id": "rs_2"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "3"},
    ]


async def test_recorded_items_go_back_as_they_came(loopback, model, replay):
    """Of every recorded response: the encrypted reasoning and the vendor's own items, in their order."""
    compared = 0
    for record in replay.records.values():
        if record["endpoint"] != "responses" or record["status"] != 200 or "stream" in record["tags"]:
            continue
        output = json.loads(record["response"])["output"]
        kept = [item for item in output if is_own(item) and item is not output[-1]]
        if not kept:
            continue
        loopback.answers(record["response"])
        reply = await model("hi")
        results = [{"role": "tool", "tool_call_id": call["id"], "content": "1"} for call in reply.tool_calls]
        loopback.answers(response(message("hello")))
        items = (await body_of(loopback, model, goes_on(reply, *results)))["input"]
        assert [item for item in items if is_own(item)][: len(kept)] == kept, record["id"]
        compared += 1
    assert compared >= 60


def is_own(item):
    """Whether *item* is one that goes back unchanged."""
    kind = item.get("type", "message")
    if kind == "reasoning":
        return bool(item.get("encrypted_content"))
    return kind not in ("message", "function_call", "function_call_output", "custom_tool_call")


async def test_what_one_server_wrote_goes_to_no_other(loopback, model):
    """Reasoning is encrypted for its own server: another one, even of the same dialect, is not sent it."""
    loopback.answers(response(THOUGHT, SEARCH, message("hello")))
    reply = await model("hi")
    elsewhere = json.loads(json.dumps(reply.content).replace("127.0.0.1", "api.openai.com"))
    loopback.answers(response(message("hello")))
    asked = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": elsewhere}]
    items = (await body_of(loopback, model, asked))["input"]
    assert items[1:] == [{"role": "assistant", "content": "hello"}]


async def test_chat_completions_are_sent_no_items(loopback, model):
    """The text and the calls are the same there."""
    loopback.answers(response(THOUGHT, SEARCH, message("hello"), CALL))
    reply = await model("hi")
    loopback.answers({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]})
    async with OpenAIChatModel("m", KEY, False, api="chat", base_url=f"{loopback.url}/v1") as chat:
        body = await body_of(loopback, chat, goes_on(reply, {"role": "tool", "tool_call_id": "call_1", "content": "3"}))
    assert [one["role"] for one in body["messages"]] == ["user", "assistant", "tool"]
    assert "c2VhbGVk" not in json.dumps(body)
    assert "web_search" not in json.dumps(body)


async def test_reasoning_is_not_sent_without_what_came_of_it(loopback, model):
    """An answer that was cut off while the model thought: the server would refuse the thought alone."""
    loopback.answers(response(THOUGHT, status="incomplete", incomplete_details={"reason": "max_output_tokens"}))
    reply = await model("hi")
    assert (reply.finish_reason, reply.text) == ("length", "")
    loopback.answers(response(message("hello")))
    items = (await body_of(loopback, model, goes_on(reply, {"role": "user", "content": "and?"})))["input"]
    assert [item.get("role") for item in items] == ["user", "user"]


async def test_reasoning_that_is_not_encrypted_goes_back_where_it_is_kept(loopback, model):
    """By its id, if the caller has the server store it; else the server would not find it."""
    plain = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "One."}]}
    loopback.answers(response(plain, message("hello")))
    reply = await model("hi")
    kept = (await body_of(loopback, model, goes_on(reply), store=True))["input"]
    dropped = (await body_of(loopback, model, goes_on(reply)))["input"]
    assert kept[1:] == [plain, {"role": "assistant", "content": "hello"}]
    assert dropped[1:] == [{"role": "assistant", "content": "hello"}]


async def test_a_call_of_a_custom_tool_goes_back_as_one(loopback, model):
    """Its input is free text: the one argument of the call, plain or streamed."""
    item = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c", "name": "sql", "input": 'SELECT "a"\n'}
    pieces = [
        event("response.output_item.added", output_index=0, item={**item, "input": ""}),
        event("response.custom_tool_call_input.delta", output_index=0, item_id="ctc_1", delta="SELECT "),
        event("response.custom_tool_call_input.delta", output_index=0, item_id="ctc_1", delta='"a"\n'),
        event("response.output_item.done", output_index=0, item=item),
    ]
    loopback.answers(response(item))
    reply = await model("hi")
    loopback.streams(*pieces, ended(item), content_type="text/event-stream")
    last = await (await model("hi", stream=True)).final()
    assert reply.content == last.content
    assert reply.tool_calls[0]["input"] == {"input": 'SELECT "a"\n'}
    loopback.answers(response(message("hello")))
    items = (await body_of(loopback, model, goes_on(reply, {"role": "tool", "tool_call_id": "c", "content": "3"})))[
        "input"
    ]
    assert items[1:] == [
        {"type": "custom_tool_call", "call_id": "c", "name": "sql", "input": 'SELECT "a"\n'},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "3"},
    ]


async def test_what_a_call_belongs_to_goes_back_with_it(loopback, model):
    """The namespace of a tool that was found by a search, and the program that made the call."""
    extra = {"namespace": "n", "caller": {"type": "program", "caller_id": "p"}}
    loopback.answers(response({**CALL, **extra}))
    reply = await model("hi")
    loopback.answers(response(message("hello")))
    asked = goes_on(reply, {"role": "tool", "tool_call_id": "call_1", "content": "3"})
    items = (await body_of(loopback, model, asked))["input"]
    assert {key: items[1][key] for key in extra} == extra
    assert items[2]["caller"] == extra["caller"]


async def test_a_stored_conversation_goes_on_outside_of_chains(loopback, model):
    """A result may answer a call that only the server has; a chain, which may ask another vendor, refuses it."""
    result = {"type": "function_call_output", "call_id": "call_9", "output": "3"}
    body = await body_of(loopback, model, [result], previous_response_id="resp_0")
    assert (body["input"], body["previous_response_id"]) == ([result], "resp_0")
    entry = {"provider": "openai", "model_name": "m", "base_url": f"{loopback.url}/v1", "api_key": "k"}
    models = {"a": {**entry, "api": "responses"}, "b": entry}
    async with Hub.from_dict({"version": 1, "models": models, "chains": {"c": {"models": ["a", "b"]}}}) as hub:
        with pytest.raises(InvalidRequest, match="previous_response_id"):
            await hub.get("c")([result], previous_response_id="resp_0")
        reply = await hub.get("a")([result], previous_response_id="resp_0", stream=False)
    assert reply.text == "hello"


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_a_refusal_is_one(loopback, model):
    """Its words are the text, and its reason says what it is."""
    refusal = {**message(""), "content": [{"type": "refusal", "refusal": "No."}]}
    loopback.answers(response(refusal))
    reply = await model("hi")
    assert (reply.text, reply.finish_reason) == ("No.", "refusal")


@table(
    ("body", "cls"),
    [
        (response(status="failed", error={"code": "server_error", "message": "no"}), ServerError),
        (response(status="failed", error={"code": "rate_limit_exceeded", "message": "no"}), RateLimited),
        (response(status="failed"), ServerError),
        (response(status="cancelled"), ServerError),
        (response(status="queued"), BadReply),
        ({"id": "resp_1", "object": "response", "status": "completed"}, BadReply),
        ({"choices": []}, BadReply),
        ({"error": {"message": "no", "code": "rate_limit_exceeded"}}, RateLimited),
    ],
)
async def test_a_failed_response_is_an_error(loopback, model, body, cls):
    """And so is one that is not there yet, or is none."""
    loopback.answers(body)
    with pytest.raises(cls) as caught:
        await model("hi")
    assert type(caught.value) is cls


DELTA = event("response.output_text.delta", output_index=0, content_index=0, item_id="msg_1", delta="hel")


@table(
    ("events", "cls"),
    [
        ([event("response.failed", response=response(status="failed", error={"code": "server_error"}))], ServerError),
        ([event("error", code="rate_limit_exceeded", message="no", param=None)], RateLimited),
        ([event("error", error={"code": "rate_limit_exceeded", "message": "no"})], RateLimited),
        ([], BadReply),
        (["data: [DONE]\n\n"], BadReply),
    ],
)
async def test_a_stream_that_fails_is_no_answer(loopback, model, events, cls):
    """Before its first content it is the error itself, after it a broken stream; so is one without its end."""
    loopback.streams(*events, content_type="text/event-stream")
    with pytest.raises(cls):
        await model("hi", stream=True)
    loopback.streams(DELTA, *events, content_type="text/event-stream")
    with pytest.raises(StreamBroken) as caught:
        await (await model("hi", stream=True)).final()
    assert type(caught.value.__cause__) is cls
    assert caught.value.partial.text == "hel"


async def test_what_a_failed_response_used_is_counted(loopback, model):
    """It may have to be paid for."""
    failed = response(status="failed", error={"code": "server_error", "message": "no"})
    for stream in (False, True):
        loopback.answers(failed)
        if stream:
            loopback.streams(event("response.failed", response=failed), content_type="text/event-stream")
        with pytest.raises(ServerError) as caught:
            await model("hi", stream=stream)
        assert caught.value.attempts[0]["usage"].total_tokens == 5


def events_of(*output):
    """A whole stream, as the API has it: each item begins, comes in pieces and is said once more at its end."""
    texts = {"message": ("output_text", "content"), "reasoning": ("reasoning_summary_text", "summary")}
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item["id"]}
        kind, key = texts.get(item["type"], ("", ""))
        started = {**item, "encrypted_content": None} if kind == "reasoning_summary_text" else item
        started = {**started, **({key: []} if key else {}), **({"arguments": ""} if "arguments" in item else {})}
        yield event("response.output_item.added", output_index=index, item=started)
        for number, part in enumerate(item.get(key, ())):
            for piece in (part["text"][:2], part["text"][2:]):
                at = {"content_index": number} if key == "content" else {"summary_index": number}
                yield event(f"response.{kind}.delta", **place, **at, delta=piece)
            yield event(f"response.{kind}.done", **place, text=part["text"])
        if "arguments" in item:
            for piece in (item["arguments"][:3], item["arguments"][3:]):
                yield event("response.function_call_arguments.delta", **place, delta=piece)
        yield event("response.output_item.done", output_index=index, item=item)
    yield ended(*output)


async def test_a_stream_ends_as_the_plain_reply(loopback, model):
    """Reasoning in parts, messages with their phases, the vendor's own items, calls: block by block the same."""
    first = message("Let me see.", phase="commentary")
    final = {**message("Done.", phase="final_answer"), "id": "msg_2"}
    output = (THOUGHT, first, SEARCH, {**THOUGHT, "id": "rs_2"}, CALL, final)
    loopback.answers(response(*output))
    plain = await model("hi")
    loopback.streams(*events_of(*output), content_type="text/event-stream")
    snapshots = [snapshot async for snapshot in await model("hi", stream=True)]
    assert snapshots[-1].content == plain.content
    assert [block["type"] for block in plain.content] == [
        *("thinking", "text", "provider_item", "thinking", "tool_use", "text")
    ]
    assert "".join(snapshot.delta for snapshot in snapshots) == plain.text == "Let me see.Done."
    assert snapshots[0].thinking == "On"


async def test_messages_of_two_phases_are_two_blocks(loopback, model):
    """What was said on the way and what is the answer are told apart, plain and streamed; else they are one text."""
    first, final = message("One.", phase="commentary"), {**message("Two.", phase="final_answer"), "id": "msg_2"}
    for output, count in (((first, final), 2), ((message("One."), {**message("Two."), "id": "msg_2"}), 1)):
        loopback.answers(response(*output))
        plain = await model("hi")
        loopback.streams(*events_of(*output), content_type="text/event-stream")
        assert (await (await model("hi", stream=True)).final()).content == plain.content
        assert (len(plain.content), plain.text) == (count, "One.Two.")


async def test_what_came_in_pieces_is_not_read_again(loopback, model):
    """Nor is anything lost where a server leaves out pieces, ends of items, or the output at the end."""
    rest = event("response.output_text.delta", output_index=0, content_index=0, item_id="msg_1", delta="lo")
    done = event("response.output_item.done", output_index=0, item=message("hello"))
    streams = [
        [DELTA, rest, done, ended(message("hello"))],
        [DELTA, rest, done, ended()],
        [DELTA, done, ended(message("hello"))],
        [DELTA, ended(message("hello"))],
        [done, ended()],
        [ended(message("hello"))],
    ]
    for events in streams:
        loopback.streams(*events, content_type="text/event-stream")
        reply = await (await model("hi", stream=True)).final()
        assert (reply.text, reply.finish_reason, reply.usage.total_tokens) == ("hello", "stop", 5)


async def test_a_server_that_does_not_stream_is_read_all_the_same(loopback, model):
    """A whole response in the place of a stream."""
    loopback.answers(response(message("hello")))
    assert (await (await model("hi", stream=True)).final()).text == "hello"


# -- which API ---------------------------------------------------------------------------------------------------------

SITES = [
    ({}, "/v1/responses"),
    ({"base_url": "https://eu.api.openai.com/v1"}, "/v1/responses"),
    ({"base_url": "https://x.openai.azure.com/openai/v1/"}, "/openai/v1/responses"),
    ({"base_url": "https://x.services.ai.azure.com/openai/v1"}, "/openai/v1/responses"),
    ({"base_url": "https://api.deepseek.com"}, "/chat/completions"),
    ({"base_url": "http://127.0.0.1:9/v1"}, "/v1/chat/completions"),
    ({"base_url": "http://127.0.0.1:9/v1", "compat": "openai"}, "/v1/chat/completions"),
    (
        {
            "base_url": "https://x.openai.azure.com",
            "client_type": "azure",
            "client_args": {"api_version": "2024-10-21"},
        },
        "/openai/deployments/gpt-5-mini/chat/completions",
    ),
    ({"api": "chat"}, "/v1/chat/completions"),
    ({"base_url": "http://127.0.0.1:9/v1", "api": "responses"}, "/v1/responses"),
]


@table(("arguments", "path"), SITES)
async def test_auto_is_responses_where_openai_and_azure_serve_it(anywhere, arguments, path):
    """By the address; elsewhere, and for who says so, it is chat completions."""
    client_args = {**arguments.get("client_args", {}), "http_client": anywhere.client()}
    async with OpenAIChatModel("gpt-5-mini", KEY, False, **{**arguments, "client_args": client_args}) as model:
        assert (await model("hi")).text == "hello"
    assert anywhere.asked[-1].url.path == path


AZURE = "https://x.openai.azure.com/openai/v1/"
LAMP = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}
CHOICES = [
    ("gpt-5-mini", {}, "responses"),
    ("gpt-4o", {"temperature": 0.2, "max_tokens": 100, "n": 1, "seed": None}, "responses"),
    ("gpt-4o", {"stop": ["END"]}, "chat"),
    ("gpt-4o", {"seed": 7}, "chat"),
    ("gpt-4o", {"n": 2}, "chat"),
    ("gpt-4o", {"presence_penalty": 0.5}, "chat"),
    ("gpt-4o", {"logprobs": True, "top_logprobs": 2}, "chat"),
    ("gpt-4o", {"max_tokens": 5}, "chat"),
    ("gpt-4o", {"seed": 7, "tools": True}, "chat"),
    ("gpt-5-mini", {"seed": 7}, "chat"),
    ("gpt-5-mini", {"seed": 7, "tools": True}, "chat"),
    ("gpt-5.6-sol", {"seed": 7}, "chat"),
    ("gpt-5.6-sol", {"seed": 7, "tools": True}, "responses"),
    ("gpt-5.4", {"seed": 7, "tools": True, "reasoning_effort": "none"}, "chat"),
    ("gpt-5.4", {"seed": 7, "tools": True, "reasoning_effort": "low"}, "responses"),
    ("gpt-4o", {"seed": 7, "truncation": "auto"}, "responses"),
    ("gpt-4o", {"seed": 7, "own tools": True}, "responses"),
    ("gpt-5-pro", {"seed": 7}, "responses"),
    ("gpt-4o-audio-preview", {}, "chat"),
    ("gpt-5-search-api", {}, "chat"),
    ("gpt-4o", {"audio in": True}, "chat"),
]


@table(("name", "says", "api"), CHOICES)
@table("stream", [False, True])
async def test_auto_goes_by_what_a_request_needs(anywhere, name, says, api, stream):
    """What only chat completions take goes there, unless the model or its tools would not."""
    says = dict(says)
    content = [{"type": "text", "text": "hi"}, *([LAMP] if says.pop("audio in", False) else [])]
    tools = [
        *([TOOL] if says.pop("tools", False) else []),
        *([{"type": "web_search"}] if says.pop("own tools", 0) else []),
    ]
    async with OpenAIChatModel(name, KEY, stream, client_args={"http_client": anywhere.client()}) as model:
        reply = await model([{"role": "user", "content": content}], tools, **says)
        assert (await reply.final() if stream else reply).text == "hello"
    assert anywhere.asked[-1].url.path == f"/v1/{'responses' if api == 'responses' else 'chat/completions'}"


@table(
    ("arguments", "tools"),
    [({"api": "responses"}, []), ({}, [{"type": "web_search"}]), ({"base_url": AZURE, "api": "responses"}, [])],
)
async def test_sound_is_refused_where_responses_do_not_take_it(anywhere, arguments, tools):
    """Before anything is sent: OpenAI and Azure would answer with a 400, and a chain moves on at once."""
    args = {"http_client": anywhere.client()}
    async with OpenAIChatModel("gpt-5-mini", KEY, False, client_args=args, **arguments) as model:
        for content in ([LAMP], [{"type": "text", "text": "hi"}, LAMP]):
            with pytest.raises(UnsupportedFeature, match="audio through its Responses API"):
                await model([{"role": "user", "content": content}], tools)
    assert anywhere.asked == []


@table(("says", "sent"), [({"max_tokens": 5}, 16), ({"max_tokens": 17}, 17), ({}, None)])
async def test_a_limit_of_tokens_is_not_lower_than_responses_take(anywhere, says, sent):
    """It is raised, and the attempt says so, where no other API is asked."""
    args = {"http_client": anywhere.client()}
    async with OpenAIChatModel("gpt-5-pro", KEY, False, client_args=args) as model:
        (attempt,) = (await model("hi", **says)).attempts
    assert json.loads(anywhere.asked[-1].content).get("max_output_tokens") == sent
    assert attempt.rounded == ({"max_tokens": "5 -> 16"} if sent == 16 else {})


async def test_a_file_says_which_api(anywhere, monkeypatch):
    """The key `api`, `auto` if it is not there; in a drill the address changes, and the API does not."""
    for options, api in (({}, "responses"), ({"api": "chat"}, "chat"), ({"base_url": "http://127.0.0.1:9"}, "chat")):
        entry = {"provider": "openai", "model_name": "m", "api_key": "k", **options}
        with FaultServer().running() as server:
            moved = reroute_config({"version": 1, "models": {"gpt": entry}}, server)
            async with Hub.from_dict(moved, environ={}) as hub:
                await hub.get("gpt")("hi")
            [request] = server.requests("gpt")
        assert request.wire == {"responses": "openai_responses", "chat": "openai"}[api]
