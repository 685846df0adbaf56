"""What is sent to Gemini, through the real SDK against a loopback server, and what a caller gets back."""

import base64
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Literal

import httpx
import httpx2
import pytest
from google.genai import types
from pydantic import BaseModel, Field

from modelhub.errors import BadReply, ConfigError, InvalidRequest, NotConfigured, UnsupportedFeature
from modelhub.providers._gemini_decode import FINISH
from modelhub.providers._gemini_encode import SKIP_SIGNATURE
from modelhub.providers._gemini_schema import gemini_schema
from modelhub.providers.gemini import GeminiChatModel, GeminiOptions
from modelhub.registry import provider_options

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


def events(*pieces):
    """Each of *pieces* (a list of parts) as an event of a stream; the last one ends it."""
    told = []
    for parts in pieces:
        candidate = {"content": {"role": "model", "parts": parts}}
        if parts is pieces[-1]:
            candidate["finishReason"] = "STOP"
        told.append(f"data: {json.dumps({'candidates': [candidate], 'usageMetadata': USAGE})}\r\n\r\n")
    return told


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
    loopback.streams(*events([{"text": "Hel"}], [{"text": "lo."}]), content_type="text/event-stream")
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


@pytest.mark.parametrize(
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
    block = {"type": "image", "source": {"type": "url", "url": str(tmp_path / "a.png")}}
    body = await ask([{"role": "user", "content": [block]}])
    assert body["contents"] == [user({"inlineData": {"mimeType": "image/png", "data": PNG}})]


@pytest.mark.parametrize(
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


@pytest.mark.parametrize(
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


async def test_a_tool_name_that_gemini_does_not_know_is_refused(loopback):
    """Its names begin with a letter."""
    async with model(loopback) as asked:
        with pytest.raises(UnsupportedFeature, match="`1st`"):
            await asked("hi", [{"name": "1st"}])


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
    assert body["contents"][1]["parts"][0]["functionCall"]["args"] == {"unreadable": '{"zone": '}


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


# -- what comes back ---------------------------------------------------------------------------------------------------


async def test_signed_text_goes_back_as_it_came(loopback):
    """A signature closes its block, whether the answer came whole or in pieces."""
    pieces = [[{"text": "The sum", "thought": True}], [{"text": "Four"}], [{"text": "", "thoughtSignature": "c2ln"}]]
    loopback.streams(*events(*pieces, [{"text": "!"}]), content_type="text/event-stream")
    async with model(loopback) as asked:
        reply = await (await asked("2+2?", stream=True)).final()
        loopback.answers(whole())
        await asked([{"role": "user", "content": "2+2?"}, reply, {"role": "user", "content": "Sure?"}])
    assert reply.thinking == "The sum"
    assert reply.text == "Four!"
    assert loopback.asked[1].json["contents"][1]["parts"] == [
        {"text": "The sum", "thought": True},
        {"text": "Four", "thoughtSignature": "c2ln"},
        {"text": "!"},
    ]


async def test_the_parts_of_googles_own_tools_are_no_content(loopback):
    """What they ran and found is not the model's answer."""
    loopback.answers(
        whole({"executableCode": {"code": "2+2"}}, {"codeExecutionResult": {"output": "4"}}, {"text": "Four."})
    )
    async with model(loopback) as asked:
        reply = await asked("2+2?")
    assert reply.content == [{"type": "text", "text": "Four."}]


async def test_a_generated_image_is_content(loopback):
    """It comes as a block that can go back."""
    loopback.answers(whole({"text": "Here."}, {"inlineData": {"mimeType": "image/png", "data": PNG}}))
    async with model(loopback) as asked:
        reply = await asked("draw")
        await asked([{"role": "user", "content": "draw"}, reply, {"role": "user", "content": "larger"}])
    assert reply.content == [{"type": "text", "text": "Here."}, IMAGE]
    assert loopback.asked[1].json["contents"][1]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": PNG}}


@pytest.mark.parametrize(
    "body",
    [
        {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "usageMetadata": {"promptTokenCount": 3}},
        {"candidates": [{"finishReason": "SAFETY"}], "usageMetadata": {"promptTokenCount": 3}},
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_blocked_prompt_is_an_answer_with_a_reason(loopback, body, stream):
    """It is empty, says why, and counts what was read."""
    loopback.streams(f"data: {json.dumps(body)}\n\n", content_type="text/event-stream") if stream else None
    loopback.answers(body) if not stream else None
    async with model(loopback) as asked:
        reply = await asked("hi", stream=stream)
        reply = await reply.final() if stream else reply
    assert (reply.content, reply.finish_reason, reply.usage.input_tokens) == ([], "content_filter", 3)


def test_every_finish_reason_of_the_sdk_is_known():
    """All of its enumeration stand in the table."""
    assert {reason.value for reason in types.FinishReason} == set(FINISH)


async def test_arguments_in_pieces_become_one_call(loopback):
    """Vertex AI can stream them by JSON path; a call whose end is missing does not pass for whole."""

    def call(**fields):
        return [{"functionCall": fields}]

    loopback.streams(
        *events(
            call(name="plan", willContinue=True),
            call(partialArgs=[{"jsonPath": "$.who.name", "stringValue": "A", "willContinue": True}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$.who.name", "stringValue": "da"}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$.days[0]", "numberValue": 1}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$['days'][1]", "nullValue": "NULL_VALUE"}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$.sure", "boolValue": True}], willContinue=True),
            call(),
            call(name="plan", willContinue=True),
            call(partialArgs=[{"jsonPath": "$.who", "stringValue": "B", "willContinue": True}], willContinue=True),
            [{"text": ""}],
        ),
        content_type="text/event-stream",
    )
    async with model(loopback) as asked:
        reply = await (await asked("hi", stream=True)).final()
    one, two = reply.tool_calls
    assert one["input"] == {"who": {"name": "Ada"}, "days": [1, None], "sure": True}
    assert (two["input"], reply.finish_reason) == ({}, "error")
    assert "not JSON" in two["error"]


async def test_a_call_told_twice_is_one_call(loopback):
    """The vendor's id tells."""
    loopback.answers(whole(*[{"functionCall": {"name": "time", "id": "a"}}] * 2))
    async with model(loopback) as asked:
        assert [call["id"] for call in (await asked("hi", [TIME])).tool_calls] == ["a"]


async def test_only_the_first_of_several_candidates_counts(loopback):
    """Further ones are not mixed in."""
    body = whole()
    body["candidates"].append({"index": 1, "content": {"parts": [{"text": "Bye."}]}, "finishReason": "MAX_TOKENS"})
    loopback.answers(body)
    async with model(loopback, generate_kwargs={"candidate_count": 2}) as asked:
        reply = await asked("hi")
    assert (reply.text, reply.finish_reason) == ("Hello.", "stop")
    assert loopback.asked[0].json["generationConfig"] == {"candidateCount": 2}


# -- parameters --------------------------------------------------------------------------------------------------------


async def test_parameters_are_merged_in_order(ask):
    """The class's thinking, then generate_kwargs, then the call's own, in either spelling; None takes one away."""
    init = {
        "thinking_config": {"include_thoughts": True, "thinking_budget": 1024},
        "generate_kwargs": {"temperature": 0.1, "maxOutputTokens": 5, "seed": 7},
    }
    body = await ask("hi", init=init, max_output_tokens=9, seed=None)
    assert body["generationConfig"] == {
        "temperature": 0.1,
        "maxOutputTokens": 9,
        "thinkingConfig": {"include_thoughts": True, "thinking_budget": 1024},
    }
    body = await ask("hi", init=init, thinking_config={"thinking_level": "LOW"})
    assert body["generationConfig"]["thinkingConfig"] == {"thinking_level": "LOW"}


async def test_new_parameters_can_be_sent_by_their_wire_names(loopback):
    """What the SDK does not know yet goes through its `extra_body`, joined with what is there."""
    loopback.answers(whole())
    extra = {"extra_body": {"generationConfig": {"novel": 1}, "labels": {"a": "b"}}, "headers": {"x-team": "blue"}}
    async with model(loopback) as asked:
        await asked("hi", temperature=0.5, http_options=extra)
    body = loopback.asked[0].json
    assert (body["generationConfig"], body["labels"]) == ({"temperature": 0.5, "novel": 1}, {"a": "b"})
    assert body["contents"] == [user({"text": "hi"})]
    assert loopback.asked[0].headers["x-team"] == "blue"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_tokens": 5}, r"max_tokens: is no parameter .*; did you mean `max_output_tokens`\?"),
        ({"temperature": "secret"}, r"temperature: Input should be a valid number"),
        ({"audio_timestamp": True}, "only supported in Gemini Enterprise"),
        ({"seed": 1, "stop_sequences": "x"}, "stop_sequences: Input should be a valid list"),
    ],
)
async def test_wrong_parameters_are_told_before_a_request(loopback, options, words):
    """The SDK's own objections are ours, name the parameter and show no value."""
    async with model(loopback, generate_kwargs=options) as asked:
        with pytest.raises(InvalidRequest, match=words) as caught:
            await asked("hi")
    assert "secret" not in str(caught.value)
    assert loopback.asked == []


async def test_a_system_instruction_beside_system_messages_is_refused(loopback):
    """Only one of them could be sent."""
    async with model(loopback, generate_kwargs={"system_instruction": "Be brief."}) as asked:
        with pytest.raises(InvalidRequest, match="only one"):
            await asked([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}])
        loopback.answers(whole())
        await asked("hi")
    assert loopback.asked[0].json["systemInstruction"]["parts"] == [{"text": "Be brief."}]


