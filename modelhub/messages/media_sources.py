"""Read media sources of all dialects: URLs, base64 data, uploaded files and local files."""

from __future__ import annotations

import base64
import mimetypes
import re
from pathlib import PurePath
from typing import Literal
from urllib.parse import unquote, urlsplit

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import Base64Source, FileSource, MediaKind, PathSource, Source, UrlSource
from modelhub.messages.validation import (
    Json,
    as_mapping,
    get_first_alias,
    get_optional_text,
    get_required_name,
    get_required_text,
    make_type_error,
    make_unknown_error,
)

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;.*)?")
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_SOURCE_EXAMPLE = '{"type": "url", "url": ...} or {"type": "base64", "media_type": ..., "data": ...}'
_KINDS: dict[str, MediaKind] = {"image": "image", "audio": "audio", "video": "video"}
_IMAGE_STARTS = {"iVBORw0KGgo": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp"}


def is_address(text: str) -> bool:
    """Return whether *text* is a URL with a scheme such as `https:` or `file:`, and not the data itself."""
    return _SCHEME.match(text) is not None or text[:5].lower() in ("file:", "data:")


def detect_image_type(data: str) -> str | None:
    """Return the media type of an image in base64, by the start of its *data*, or None if it is unknown."""
    return next((media_type for start, media_type in _IMAGE_STARTS.items() if data.startswith(start)), None)


def get_media_kind(media_type: str | None) -> MediaKind:
    """Return what media of *media_type* are; a document if that is not known."""
    return _KINDS.get((media_type or "").partition("/")[0], "document")


def parse_data_url(url: str, path: str, media_type: str | None = None) -> Base64Source:
    """Return the media of a `data:` URL. Raises InvalidRequest."""
    start = url.find(",") + 1
    declared_type, *parameters = url[len("data:") : max(0, start - 1)].split(";")
    resolved_type = media_type or declared_type
    if not 0 < start < len(url) or "base64" not in parameters or not _MEDIA_TYPE.fullmatch(resolved_type):
        raise InvalidRequest(f"{path}: expected a data URL of the form `data:image/png;base64,...`")
    return Base64Source(url, resolved_type, start)


def _make_path_source(
    file_path: str | PurePath, path: str, media_type: str | None, origin: Literal["object", "block", "address"]
) -> PathSource:
    guessed_type = media_type or mimetypes.guess_type(str(file_path), strict=False)[0] or ""
    return PathSource(str(file_path), guessed_type, "object" if isinstance(file_path, PurePath) else origin, path)


def parse_url(url: object, path: str, media_type: str | None = None) -> Source:
    """Return the source of *url*: a URL, a `data:` or `file:` URL, a local path, or an image in base64."""
    if isinstance(url, PurePath):
        return _make_path_source(url, path, media_type, "object")
    if not isinstance(url, str):
        raise make_type_error(path, "a string", url)
    if not url:
        raise InvalidRequest(f"{path}: is empty")
    start = url[:5].lower()
    if start == "data:":
        return parse_data_url(url, path, media_type)
    if start == "file:":
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise InvalidRequest(f"{path}: expected a local file such as `file:///tmp/cat.png`")
        return _make_path_source(re.sub(r"^/(?=[A-Za-z]:)", "", unquote(parts.path)), path, media_type, "address")
    if _SCHEME.match(url):
        return UrlSource(url, media_type)
    if len(url) > 64 and (detected_type := detect_image_type(url)) is not None and _BASE64.fullmatch(url):
        return Base64Source(url, media_type or detected_type)
    return _make_path_source(url, path, media_type, "address")


def _read_base64_source(source: Json, path: str, media_type: str | None) -> Source:
    data = get_required_name(source, "data", path)
    media_type = media_type or detect_image_type(data)
    if media_type is None:
        raise make_type_error(f"{path}.media_type", "a string", None)
    if data.startswith("data:"):
        raise InvalidRequest(f"{path}.data: expected base64 alone, without `data:` before it")
    return Base64Source(data, media_type)


_SOURCE_TYPES = frozenset({"url", "base64", "path", "text", "file"})


def read_source(block: Json, path: str) -> Source:
    """Return the source of *block*: under `source`, or, as MCP servers write it, among the block's own keys."""
    source = block.get("source")
    if isinstance(source, (str, PurePath)):
        return parse_url(source, f"{path}.source")
    if source is None and block.get("url") is not None:
        return parse_url(block["url"], f"{path}.url", _read_media_type(block, path))
    if source is None and isinstance(block.get("data"), str):
        return _read_base64_source(block, path, _read_media_type(block, path))
    path = f"{path}.source"
    return _read_typed_source(as_mapping(source, path, _SOURCE_EXAMPLE), path)


def _read_typed_source(source: Json, path: str) -> Source:
    kind = source.get("type")
    if not isinstance(kind, str) or kind not in _SOURCE_TYPES:
        raise make_unknown_error(f"{path}.type", "type", kind, _SOURCE_TYPES)
    media_type = _read_media_type(source, path)
    if kind == "url":
        return parse_url(source.get("url"), f"{path}.url", media_type)
    if kind == "file":
        return FileSource(get_required_name(source, "file_id", path), "anthropic", media_type)
    if kind == "path":
        file_path = source.get("path")
        if not isinstance(file_path, PurePath):
            file_path = get_required_name(source, "path", path)
        return _make_path_source(file_path, f"{path}.path", media_type, "block")
    if kind == "base64":
        return _read_base64_source(source, path, media_type)
    try:
        data = base64.b64encode(get_required_text(source, "data", path).encode()).decode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{path}.data: holds half of a surrogate pair, which UTF-8 cannot hold") from None
    return Base64Source(data, media_type or "text/plain")


def _read_media_type(source: Json, path: str) -> str | None:
    key = get_first_alias(source, "media_type", get_first_alias(source, "mime_type", "mimeType", path), path)
    media_type = get_optional_text(source, key, path)
    if media_type is None or _MEDIA_TYPE.fullmatch(media_type):
        return media_type
    raise InvalidRequest(f"{path}.media_type: expected a media type such as `image/png`")
