"""What is sent to Ollama, and what a caller gets back."""

import asyncio
import base64
import json
import sys

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from modelhub.core.errors import BadReply, InvalidRequest, NotConfigured, StreamBroken, UnsupportedFeature
from modelhub.providers.ollama import OllamaChatModel
from modelhub.registry import load_provider_options
from tests.tables import table

PNG = base64.b64encode(b"\x89PNG not really").decode()

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is outside",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
                "when": {
                    "type": "object",
                    "properties": {"day": {"type": "integer", "minimum": 1}},
                    "required": ["day"],
                },
            },
            "required": ["place"],
        },
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object", "properties": {}}}}
QUESTION = [{"role": "user", "content": "hi"}]


def answer(content="fine", done_reason="stop", **message):
    """A whole answer as the server writes it."""
    return {
        "model": "tiny:latest",
        "message": {"role": "assistant", "content": content, **message},
        "done": True,
        "done_reason": done_reason,
        "prompt_eval_count": 11,
        "eval_count": 7,
    }


def call(name="weather", **arguments):
    """A call as the server writes it."""
    return {"function": {"name": name, "arguments": arguments}}


@pytest.fixture
def ask(loopback):
    """Ask a model of the scripted server; gives the reply and the body that was sent."""

    async def ask(messages="hi", *args, says=None, model=None, **kwargs):
        loopback.answers(says or answer())
        async with OllamaChatModel("tiny", host=loopback.url, **(model or {})) as asked:
            reply = await asked(messages, *args, **kwargs)
        assert (loopback.asked[-1].method, loopback.asked[-1].target) == ("POST", "/api/chat")
        return reply, loopback.asked[-1].json

    return ask


# Requests


async def test_a_plain_question(ask):
    """A text goes out as one user message, with the seed's defaults and nothing else."""
    reply, body = await ask("hi")
    assert body == {"model": "tiny", "messages": QUESTION, "stream": False, "keep_alive": "5m"}
    assert (reply.text, reply.finish_reason, reply.model_name) == ("fine", "stop", "tiny:latest")
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (11, 7, 18)


