"""What is really sent: the bodies and headers that the SDK writes, by server."""

import base64
import importlib.util
import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, RootModel

from modelhub.core.errors import BadReply, InvalidRequest, UnsupportedFeature
from modelhub.providers.openai import OpenAIChatModel
from tests.tables import table

SPEC = Path(__file__).parents[3] / "shared" / "tools" / "sdk_spec.py"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
OTHER = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rom"}}
CALL_2 = {"type": "tool_use", "id": "call_2", "name": "weather", "input": {"city": "Oslo"}}
PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
USER = {"role": "user", "content": "hi"}


class Person(BaseModel):
    """Somebody."""

    name: str = Field(min_length=1)
    age: int | None = None
    kind: Literal["cat", "dog"] = "cat"


class Node(BaseModel):
    """A tree."""

    value: int
    children: list["Node"] = []


class Cat(BaseModel):
    """One of two."""

    kind: Literal["cat"]
    lives: int = Field(9, ge=1, description="How many are left.")


class Dog(BaseModel):
    """The other."""

    kind: Literal["dog"]
    seen: datetime
    code: str = Field(pattern=r"^(?:a|b)$", json_schema_extra={"contentEncoding": "base64"})


class Owner(BaseModel):
    """Everything strict mode can say."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    other: Cat = Field(description="The other one.")
    all: list[Dog] = Field(default_factory=list, max_length=3)


class Free(BaseModel):
    """Anything under any name."""

    values: dict[str, int]


class Many(RootModel[list[int]]):
    """No object."""


def answer(content="ok", finish="stop", **message):
    """A whole completion."""
    choices = [{"index": 0, "message": {"role": "assistant", "content": content, **message}, "finish_reason": finish}]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "c1", "model": "m1", "choices": choices, "usage": usage}


@pytest.fixture
def sent(loopback, monkeypatch):
    """Ask, and get the body that was sent; keywords are the call's, but `made` for the model."""
    loopback.answers(answer())

    async def send(messages="hi", *args, made=None, **kwargs):
        made = {"api_key": "key-of-test", "base_url": f"{loopback.url}/v1", "stream": False, **(made or {})}
        async with OpenAIChatModel("m", **made) as model:
            await model(messages, *args, **kwargs)
        return loopback.asked[-1].json

    return send


async def test_a_plain_call(loopback, sent):
    """A string is one user message; nothing is sent that was not asked for."""
    assert await sent() == {"model": "m", "messages": [USER], "stream": False}
    asked = loopback.asked[0]
    assert (asked.method, asked.target) == ("POST", "/v1/chat/completions")
    assert asked.headers["authorization"] == "Bearer key-of-test"


async def test_a_stream_asks_for_its_usage(loopback, sent):
    """`stream_options` ask for usage, and what the caller says of them is kept."""
    loopback.streams('data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n')
    with pytest.warns(ResourceWarning):
        body = await sent(stream=True, stream_options={"include_obfuscation": False})
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True, "include_obfuscation": False}


@pytest.mark.parametrize("compat", ["mistral"])
async def test_a_server_that_knows_no_stream_options(loopback, sent, compat):
    """Servers that refuse `stream_options` are not sent any."""
    loopback.streams('data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\n')
    with pytest.warns(ResourceWarning):
        assert "stream_options" not in await sent(stream=True, made={"compat": compat})


async def test_parameters_of_call_class_and_environment(sent):
    """What a call says goes before generate_kwargs, and these before the constructor's own switches."""
    made = {"reasoning_effort": "low", "generate_kwargs": {"temperature": 0.1, "top_p": 0.5, "seed": 7}}
    body = await sent(made=made, temperature=0.9, top_p=None)
    assert (body["temperature"], body["seed"], body["reasoning_effort"]) == (0.9, 7, "low")
    assert "top_p" not in body
    made = {"reasoning_effort": "low", "generate_kwargs": {"reasoning_effort": "high"}}
    assert (await sent(made=made))["reasoning_effort"] == "high"


