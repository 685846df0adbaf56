"""What is sent to DashScope, and what a caller gets back."""

import asyncio
import base64
import json

import httpx
import pytest
from pydantic import BaseModel, ValidationError

from modelhub.core.errors import BadReply, InvalidRequest, NotConfigured, StreamBroken, UnsupportedFeature
from modelhub.providers.dashscope import DashScopeChatModel
from modelhub.registry import load_provider_options
from tests.tables import table

TEXT = "/api/v1/services/aigc/text-generation/generation"
MULTIMODAL = "/api/v1/services/aigc/multimodal-generation/generation"
EVENTS = "text/event-stream;charset=UTF-8"
PNG = base64.b64encode(b"\x89PNG not really").decode()
QUESTION = [{"role": "user", "content": "hi"}]

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How it is outside",
        "parameters": {"type": "object", "properties": {"place": {"anyOf": [{"type": "string"}, {"type": "null"}]}}},
    },
}
CLOCK = {"type": "function", "function": {"name": "clock", "description": "", "parameters": {"type": "object"}}}

ENVIRONMENT = {
    "DASHSCOPE_API_KEY": "sk-environment",
    "DASHSCOPE_BASE_URL": "http://127.0.0.1:1/env",
    "DASHSCOPE_HTTP_BASE_URL": "http://127.0.0.1:1/old",
    "DASHSCOPE_WORKSPACE": "workspace-of-environment",
    "DASHSCOPE_REGION": "eu-central-1",
    "DASHSCOPE_PROTOCOL": "openai",
    "DASHSCOPE_TIMEOUT": "0.001",
    "DASHSCOPE_MAX_RETRIES": "5",
}


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No test sees the settings of the machine it runs on."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DASHSCOPE_CONFIG", str(tmp_path / "none.toml"))
    monkeypatch.setenv("DASHSCOPE_API_KEY_FILE_PATH", str(tmp_path / "none"))


def answer(content="fine", reason="stop", usage=None, **message):
    """A whole answer, or the last event of one."""
    return {
        "output": {
            "choices": [
                {"finish_reason": reason, "message": {"role": "assistant", "content": content, **message}},
                {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "another choice"}},
            ]
        },
        "usage": usage or {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18},
        "request_id": "req-1",
    }


def call(name="weather", index=0, id="call_1", arguments='{"place": "Rome"}'):  # noqa: A002
    """A call, or a piece of one."""
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return {"index": index, "id": id, "type": "function", "function": function}


def event(data):
    """An event as the vendor frames it."""
    return f"id:1\nevent:result\n:HTTP_STATUS/200\ndata:{json.dumps(data)}\n\n"


@pytest.fixture
def ask(loopback):
    """Ask a model of the scripted server; gives the reply, the request, and its body."""

    async def ask(messages="hi", *args, says=None, name="qwen-plus", model=None, **kwargs):
        if isinstance(says, list):
            loopback.streams(*map(event, says), content_type=EVENTS)
        else:
            loopback.answers(says or answer())
        given = {"stream": False, "base_http_api_url": f"{loopback.url}/api/v1", **(model or {})}
        async with DashScopeChatModel(name, "sk-given", **given) as asked:
            reply = await asked(messages, *args, **kwargs)
            if not hasattr(reply, "text"):
                reply = await reply.final()
        return reply, loopback.asked[-1], loopback.asked[-1].json

    return ask


# Requests


async def test_a_plain_question(ask):
    """A text goes to the text endpoint, and nothing is sent that was not asked for."""
    reply, request, body = await ask("hi")
    assert (request.method, request.target) == ("POST", TEXT)
    assert request.headers["authorization"] == "Bearer sk-given"
    assert "x-dashscope-sse" not in request.headers
    assert "x-dashscope-workspace" not in request.headers
    assert body == {"model": "qwen-plus", "input": {"messages": QUESTION}, "parameters": {"result_format": "message"}}
    assert (reply.text, reply.finish_reason, reply.id, reply.model_name) == ("fine", "stop", "req-1", "qwen-plus")
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens) == (11, 7, 18)


