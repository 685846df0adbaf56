"""Make messages and options safe to write as JSON in UTF-8: check the caller's, repair a model's.

A text, option or schema of the caller that cannot be sent raises `InvalidRequest` with its path. In a model's messages
it is repaired instead: the caller could not fix them, and the conversation must go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from operator import is_
from typing import Any, NoReturn, TypeVar

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    FileSource,
    MediaBlock,
    PathSource,
    ProviderItemBlock,
    TextBlock,
    ThinkingBlock,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.messages.validation import format_type_name

__all__ = [
    "MAX_DEPTH",
    "change_texts",
    "check_options",
    "check_text",
    "copy_arguments",
    "copy_json",
    "parse_arguments",
    "repair_text",
    "safe_call_id",
]

MAX_DEPTH = 100
"""The greatest depth of nested JSON: encoders and servers have various limits beyond it."""
MAX_INTEGER_BITS = 1023
"""The largest integer that every JSON parser can at least convert to a float."""

_T = TypeVar("_T")

# -- text --------------------------------------------------------------------------------------------------------------


def _is_writable(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def repair_text(text: str) -> str:
    """Return *text* with surrogate pairs joined and each lone surrogate replaced by U+FFFD."""
    if _is_writable(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def check_text(text: str, path: str) -> str:
    """Return *text* with surrogate pairs joined. Raises InvalidRequest for a lone surrogate."""
    if _is_writable(text):
        return text
    joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    try:
        joined.encode()
    except UnicodeEncodeError as error:
        code = ord(joined[error.start])
        raise InvalidRequest(
            f"{path}: character {error.start} is half of a surrogate pair (U+{code:04X}), which no JSON can hold: "
            "replace it, for example with `text.encode('utf-8', 'replace').decode()`"
        ) from None
    return joined


def safe_call_id(call_id: str) -> str:
    """Return *call_id*, or a hash of it if UTF-8 cannot hold it; the same for a call and its result."""
    if _is_writable(call_id):
        return call_id
    return "call_" + hashlib.sha256(call_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]


# -- JSON --------------------------------------------------------------------------------------------------------------


class _NotJson(Exception):
    pass


def copy_json(value: object, path: str) -> dict[str, Any]:
    """Return a deep copy of the JSON object *value*, of plain dicts and lists. Raises InvalidRequest for other data."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{path}: expected an object (a dict), got {format_type_name(value)}")
    try:
        copied: dict[str, Any] = _copy(value, 0, _join_surrogates)
    except _NotJson as error:
        raise InvalidRequest(f"{path}: expected JSON values only, found {error}") from None
    return copied


def _copy(value: Any, depth: int, write: Callable[[str], str]) -> Any:
    """Copy JSON; *write* checks or repairs text that is not ASCII. Raises _NotJson."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else write(value)
    if value is None or kind is bool or kind is int:
        return value if kind is not int or -(2**63) <= value < 2**64 else _check_integer(value)
    if depth >= MAX_DEPTH:
        raise _NotJson(f"more than {MAX_DEPTH} levels, or something that contains itself")
    if isinstance(value, Mapping):
        copied: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise _NotJson(f"a key of type {format_type_name(key)}")
            copied[key if key.isascii() else write(key)] = _copy(item, depth + 1, write)
        return copied
    if isinstance(value, (list, tuple)):
        return [_copy(item, depth + 1, write) for item in value]
    return _copy_scalar(value, write)


def _join_surrogates(text: str) -> str:
    try:
        return check_text(text, "text")
    except InvalidRequest:
        raise _NotJson("half of a surrogate pair, which UTF-8 cannot hold") from None


def _check_integer(value: int) -> int:
    if value.bit_length() > MAX_INTEGER_BITS:
        raise _NotJson(f"an integer of {value.bit_length()} bits")
    return value


def _copy_scalar(value: Any, write: Callable[[str], str]) -> Any:
    if isinstance(value, str):  # an enum's member, say
        return write(str.__str__(value))
    if isinstance(value, int):
        return _check_integer(int(value))
    if not isinstance(value, float):
        raise _NotJson(format_type_name(value))
    if not math.isfinite(value):
        raise _NotJson("a float that is no number")
    return value


# -- the arguments of a call -------------------------------------------------------------------------------------------

# What Python's parser accepts but no vendor does: numbers beyond a float's range, lone surrogates.
_SUSPECT_NUMBER = re.compile(r"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{300}")


def parse_arguments(text: str) -> tuple[dict[str, Any], str | None]:
    """Return the JSON object in *text* and None; or, if it is not a valid object, an empty dict and the text."""
    text = repair_text(text)
    if not text.strip():
        return {}, None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return {}, text
    if _SUSPECT_NUMBER.search(text) or text.count("{") + text.count("[") > MAX_DEPTH:
        return _copy_lenient(value, text)
    return value, None


def copy_arguments(value: object, text: str | None, path: str) -> tuple[dict[str, Any], str | None]:
    """Return a copy of a call's arguments and None; or an empty dict and their text, if they cannot be sent.

    *text* is the model's original text, if it is known. Raises InvalidRequest if *value* is not a mapping.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"{path}: expected an object (a dict), got {format_type_name(value)}")
    if not value:
        return ({}, None) if not text else ({}, parse_arguments(text)[1])
    return _copy_lenient(value, text)


