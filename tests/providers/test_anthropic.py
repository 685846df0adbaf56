"""Requests to Anthropic's Messages API, and answers from it, through the real SDK against a loopback server."""

import base64
import importlib.util
import json
import traceback
from datetime import datetime
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, Field, RootModel

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    ConfigError,
    InvalidRequest,
    NotConfigured,
    UnsupportedFeature,
)
from modelhub.providers.anthropic import AnthropicChatModel, AnthropicOptions
from modelhub.providers.anthropic.schema import native_schema
from modelhub.registry import load_provider_options
from tests.tables import table

KEY = "sk-ant-test-0123456789abcdef"
USAGE = {"input_tokens": 10, "output_tokens": 5}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {"type": "function", "function": {"name": "time"}}


def message(*content, stop="end_turn", **more):
    """A whole answer of the API."""
    content = content or ({"type": "text", "text": "Hello."},)
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5-20251001",
        "content": list(content),
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": USAGE,
        **more,
    }


def sse(*events):
    """Events as a stream writes them."""
    return ["event: {}\ndata: {}\n\n".format(event["type"], json.dumps(event)) for event in events]


def stream(*events, stop="end_turn"):
    """A whole stream around *events*."""
    start = {"type": "message_start", "message": message(content=[], stop=None) | {"content": []}}
    delta = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 7}}
    return sse(start, {"type": "ping"}, *events, delta, {"type": "message_stop"})


def text_block(*pieces, index=0):
    """The events of one text block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
        *(delta(index, type="text_delta", text=piece) for piece in pieces),
        {"type": "content_block_stop", "index": index},
    ]


def delta(index, **fields):
    """One piece of a block."""
    return {"type": "content_block_delta", "index": index, "delta": fields}


def make(server, *args, **more):
    """A model at *server* that does not stream."""
    model_name = args[0] if args else more.pop("model_name", "claude-haiku-4-5")
    return AnthropicChatModel(model_name, KEY, **{"stream": False, "base_url": server.url, **more})


async def sent(server, messages="Hi", *args, model_name="claude-haiku-4-5", reply=None, more=None, **call):
    """The body that a call really sends."""
    server.answers(reply or message())
    async with make(server, model_name, **(more or {})) as model:
        await model(messages, *args, **call)
    assert len(server.asked) == 1
    return server.asked.pop().json


@pytest.fixture(scope="module")
def wrong_in():
    """What the SDK's own types say against a request body."""
    tool = Path(__file__).parents[3] / "shared" / "tools" / "sdk_spec.py"
    if not tool.exists():
        pytest.skip(f"the checker of request bodies is not there: {tool}")
    spec = importlib.util.spec_from_file_location("sdk_spec", tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda body: module.check("anthropic.messages", body)


# -- requests --------------------------------------------------------------------------------------------------------


async def test_a_text_goes_out_as_one_user_message(loopback, wrong_in):
    """A plain string becomes a user's text block, with the model, max_tokens and nothing else."""
    body = await sent(loopback)
    assert body == {
        "model": "claude-haiku-4-5",
        "max_tokens": 2048,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert wrong_in(body) == []


async def test_system_messages_anywhere_stand_at_the_top(loopback):
    """All system messages join the prompt at the top, in order, and the turns around them become one."""
    body = await sent(
        loopback,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": "And kind."},
            {"role": "user", "content": "there"},
        ],
    )
    assert body["system"] == "Be brief.\n\nAnd kind."
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    assert [block["text"] for block in body["messages"][0]["content"]] == ["Hi", "there"]


async def test_cache_marks_keep_their_places(loopback, wrong_in):
    """Marks on system text, messages and tool results arrive as cache_control, and the system prompt becomes a list."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    body = await sent(
        loopback,
        [
            {"role": "system", "content": [{"type": "text", "text": "Long.", "cache_control": mark}]},
            {"role": "system", "content": "Short."},
            {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": mark}]},
        ],
    )
    assert body["system"] == [
        {"type": "text", "text": "Long.", "cache_control": mark},
        {"type": "text", "text": "Short."},
    ]
    assert body["messages"][0]["content"][0]["cache_control"] == mark
    assert wrong_in(body) == []


async def test_a_system_prompt_alone_is_not_enough(loopback):
    """Anthropic needs a user message: without one another model may be asked, and nothing is sent."""
    async with make(loopback) as model:
        with pytest.raises(UnsupportedFeature, match="user message"):
            await model([{"role": "system", "content": "Be brief."}])
    assert not loopback.asked


@table(
    ("choice", "wanted"),
    [
        (None, None),
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("any", {"type": "any"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
async def test_tools_and_every_choice(loopback, wrong_in, choice, wanted):
    """Tools go out with a schema of type object, and each choice in the API's words."""
    body = await sent(loopback, "Hi", [WEATHER, TIME], choice)
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "Tells the weather.",
            "input_schema": WEATHER["function"]["parameters"],
        },
        {"name": "time", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body.get("tool_choice") == wanted
    assert wrong_in(body) == []


async def test_a_strict_tool_is_strict_where_the_model_can(loopback, wrong_in):
    """`strict` goes out for Claude 4.5 and later with a closed schema, and is left out for older ones."""
    tool = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    new = await sent(loopback, "Hi", [tool])
    assert new["tools"][0]["strict"] is True
    assert new["tools"][0]["input_schema"]["additionalProperties"] is False
    assert wrong_in(new) == []
    old = await sent(loopback, "Hi", [tool], model_name="claude-3-5-haiku-latest")
    assert "strict" not in old["tools"][0]


async def test_server_tools_from_generate_kwargs_stay_beside_the_callers(loopback):
    """Tools of Anthropic's own, given as a parameter, are sent after the caller's; so stays the choice's detail."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    more = {"generate_kwargs": {"tools": [search], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}}
    body = await sent(loopback, "Hi", [TIME], "required", more=more)
    assert [tool["name"] for tool in body["tools"]] == ["time", "web_search"]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


async def test_a_name_of_an_argument_that_the_api_refuses_is_no_surprise(loopback):
    """An argument cannot be renamed: another model may take it."""
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    async with make(loopback) as model:
        with pytest.raises(UnsupportedFeature, match="größe"):
            await model("Hi", [{"type": "function", "function": {"name": "f", "parameters": schema}}])
    assert not loopback.asked


async def test_a_tool_round_trip_with_parallel_calls(loopback, wrong_in):
    """Both results of one turn come in one user message, first of all, with the ids of their calls."""
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"A"}'}},
                    {"id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"B"}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "sun"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": ""},
            {"role": "user", "content": "And?"},
        ],
        [WEATHER],
    )
    asked, answered = body["messages"][1:]
    assert [block["type"] for block in asked["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in asked["content"][1:]] == [{"city": "A"}, {"city": "B"}]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"},
        {"type": "tool_result", "tool_use_id": "toolu_2"},
        {"type": "text", "text": "And?"},
    ]
    assert wrong_in(body) == []


async def test_results_with_errors_and_images(loopback, wrong_in):
    """A failed tool is marked and has words, and a result may hold an image."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Draw."},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "a", "name": "draw", "input": {}},
                    {"type": "tool_use", "id": "b", "name": "draw", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Here."},
                    {"type": "tool_result", "id": "a", "output": [{"type": "text", "text": "one"}, image]},
                    {"type": "tool_result", "id": "b", "output": "", "is_error": True},
                ],
            },
        ],
    )
    first, second, text = body["messages"][2]["content"]
    assert first["content"] == [{"type": "text", "text": "one"}, image]
    assert second == {"type": "tool_result", "tool_use_id": "b", "content": "error", "is_error": True}
    assert text == {"type": "text", "text": "Here."}
    assert wrong_in(body) == []