async def test_parameters_that_the_sdk_does_not_know(sent):
    """They go into the body all the same, beside `extra_body`."""
    body = await sent(top_k=5, extra_body={"min_p": 0.1}, extra_headers={"x-mine": "1"})
    assert (body["top_k"], body["min_p"]) == (5, 0.1)
    assert "extra_body" not in body


@table(
    ("compat", "given", "name"),
    [
        ("openai", "max_tokens", "max_completion_tokens"),
        ("deepseek", "max_completion_tokens", "max_tokens"),
        ("generic", "max_tokens", "max_tokens"),
        ("generic", "max_completion_tokens", "max_completion_tokens"),
    ],
)
async def test_the_limit_of_tokens_has_the_name_the_server_knows(sent, compat, given, name):
    """Both names are understood, and sent as the one the server knows."""
    body = await sent(made={"compat": compat}, **{given: 9})
    assert {key: value for key, value in body.items() if "max" in key} == {name: 9}


@table(
    ("compat", "effort", "sent_as"),
    [
        ("openai", "none", {"reasoning_effort": "none"}),
        ("dashscope", "none", {"enable_thinking": False}),
        ("dashscope", "low", {"enable_thinking": True, "thinking_budget": 2048}),
        ("dashscope", "max", {"enable_thinking": True}),
        ("vllm", "none", {"chat_template_kwargs": {"enable_thinking": False}}),
        ("deepseek", "none", {"thinking": {"type": "disabled"}}),
        ("deepseek", "high", {"thinking": {"type": "enabled"}, "reasoning_effort": "high"}),
        ("zai", "high", {"thinking": {"type": "enabled"}}),
        ("openrouter", "low", {"reasoning": {"effort": "low"}}),
    ],
)
async def test_thinking_is_switched_as_each_server_wants_it(sent, compat, effort, sent_as):
    """`reasoning_effort` is one parameter here and many there."""
    body = await sent(made={"compat": compat, "reasoning_effort": effort})
    assert {key: value for key, value in body.items() if key not in ("model", "messages", "stream")} == sent_as


async def test_system_messages_stay_where_they_are(sent):
    """Also several, also in the middle; `developer` is sent as `system`, which every server knows."""
    messages = [{"role": "developer", "content": "a"}, USER, {"role": "system", "content": "b"}, USER]
    body = await sent(messages)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "system", "user"]


async def test_names_are_written_as_the_vendor_allows(sent):
    """Characters that OpenAI refuses in a name are replaced."""
    body = await sent([{"role": "user", "name": "bob <b> smith", "content": "x"}])
    assert body["messages"][0]["name"] == "bob__b__smith"
    body = await sent([{"role": "user", "name": "bob", "content": "x"}], made={"compat": "mistral"})
    assert "name" not in body["messages"][0]


@table(
    ("choice", "written"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        ("required", "required"),
        ("weather", {"type": "function", "function": {"name": "weather"}}),
        (None, None),
    ],
)
async def test_tools_and_their_choice(sent, choice, written):
    """Tools go as they are, every choice in the vendor's words."""
    body = await sent("hi", [TOOL, OTHER], choice)
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather", "time"]
    assert body["tools"][0] == TOOL
    assert body.get("tool_choice") == written


@table(
    ("compat", "choice", "tools", "written"),
    [
        ("llamacpp", "time", ["time"], "required"),
        ("lmstudio", "weather", ["weather"], "required"),
        ("ollama", "none", None, None),
        ("dashscope", "weather", ["weather", "time"], {"type": "function", "function": {"name": "weather"}}),
    ],
)
async def test_choices_a_server_lacks_are_emulated(sent, compat, choice, tools, written):
    """A named tool is the only one offered, and none are no tools, where the server obeys nothing finer."""
    body = await sent("hi", [TOOL, OTHER], choice, made={"compat": compat})
    names = [tool["function"]["name"] for tool in body["tools"]] if "tools" in body else None
    assert (names, body.get("tool_choice")) == (tools, written)


