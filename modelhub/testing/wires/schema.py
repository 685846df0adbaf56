"""Make a small value that matches a JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["make_instance"]

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


def make_instance(schema: Mapping[str, Any]) -> Any:
    """Return a small value that matches *schema*; patterns and combinations of keywords are not considered."""
    return _make_value(schema, schema, 0)


def _make_value(schema: Any, root: Mapping[str, Any], depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > 12:
        return None
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if schema.get("enum"):
        return schema["enum"][0]
    if "$ref" in schema:
        return _make_value(_resolve(str(schema["$ref"]), root), root, depth + 1)
    for key in ("anyOf", "oneOf"):
        if schema.get(key):
            return _make_value(schema[key][0], root, depth + 1)
    if schema.get("allOf"):
        joined = dict(schema)
        for part in schema["allOf"]:
            target = _resolve(str(part["$ref"]), root) if "$ref" in part else part
            joined |= target if isinstance(target, Mapping) else {}
        return _make_value({**joined, "allOf": None}, root, depth + 1)
    return _make_typed_value(schema, root, depth)


def _resolve(reference: str, root: Mapping[str, Any]) -> Any:
    target: Any = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        target = target.get(step) if isinstance(target, Mapping) and step else target
    return target


def _make_typed_value(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Any:
    """Return a value of the type that *schema* names, with the values in it one level below *depth*."""
    kind = schema.get("type", "object" if "properties" in schema else "string")
    kind = str(kind[0] if isinstance(kind, list) and kind else kind).lower()  # Google writes OBJECT
    if kind == "object":
        properties = schema.get("properties") or {}
        names = schema.get("required", list(properties))
        return {name: _make_value(properties.get(name), root, depth + 1) for name in names}
    if kind == "array":
        prefix = [_make_value(item, root, depth + 1) for item in schema.get("prefixItems") or ()]
        remaining = max(0, int(schema.get("minItems") or 0) - len(prefix))
        return prefix + [_make_value(schema.get("items"), root, depth + 1) for _ in range(remaining)]
    if kind == "string":
        text = _FORMATS.get(schema.get("format", ""), "text")
        min_length = int(schema.get("minLength") or 0)
        return text.ljust(min_length, "x")[: max(schema.get("maxLength", len(text)), min_length)]
    if kind in ("integer", "number"):
        return _make_number(schema)
    return False if kind == "boolean" else None


def _make_number(schema: Mapping[str, Any]) -> Any:
    step = schema.get("multipleOf") or 1
    if "minimum" in schema:
        minimum = schema["minimum"]
    elif "exclusiveMinimum" in schema:
        minimum = schema["exclusiveMinimum"] + step
    else:
        minimum = min(0, schema.get("maximum", 0), schema.get("exclusiveMaximum", step) - step)
    return -(-minimum // step) * step
