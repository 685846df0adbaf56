"""JSON for the bodies of requests, without holding up the event loop for long texts."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import zip_longest
from typing import Any
from uuid import uuid4

from pydantic_core import to_json

__all__ = ["dump_json", "dump_json_chunks", "has_long_text"]

_LONG_TEXT = 256 * 1024
"""Characters from which on a text, such as an image, is written in pieces."""

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def dump_json(value: Any) -> bytes:
    """Return *value* as JSON, as the SDKs write it. Raises TypeError or ValueError for what JSON does not have."""
    return _encode(value).encode()


async def dump_json_chunks(value: Any) -> list[bytes]:
    """Return *value* as JSON, in pieces; between those of a long text others have their turn. Raises like `dump_json`.

    Long texts are replaced by placeholders, which the JSON of everything else is split at.
    """
    if not has_long_text(value):
        return [dump_json(value)]
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