async def test_a_stream_is_asked_for_in_pieces(ask):
    """The header asks for events and the parameter for what is new in each, whatever the caller says of it."""
    says = [answer("fi", "null"), answer("ne", "null"), answer("", "stop")]
    reply, request, body = await ask("hi", says=says, stream=True, incremental_output=False)
    assert request.headers["x-dashscope-sse"] == "enable"
    assert body["parameters"] == {"result_format": "message", "incremental_output": True}
    assert (reply.text, reply.finish_reason) == ("fine", "stop")


async def test_system_messages_go_to_the_front(ask):
    """The vendor wants one, and wants it first."""
    _, _, body = await ask(
        [
            {"role": "user", "content": "hi"},
            {"role": "system", "content": "Be brief."},
            {"role": "assistant", "content": ["Hello.", "You?"]},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "fine"},
        ]
    )
    assert body["input"]["messages"] == [
        {"role": "system", "content": "Be brief.\n\nBe kind."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "Hello.\nYou?"},
        {"role": "user", "content": "fine"},
    ]


@table(
    ("choice", "sent", "told"),
    [
        (None, None, False),
        ("auto", "auto", False),
        ("none", "none", False),
        ("any", "auto", True),
        ("required", "auto", True),
        ("weather", {"type": "function", "function": {"name": "weather"}}, False),
    ],
)
async def test_tools_and_the_choice_of_them(ask, choice, sent, told):
    """A name can be forced; any tool cannot be demanded, so the model is asked for it."""
    _, _, body = await ask("hi", [WEATHER, CLOCK], choice, says=answer("", "tool_calls", tool_calls=[call()]))
    parameters = body["parameters"]
    assert parameters["tools"][0] == WEATHER
    assert [tool["function"]["name"] for tool in parameters["tools"]] == ["weather", "clock"]
    assert parameters.get("tool_choice") == sent
    assert (body["input"]["messages"][0]["role"] == "system") is told


@table("choice", ["required", "weather"])
@table("said", [answer("No."), answer("", tool_calls=[call("clock")])], ids=["words", "another"])
async def test_a_demanded_call_that_is_not_made_is_a_bad_reply(ask, choice, said):
    """What could only be asked for is checked; any tool will do where any was demanded."""
    if choice == "required" and not said["output"]["choices"][0]["message"]["content"]:
        reply, _, _ = await ask("hi", [WEATHER, CLOCK], choice, says=said)
        assert (reply.tool_calls[0]["name"], reply.finish_reason) == ("clock", "tool_calls")
        return
    with pytest.raises(BadReply, match="call"):
        await ask("hi", [WEATHER, CLOCK], choice, says=said)


async def test_a_demanded_call_is_checked_in_streams_too(ask):
    """Text has been shown by then, so the stream is broken."""
    with pytest.raises(StreamBroken, match="without calling a tool"):
        await ask("hi", [WEATHER], "required", says=[answer("No", "null"), answer(".", "stop")], stream=True)


async def test_a_cut_off_answer_is_not_blamed_for_a_missing_call(ask):
    """Its finish reason says already that there was no room for the call."""
    reply, _, _ = await ask("hi", [WEATHER], "required", says=answer("Let me", "length"))
    assert reply.finish_reason == "length"


@pytest.mark.parametrize("how", [{"model": {"enable_thinking": True}}, {"enable_thinking": True}])
async def test_a_tool_cannot_be_forced_while_thinking(ask, loopback, how):
    """The vendor refuses it; so do we, before anything is sent, and say what to do. Demanding any still works."""
    with pytest.raises(UnsupportedFeature, match="`weather` in thinking mode: set `enable_thinking: false`"):
        await ask("hi", [WEATHER], "weather", **how)
    assert loopback.asked == []
    _, _, body = await ask("hi", [WEATHER], "required", says=answer("", "tool_calls", tool_calls=[call()]), **how)
    assert body["parameters"]["tool_choice"] == "auto"


