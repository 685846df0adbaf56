"""Replace `${VAR}`, `${VAR:-default}`, `${file:/path}` and `${cmd:a command}` in the text values of a file.

`$${` stands for `${`.

`${call:NAME}` stays as it is: it stands for a key that comes with each call.

A variable that is empty counts as unset: an empty key is no key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from modelhub.config.commands import CommandResult
from modelhub.config.problems import Report
from modelhub.config.secrets import is_secret
from modelhub.config.source import Document, Path
from modelhub.config.view import change_texts

__all__ = ["Interpolated", "RunCommand", "UnresolvedReference", "get_call_key", "interpolate"]

_REFERENCE_START = re.compile(r"\$\$\{|\$\{(?P<body>[^{}]*)\}|\$\{")
_REFERENCE_BODY = re.compile(
    r"file:(?P<file>.+)|cmd:(?P<command>.+)|call:(?P<call>[A-Za-z_]\w*)|(?P<name>[A-Za-z_]\w*)(?::-(?P<default>.*))?",
    re.DOTALL,
)
_BARE_VARIABLE = re.compile(r"\$[A-Z][A-Z0-9_]*")


class UnresolvedReference(NamedTuple):
    """A reference that has no value; `what` says what to do, such as "set OPENAI_API_KEY"."""

    instruction: str
    path: Path
    line: int


@dataclass(frozen=True, slots=True)
class Interpolated:
    """Data with its references replaced.

    `unset` has the references that could not be resolved; they remain in the data as they are written.
    `from_environment` has the path of every value that came from a variable, file or command, which no message may
    show, and `renewable` the path of those that came from a file or command.
    """

    data: Any
    unset: dict[Path, list[UnresolvedReference]] = field(default_factory=dict)
    from_environment: set[Path] = field(default_factory=set)
    renewable: set[Path] = field(default_factory=set)
    _unset_by_entry: dict[Path, list[UnresolvedReference]] = field(default_factory=dict, repr=False)

    def list_unset(self, entry: Path) -> list[UnresolvedReference]:
        """Return the unresolved references in *entry*, such as `("models", "gpt")`."""
        if not self._unset_by_entry:
            for path, references in self.unset.items():
                self._unset_by_entry.setdefault(path[:2], []).extend(references)
        return self._unset_by_entry.get(entry, [])


RunCommand = Callable[[str, FilePath], CommandResult]
"""Runs a command in a folder."""


def interpolate(
    document: Document, environ: Mapping[str, str], report: Report, files: set[FilePath], run: RunCommand
) -> Interpolated:
    """Replace every reference in *document*, and report malformed ones.

    A relative path starts from the folder of the file in which it is written, where *run* runs commands too. Every file
    that is read, or looked for, is added to *files*.
    """
    interpolator = _Interpolator(document, environ, report, files, run)
    data = change_texts(document.data, interpolator.interpolate_text)
    return Interpolated(data, interpolator.unset, interpolator.from_environment, interpolator.renewable)


@dataclass(frozen=True, slots=True)
class _Interpolator:
    document: Document
    environ: Mapping[str, str]
    report: Report
    files: set[FilePath]
    run: RunCommand
    unset: dict[Path, list[UnresolvedReference]] = field(default_factory=dict)
    from_environment: set[Path] = field(default_factory=set)
    renewable: set[Path] = field(default_factory=set)

    def interpolate_text(self, text: str, path: Path) -> str:
        """Return *text*, the value at *path*, with its references replaced."""
        if _BARE_VARIABLE.fullmatch(text):
            key = next((part for part in reversed(path) if isinstance(part, str)), "")
            if is_secret(key):
                self._refuse(path, f"`{key}` looks like a variable without braces", "write it as ${NAME}")
        if "${" not in text:
            return text
        return _REFERENCE_START.sub(lambda match: self._resolve_reference(match, path), text)

    def _resolve_reference(self, match: re.Match[str], path: Path) -> str:
        if match[0] == "$${":
            return "${"
        body = _REFERENCE_BODY.fullmatch(match["body"] or "")
        if body is None:
            hint = "write ${VAR}, ${VAR:-default}, ${file:/path} or ${cmd:a command}; $${ stands for ${ itself"
            self._refuse(path, "`${` does not begin a reference", hint)
            return match[0]
        if body["call"]:
            is_key_of_model = len(path) == 3 and (path[0], path[2]) == ("models", "api_key")
            if not is_key_of_model or match[0] != match.string:
                hint = "write it as the whole `api_key` of a model"
                self._refuse(path, f"`{match[0]}` stands for a key that comes with each call", hint)
            return match[0]
        self.from_environment.add(path)
        value, missing = self._read(body, path)
        if value is None:
            self.unset.setdefault(path, []).append(UnresolvedReference(missing, path, self.document.find_line(path)))
        return match[0] if value is None else value

    def _read(self, body: re.Match[str], path: Path) -> tuple[str | None, str]:
        """Return the value of a reference, or None and what to do about it."""
        if name := body["name"]:
            return self.environ.get(name) or body["default"], f"set {name}"
        self.renewable.add(path)
        folder = self.document.find_source(path).folder
        if body["command"]:
            return self.run(body["command"], folder)
        name = body["file"]
        try:
            file = folder / FilePath(name).expanduser()
            self.files.add(file)
            content = file.read_text(encoding="utf-8").rstrip("\r\n")
        except FileNotFoundError:
            return None, f"write the file {name}"
        except (OSError, UnicodeDecodeError, ValueError, RuntimeError):
            return None, f"make the file {name} readable"
        return content or None, f"fill the file {name}"

    def _refuse(self, path: Path, message: str, hint: str) -> None:
        self.report.add(self.document.find_span(path), message, hint)


def get_call_key(reference: Any) -> str | None:
    """Return the name in *reference*, the value of an `api_key`, if it is `${call:NAME}`."""
    match = _CALL_KEY.fullmatch(reference) if isinstance(reference, str) else None
    return match[1] if match is not None else None


_CALL_KEY = re.compile(r"\$\{call:([A-Za-z_]\w*)\}")