async def test_neighbours_of_one_role_become_one_message(ask):
    """The server would merge them too, and lose the second one's images."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    _, body = await ask(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "Look:"},
            {"role": "user", "content": ["Here it is.", image]},
            {"role": "assistant", "content": "I see."},
            {"role": "system", "content": "Now be loud."},
            {"role": "user", "content": "And?"},
        ]
    )
    assert body["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "Look:\n\nHere it is.", "images": [PNG]},
        {"role": "assistant", "content": "I see."},
        {"role": "system", "content": "Now be loud."},
        {"role": "user", "content": "And?"},
    ]


async def test_a_tool_goes_out_whole(ask):
    """Nested properties, anyOf and defaults, which the SDK drops, reach the server."""
    _, body = await ask("hi", [WEATHER])
    assert body["tools"] == [WEATHER]


async def test_references_in_a_tool_are_written_out(ask):
    """The server knows no `$ref`: what one names stands in its place, and only recursion keeps its name."""
    tree = {"type": "object", "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}}}
    unit = {"enum": ["C", "F"], "type": "string"}
    plain = {
        "type": "object",
        "properties": {"unit": {"$ref": "#/$defs/Unit", "description": "of heat"}},
        "$defs": {"Unit": unit},
    }
    deep = {"type": "object", "properties": {"tree": {"$ref": "#/$defs/Tree"}}, "$defs": {"Tree": tree}}
    tools = [{"name": name, "parameters": schema} for name, schema in (("plain", plain), ("deep", deep))]
    _, body = await ask("hi", tools)
    sent = [tool["function"]["parameters"] for tool in body["tools"]]
    assert sent[0] == {"type": "object", "properties": {"unit": {**unit, "description": "of heat"}}}
    assert sent[1] == {"type": "object", "properties": {"tree": tree}, "$defs": {"Tree": tree}}


@table(
    ("choice", "shown", "told"),
    [
        (None, ["weather", "clock"], False),
        ("auto", ["weather", "clock"], False),
        ("none", None, False),
        ("any", ["weather", "clock"], True),
        ("required", ["weather", "clock"], True),
        ("weather", ["weather"], True),
    ],
)
async def test_a_choice_of_tools_is_emulated(ask, choice, shown, told):
    """Ollama knows no tool_choice: the tools that are shown, and a word to the model, stand for it."""
    _, body = await ask("hi", [WEATHER, CLOCK], choice, says=answer("", tool_calls=[call(place="Rome")]))
    assert [tool["function"]["name"] for tool in body.get("tools", [])] == (shown or [])
    assert ("tools" in body) is (shown is not None)
    assert (body["messages"][0]["role"] == "system") is told
    assert body["messages"][-1] == QUESTION[0]
    assert "tool_choice" not in body


@table("choice", ["required", "weather"])
@table("said", [answer("No."), answer("", tool_calls=[call("clock")])], ids=["words", "another"])
async def test_a_demanded_call_that_is_not_made_is_a_bad_reply(ask, choice, said):
    """What could only be asked for is checked; any tool will do where any was demanded."""
    if choice == "required" and not said["message"]["content"]:
        reply, _ = await ask("hi", [WEATHER, CLOCK], choice, says=said)
        assert reply.tool_calls[0]["name"] == "clock"
        return
    with pytest.raises(BadReply, match="call"):
        await ask("hi", [WEATHER, CLOCK], choice, says=said)


async def test_a_demanded_call_is_checked_in_streams_too(loopback):
    """Text has been shown by then, so the stream is broken."""
    loopback.streams(json.dumps({**answer("No"), "done": False}) + "\n", json.dumps(answer(".")))
    async with OllamaChatModel("tiny", True, host=loopback.url) as model:
        with pytest.raises(StreamBroken, match="without calling `weather`"):
            await (await model("hi", [WEATHER], "weather")).final()


async def test_a_cut_off_answer_is_not_blamed_for_a_missing_call(ask):
    """Its finish reason says already that there was no room for the call."""
    reply, _ = await ask("hi", [WEATHER], "required", says=answer("Let me", "length"))
    assert reply.finish_reason == "length"


async def test_a_tool_round_trip(ask):
    """Calls without ids get ids of their own; the results go back by name and id, in order, after the calls."""
    said = answer("", tool_calls=[call(place="Rome"), call(place="Oslo"), {**call("clock"), "id": "call_x"}])
    reply, _ = await ask("hi", [WEATHER, CLOCK], says=said)
    ids = [use["id"] for use in reply.tool_calls]
    assert reply.finish_reason == "tool_calls"
    assert len(set(ids)) == 3
    assert ids[2] == "call_x"
    results = [
        {"type": "tool_result", "id": ids[1], "output": "snow"},
        {"type": "tool_result", "id": ids[0], "output": [{"type": "text", "text": "sun"}]},
        {"role": "tool", "tool_call_id": ids[2], "content": ""},
    ]
    talk = [*QUESTION, reply, {"role": "user", "content": results[:2]}, results[2], {"role": "user", "content": "so?"}]
    _, body = await ask(talk, [WEATHER, CLOCK])
    assert body["messages"] == [
        *QUESTION,
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": ids[0], "function": {"name": "weather", "arguments": {"place": "Rome"}}},
                {"id": ids[1], "function": {"name": "weather", "arguments": {"place": "Oslo"}}},
                {"id": "call_x", "function": {"name": "clock", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "snow", "tool_name": "weather", "tool_call_id": ids[1]},
        {"role": "tool", "content": "sun", "tool_name": "weather", "tool_call_id": ids[0]},
        {"role": "tool", "content": "", "tool_name": "clock", "tool_call_id": "call_x"},
        {"role": "user", "content": "so?"},
    ]


async def test_calls_of_one_name_in_several_lines_all_survive(loopback):
    """Each call in a stream is a call of its own, also where an older server gives none an id."""
    lines = [{**answer("", tool_calls=[call(place=place)]), "done": False} for place in ("Rome", "Oslo")]
    loopback.streams(*(json.dumps(line) + "\n" for line in [*lines, answer("")]))
    async with OllamaChatModel("tiny", True, host=loopback.url) as model:
        reply = await (await model("hi", [WEATHER])).final()
    assert [use["input"] for use in reply.tool_calls] == [{"place": "Rome"}, {"place": "Oslo"}]
    assert len({use["id"] for use in reply.tool_calls}) == 2


async def test_arguments_that_are_text_are_read(ask):
    """Some servers in Ollama's place write arguments as JSON in a string; broken ones are a bad reply."""
    reply, _ = await ask(says=answer("", tool_calls=[{"function": {"name": "f", "arguments": '{"a": 1}'}}]))
    assert reply.tool_calls[0]["input"] == {"a": 1}
    with pytest.raises(BadReply, match="not JSON"):
        await ask(says=answer("", tool_calls=[{"function": {"name": "f", "arguments": '{"a'}}]))


