"""Structured output: what is read out of an answer's text, and what is given back of it."""

import copy
import json
import pickle
from datetime import date

import pytest
from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    SecretStr,
    computed_field,
    field_validator,
)
from pydantic.alias_generators import to_camel

from modelhub.core.errors import BadReply
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.vendor_answers import VENDORS, ask_once, asking
from tests.tables import table


class City(BaseModel):
    name: str
    people: int = 0


class Alias(BaseModel):
    first: str = Field(alias="firstName")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    zip_code: str


class Choices(BaseModel):
    zip_code: str = Field(validation_alias=AliasChoices("zipCode", "zip"))


class Nested(BaseModel):
    inner: list[Choices]


class Computed(BaseModel):
    model_config = ConfigDict(extra="forbid")
    a: int

    @computed_field
    @property
    def double(self) -> int:
        return 2 * self.a


class Hidden(BaseModel):
    password: SecretStr
    note: str = Field(exclude=True)
    remark: str = Field("", exclude=True)


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date


class Cities(RootModel[list[City]]):
    pass


class Picky(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def refuse(cls, value: int) -> int:
        raise KeyError(value)


TEXTS = {
    Alias: '{"firstName": "Ann"}',
    Camel: '{"zipCode": "1"}',
    Choices: '{"zip": "1"}',
    Nested: '{"inner": [{"zipCode": "1"}]}',
    Computed: '{"a": 1}',
    Hidden: '{"password": "pw", "note": "n", "remark": "r"}',
    Strict: '{"day": "2026-01-02"}',
    Cities: '[{"name": "Ulm"}]',
    City: '{"name": "Ulm", "people": "126000"}',
}


def completion(text):
    """An answer of that text."""
    return VENDORS["openai"].whole(text)


async def test_metadata_is_what_the_class_reads_again(loopback):
    """Aliases, computed, excluded, secret and strict fields included; `output` is the object itself."""
    async with asking(loopback, VENDORS["openai"]) as ask:
        for cls, text in TEXTS.items():
            reply = await ask(completion(text), False, structured_model=cls)
            expected = cls.model_validate_json(text)
            assert cls.model_validate(reply.metadata) == reply.output == expected, cls
            assert type(reply.output) is cls


async def test_metadata_has_the_defaults(loopback):
    """What the model left out is there, and types are the class's."""
    reply = await ask_once(loopback, VENDORS["openai"], completion('{"name": "Ulm"}'), False, structured_model=City)
    assert reply.metadata == {"name": "Ulm", "people": 0}


async def test_the_output_goes_with_the_reply(loopback):
    """Into copies, but not into its JSON, which has the metadata."""
    reply = await ask_once(loopback, VENDORS["openai"], completion('{"name": "Ulm"}'), False, structured_model=City)
    for other in (reply.copy(), copy.copy(reply), copy.deepcopy(reply)):
        assert (other.output, other.metadata) == (City(name="Ulm"), reply.metadata)
    assert "output" not in json.loads(json.dumps(reply))
    plain = await ask_once(loopback, VENDORS["openai"], completion("hi"), False)
    assert plain.output is None
    assert pickle.loads(pickle.dumps(plain)).output is None


async def test_snapshots_have_no_output_but_the_last(loopback):
    """Before the end there is nothing that was validated."""
    vendor = VENDORS["openai"]
    loopback.streams(*vendor.stream(['{"name": ', '"Ulm"}']), content_type="text/event-stream")
    async with OpenAIChatModel("m", "k", base_url=f"{loopback.url}/v1") as model:
        outputs = [snapshot.output async for snapshot in await model("hi", structured_model=City)]
    assert outputs[:-1] == [None] * (len(outputs) - 1)
    assert outputs[-1] == City(name="Ulm")


J = '{"name": "Ulm", "people": 126000}'
AROUND = [
    J,
    f"```json\n{J}\n```",
    f"```JSON\n{J}\n```",
    f"```{J}```",
    f"<think>\nThe user wants {{JSON}}, such as {{}}.\n</think>\n\n{J}",
    f"hm, {{}}\n</think>\n{J}",
    f"<THINK>hm</THINK>```json\n{J}\n```",
    f"Here is the JSON [1]:\n\n```json\n{J}\n```\n\nLet me know if you need more {{of it}}.",
    f"A draft: {json.dumps({'name': 'X'})} And the answer: {J}",
    f"{J}}}",
    json.dumps(J),
    '{"name": "Ulm",\n "people": 126000, "raw": "a\nb"}',
]


@table("vendor", VENDORS.values(), ids=list(VENDORS))
@table("stream", [False, True], ids=["plain", "streamed"])
async def test_json_is_found_in_what_is_around_it(loopback, vendor, stream):
    """Thoughts, sentences, fences in any case, a bracket too many: the last that fits is the answer."""
    async with asking(loopback, vendor) as ask:
        for text in AROUND:
            body = vendor.stream([text]) if stream else vendor.whole(text)
            reply = await ask(body, stream, structured_model=City)
            assert reply.output == City(name="Ulm", people=126000), text


@table(
    "text",
    [
        "",
        "no JSON at all",
        '{"name": 7}',
        '{"city": {"name": "Ulm"}',
        "{'name': 'Ulm'}",
        '{"name": "Ulm", "people": NaN}',
        "[" * 3000,
        '{"a":' * 3000,
    ],
    ids=["nothing", "no JSON", "misfit", "cut off", "no quotes", "NaN", "brackets", "deep"],
)
async def test_what_does_not_fit_is_the_callers_matter(loopback, text):
    """A bad reply that no breaker counts: another caller's class may fit. A broken object's parts are no answer."""
    with pytest.raises(BadReply, match="does not fit City") as caught:
        await ask_once(loopback, VENDORS["openai"], completion(text), False, structured_model=City)
    assert caught.value.request_specific


REFERENCES = {
    "an anchor": {"properties": {"at": {"$ref": "#place"}}, "$defs": {"Place": {"$anchor": "place", "type": "string"}}},
    "a branch": {"properties": {"at": {"$ref": "#/anyOf/0"}}, "anyOf": [{"type": ["string", "object"]}]},
}


async def test_a_reference_is_followed_to_its_place(loopback):
    """To an anchor and into a list as well as to a definition."""
    async with asking(loopback, VENDORS["openai"]) as ask:
        for title, schema in REFERENCES.items():
            reply = await ask(completion('{"at": "Ulm"}'), False, structured_model={"type": "object", **schema})
            assert reply.metadata == {"at": "Ulm"}, title
            with pytest.raises(BadReply, match=r"at: does not fit type"):
                await ask(completion('{"at": 3}'), False, structured_model={"type": "object", **schema})


async def test_a_pattern_in_another_dialect_refuses_no_answer(loopback):
    """Which properties it is about is not known here."""
    schema = {"type": "object", "patternProperties": {r"^\p{L}+$": {"type": "string"}}, "additionalProperties": False}
    reply = await ask_once(loopback, VENDORS["openai"], completion('{"a": 1}'), False, structured_model=schema)
    assert reply.metadata == {"a": 1}


async def test_a_validator_may_raise_anything(loopback):
    """It is the class that refuses the answer, whatever it raises."""
    with pytest.raises(BadReply, match="does not fit Picky: KeyError") as caught:
        await ask_once(loopback, VENDORS["openai"], completion('{"a": 1}'), False, structured_model=Picky)
    assert caught.value.request_specific


async def test_a_forced_tool_may_be_called_twice_or_not(loopback):
    """The first call of it counts; a model that wrote the JSON instead is understood."""
    vendor = VENDORS["anthropic"]
    name = "generate_structured_output"
    twice = vendor.whole(calls=[("a", name, J), ("b", name, J)], finish="tool_calls")
    for body in (twice, vendor.whole(J)):
        reply = await ask_once(loopback, vendor, body, False, structured_model=City)
        assert reply.output == City(name="Ulm", people=126000)
