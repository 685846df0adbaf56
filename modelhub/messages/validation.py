"""Reading what a caller wrote: the value, if it has the right shape, or an error that says where and what was expected.

An error shows the type of what was found, or a plain name, never a text: that could be a piece of somebody's prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from modelhub.core.errors import InvalidRequest

Json = Mapping[str, Any]

# What an error may show: a name. Anything else could be a piece of somebody's prompt.
_NAME = re.compile(r"[\w.:+/-]{1,64}")


def named(value: object) -> str:
    """The type of *value*, as errors show it."""
    return "None" if value is None else type(value).__name__


def shown(value: object) -> str:
    """*value* in backticks if it is a plain name, else its type."""
    return f"`{value}`" if isinstance(value, str) and _NAME.fullmatch(value) else named(value)


def wrong(at: str, expected: str, value: object) -> InvalidRequest:
    """The error for a *value* of the wrong shape."""
    return InvalidRequest(f"{at}: expected {expected}, got {named(value)}")


def suggestion(value: object, options: Iterable[str]) -> str:
    """`; did you mean ...?` if one of *options* is close to *value*, else nothing."""
    close = get_close_matches(value, list(options), 1) if isinstance(value, str) else []
    return f"; did you mean `{close[0]}`?" if close else ""


def unknown(at: str, what: str, value: object, options: Iterable[str]) -> InvalidRequest:
    """The error for a *value* that is none of *options*."""
    names = sorted(options)
    if not isinstance(value, str):
        return wrong(at, f"one of {', '.join(names)}", value)
    hint = suggestion(value, names) or f" (known: {', '.join(names)})"
    return InvalidRequest(f"{at}: unknown {what} {shown(value)}{hint}")


def as_mapping(value: object, at: str, expected: str) -> Json:
    """*value* as a mapping: a dict, or a vendor's reply object through its `model_dump`."""
    if type(value) is dict or isinstance(value, Mapping):
        return value
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    dumped = dump() if callable(dump) else None
    if not isinstance(dumped, Mapping):
        raise wrong(at, expected, value)
    return dumped


def as_sequence(value: object, at: str, expected: str) -> Sequence[Any]:
    """*value* as a sequence; text and bytes are none."""
    if type(value) is list or (isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray))):
        return value
    raise wrong(at, expected, value)


def optional_text(found: Json, key: str, at: str) -> str | None:
    """The text under *key*; None if there is none or it is empty."""
    value = found.get(key)
    if value is None or isinstance(value, str):
        return value or None
    raise wrong(f"{at}.{key}", "a string", value)


def required_text(found: Json, key: str, at: str) -> str:
    """The text under *key*, which may be empty."""
    value = found.get(key)
    if isinstance(value, str):
        return value
    raise wrong(f"{at}.{key}", "a string", value)


def required_name(found: Json, key: str, at: str) -> str:
    """The text under *key*, which may not be empty."""
    value = required_text(found, key, at)
    if not value:
        raise InvalidRequest(f"{at}.{key}: is empty")
    return value


def either(found: Json, one: str, other: str, at: str) -> str:
    """Which of two keys for the same thing is used; saying different things under both is an error."""
    if found.get(one) is None:
        return other
    if found.get(other) is not None and found[one] != found[other]:
        raise InvalidRequest(f"{at}: `{one}` and `{other}` mean the same here, and differ")
    return one


def missing(found: Json, key: str, at: str) -> InvalidRequest:
    """The error for a *key* that is not there, with the key that may have been meant."""
    close = get_close_matches(key, [str(name) for name in found if name != key], 1)
    hint = f"; is it what {shown(close[0])} was meant to be?" if close else ""
    return InvalidRequest(f"{at}: `{key}` is missing{hint}")