def _copy_lenient(value: Mapping[str, Any], text: str | None) -> tuple[dict[str, Any], str | None]:
    with contextlib.suppress(_NotJson):
        return _copy(value, 0, repair_text), None
    if not text:
        try:
            text = json.dumps(value, ensure_ascii=False, default=format_type_name, skipkeys=True)
        except (RecursionError, ValueError):
            text = "(arguments that are nested too deep to be written)"
    return {}, repair_text(text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON: a vendor would refuse them


# -- blocks ------------------------------------------------------------------------------------------------------------

_TEXT_FIELDS: dict[type, tuple[str, ...]] = {
    TextBlock: ("text", "signature"),
    ThinkingBlock: ("thinking", "signature", "data"),
    ToolUseBlock: ("name", "signature"),
    ToolResultBlock: (),
    MediaBlock: ("name", "detail"),
    ProviderItemBlock: (),
    UrlSource: ("url", "media_type"),
    Base64Source: ("text", "media_type"),
    PathSource: (),
    FileSource: ("file_id", "provider", "media_type"),
}


def change_texts(block: ContentBlock, change: Callable[[str], str]) -> ContentBlock:
    """Return *block* with what *change* makes of each text that is not ASCII, such as `repair_text`."""
    block = _change_fields(block, change)
    if isinstance(block, MediaBlock):
        source = _change_fields(block.source, change)
        return block if source is block.source else replace(block, source=source)
    if isinstance(block, ToolResultBlock):
        output = tuple(change_texts(part, change) for part in block.output)
        return block if all(map(is_, output, block.output)) else replace(block, output=output)  # type: ignore[arg-type]
    return block


def _change_fields(value: _T, change: Callable[[str], str]) -> _T:
    for name in _TEXT_FIELDS[type(value)]:
        text = getattr(value, name)
        if text is not None and not text.isascii() and (changed := change(text)) is not text:
            value = replace(value, **{name: changed})  # type: ignore[type-var]
    return value


# -- options -----------------------------------------------------------------------------------------------------------

_OBJECT_OPTIONS = frozenset({"http_options", "response_schema", "tools", "safety_settings", "httpx_client"})
"""Options whose values may be objects of the vendors' SDKs and of HTTP libraries."""
_SDK_PACKAGES = frozenset({"openai", "anthropic", "google", "dashscope", "ollama", "httpx", "httpx2", "aiohttp"})
_HEADER = re.compile(r"[\t\x20-\x7e]*")


def check_options(options: Mapping[str, Any]) -> None:
    """Check the keyword arguments of a call that are sent to the vendor.

    Raises InvalidRequest, with the path, for anything that is not JSON: NaN, bytes, sets, huge integers, lone
    surrogates, objects, more than `MAX_DEPTH` levels; and for invalid headers.
    """
    for name, value in options.items():
        kind = type(value)
        if value is None or kind is bool or (kind is str and value.isascii()):
            continue
        if name == "extra_headers":
            _check_headers(value, name)
        else:
            _check_option(value, name, 0, name in _OBJECT_OPTIONS)


def _check_headers(headers: Any, path: str) -> None:
    if not isinstance(headers, Mapping):
        raise InvalidRequest(f"{path}: expected a dict of names and values, got {format_type_name(headers)}")
    for name, value in headers.items():
        if not isinstance(name, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
            raise InvalidRequest(f"{path}: expected names of letters, digits and dashes")
        text = value.decode("latin1") if isinstance(value, bytes) else value
        if isinstance(text, str) and not _HEADER.fullmatch(text):
            raise InvalidRequest(f"{path}.{name}: a header holds printable ASCII only, without line breaks")


def _check_option(value: Any, path: str, depth: int, objects: bool) -> None:
    if isinstance(value, str):
        check_text(value, path)
    elif depth >= MAX_DEPTH:
        name = re.split(r"[.\[]", path)[0]
        raise InvalidRequest(f"{name}: is nested more than {MAX_DEPTH} levels deep, or contains itself")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, (str, int)):
                raise InvalidRequest(f"{path}: expected names as keys, found {format_type_name(key)}")
            name = str(key)[:64]
            if not _is_writable(name):
                raise InvalidRequest("a key holds half of a surrogate pair, which UTF-8 cannot hold")
            _check_option(item, f"{path}.{name}", depth + 1, objects)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            _check_option(item, f"{path}[{index}]", depth + 1, objects)
    else:
        _check_scalar(value, path, objects)


def _check_scalar(value: Any, path: str, objects: bool) -> None:
    if value is None or isinstance(value, bool):
        return
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise InvalidRequest(f"{path}: an integer of {value.bit_length()} bits is more than any vendor reads")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidRequest(f"{path}: expected a JSON number, got {value}")
    if isinstance(value, (int, float)):
        return
    if not isinstance(value, (bytes, bytearray, memoryview, set, frozenset)):
        package = type(value).__module__.partition(".")[0]
        if objects or package in _SDK_PACKAGES or hasattr(value, "model_dump"):
            return
    hint = ": give a list" if isinstance(value, (set, frozenset)) else ""
    raise InvalidRequest(f"{path}: expected a JSON value, got {format_type_name(value)}{hint}")
