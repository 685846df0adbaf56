"""Dicts whose keys are attributes too, and whose values may be built when they are first looked at."""

from __future__ import annotations

import copy as copying
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, Self

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["Lazy", "LazyRecord", "Record"]


class Lazy:
    """A value that is built when it is first read."""

    __slots__ = ("build",)

    def __init__(self, build: Callable[[], Any]) -> None:
        self.build = build


class Record(dict[str, Any]):
    """A dict whose keys are attributes too."""

    __slots__ = ()

    stored_types: ClassVar[Mapping[str, Any]] = {}
    """The types of keys that are stored in another form than their attribute has."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        try:
            del self[name]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}") from None

    def __repr__(self) -> str:
        fields = ", ".join(f"{key}={value!r}" for key, value in self.items() if value is not None)
        return f"{type(self).__name__}({fields})"

    def copy(self) -> Self:
        """A shallow copy of the same class."""
        new = type(self).__new__(type(self))
        dict.update(new, dict.items(self))  # as pairs: of a mapping each value might be read by `__getitem__`
        return new

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        dict.update(new, {key: copying.deepcopy(value, memo) for key, value in self.items()})
        return new

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), dict(self.items()))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from modelhub.core.pydantic_schema import make_record_schema  # only for those who put a reply in a model

        return make_record_schema(cls, cls.stored_types, handler)


class LazyRecord(Record):
    """A record whose `Lazy` values are built when they are looked at."""

    __slots__ = ()

    def __getitem__(self, key: str) -> Any:
        value = dict.__getitem__(self, key)  # not by `super`, which costs more than the look-up
        if type(value) is Lazy:
            value = self[key] = value.build()
        return value

    def _built(self) -> Self:
        for key, value in dict.items(self):
            if type(value) is Lazy:
                self[key] = value.build()  # the key exists: the dict keeps its size while it is walked
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """The value of *key*, or *default*."""
        return self[key] if key in self else default  # noqa: SIM401 - this is `get`

    def pop(self, key: str, *default: Any) -> Any:
        """Take *key* out and give back its value."""
        return super(LazyRecord, self._built()).pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Take the last pair out."""
        return super(LazyRecord, self._built()).popitem()

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of *key*, which becomes *default* if there was none."""
        return super(LazyRecord, self._built()).setdefault(key, default)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """All pairs; `json.dumps` reads a dict's subclass through this."""
        return super(LazyRecord, self._built()).items()

    def values(self) -> ValuesView[Any]:  # type: ignore[override]
        """Return all values; lazy ones are built."""
        return super(LazyRecord, self._built()).values()

    def __iter__(self) -> Iterator[str]:
        # Defined so that dict(record) and {**record} go through __getitem__ instead of copying what is stored.
        return super().__iter__()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, LazyRecord):
            other._built()
        return super(LazyRecord, self._built()).__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:  # type: ignore[override]
        return {**self, **other}

    def copy(self) -> Self:
        """A shallow copy of the same class."""
        return super(LazyRecord, self._built()).copy()

    __copy__ = copy


def _rebuild(cls: type[Record], fields: dict[str, Any]) -> Record:
    record = cls.__new__(cls)
    dict.update(record, fields)
    return record
