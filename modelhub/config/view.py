"""Data to validate, with the path in the file of every value, and how messages name paths."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from modelhub.config.secrets import is_plain_key_field, is_secret
from modelhub.config.source import Path

__all__ = [
    "LocatedData",
    "change_texts",
    "describe_path",
    "find_data_path",
    "get_value",
    "is_secret_path",
    "walk_leaves",
]

_ENTRY_KINDS = {"models": "model", "chains": "chain", "limits": "limit"}


class LocatedData(NamedTuple):
    """Data to validate. `sources` maps paths in the data to paths in the file, where they differ."""

    data: dict[str, Any]
    sources: Mapping[Path, Path] = MappingProxyType({})

    def source_path(self, path: Path) -> Path:
        """Return the path in the file of *path* in the data."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.sources:
                return self.sources[path[:length]] + path[length:]
        return path

    def without(self, paths: Iterable[Path]) -> LocatedData:
        """Return a copy without the values at *paths*; for an item of a list, without the whole list."""
        removed = {path[:-1] if path and isinstance(path[-1], int) else path for path in paths}
        return LocatedData(_remove_paths(self.data, removed, ()), self.sources)


def _remove_paths(data: Any, paths: set[Path], path: Path) -> Any:
    if isinstance(data, dict):
        remaining = ((key, value) for key, value in data.items() if (*path, key) not in paths)
        return {key: _remove_paths(value, paths, (*path, key)) for key, value in remaining}
    if isinstance(data, list):
        return [_remove_paths(value, paths, (*path, index)) for index, value in enumerate(data)]
    return data


def describe_path(path: Path) -> str:
    """Return how a message names the mapping at *path*, such as "`retry` of model `gpt`"."""
    if not path:
        return "the file"
    is_entry = path[0] in _ENTRY_KINDS and len(path) > 1
    description = f"{_ENTRY_KINDS[str(path[0])]} `{path[1]}`" if is_entry else f"`{path[0]}`"
    for part in path[2 if is_entry else 1 :]:
        description = f"item {part + 1} of {description}" if isinstance(part, int) else f"`{part}` of {description}"
    return description


def is_secret_path(path: Path) -> bool:
    """Return whether the value at *path* must not be shown."""
    if is_plain_key_field(path):
        return False
    if path[:1] == ("secrets",):
        return False  # the section says how secrets are renewed, and has none
    keys = path[2:] if path and path[0] in _ENTRY_KINDS else path
    return any(is_secret(part) for part in keys if isinstance(part, str))


def get_value(data: Any, path: Path) -> Any:
    """Return the value at *path* in *data*, or None if there is none."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def walk_leaves(data: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value in *data* but lists and mappings that hold others, with its path, which begins with *path*."""
    if isinstance(data, dict) and data:
        for key, value in data.items():
            yield from walk_leaves(value, (*path, key))
    elif isinstance(data, list) and data:
        for index, value in enumerate(data):
            yield from walk_leaves(value, (*path, index))
    else:
        yield path, data


def change_texts(data: Any, change: Callable[[str, Path], Any], path: Path = ()) -> Any:
    """Return a copy of *data* with what *change* makes of each text, given its path, which begins with *path*."""
    if isinstance(data, str):
        return change(data, path)
    if isinstance(data, dict):
        return {key: change_texts(value, change, (*path, key)) for key, value in data.items()}
    if isinstance(data, list):
        return [change_texts(value, change, (*path, index)) for index, value in enumerate(data)]
    return data


def find_data_path(loc: Sequence[str | int], data: Any, *, missing: bool) -> Path:
    """Return pydantic's *loc* as a path in *data*, without the names of union branches that pydantic inserts."""
    path: list[str | int] = []
    for part in loc[:-1] if missing else loc:
        is_key = isinstance(data, dict) and part in data
        if is_key or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            path.append(part)
    return (*path, loc[-1]) if missing else tuple(path)
