"""Where media are, as each dialect writes it: an address, base64 in the message, an uploaded or a local file."""

from __future__ import annotations

import base64
import mimetypes
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Literal
from urllib.parse import unquote, urlsplit

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import Base64Source, FileSource, PathSource, Source, UrlSource
from modelhub.messages.validation import (
    Json,
    as_mapping,
    either,
    optional_text,
    required_name,
    required_text,
    unknown,
    wrong,
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;.*)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_SOURCE = '{"type": "url", "url": ...} or {"type": "base64", "media_type": ..., "data": ...}'
_IMAGE_STARTS = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}


def is_address(text: str) -> bool:
    """Whether *text* says where data are, with a scheme such as `https:` or `file:`, and is not the data."""
    return _SCHEME.match(text) is not None or text[:5].lower() in ("file:", "data:")


def image_type(data: str) -> str | None:
    """The media type of an image in base64, by how its *data* begin; None for what is none of the usual."""
    return next((kind for start, kind in _IMAGE_STARTS.items() if data.startswith(start)), None)


def _media_type(given: str | None, at: str) -> str | None:
    if given is None or _MEDIA_TYPE.fullmatch(given):
        return given
    raise InvalidRequest(f"{at}.media_type: expected a media type such as `image/png`")


def from_data_url(url: str, at: str, media_type: str | None = None) -> Base64Source:
    """The media in a `data:` URL."""
    start = url.find(",") + 1
    given, *parameters = url[len("data:") : max(0, start - 1)].split(";")
    found = media_type or given
    if not 0 < start < len(url) or "base64" not in parameters or not _MEDIA_TYPE.fullmatch(found):
        raise InvalidRequest(f"{at}: expected a data URL of the form `data:image/png;base64,...`")
    return Base64Source(url, found, start)


def _from_path(
    path: str | PurePath, at: str, media_type: str | None, origin: Literal["object", "block", "address"]
) -> PathSource:
    guessed = media_type or mimetypes.guess_type(str(path), strict=False)[0] or ""
    return PathSource(str(path), guessed, "object" if isinstance(path, PurePath) else origin, at)


def _from_file_url(url: str, at: str, media_type: str | None = None) -> PathSource:
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path:
        raise InvalidRequest(f"{at}: expected a local file such as `file:///tmp/cat.png`")
    return _from_path(re.sub(r"^/(?=[A-Za-z]:)", "", unquote(parts.path)), at, media_type, "address")


def from_url(url: object, at: str, media_type: str | None = None) -> Source:
    """The source at *url*: an address, a `data:` URL, a `file:` URL, a path, or an image's base64 as it is."""
    if isinstance(url, PurePath):
        return _from_path(url, at, media_type, "object")
    if not isinstance(url, str):
        raise wrong(at, "a string", url)
    if not url:
        raise InvalidRequest(f"{at}: is empty")
    start = url[:5].lower()
    if start == "data:":
        return from_data_url(url, at, media_type)
    if start == "file:":
        return _from_file_url(url, at, media_type)
    if _SCHEME.match(url):
        return UrlSource(url, media_type)
    if len(url) > 64 and (sniffed := image_type(url)) is not None and _BASE64.fullmatch(url):
        return Base64Source(url, media_type or sniffed)
    return _from_path(url, at, media_type, "address")


def _url_source(source: Json, at: str, media_type: str | None) -> Source:
    return from_url(source.get("url"), f"{at}.url", media_type)


def _base64_source(source: Json, at: str, media_type: str | None) -> Source:
    data = required_name(source, "data", at)
    media_type = media_type or image_type(data)
    if media_type is None:
        raise wrong(f"{at}.media_type", "a string", None)
    if data.startswith("data:"):
        raise InvalidRequest(f"{at}.data: expected base64 alone, without `data:` before it")
    return Base64Source(data, media_type)


def _path_source(source: Json, at: str, media_type: str | None) -> Source:
    path = source.get("path")
    if not isinstance(path, PurePath):
        path = required_name(source, "path", at)
    return _from_path(path, f"{at}.path", media_type, "block")


def _text_source(source: Json, at: str, media_type: str | None) -> Source:
    text = required_text(source, "data", at)
    try:
        return Base64Source(base64.b64encode(text.encode()).decode(), media_type or "text/plain")
    except UnicodeEncodeError:
        raise InvalidRequest(f"{at}.data: holds half of a surrogate pair, which UTF-8 cannot hold") from None


def _file_source(source: Json, at: str, media_type: str | None) -> Source:
    return FileSource(required_name(source, "file_id", at), "anthropic", media_type)


_SOURCES: dict[str, Callable[[Json, str, str | None], Source]] = {
    "url": _url_source,
    "base64": _base64_source,
    "path": _path_source,
    "text": _text_source,
    "file": _file_source,
}


def read_source(block: Json, at: str) -> Source:
    """The source of the part *block*: under `source`, or, as MCP's servers write it, beside the part's own keys."""
    source = block.get("source")
    if isinstance(source, (str, PurePath)):
        return from_url(source, f"{at}.source")
    if source is None and block.get("url") is not None:
        return from_url(block["url"], f"{at}.url", _mime_type(block, at))
    if source is None and isinstance(block.get("data"), str):
        return _base64_source(block, at, _mime_type(block, at))
    at = f"{at}.source"
    source = as_mapping(source, at, _SOURCE)
    kind = source.get("type")
    if not isinstance(kind, str) or kind not in _SOURCES:
        raise unknown(f"{at}.type", "type", kind, _SOURCES)
    return _SOURCES[kind](source, at, _mime_type(source, at))


def _mime_type(found: Json, at: str) -> str | None:
    key = either(found, "media_type", either(found, "mime_type", "mimeType", at), at)
    return _media_type(optional_text(found, key, at), at)
