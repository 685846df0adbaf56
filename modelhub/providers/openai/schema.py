"""Schemas as OpenAI's strict mode wants them: every key required, none besides, no defaults."""

from __future__ import annotations

import re
from typing import Any

from modelhub.providers.openai.servers import Quirks
from modelhub.providers.structured_output import Structured

__all__ = ["is_object", "is_strict", "write_schema"]

Schema = dict[str, Any]

_DROPPED = frozenset(
    {
        *("default", "title", "examples", "example", "discriminator", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "minLength", "maxLength", "minProperties", "maxProperties", "uniqueItems"),
        "contentEncoding",
    }
)
"""What strict mode refuses and an answer can do without: we validate it afterwards anyway."""
_FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"})
_KNOWN = frozenset(
    {
        *("type", "description", "enum", "const", "properties", "required", "additionalProperties", "items"),
        *("anyOf", "oneOf", "allOf", "$ref", "$defs", "format", "pattern", "minimum", "maximum"),
        *("exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minItems", "maxItems"),
    }
)


class _Inexpressible(Exception):
    pass


def _rooted(schema: Schema) -> Schema:
    """Return *schema* with an object at its root: a model that contains itself begins with a reference."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
        return schema
    return {**schema["$defs"][reference.removeprefix("#/$defs/")], "$defs": schema["$defs"]}


def is_object(schema: Schema) -> bool:
    """Whether an answer that fits *schema* is an object, as every JSON mode demands."""
    return _rooted(schema).get("type") == "object"


def is_strict(schema: Any) -> bool:
    """Whether *schema* obeys strict mode as it is: every object closed, all its keys required, no keyword unknown."""
    if isinstance(schema, list):
        return all(map(is_strict, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        closed = schema.get("additionalProperties") is False
        if not closed or {*schema.get("required", ())} != {*schema.get("properties", ())}:
            return False
    return all(is_strict(value) for key, value in schema.items() if key not in ("enum", "const", "default", "examples"))


def _without_open_patterns(value: Any) -> Any:
    """Return the schema *value* without patterns that do not begin and end a text, with which llama.cpp refuses it.

    The answer is validated by them afterwards in any case.
    """
    if isinstance(value, list):
        return [_without_open_patterns(item) for item in value]
    if not isinstance(value, dict):
        return value
    pattern = value.get("pattern")
    is_open = isinstance(pattern, str) and not (pattern.startswith("^") and pattern.endswith("$"))
    return {key: _without_open_patterns(item) for key, item in value.items() if not (is_open and key == "pattern")}


def _strict(schema: Any) -> Schema:
    """Return *schema* for strict mode. Raises _Inexpressible for free-form objects, tuples, whatever goes."""
    if not isinstance(schema, dict) or not schema:
        raise _Inexpressible
    if "$ref" in schema:
        reference, description = {"$ref": schema["$ref"]}, schema.get("description")
        # Nothing may stand beside a reference.
        return {"anyOf": [reference], "description": description} if description else reference
    kept = {key: value for key, value in schema.items() if key not in _DROPPED}
    if not kept.keys() <= _KNOWN or not kept.keys() & {"type", "enum", "const", "anyOf", "oneOf", "allOf"}:
        raise _Inexpressible
    _rewrite_parts(kept)
    if kept.get("type") == "object":
        if kept.get("additionalProperties", False) is not False or "properties" not in kept:
            raise _Inexpressible
        kept |= {"required": list(kept["properties"]), "additionalProperties": False}
    return kept


def _rewrite_parts(schema: Schema) -> None:
    """Put what strict mode takes in the place of the schemas within *schema*, and of its other keywords."""
    for key in schema.keys() & {"properties", "$defs"}:
        schema[key] = {name: _strict(part) for name, part in schema[key].items()}
    if "items" in schema:
        schema["items"] = _strict(schema["items"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            schema["anyOf"] = [_strict(part) for part in schema.pop(key)]
    if "allOf" in schema:
        parts = schema.pop("allOf")
        if len(parts) != 1:
            raise _Inexpressible
        schema |= _strict(parts[0])
    if schema.get("format") not in _FORMATS:
        schema.pop("format", None)
    # Its engine knows groups, but no look-around and no flags.
    if "(?" in str(schema.get("pattern")).replace("(?:", ""):
        del schema["pattern"]


def write_schema(structured: Structured, quirks: Quirks) -> dict[str, Any]:
    """Return the `response_format` that asks for the structure."""
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", structured.name)[:64]
    schema, is_strict_schema = structured.schema, True
    if quirks.schema_form == "strict":
        try:
            schema = _strict(_rooted(schema))
        except _Inexpressible:
            is_strict_schema = False
    else:
        root = _rooted(schema)
        schema = _without_open_patterns(root) if quirks.schema_form == "whole_anchored" else root
    return {"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": is_strict_schema}}