@pytest.mark.parametrize("kind", ["base64", "data", "file"])
async def test_an_image_goes_out_as_bare_base64(ask, tmp_path, kind):
    """Whether given as data, a data URL or a local file."""
    path = tmp_path / "cat.png"
    path.write_bytes(base64.b64decode(PNG))
    part = {
        "base64": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
        "data": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        "file": {"type": "image", "source": path},
    }[kind]
    _, body = await ask([{"role": "user", "content": [{"type": "text", "text": "what?"}, part]}])
    assert body["messages"] == [{"role": "user", "content": "what?", "images": [PNG]}]


async def test_data_that_happens_to_name_a_file_is_not_read(ask, tmp_path, monkeypatch):
    """The SDK would look for a file of that name, and send it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aGk=").write_text("a secret")
    part = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    _, body = await ask([{"role": "user", "content": [part]}])
    assert body["messages"][0]["images"] == ["aGk="]


@table(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}},
        {"type": "audio", "source": {"type": "base64", "media_type": "audio/wav", "data": "aGk="}},
        {"type": "video", "source": {"type": "url", "url": "https://example.com/cat.mp4"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
    ],
)
async def test_what_ollama_cannot_take_is_refused_before_anything_is_sent(ask, loopback, part):
    """Another model of a chain may be able to."""
    with pytest.raises(UnsupportedFeature, match="ollama cannot take"):
        await ask([{"role": "user", "content": [part]}])
    assert loopback.asked == []


async def test_thinking_comes_and_goes_back(ask):
    """Its own thinking returns with the message it led to; another vendor's does not."""
    said = answer("12", thinking="3 times 4")
    reply, _ = await ask("3*4?", says=said)
    assert [block["type"] for block in reply.content] == ["thinking", "text"]
    assert reply.content[0] == {"type": "thinking", "thinking": "3 times 4", "provider": "ollama"}
    foreign = {"type": "thinking", "thinking": "secret", "signature": "sig", "provider": "anthropic"}
    talk = [*QUESTION, reply, {"role": "user", "content": "and?"}, {"role": "assistant", "content": [foreign, "hm"]}]
    _, body = await ask([*talk, *QUESTION])
    assert body["messages"][1] == {"role": "assistant", "content": "12", "thinking": "3 times 4"}
    assert body["messages"][3] == {"role": "assistant", "content": "hm"}


async def test_parameters_join_from_general_to_particular(ask):
    """Options of the model, generate_kwargs, then the call; sampling parameters are options wherever they stand."""
    model = {
        "options": {"num_ctx": 8192, "temperature": 1.0},
        "enable_thinking": True,
        "generate_kwargs": {"temperature": 0.5, "top_p": 0.9, "options": {"seed": 1}},
    }
    _, body = await ask(model=model, temperature=0.1, options={"seed": 2}, top_p=None, keep_alive=None, logprobs=True)
    assert body["options"] == {"num_ctx": 8192, "temperature": 0.1, "seed": 2}
    assert body["think"] is True
    assert body["logprobs"] is True
    assert "keep_alive" not in body


