"""Validate data as options, and report pydantic's errors as problems of the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from modelhub.config.hints import find_misspelt_key, suggest_key, suggest_missing_key, suggest_value
from modelhub.config.interpolate import Interpolated
from modelhub.config.problems import Report, suggest_name
from modelhub.config.schema import find_model_class, get_free_keys, get_keys
from modelhub.config.secrets import MASK, redact_text
from modelhub.config.source import Document, Path, parse_plain_value
from modelhub.config.view import LocatedData, describe_path, find_data_path, get_value, is_secret_path, walk_leaves

__all__ = ["OptionsChecker"]

_Model = TypeVar("_Model", bound=BaseModel)

_INTEGER = "a whole number"
_NUMBER = "a number"
_BOOLEAN = "true or false"
_EXPECTED_BY_ERROR: dict[str, str] = {
    "int_type": _INTEGER,
    "int_parsing": _INTEGER,
    "int_parsing_size": "a smaller number",
    "int_from_float": _INTEGER,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "decimal_type": _NUMBER,
    "decimal_parsing": _NUMBER,
    "finite_number": "a finite number",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
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
_EMPTY_ERRORS = frozenset({"string_too_short", "too_short"})
_TYPE_NAMES: tuple[tuple[Any, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int | float, "a number"),
    (dict, "a mapping"),
    (list, "a list"),
    (object, "null"),
)


class OptionsChecker:
    """Validates parts of one file: it holds the document, its interpolated data and the report of problems."""

    def __init__(self, document: Document, interpolated: Interpolated, report: Report) -> None:
        self.document = document
        self.interpolated = interpolated
        self.report = report

    def problem(self, path: Path, message: str, hint: str = "", *, key: bool = False) -> None:
        """Report a problem with the value at *path* of the file, or with its *key*."""
        self.report.add(self.document.find_span(path, key=key), message, hint)

    def unknown(self, path: Path, cls: type[BaseModel]) -> None:
        """Report that the last part of *path* is not a key of *cls*, the class of the enclosing mapping."""
        name = self.report.mask_key(str(path[-1]), self.document.find_span(path, key=True))
        hint = suggest_key(str(path[-1]), cls) if not self.report.has_many else ""
        self.problem(path, f"unknown key `{name}` in {describe_path(path[:-1])}", hint, key=True)

    def suggest_name(self, path: Path, name: str, known: Sequence[str], *, kind: str) -> str:
        """Return a hint for the unknown *name* at *path*: all of *known*, and if it may be shown, the closest."""
        return suggest_name("" if path in self.interpolated.from_environment else name, known, kind=kind)

    def written(self, path: Path) -> str | None:
        """Return the value at *path* as the file has it, None for a list or mapping, and `***` for a secret."""
        if is_secret_path(path):
            return MASK
        place = self.document.places.get(path)
        if place is not None:
            return None if place.written is None else redact_text(place.written)
        value = get_value(self.document.data, path)
        if isinstance(value, bool):
            return f"{value}".lower()
        return redact_text(f"{value}") if isinstance(value, str | int | float) else None

    def subject(self, path: Path) -> str:
        """Return how a message names the value at *path*, such as `` `max_tokens: many` ``."""
        written = self.written(path)
        if path and isinstance(path[-1], int):
            list_name = next((part for part in reversed(path) if isinstance(part, str)), "")
            return (
                f"item {path[-1] + 1} of `{list_name}`"
                if written in {None, "", MASK}
                else f"`{written}` in `{list_name}`"
            )
        name = self.report.mask_key(f"{path[-1]}", self.document.find_span(path, key=True)) if path else "the file"
        return f"`{name}`" if written in {None, "", MASK} else f"`{name}: {written}`"

    def validate(self, cls: type[_Model], view: LocatedData) -> _Model | None:
        """Return *view* as an instance of *cls*; invalid values are reported and left out, or None is returned."""
        left_out = set(self._refuse_empty(cls, view))
        for _ in range(2):
            if self.report.is_full:
                return None  # no further problem would be shown
            view = view.without(left_out - {()})
            try:
                instance = cls.model_validate(view.data)
            except ValidationError as error:
                errors_by_path: dict[Path, list[ErrorDetails]] = {}  # each branch of a union reports its own
                for details in error.errors(include_url=False):
                    path = find_data_path(details["loc"], view.data, missing=details["type"] == "missing")
                    errors_by_path.setdefault(path, []).append(details)
                enclosing = {path[:length] for path in left_out for length in range(len(path))}
                for path, errors in errors_by_path.items():
                    within = any(path[:length] in left_out for length in range(len(path) + 1))
                    if not within and path not in enclosing:
                        self._report_error(path, errors, cls, view)
                left_out |= errors_by_path.keys()
            else:
                self._refuse_coerced(instance, view, ())
                return instance
        return None

    def _refuse_empty(self, cls: type[BaseModel], view: LocatedData) -> Iterator[Path]:
        """Report keys without a value, and yield their paths: a line may be missing. Free-form fields may have null."""
        free = get_free_keys(cls)
        for path, value in walk_leaves(view.data):
            if value is not None:
                continue
            file_path = view.source_path(path)
            if file_path in self.document.empty and (path[0] not in free or len(path) == 1):
                self.problem(
                    file_path, f"{self.subject(file_path)} has no value", "give it one, or remove it", key=True
                )
                yield path

    def _report_error(self, path: Path, errors: list[ErrorDetails], cls: type[BaseModel], view: LocatedData) -> None:
        """Report *errors* at *path*, unless they are reported elsewhere: for unset references and lists of failures."""
        error_type = errors[0]["type"]
        file_path = view.source_path(path)
        if self.report.is_full or (file_path in self.interpolated.unset and error_type != "extra_forbidden"):
            return
        owner = _find_class(cls, path[:-1])
        name = str(path[-1]) if path else ""  # a validator of the whole class has no key
        if name in {"fallback_on", "no_fallback_on"} and error_type == "failure":
            return
        if error_type == "missing":
            if not find_misspelt_key(name, get_value(view.data, path[:-1]), owner):
                message = f"{describe_path(file_path[:-1])} has no `{name}`"
                self.problem(file_path[:-1], message, suggest_missing_key(name, owner), key=True)
            return
        if error_type == "extra_forbidden":
            self.unknown(file_path, owner)
            return
        info = get_keys(owner).get(name)
        if error_type == "string_pattern_mismatch" and info is not None and info.examples:
            message, hint = f"{self.subject(file_path)} must be written like `{info.examples[0]}`", ""
        else:
            message, hint = self._describe_wrong_value(errors, file_path)
        if self.document.find_span(file_path) is None and len(file_path) > 1:
            message = f"{describe_path(file_path[:-1])}: {message}"
        self.problem(file_path, message, hint)

    def _describe_wrong_value(self, errors: list[ErrorDetails], path: Path) -> tuple[str, str]:
        details, subject = errors[0], self.subject(path)
        error_type, context = details["type"], details.get("ctx") or {}
        is_hidden = path in self.interpolated.from_environment or is_secret_path(path)
        if error_type == "duration_range":
            suggestion = context.get("hint") if not is_hidden else ""
            return f"{subject} {details['msg']}", f"did you mean `{suggestion}`?" if suggestion else ""
        if error_type in _EMPTY_ERRORS:
            return f"{subject} is empty", ""
        if error_type not in _EXPECTED_BY_ERROR:
            hint = "" if is_hidden else f"{context.get('hint', '')}"
            return f"{subject}: {self._scrub_message(details['msg'], path)}", hint
        value = get_value(self.interpolated.data, path)
        explained = [error for error in errors if error["type"] in _EXPECTED_BY_ERROR]  # of all branches of a union
        expectations = [_EXPECTED_BY_ERROR[error["type"]].format(**error.get("ctx") or {}) for error in explained]
        expected = ", or ".join(dict.fromkeys(expectations)).replace("'", "`")
        actual = next(name for kind, name in _TYPE_NAMES if isinstance(value, kind))
        not_that = f", not {actual}" if self.written(path) in {None, MASK} and actual not in expected else ""
        hint = "" if is_hidden and isinstance(value, str) else suggest_value(f"{path[-1]}", error_type, value, context)
        return f"{subject} must be {expected}{not_that}", hint

    def _scrub_message(self, message: str, path: Path) -> str:
        """Return a third party's *message* without values that are secret or come from the environment."""
        for text_path, value in walk_leaves(get_value(self.interpolated.data, path), path):
            if (
                isinstance(value, str)
                and value
                and (text_path in self.interpolated.from_environment or is_secret_path(text_path))
            ):
                message = message.replace(value, MASK)
        return message.removeprefix("Value error, ")

    def _refuse_coerced(self, value: Any, view: LocatedData, path: Path) -> None:
        """Report booleans that pydantic made of numbers or text, and numbers that it made of booleans."""
        raw = get_value(view.data, path)
        if isinstance(value, BaseModel) and isinstance(raw, dict):
            known = get_keys(type(value))
            names = {id(info): name for name, info in type(value).model_fields.items()}
            for key in [key for key in raw if key in known]:
                self._refuse_coerced(getattr(value, names[id(known[key])]), view, (*path, key))
        elif isinstance(value, list) and isinstance(raw, list):
            for index, item in enumerate(value):
                self._refuse_coerced(item, view, (*path, index))
        elif isinstance(raw, bool) != isinstance(value, bool) and isinstance(value, bool | int | float):
            self._refuse_boolean(view.source_path(path), value)

    def _refuse_boolean(self, path: Path, value: Any) -> None:
        if path in self.interpolated.from_environment:
            return  # a variable is always text: "1" and "yes" are as good as "true"
        raw = get_value(self.document.data, path)
        if isinstance(raw, str) and isinstance(parse_plain_value(raw), bool):
            self.problem(path, f'`{path[-1]}: "{raw}"` must be {_BOOLEAN}', "write it without quotes")
        elif isinstance(value, bool):
            suggestion = f"did you mean `{str(value).lower()}`?"
            self.problem(path, f"{self.subject(path)} must be {_BOOLEAN}", suggestion)
        else:
            self.problem(path, f"{self.subject(path)} must be {_NUMBER}")


def _find_class(cls: type[BaseModel], path: Path) -> type[BaseModel]:
    for part in path:
        info = get_keys(cls).get(str(part))
        cls = (find_model_class(info.annotation) if info is not None else None) or cls
    return cls
