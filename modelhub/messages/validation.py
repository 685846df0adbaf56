"""Read values from a caller's messages and tools, or raise an error with the path and what was expected.

An error shows the type of a wrong value, or a plain name, but no other text: that could be part of a prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from modelhub.core.errors import InvalidRequest

Json = Mapping[str, Any]

# What an error may show: a name. Any other text could be part of a prompt.
_SAFE_NAME = re.compile(r"[\w.:+/-]{1,64}")


def format_type_name(value: object) -> str:
    """Return the name of the type of *value*, or "None"."""
    return "None" if value is None else type(value).__name__


def format_safe_name(value: object) -> str:
    """Return *value* in backticks if it is a plain name, else the name of its type."""
    return f"`{value}`" if isinstance(value, str) and _SAFE_NAME.fullmatch(value) else format_type_name(value)


def make_type_error(path: str, expected: str, value: object) -> InvalidRequest:
    """Return the error for a *value* of the wrong type."""
    return InvalidRequest(f"{path}: expected {expected}, got {format_type_name(value)}")


def suggest_option(value: object, options: Iterable[str]) -> str:
    """Return "; did you mean ...?" if one of *options* is close to *value*, else ""."""
    close = get_close_matches(value, list(options), 1) if isinstance(value, str) else []
    return f"; did you mean `{close[0]}`?" if close else ""


def make_unknown_error(path: str, subject: str, value: object, options: Iterable[str]) -> InvalidRequest:
    """Return the error for a *value* that is not one of *options*; *subject* names what it is."""
    names = sorted(options)
    if not isinstance(value, str):
        return make_type_error(path, f"one of {', '.join(names)}", value)
    hint = suggest_option(value, names) or f" (known: {', '.join(names)})"
    return InvalidRequest(f"{path}: unknown {subject} {format_safe_name(value)}{hint}")


def as_mapping(value: object, path: str, expected: str) -> Json:
    """Return *value*, a mapping or a pydantic object, as a mapping. Raises InvalidRequest."""
    if type(value) is dict or isinstance(value, Mapping):
        return value
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    dumped = dump() if callable(dump) else None
    if not isinstance(dumped, Mapping):
        raise make_type_error(path, expected, value)
    return dumped


def as_sequence(value: object, path: str, expected: str) -> Sequence[Any]:
    """Return *value* as a sequence; text and bytes are not sequences. Raises InvalidRequest."""
    if type(value) is list or (isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))):
        return value
    raise make_type_error(path, expected, value)


def get_optional_text(mapping: Json, key: str, path: str) -> str | None:
    """Return the text under *key*, or None if it is absent or empty. Raises InvalidRequest."""
    value = mapping.get(key)
    if value is None or isinstance(value, str):
        return value or None
    raise make_type_error(f"{path}.{key}", "a string", value)


def get_required_text(mapping: Json, key: str, path: str) -> str:
    """Return the text under *key*, which may be empty. Raises InvalidRequest."""
    value = mapping.get(key)
    if isinstance(value, str):
        return value
    raise make_type_error(f"{path}.{key}", "a string", value)


def get_required_name(mapping: Json, key: str, path: str) -> str:
    """Return the text under *key*, which must not be empty. Raises InvalidRequest."""
    value = get_required_text(mapping, key, path)
    if not value:
        raise InvalidRequest(f"{path}.{key}: is empty")
    return value


def get_first_alias(mapping: Json, alias: str, default: str, path: str) -> str:
    """Return *alias* if *mapping* has it, else *default*. Raises InvalidRequest if both have different values."""
    if mapping.get(alias) is None:
        return default
    if mapping.get(default) is not None and mapping[alias] != mapping[default]:
        raise InvalidRequest(f"{path}: `{alias}` and `{default}` mean the same here, and differ")
    return alias


def make_missing_error(mapping: Json, key: str, path: str) -> InvalidRequest:
    """Return the error for a missing *key*, with the key that may have been meant."""
    close = get_close_matches(key, [str(name) for name in mapping if name != key], 1)
    hint = f"; is it what {format_safe_name(close[0])} was meant to be?" if close else ""
    return InvalidRequest(f"{path}: `{key}` is missing{hint}")
