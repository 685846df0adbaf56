"""Data to options, and pydantic's findings to problems of the file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelhub.config.hints import missing_key, misspelt, model_in, unknown_key, wrong_value
from modelhub.config.interpolate import Interpolated
from modelhub.config.problems import Report
from modelhub.config.schema import free_fields, keys_of
from modelhub.config.secrets import MASK, shown
from modelhub.config.source import Document, Path
from modelhub.config.view import LocatedData, followed, is_secret_path, nulls, texts, value_at, where

__all__ = ["OptionsChecker"]

_Model = TypeVar("_Model", bound=BaseModel)

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


class OptionsChecker:
    """What every check of one file needs: its text, its data and the problems found so far."""

    def __init__(self, document: Document, filled: Interpolated, report: Report) -> None:
        self.document = document
        self.filled = filled
        self.report = report

    def problem(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Note a problem with the value at *path* of the file, or its *key*."""
        self.report.add(self.document.span(path, key=key), message, hint)

    def unknown(self, path: Path, cls: type[BaseModel]) -> None:
        """Note that *cls*, the class of what is around it, has no such key as *path* ends with."""
        name = self.report.source.name(str(path[-1]), self.document.span(path, key=True))
        hint = unknown_key(str(path[-1]), cls) if not self.report.has_many else ""
        self.problem(path, f"unknown key `{name}` in {where(path[:-1])}", hint, key=True)

    def written(self, path: Path) -> str | None:
        """The value at *path* as the file has it, None for lists and mappings, and `***` for secrets."""
        if is_secret_path(path):
            return MASK
        place = self.document.places.get(path)
        if place is not None:
            return None if place.written is None else shown(place.written)
        value = value_at(self.document.data, path)
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

    def validate(self, cls: type[_Model], view: LocatedData) -> _Model | None:
        """An instance of *cls* from *view*. What is wrong is reported, and left out; None if it cannot be left out."""
        left_out = set(self._refuse_empty(cls, view))
        for _ in range(2):
            if self.report.is_full:
                return None  # nothing further would be told
            view = view.without(left_out - {()})
            try:
                instance = cls.model_validate(view.data)
            except ValidationError as error:
                found = _by_place(error, view.data)
                known = _WithPrefixes(left_out)
                left_out |= {self._report(path, told, cls, view, known) for path, told in found.items()}
            else:
                self._refuse_coerced(instance, view, ())
                return instance
        return None

    def _refuse_empty(self, cls: type[BaseModel], view: LocatedData) -> Iterator[Path]:
        """Report every key with nothing behind it: a line may be lost. Where anything may stand, null may as well."""
        free = free_fields(cls)
        for path in nulls(view.data):
            at = view.in_file(path)
            if at in self.document.empty and (path[0] not in free or len(path) == 1):
                self.problem(at, f"{self.subject(at)} has no value", "give it one, or remove it", key=True)
                yield path

    def _report(
        self, path: Path, told: list[ErrorDetails], cls: type[BaseModel], view: LocatedData, left_out: _WithPrefixes
    ) -> Path:
        """Report what was found at *path*, unless it follows from what was left out; gives the path to leave out."""
        kind = told[0]["type"]
        at = view.in_file(path)
        filled_in = at not in self.filled.unset or kind == "extra_forbidden"
        if self.report.is_full or not filled_in or left_out.meets(path):
            return path  # what is not there is told elsewhere, and what is wrong is told already
        if path[-1] in {"fallback_on", "no_fallback_on"} and kind == "failure":
            return path  # each name in the list is checked at its own place
        if kind == "missing":
            name = str(path[-1])
            if misspelt(name, value_at(view.data, path[:-1]), _class_at(cls, path[:-1])):
                return path
            message = f"{where(at[:-1])} has no `{name}`"
            self.problem(at[:-1], message, missing_key(name, _class_at(cls, path[:-1])), key=True)
            return path
        if kind == "extra_forbidden":
            self.unknown(at, _class_at(cls, path[:-1]))
            return path
        message, hint = self._wrong_value(told, at)
        if self.document.span(at) is None and len(at) > 1:
            message = f"{where(at[:-1])}: {message}"
        self.problem(at, message, hint)
        return path

    def _wrong_value(self, told: list[ErrorDetails], at: Path) -> tuple[str, str]:
        details, subject = told[0], self.subject(at)
        kind, context = details["type"], details.get("ctx") or {}
        foreign = at in self.filled.from_environment or is_secret_path(at)
        if kind == "duration_range":
            meant = context.get("hint") if not foreign else ""
            return f"{subject} {details['msg']}", f"did you mean `{meant}`?" if meant else ""
        if kind in _EMPTY:
            return f"{subject} is empty", ""
        if kind not in _EXPECTED:
            hint = "" if foreign else f"{context.get('hint', '')}"
            return f"{subject}: {self._scrubbed(details['msg'], at)}", hint
        value = value_at(self.filled.data, at)
        expected, got = _expected(told), _kind_of(value)
        not_that = f", not {got}" if self.written(at) in {None, MASK} and got not in expected else ""
        hint = wrong_value(f"{at[-1]}", kind, value, context) if not (foreign and isinstance(value, str)) else ""
        return f"{subject} must be {expected}{not_that}", hint

    def _scrubbed(self, message: str, at: Path) -> str:
        """A third party's *message* without values that came from outside or are secret."""
        for path, value in texts(value_at(self.filled.data, at), at):
            if value and (path in self.filled.from_environment or is_secret_path(path)):
                message = message.replace(value, MASK)
        return message.removeprefix("Value error, ")

    def _refuse_coerced(self, value: Any, view: LocatedData, here: Path) -> None:
        """Only `true` and `false` are booleans, and they are no numbers, though pydantic would take them for such."""
        raw = value_at(view.data, here)
        if isinstance(value, BaseModel) and isinstance(raw, dict):
            known = keys_of(type(value))
            names = {id(info): name for name, info in type(value).model_fields.items()}
            for key in [key for key in raw if key in known]:
                self._refuse_coerced(getattr(value, names[id(known[key])]), view, (*here, key))
        elif isinstance(value, list) and isinstance(raw, list):
            for index, item in enumerate(value):
                self._refuse_coerced(item, view, (*here, index))
        elif isinstance(raw, bool) != isinstance(value, bool) and isinstance(value, bool | int | float):
            self._refuse_truth(view.in_file(here), value)

    def _refuse_truth(self, at: Path, value: Any) -> None:
        if at in self.filled.from_environment:
            return  # a variable is always text: "1" and "yes" are as good as "true"
        if isinstance(value, bool):
            meant = f"did you mean `{str(value).lower()}`?"
            self.problem(at, f"{self.subject(at)} must be {_TRUTH}", meant)
        else:
            self.problem(at, f"{self.subject(at)} must be {_NUMBER}")


def _by_place(error: ValidationError, data: Any) -> dict[Path, list[ErrorDetails]]:
    """pydantic's findings by their path: every branch of a union has its own for one value."""
    found: dict[Path, list[ErrorDetails]] = {}
    for details in error.errors(include_url=False):
        path = followed(details["loc"], data, missing=details["type"] == "missing")
        found.setdefault(path, []).append(details)
    return found


def _expected(told: list[ErrorDetails]) -> str:
    """What a value must be, by all branches that were tried."""
    known = [details for details in told if details["type"] in _EXPECTED]
    kinds = [_EXPECTED[details["type"]].format(**details.get("ctx") or {}) for details in known]
    return ", or ".join(dict.fromkeys(kinds)).replace("'", "`")


class _WithPrefixes:
    """Paths that are looked up together with what is above and below them."""

    def __init__(self, paths: set[Path]) -> None:
        self._paths = set(paths)
        self._above = {path[:length] for path in paths for length in range(len(path))}

    def meets(self, path: Path) -> bool:
        """Whether *path* leads to, or through, one of the paths, or one of them through it."""
        return path in self._above or any(path[:length] in self._paths for length in range(len(path) + 1))


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
