"""Schemas of tools as people, older drafts and generators write them: what each vendor is sent is a schema it takes."""

import pytest

from modelhub.core.errors import BadReply, CallError, InvalidRequest
from modelhub.messages.tools import normalise_tools
from tests.providers.wires import models_at
from tests.tables import table


def tool(schema):
    """A tool whose parameters are *schema*."""
    return {"type": "function", "function": {"name": "f", "parameters": schema}}


def prop(schema):
    """An object whose property `a` is *schema*."""
    return {"type": "object", "properties": {"a": schema}}


N = {"type": "object", "properties": {"next": {"$ref": "#/$defs/N"}}}
REPAIRED = {
    "definitions": (
        {**prop({"$ref": "#/definitions/N"}), "definitions": {"N": {"type": "string"}}},
        {**prop({"$ref": "#/$defs/N"}), "$defs": {"N": {"type": "string"}}},
    ),
    "a reference to nowhere": (prop({"$ref": "#/$defs/N"}), prop({"description": "(see #/$defs/N)"})),
    "a remote reference": (prop({"$ref": "http://x/y"}), prop({"description": "(see http://x/y)"})),
    "recursion": (
        {**prop({"$ref": "#/$defs/N"}), "$defs": {"N": N}},
        {**prop({"$ref": "#/$defs/N"}), "$defs": {"N": N}},
    ),
    "recursion to the root": (prop({"$ref": "#"}), prop({"$ref": "#"})),
    "draft 4": (
        {"id": "x", "$schema": "y", **prop({"type": "number", "minimum": 0, "exclusiveMinimum": True})},
        prop({"type": "number", "exclusiveMinimum": 0}),
    ),
    "draft 4's tuples": (
        prop({"type": "array", "items": [{"type": "string"}], "additionalItems": False}),
        prop({"type": "array", "prefixItems": [{"type": "string"}], "items": False}),
    ),
    "draft 3": (prop({"type": "string", "required": True}), {**prop({"type": "string"}), "required": ["a"]}),
    "nullable": (prop({"type": "string", "nullable": True}), prop({"type": ["string", "null"]})),
    "a nullable enum": (
        prop({"type": "string", "enum": ["x"], "nullable": True}),
        prop({"type": ["string", "null"], "enum": ["x", None]}),
    ),
    "not nullable": (prop({"type": "string", "nullable": False}), prop({"type": "string"})),
    "true and false": ({"properties": {"a": True, "b": False}}, {"properties": {"a": {}, "b": {"not": {}}}}),
    "Python's types": (prop({"type": "dict"}), prop({"type": "object"})),
    "Gemini's types": (prop({"type": "STRING"}), prop({"type": "string"})),
    "any type": (prop({"type": "any"}), prop({})),
    "PHP's empty object": ({"type": "object", "properties": []}, {"properties": {}}),
    "nulls": (
        {**prop({"type": None, "description": None, "allOf": None}), "required": None},
        prop({}),
    ),
    "empty lists": (prop({"enum": [], "anyOf": []}), prop({})),
    "required names that are none": ({**prop({}), "required": ["a", ["b"]]}, {**prop({}), "required": ["a"]}),
    "one required name": ({**prop({}), "required": "a"}, {**prop({}), "required": ["a"]}),
    "properties with the names of keywords": (
        {"properties": {"id": {"type": "str"}, "type": {}, "nullable": {}, "required": {}, "enum": {}}},
        {"properties": {"id": {"type": "string"}, "type": {}, "nullable": {}, "required": {}, "enum": {}}},
    ),
    "what is data": (
        prop({"default": None, "const": None, "examples": [{"nullable": True}]}),
        prop({"default": None, "const": None, "examples": [{"nullable": True}]}),
    ),
}


@table("name", REPAIRED)
def test_a_schema_is_said_in_one_draft(name):
    """In the words of the present draft, with nothing lost that has a meaning."""
    schema, wanted = REPAIRED[name]
    (read,) = normalise_tools([tool(schema)])
    assert read.parameters == {"type": "object", **wanted}


AT_THE_ROOT = [
    {"$ref": "#/$defs/N", "$defs": {"N": N}},
    {"$ref": "#/$defs/A", "$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}},
    {"$ref": "#/$defs/R", "$defs": {"R": {"anyOf": [{"$ref": "#/$defs/R"}, N]}, "N": N}},
    {"allOf": [{"$ref": "#/$defs/R"}], "$defs": {"R": {"allOf": [{"$ref": "#/$defs/R"}], "properties": {"a": {}}}}},
]


async def test_no_schema_is_an_unknown_failure(loopback):
    """Every vendor is asked, recursion and all; what it refuses itself is another matter."""
    schemas = [*(schema for schema, _ in REPAIRED.values()), *AT_THE_ROOT]
    loopback.answers({})
    async with models_at(loopback.url) as models:
        for model in models.values():
            for schema in schemas:
                with pytest.raises(CallError) as caught:
                    await model("hi", tools=[tool(schema)], stream=False)
                assert type(caught.value) is BadReply, (model, schema)
    assert len(loopback.asked) == len(models) * len(schemas)


def test_a_schema_that_was_read_before_is_read_alike():
    """Each reader has a copy of his own; what JSON would write alike, but is no JSON, is still refused at its place."""
    find = {"name": "find", "parameters": {"properties": {"1": {"type": "str", "enum": ["a", "b"]}}}}
    first, second = normalise_tools([find])[0], normalise_tools([find])[0]
    assert first == second
    assert first.parameters["properties"]["1"]["type"] == "string"
    first.parameters["properties"]["1"]["enum"].append("c")
    assert normalise_tools([find])[0] == second
    for _ in range(2):
        with pytest.raises(InvalidRequest, match=r"tools\[0\]\.parameters: expected JSON"):
            normalise_tools([{"name": "find", "parameters": {"properties": {1: {"type": "str", "enum": ["a", "b"]}}}}])
