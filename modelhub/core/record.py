"""Dicts whose keys are attributes too, and whose values may be built when they are first looked at.

Pydantic takes them as types: of fields of models, and of what FastAPI's routes return.
"""

from __future__ import annotations

import copy as copying
import inspect
from collections.abc import Callable, ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_origin, get_type_hints

from pydantic_core import core_schema

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
        dict.update(new, self.items())  # as pairs: of a mapping each value might be read by `__getitem__`
        return new

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        dict.update(new, {key: copying.deepcopy(value, memo) for key, value in self.items()})
        return new

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return _make_record_schema(cls, handler)


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


def _make_record_schema(cls: type[Record], handler: GetCoreSchemaHandler) -> CoreSchema:
    """Return the schema of the record *cls*: instances are taken as they are, mappings of its keys become new ones.

    What is written is a plain dict with every key, and so says the JSON schema of the output; the schema of the input
    asks only for what `__init__` asks for.
    """
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
    required = frozenset(parameter.name for parameter in parameters if parameter.default is parameter.empty)
    hints = {**get_type_hints(cls), **cls.stored_types}
    fields = {key: handler.generate_schema(hint) for key, hint in hints.items() if get_origin(hint) is not ClassVar}

    def build(values: Mapping[str, Any]) -> dict[str, Any]:
        record = cls(**{key: values[key] for key in required})
        record.update(values)
        return record

    def typed_dict(required: frozenset[str]) -> CoreSchema:
        entries = {
            key: core_schema.typed_dict_field(schema, required=key in required) for key, schema in fields.items()
        }
        return core_schema.typed_dict_schema(entries, cls=cls, extra_behavior="allow")

    from_mapping = core_schema.no_info_after_validator_function(build, typed_dict(required))
    return core_schema.json_or_python_schema(
        json_schema=from_mapping,
        python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_mapping]),
        serialization=core_schema.plain_serializer_function_ser_schema(
            _as_plain, return_schema=typed_dict(frozenset(fields))
        ),
        ref=f"{cls.__module__}.{cls.__qualname__}:{id(cls)}",
    )


def _as_plain(value: Any) -> Any:
    """Return *value* with dicts and lists for what it holds of records, whose lazy values are built by this."""
    if isinstance(value, dict):
        return {key: _as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(item) for item in value]
    return value