async def test_nothing_of_the_callers_is_changed(ask):
    """Messages, tools and parameters are read only."""
    tools, schema = [json.loads(json.dumps(WEATHER))], {"type": "object", "properties": {"a": {"type": "string"}}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    before = json.dumps([messages, tools, schema])
    options = {"response_schema": schema, "response_mime_type": "application/json"}
    await ask(messages, tools, init={"generate_kwargs": options})
    assert json.dumps([messages, tools, schema]) == before


# -- structured output -------------------------------------------------------------------------------------------------


class Weather(BaseModel):
    """How it is."""

    city: str
    kind: Literal["sun"] = "sun"
    degrees: int | None = Field(None, gt=-90)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_structured_output_is_native(loopback, stream):
    """The schema goes as JSON Schema, whatever schema was set before, and the answer is validated."""
    if stream:
        pieces = [[{"text": '{"city": "Ro'}], [{"text": 'me"}'}]]
        loopback.streams(*events(*pieces), content_type="text/event-stream")
    else:
        loopback.answers(whole({"text": '{"city": "Rome"}'}))
    options = {"response_schema": {"type": "STRING"}, "temperature": 0}
    async with model(loopback, generate_kwargs=options) as asked:
        reply = await asked("hi", structured_model=Weather, stream=stream)
        if stream:
            snapshots = [snapshot.metadata async for snapshot in reply]
            assert snapshots[0] == {"city": "Ro"}
            metadata = snapshots[-1]
        else:
            metadata = reply.metadata
    assert metadata == {"city": "Rome", "kind": "sun", "degrees": None}
    config = loopback.asked[0].json["generationConfig"]
    assert (config["temperature"], config["responseMimeType"]) == (0, "application/json")
    assert "responseSchema" not in config
    assert config["responseJsonSchema"]["properties"]["kind"]["enum"] == ["sun"]


async def test_an_answer_that_does_not_fit_is_no_success(loopback):
    """The fields are named."""
    loopback.answers(whole({"text": '{"town": "Rome"}'}))
    async with model(loopback) as asked:
        with pytest.raises(BadReply, match="city: Field required"):
            await asked("hi", structured_model=Weather)


@pytest.mark.parametrize(
    ("schema", "read"),
    [
        ({"const": "a"}, {"enum": ["a"]}),
        ({"type": ["string", "null"], "title": "T"}, {"type": ["string", "null"], "title": "T"}),
        ({"$ref": "#/$defs/A"}, {"$ref": "#/$defs/A"}),
        ({"$ref": "#/definitions/A", "default": 1}, {"anyOf": [{"$ref": "#/$defs/A"}], "default": 1}),
        ({"definitions": {"A": {"const": 1}}}, {"$defs": {"A": {"enum": [1]}}}),
        ({"$schema": "x", "discriminator": {}, "oneOf": [{"const": 1}]}, {"oneOf": [{"enum": [1]}]}),
        ({"type": "string", "format": "date"}, {"type": "string", "format": "date"}),
        ({"type": "string", "format": "uuid"}, {"type": "string", "description": '(format: "uuid")'}),
        (
            {"minLength": 2, "description": "A name.", "pattern": "^a"},
            {"description": 'A name. (minLength: 2; pattern: "^a")'},
        ),
        ({"additionalProperties": False}, {"additionalProperties": False}),
        ({"additionalProperties": {"const": 1}}, {"additionalProperties": {"enum": [1]}}),
        ({"items": True, "prefixItems": [{"const": 1}]}, {"items": {}, "prefixItems": [{"enum": [1]}]}),
        ({"properties": {"a": False}}, {"properties": {"a": {"description": "not allowed"}}}),
        (
            {
                "type": "object",
                "allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"type": "string"}],
                "properties": {"b": {}},
                "required": ["b"],
            },
            {
                "type": "object",
                "properties": {"b": {}, "a": {}},
                "required": ["b", "a"],
                "description": '(all of: {"type": "string"})',
            },
        ),
        ({"allOf": [{"$ref": "#/$defs/A"}], "default": 1}, {"anyOf": [{"$ref": "#/$defs/A"}], "default": 1}),
    ],
)
def test_a_schema_says_the_same_in_geminis_words(schema, read):
    """What Gemini does not read is said by what it reads, or in the description."""
    before = json.dumps(schema)
    assert gemini_schema(schema) == read
    assert json.dumps(schema) == before


# -- keys, hosts and clients -------------------------------------------------------------------------------------------


async def test_the_environment_cannot_turn_a_call_elsewhere(loopback, monkeypatch):
    """With a key given, no variable switches the backend, the host or the key, or plays back a recording."""
    variables = {
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "GOOGLE_CLOUD_PROJECT": "p",
        "GOOGLE_CLOUD_LOCATION": "l",
        "GOOGLE_API_KEY": "from-the-environment",
        "GEMINI_API_KEY": "from-the-environment",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loopback.answers(whole())
    async with model(loopback) as asked:
        await asked("hi")
    assert loopback.asked[0].target == "/v1/models/gemini-3-flash:generateContent"
    assert loopback.asked[0].headers["x-goog-api-key"] == KEY
    given = GeminiChatModel("m", KEY)
    assert given._http_options["base_url"] == "https://generativelanguage.googleapis.com/"


async def test_key_and_address_of_the_environment_belong_together(loopback, monkeypatch):
    """The SDK's order of keys; the address of the environment is used with a key of the environment only."""
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    monkeypatch.setenv("GOOGLE_API_KEY", "first")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", loopback.url)
    loopback.answers(whole())
    async with GeminiChatModel("m", stream=False) as asked:
        await asked("hi")
    assert loopback.asked[0].headers["x-goog-api-key"] == "first"


async def test_a_missing_key_is_told_with_its_variables(monkeypatch):
    """An empty variable is none."""
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "")
    with pytest.raises(NotConfigured, match="set GEMINI_API_KEY or GOOGLE_API_KEY"):
        await GeminiChatModel("m")("hi")


async def test_vertex_ai_is_reached_through_the_same_class(loopback):
    """Project and location make the path; the key is Vertex AI's express key, or Google's own credentials."""
    loopback.answers(whole())
    async with model(loopback, client_args={"vertexai": True}) as asked:
        await asked("hi")
    assert loopback.asked[0].target == "/v1beta1/publishers/google/models/gemini-3-flash:generateContent"


@pytest.mark.parametrize("module", [httpx, httpx2])
async def test_a_client_of_the_users_own_is_used_and_left_open(loopback, module):
    """Its headers go along, whichever httpx it is of."""
    loopback.streams(*events([{"text": "Hello."}]), content_type="text/event-stream")
    async with module.AsyncClient(headers={"x-team": "blue"}) as theirs:
        async with model(loopback, client_args={"http_options": {"httpx_async_client": theirs}}) as asked:
            reply = await (await asked("hi", stream=True)).final()
        assert not theirs.is_closed
    assert (reply.text, loopback.asked[0].headers["x-team"]) == ("Hello.", "blue")


async def test_the_arguments_of_the_http_client_are_heard(loopback):
    """`async_client_args`, in a dict or in the SDK's object, under the old name of the arguments or the new."""
    loopback.answers(whole())
    options = types.HttpOptions(async_client_args={"headers": {"x-team": "blue"}}, api_version="v1beta")
    async with model(loopback, client_kwargs={"http_options": options}) as asked:
        await asked("hi")
    assert loopback.asked[0].headers["x-team"] == "blue"
    assert loopback.asked[0].target.startswith("/v1beta/")


def test_a_client_of_another_kind_is_refused():
    """It would be passed over silently otherwise."""
    with pytest.raises(ConfigError, match="httpx_async_client"):
        GeminiChatModel("m", KEY, client_args={"http_options": {"aiohttp_client": object()}})


def test_options_make_the_model(monkeypatch):
    """The file's fields are the constructor's, and the kind leads to them."""
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    options = provider_options("gemini")(
        model_name="gemini-3-flash",
        api_key=KEY,
        thinking_config={"include_thoughts": True},
        generate_kwargs={"temperature": 0},
        base_url="http://127.0.0.1:1",
    )
    made = options.connect()
    assert isinstance(made, GeminiChatModel)
    assert (made.stream, made.missing(), list(made.secrets())) == (False, None, [KEY])
    assert KEY not in repr(options) + repr(made)
    assert GeminiOptions(model_name="m").missing({}) == "set GEMINI_API_KEY or GOOGLE_API_KEY"
    assert GeminiOptions(model_name="m").missing({"GOOGLE_API_KEY": "x"}) is None
    assert GeminiOptions(model_name="m", client_args={"vertexai": True}).missing({}) is None


def test_the_sdk_is_not_loaded_before_it_is_needed():
    """Neither importing the module nor making a model loads it."""
    code = (
        "import sys; from modelhub.providers.gemini import GeminiChatModel; GeminiChatModel('m', 'k').missing(); "
        "print([name for name in sys.modules if name.startswith(('google.genai', 'httpx', 'aiohttp'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