@table(
    ("model", "call", "think"),
    [
        ({}, {}, None),
        ({"enable_thinking": False}, {}, False),
        ({"enable_thinking": "high"}, {}, "high"),
        ({"enable_thinking": True}, {"think": False}, False),
        ({}, {"enable_thinking": True}, True),
        ({"enable_thinking": True, "generate_kwargs": {"think": "low"}}, {}, "low"),
    ],
)
async def test_the_thinking_switch(ask, model, call, think):
    """It is sent if given, and a call has the last word."""
    _, body = await ask(model=model, **call)
    assert repr(body.get("think")) == repr(think)


async def test_parameters_that_are_no_json_are_the_callers_mistake(ask, loopback):
    """Said before anything is sent."""
    with pytest.raises(InvalidRequest, match="JSON"):
        await ask(temperature=float("nan"))
    assert loopback.asked == []


# Structured output


class Sum(BaseModel):
    total: int


async def test_structured_output_is_constrained_by_the_server(ask):
    """The schema goes out as `format`; the answer comes back validated."""
    reply, body = await ask("1+1?", structured_model=Sum, says=answer('{"total": 2}'))
    assert body["format"] == Sum.model_json_schema()
    assert reply.metadata == {"total": 2}


async def test_structured_output_that_does_not_fit_is_a_bad_reply(ask):
    """Models in the cloud overlook `format`; the caller is not given what he cannot use."""
    with pytest.raises(BadReply, match="does not fit Sum"):
        await ask("1+1?", structured_model=Sum, says=answer("two"))


# Construction and environment


async def test_further_keywords_go_to_the_http_client(loopback):
    """As the seed has it; a call leaves through it."""
    loopback.answers(answer())
    model = OllamaChatModel("tiny", False, None, "5m", None, loopback.url, headers={"x-team": "a"}, client_args={})
    async with model:
        await model("hi")
    assert loopback.asked[0].headers["x-team"] == "a"
    assert loopback.asked[0].headers["user-agent"].startswith("ollama-python/")


@table("named", ["host", "base_url", "environment"])
async def test_the_host_can_be_named_in_three_ways(loopback, monkeypatch, named):
    """OLLAMA_HOST counts only where nothing else is said; a path before /api is kept."""
    loopback.answers(answer())
    monkeypatch.setenv("OLLAMA_HOST", f"{loopback.url}/env")
    given = {} if named == "environment" else {named: f"{loopback.url}/given"}
    async with OllamaChatModel("tiny", **given) as model:
        await model("hi")
    assert loopback.asked[0].target == ("/env/api/chat" if named == "environment" else "/given/api/chat")


async def test_the_key_of_the_cloud_goes_nowhere_else(loopback, monkeypatch):
    """The SDK sends OLLAMA_API_KEY to any host; here only the cloud gets it, and a given key goes where it is meant."""
    monkeypatch.setenv("OLLAMA_API_KEY", "cloud-key")
    loopback.answers(answer())
    async with OllamaChatModel("tiny", host=loopback.url) as model:
        await model("hi")
    assert "authorization" not in loopback.asked[0].headers
    async with OllamaChatModel("tiny", host=loopback.url, api_key="own-key") as model:
        await model("hi")
    assert loopback.asked[1].headers["authorization"] == "Bearer own-key"


@table(
    ("host", "sent"),
    [
        ("https://ollama.com", "Bearer cloud-key"),
        ("http://ollama.com", None),
        ("https://ollama.com.example.org", None),
    ],
)
async def test_the_cloud_gets_its_key(monkeypatch, host, sent):
    """Over TLS, and only under its own name."""
    monkeypatch.setenv("OLLAMA_API_KEY", "cloud-key")
    seen = []

    def serve(request):
        seen.append(request)
        return httpx.Response(200, json=answer())

    async with OllamaChatModel("tiny", host=host, transport=httpx.MockTransport(serve)) as model:
        await model("hi")
    assert seen[0].headers.get("authorization") == sent


def test_the_cloud_alone_needs_a_key(monkeypatch):
    """A model there without one is not configured, by hand and from a file; a header that authorizes is as good."""
    monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
    options = load_provider_options("ollama")
    for host, more, missing in [
        ("https://ollama.com", {}, "set OLLAMA_API_KEY"),
        ("https://ollama.com", {"client_args": {"headers": {"Authorization": "Bearer x"}}}, None),
        ("https://ollama.com", {"api_key": "x"}, None),
        ("https://gateway.example", {}, None),
    ]:
        for found in (
            OllamaChatModel("tiny", host=host, **more).missing(),
            options(model_name="tiny", host=host, **more).missing({}),
        ):
            assert found is None if missing is None else missing in found
    assert options(model_name="tiny", host="https://ollama.com").missing({"OLLAMA_API_KEY": "x"}) is None


