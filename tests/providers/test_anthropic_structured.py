"""Structured answers of Claude: natively, by a forced tool, or in words."""

import json
from datetime import datetime
from typing import Literal

import pytest
from pydantic import BaseModel, Field, RootModel

from modelhub.core.errors import BadReply
from modelhub.providers.anthropic.schema import native_schema
from tests.providers.anthropic_server import make, message, sent
from tests.tables import table


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


async def test_the_callers_objects_are_left_alone(loopback):
    """Nothing that is passed in is changed."""
    thinking, kwargs, headers = {"type": "adaptive"}, {"output_config": {"effort": "low"}}, {"x-a": "b"}
    given = {"thinking": thinking, "generate_kwargs": kwargs, "client_args": {"default_headers": headers}}
    before = json.dumps(given)
    await sent(loopback, [{"role": "user", "content": "Hi"}], None, None, Person, more=given, reply=PERSON)
    assert json.dumps(given) == before
