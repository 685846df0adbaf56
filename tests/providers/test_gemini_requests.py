"""The bodies that are sent to Gemini, through the real SDK against a loopback server."""

import base64
import importlib.util
import json
import sys
from pathlib import Path

import pytest
from google.genai import types

from modelhub.core.errors import InvalidRequest, UnsupportedFeature
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.gemini.request import SKIP_SIGNATURE
from tests.tables import table

KEY = "AIzaTest0123456789abcdef"
PNG = base64.b64encode(b"\x89PNG not really").decode()
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def whole(*parts, finish="STOP", **more):
    """A whole answer."""
    parts = parts or ({"text": "Hello."},)
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-x", "responseId": "r1", **more}


def model(loopback, name="gemini-3-flash", **more):
    """The model under test, not streaming."""
    return GeminiChatModel(name, KEY, **{"stream": False, "base_url": loopback.url, **more})


@pytest.fixture
def ask(loopback):
    """Ask a model once and give back the request's body."""
    loopback.answers(whole())

    async def send(messages, *args, name="gemini-3-flash", init=None, **more):
        async with model(loopback, name, **(init or {})) as asked:
            await asked(messages, *args, **more)
        body = loopback.asked[-1].json
        assert problems(body) == []
        return body

    return send


def problems(body):
    """What the SDK's own types find wrong in a request's *body*."""
    tool = Path(__file__).parents[3] / "shared" / "tools" / "sdk_spec.py"
    if not tool.exists():
        return []
    if "sdk_spec" not in sys.modules:
        spec = importlib.util.spec_from_file_location("sdk_spec", tool)
        sys.modules["sdk_spec"] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules["sdk_spec"].check("gemini.generate", body)


def user(*parts):
    """A user's entry of `contents`."""
    return {"role": "user", "parts": list(parts)}


# -- messages ----------------------------------------------------------------------------------------------------------


async def test_a_text_goes_to_the_models_address_with_the_key(loopback):
    """The SDK makes path and headers, the body is ours, and there is one request."""
    loopback.answers(whole())
    async with model(loopback) as asked:
        reply = await asked("hi")
    (request,) = loopback.asked
    assert request.target == "/v1/models/gemini-3-flash:generateContent"
    assert request.headers["x-goog-api-key"] == KEY
    assert request.json == {"contents": [user({"text": "hi"})], "generationConfig": {}}
    assert (reply.text, reply.id, reply.model_name, reply.finish_reason) == ("Hello.", "r1", "gemini-x", "stop")


async def test_a_stream_is_asked_for_as_events(loopback):
    """The default of the class is to stream."""
    pieces = [whole({"text": "Hel"}, finish=None), whole({"text": "lo."})]
    loopback.streams(*(f"data: {json.dumps(one)}\r\n\r\n" for one in pieces), content_type="text/event-stream")
    async with GeminiChatModel("gemini-3-flash", KEY, base_url=loopback.url) as asked:
        texts = [snapshot.text async for snapshot in await asked("hi")]
    assert loopback.asked[0].target == "/v1/models/gemini-3-flash:streamGenerateContent?alt=sse"
    assert texts == ["Hel", "Hello.", "Hello."]


async def test_system_messages_go_apart_from_wherever_they_stand(ask):
    """All of them become the system instruction, in their order."""
    body = await ask(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hi"},
            {"role": "developer", "content": "Be kind."},
        ]
    )
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}, {"text": "Be kind."}]}
    assert body["contents"] == [user({"text": "hi"})]


async def test_roles_alternate(ask):
    """Consecutive messages of one side are one entry, and empty text is left out."""
    body = await ask(
        [
            {"role": "user", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "two"}]},
            {"role": "assistant", "content": "three"},
            {"role": "user", "content": "four"},
        ]
    )
    assert body["contents"] == [
        user({"text": "one"}, {"text": "two"}),
        {"role": "model", "parts": [{"text": "three"}]},
        user({"text": "four"}),
    ]


@table(
    ("block", "part"),
    [
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
            {"inlineData": {"mimeType": "image/png", "data": PNG}},
        ),
        (
            {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{PNG}"}},
            {"inlineData": {"mimeType": "image/jpeg", "data": PNG}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png?size=2"}},
            {"fileData": {"fileUri": "https://example.com/a.png?size=2", "mimeType": "image/png"}},
        ),
        (
            {"type": "video", "source": {"type": "url", "url": "https://www.youtube.com/watch?v=x"}},
            {"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}},
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "gs://bucket/a", "media_type": "application/pdf"}},
            {"fileData": {"fileUri": "gs://bucket/a", "mimeType": "application/pdf"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}},
            {"inlineData": {"mimeType": "audio/wav", "data": PNG}},
        ),
    ],
)
async def test_media_go_as_data_or_as_an_address(ask, block, part):
    """What Google can fetch it fetches itself."""
    assert (await ask([{"role": "user", "content": [block]}]))["contents"] == [user(part)]