@pytest.mark.parametrize("multimodal", [False, True], ids=["text", "multimodal"])
async def test_a_tool_round_trip(ask, multimodal):
    """Ids are the vendor's; results go back one message each, what they show as the user's."""
    calls = [call(), call(index=1, id="call_2", arguments='{"place": "Oslo"}'), call("clock", 2, "", "")]
    reply, _, _ = await ask("hi", [WEATHER, CLOCK], says=answer("", "stop", tool_calls=calls))
    ids = [use["id"] for use in reply.tool_calls]
    assert (ids[:2], reply.finish_reason) == (["call_1", "call_2"], "tool_calls")
    assert ids[2].startswith("call_")
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    results = [
        {"type": "tool_result", "id": "call_2", "output": ["snow", image] if multimodal else "snow"},
        {"type": "tool_result", "id": "call_1", "output": [{"type": "text", "text": "sun"}]},
        {"type": "tool_result", "id": ids[2], "output": ""},
        {"type": "text", "text": "So?"},
    ]
    _, request, body = await ask([*QUESTION, reply, {"role": "user", "content": results}], [WEATHER, CLOCK])
    shown = [{"text": "hi"}] if multimodal else "hi"
    snow, sun, nothing, nobody = (
        ([{"text": "snow"}], [{"text": "sun"}], [], []) if multimodal else ("snow", "sun", "", "")
    )
    so = [{"image": f"data:image/png;base64,{PNG}"}, {"text": "So?"}] if multimodal else "So?"
    oslo = call(index=1, id="call_2", arguments='{"place": "Oslo"}')
    assert request.target == (MULTIMODAL if multimodal else TEXT)
    assert body["input"]["messages"] == [
        {"role": "user", "content": shown},
        {"role": "assistant", "content": nobody, "tool_calls": [call(), oslo, call("clock", 2, ids[2], "{}")]},
        {"role": "tool", "tool_call_id": "call_2", "name": "weather", "content": snow},
        {"role": "tool", "tool_call_id": "call_1", "name": "weather", "content": sun},
        {"role": "tool", "tool_call_id": ids[2], "name": "clock", "content": nothing},
        {"role": "user", "content": so},
    ]


async def test_calls_in_pieces_are_put_together(ask):
    """Only the first piece of a call has its id and name; calls at one place with ids of their own stay apart."""
    says = [
        answer("", "null", tool_calls=[call(arguments='{"pl')]),
        answer("", "null", tool_calls=[call(None, id="", arguments='ace": "Rome"}')]),
        answer("", "null", tool_calls=[call(None, id="", arguments=""), call(index=1, id="call_2", arguments="")]),
        answer("", "null", tool_calls=[call(None, 1, "", '{"place": "Oslo"}')]),
        answer("", "tool_calls", tool_calls=[call("clock", 1, "call_3", "{}")]),
    ]
    reply, _, _ = await ask("hi", [WEATHER, CLOCK], says=says, stream=True)
    assert [(use["id"], use["name"], use["input"]) for use in reply.tool_calls] == [
        ("call_1", "weather", {"place": "Rome"}),
        ("call_2", "weather", {"place": "Oslo"}),
        ("call_3", "clock", {}),
    ]


async def test_arguments_that_are_no_json_are_no_call(ask):
    """They are never passed on as a call without arguments; in an answer that was cut off the call is marked."""
    with pytest.raises(BadReply, match="not JSON"):
        await ask(says=answer("", "tool_calls", tool_calls=[call(arguments='{"pl')]))
    reply, _, _ = await ask(says=answer("", "length", tool_calls=[call(arguments='{"pl')]))
    assert reply.tool_calls[0]["raw_input"] == '{"pl'
    assert reply.tool_calls[0]["error"]
    assert reply.finish_reason == "length"


# Media and endpoints


