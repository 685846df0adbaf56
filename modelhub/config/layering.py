"""Put documents on top of each other: the files that a file includes, the file itself, and a profile of it.

Mappings are merged key by key; anything else, lists too, is replaced as a whole by what comes later. A key that is
`null` in a later one is removed. Every value keeps the place in the file where it is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.config.source import Document, Path, Place

__all__ = ["move_to_top", "put_on_top"]


def put_on_top(lower: Document, upper: Document) -> Document:
    """Return *lower* with *upper* on top of it; both belong to the same report."""
    merged = _Merged(lower, upper)
    return Document(upper.sources, merged.data, merged.places, merged.empty)


def move_to_top(document: Document, path: Path) -> Document:
    """Return the mapping at *path* of *document* as a document of its own."""
    data = document.data
    for part in path:
        data = data[part]
    length = len(path)
    places = {place[length:]: value for place, value in document.places.items() if place[:length] == path}
    empty = {place[length:] for place in document.empty if place[:length] == path}
    return Document(document.sources, data, places, empty)


class _Merged:
    """The data, the places and the empty values of two documents together."""

    def __init__(self, lower: Document, upper: Document) -> None:
        self._lower, self._upper = lower, upper
        self.places: dict[Path, Place] = {}
        self.empty: set[Path] = set()
        self.data = self._merge(lower.data, upper.data, ())

    def _merge(self, lower: Mapping[str, Any], upper: Mapping[str, Any], path: Path) -> dict[str, Any]:
        self._copy_place(self._upper if path in self._upper.places else self._lower, path)
        data: dict[str, Any] = {}
        for key in dict.fromkeys([*lower, *upper]):
            inner = (*path, key)
            if key not in upper:
                data[key] = self._copy(self._lower, lower[key], inner)
            elif isinstance(lower.get(key), Mapping) and isinstance(upper[key], Mapping):
                data[key] = self._merge(lower[key], upper[key], inner)
            elif upper[key] is not None or key not in lower or inner in self._upper.empty:
                data[key] = self._copy(self._upper, upper[key], inner)
        return data

    def _copy(self, document: Document, value: Any, path: Path) -> Any:
        self._copy_place(document, path)
        if isinstance(value, Mapping):
            return {key: self._copy(document, inner, (*path, key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._copy(document, inner, (*path, index)) for index, inner in enumerate(value)]
        return value

    def _copy_place(self, document: Document, path: Path) -> None:
        if path in document.places:
            self.places[path] = document.places[path]
        if path in document.empty:
            self.empty.add(path)
