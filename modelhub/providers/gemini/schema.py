"""JSON schemas as Gemini reads them, with nothing lost.

Gemini's `parametersJsonSchema` and `responseJsonSchema` take whole schemas but read only some keywords, and a `$ref`
must stand alone. What is not read is said by a keyword that is, or in words, in the description.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["gemini_schema"]

Json = dict[str, Any]

_READ = frozenset(
    {
        "$id",
        "$ref",
        "$anchor",
        "type",
        "format",
        "title",
        "description",
        "default",
        "enum",
        "required",
        "minItems",
        "maxItems",
        "minimum",
        "maximum",
        "propertyOrdering",
    }
)
# They say nothing about values, or, as `discriminator` does, what the alternatives say themselves.
_SILENT = frozenset({"$schema", "$comment", "discriminator", "readOnly", "writeOnly", "deprecated"})
_FORMATS = frozenset({"date-time", "date", "time"})


def gemini_schema(schema: Any) -> Json:
    """*schema* as Gemini reads it; the original is not touched."""
    if not isinstance(schema, Mapping):
        return {} if schema is True else {"description": "not allowed"}
    found: Json = {}
    words: list[str] = []
    for key, value in schema.items():
        if key in _CHANGED:
            name, change = _CHANGED[key]
            changed = change(value)
            found[name] = {**found[name], **changed} if name == "$defs" and name in found else changed
        elif key in _READ:
            found[key] = value
        elif key not in _SILENT and key != "allOf":
            words.append(_in_words(key, value))
    if found.get("type") == "string" and found.get("format", "date") not in _FORMATS:
        words.append(_in_words("format", found.pop("format")))
    words += _merge_all(found, schema.get("allOf") or ())
    if words:
        found["description"] = " ".join([*filter(None, [found.get("description")]), f"({'; '.join(words)})"])
    return _ref_alone(found)


def _in_words(key: str, value: Any) -> str:
    return f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}"


def _merge_all(found: Json, parts: Iterable[Any]) -> list[str]:
    """Add what all of *parts* ask for to *found*; what would contradict it comes back in words."""
    words = []
    for part in parts:
        more = gemini_schema(part)
        properties, required = more.pop("properties", None), more.pop("required", None)
        if any(found.get(key, value) != value for key, value in more.items() if key != "description"):
            words.append(_in_words("all of", part))
            continue
        if properties:
            found["properties"] = {**found.get("properties", {}), **properties}
        if required:
            found["required"] = [*dict.fromkeys([*found.get("required", ()), *required])]
        found.update({key: value for key, value in more.items() if key not in found})
    return words


def _each(parts: Any) -> list[Json]:
    return [gemini_schema(part) for part in parts]


def _named(parts: Any) -> Json:
    return {name: gemini_schema(part) for name, part in parts.items()}


_CHANGED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "items": ("items", gemini_schema),
    "anyOf": ("anyOf", _each),
    "oneOf": ("oneOf", _each),
    "prefixItems": ("prefixItems", _each),
    "properties": ("properties", _named),
    "$defs": ("$defs", _named),
    "definitions": ("$defs", _named),
    "additionalProperties": (
        "additionalProperties",
        lambda value: value if isinstance(value, bool) else gemini_schema(value),
    ),
    "const": ("enum", lambda value: [value]),
}
"""Keywords that are written otherwise: by which name, and how their value is."""


def _ref_alone(found: Json) -> Json:
    if "$ref" not in found:
        return found
    ref = {"$ref": str(found.pop("$ref")).replace("#/definitions/", "#/$defs/")}
    beside = found.keys() - {"$defs"}
    return {"anyOf": [ref], **found} if beside and "anyOf" not in found else {**found, **ref}