async def test_foreign_ids_are_made_fit_on_both_sides(loopback):
    """Ids with characters the API refuses, or used again in a later turn, are replaced, the same in call and result."""
    talk = [{"role": "user", "content": "Go."}]
    for call_id in ("sig/+==", "call_0", "call_0"):
        call = {"id": call_id, "type": "function", "function": {"name": "time", "arguments": "{}"}}
        talk += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "now"},
        ]
    body = await sent(loopback, talk)
    calls = [turn["content"][0]["id"] for turn in body["messages"] if turn["role"] == "assistant"]
    results = [turn["content"][0]["tool_use_id"] for turn in body["messages"][2:] if turn["role"] == "user"]
    assert calls == results
    assert len(set(calls)) == 3
    assert calls[1:] == ["call_0", "call_0_2"]
    assert all(part.isalnum() or part in "_-" for call_id in calls for part in call_id)


async def test_unreadable_arguments_go_back_as_they_were(loopback):
    """A call whose arguments were no JSON goes back wrapped, not as a call without arguments."""
    call = {"id": "a", "type": "function", "function": {"name": "time", "arguments": '{"zone": '}}
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Go."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "?"},
        ],
    )
    assert body["messages"][1]["content"][0]["input"] == {"INVALID_JSON": '{"zone": '}