@table(
    ("part", "sent"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            {"image": f"data:image/png;base64,{PNG}"},
        ),
        ({"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}, {"image": "https://x.org/a.png"}),
        (
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
            {"audio": "data:audio/wav;base64,aGk="},
        ),
        (
            {"type": "video", "source": {"type": "url", "url": "http://x.org/a.mp4"}, "cache_control": {"type": "x"}},
            {"video": "http://x.org/a.mp4", "cache_control": {"type": "x"}},
        ),
    ],
)
async def test_media_take_the_multimodal_endpoint(ask, part, sent):
    """By what is in the messages, whatever the model is called; all content is a list there."""
    _, request, body = await ask([{"role": "system", "content": "See."}, {"role": "user", "content": ["what?", part]}])
    assert request.target == MULTIMODAL
    assert body["input"]["messages"] == [
        {"role": "system", "content": [{"text": "See."}]},
        {"role": "user", "content": [{"text": "what?"}, sent]},
    ]


async def test_a_local_file_is_read_here(ask, tmp_path):
    """The SDK would upload it to a place of the vendor's; we send what is in it."""
    path = tmp_path / "cat.png"
    path.write_bytes(base64.b64decode(PNG))
    for source in ({"type": "path", "path": str(path)}, {"type": "url", "url": path}):
        part = {"type": "image", "source": source}
        _, _, body = await ask([{"role": "user", "content": [part]}])
        assert body["input"]["messages"][0]["content"] == [{"image": f"data:image/png;base64,{PNG}"}]


@table(
    "part",
    [
        {"type": "image", "source": {"type": "url", "url": "oss://bucket/cat.png"}},
        {"type": "image", "source": {"type": "url", "url": "ftp://x.org/cat.png"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "aGk="}},
    ],
)
async def test_what_dashscope_cannot_take_is_refused_before_anything_is_sent(ask, loopback, part):
    """Another model of a chain may be able to."""
    with pytest.raises(UnsupportedFeature, match="dashscope cannot take"):
        await ask([{"role": "user", "content": [part]}])
    assert loopback.asked == []


@table(
    ("name", "multimodality", "path"),
    [
        ("qwen-plus", None, TEXT),
        ("qwen3-max", None, TEXT),
        ("qwen3.7-max", None, TEXT),
        ("deepseek-v4-pro", None, TEXT),
        ("qwq-plus", None, TEXT),
        ("qwen3-8b", None, TEXT),
        ("qwen3.5-plus", None, MULTIMODAL),
        ("qwen3.6-flash-2026-04-16", None, MULTIMODAL),
        ("qwen3.5-397b-a17b", None, MULTIMODAL),
        ("qwen-vl-plus", None, MULTIMODAL),
        ("qwen3-vl-8b-thinking", None, MULTIMODAL),
        ("qvq-max", None, MULTIMODAL),
        ("qwen3-omni-30b-a3b-captioner", None, MULTIMODAL),
        ("qwen3.5-plus", False, TEXT),
        ("qwen-plus", True, MULTIMODAL),
    ],
)
async def test_the_endpoint_of_text(ask, name, multimodality, path):
    """What the caller says counts; else the name tells which models live on the multimodal endpoint only."""
    _, request, body = await ask(name=name, model={"multimodality": multimodality})
    assert request.target == path
    assert body["input"]["messages"][0]["content"] == ([{"text": "hi"}] if path == MULTIMODAL else "hi")


async def test_media_cannot_take_the_text_endpoint(ask):
    """What the caller says is not overruled."""
    part = {"type": "image_url", "image_url": {"url": "https://x.org/a.png"}}
    with pytest.raises(UnsupportedFeature, match="multimodality: false"):
        await ask([{"role": "user", "content": [part]}], model={"multimodality": False})


async def test_cache_marks_stand_on_their_part(ask):
    """The text endpoint takes a list for their sake."""
    part = {"type": "text", "text": "long", "cache_control": {"type": "ephemeral"}}
    says = answer(
        usage={
            "input_tokens": 11,
            "output_tokens": 7,
            "total_tokens": 18,
            "prompt_tokens_details": {"cached_tokens": 2, "cache_creation_input_tokens": 5},
            "output_tokens_details": {"reasoning_tokens": 3},
        }
    )
    reply, request, body = await ask([{"role": "system", "content": [part]}, *QUESTION], says=says)
    assert request.target == TEXT
    assert body["input"]["messages"][0]["content"] == [{"text": "long", "cache_control": {"type": "ephemeral"}}]
    assert (reply.usage.cache_read_tokens, reply.usage.cache_write_tokens, reply.usage.reasoning_tokens) == (2, 5, 3)


# Thinking


@table(
    ("model", "call", "sent"),
    [
        ({}, {}, None),
        ({"enable_thinking": False}, {}, False),
        ({"enable_thinking": True}, {"enable_thinking": False}, False),
        ({"generate_kwargs": {"enable_thinking": False}, "enable_thinking": True}, {}, False),
        ({"enable_thinking": False}, {"enable_thinking": None}, None),
    ],
)
async def test_the_thinking_switch(ask, model, call, sent):
    """Off is sent too, since some models think unless told not to; a call has the last word."""
    _, request, body = await ask(model=model, **call)
    assert body["parameters"].get("enable_thinking") is sent
    assert "x-dashscope-sse" not in request.headers


@table(
    ("name", "thinking"),
    [("qwen-plus", True), ("qwq-plus", None), ("qwen3-32b", None), ("qwen3-vl-8b-thinking", None), ("qvq-max", None)],
)
async def test_a_plain_call_collects_what_comes_as_a_stream_only(ask, name, thinking):
    """The caller asked for a reply and gets one, though the vendor only streams."""
    says = [
        answer("", "null", reasoning_content="3 times"),
        answer("", "null", reasoning_content=" 4"),
        answer("1", "null"),
        answer("2", "stop"),
    ]
    reply, request, body = await ask(says=says, name=name, model={"enable_thinking": thinking})
    assert request.headers["x-dashscope-sse"] == "enable"
    assert body["parameters"]["incremental_output"] is True
    assert (reply.thinking, reply.text, reply.finish_reason, reply.usage.total_tokens) == (
        "3 times 4",
        "12",
        "stop",
        18,
    )


async def test_thinking_comes_and_goes_back(ask):
    """Its own thinking returns with the message it led to; another vendor's does not."""
    reply, _, _ = await ask("3*4?", says=answer("12", reasoning_content="3 times 4"))
    assert reply.content[0] == {"type": "thinking", "thinking": "3 times 4", "provider": "dashscope"}
    foreign = {"type": "thinking", "thinking": "secret", "signature": "sig", "provider": "anthropic"}
    talk = [*QUESTION, reply, *QUESTION, {"role": "assistant", "content": [foreign, "hm"]}]
    _, _, body = await ask([*talk, {"role": "assistant", "content": [foreign]}, *QUESTION])
    assert body["input"]["messages"][1:4] == [
        {"role": "assistant", "content": "12", "reasoning_content": "3 times 4"},
        *QUESTION,
        {"role": "assistant", "content": "hm"},
    ]
    assert len(body["input"]["messages"]) == 5


# Parameters and structure


async def test_parameters_join_from_general_to_particular(ask):
    """generate_kwargs, then the call; None takes a parameter out."""
    model = {"generate_kwargs": {"temperature": 0.5, "top_p": 0.9, "seed": 1}}
    _, _, body = await ask(model=model, temperature=0.1, top_p=None, enable_search=True)
    assert body["parameters"] == {
        "result_format": "message",
        "temperature": 0.1,
        "seed": 1,
        "enable_search": True,
    }


@table("value", [float("nan"), {1, 2}, "\ud800"])
async def test_parameters_that_are_no_json_are_the_callers_mistake(ask, loopback, value):
    """Said before anything is sent."""
    with pytest.raises(InvalidRequest, match="JSON"):
        await ask(stop=value)
    assert loopback.asked == []


class Sum(BaseModel):
    total: int


async def test_structured_output_is_a_forced_tool(ask):
    """Its arguments are the answer, validated."""
    made = [call("generate_structured_output", arguments='{"total": 2}')]
    reply, _, body = await ask("1+1?", structured_model=Sum, says=answer("", "stop", tool_calls=made))
    tool = body["parameters"]["tools"][0]["function"]
    assert (tool["name"], tool["parameters"]["required"]) == ("generate_structured_output", ["total"])
    assert body["parameters"]["tool_choice"]["function"] == {"name": "generate_structured_output"}
    assert reply.metadata == {"total": 2}


@pytest.mark.parametrize(
    ("name", "thinking"), [("qwen-plus", True), ("qwen-vl-plus", None)], ids=["thinking", "multimodal"]
)
async def test_structured_output_in_words_where_no_tool_can_be_forced(ask, name, thinking):
    """The schema stands in the system message."""
    says = answer('```json\n{"total": 2}\n```')
    reply, _, body = await ask("1+1?", structured_model=Sum, says=says, name=name, model={"enable_thinking": thinking})
    assert "tools" not in body["parameters"]
    assert '"total"' in json.dumps(body["input"]["messages"][0]).replace('\\"', '"')
    assert reply.metadata == {"total": 2}


@pytest.mark.parametrize("said", [answer("two"), answer("", tool_calls=[call("generate_structured_output")])])
async def test_structured_output_that_does_not_fit_is_a_bad_reply(ask, said):
    """Whether the tool is not called, or called with something else."""
    with pytest.raises(BadReply):
        await ask("1+1?", structured_model=Sum, says=said)


# Construction and environment


async def test_two_models_have_two_addresses(loopback):
    """The address is the model's own, not the process's: regions and accounts stand side by side."""
    loopback.answers(answer())
    models = [DashScopeChatModel("m", f"sk-{name}", False, base_url=f"{loopback.url}/{name}") for name in "ab"]
    for _ in range(2):
        await asyncio.gather(*(model("hi") for model in models))
    for model in models:
        await model.aclose()
    seen = sorted((asked.target.split("/")[1], asked.headers["authorization"]) for asked in loopback.asked)
    assert seen == [("a", "Bearer sk-a")] * 2 + [("b", "Bearer sk-b")] * 2


async def test_an_explicit_address_is_free_of_the_environment(loopback, monkeypatch):
    """Neither address, workspace, protocol, time-out nor retries of the environment reach a model that says its own."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    loopback.answers(answer())
    async with DashScopeChatModel("m", "sk-given", False, base_url=f"{loopback.url}/api/v1") as model:
        await model("hi")
    assert loopback.asked[0].target == TEXT
    assert loopback.asked[0].headers["authorization"] == "Bearer sk-given"
    assert "workspace-of-environment" not in str(loopback.asked[0].headers)


async def test_the_environment_counts_as_a_whole(loopback, monkeypatch):
    """Its key goes to its address, with its workspace; the older variable is a fallback."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-environment")
    monkeypatch.setenv("DASHSCOPE_HTTP_BASE_URL", f"{loopback.url}/api/v1")
    monkeypatch.setenv("DASHSCOPE_WORKSPACE", "ws-1")
    loopback.answers(answer())
    async with DashScopeChatModel("m", None, False) as model:
        await model("hi")
    assert loopback.asked[0].headers["authorization"] == "Bearer sk-environment"
    assert loopback.asked[0].headers["x-dashscope-workspace"] == "ws-1"


