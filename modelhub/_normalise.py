"""The blocks a message is made of, and how each dialect writes them: furniture of `messages`, which says the rules.

A reader takes one part and its place (`messages[2].content[0]`) and gives a block, or None for a part with nothing to
send. A wrong shape raises `InvalidRequest` with the place, what was expected and the type of what was found.
"""

from __future__ import annotations

import json
import math
import mimetypes
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Literal, NoReturn
from urllib.parse import unquote, urlsplit

from modelhub.errors import InvalidRequest

Json = Mapping[str, Any]
Placed = list[tuple[str, "ContentBlock"]]
Kind = Literal["image", "audio", "video", "document"]


@dataclass(frozen=True, slots=True)
class UrlSource:
    """Media at an address the vendor fetches itself."""

    url: str
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class Base64Source:
    """Media in the message. `given` is the `data:` URL it came in, if that is how we would write it: it may be big."""

    data: str
    media_type: str
    given: str | None = field(default=None, repr=False, compare=False)

    @property
    def url(self) -> str:
        """The same as a `data:` URL."""
        return self.given or f"data:{self.media_type};base64,{self.data}"


@dataclass(frozen=True, slots=True)
class PathSource:
    """Media in a local file, read when the request is encoded."""

    path: str
    media_type: str


Source = UrlSource | Base64Source | PathSource


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Text. `signature` is a Gemini thought signature that must go back with it; `cache` an Anthropic cache mark."""

    text: str
    signature: str | None = None
    provider: str | None = None
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ThinkingBlock:
    """What a model thought. `signature` and `data` (redacted thinking) are the vendor's, named in `provider`."""

    thinking: str
    signature: str | None = None
    data: str | None = None
    provider: str | None = None


@dataclass(frozen=True, slots=True)
class ToolUseBlock:
    """The model's wish to run a tool."""

    id: str
    name: str
    input: Mapping[str, Any]
    signature: str | None = None
    provider: str | None = None
    raw_input: str | None = None
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class MediaBlock:
    """An image, a sound, a film or a document."""

    kind: Kind
    source: Source
    name: str | None = None
    detail: str | None = None
    cache: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ToolResultBlock:
    """What a tool gave back: text and media. `name` is the tool's, taken from the call it answers."""

    id: str
    name: str
    output: tuple[TextBlock | MediaBlock, ...]
    is_error: bool = False
    cache: Mapping[str, Any] | None = None


ContentBlock = TextBlock | ThinkingBlock | ToolUseBlock | ToolResultBlock | MediaBlock


# What an error may show: a name. Anything else could be a piece of somebody's prompt.
_NAME = re.compile(r"[\w.:+/-]{1,64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;.*)?")

# Values under otherwise unknown keys that only spell out what is meant without them.
_HARMLESS: Json = {"prefix": False, "caller": {"type": "direct"}}
_REASONS = {
    "file_id": "a file uploaded to one vendor is unknown to the others; send its data or an address",
    "audio": "an earlier spoken answer can only be named to the vendor who gave it; send its text",
}


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
    if isinstance(value, Mapping):
        return value
    dump = None if isinstance(value, type) else getattr(value, "model_dump", None)
    dumped = dump() if callable(dump) else None
    if not isinstance(dumped, Mapping):
        raise wrong(at, expected, value)
    return dumped