async def test_images_by_address_in_base64_and_from_a_file(loopback, wrong_in, tmp_path):
    """Images go out by address, in base64, and, from a local file, in base64 too."""
    (tmp_path / "dot.png").write_bytes(b"\x89PNG")
    parts = [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j/"}},
        {"type": "image", "source": {"type": "path", "path": tmp_path / "dot.png"}},
    ]
    body = await sent(loopback, [{"role": "user", "content": parts}])
    assert [block["source"] for block in body["messages"][0]["content"]] == [
        {"type": "url", "url": "https://example.com/a.png"},
        {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"},
        {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG").decode()},
    ]
    assert wrong_in(body) == []


async def test_documents_as_pdf_and_text(loopback, wrong_in):
    """PDFs go out by address or in base64, texts as text, with their names as titles."""
    text = base64.b64encode("Größe".encode()).decode()
    parts = [
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "name": "a",
        },
        {"type": "document", "source": {"type": "base64", "media_type": "text/markdown", "data": text}},
    ]
    body = await sent(loopback, [{"role": "user", "content": parts}])
    assert [{**block, "type": None} for block in body["messages"][0]["content"]] == [
        {"type": None, "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": None, "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}, "title": "a"},
        {"type": None, "source": {"type": "text", "media_type": "text/plain", "data": "Größe"}},
    ]
    assert wrong_in(body) == []


def _media(kind, media_type):
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": "AAAA"}}


@table(
    ("role", "part"),
    [
        ("user", _media("audio", "audio/wav")),
        ("user", _media("video", "video/mp4")),
        ("user", _media("image", "image/svg+xml")),
        ("user", _media("document", "application/msword")),
        ("assistant", _media("image", "image/png")),
        ("system", _media("image", "image/png")),
    ],
)
async def test_what_anthropic_cannot_take_is_said_before_any_request(loopback, role, part):
    """Sound, film, strange files, and images where they cannot stand: another model may take them."""
    talk = [{"role": "user", "content": "Look."}, {"role": role, "content": [part]}, {"role": "user", "content": "?"}]
    async with make(loopback) as model:
        with pytest.raises(UnsupportedFeature, match="anthropic"):
            await model(talk)
    assert not loopback.asked


async def test_thinking_goes_back_unchanged_and_only_if_it_is_ours(loopback, wrong_in):
    """Signed and redacted thinking goes back in its place; unsigned and other vendors' thinking is left out."""
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s1", "provider": "anthropic"},
        {"type": "thinking", "thinking": "", "data": "d1", "provider": "anthropic"},
        {"type": "thinking", "thinking": "", "signature": "s2", "provider": "anthropic"},
        {"type": "thinking", "thinking": "unsigned"},
        {"type": "thinking", "thinking": "foreign", "signature": "g", "provider": "gemini"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "a", "name": "time", "input": {}},
    ]
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Think."},
            {"role": "assistant", "content": content},
            {"role": "tool", "tool_call_id": "a", "content": "noon"},
        ],
        more={"thinking": {"type": "enabled", "budget_tokens": 1024}},
    )
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "d1"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "a", "name": "time", "input": {}},
    ]
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert wrong_in(body) == []


async def test_a_reply_can_be_the_next_message(loopback):
    """Thinking, redacted thinking, text and calls of a reply come back exactly as the API gave them."""
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "d1"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "toolu_1", "name": "time", "input": {"zone": "CET"}},
    ]
    loopback.answers(message(*content, stop="tool_use"))
    async with make(loopback) as model:
        reply = await model("Hi", [TIME])
        assert reply.thinking == "hm"
        assert reply.finish_reason == "tool_calls"
        talk = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": reply.content},
            {"role": "tool", "tool_call_id": "toolu_1", "content": "noon"},
        ]
        await model(talk, [TIME])
    assert loopback.asked[-1].json["messages"][1] == {"role": "assistant", "content": content}


