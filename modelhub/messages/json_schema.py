"""Structured output: pydantic classes or JSON Schemas, and the validation of data by a schema."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from modelhub.core.errors import InvalidRequest
from modelhub.messages.sanitize import copy_json
from modelhub.messages.schema_repair import repair_schema, resolve_reference
from modelhub.messages.validation import format_type_name

__all__ = ["StructuredModel", "check_structured_model", "get_schema", "find_schema_problems"]

Json = Mapping[str, Any]
StructuredModel = type[BaseModel] | Json
"""A pydantic class, or a JSON Schema."""


def check_structured_model(structured_model: object) -> StructuredModel:
    """Return *structured_model*: a pydantic class, or a repaired copy of a JSON Schema. Raises InvalidRequest."""
    if isinstance(structured_model, type) and issubclass(structured_model, BaseModel):
        return structured_model
    if isinstance(structured_model, Mapping):
        schema: Json = structured_model
        if schema.get("type") == "json_schema" and isinstance(schema.get("json_schema"), Mapping):
            schema = schema["json_schema"]  # OpenAI's `response_format`
        if isinstance(schema.get("schema"), Mapping) and isinstance(schema.get("name"), str):
            schema = schema["schema"]
        schema = copy_json(schema, "structured_model")
        if not schema:
            raise InvalidRequest("structured_model: the JSON Schema is empty")
        return repair_schema(schema)
    hint = ": give its class" if isinstance(structured_model, BaseModel) else ""
    got = f"{format_type_name(structured_model)}{hint}"
    raise InvalidRequest(f"structured_model: expected a pydantic class or a JSON Schema (a dict), got {got}")


def get_schema(model: StructuredModel) -> dict[str, Any]:
    """Return the JSON Schema of *model*, a shallow copy."""
    return dict(model) if isinstance(model, Mapping) else model.model_json_schema()


# -- validation --------------------------------------------------------------------------------------------------------

_MAX_REFERENCES = 64


def find_schema_problems(value: Any, schema: Any, root: Json, path: str, references: int = 0) -> Iterator[str]:
    """Yield why *value* does not match *schema*. *root* resolves references; unknown keywords are ignored."""
    if not isinstance(schema, Mapping):
        if schema is False:
            yield f"{path}: is not allowed"
        return
    if isinstance(reference := schema.get("$ref"), str):
        target = resolve_reference(reference, root)
        if target is not None and references < _MAX_REFERENCES:
            yield from find_schema_problems(value, target, root, path, references + 1)
    yield from _find_keyword_problems(value, schema, path)
    yield from _find_combined_problems(value, schema, root, path, references)
    if isinstance(value, dict):
        yield from _find_object_problems(value, schema, root, path)
    elif isinstance(value, list):
        first = schema.get("prefixItems") or ()
        for index, item in enumerate(value):
            part = first[index] if index < len(first) else schema.get("items", True)
            yield from find_schema_problems(item, part, root, f"{path}[{index}]")


def _find_keyword_problems(value: Any, schema: Json, path: str) -> Iterator[str]:
    for keyword, expected in schema.items():
        check = _CHECKS.get(keyword)
        try:
            fits = check is None or check(value, expected)
        except (TypeError, ValueError, ArithmeticError):
            fits = True  # the keyword has an invalid value in the schema
        if not fits:
            text = json.dumps(expected, ensure_ascii=False)
            yield f"{path}: does not fit {keyword} {text if len(text) <= 80 else f'{text[:77]}...'}"


def _find_combined_problems(value: Any, schema: Json, root: Json, path: str, references: int) -> Iterator[str]:
    def fits(part: Any) -> bool:
        return next(find_schema_problems(value, part, root, path, references), None) is None

    for part in schema.get("allOf") or ():
        yield from find_schema_problems(value, part, root, path, references)
    if (options := schema.get("anyOf")) and not any(map(fits, options)):
        yield f"{path}: fits none of the alternatives"
    if (options := schema.get("oneOf")) and sum(map(fits, options)) != 1:
        yield f"{path}: does not fit exactly one of the alternatives"
    if "not" in schema and fits(schema["not"]):
        yield f"{path}: is what the schema excludes"


def _find_object_problems(value: dict[str, Any], schema: Json, root: Json, path: str) -> Iterator[str]:
    properties = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            yield f"{path}.{name}: is missing"
    for name, item in value.items():
        parts: list[Any] = []
        for pattern, part in (schema.get("patternProperties") or {}).items():
            try:
                if re.search(pattern, name):
                    parts.append(part)
            except re.error:  # in another dialect: which properties it is about is not known
                parts.append(True)
        if name in properties:
            parts.append(properties[name])
        for part in parts or [schema.get("additionalProperties", True)]:
            yield from find_schema_problems(item, part, root, f"{path}.{name}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: _is_number(value) and value % 1 == 0,  # NaN, if it is infinite
    "number": _is_number,
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def _has_type(value: Any, expected: Any) -> bool:
    names = expected if isinstance(expected, list) else [expected]
    return any(name not in _TYPES or _TYPES[name](value) for name in names)


def _is_equal(value: Any, expected: Any) -> bool:
    return value == expected and isinstance(value, bool) is isinstance(expected, bool)


def _matches_pattern(value: str, pattern: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # a pattern in another dialect, which the vendor may support
        return True


def _check_only(kind: Callable[[Any], bool], check: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Return *check* limited to values of one type; a keyword does not apply to other values."""
    return lambda value, expected: not kind(value) or check(value, expected)


_is_text, _is_list, _is_dict = _TYPES["string"], _TYPES["array"], _TYPES["object"]
_CHECKS: Mapping[str, Callable[[Any, Any], bool]] = {
    "type": _has_type,
    "enum": lambda value, expected: any(_is_equal(value, option) for option in expected),
    "const": _is_equal,
    "minLength": _check_only(_is_text, lambda value, bound: len(value) >= bound),
    "maxLength": _check_only(_is_text, lambda value, bound: len(value) <= bound),
    "pattern": _check_only(_is_text, _matches_pattern),
    "minimum": _check_only(_is_number, lambda value, bound: value >= bound),
    "maximum": _check_only(_is_number, lambda value, bound: value <= bound),
    "exclusiveMinimum": _check_only(_is_number, lambda value, bound: value > bound),
    "exclusiveMaximum": _check_only(_is_number, lambda value, bound: value < bound),
    "multipleOf": _check_only(_is_number, lambda value, factor: math.isclose(value / factor, round(value / factor))),
    "minItems": _check_only(_is_list, lambda value, bound: len(value) >= bound),
    "maxItems": _check_only(_is_list, lambda value, bound: len(value) <= bound),
    "uniqueItems": _check_only(
        _is_list, lambda value, on: not on or len({json.dumps(item) for item in value}) == len(value)
    ),
    "minProperties": _check_only(_is_dict, lambda value, bound: len(value) >= bound),
    "maxProperties": _check_only(_is_dict, lambda value, bound: len(value) <= bound),
}
