"""Data on its way to options: what stands where, where it came from, and how messages call it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelhub.config.secrets import is_secret
from modelhub.config.source import Path

__all__ = ["LocatedData", "followed", "is_secret_path", "nulls", "texts", "value_at", "where"]

_NAMED = {"models": "model", "chains": "chain", "limits": "limit"}


@dataclass(frozen=True, slots=True)
class LocatedData:
    """Data to validate, and where its parts stand in the file: `sources` has the paths that came from elsewhere."""

    data: dict[str, Any]
    sources: Mapping[Path, Path] = field(default_factory=dict)

    def in_file(self, path: Path) -> Path:
        """The path in the file of *path* in the data."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.sources:
                return self.sources[path[:length]] + path[length:]
        return path

    def without(self, paths: Iterable[Path]) -> LocatedData:
        """The same, without the values at *paths*; a list without one of its items would be another list."""
        gone = {path[:-1] if path and isinstance(path[-1], int) else path for path in paths}
        return LocatedData(_without(self.data, gone, ()), self.sources)


def _without(data: Any, paths: set[Path], here: Path) -> Any:
    if isinstance(data, dict):
        kept = ((key, value) for key, value in data.items() if (*here, key) not in paths)
        return {key: _without(value, paths, (*here, key)) for key, value in kept}
    if isinstance(data, list):
        return [_without(value, paths, (*here, index)) for index, value in enumerate(data)]
    return data


def where(path: Path) -> str:
    """How a message calls the mapping at *path*."""
    if not path:
        return "the file"
    named = path[0] in _NAMED and len(path) > 1
    told = f"{_NAMED[str(path[0])]} `{path[1]}`" if named else f"`{path[0]}`"
    for part in path[2 if named else 1 :]:
        told = f"item {part + 1} of {told}" if isinstance(part, int) else f"`{part}` of {told}"
    return told


def is_secret_path(path: Path) -> bool:
    """Whether the value at *path* must not be shown."""
    inside = path[2:] if path and path[0] in _NAMED else path
    return any(is_secret(part) for part in inside if isinstance(part, str))


def value_at(data: Any, path: Path) -> Any:
    """What stands at *path* in *data*, None if nothing does."""
    for part in path:
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return None
    return data


def nulls(data: Any, here: Path = ()) -> Iterator[Path]:
    """The path of every null in *data*."""
    if data is None:
        yield here
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from nulls(value, (*here, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from nulls(value, (*here, index))


def texts(data: Any, here: Path) -> Iterator[tuple[Path, str]]:
    """Every text in *data* with its path, which begins with *here*."""
    if isinstance(data, str):
        yield here, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from texts(value, (*here, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from texts(value, (*here, index))


def followed(loc: Sequence[str | int], data: Any, *, missing: bool) -> Path:
    """*loc* without what pydantic puts between the keys: the names of a union's branches."""
    path: list[str | int] = []
    for part in loc[:-1] if missing else loc:
        inside = isinstance(data, dict) and part in data
        if inside or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            path.append(part)
    return (*path, loc[-1]) if missing else tuple(path)