@table(("compat", "choice"), [("ollama", "required"), ("dashscope", "any"), ("moonshot", "weather")])
async def test_choices_that_cannot_be_had_are_refused(loopback, sent, compat, choice):
    """What can be neither asked for nor emulated is refused before anything is sent."""
    with pytest.raises(UnsupportedFeature, match="tool_choice"):
        await sent("hi", [TOOL, OTHER], choice, made={"compat": compat})
    assert loopback.asked == []


async def test_one_tool_can_be_forced_where_only_names_are_known(sent):
    """With a single tool, `required` and its name are the same."""
    body = await sent("hi", [TOOL], "required", made={"compat": "dashscope"})
    assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}


async def test_a_round_of_tools(sent):
    """Calls in parallel, their results in order, and no key that the vendor does not know."""
    results = [
        {"type": "tool_result", "id": one["id"], "output": out} for one, out in ((CALL, "hot"), (CALL_2, "cold"))
    ]
    body = await sent([USER, {"role": "assistant", "content": [CALL, CALL_2]}, {"role": "user", "content": results}])
    function = {"name": "weather", "arguments": '{"city": "Rom"}'}
    assert body["messages"][1]["content"] is None
    assert body["messages"][1]["tool_calls"][0] == {"id": "call_1", "type": "function", "function": function}
    assert body["messages"][2:] == [
        {"role": "tool", "tool_call_id": "call_1", "content": "hot"},
        {"role": "tool", "tool_call_id": "call_2", "content": "cold"},
    ]


async def test_a_reply_goes_back_as_it_is(loopback, sent):
    """A reply's content is the next assistant message; arguments that were cut off go back wrapped in an object."""
    calls = [{"id": "a", "type": "function", "function": {"name": "weather", "arguments": '{"city"'}}]
    loopback.answers(answer("Let me see.", "length", tool_calls=calls))
    async with OpenAIChatModel("m", "k", False, base_url=f"{loopback.url}/v1") as model:
        reply = await model("hi", [TOOL])
    assert reply.tool_calls[0]["error"]
    body = await sent([USER, reply, {"role": "tool", "tool_call_id": "a", "content": "wrong"}])
    assert body["messages"][1]["content"] == "Let me see."
    calls[0]["function"]["arguments"] = '{"INVALID_JSON": "{\\"city\\""}'
    assert body["messages"][1]["tool_calls"] == calls


async def test_pictures_in_results_follow_all_results(sent):
    """Only a user may show pictures: those of a turn's results come behind the last of them."""
    results = [
        {"type": "tool_result", "id": "call_1", "output": [{"type": "text", "text": "see"}, PNG]},
        {"type": "tool_result", "id": "call_2", "output": "cold", "is_error": True},
    ]
    body = await sent(
        [
            USER,
            {"role": "assistant", "content": [CALL, CALL_2]},
            *({"role": "user", "content": [one]} for one in results),
            USER,
        ]
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "tool", "user"]
    assert body["messages"][2]["content"].startswith("see\n(image")
    assert body["messages"][3]["content"] == "Error: cold"
    shown = body["messages"][4]["content"]
    assert [part["type"] for part in shown] == ["text", "image_url", "text"]
    assert "weather (call_1)" in shown[0]["text"]


async def test_pictures_of_results_stand_alone_at_the_end(sent):
    """Where nothing follows, a message of the user is made for them."""
    messages = [USER, {"role": "assistant", "content": [CALL]}]
    messages.append({"role": "user", "content": [{"type": "tool_result", "id": "call_1", "output": [PNG]}]})
    body = await sent(messages)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "tool", "user"]


