"""`${VAR}`, `${VAR:-default}` and `${file:/path}` in the text values of a file; `$${` stands for `${`.

A variable that is empty counts as unset: an empty key is no key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

from modelhub.config.problems import Report
from modelhub.config.secrets import is_secret
from modelhub.config.source import Document, Path

__all__ = ["Interpolated", "UnresolvedReference", "fill"]

_MARK = re.compile(r"\$\$\{|\$\{(?P<body>[^{}]*)\}|\$\{")
_BODY = re.compile(r"file:(?P<file>.+)|(?P<name>[A-Za-z_]\w*)(?::-(?P<default>.*))?", re.DOTALL)
_BARE = re.compile(r"\$[A-Z][A-Z0-9_]*")


@dataclass(frozen=True, slots=True)
class UnresolvedReference:
    """A reference that leads nowhere: `what` is to be done about it, and `path` and `line` say where it stands."""

    what: str
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Interpolated:
    """The data with its references replaced.

    `unset` has those that lead nowhere, which stand in the data as they were written; `from_environment` every value
    that came from outside, which no message may show.
    """

    data: Any
    unset: dict[Path, list[UnresolvedReference]] = field(default_factory=dict)
    from_environment: set[Path] = field(default_factory=set)
    _unset_entries: dict[Path, list[Path]] = field(default_factory=dict, repr=False)

    def unset_below(self, entry: Path) -> list[Path]:
        """Return the paths of `unset` in *entry*, such as `("models", "gpt")`."""
        if not self._unset_entries:
            for path in self.unset:
                self._unset_entries.setdefault(path[:2], []).append(path)
        return self._unset_entries.get(entry, [])


def fill(document: Document, environ: Mapping[str, str], folder: FilePath, report: Report) -> Interpolated:
    """Replace every reference; files are looked for from *folder*. What is no reference is put into *report*."""
    return _Filler(document, environ, folder, report).result


class _Filler:
    def __init__(self, document: Document, environ: Mapping[str, str], folder: FilePath, report: Report) -> None:
        self.document = document
        self.environ = environ
        self.folder = folder
        self.report = report
        self.unset: dict[Path, list[UnresolvedReference]] = {}
        self.from_environment: set[Path] = set()
        self.result = Interpolated(self._walk(document.data, ()), self.unset, self.from_environment)

    def _walk(self, data: Any, path: Path) -> Any:
        if isinstance(data, str):
            return self._text(data, path)
        if isinstance(data, Mapping):
            return {key: self._walk(value, (*path, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self._walk(value, (*path, index)) for index, value in enumerate(data)]
        return data

    def _text(self, text: str, path: Path) -> str:
        if _BARE.fullmatch(text) and is_secret(_last_name(path)):
            self._refuse(path, f"`{_last_name(path)}` looks like a variable without braces", "write it as ${NAME}")
        if "${" not in text:
            return text
        return _MARK.sub(lambda match: self._mark(match, path), text)

    def _mark(self, match: re.Match[str], path: Path) -> str:
        if match[0] == "$${":
            return "${"
        body = _BODY.fullmatch(match["body"] or "")
        if body is None:
            hint = "write ${VAR}, ${VAR:-default} or ${file:/path}; $${ stands for ${ itself"
            self._refuse(path, "`${` does not begin a reference", hint)
            return match[0]
        self.from_environment.add(path)
        value, missing = self._file(body["file"]) if body["file"] else self._variable(body["name"], body["default"])
        if value is None:
            self.unset.setdefault(path, []).append(UnresolvedReference(missing, path, self.document.line(path)))
        return match[0] if value is None else value

    def _variable(self, name: str, default: str | None) -> tuple[str | None, str]:
        return self.environ.get(name) or default, f"set {name}"

    def _file(self, name: str) -> tuple[str | None, str]:
        try:
            content = (self.folder / FilePath(name).expanduser()).read_text(encoding="utf-8").rstrip("\r\n")
        except FileNotFoundError:
            return None, f"write the file {name}"
        except (OSError, UnicodeDecodeError, ValueError, RuntimeError):
            return None, f"make the file {name} readable"
        return content or None, f"fill the file {name}"

    def _refuse(self, path: Path, message: str, hint: str) -> None:
        self.report.add(self.document.span(path), message, hint)


def _last_name(path: Path) -> str:
    return next((part for part in reversed(path) if isinstance(part, str)), "")
