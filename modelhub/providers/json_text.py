"""JSON out of the bytes of an answer, and text out of JSON that can always be written as UTF-8.

JSON can name half a character, a lone surrogate, which no encoder takes.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

from modelhub.core.errors import BadReply
from modelhub.providers.provider_errors import make_misfit

__all__ = [
    "LAST_BEFORE_SURROGATES",
    "REPLACEMENT",
    "clean_text",
    "clean_value",
    "is_high_surrogate",
    "json_body",
    "loads",
]


def loads(data: bytes | str) -> Any:
    """The value in *data*. Raises BadReply if it is not JSON."""
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        # Accepts what the faster parser does not: lone surrogates, raw control characters.
        return _clean_within(json.loads(data, strict=False))
    except RecursionError as error:  # it is what the model wrote, and says nothing about its health
        raise make_misfit("the answer is nested too deeply to be read") from error
    except ValueError as error:
        raise BadReply(f"the answer is not JSON: {describe(data)}") from error


def _clean_within(value: Any) -> Any:
    """*value* without lone surrogates, but at a text's ends: their other halves may be in the pieces around it."""
    if isinstance(value, str):
        start = 1 if "\udc00" <= value[:1] <= "\udfff" else 0
        end = len(value) - 1 if is_high_surrogate(value[-1:]) else len(value)
        return value[:start] + clean_text(value[start:end]) + value[max(start, end) :]
    if isinstance(value, dict):
        return {clean_text(key): _clean_within(item) for key, item in value.items()}
    return [_clean_within(item) for item in value] if isinstance(value, list) else value


def describe(data: bytes | str) -> str:
    """What *data* looks like, without showing it: an answer may hold what was asked."""
    start = data[:64].lstrip()
    text = start.decode("utf-8", "replace") if isinstance(start, bytes) else start
    if not text:
        return "an empty body"
    if text[:1] == "<":
        return f"HTML or XML of {len(data)} bytes"
    return f"{len(data)} bytes that break off or are garbled" if text[:1] in "{[" else f"{len(data)} bytes of text"


def json_body(data: bytes) -> dict[str, Any]:
    """The JSON object that is a whole answer. Raises BadReply for anything else: empty, HTML, a list, broken."""
    value = loads(data)
    if not isinstance(value, dict):
        raise BadReply(f"the answer is no JSON object but {type(value).__name__}")
    return value


# -- half characters ---------------------------------------------------------------------------------------------------

LAST_BEFORE_SURROGATES = "\ud7ff"
REPLACEMENT = "\ufffd"
"""What stands in the place of half a character whose other half never came."""


def is_high_surrogate(character: str) -> bool:
    """Whether *character* is the first half of a character, whose other half may follow in the next piece."""
    return "\ud800" <= character <= "\udbff"


def clean_text(text: str) -> str:
    """Return *text* with pairs of surrogates joined and lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def clean_value(value: Any) -> Any:
    """Return *value*, as JSON has it, with every text and key in it cleaned. Raises RecursionError for a deep nest."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_value(key): clean_value(item) for key, item in value.items()}
    return [clean_value(item) for item in value] if isinstance(value, list) else value
