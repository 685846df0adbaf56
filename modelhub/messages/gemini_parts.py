"""The parts of Gemini's own messages (`role`, `parts`), in snake_case as its SDK has them or camelCase as its API."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    MediaBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
)
from modelhub.messages.media_sources import detect_image_type, get_media_kind, parse_url
from modelhub.messages.sanitize import copy_arguments
from modelhub.messages.validation import (
    Json,
    as_mapping,
    get_optional_text,
    get_required_name,
    get_required_text,
    make_type_error,
    make_unknown_error,
)

__all__ = ["read_gemini_part"]

_PROVIDER = "gemini"


def read_gemini_part(part: Json, path: str) -> ContentBlock | None:
    """Return the block of *part*, or None for a part with nothing to send. Raises InvalidRequest."""
    fields = {key: value for key, value in _write_in_snake_case(part).items() if value is not None}
    for key, read in _READERS.items():
        if key in fields:
            return read(fields, f"{path}.{key}" if key != "text" else path)
    if "text" in part:
        return None  # an empty part
    raise make_unknown_error(path, "part", next(iter(fields), None), _READERS)


def _write_in_snake_case(fields: Json) -> Json:
    """Return *fields* with their keys in snake_case; nested objects are not changed."""
    return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): value for key, value in fields.items()}


def _read_member(part: Json, key: str, path: str) -> Json:
    """Return the object under *key* with its keys in snake_case."""
    return _write_in_snake_case(as_mapping(part[key], path, "an object (a dict)"))


def _read_signature(part: Json, path: str) -> tuple[str | None, str | None]:
    value = part.get("thought_signature")
    signature = base64.b64encode(value).decode() if isinstance(value, bytes) else value
    if signature is not None and not isinstance(signature, str):
        raise make_type_error(f"{path}.thought_signature", "base64 text or bytes", value)
    return signature or None, _PROVIDER if signature else None


def _read_text(part: Json, path: str) -> ContentBlock | None:
    text = get_required_text(part, "text", path)
    signature, provider = _read_signature(part, path)
    if part.get("thought"):
        return ThinkingBlock(text, signature, provider=_PROVIDER) if text or signature else None
    return TextBlock(text, signature, provider) if text or signature else None


def _read_inline_data(part: Json, path: str) -> MediaBlock:
    data_fields = _read_member(part, "inline_data", path)
    data = data_fields.get("data")
    text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    if not isinstance(text, str):
        raise make_type_error(f"{path}.data", "base64 text or bytes", data)
    media_type = get_optional_text(data_fields, "mime_type", path) or detect_image_type(text)
    if media_type is None:
        raise make_type_error(f"{path}.mime_type", "a string", None)
    name = get_optional_text(data_fields, "display_name", path)
    return MediaBlock(get_media_kind(media_type), Base64Source(text, media_type), name)


def _read_file_data(part: Json, path: str) -> MediaBlock:
    fields = _read_member(part, "file_data", path)
    source = parse_url(fields.get("file_uri"), f"{path}.file_uri", get_optional_text(fields, "mime_type", path))
    return MediaBlock(get_media_kind(source.media_type), source, get_optional_text(fields, "display_name", path))


def _read_function_call(part: Json, path: str) -> ToolUseBlock:
    call = _read_member(part, "function_call", path)
    arguments, raw = copy_arguments(call.get("args") or {}, None, f"{path}.args")
    signature, provider = _read_signature(part, path)
    call_id = get_optional_text(call, "id", path) or ""
    return ToolUseBlock(call_id, get_required_name(call, "name", path), arguments, signature, provider, raw)


def _read_function_response(part: Json, path: str) -> ToolResultBlock:
    fields = _read_member(part, "function_response", path)
    text, failed = _read_response(fields.get("response"), f"{path}.response")
    pieces = [_write_in_snake_case(piece) for piece in fields.get("parts") or () if isinstance(piece, Mapping)]
    media = [_read_inline_data(piece, path) for piece in pieces if "inline_data" in piece]
    output = (*((TextBlock(text),) if text else ()), *media)
    call_id, name = get_optional_text(fields, "id", path) or "", get_optional_text(fields, "name", path) or ""
    return ToolResultBlock(call_id, name, output, failed)


def _read_response(response: object, path: str) -> tuple[str, bool]:
    """Return the text of a tool's response, under `output`, `result` or `error`, and whether it is an error."""
    if response is None or isinstance(response, str):
        return response or "", False
    fields = as_mapping(response, path, "an object (a dict)")
    failed = fields.keys() == {"error"}
    value = next(iter(fields.values())) if failed or fields.keys() in ({"output"}, {"result"}) else fields
    if isinstance(value, str):
        return value, failed
    try:
        return json.dumps(value, ensure_ascii=False), failed
    except (TypeError, ValueError, RecursionError):
        raise InvalidRequest(f"{path}: expected JSON values only") from None


def _read_code(part: Json, path: str) -> TextBlock:
    fields = _read_member(part, "executable_code", path)
    return TextBlock(f"```{str(fields.get('language') or '').lower()}\n{get_required_text(fields, 'code', path)}\n```")


def _read_code_result(part: Json, path: str) -> TextBlock | None:
    output = get_optional_text(_read_member(part, "code_execution_result", path), "output", path)
    return TextBlock(f"```\n{output}\n```") if output else None


_READERS: dict[str, Callable[[Json, str], ContentBlock | None]] = {
    "function_call": _read_function_call,
    "function_response": _read_function_response,
    "inline_data": _read_inline_data,
    "file_data": _read_file_data,
    "executable_code": _read_code,
    "code_execution_result": _read_code_result,
    "text": _read_text,
}