async def test_white_space_alone_is_never_sent(loopback):
    """Empty and blank text is left out, and the end of a prefill is stripped."""
    body = await sent(
        loopback,
        [
            {"role": "user", "content": [{"type": "text", "text": " \n"}, {"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": " "},
            {"role": "user", "content": "there"},
            {"role": "assistant", "content": "Once \n"},
        ],
        model_name="claude-3-5-haiku-latest",
    )
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in body["messages"]] == [
        ("user", ["Hi", "there"]),
        ("assistant", ["Once"]),
    ]


@table(
    ("model_name", "thinking"),
    [
        ("claude-3-7-sonnet-latest", {"type": "enabled", "budget_tokens": 1024}),
        ("claude-opus-4-6", None),
        ("claude-sonnet-5", None),
    ],
)
async def test_prefill_is_refused_where_the_model_does(loopback, model_name, thinking):
    """An assistant message at the end cannot be continued while thinking, nor by Claude 4.6 and later."""
    async with make(loopback, model_name, thinking=thinking) as model:
        with pytest.raises(UnsupportedFeature, match="continue an assistant message"):
            await model([{"role": "user", "content": "Go"}, {"role": "assistant", "content": "Once"}])
    assert not loopback.asked


@pytest.mark.parametrize("choice", ["required", "weather"])
async def test_a_tool_cannot_be_forced_while_thinking(loopback, choice):
    """Thinking with a budget excludes forced tools; it is said before any request."""
    async with make(loopback, thinking={"type": "enabled", "budget_tokens": 1024}) as model:
        with pytest.raises(UnsupportedFeature, match="force a tool"):
            await model("Hi", [WEATHER], choice)
    assert not loopback.asked


async def test_a_thinking_budget_needs_room(loopback):
    """A budget that leaves no tokens for the answer is wrong, and both numbers are named."""
    thinking = {"type": "enabled", "budget_tokens": 4096}
    async with make(loopback, thinking=thinking) as model:
        with pytest.raises(InvalidRequest, match=r"4096.*2048"):
            await model("Hi")
    assert not loopback.asked
    assert (await sent(loopback, "Hi", more={"thinking": thinking}, max_tokens=8192))["max_tokens"] == 8192
    beta = {"anthropic-beta": "interleaved-thinking-2025-05-14"}
    for more in ({"client_args": {"default_headers": beta}}, {"generate_kwargs": {"extra_headers": beta}}):
        assert "thinking" in await sent(loopback, "Hi", more={"thinking": thinking, **more})


async def test_parameters_of_the_call_win(loopback):
    """Defaults, generate_kwargs, then the call's own; None takes away; what the SDK does not know is sent too."""
    more = {
        "generate_kwargs": {"temperature": 0.2, "top_k": 3, "stop_sequences": ["x"], "max_tokens": 50},
        "thinking": {"type": "adaptive"},
    }
    body = await sent(loopback, "Hi", more=more, temperature=0.9, top_k=None, thinking=None, extra_body={"odd": 1})
    assert body["temperature"] == 0.9
    assert body["max_tokens"] == 50
    assert body["stop_sequences"] == ["x"]
    assert body["odd"] == 1
    assert not body.keys() & {"top_k", "thinking", "extra_body", "stream"}
    kept = await sent(loopback, "Hi", more=more, thinking={"type": "disabled"})
    assert kept["thinking"] == {"type": "disabled"}


async def test_a_long_answer_needs_no_stream(loopback):
    """The SDK's own refusal of long answers that are not streamed does not apply."""
    assert (await sent(loopback, "Hi", max_tokens=100_000))["max_tokens"] == 100_000


async def test_an_old_model_is_no_warning(loopback):
    """The SDK's warnings about a model's age do not reach the caller, and the real name is sent."""
    body = await sent(loopback, model_name="claude-sonnet-4-5")
    assert body["model"] == "claude-sonnet-4-5"


async def test_the_callers_objects_are_left_alone(loopback):
    """Nothing that is passed in is changed."""
    thinking, kwargs, headers = {"type": "adaptive"}, {"output_config": {"effort": "low"}}, {"x-a": "b"}
    given = {"thinking": thinking, "generate_kwargs": kwargs, "client_args": {"default_headers": headers}}
    before = json.dumps(given)
    await sent(loopback, [{"role": "user", "content": "Hi"}], None, None, Person, more=given, reply=PERSON)
    assert json.dumps(given) == before


# -- structured output -----------------------------------------------------------------------------------------------


class Person(BaseModel):
    """Somebody."""

    name: str = Field(min_length=1)
    age: int
    mood: Literal["good", "bad"] | None = None


class Scores(BaseModel):
    scores: dict[str, int]


class Node(BaseModel):
    value: int
    children: list["Node"] = []


PERSON = message({"type": "text", "text": '{"name": "Ann", "age": 3}'})


async def test_structure_natively(loopback, wrong_in):
    """From Claude 4.5 on the schema itself is sent, closed and without bounds, beside the effort."""
    more = {"generate_kwargs": {"output_config": {"effort": "low"}}}
    body = await sent(loopback, "Who?", None, None, Person, reply=PERSON, more=more)
    assert body["output_config"]["effort"] == "low"
    assert body["output_config"]["format"]["type"] == "json_schema"
    schema = body["output_config"]["format"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "age"]
    assert "minLength" not in schema["properties"]["name"]
    assert "minLength: 1" in schema["properties"]["name"]["description"]
    assert "tools" not in body
    assert wrong_in(body) == []
    loopback.answers(PERSON)
    async with make(loopback) as model:
        reply = await model("Who?", structured_model=Person)
    assert reply.metadata == {"name": "Ann", "age": 3, "mood": None}


@table(
    ("model_name", "wanted"),
    [
        ("claude-3-5-haiku-latest", Person),
        ("claude-haiku-4-5", Scores),
        ("claude-haiku-4-5", Node),
        ("kimi-k2", Person),
    ],
)
async def test_structure_by_a_forced_tool(loopback, wrong_in, model_name, wanted):
    """Older and other models, free keys and recursion: a tool is forced, and its arguments are the answer."""
    inputs = {Person: {"name": "Ann", "age": 3}, Scores: {"scores": {"a": 1}}, Node: {"value": 1}}
    call = {"type": "tool_use", "id": "a", "name": "generate_structured_output", "input": inputs[wanted]}
    reply = message(call, stop="tool_use")
    body = await sent(loopback, "Who?", None, None, wanted, reply=reply, model_name=model_name)
    assert body["tool_choice"] == {"type": "tool", "name": "generate_structured_output"}
    assert body["tools"][0]["input_schema"]["type"] == "object"
    assert set(body["tools"][0]["input_schema"]["properties"]) == set(wanted.model_fields)
    assert wrong_in(body) == []
    loopback.answers(reply)
    async with make(loopback, model_name) as model:
        answer = await model("Who?", structured_model=wanted)
    assert answer.metadata == wanted(**inputs[wanted]).model_dump()


async def test_structure_in_words_where_nothing_can_be_forced(loopback):
    """While an old model thinks, no tool can be forced: the wish is added to the system prompt."""
    more = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    talk = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Who?"}]
    name = "claude-3-7-sonnet-20250219"
    body = await sent(loopback, talk, None, None, Person, reply=PERSON, model_name=name, more=more)
    assert body["system"].startswith("Be kind.\n\nAnswer with one JSON object")
    assert not body.keys() & {"tools", "tool_choice", "output_config"}
    free = message({"type": "text", "text": '{"scores": {"a": 1}}'})
    adaptive = {"thinking": {"type": "adaptive"}}
    body = await sent(loopback, "Which?", None, None, Scores, reply=free, model_name="claude-opus-5", more=adaptive)
    assert not body.keys() & {"tools", "output_config"}
    many = message({"type": "text", "text": "[1, 2]"})
    body = await sent(loopback, "Which?", None, None, RootModel[list[int]], reply=many, model_name="kimi-k2")
    assert "tools" not in body


async def test_too_many_options_are_not_asked_natively(loopback):
    """The API refuses schemas with many optional or union fields: then a tool is forced instead."""
    from pydantic import create_model

    call = {"type": "tool_use", "id": "a", "name": "generate_structured_output", "input": {}}
    for kind, count in ((int, 25), (int | None, 17)):
        wide = create_model("Wide", **{f"field_{number}": (kind, None) for number in range(count)})
        body = await sent(loopback, "?", None, None, wide, reply=message(call, stop="tool_use"))
        assert "output_config" not in body
        assert "tools" in body


class Pet(BaseModel):
    kind: Literal["pet"]
    legs: int = Field(ge=0, le=8)


class Robot(BaseModel):
    kind: Literal["robot"]
    parts: list[str] = Field(min_length=1, max_length=3)


class Household(BaseModel):
    """Who lives there."""

    people: list[Person]
    first: Person = Field(description="The eldest.")
    other: Pet | Robot = Field(discriminator="kind")
    since: datetime
    pets: list[Pet] = Field(min_length=2)
    warm: bool = True


def test_the_native_form_is_the_sdks_own():
    """A schema in the native form is what the SDK's own helper makes of it, but for the words of descriptions."""
    import anthropic

    def without_words(part):
        if isinstance(part, dict):
            return {key: without_words(value) for key, value in part.items() if key != "description"}
        return [without_words(value) for value in part] if isinstance(part, list) else part

    found = native_schema(Household.model_json_schema())
    assert without_words(found) == without_words(anthropic.transform_schema(Household))


async def test_structure_that_does_not_fit_is_a_bad_reply(loopback):
    """An answer that is not of the wanted shape names the field; one that was refused or cut says so instead."""
    async with make(loopback) as model:
        loopback.answers(message({"type": "text", "text": '{"name": "Ann"}'}))
        with pytest.raises(BadReply, match="age"):
            await model("Who?", structured_model=Person)
        loopback.answers(message({"type": "text", "text": '{"name": "A'}, stop="max_tokens"))
        assert (await model("Who?", structured_model=Person)).finish_reason == "length"


# -- answers ---------------------------------------------------------------------------------------------------------


@table(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "refusal"),
        ("something_new", "stop"),
    ],
)
async def test_why_it_stopped(loopback, reason, finish):
    """Every stop reason becomes one of ours, whole and streamed."""
    async with make(loopback) as model:
        loopback.answers(message(stop=reason))
        assert (await model("Hi")).finish_reason == finish
        loopback.streams(*stream(*text_block("Hello."), stop=reason), content_type="text/event-stream")
        assert (await (await model("Hi", stream=True)).final()).finish_reason == finish