async def test_media(sent, tmp_path):
    """Images by address, data and file, audio, and documents, each in its own form."""
    picture = tmp_path / "cat.png"
    picture.write_bytes(b"ABC")
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/cat.png"}, "detail": "low"},
        PNG,
        {"type": "image", "source": {"type": "path", "path": str(picture)}},
        {"type": "audio", "source": {"type": "base64", "media_type": "audio/mpeg", "data": "QUJD"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "QUJD"},
            "name": "a.pdf",
        },
    ]
    body = await sent([{"role": "user", "content": parts}])
    data = f"data:image/png;base64,{base64.b64encode(b'ABC').decode()}"
    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "https://x.example/cat.png", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "image_url", "image_url": {"url": data}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
    ]


VIDEO = {"type": "video", "source": {"type": "url", "url": "https://x.example/cat.mp4"}}


@table(
    ("block", "compat"),
    [
        (VIDEO, "openai"),
        ({"type": "audio", "source": {"type": "url", "url": "https://x.example/a.mp3"}}, "openai"),
        ({"type": "audio", "source": {"type": "base64", "media_type": "audio/ogg", "data": "QUJD"}}, "openai"),
        ({"type": "document", "source": {"type": "url", "url": "https://x.example/a.pdf"}}, "openai"),
        (PNG, "deepseek"),
    ],
)
async def test_media_that_cannot_be_taken(loopback, sent, block, compat):
    """What the server cannot take is refused before anything is sent."""
    with pytest.raises(UnsupportedFeature):
        await sent([{"role": "user", "content": [block]}], made={"compat": compat})
    assert loopback.asked == []


async def test_media_of_an_assistant_are_refused(sent):
    """A picture in an assistant's message is refused, not left out."""
    with pytest.raises(UnsupportedFeature, match="assistant"):
        await sent([USER, {"role": "assistant", "content": [{"type": "text", "text": "x"}, PNG]}, USER])


async def test_a_missing_file_is_the_callers_error(loopback, sent, tmp_path):
    """A file that cannot be read is an invalid request."""
    block = {"type": "image", "source": tmp_path / "none.png"}
    with pytest.raises(InvalidRequest, match=r"none\.png"):
        await sent([{"role": "user", "content": [block]}])
    assert loopback.asked == []


async def test_qwen_takes_video_and_its_own_audio(sent):
    """DashScope's compatible mode takes films, and audio as a data URL."""
    audio = {"type": "audio", "source": {"type": "base64", "media_type": "audio/wav", "data": "QUJD"}}
    content = (await sent([{"role": "user", "content": [VIDEO, audio]}], made={"compat": "dashscope"}))["messages"][0][
        "content"
    ]
    assert content[0] == {"type": "video_url", "video_url": {"url": "https://x.example/cat.mp4"}}
    assert content[1]["input_audio"]["data"] == "data:;base64,QUJD"


async def test_content_is_text_where_nothing_else_is_known(sent):
    """Parts are joined for servers whose content is a string."""
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = await sent([{"role": "user", "content": parts}], made={"compat": "deepseek"})
    assert body["messages"][0]["content"] == "a\n\nb"
    assert (await sent([{"role": "user", "content": parts}]))["messages"][0]["content"] == parts


THOUGHT = {"type": "thinking", "thinking": "hm", "provider": "openai"}
FOREIGN = {"type": "thinking", "thinking": "secret", "signature": "sig", "provider": "anthropic"}


