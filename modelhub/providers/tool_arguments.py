"""A tool call's arguments, from the text that a model wrote.

Models and servers take liberties: `null` for no arguments, an object that was encoded twice, raw line breaks inside a
text, a code fence around it, a stray bracket behind it, Python's way to write the same values. These are read. What can
only be guessed at is not: a value is never evaluated, completed or changed.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from pydantic_core import from_json

from modelhub.providers.json_text import clean_text, clean_value

__all__ = ["LENIENT_JSON", "MAX_DEPTH", "dump_arguments", "parse_arguments", "parse_partial_arguments"]

MAX_DEPTH = 200
"""How deeply arguments may be nested, so that every encoder and every copy of a message can follow."""
_FENCE = "```"
_LANGUAGE = re.compile(r"[a-zA-Z][\w+-]*(?=\s)")
_MARKS_OF_DATA = '{[":='
_PYTHON_TOKEN = re.compile(
    r"""'(?:[^'\\]|\\.)*+'?|"(?:[^"\\]|\\.)*+"?|\b(?:True|False|None)\b|,(?=\s*[}\]])""", re.DOTALL
)
"""Texts in either kind of quotes (an open one to its end), constants, and a comma behind the last item."""
_PYTHON_CONSTANTS = {"True": "true", "False": "false", "None": "null", ",": ""}
_QUOTE_OR_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|.)|\"", re.DOTALL)
_TOO_DEEP = "they are nested too deeply"
_MAX_ENCODINGS = 3


def _reject_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parse_finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is out of range")
    return number


LENIENT_JSON = json.JSONDecoder(strict=False, parse_constant=_reject_constant, parse_float=_parse_finite)
"""Reads JSON with raw control characters in its texts. NaN, infinities and what overflows to one raise ValueError."""


def parse_arguments(raw: str) -> tuple[dict[str, Any], str | None]:
    """Return the arguments in *raw* and None, or an empty dict and what is wrong with them.

    No text at all, and `null`, are no arguments.
    """
    try:
        value: Any = raw
        for _ in range(_MAX_ENCODINGS):  # an object that was encoded more than once is a text of a text
            value = _parse_object(value)
            if not isinstance(value, str):
                break
        if value is None:
            return {}, None
        if not isinstance(value, dict):
            return {}, f"the arguments are no JSON object but {type(value).__name__}"
        _check_depth(value)
        return (clean_value(value) if "\\u" in raw else value), None
    except RecursionError:
        return {}, f"the arguments are not JSON that can be read: {_TOO_DEEP}"
    except ValueError as error:
        return {}, f"the arguments are not JSON: {error.msg if isinstance(error, json.JSONDecodeError) else error}"


def _parse_object(text: str) -> Any:
    text = text.strip(" \t\r\n\ufeff\x00")
    if not text:
        return None
    if len(text) > 2 * len(_FENCE) and text.startswith(_FENCE) and text.endswith(_FENCE):
        text = _LANGUAGE.sub("", text.removeprefix(_FENCE).removesuffix(_FENCE), count=1).strip()
    try:
        value, end = LENIENT_JSON.raw_decode(text)
    except json.JSONDecodeError as error:
        text = _PYTHON_TOKEN.sub(_write_as_json, text)
        try:
            value, end = LENIENT_JSON.raw_decode(text)
        except json.JSONDecodeError:
            raise error from None
    trailer = text[end:].strip()
    # Some servers begin with an empty object before the pieces come, or say the whole once more behind them.
    while trailer.startswith("{") and isinstance(value, dict):
        again, end = LENIENT_JSON.raw_decode(trailer)
        if value and again not in ({}, value):
            break
        value, trailer = value or again, trailer[end:].strip()
    # A bracket or a tag too many changes nothing; what may be another field or another object would be lost.
    if trailer and (not isinstance(value, dict) or any(mark in trailer for mark in _MARKS_OF_DATA)):
        raise ValueError("something else follows the value")
    return value


def _write_as_json(token: re.Match[str]) -> str:
    """Return what stands for *token*, a text or a constant in Python's notation, in JSON."""
    written = token[0]
    if written in _PYTHON_CONSTANTS:
        return _PYTHON_CONSTANTS[written]
    if len(written) == 1 or written[-1] != written[0]:
        return written  # a text without an end: the decoder refuses it
    return f'"{_QUOTE_OR_ESCAPE.sub(_escape_for_json, written[1:-1])}"'


def _escape_for_json(match: re.Match[str]) -> str:
    if match[1] is not None:
        return f"\\u00{match[1]}"
    return {"\\'": "'", '"': '\\"'}.get(match[0], match[0])


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            item
            for container in level
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        ]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def parse_partial_arguments(raw: str) -> dict[str, Any]:
    """Return what can be read of arguments that are still coming in."""
    try:
        value = from_json(raw, allow_partial="trailing-strings", allow_inf_nan=False)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def dump_arguments(value: Any) -> str:
    """Return arguments that a server gave as an object, as text. Text stays as it is; nothing is no text."""
    if value is None or isinstance(value, str):
        return value or ""
    try:
        return clean_text(json.dumps(value, ensure_ascii=False))
    except RecursionError:
        raise ValueError(f"the arguments cannot be read: {_TOO_DEEP}") from None