async def test_usage_has_totals_that_include_their_parts(loopback):
    """Cached tokens, read and written, are part of the input, and thinking is part of the output.

    What is written for an hour, which is dearer, is part of what is written.
    """
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 18},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    loopback.answers(message(usage=usage), request_id="req_7")
    async with make(loopback) as model:
        reply = await model("Hi")
    found = reply.usage
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (240, 50, 290)
    assert (found.cache_read_tokens, found.cache_write_tokens, found.reasoning_tokens) == (200, 30, 20)
    assert found.cache_write_1h_tokens == 18
    assert found.time > 0
    assert (reply.id, reply.model_name) == ("msg_1", "claude-haiku-4-5-20251001")
    assert reply.attempts[0].request_id == "req_7"


async def test_usage_of_a_stream_is_its_last_word(loopback):
    """Later counts replace earlier ones; those that are missing or null leave them."""
    start = message(stop=None) | {"content": []}
    start["usage"] = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}
    start["usage"] |= {"cache_creation_input_tokens": 8, "cache_creation": {"ephemeral_1h_input_tokens": 6}}
    end = {"input_tokens": None, "cache_creation_input_tokens": 8, "cache_creation": None}
    end |= {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    events = sse(
        {"type": "message_start", "message": start},
        *text_block("Hi"),
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end},
        {"type": "message_stop"},
    )
    loopback.streams(*events, content_type="text/event-stream")
    async with make(loopback, stream=True) as model:
        usage = (await (await model("Hi")).final()).usage
    assert (usage.input_tokens, usage.cache_read_tokens) == (23, 5)
    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens) == (8, 6)
    assert (usage.output_tokens, usage.reasoning_tokens) == (9, 4)


