"""Where media are, as each dialect writes it: an address, base64 in the message, or a local file."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from modelhub._shapes import Json, as_mapping, check_keys, optional_text, required_name, unknown, wrong
from modelhub.blocks import Base64Source, PathSource, Source, UrlSource
from modelhub.errors import InvalidRequest

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;.*)?")
_SOURCE = '{"type": "url", "url": ...} or {"type": "base64", "media_type": ..., "data": ...}'


def has_scheme(text: str) -> bool:
    """Whether *text* is an address, such as `https://...`."""
    return _SCHEME.match(text) is not None


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
        return from_data_url(url, at, media_type)
    if start == "file:":
        return _from_file_url(url, at, media_type)
    if has_scheme(url):
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


def read_source(block: Json, at: str) -> Source:
    """The source of the part *block*."""
    at = f"{at}.source"
    source = as_mapping(block.get("source"), at, _SOURCE)
    kind = source.get("type")
    if not isinstance(kind, str) or kind not in _SOURCES:
        raise unknown(f"{at}.type", "type", kind, _SOURCES)
    keys, read = _SOURCES[kind]
    check_keys(source, keys, at)
    return read(source, at, _media_type(optional_text(source, "media_type", at), at))
