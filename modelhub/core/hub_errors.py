"""The root of all errors, and those that are no failed call: a broken file, an unknown name, a closed hub."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

__all__ = ["ConfigError", "HubClosed", "ModelHubError", "Problem", "UnknownModel"]


class ModelHubError(Exception):
    """The root of the tree."""

    def __str__(self) -> str:
        # KeyError, one of the bases below, would print the message in quotes.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        # Subclasses take keywords; pickle would call them with `args` alone.
        return _revive, (type(self), self.args, self.__dict__)


def _revive(cls: type[ModelHubError], args: tuple[Any, ...], state: dict[str, Any]) -> ModelHubError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class Problem(NamedTuple):
    """One thing wrong with a file, and where.

    `line` and `column` count from 1; `excerpt` is the marked source text, `hint` what was probably meant. `file` is
    empty for configuration that came from a dict, and `line` 0 where no place is known.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    excerpt: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        first = f"{place}: {self.message}" if place else self.message
        return "\n".join(part for part in (first, self.excerpt, "" if self.excerpt else self.hint) if part)


class ConfigError(ModelHubError, ValueError):
    """The configuration cannot be used. `problems` has every reason, in the order of the file."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        listed = [Problem(problems)] if isinstance(problems, str) else problems
        paragraphs = [str(problem) for problem in listed]
        files = list(dict.fromkeys(problem.file for problem in listed if problem.file))
        if files:
            places = " and ".join(filter(None, (", ".join(files[:-1]), files[-1])))
            paragraphs.append(f"{len(listed)} problem{'s' if len(listed) > 1 else ''} in {places}")
        super().__init__("\n\n".join(paragraphs))
        self.problems = tuple(listed)


class UnknownModel(ModelHubError, KeyError):
    """No model or chain has this name; the message says which names exist and which was probably meant."""


class HubClosed(ModelHubError, RuntimeError):
    """The hub was closed; its models can no longer be called."""
