"""JSON schemas as Gemini reads them."""

import json

from modelhub.providers.gemini.schema import gemini_schema
from tests.tables import table


@table(
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