async def test_a_stream_of_everything(loopback):
    """Thinking blocks stay apart with their signatures, server tools are passed over, calls come in pieces."""
    events = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        delta(0, type="thinking_delta", thinking="h"),
        delta(0, type="thinking_delta", thinking="m"),
        delta(0, type="signature_delta", signature="s0"),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "d1"}},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}},
        },
        delta(2, type="input_json_delta", partial_json='{"query": "x"}'),
        {"type": "content_block_start", "index": 3, "content_block": {"type": "web_search_tool_result", "content": []}},
        *text_block("One", " two", index=4),
        delta(4, type="citations_delta", citation={}),
        {"type": "weather_report", "sun": True},
        *text_block(" three", index=5),
        {
            "type": "content_block_start",
            "index": 6,
            "content_block": {"type": "tool_use", "id": "t6", "name": "time", "input": {}},
        },
        delta(6, type="input_json_delta", partial_json=""),
        delta(6, type="input_json_delta", partial_json='{"zone": "C'),
        delta(6, type="input_json_delta", partial_json='ET"}'),
        {"type": "content_block_stop", "index": 6},
        {
            "type": "content_block_start",
            "index": 7,
            "content_block": {"type": "tool_use", "id": "t7", "name": "time", "input": {"zone": "UTC"}},
        },
        {"type": "content_block_stop", "index": 7},
        {
            "type": "content_block_start",
            "index": 8,
            "content_block": {"type": "tool_use", "id": "t8", "name": "time", "input": {}},
        },
        {"type": "content_block_stop", "index": 8},
    ]
    loopback.streams(*stream(*events, stop="tool_use"), content_type="text/event-stream", request_id="req_8")
    async with make(loopback, stream=True) as model:
        snapshots = [snapshot async for snapshot in await model("Hi")]
    last = snapshots[-1]
    assert [snapshot.is_last for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
    assert last.content[:3] == [
        {"type": "thinking", "thinking": "hm", "provider": "anthropic", "signature": "s0"},
        {"type": "thinking", "thinking": "", "provider": "anthropic", "data": "d1"},
        {"type": "text", "text": "One two three"},
    ]
    assert [(call.id, call.name, call.input) for call in last.tool_calls] == [
        ("t6", "time", {"zone": "CET"}),
        ("t7", "time", {"zone": "UTC"}),
        ("t8", "time", {}),
    ]
    assert last.tool_calls[2].raw_input == "{}"
    assert last.finish_reason == "tool_calls"
    assert last.attempts[0].request_id == "req_8"
    assert "".join(snapshot.delta for snapshot in snapshots) == "One two three"
    assert loopback.asked[0].json["stream"] is True


async def test_a_refusal_without_words_is_an_answer(loopback):
    """A refusal may have no content at all: it is an answer with its reason, whole and streamed."""
    async with make(loopback) as model:
        loopback.answers(message(stop="refusal") | {"content": []})
        assert (await model("Hi")).finish_reason == "refusal"
        loopback.streams(*stream(stop="refusal"), content_type="text/event-stream")
        last = await (await model("Hi", stream=True)).final()
    assert (last.finish_reason, last.content) == ("refusal", [])


async def test_a_server_that_does_not_stream_still_answers(loopback):
    """A whole answer where a stream was asked for is taken as one, under whatever name it comes."""
    async with make(loopback, stream=True) as model:
        for content_type in ("application/json", "text/event-stream"):
            loopback.answers(message(), content_type=content_type)
            snapshots = [snapshot async for snapshot in await model("Hi")]
            assert snapshots[-1].text == "Hello."
            assert snapshots[-1].finish_reason == "stop"


async def test_connections_are_used_again(loopback):
    """One connection serves several calls and streams, one after the other."""
    async with make(loopback) as model:
        for _ in range(2):
            loopback.answers(message())
            await model("Hi")
            loopback.streams(*stream(*text_block("Hello.")), content_type="text/event-stream")
            await (await model("Hi", stream=True)).final()
        assert loopback.open == 1
    assert len(loopback.asked) == 4
    await loopback.idle()


# -- keys, addresses and the environment -----------------------------------------------------------------------------

VARIABLES = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_CUSTOM_HEADERS",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def test_the_environment_adds_nothing_to_what_is_given(loopback, monkeypatch):
    """With a key and an address given, no variable changes where a request goes or what it carries."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nobody")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: secret\nAuthorization: Bearer other\nx-api-key: third")
    loopback.answers(message())
    async with make(loopback, client_args={"default_headers": {"x-mine": "yes"}}) as model:
        await model("Hi")
    headers = loopback.asked[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-api-key"] == KEY
    assert headers["x-mine"] == "yes"
    assert "x-gateway" not in headers
    assert loopback.asked[0].target == "/v1/messages"
    assert "environment" not in str(headers)


async def test_the_environments_key_stays_at_home(loopback, monkeypatch):
    """A key from the environment is not sent to another host than Anthropic's; the message says what to do."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-environment")
    async with AnthropicChatModel("claude-haiku-4-5", base_url="https://claude.example.com", stream=False) as model:
        with pytest.raises(NotConfigured, match=r"claude\.example\.com.*api_key"):
            await model("Hi")
    options = AnthropicOptions(model_name="m", base_url="https://claude.example.com")
    assert "claude.example.com" in options.missing({"ANTHROPIC_API_KEY": "sk-ant-environment"})


async def test_a_server_of_ones_own_needs_no_key(loopback, monkeypatch):
    """A server on this machine is asked without a key, whatever the environment has."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer other")
    assert AnthropicOptions(model_name="m", base_url=loopback.url).missing({}) is None
    loopback.answers(message())
    async with AnthropicChatModel("claude-haiku-4-5", base_url=loopback.url, stream=False) as model:
        await model("Hi")
    assert not {"authorization", "x-api-key"} & loopback.asked[0].headers.keys()


async def test_a_given_key_does_not_go_to_the_environments_address(monkeypatch):
    """ANTHROPIC_BASE_URL belongs to the environment's own key: another key goes to Anthropic itself."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert AnthropicChatModel("m", KEY).address() == "https://api.anthropic.com"


@pytest.mark.parametrize(("variable", "carried"), [("ANTHROPIC_API_KEY", True), ("ANTHROPIC_AUTH_TOKEN", False)])
async def test_the_environment_alone_is_heeded_whole(loopback, monkeypatch, variable, carried):
    """With nothing given, the environment's key goes to the environment's address with its headers."""
    monkeypatch.setenv(variable, "from-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{loopback.url}/v1/")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: here")
    loopback.answers(message())
    async with AnthropicChatModel("claude-haiku-4-5", stream=False) as model:
        await model("Hi")
    headers = loopback.asked[0].headers
    assert headers["authorization"] == "Bearer from-environment"
    assert headers["x-gateway"] == "here"
    assert ("x-api-key" in headers) is carried
    assert loopback.asked[0].target == "/v1/messages"


async def test_a_key_in_a_header_keeps_the_environments_away(loopback, monkeypatch):
    """Who gives the key as a header of the client sends that header and no other key."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    loopback.answers(message())
    mine = {"default_headers": {"X-Api-Key": "header-key-12345"}}
    async with AnthropicChatModel("m", stream=False, base_url=loopback.url, client_args=mine) as model:
        await model("Hi")
    assert loopback.asked[0].headers["x-api-key"] == "header-key-12345"
    assert "authorization" not in loopback.asked[0].headers


async def test_a_credential_of_the_sdks_own_kinds(loopback, monkeypatch):
    """`auth_token` and the like in client_args stand for the key; two kinds at once are an error."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    loopback.answers(message())
    mine = {"auth_token": "token-12345", "base_url": loopback.url}
    async with AnthropicChatModel("m", stream=False, client_kwargs=mine) as model:
        await model("Hi")
    assert loopback.asked[0].headers["authorization"] == "Bearer token-12345"
    with pytest.raises(ConfigError, match="auth_token"):
        AnthropicChatModel("m", KEY, client_args={"auth_token": "t"})


async def test_a_token_that_is_renewed_is_asked_for_each_time(loopback):
    """What gives tokens is asked before every request: the last one may have ended since."""
    from anthropic import AccessToken

    numbers = iter(range(9))
    tokens = {"credentials": lambda **_: AccessToken(f"token-{next(numbers)}", expires_at=0)}
    loopback.answers(message())
    async with AnthropicChatModel("m", stream=False, base_url=loopback.url, client_args=tokens) as model:
        await model("Hi")
        await model("Hi")
    assert [asked.headers["authorization"] for asked in loopback.asked] == ["Bearer token-0", "Bearer token-1"]
    assert all("x-api-key" not in asked.headers for asked in loopback.asked)


async def test_the_sdk_traces_no_request_that_it_only_writes(loopback):
    """Its tracing would tell of requests that were never sent; those that are sent are traced by the hub."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    loopback.answers(message())
    async with make(loopback, client_args={"open_telemetry": {"tracer_provider": provider}}) as model:
        await model("Hi")
    assert exporter.get_finished_spans() == ()
    assert len(loopback.asked) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_is_asked_for_stands_in_headers(loopback, streamed):
    """A user's profile and a workspace are parameters of a call and headers of its request; one's own header wins."""
    loopback.answers(message())
    mine = {"anthropic-workspace-id": "mine"}
    async with make(loopback, stream=streamed, generate_kwargs={"workspace_id": "w"}) as model:
        for extra_headers in ({}, mine):
            reply = await model("Hi", user_profile_id="u", extra_headers=extra_headers)
            if streamed:
                await reply.final()
    for asked, workspace in zip(loopback.asked, ("w", "mine"), strict=True):
        assert asked.headers["anthropic-user-profile-id"] == "u"
        assert asked.headers["anthropic-workspace-id"] == workspace
        assert not {"user_profile_id", "workspace_id", "extra_headers"} & asked.json.keys()


@table("empty", [None, "", "  \n"])
async def test_a_missing_key_names_its_variable(monkeypatch, empty):
    """Without a key, or with an empty one, the variable to set is named, and nothing is sent."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    async with AnthropicChatModel("claude-haiku-4-5", empty) as model:
        with pytest.raises(NotConfigured, match="ANTHROPIC_API_KEY"):
            await model("Hi")
    assert "ANTHROPIC_API_KEY" in AnthropicOptions(model_name="m").missing({})
    assert AnthropicOptions(model_name="m").missing({"ANTHROPIC_API_KEY": KEY}) is None


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_key_that_is_echoed_is_not_shown(loopback, streamed):
    """The vendor may repeat the key in its error: neither the text nor the traceback has it."""
    error = {"type": "authentication_error", "message": f"invalid key {KEY}"}
    loopback.answers({"type": "error", "error": error}, status=401, request_id="req_9")
    async with make(loopback, stream=streamed) as model:
        with pytest.raises(AuthenticationFailed) as caught:
            await model("Hi")
        assert KEY not in repr(model)
        assert KEY not in str(vars(model))
    failure = caught.value
    assert KEY not in str(failure) + repr(failure) + "".join(traceback.format_exception(failure))
    assert (failure.status, failure.code, failure.request_id) == (401, "authentication_error", "req_9")


async def test_retries_in_client_args_are_ignored(loopback):
    """Only one request is made, whatever client_args say of retries."""
    loopback.answers({"type": "error", "error": {"type": "api_error", "message": "no"}}, status=500)
    with pytest.warns(UserWarning, match="max_retries"):
        model = make(loopback, client_args={"max_retries": 5})
    async with model:
        with pytest.raises(Exception, match="anthropic said 500: no"):
            await model("Hi")
    assert len(loopback.asked) == 1


async def test_a_http_client_of_ones_own_stays_open(loopback):
    """A client that was handed in is used, and not closed."""
    import httpx2

    async with httpx2.AsyncClient() as mine:
        loopback.answers(message())
        async with make(loopback, client_args={"http_client": mine}) as model:
            await model("Hi")
        assert not mine.is_closed


def test_options_make_the_model():
    """The file's options bear the constructor's names, and the class is found by its kind."""
    options = load_provider_options("anthropic")(
        provider="anthropic",
        model_name="claude-haiku-4-5",
        api_key=KEY,
        max_tokens=100,
        thinking={"type": "adaptive"},
        client_args={"timeout": 5},
    )
    assert isinstance(options, AnthropicOptions)
    assert KEY not in repr(options)
    model = options.connect()
    assert isinstance(model, AnthropicChatModel)
    assert (model.model_name, model.max_tokens, model.stream) == ("claude-haiku-4-5", 100, False)
    assert AnthropicChatModel("m").stream is True
