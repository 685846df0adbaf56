"""Data to options, and pydantic's findings to problems of the file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelhub.config.hints import missing_key, misspelt, model_in, unknown_key, wrong_value
from modelhub.config.interpolate import Filled
from modelhub.config.problems import Report
from modelhub.config.schema import free_fields, keys_of
from modelhub.config.secrets import MASK, is_secret, shown
from modelhub.config.source import Document, Path

__all__ = ["Checker", "View", "is_secret_path", "where"]

_Model = TypeVar("_Model", bound=BaseModel)

_NAMED = {"models": "model", "chains": "chain", "limits": "limit"}

_WHOLE = "a whole number"
_NUMBER = "a number"
_TRUTH = "true or false"
_EXPECTED: dict[str, str] = {
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": "a smaller number",
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping (`key: value`)",
    "mapping_type": "a mapping (`key: value`)",
    "model_type": "a mapping (`key: value`)",
    "model_attributes_type": "a mapping (`key: value`)",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "greater_than": "over {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "under {lt}",
    "less_than_equal": "at most {le}",
    "duration": "a duration such as 500ms, 5s, 2m, or a number of seconds",
}
_EMPTY = frozenset({"string_too_short", "too_short"})


@dataclass(frozen=True, slots=True)
class View:
    """Data to validate, and where its parts stand in the file: `sources` has the paths that came from elsewhere."""

    data: dict[str, Any]
    sources: Mapping[Path, Path] = field(default_factory=dict)

    def in_file(self, path: Path) -> Path:
        """The path in the file of *path* in the data."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.sources:
                return self.sources[path[:length]] + path[length:]
        return path

    def without(self, paths: Iterable[Path]) -> View:
        """The same, without the values at *paths*; a list without one of its items would be another list."""
        gone = {path[:-1] if path and isinstance(path[-1], int) else path for path in paths}
        return View(_without(self.data, gone, ()), self.sources)


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
    if path[0] in _NAMED and len(path) > 1:
        owner = f"{_NAMED[str(path[0])]} `{path[1]}`"
        inside = ".".join(str(part) for part in path[2:])
        return f"`{inside}` of {owner}" if inside else owner
    return f"`{'.'.join(str(part) for part in path)}`"


def is_secret_path(path: Path) -> bool:
    """Whether the value at *path* must not be shown."""
    inside = path[2:] if path and path[0] in _NAMED else path
    return any(is_secret(part) for part in inside if isinstance(part, str))


