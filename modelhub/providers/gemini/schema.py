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
    (
        *("$id", "$ref", "$anchor", "type", "format", "title", "description", "default", "enum", "required"),
        *("minItems", "maxItems", "minimum", "maximum", "propertyOrdering"),
    )
)
# They say nothing about values, or, as `discriminator` does, what the alternatives say themselves.
_SILENT = frozenset({"$schema", "$comment", "discriminator", "readOnly", "writeOnly", "deprecated"})
_FORMATS = frozenset({"date-time", "date", "time"})


def gemini_schema(schema: Any) -> Json:
    """*schema* as Gemini reads it; the original is not touched."""
    if not isinstance(schema, Mapping):
        return {} if schema is True else {"description": "not allowed"}
    rewritten: Json = {}
    words: list[str] = []
    for key, value in schema.items():
        if key in _CHANGED:
            name, change = _CHANGED[key]
            changed = change(value)
            rewritten[name] = {**rewritten[name], **changed} if name == "$defs" and name in rewritten else changed
        elif key in _READ:
            rewritten[key] = value
        elif key not in _SILENT and key != "allOf":
            words.append(_in_words(key, value))
    if rewritten.get("type") == "string" and rewritten.get("format", "date") not in _FORMATS:
        words.append(_in_words("format", rewritten.pop("format")))
    words += _merge_all(rewritten, schema.get("allOf") or ())
    if words:
        rewritten["description"] = " ".join([*filter(None, [rewritten.get("description")]), f"({'; '.join(words)})"])
    if "$ref" not in rewritten:
        return rewritten
    ref = {"$ref": str(rewritten.pop("$ref")).replace("#/definitions/", "#/$defs/")}
    beside = rewritten.keys() - {"$defs"}
    return {"anyOf": [ref], **rewritten} if beside and "anyOf" not in rewritten else {**rewritten, **ref}


def _in_words(key: str, value: Any) -> str:
    return f"{key}: {json.dumps(value, ensure_ascii=False, default=str)}"


def _merge_all(rewritten: Json, parts: Iterable[Any]) -> list[str]:
    """Add what all of *parts* ask for to *rewritten*; what would contradict it comes back in words."""
    words = []
    for part in parts:
        more = gemini_schema(part)
        properties, required = more.pop("properties", None), more.pop("required", None)
        if any(rewritten.get(key, value) != value for key, value in more.items() if key != "description"):
            words.append(_in_words("all of", part))
            continue
        if properties:
            rewritten["properties"] = {**rewritten.get("properties", {}), **properties}
        if required:
            rewritten["required"] = [*dict.fromkeys([*rewritten.get("required", ()), *required])]
        rewritten.update({key: value for key, value in more.items() if key not in rewritten})
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