async def test_a_local_file_is_read(ask, tmp_path):
    """Its bytes go with the request."""
    (tmp_path / "a.png").write_bytes(b"\x89PNG not really")
    block = {"type": "image", "source": {"type": "path", "path": str(tmp_path / "a.png")}}
    body = await ask([{"role": "user", "content": [block]}])
    assert body["contents"] == [user({"inlineData": {"mimeType": "image/png", "data": PNG}})]


@table(
    "messages",
    [
        [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "ftp://example.com/a"}}]}],
        [
            {"role": "system", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]},
            {"role": "user", "content": "hi"},
        ],
        [{"role": "system", "content": "only that"}],
    ],
)
async def test_what_gemini_cannot_take_is_refused_before_a_request(loopback, messages):
    """Another model may take it, so this is no mistake of the caller's."""
    async with model(loopback) as asked:
        with pytest.raises(UnsupportedFeature):
            await asked(messages)
    assert loopback.asked == []


# -- tools -------------------------------------------------------------------------------------------------------------


@table(
    ("choice", "calling"),
    [
        (None, None),
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("any", {"mode": "ANY"}),
        ("required", {"mode": "ANY"}),
        ("time", {"mode": "ANY", "allowedFunctionNames": ["time"]}),
    ],
)
async def test_tools_and_their_choice(ask, choice, calling):
    """Schemas go as JSON Schema, and a tool without parameters has none."""
    body = await ask("hi", [WEATHER, TIME], choice)
    assert body["tools"] == [
        {
            "functionDeclarations": [
                {
                    "name": "weather",
                    "description": "Tells the weather.",
                    "parametersJsonSchema": WEATHER["function"]["parameters"],
                },
                {"name": "time"},
            ]
        }
    ]
    assert body.get("toolConfig", {}).get("functionCallingConfig") == calling


async def test_googles_own_tools_go_along(ask):
    """They are named among the parameters, as dicts or as the SDK's objects, and stand before the functions."""
    search = [{"google_search": {}}, types.Tool(code_execution=types.ToolCodeExecution())]
    init = {"generate_kwargs": {"tools": search, "tool_config": {"retrieval_config": {"language_code": "de"}}}}
    body = await ask("hi", [TIME], "auto", init=init)
    assert body["tools"] == [
        {"google_search": {}},
        {"codeExecution": {}},
        {"functionDeclarations": [{"name": "time"}]},
    ]
    assert body["toolConfig"]["functionCallingConfig"] == {"mode": "AUTO"}
    assert "de" in json.dumps(body["toolConfig"])


async def test_functions_are_never_run_here(loopback):
    """The SDK would call them itself, and ask again, unseen."""
    async with model(loopback, generate_kwargs={"tools": [print]}) as asked:
        with pytest.raises(InvalidRequest, match="by their JSON schemas"):
            await asked("hi")
    assert loopback.asked == []


async def test_a_tool_name_that_gemini_does_not_know_is_replaced(ask):
    """Its names begin with a letter or `_`."""
    body = await ask("hi", [{"name": "1st"}])
    assert [one["name"] for one in body["tools"][0]["functionDeclarations"]] == ["_1st"]


CALLS = [
    {"functionCall": {"name": "weather", "args": {"city": "Rome"}}, "thoughtSignature": "c2ln"},
    {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}},
    {"functionCall": {"name": "time", "id": "vendor-1"}},
]


async def round_trip(loopback, answers, name="gemini-3-flash"):
    """Let the model call tools, answer in another order, and give back what was then sent."""
    loopback.answers(whole({"text": "Let me see.", "thought": True}, *CALLS))
    async with model(loopback, name) as asked:
        reply = await asked("hi", [WEATHER, TIME])
        calls = reply.tool_calls
        results = [
            {"type": "tool_result", "id": calls[index]["id"], "name": calls[index]["name"], **answer}
            for index, answer in answers
        ]
        history = [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": reply.content},
            {"role": "user", "content": [*results, {"type": "text", "text": "Well?"}]},
        ]
        await asked(history, [WEATHER, TIME])
    assert problems(loopback.asked[-1].json) == []
    return reply, loopback.asked[-1].json["contents"]