@table(
    ("host", "address"),
    [
        ("gpu-box", "http://gpu-box:11434"),
        ("gpu-box/api-of-team", "http://gpu-box:11434/api-of-team"),
        ("gpu-box:8080", "http://gpu-box:8080"),
        ("[::1]", "http://[::1]:11434"),
        ("[::1]:8080/", "http://[::1]:8080/"),
        ("http://gpu-box", "http://gpu-box"),
    ],
)
def test_a_host_without_a_scheme_has_ollamas_port(host, address):
    """As the SDK reads it."""
    assert OllamaChatModel("tiny", host=host).address() == address


@table("given", ["argument", "address", "flow"])
async def test_a_name_and_password_are_sent(loopback, given):
    """As the client's `auth`, in the address, even without a scheme, or by a method that looks at the answers."""
    loopback.answers(answer())
    host, arguments = loopback.url, {"auth": ("ann", "secret-1")}
    if given == "address":
        host, arguments = loopback.url.replace("http://", "ann:secret-1@"), {}
    elif given == "flow":
        arguments = {"auth": httpx.BasicAuth("ann", "secret-1")}
    async with OllamaChatModel("tiny", host=host, client_args=arguments) as model:
        for _ in range(2):
            await model("hi")
    sent = "Basic " + base64.b64encode(b"ann:secret-1").decode()
    assert [asked.headers["authorization"] for asked in loopback.asked] == [sent, sent]


async def test_a_client_of_the_arguments_keeps_its_connection_and_is_closed(loopback):
    """What says how to connect makes a client, once for all calls; it goes with the model."""
    loopback.answers(answer())
    async with OllamaChatModel("tiny", host=loopback.url, verify=False, headers={"x-team": "a"}) as model:
        for _ in range(3):
            await model("hi")
        assert (len(loopback.asked), loopback.open) == (3, 1)
    await loopback.idle()
    assert loopback.asked[0].headers["x-team"] == "a"


async def test_an_sdk_that_cannot_be_imported_is_not_configured(monkeypatch):
    """The SDK makes a client while it is imported, and a bad OLLAMA_HOST breaks that."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "ollama"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:port")
    async with OllamaChatModel("tiny", host="http://127.0.0.1:1") as model:
        with pytest.raises(NotConfigured, match=r"cannot be imported.*OLLAMA_HOST"):
            await model("hi")


async def test_an_argument_the_client_does_not_know_is_not_configured():
    """The seed has further keywords go to the client: a wrong one is told as such."""
    async with OllamaChatModel("tiny", temperature=0.1) as model:
        with pytest.raises(NotConfigured, match="temperature"):
            await model("hi")


def test_options_describe_the_model():
    """The file's keys are the constructor's; unknown ones are refused, and no key is needed."""
    options = load_provider_options("ollama")(
        model_name="tiny", host="http://127.0.0.1:1", keep_alive=-1, enable_thinking="low", client_kwargs={"timeout": 5}
    )
    model = options.connect()
    assert (model.model_name, model.stream, model.keep_alive, model.enable_thinking) == ("tiny", False, -1, "low")
    assert options.missing({}) is None
    with pytest.raises(ValidationError, match="keepalive"):
        load_provider_options("ollama")(model_name="tiny", keepalive="1m")


async def test_many_calls_at_once(loopback):
    """Calls on one model do not disturb each other."""
    loopback.answers(answer())
    async with OllamaChatModel("tiny", host=loopback.url) as model:
        replies = await asyncio.gather(*(model(f"question {number}") for number in range(50)))
    assert {reply.text for reply in replies} == {"fine"}
    assert sorted(asked.json["messages"][0]["content"] for asked in loopback.asked) == sorted(
        f"question {number}" for number in range(50)
    )