class Checker:
    """What every check of one file needs: its text, its data and the problems found so far."""

    def __init__(self, document: Document, filled: Filled, report: Report) -> None:
        self.document = document
        self.filled = filled
        self.report = report

    def problem(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Note a problem with the value at *path* of the file, or its *key*."""
        self.report.add(self.document.span(path, key=key), message, hint)

    def unknown(self, path: Path, cls: type[BaseModel]) -> None:
        """Note that *cls*, the class of what is around it, has no such key as *path* ends with."""
        name = self.report.source.name(str(path[-1]), self.document.span(path, key=True))
        self.problem(path, f"unknown key `{name}` in {where(path[:-1])}", unknown_key(str(path[-1]), cls), key=True)

    def written(self, path: Path) -> str | None:
        """The value at *path* as the file has it, None for lists and mappings, and `***` for secrets."""
        if is_secret_path(path):
            return MASK
        place = self.document.places.get(path)
        if place is not None:
            return None if place.written is None else shown(place.written)
        value = self._value(self.document.data, path)
        if isinstance(value, bool):
            return f"{value}".lower()
        return shown(f"{value}") if isinstance(value, str | int | float) else None

    def subject(self, path: Path) -> str:
        """How a message calls the value at *path*: `` `max_tokens: many` ``."""
        written = self.written(path)
        if path and isinstance(path[-1], int):
            owner = next((part for part in reversed(path) if isinstance(part, str)), "")
            return f"item {path[-1] + 1} of `{owner}`" if written in {None, "", MASK} else f"`{written}` in `{owner}`"
        name = self.report.source.name(f"{path[-1]}", self.document.span(path, key=True)) if path else "the file"
        return f"`{name}`" if written in {None, "", MASK} else f"`{name}: {written}`"

    def validate(self, cls: type[_Model], view: View) -> _Model | None:
        """An instance of *cls* from *view*. What is wrong is reported, and left out; None if it cannot be left out."""
        left_out = set(self._refuse_empty(cls, view))
        for _ in range(2):
            view = view.without(left_out - {()})
            try:
                instance = cls.model_validate(view.data)
            except ValidationError as error:
                found = error.errors(include_url=False)
                left_out.update(self._report(details, cls, view, left_out) for details in found)
            else:
                self._refuse_coerced(instance, view, ())
                return instance
        return None

    def _refuse_empty(self, cls: type[BaseModel], view: View) -> Iterator[Path]:
        """Report every key with nothing behind it: a line may be lost. Where anything may stand, null may as well."""
        free = free_fields(cls)
        for path in _nothing(view.data):
            at = view.in_file(path)
            if at in self.document.empty and (path[0] not in free or len(path) == 1):
                self.problem(at, f"{self.subject(at)} has no value", "give it one, or remove it", key=True)
                yield path

    def _report(self, details: ErrorDetails, cls: type[BaseModel], view: View, left_out: set[Path]) -> Path:
        """Report one finding, unless it is one with what was left out; gives the path to leave out next."""
        kind = details["type"]
        path = _followed(details["loc"], view.data, missing=kind == "missing")
        at = view.in_file(path)
        filled_in = at not in self.filled.unset or kind == "extra_forbidden"
        if not filled_in or any(_meet(path, known) for known in left_out):
            return path  # what is not there is told elsewhere, and what is wrong is told already
        if kind == "missing":
            name = str(path[-1])
            if misspelt(name, self._value(view.data, path[:-1]), _class_at(cls, path[:-1])):
                return path
            message = f"{where(at[:-1])} has no `{name}`"
            self.problem(at[:-1], message, missing_key(name, _class_at(cls, path[:-1])), key=True)
            return path
        if kind == "extra_forbidden":
            self.unknown(at, _class_at(cls, path[:-1]))
            return path
        message, hint = self._wrong_value(details, at)
        if self.document.span(at) is None and len(at) > 1:
            message = f"{where(at[:-1])}: {message}"
        self.problem(at, message, hint)
        return path

    def _wrong_value(self, details: ErrorDetails, at: Path) -> tuple[str, str]:
        kind, context, subject = details["type"], details.get("ctx") or {}, self.subject(at)
        foreign = at in self.filled.touched or is_secret_path(at)
        if kind == "duration_range":
            meant = context.get("hint") if not foreign else ""
            return f"{subject} {details['msg']}", f"did you mean `{meant}`?" if meant else ""
        if kind in _EMPTY:
            return f"{subject} is empty", ""
        if kind not in _EXPECTED:
            return f"{subject}: {self._scrubbed(details['msg'], at)}", ""
        expected = _EXPECTED[kind].format(**context).replace("'", "`")
        value = self._value(self.filled.data, at)
        got = _kind_of(value)
        told = f", not {got}" if self.written(at) in {None, MASK} and got not in expected else ""
        hint = wrong_value(kind, value, context) if not (foreign and isinstance(value, str)) else ""
        return f"{subject} must be {expected}{told}", hint

    def _scrubbed(self, message: str, at: Path) -> str:
        """A third party's *message* without values that came from outside or are secret."""
        for path, value in _texts(self._value(self.filled.data, at), at):
            if value and (path in self.filled.touched or is_secret_path(path)):
                message = message.replace(value, MASK)
        return message.removeprefix("Value error, ")

    def _refuse_coerced(self, instance: BaseModel, view: View, here: Path) -> None:
        """Only `true` and `false` are booleans, and they are no numbers, though pydantic would take them for such."""
        for key, info in keys_of(type(instance)).items():
            path = (*here, key)
            raw = self._value(view.data, path)
            name = next(name for name, other in type(instance).model_fields.items() if other is info)
            value = getattr(instance, name)
            if isinstance(value, BaseModel) and isinstance(raw, dict):
                self._refuse_coerced(value, view, path)
            elif raw is not None and isinstance(raw, bool) != isinstance(value, bool) and not isinstance(value, str):
                self._refuse_truth(view.in_file(path), value)

    def _refuse_truth(self, at: Path, value: Any) -> None:
        if at in self.filled.touched:
            return  # a variable is always text: "1" and "yes" are as good as "true"
        if isinstance(value, bool):
            meant = f"did you mean `{str(value).lower()}`?"
            self.problem(at, f"{self.subject(at)} must be {_TRUTH}", meant)
        elif not isinstance(value, list | dict):
            self.problem(at, f"{self.subject(at)} must be {_NUMBER}")

    def _value(self, data: Any, path: Path) -> Any:
        for part in path:
            try:
                data = data[part]
            except (KeyError, IndexError, TypeError):
                return None
        return data


def _meet(one: Path, other: Path) -> bool:
    """Whether one of the two leads through the other."""
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _nothing(data: Any, here: Path = ()) -> Iterator[Path]:
    """The path of every null in *data*."""
    if data is None:
        yield here
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _nothing(value, (*here, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _nothing(value, (*here, index))


def _texts(data: Any, here: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(data, str):
        yield here, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _texts(value, (*here, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _texts(value, (*here, index))


def _followed(loc: Sequence[str | int], data: Any, *, missing: bool) -> Path:
    """*loc* without what pydantic puts between the keys: the names of a union's branches."""
    path: list[str | int] = []
    for part in loc[:-1] if missing else loc:
        inside = isinstance(data, dict) and part in data
        if inside or (isinstance(data, list) and isinstance(part, int) and part < len(data)):
            data = data[part]
            path.append(part)
    return (*path, loc[-1]) if missing else tuple(path)


def _class_at(cls: type[BaseModel], path: Path) -> type[BaseModel]:
    for part in path:
        info = keys_of(cls).get(str(part))
        cls = (model_in(info.annotation) if info is not None else None) or cls
    return cls


_KINDS: tuple[tuple[Any, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int | float, "a number"),
    (dict, "a mapping"),
    (list, "a list"),
)


def _kind_of(value: Any) -> str:
    return next((name for kind, name in _KINDS if isinstance(value, kind)), "null")