def as_sequence(value: object, at: str, expected: str) -> Sequence[Any]:
    """*value* as a sequence; text and bytes are none."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return value
    raise wrong(at, expected, value)


def check_keys(found: Json, allowed: frozenset[str], at: str) -> None:
    """Raises `InvalidRequest` if *found* has a key that is not *allowed* and says something."""
    if found.keys() <= allowed:
        return
    for key, value in found.items():
        if key not in allowed and value is not None and not (key in _HARMLESS and value == _HARMLESS[key]):
            if key in _REASONS:
                raise InvalidRequest(f"{at}: `{key}` cannot be sent: {_REASONS[key]}")
            raise unknown(at, "key", key, allowed)


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


def copied(value: object, at: str) -> dict[str, Any]:
    """A deep copy of the JSON object *value*, of plain dicts and lists."""
    if not isinstance(value, Mapping):
        raise wrong(at, "an object (a dict)", value)
    try:
        return {_key(key): _copied(item) for key, item in value.items()}
    except _NotJson as error:
        raise InvalidRequest(f"{at}: expected JSON values only, found {error}") from None
    except RecursionError:
        raise InvalidRequest(f"{at}: is nested too deep, or contains itself") from None


class _NotJson(Exception):
    pass


def _key(key: object) -> str:
    if isinstance(key, str):
        return key
    raise _NotJson(f"a key of type {named(key)}")


def _copied(value: Any) -> Any:
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, Mapping):
        return {_key(key): _copied(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise _NotJson("a float that is no number" if isinstance(value, float) else named(value))


def read_arguments(arguments: object, at: str) -> tuple[dict[str, Any], str | None]:
    """The arguments of a call, given as JSON text or as a dict, and the text itself where it is no JSON object."""
    if not isinstance(arguments, str):
        return ({}, None) if arguments is None else (copied(arguments, at), None)
    if not arguments.strip():
        return {}, None
    try:
        parsed = json.loads(arguments, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        parsed = None
    return (parsed, None) if isinstance(parsed, dict) else ({}, arguments)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are no JSON: a vendor would refuse them


# Sources

_SOURCE = '{"type": "url", "url": ...} or {"type": "base64", "media_type": ..., "data": ...}'


def _media_type(given: str | None, at: str) -> str | None:
    if given is None or _MEDIA_TYPE.fullmatch(given):
        return given
    raise InvalidRequest(f"{at}.media_type: expected a media type such as `image/png`")


def _from_data_url(url: str, at: str, media_type: str | None = None) -> Base64Source:
    head, _, data = url.partition(",")
    given, *parameters = head[len("data:") :].split(";")
    found = media_type or given
    if not data or "base64" not in parameters or not _MEDIA_TYPE.fullmatch(found):
        raise InvalidRequest(f"{at}: expected a data URL of the form `data:image/png;base64,...`")
    return Base64Source(data, found, url if url.startswith(f"data:{found};base64,") else None)


def _from_path(path: str, at: str, media_type: str | None = None) -> PathSource:
    found = media_type or mimetypes.guess_type(path, strict=False)[0]
    if found is None:
        raise InvalidRequest(
            f"{at}: is no address and no `data:` URL, and as a file its name tells no media type: give `media_type`"
        )
    return PathSource(path, found)


def _from_file_url(url: str, at: str, media_type: str | None = None) -> PathSource:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise InvalidRequest(f"{at}: expected a local file such as `file:///tmp/cat.png`")
    return _from_path(re.sub(r"^/(?=[A-Za-z]:)", "", unquote(parts.path)), at, media_type)


def from_url(url: str, at: str, media_type: str | None = None) -> Source:
    """The source at *url*: an address, a `data:` URL, a `file:` URL or a plain path."""
    start = url[:5].lower()
    if start == "data:":
        return _from_data_url(url, at, media_type)
    if start == "file:":
        return _from_file_url(url, at, media_type)
    if _SCHEME.match(url):
        return UrlSource(url, media_type)
    return _from_path(url, at, media_type)


def _url_source(source: Json, at: str, media_type: str | None) -> Source:
    return from_url(required_name(source, "url", at), f"{at}.url", media_type)


def _base64_source(source: Json, at: str, media_type: str | None) -> Source:
    data = required_name(source, "data", at)
    if media_type is None:
        raise wrong(f"{at}.media_type", "a string", None)
    if data.startswith("data:"):
        raise InvalidRequest(f"{at}.data: expected base64 alone, without `data:` before it")
    return Base64Source(data, media_type)


def _path_source(source: Json, at: str, media_type: str | None) -> Source:
    return _from_path(required_name(source, "path", at), f"{at}.path", media_type)


_SOURCES: dict[str, tuple[frozenset[str], Callable[[Json, str, str | None], Source]]] = {
    "url": (frozenset({"type", "url", "media_type"}), _url_source),
    "base64": (frozenset({"type", "media_type", "data"}), _base64_source),
    "path": (frozenset({"type", "path", "media_type"}), _path_source),
}


def _source(block: Json, at: str) -> Source:
    at = f"{at}.source"
    source = as_mapping(block.get("source"), at, _SOURCE)
    kind = source.get("type")
    if not isinstance(kind, str) or kind not in _SOURCES:
        raise unknown(f"{at}.type", "type", kind, _SOURCES)
    keys, read = _SOURCES[kind]
    check_keys(source, keys, at)
    return read(source, at, _media_type(optional_text(source, "media_type", at), at))


# Parts


def _cache(block: Json, at: str) -> Json | None:
    mark = block.get("cache_control")
    if mark is None and block.get("prompt_cache_breakpoint") is not None:
        return {"type": "ephemeral"}  # OpenAI's way of marking the same place
    return None if mark is None else copied(mark, f"{at}.cache_control")


def _signed(block: Json, at: str, usual: str) -> tuple[str | None, str | None]:
    # A signature without its provider was not written by us: then only the vendor who writes this kind is meant.
    signature = optional_text(block, either(block, "signature", "thought_signature", at), at)
    return signature, optional_text(block, "provider", at) or (usual if signature else None)


def _text(block: Json, at: str) -> TextBlock | None:
    text = required_text(block, "text", at)
    signature, provider = _signed(block, at, "gemini")
    return TextBlock(text, signature, provider, _cache(block, at)) if text or signature else None


def _refusal(block: Json, at: str) -> TextBlock | None:
    text = required_text(block, "refusal", at)
    return TextBlock(text) if text else None


def _thinking(block: Json, at: str) -> ThinkingBlock | None:
    text = required_text(block, "thinking", at)
    data = optional_text(block, "data", at)
    signature, provider = _signed(block, at, "anthropic")
    return ThinkingBlock(text, signature, data, provider) if text or signature or data else None


def _redacted_thinking(block: Json, at: str) -> ThinkingBlock:
    provider = optional_text(block, "provider", at) or "anthropic"
    return ThinkingBlock("", data=required_name(block, "data", at), provider=provider)


def _tool_use(block: Json, at: str) -> ToolUseBlock:
    signature, provider = _signed(block, at, "gemini")
    return ToolUseBlock(
        optional_text(block, "id", at) or "",
        required_name(block, "name", at),
        copied(block.get("input"), f"{at}.input"),
        signature,
        provider,
        optional_text(block, "raw_input", at),
        _cache(block, at),
    )


def _tool_result(block: Json, at: str) -> ToolResultBlock:
    key = either(block, "output", "content", at)
    failed = block.get("is_error")
    if failed is not None and not isinstance(failed, bool):
        raise wrong(f"{at}.is_error", "true or false", failed)
    return ToolResultBlock(
        optional_text(block, either(block, "tool_use_id", "id", at), at) or "",
        optional_text(block, "name", at) or "",
        read_output(block.get(key), f"{at}.{key}"),
        failed or False,
        _cache(block, at),
    )


def _media(kind: Kind) -> Reader:
    def read(block: Json, at: str) -> MediaBlock:
        name = optional_text(block, either(block, "name", "title", at), at)
        return MediaBlock(kind, _source(block, at), name, optional_text(block, "detail", at), _cache(block, at))

    return read


def _file(block: Json, at: str) -> MediaBlock:
    if either(block, "file", "source", at) == "file":
        return _openai_file(block, at)
    source = _source(block, at)
    name = optional_text(block, either(block, "name", "filename", at), at)
    return MediaBlock(_kind_of(source), source, name, cache=_cache(block, at))


def _kind_of(source: Source) -> Kind:
    return _KINDS.get((source.media_type or "").partition("/")[0], "document")


def _openai_file(block: Json, at: str) -> MediaBlock:
    inner = f"{at}.file"
    found = as_mapping(block["file"], inner, '{"file_data": ..., "filename": ...}')
    check_keys(found, frozenset({"file_data", "filename"}), inner)
    data, name = required_name(found, "file_data", inner), optional_text(found, "filename", inner)
    if not data.startswith("data:"):  # some servers take bare base64, and the name says what it is
        data = f"data:{mimetypes.guess_type(name or '', strict=False)[0] or 'application/pdf'};base64,{data}"
    source = _from_data_url(data, f"{inner}.file_data")
    return MediaBlock(_kind_of(source), source, name, cache=_cache(block, at))


def _openai_url(key: str, kind: Kind) -> Reader:
    def read(block: Json, at: str) -> MediaBlock:
        inner, found = f"{at}.{key}", block.get(key)
        if isinstance(found, str):
            found = {"url": found}
        found = as_mapping(found, inner, '{"url": ...}')
        check_keys(found, frozenset({"url", "detail"}), inner)
        source = from_url(required_name(found, "url", inner), f"{inner}.url")
        return MediaBlock(kind, source, detail=optional_text(found, "detail", inner), cache=_cache(block, at))

    return read


def _input_audio(block: Json, at: str) -> MediaBlock:
    inner = f"{at}.input_audio"
    found = as_mapping(block.get("input_audio"), inner, '{"data": ..., "format": ...}')
    check_keys(found, frozenset({"data", "format"}), inner)
    data, written = required_name(found, "data", inner), optional_text(found, "format", inner)
    media_type = written and {"mp3": "audio/mpeg"}.get(written, f"audio/{written}")
    if data.startswith("data:") or _SCHEME.match(data):
        return MediaBlock("audio", from_url(data, f"{inner}.data", media_type), cache=_cache(block, at))
    if media_type is None:
        raise wrong(f"{inner}.format", "a string", None)
    return MediaBlock("audio", Base64Source(data, media_type), cache=_cache(block, at))


_KINDS: dict[str, Kind] = {"image": "image", "audio": "audio", "video": "video"}
Reader = Callable[[Json, str], "ContentBlock | None"]
_SIGNED = {"type", "signature", "thought_signature", "provider"}
_CACHE = ("cache_control", "prompt_cache_breakpoint")
_MEDIA = frozenset({"type", "source", "name", "title", "detail", "cache_control"})

# `annotations` and `citations` say where a model's text came from; `error` says why its arguments were unreadable.
_PARTS: dict[str, tuple[frozenset[str], Reader]] = {
    "text": (frozenset({*_SIGNED, "text", *_CACHE, "annotations", "citations"}), _text),
    "refusal": (frozenset({"type", "refusal"}), _refusal),
    "thinking": (frozenset({*_SIGNED, "thinking", "data"}), _thinking),
    "redacted_thinking": (frozenset({"type", "data", "provider"}), _redacted_thinking),
    "tool_use": (frozenset({*_SIGNED, "id", "name", "input", "raw_input", "error", "cache_control"}), _tool_use),
    "tool_result": (
        frozenset({"type", "id", "tool_use_id", "name", "output", "content", "is_error", "cache_control"}),
        _tool_result,
    ),
    "image": (_MEDIA, _media("image")),
    "audio": (_MEDIA, _media("audio")),
    "video": (_MEDIA, _media("video")),
    "document": (_MEDIA, _media("document")),
    "file": (frozenset({"type", "source", "file", "name", "filename", "cache_control"}), _file),
    "image_url": (frozenset({"type", "image_url", "cache_control"}), _openai_url("image_url", "image")),
    "video_url": (frozenset({"type", "video_url", "cache_control"}), _openai_url("video_url", "video")),
    "input_audio": (frozenset({"type", "input_audio", "cache_control"}), _input_audio),
}


def _part(part: object, at: str) -> ContentBlock | None:
    if isinstance(part, str):
        return TextBlock(part) if part else None
    found = as_mapping(part, at, "a string or a dict with `type`")
    kind = found.get("type")
    if not isinstance(kind, str) or kind not in _PARTS:
        raise unknown(f"{at}.type", "type", kind, _PARTS)
    keys, read = _PARTS[kind]
    check_keys(found, keys, at)
    return read(found, at)


def read_content(content: object, at: str) -> Placed:
    """The blocks of *content*, each with its place; parts with nothing to send are left out."""
    if content is None or isinstance(content, str):
        return [(at, TextBlock(content))] if content else []
    parts = as_sequence(content, at, "a string or a list of parts")
    places = [f"{at}[{index}]" for index in range(len(parts))]
    read = [(place, _part(part, place)) for place, part in zip(places, parts, strict=True)]
    return [(place, block) for place, block in read if block is not None]


def read_output(output: object, at: str) -> tuple[TextBlock | MediaBlock, ...]:
    """What a tool gave back: text and media only."""
    blocks: list[TextBlock | MediaBlock] = []
    for place, block in read_content(output, at):
        if not isinstance(block, (TextBlock, MediaBlock)):
            raise InvalidRequest(f"{place}: a tool result holds text and media only")
        blocks.append(block)
    return tuple(blocks)