@table(
    ("given", "address"),
    [
        ({}, "https://dashscope.aliyuncs.com/api/v1"),
        ({"client_args": {"region": "ap-southeast-1"}}, "https://dashscope-intl.aliyuncs.com/api/v1"),
        ({"client_args": {"region": "cn-hongkong"}}, "https://cn-hongkong.dashscope.aliyuncs.com/api/v1"),
        ({"client_kwargs": {"workspace": "ws-1"}}, "https://ws-1.cn-beijing.maas.aliyuncs.com/api/v1"),
        ({"base_url": "https://x.org/api/v1"}, "https://x.org/api/v1"),
        ({"base_http_api_url": "https://x.org/api/v1", "base_url": "https://y.org"}, "https://x.org/api/v1"),
    ],
)
async def test_the_address_if_none_is_given(given, address):
    """As the SDK has it, by workspace and region, without its warning; and a key of another kind is sent nowhere."""
    seen = []

    def serve(request):
        seen.append(request)
        return httpx.Response(200, json=answer())

    client_args = {
        **given.pop("client_args", {}),
        "http_client": httpx.AsyncClient(transport=httpx.MockTransport(serve)),
    }
    async with DashScopeChatModel("m", "sk-given", False, client_args=client_args, **given) as model:
        await model("hi")
    assert str(seen[0].url) == address + TEXT.removeprefix("/api/v1")
    assert not client_args["http_client"].is_closed
    await client_args["http_client"].aclose()


