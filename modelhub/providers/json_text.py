"""JSON: what is written into the bodies of requests, without holding up the event loop, and read out of answers.

JSON can name half a character, a lone surrogate, which no encoder takes: what is read can always be written as UTF-8.
An answer that is no JSON, has another shape than the vendor's, or is not what was demanded, is a `BadReply`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from itertools import zip_longest
from typing import Any
from uuid import uuid4

from pydantic_core import from_json, to_json

from modelhub.core.errors import BadReply

__all__ = [
    "LAST_BEFORE_SURROGATES",
    "REPLACEMENT",
    "SHAPE_ERRORS",
    "clean_text",
    "clean_value",
    "dump_json",
    "dump_json_chunks",
    "has_long_text",
    "json_body",
    "loads",
    "make_misfit",
    "split_half",
]

_LONG_TEXT = 256 * 1024
"""Characters from which on a text, such as an image, is written in pieces."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


# -- answers -----------------------------------------------------------------------------------------------------------


def loads(data: bytes | str) -> Any:
    """The value in *data*. Raises BadReply if it is not JSON."""
    try:
        return from_json(data)
    except ValueError:
        pass
    try:
        # Accepts what the faster parser does not: lone surrogates, raw control characters.
        return clean_value(json.loads(data, strict=False), _clean_within)
    except RecursionError as error:  # it is what the model wrote, and says nothing about its health
        raise make_misfit("the answer is nested too deeply to be read") from error
    except ValueError as error:
        raise BadReply(f"the answer is not JSON: {_describe(data)}") from error


def _clean_within(text: str) -> str:
    """*text* without lone surrogates, but at its ends: their other halves may be in the pieces around it."""
    start = 1 if "\udc00" <= text[:1] <= "\udfff" else 0
    cleaned, half = split_half(text[start:])
    return text[:start] + cleaned + half


def _describe(data: bytes | str) -> str:
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


SHAPE_ERRORS = (AttributeError, LookupError, TypeError, ValueError)
"""What reading raises where a server writes one kind of value in the place of another."""


def make_misfit(message: str) -> BadReply:
    """Return the failure of an answer that is sound, but not what this one request demanded: no breaker counts it."""
    failure = BadReply(message)
    failure.request_specific = True
    return failure


# -- half characters ---------------------------------------------------------------------------------------------------

LAST_BEFORE_SURROGATES = "\ud7ff"
REPLACEMENT = "\ufffd"
"""What stands in the place of half a character whose other half never came."""


def split_half(text: str) -> tuple[str, str]:
    """Return *text* cleaned, and the half of a character at its end, whose other half may follow in the next piece."""
    end = len(text) - 1 if "\ud800" <= text[-1:] <= "\udbff" else len(text)
    return clean_text(text[:end]), text[end:]


def clean_text(text: str) -> str:
    """Return *text* with pairs of surrogates joined and lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def clean_value(value: Any, clean: Callable[[str], str] = clean_text) -> Any:
    """Return *value*, as JSON has it, with every text in it as *clean* returns it, and every key cleaned.

    Raises RecursionError for a deep nest.
    """
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean_text(key): clean_value(item, clean) for key, item in value.items()}
    return [clean_value(item, clean) for item in value] if isinstance(value, list) else value


# -- requests ----------------------------------------------------------------------------------------------------------


def dump_json(value: Any) -> bytes:
    """Return *value* as JSON, as the SDKs write it. Raises TypeError or ValueError for what JSON does not have."""
    return _encode(value).encode()


async def dump_json_chunks(value: Any) -> list[bytes]:
    """Return *value* as JSON, in pieces; between those of a long text others have their turn. Raises like `dump_json`.

    Long texts are replaced by placeholders, which the JSON of everything else is split at.
    """
    placeholder, texts = uuid4().hex, list[str]()
    data = dump_json(_replace_long_texts(value, placeholder, texts))
    parts = re.split(rb"%s-(\d+)-" % placeholder.encode(), data)
    chunks: list[bytes] = []
    for between, number in zip_longest(parts[::2], parts[1::2]):
        chunks.append(between)
        text = texts[int(number)] if number is not None else ""
        for start in range(0, len(text), _LONG_TEXT):
            chunks.append(to_json(text[start : start + _LONG_TEXT])[1:-1])
            await asyncio.sleep(0)
    return chunks


def has_long_text(value: Any) -> bool:
    """Whether a text in the objects and lists of *value* is so long that it is written in pieces."""
    cls = type(value)
    if cls is str:
        return len(value) > _LONG_TEXT
    items = value.values() if cls is dict else value if cls is list else ()
    for item in items:
        cls = type(item)
        if cls is str:  # looked at here, because most are texts, and a call of a function costs more
            if len(item) > _LONG_TEXT:
                return True
        elif (cls is dict or cls is list) and has_long_text(item):
            return True
    return False


def _replace_long_texts(value: Any, placeholder: str, texts: list[str]) -> Any:
    if isinstance(value, dict):
        return {key: _replace_long_texts(item, placeholder, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_long_texts(item, placeholder, texts) for item in value]
    if isinstance(value, str) and len(value) > _LONG_TEXT:
        texts.append(value)
        return f"{placeholder}-{len(texts) - 1}-"
    return value