@table(
    ("compat", "blocks", "key", "expected"),
    [
        ("openai", [THOUGHT], "reasoning_content", None),
        ("deepseek", [THOUGHT], "reasoning_content", "hm"),
        ("deepseek", [FOREIGN], "reasoning_content", "(no reasoning is known)"),
        (
            "openrouter",
            [{**THOUGHT, "data": '[{"type": "reasoning.text"}]'}],
            "reasoning_details",
            [{"type": "reasoning.text"}],
        ),
        ("openrouter", [FOREIGN], "reasoning_details", None),
    ],
)
async def test_thinking_goes_back_only_where_it_must(sent, compat, blocks, key, expected):
    """With a call, to the servers that demand it, and never what another vendor signed."""
    messages = [
        USER,
        {"role": "assistant", "content": [*blocks, CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "x"},
    ]
    message = (await sent(messages, made={"compat": compat}))["messages"][1]
    assert message.get(key) == expected
    assert "secret" not in json.dumps(message)


async def test_thinking_alone_is_no_message(sent):
    """An assistant's message of nothing but thinking is left out."""
    body = await sent([USER, {"role": "assistant", "content": [FOREIGN]}, USER])
    assert body["messages"] == [USER, USER]


async def test_ids_are_such_as_the_server_takes(sent):
    """Ids of other vendors are shortened, the same for call and result; Mistral wants nine characters."""
    for compat, length in (("openai", 37), ("mistral", 9)):
        call = {**CALL, "id": "x" * 99}
        messages = [
            USER,
            {"role": "assistant", "content": [call]},
            {"role": "tool", "tool_call_id": call["id"], "content": "x"},
        ]
        body = await sent(messages, made={"compat": compat})
        made = body["messages"][1]["tool_calls"][0]["id"]
        assert len(made) == length
        assert body["messages"][2]["tool_call_id"] == made


async def test_a_signature_of_gemini_goes_back_with_its_call(loopback, sent):
    """Gemini's compatible endpoint refuses calls whose thought signature is missing."""
    call = {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    call["extra_content"] = {"google": {"thought_signature": "c2ln"}}
    loopback.answers(answer(None, tool_calls=[call]))
    async with OpenAIChatModel("m", "k", False, base_url=f"{loopback.url}/v1") as model:
        reply = await model("hi", [TOOL])
    body = await sent([USER, reply, {"role": "tool", "tool_call_id": "a", "content": "x"}])
    assert body["messages"][1]["tool_calls"] == [call]


# Structured output


async def structured(loopback, sent, model, reply, **made):
    """The reply's metadata and the body that was sent."""
    loopback.answers(reply)
    made = {"api_key": "key-of-test", "base_url": f"{loopback.url}/v1", "stream": False, **made}
    async with OpenAIChatModel("m", **made) as chat:
        reply = await chat("who?", structured_model=model)
    return reply.metadata, loopback.asked[-1].json


async def test_structure_is_asked_for_strictly(loopback, sent):
    """The schema is rewritten to what strict mode takes, and the answer is validated."""
    metadata, body = await structured(loopback, sent, Person, answer('{"name": "Bo", "age": 3, "kind": "dog"}'))
    assert metadata == {"name": "Bo", "age": 3, "kind": "dog"}
    written = body["response_format"]["json_schema"]
    assert (body["response_format"]["type"], written["name"], written["strict"]) == ("json_schema", "Person", True)
    schema = written["schema"]
    assert (schema["required"], schema["additionalProperties"]) == (["name", "age", "kind"], False)
    assert schema["properties"]["name"] == {"type": "string"}
    assert schema["properties"]["age"] == {"anyOf": [{"type": "integer"}, {"type": "null"}]}
    assert schema["properties"]["kind"] == {"type": "string", "enum": ["cat", "dog"]}


async def test_a_model_that_contains_itself(loopback, sent):
    """References stay, and the root is an object."""
    metadata, body = await structured(loopback, sent, Node, answer('{"value": 1, "children": []}'))
    schema = body["response_format"]["json_schema"]["schema"]
    assert metadata == {"value": 1, "children": []}
    assert (schema["type"], schema["required"]) == ("object", ["value", "children"])
    assert schema["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}


async def test_unions_references_and_bounds_survive(loopback, sent):
    """What strict mode knows of a schema is kept, in the form it wants."""
    pet = {"kind": "cat", "lives": 7}
    _, body = await structured(loopback, sent, Owner, answer(json.dumps({"pet": pet, "other": pet, "all": []})))
    written = body["response_format"]["json_schema"]
    fields, parts = written["schema"]["properties"], written["schema"]["$defs"]
    assert written["strict"] is True
    assert fields["pet"] == {"anyOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}
    assert fields["other"] == {"anyOf": [{"$ref": "#/$defs/Cat"}], "description": "The other one."}
    assert fields["all"] == {"type": "array", "items": {"$ref": "#/$defs/Dog"}, "maxItems": 3}
    lives = {"type": "integer", "minimum": 1, "description": "How many are left."}
    assert (parts["Cat"]["properties"]["lives"], parts["Cat"]["required"]) == (lives, ["kind", "lives"])
    assert parts["Dog"]["properties"]["seen"] == {"type": "string", "format": "date-time"}
    assert parts["Dog"]["properties"]["code"] == {"type": "string", "pattern": "^(?:a|b)$"}


async def test_what_strict_mode_cannot_say_is_asked_for_loosely(loopback, sent):
    """Free names make the schema loose; we validate all the same."""
    _, body = await structured(loopback, sent, Free, answer('{"values": {"a": 1}}'))
    written = body["response_format"]["json_schema"]
    assert written["strict"] is False
    assert written["schema"]["properties"]["values"]["additionalProperties"] == {"type": "integer"}
    with pytest.raises(BadReply, match=r"values\.a"):
        await structured(loopback, sent, Free, answer('{"values": {"a": "x"}}'))


async def test_what_is_no_object_is_asked_for_in_words(loopback, sent):
    """A list cannot be had in JSON mode: the wish stands in the message."""
    metadata, body = await structured(loopback, sent, Many, answer("```json\n[1, 2]\n```"))
    assert metadata == [1, 2]
    assert "response_format" not in body
    assert "JSON Schema" in body["messages"][0]["content"]


async def test_a_server_with_plain_json_mode(loopback, sent):
    """DeepSeek knows no schemas: JSON mode, and the schema in words behind the question."""
    reply = answer('{"name": "Bo"}')
    metadata, body = await structured(loopback, sent, Person, reply, compat="deepseek")
    assert metadata == {"name": "Bo", "age": None, "kind": "cat"}
    assert body["response_format"] == {"type": "json_object"}
    assert len(body["messages"]) == 1
    assert body["messages"][0]["content"].startswith("who?\n\n")


async def test_structure_by_a_tool(loopback, sent):
    """Where `quirks` say so, a tool is forced, and its arguments are the answer."""
    call = {"id": "a", "function": {"name": "generate_structured_output", "arguments": '{"name": "Bo"}'}}
    reply = answer(None, tool_calls=[call])
    metadata, body = await structured(loopback, sent, Person, reply, quirks={"structured": "tool"})
    assert metadata["name"] == "Bo"
    assert body["tool_choice"]["function"]["name"] == body["tools"][0]["function"]["name"]


async def test_a_refusal_is_no_bad_structure(loopback, sent):
    """A refused answer has no metadata, but says so."""
    loopback.answers(answer(None, refusal="I won't."))
    async with OpenAIChatModel("m", "k", False, base_url=f"{loopback.url}/v1") as model:
        reply = await model("who?", structured_model=Person)
    assert (reply.text, reply.finish_reason, reply.metadata) == ("I won't.", "refusal", None)


# The vendor's own types as the spec


async def test_bodies_are_what_the_sdk_types_say(loopback, sent):
    """No field that OpenAI does not know, none of the wrong type."""
    if not SPEC.exists():
        pytest.skip(f"the checker is not there: {SPEC}")
    spec = importlib.util.spec_from_file_location("sdk_spec", SPEC)
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)
    results = {"role": "user", "content": [{"type": "tool_result", "id": "call_1", "output": [PNG]}]}
    talk = [{"role": "system", "content": "s"}, USER, {"role": "assistant", "content": [THOUGHT, CALL]}, results]
    for messages, *arguments in ((talk, [TOOL, OTHER], "weather"), ("hi", [TOOL], "any"), ("hi", None, None, Node)):
        with suppress(BadReply):  # the scripted answer is no tree
            await sent(messages, *arguments, max_tokens=5, made={"compat": "openai"})
        assert checker.check("openai.chat", loopback.asked[-1].json) == []
    assert len(loopback.asked) == 3
