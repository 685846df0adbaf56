"""JSON of rows and answers: fast for all that UTF-8 can hold, and right for the rest."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json, to_json

__all__ = ["dump_json", "parse_json"]


def dump_json(value: Any) -> bytes:
    """Return *value* as JSON in UTF-8.

    Dates are in ISO 8601, bytes in base64 (with - and _, for URLs), NaN and infinity null, all else is its text.
    """
    try:
        return to_json(value, fallback=str, bytes_mode="base64", inf_nan_mode="null")
    except ValueError:  # text that UTF-8 cannot hold must not stop a job: it is written as an escape of JSON
        text = json.dumps(value, ensure_ascii=False, default=str, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def parse_json(data: bytes | str) -> Any:
    """Return the value that *data* has.

    Raises UnicodeDecodeError, json.JSONDecodeError, or RecursionError if it is nested too deeply.
    """
    try:
        return from_json(data)
    except ValueError:  # half a surrogate pair, which Python's parser takes; or an error, which it describes better
        return json.loads(data)