@table(
    ("address", "sent"),
    [
        (None, True),
        ("https://dashscope-intl.aliyuncs.com/api/v1", True),
        ("https://ws-1.eu-central-1.maas.aliyuncs.com/api/v1", True),
        ("https://gateway.example.com/api/v1", False),
        ("https://aliyuncs.com.example.com/api/v1", False),
    ],
)
async def test_the_key_of_the_environment_stays_at_home(monkeypatch, address, sent):
    """A host that is not the vendor's gets the key only if somebody writes it down for that host."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-environment")
    seen = []

    def serve(request):
        seen.append(request.headers["authorization"])
        return httpx.Response(200, json=answer())

    async with httpx.AsyncClient(transport=httpx.MockTransport(serve)) as client:
        model = DashScopeChatModel("m", None, False, base_url=address, client_args={"http_client": client})
        options = load_provider_options("dashscope")(model_name="m", base_url=address)
        if sent:
            await model("hi")
            assert seen == ["Bearer sk-environment"]
            assert options.missing({"DASHSCOPE_API_KEY": "sk-environment"}) is None
            return
        with pytest.raises(NotConfigured, match=r"example\.com: give `api_key`"):
            await model("hi")
        assert seen == []
        assert "give `api_key`" in options.missing({"DASHSCOPE_API_KEY": "sk-environment"})


@pytest.mark.parametrize("key", [None, ""])
async def test_a_missing_key_is_not_configured(key):
    """The SDK would send the request without one."""
    async with DashScopeChatModel("m", key, False) as model:
        with pytest.raises(NotConfigured, match="set DASHSCOPE_API_KEY"):
            await model("hi")


async def test_a_server_of_ones_own_needs_no_key(loopback, monkeypatch):
    """A server on this machine is asked without a key, whatever the environment has."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-environment")
    loopback.answers(answer())
    async with DashScopeChatModel("m", None, False, base_url=f"{loopback.url}/api/v1") as model:
        await model("hi")
    assert "authorization" not in loopback.asked[0].headers


async def test_an_argument_the_client_does_not_know_is_not_configured():
    """The message is the SDK's, the class ours."""
    async with DashScopeChatModel("m", "sk-given", client_args={"regiom": "x"}) as model:
        with pytest.raises(NotConfigured, match="regiom"):
            await model("hi")


def test_options_describe_the_model():
    """The file's keys are the constructor's, and unknown ones are refused; in a file nothing streams unasked."""
    options = load_provider_options("dashscope")(
        model_name="qwen-plus", api_key="sk-given", base_url="http://127.0.0.1:1"
    )
    model = options.connect()
    assert (model.model_name, model.stream, model.address()) == ("qwen-plus", False, "http://127.0.0.1:1")
    assert "sk-given" not in repr(options)
    assert options.missing({}) is None
    without_key = load_provider_options("dashscope")(model_name="m")
    assert "set DASHSCOPE_API_KEY" in without_key.missing({})
    assert without_key.missing({}) == without_key.connect().missing()
    with pytest.raises(ValidationError, match="enable_thinkin"):
        load_provider_options("dashscope")(model_name="m", enable_thinkin=True)
