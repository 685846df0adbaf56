"""JSON schemas in the narrower form that Anthropic's structured outputs take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["native_schema"]

Json = dict[str, Any]

_MAX_OPTIONAL = 24  # the API refuses schemas with more
_MAX_UNIONS = 16

_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"},
)
_KEPT = ("title", "description", "enum", "const", "type")
_SILENT = frozenset({*_KEPT, "anyOf", "oneOf", "properties", "required", "additionalProperties", "items", "default"})
_SILENT |= {"$defs", "discriminator", "examples", "format", "minItems"}


class _NotNative(Exception):
    """The schema says what the API's form cannot."""


def native_schema(schema: Mapping[str, Any]) -> Json | None:
    """Return *schema* in the form of `output_config.format`, or None where that form cannot say the same.

    It closes every object, and knows no recursion and no objects with free keys. Bounds on numbers and lengths it
    does not know either: they go into the descriptions, and the answer is validated afterwards.
    """
    counts = {"optional": 0, "unions": 0}
    definitions = schema.get("$defs") or {}
    try:
        for name in definitions:
            _check_recursion(name, definitions, ())
        adapted = _adapt(schema, counts)
        if definitions:
            adapted["$defs"] = {name: _adapt(part, counts) for name, part in definitions.items()}
    except _NotNative:
        return None
    fits = counts["optional"] <= _MAX_OPTIONAL and counts["unions"] <= _MAX_UNIONS
    return adapted if fits else None


def _check_recursion(name: str, definitions: Mapping[str, Any], above: tuple[str, ...]) -> None:
    if name in above or name not in definitions:
        raise _NotNative
    for target in _references(definitions[name]):
        _check_recursion(target, definitions, (*above, name))


def _references(part: Any) -> list[str]:
    if isinstance(part, Mapping):
        own = [str(part["$ref"]).removeprefix("#/$defs/")] if isinstance(part.get("$ref"), str) else []
        return own + [name for value in part.values() for name in _references(value)]
    if isinstance(part, list):
        return [name for value in part for name in _references(value)]
    return []


def _adapt(part: Any, counts: dict[str, int]) -> Json:
    if not isinstance(part, Mapping) or "allOf" in part or "prefixItems" in part:
        raise _NotNative
    if "$ref" in part:
        return {"$ref": part["$ref"]}  # with nothing beside it
    adapted: Json = {key: part[key] for key in _KEPT if key in part}
    if "enum" in part or "const" in part:
        values = adapted.get("enum", [adapted.get("const")])
        if not all(value is None or isinstance(value, (str, int, float)) for value in values):
            raise _NotNative
        return {key: value for key, value in adapted.items() if key != "type"}
    if (kinds := part.get("anyOf") or part.get("oneOf")) is not None:
        counts["unions"] += 1
        adapted["anyOf"] = [_adapt(kind, counts) for kind in kinds]
    elif not isinstance(part.get("type"), str):
        raise _NotNative  # anything goes here: that cannot be said
    if part.get("type") == "object":
        adapted |= _object(part, counts)
    if part.get("type") == "array":
        adapted |= _array(part, counts)
    if part.get("format") in _FORMATS:
        adapted["format"] = part["format"]
    return _with_bounds(adapted, part)


def _object(part: Mapping[str, Any], counts: dict[str, int]) -> Json:
    properties = part.get("properties") or {}
    if part.get("additionalProperties") not in (None, False) or (not properties and "additionalProperties" not in part):
        raise _NotNative  # free keys
    required = [name for name in part.get("required") or () if name in properties]
    counts["optional"] += len(properties) - len(required)
    return {
        "properties": {name: _adapt(value, counts) for name, value in properties.items()},
        "required": required,
        "additionalProperties": False,
    }


def _array(part: Mapping[str, Any], counts: dict[str, int]) -> Json:
    if "items" not in part:
        raise _NotNative
    adapted: Json = {"items": _adapt(part["items"], counts)}
    if part.get("minItems") in (0, 1):
        adapted["minItems"] = part["minItems"]
    return adapted


def _with_bounds(adapted: Json, part: Mapping[str, Any]) -> Json:
    bounds = {key: value for key, value in part.items() if key not in _SILENT}
    if "format" in part and "format" not in adapted:
        bounds["format"] = part["format"]
    if part.get("minItems", 0) not in (0, 1):
        bounds["minItems"] = part["minItems"]
    if bounds:
        text = ", ".join(f"{key}: {value}" for key, value in bounds.items())
        adapted["description"] = f"{adapted['description']} ({text})" if "description" in adapted else f"({text})"
    return adapted