async def test_parallel_calls_and_their_results(loopback):
    """Signatures and the vendor's ids go back, our ids stay here, and the results stand in the calls' order."""
    reply, contents = await round_trip(
        loopback, [(2, {"output": "noon"}), (1, {"output": "snow", "is_error": True}), (0, {"output": "sun"})]
    )
    assert reply.finish_reason == "tool_calls"
    assert [(call["name"], call["input"]) for call in reply.tool_calls] == [
        ("weather", {"city": "Rome"}),
        ("weather", {"city": "Oslo"}),
        ("time", {}),
    ]
    assert len({call["id"] for call in reply.tool_calls}) == 3
    assert contents[1] == {
        "role": "model",
        "parts": [
            {"text": "Let me see.", "thought": True},
            CALLS[0],
            CALLS[1],
            {"functionCall": {"name": "time", "args": {}, "id": "vendor-1"}},
        ],
    }
    assert contents[2] == user(
        {"functionResponse": {"name": "weather", "response": {"output": "sun"}}},
        {"functionResponse": {"name": "weather", "response": {"error": "snow"}}},
        {"functionResponse": {"name": "time", "response": {"output": "noon"}, "id": "vendor-1"}},
        {"text": "Well?"},
    )


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
SHOWN = [{"type": "text", "text": "see"}, IMAGE]


async def test_media_in_results_go_inside_of_them(loopback):
    """Gemini 3 takes them there."""
    _, contents = await round_trip(loopback, [(0, {"output": SHOWN}), (1, {"output": "b"}), (2, {"output": "c"})])
    assert contents[2]["parts"][0]["functionResponse"] == {
        "name": "weather",
        "response": {"output": "see"},
        "parts": [{"inlineData": {"mimeType": "image/png", "data": PNG}}],
    }


async def test_media_in_results_go_behind_them_for_older_models(loopback):
    """Gemini 2.5 knows media only beside results, so they follow all of the turn's."""
    _, contents = await round_trip(
        loopback, [(0, {"output": SHOWN}), (1, {"output": "b"}), (2, {"output": "c"})], "gemini-2.5-pro"
    )
    assert [next(iter(part)) for part in contents[2]["parts"]] == [
        *["functionResponse"] * 3,
        "text",
        "inlineData",
        "text",
    ]
    assert contents[2]["parts"][3] == {"text": "Attached to the result of `weather`:"}


FOREIGN = [
    {"role": "user", "content": "hi"},
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": "anthropics", "provider": "anthropic"},
            {"type": "tool_use", "id": "toolu_1", "name": "time", "input": {}, "provider": "anthropic"},
            {"type": "tool_use", "id": "toolu_2", "name": "time", "input": {}, "signature": "x", "provider": "openai"},
        ],
    },
    {"role": "tool", "tool_call_id": "toolu_1", "content": "noon"},
    {"role": "tool", "tool_call_id": "toolu_2", "content": "noon"},
]


async def test_the_calls_of_another_vendor_bear_googles_word_for_that(ask):
    """Gemini 3 refuses a turn's first call without a signature; foreign signatures, ids and thoughts stay out."""
    body = await ask(FOREIGN, [TIME])
    assert body["contents"][1]["parts"] == [
        {"functionCall": {"name": "time", "args": {}}, "thoughtSignature": SKIP_SIGNATURE},
        {"functionCall": {"name": "time", "args": {}}},
    ]
    assert base64.b64decode(SKIP_SIGNATURE) == b"skip_thought_signature_validator"
    assert "toolu" not in json.dumps(body)


async def test_arguments_that_were_no_json_are_shown_to_the_model(ask):
    """Gemini takes objects only, so the text goes inside of one."""
    call = {"type": "tool_use", "id": "a", "name": "time", "input": {}, "raw_input": '{"zone": '}
    result = {"role": "tool", "tool_call_id": "a", "content": "unreadable arguments"}
    body = await ask([{"role": "user", "content": "hi"}, {"role": "assistant", "content": [call]}, result], [TIME])
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == {"INVALID_JSON": '{"zone": '}


async def test_older_models_need_no_such_word(ask):
    """They do not look."""
    assert SKIP_SIGNATURE not in json.dumps(await ask(FOREIGN, [TIME], name="models/gemini-2.5-flash"))


async def test_a_turn_of_foreign_thinking_alone_disappears(ask):
    """What is left on both sides of it is one entry."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "x", "provider": "anthropic"}
    body = await ask(
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": [thinking]},
            {"role": "user", "content": "two"},
        ]
    )
    assert body["contents"] == [user({"text": "one"}, {"text": "two"})]
