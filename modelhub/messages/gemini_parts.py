"""The parts of Gemini's own messages (`role`, `parts`), in snake_case as its SDK has them or camelCase as its API."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    MediaBlock,
    MediaKind,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.messages.media_sources import from_url, image_type
from modelhub.messages.sanitize import copy_arguments
from modelhub.messages.validation import Json, as_mapping, optional_text, required_name, required_text, unknown, wrong

__all__ = ["read_gemini_part"]

_PROVIDER = "gemini"


def read_gemini_part(part: Json, at: str) -> ContentBlock | None:
    """The block of one part, None for a part with nothing to send. Raises InvalidRequest for a wrong shape."""
    found = {_snake(key): value for key, value in part.items() if value is not None}
    for key, read in _READERS.items():
        if key in found:
            return read(found, f"{at}.{key}" if key != "text" else at)
    if "text" in part:
        return None  # a part that says nothing
    raise unknown(at, "part", next(iter(found), None), _READERS)


def _snake(key: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in key)


def _member(part: Json, key: str, at: str) -> Json:
    """The object under *key*, its own keys in snake_case; what is inside of them is the caller's."""
    return {_snake(name): value for name, value in as_mapping(part[key], at, "an object (a dict)").items()}


def _signature(part: Json, at: str) -> tuple[str | None, str | None]:
    value = part.get("thought_signature")
    signature = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    if signature is not None and not isinstance(signature, str):
        raise wrong(f"{at}.thought_signature", "base64 text or bytes", value)
    return signature or None, _PROVIDER if signature else None


def _text(part: Json, at: str) -> ContentBlock | None:
    text = required_text(part, "text", at)
    signature, provider = _signature(part, at)
    if part.get("thought"):
        return ThinkingBlock(text, signature, provider=_PROVIDER) if text or signature else None
    return TextBlock(text, signature, provider) if text or signature else None


def _inline_data(part: Json, at: str) -> MediaBlock:
    found = _member(part, "inline_data", at)
    data = found.get("data")
    text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    if not isinstance(text, str):
        raise wrong(f"{at}.data", "base64 text or bytes", data)
    media_type = optional_text(found, "mime_type", at) or image_type(text)
    if media_type is None:
        raise wrong(f"{at}.mime_type", "a string", None)
    return MediaBlock(_kind_of(media_type), Base64Source(text, media_type), optional_text(found, "display_name", at))


def _file_data(part: Json, at: str) -> MediaBlock:
    found = _member(part, "file_data", at)
    source = from_url(found.get("file_uri"), f"{at}.file_uri", optional_text(found, "mime_type", at))
    return MediaBlock(_kind_of(source.media_type or ""), source, optional_text(found, "display_name", at))


def _kind_of(media_type: str) -> MediaKind:
    kinds: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}
    return kinds.get(media_type.partition("/")[0], "document")


def _function_call(part: Json, at: str) -> ToolUseBlock:
    found = _member(part, "function_call", at)
    arguments, raw = copy_arguments(found.get("args") or {}, None, f"{at}.args")
    signature, provider = _signature(part, at)
    call_id = optional_text(found, "id", at) or ""
    return ToolUseBlock(call_id, required_name(found, "name", at), arguments, signature, provider, raw)


def _function_response(part: Json, at: str) -> ToolResultBlock:
    found = _member(part, "function_response", at)
    text, failed = _response_text(found.get("response"), f"{at}.response")
    media = [_inline_data({"inline_data": _snake_keys(piece)["inline_data"]}, at) for piece in _media(found)]
    output = (*((TextBlock(text),) if text else ()), *media)
    call_id, name = optional_text(found, "id", at) or "", optional_text(found, "name", at) or ""
    return ToolResultBlock(call_id, name, output, failed)


def _media(found: Json) -> list[Json]:
    pieces = found.get("parts") or ()
    return [piece for piece in pieces if isinstance(piece, Mapping) and "inline_data" in _snake_keys(piece)]


def _snake_keys(found: Json) -> dict[str, Any]:
    return {_snake(key): value for key, value in found.items()}


def _response_text(response: object, at: str) -> tuple[str, bool]:
    """The text of a tool's response, an object in which `output` or `error` holds it, and whether the tool failed."""
    if response is None or isinstance(response, str):
        return response or "", False
    found = as_mapping(response, at, "an object (a dict)")
    failed = found.keys() == {"error"}
    value = next(iter(found.values())) if failed or found.keys() in ({"output"}, {"result"}) else found
    if isinstance(value, str):
        return value, failed
    try:
        return json.dumps(value, ensure_ascii=False), failed
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(f"{at}: expected JSON values only") from None


def _code(part: Json, at: str) -> TextBlock:
    found = _member(part, "executable_code", at)
    return TextBlock(f"```{str(found.get('language') or '').lower()}\n{required_text(found, 'code', at)}\n```")


def _code_result(part: Json, at: str) -> TextBlock | None:
    output = optional_text(_member(part, "code_execution_result", at), "output", at)
    return TextBlock(f"```\n{output}\n```") if output else None


_READERS: dict[str, Callable[[Json, str], ContentBlock | None]] = {
    "function_call": _function_call,
    "function_response": _function_response,
    "inline_data": _inline_data,
    "file_data": _file_data,
    "executable_code": _code,
    "code_execution_result": _code_result,
    "text": _text,
}
