"""Read the files that a file includes, and put it on top of them; then put a profile on top of that.

What comes later wins: an included file over those before it in the list, a file over those that it includes, and the
profile over everything. Mappings are merged key by key; anything else, lists too, is replaced as a whole. A key that is
`null` in what comes later is removed. Every value keeps the place in the file where it is written.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple

from modelhub.config.hints import suggest_key
from modelhub.config.problems import Report, suggest_name
from modelhub.config.schema import HubConfig
from modelhub.config.source import Document, Path, parse_document
from modelhub.config.view import get_value
from modelhub.core.errors import ConfigError, Problem

__all__ = ["PROFILE_VARIABLE", "ReadFile", "apply_profile", "include_files", "read_text"]

PROFILE_VARIABLE = "MODELHUB_PROFILE"
"""The environment variable that names the profile."""
_MAX_FILES = 100
_NOT_IN_PROFILES = {
    "include": "include the file at the top level",
    "profiles": "a profile has no profiles of its own",
    "version": "it is written once, at the top level",
}


class ReadFile(NamedTuple):
    """A file that is being read: its path, and what messages call it."""

    path: FilePath
    name: str


def read_text(path: FilePath, name: str) -> str:
    """Return the text of the file at *path*. Raises ConfigError, which calls it *name*, if it cannot be read."""
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "cannot be read").lower()
        raise ConfigError([Problem(f"the file cannot be read: {reason}", name)]) from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
    # Raised outside of the handler: the decoding error holds the whole file, secrets included.
    raise ConfigError([Problem("this line is not UTF-8 text", name, line, hint="save the file as UTF-8")])


def include_files(document: Document, report: Report, files: set[FilePath], trail: Sequence[ReadFile]) -> Document:
    """Return *document* on top of the files that it includes, without its key `include`.

    *trail* are the files that led here, *document*'s own last. Every file that is looked for is added to *files*.
    Problems are added to *report*. Raises ConfigError with them for a file that cannot be read, or is no YAML.
    """
    items = document.data.pop("include", [])
    document.empty.discard(("include",))
    listed: list[tuple[Path, Any]] = []  # each file with its own place
    if isinstance(items, str):
        listed = [(("include",), items)]
    elif isinstance(items, list):
        listed = [(("include", index), item) for index, item in enumerate(items)]
    else:
        report.add(document.find_span(("include",)), "`include` must be a list of files", "such as `[base.yaml]`")
    usable = [(path, item) for path, item in listed if isinstance(item, str) and item.strip()]
    for path, item in listed:
        if (path, item) not in usable:
            report.add(document.find_span(path), "`include` lists the paths of files", "such as `base.yaml`")
    included = [_include_file(document, report, files, trail, path, item) for path, item in usable]
    if None in included:
        report.check()  # what else is missing is probably in the file that could not be read
    return functools.reduce(_put_on_top, [*filter(None, included), document])


def _include_file(
    document: Document, report: Report, files: set[FilePath], trail: Sequence[ReadFile], place: Path, item: str
) -> Document | None:
    """Return the document of the file *item*, with its own includes; None if a problem was reported."""
    span, parent = document.find_span(place), trail[-1]
    path = parent.path.parent / FilePath(item).expanduser()
    name = os.path.normpath(os.path.join(os.path.dirname(parent.name), FilePath(item).expanduser()))  # noqa: PTH118, PTH120
    files.add(path)
    for index, file in enumerate(trail):
        if os.path.realpath(file.path) == os.path.realpath(path):
            circle = " > ".join([*(file.name for file in trail[index:]), name])
            report.add(span, f"the file includes itself: {circle}", "remove one of these includes")
            return None
    if len(report.sources) >= _MAX_FILES:
        report.add(span, f"more than {_MAX_FILES} files are included")
        return None
    try:
        text = read_text(path, name)
    except ConfigError as error:
        problem = error.problems[0]
        hint = problem.hint or f"the path starts from the folder of {parent.name}"
        report.add(span, f"{name}: {problem.message}", hint)
        return None
    included, _ = parse_document(text, name, path.parent, report)
    return include_files(included, report, files, [*trail, ReadFile(path, name)])


def apply_profile(
    document: Document, report: Report, profile: str | None, environ: Mapping[str, str]
) -> tuple[Document, str | None]:
    """Return *document* with the profile on top, without its key `profiles`, and the profile's name.

    *profile* is a name, or None for the one that the variable MODELHUB_PROFILE of *environ* names, if any; the variable
    is for all files of a process, and says nothing to one without profiles.
    """
    origin = "" if profile else f" (from ${PROFILE_VARIABLE})"
    from_environment = environ.get(PROFILE_VARIABLE) if "profiles" in document.data else None
    name = profile or from_environment or None
    profiles = document.data.get("profiles", {})
    if not isinstance(profiles, dict):
        report.add(document.find_span(("profiles",)), "`profiles` must be a mapping of names to parts of a file")
        profiles = {}
    for key, sections in profiles.items():
        _check_profile(document, report, key, sections)
    selected = profiles.get(name) if name is not None else None
    if name is not None and name not in profiles:
        hint = suggest_name(name, list(profiles), kind="profiles")
        report.add(document.find_span(("profiles",), key=True), f"there is no profile `{name}`{origin}", hint)
    document.data.pop("profiles", None)
    if not isinstance(selected, dict):
        return document, name
    places = {path[2:]: place for path, place in document.places.items() if path[:2] == ("profiles", name)}
    empty = {path[2:] for path in document.empty if path[:2] == ("profiles", name)}
    top = Document(document.sources, selected, places, empty)
    return replace(_put_on_top(document, top), profile_paths=frozenset(places)), name


def _check_profile(document: Document, report: Report, name: str, sections: Any) -> None:
    if not isinstance(sections, dict):
        span = document.find_span(("profiles", name), key=True)
        report.add(span, f"profile `{name}` must be a mapping with sections of a file", "such as `models: {...}`")
        return
    for key in sections:
        span = document.find_span(("profiles", name, key), key=True)
        if key in _NOT_IN_PROFILES:
            report.add(span, f"`{key}` cannot be set in a profile", _NOT_IN_PROFILES[key])
        elif key not in HubConfig.model_fields:
            shown = report.mask_key(key, span)
            report.add(span, f"unknown key `{shown}` in profile `{name}`", suggest_key(key, HubConfig))


def _put_on_top(lower: Document, upper: Document) -> Document:
    """Return *lower* with *upper* on top of it; both belong to the same report."""
    covered: set[Path] = set()
    removed: set[Path] = set()
    data = _merge(lower.data, upper, (), covered, removed)

    def is_visible(path: Path) -> bool:
        return not any(path[:length] in covered for length in range(1, len(path) + 1))

    places = {path: place for path, place in lower.places.items() if is_visible(path)}
    places |= {path: place for path, place in upper.places.items() if path not in removed}
    empty = {path for path in lower.empty if is_visible(path)} | upper.empty
    return Document(upper.sources, data, places, empty)


def _merge(
    lower: Mapping[str, Any], upper: Document, path: Path, covered: set[Path], removed: set[Path]
) -> dict[str, Any]:
    """Return the mapping *lower* with the one at *path* of *upper* on top.

    *covered* gets the paths of values of *lower* that are replaced, and *removed* those of which nothing is left.
    """
    data = dict(lower)
    for key, value in get_value(upper.data, path).items():
        inner = (*path, key)
        if isinstance(lower.get(key), Mapping) and isinstance(value, Mapping):
            data[key] = _merge(lower[key], upper, inner, covered, removed)
            continue
        covered.add(inner)
        if value is None and key in lower and inner not in upper.empty:
            removed.add(inner)
            del data[key]
        else:
            data[key] = value
    return data
