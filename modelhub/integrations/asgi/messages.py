"""The messages of a request: those of OpenAI's API, and no other form that a hub would read.

What comes over the network is not the application's own: a path in it must never be read. So only the types of content
that OpenAI's API has go through, and only addresses that a vendor can fetch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from modelhub.integrations.asgi.errors import HttpError

__all__ = ["read_messages"]

_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_KEYS: Final = (
    *("role", "name", "tool_calls", "tool_call_id", "refusal", "reasoning_content", "reasoning"),
    *("cache_control", "audio"),
)
"""The keys of a message beside its content."""
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "text": (),
    "refusal": (),
    "image_url": ("url", "detail"),
    "video_url": ("url",),
    "input_audio": ("data", "format"),
    "file": ("file_data", "filename", "file_id"),
}
"""The types of parts, and the keys of the object that is called like the part; where it is text, none."""
_ADDRESS: Final = re.compile(r"(https?://|data:)", re.IGNORECASE)
_DATA: Final = re.compile(r"data:|[A-Za-z0-9+/_=\s-]*\Z", re.IGNORECASE)


def read_messages(messages: Any) -> list[dict[str, Any]]:
    """Return *messages*, with nothing in them but what OpenAI's API has. Raises HttpError for other roles and types."""
    if not isinstance(messages, list) or not messages:
        raise _make_error("messages", "expected a list of messages")
    return [_read_message(message, f"messages[{index}]") for index, message in enumerate(messages)]


def _read_message(message: Any, path: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        raise _make_error(path, "expected an object with `role` and `content`")
    if message.get("role") not in _ROLES:
        raise _make_error(f"{path}.role", f"expected one of {', '.join(_ROLES)}")
    allowed = {key: message[key] for key in _KEYS if message.get(key) is not None}
    content = message.get("content")
    if isinstance(content, list):
        content = [_read_part(part, f"{path}.content[{index}]") for index, part in enumerate(content)]
    elif content is not None and not isinstance(content, str):
        raise _make_error(f"{path}.content", "expected text or a list of parts")
    return {**allowed, "content": content}


def _read_part(part: Any, path: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if not isinstance(kind, str) or kind not in _PARTS:
        raise _make_error(f"{path}.type", f"expected one of {', '.join(_PARTS)}")
    value = part.get(kind)
    if _PARTS[kind]:
        value = _read_media(value, kind, f"{path}.{kind}")
    elif not isinstance(value, str):
        raise _make_error(f"{path}.{kind}", "expected text")
    mark = part.get("cache_control")
    return {"type": kind, kind: value, **({} if mark is None else {"cache_control": mark})}


def _read_media(value: Any, kind: str, path: str) -> dict[str, Any]:
    """Return media that are data, or at an address that a vendor can fetch. Raises HttpError for any other place."""
    if not isinstance(value, Mapping):
        raise _make_error(path, "expected an object")
    media = {key: value[key] for key in _PARTS[kind] if value.get(key) is not None}
    for key, pattern, expectation in (
        ("url", _ADDRESS, "expected an address that begins with http://, https:// or data:"),
        ("data", _DATA, "expected data in base64, or a data: URL"),
        ("file_data", _DATA, "expected data in base64, or a data: URL"),
    ):
        if key in media and not (isinstance(media[key], str) and pattern.match(media[key])):
            raise _make_error(f"{path}.{key}", expectation)
    return media


def _make_error(path: str, expectation: str) -> HttpError:
    return HttpError(400, f"{path}: {expectation}", param=path)
