"""The least value that fits a JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["instance"]

Json = dict[str, Any]

_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT1S",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "127.0.0.1",
}


def instance(schema: Mapping[str, Any]) -> Any:
    """A small value that fits *schema*. Patterns, and rules that several keys make together, are not looked at."""
    return _value(schema, schema, 0)


def _value(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > 12:
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return _value(_resolved(str(schema["$ref"]), root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _value(schema[key][0], root, depth + 1)
    if schema.get("allOf"):
        joined = {name: value for part in schema["allOf"] for name, value in _inlined(part, root).items()}
        return _value({**schema, **joined, "allOf": None}, root, depth + 1)
    return _BY_TYPE[_type_of(schema)](schema, root, depth)


def _type_of(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    found = str(kind).lower()  # Google writes OBJECT
    return found if found in _BY_TYPE else "null"


def _resolved(reference: str, root: Mapping[str, Any]) -> Any:
    found: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        found = found.get(step) if isinstance(found, Mapping) and step else found
    return found


def _inlined(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found = _resolved(str(schema["$ref"]), root) if "$ref" in schema else schema
    return found if isinstance(found, Mapping) else {}


def _object(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Json:
    properties = schema.get("properties") or {}
    wanted = schema.get("required", list(properties))
    return {name: _value(properties.get(name), root, depth + 1) for name in wanted}


def _array(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> list[Any]:
    firsts = [_value(item, root, depth + 1) for item in schema.get("prefixItems") or ()]
    rest = max(0, int(schema.get("minItems") or 0) - len(firsts))
    return firsts + [_value(schema.get("items"), root, depth + 1) for _ in range(rest)]


def _string(schema: Mapping[str, Any], *_: Any) -> str:
    text = _FORMATS.get(schema.get("format", ""), "text")
    longest = schema.get("maxLength", len(text))
    return text.ljust(int(schema.get("minLength") or 0), "x")[: max(longest, int(schema.get("minLength") or 0))]


def _number(schema: Mapping[str, Any], *_: Any) -> Any:
    step = schema.get("multipleOf") or 1
    if "minimum" in schema:
        least = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        least = schema["exclusiveMinimum"] + step
    else:
        least = min(0, schema.get("maximum", 0), schema.get("exclusiveMaximum", step) - step)
    return -(-least // step) * step


_BY_TYPE: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any], int], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "integer": _number,
    "number": _number,
    "boolean": lambda *_: False,
    "null": lambda *_: None,
}
