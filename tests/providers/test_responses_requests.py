"""OpenAI's Responses API: what is asked, and what of an answer goes back to whom."""

import json

import pytest

from modelhub import Hub
from modelhub.core.errors import ConfigError, InvalidRequest, UnsupportedFeature
from modelhub.providers.anthropic import AnthropicChatModel
from modelhub.providers.dashscope import DashScopeChatModel
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.ollama import OllamaChatModel
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.openai_api import CALL, SEARCH, THOUGHT, TOOL, ended, event, message, response
from tests.providers.test_openai_corpus import KEY
from tests.tables import table


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
