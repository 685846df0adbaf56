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
            _CHANGED[key](found, value)
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


def _one(key: str) -> Callable[[Json, Any], None]:
    def write(found: Json, value: Any) -> None:
        found[key] = gemini_schema(value)

    return write


def _each(key: str) -> Callable[[Json, Any], None]:
    def write(found: Json, value: Any) -> None:
        found[key] = [gemini_schema(part) for part in value]

    return write


def _named(key: str) -> Callable[[Json, Any], None]:
    def write(found: Json, value: Any) -> None:
        found[key] = {**found.get(key, {}), **{name: gemini_schema(part) for name, part in value.items()}}

    return write


def _additional(found: Json, value: Any) -> None:
    found["additionalProperties"] = value if isinstance(value, bool) else gemini_schema(value)


def _const(found: Json, value: Any) -> None:
    found["enum"] = [value]


_CHANGED: dict[str, Callable[[Json, Any], None]] = {
    "items": _one("items"),
    "anyOf": _each("anyOf"),
    "oneOf": _each("oneOf"),
    "prefixItems": _each("prefixItems"),
    "properties": _named("properties"),
    "$defs": _named("$defs"),
    "definitions": _named("$defs"),
    "additionalProperties": _additional,
    "const": _const,
}


def _ref_alone(found: Json) -> Json:
    if "$ref" not in found:
        return found
    ref = {"$ref": str(found.pop("$ref")).replace("#/definitions/", "#/$defs/")}
    beside = found.keys() - {"$defs"}
    return {"anyOf": [ref], **found} if beside and "anyOf" not in found else {**found, **ref}
