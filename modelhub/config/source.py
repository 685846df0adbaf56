"""Parse YAML text to data, with the position of every key and value.

Scalars are read as YAML 1.2 does: only `true` and `false` are booleans, `1:30` and `2025-01-01` are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path as FilePath
from typing import Any, NamedTuple, NoReturn

from modelhub.config import syntax
from modelhub.config.problems import Report, Source, Span
from modelhub.config.secrets import guess_file_masks, is_plain_key_field, is_reference, is_secret

__all__ = ["Document", "Path", "Place", "parse_document", "parse_plain_value"]

Path = tuple[str | int, ...]
"""The keys that lead to a value."""

_MAX_DEPTH = 40
_MAX_VALUES = 50_000
_MAX_SLOW_PARSER_CHARS = 50_000
_MAX_SAFE_DEPTH = 200
_ENTRY_SECTIONS = frozenset({"models", "chains", "limits", "profiles"})
_TOO_DEEP = "the file is nested too deeply"
_TOO_LARGE = "the file is too large, or its aliases make too many values of it"
_TAG_PREFIX = "tag:yaml.org,2002:"


class Place(NamedTuple):
    """The position of a value. `written` is a scalar's text, None for a list or mapping; `bare` means that it is not
    quoted, and is also set for all scalars inside `{}` and `[]`, where YAML itself requires quotes around `${VAR}`.
    """

    key: Span | None
    value: Span
    written: str | None = None
    bare: bool = False
    block: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """The data of a file and the position of every value in it. Configuration from a dict has no positions.

    `sources` are the file and those that it includes, by the numbers of the spans. `profile_paths` are the paths of
    what the profile set.
    """

    sources: list[Source]
    data: Any
    places: dict[Path, Place] = field(default_factory=dict)
    empty: set[Path] = field(default_factory=set)
    profile_paths: frozenset[Path] = frozenset()

    def find_source(self, path: Path) -> Source:
        """Return the file in which the value at *path*, or the nearest enclosing one, is written."""
        span = self.find_span(path, key=True)
        return self.sources[span.file if span is not None else 0]

    def find_span(self, path: Path, *, key: bool = False) -> Span | None:
        """Return the span of the value at *path*, or of its *key*; if it is absent, of the nearest enclosing value."""
        while path and path not in self.places:
            path, key = path[:-1], True
        place = self.places.get(path)
        if place is None:
            return None
        return place.key if place.key is not None and (key or place.block) else place.value

    def find_line(self, path: Path) -> int:
        """Return the line of *path*, counted from 1, or 0 if it has no position."""
        span = self.find_span(path, key=True)
        return span.line if span is not None else 0


def parse_document(
    text: str, file: str, folder: FilePath | None = None, report: Report | None = None
) -> tuple[Document, Report]:
    """Parse *text*, the content of *file*, and return its data with a report of the problems so far.

    *folder* is what relative paths in it start from, by default that of *file*. The problems are added to *report*, if
    that is given: duplicate keys and YAML features that are not supported. Raises ConfigError if *text* is not YAML, or
    not a mapping.
    """
    text = text.removeprefix("\ufeff")
    report = Report() if report is None else report
    folder = FilePath(file).parent if folder is None else folder
    source = Source(file, syntax.LINE_BREAK.split(text), len(report.sources), folder)
    report.sources.append(source)
    root = _compose(text, report, source)
    if root is None or (root.id == "scalar" and not root.value):
        hint = "it needs at least `version: 1` and `models:`"
        report.add(Span(1, 1, 1, 1, source.number), "the file is empty", hint)
    elif root.id != "mapping":
        message = f"the file must be a mapping (`key: value`), not {'a list' if root.id == 'sequence' else 'text'}"
        report.add(_make_span(root, source), message, "begin with `version: 1`")
    report.check()
    _hide_secrets(root, source)
    reader = _Reader(report, source)
    data = reader.read(root, ())
    first = root.value[0][0] if root.value else root
    reader.places[()] = Place(_make_span(first, source), _make_span(root, source), block=True)
    return Document(report.sources, data, reader.places, reader.empty), report


def parse_plain_value(text: str) -> Any:
    """Return what *text* means in YAML without quotes: a number, a boolean, None, or the text itself."""
    for tag, pattern, _ in _SCALAR_PATTERNS:
        if pattern.fullmatch(text):
            return _SCALAR_PARSERS[_TAG_PREFIX + tag](text)
    return text


def _compose(text: str, report: Report, source: Source) -> Any:
    import yaml

    try:
        if (mark := _find_too_deep(text, source.lines)) is not None:
            line, column = mark.line + 1, mark.column + 1
            report.add(Span(line, column, line, column + 1, source.number), _TOO_DEEP)
            return report.check()
        return yaml.compose(text, Loader=make_loader())
    except yaml.YAMLError as fast:
        error = fast
    # The slow parser in Python describes errors better than the one in C; if it finds none, the C parser's is used.
    if len(text) <= _MAX_SLOW_PARSER_CHARS:
        try:
            yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as slow:
            error = slow
        except RecursionError:
            pass
    for number, ranges in guess_file_masks(source.lines).items():
        source.masks[number + 1] = ranges
    span, message, hint = syntax.explain_syntax_error(error, text)
    report.add(span._replace(file=source.number), message, hint)
    return report.check()


def _find_too_deep(text: str, lines: list[str]) -> Any:
    """Return the mark of the first node of *text* at which composing it, which recurses, could crash the process."""
    import yaml

    flow = sum(line.count("[") + line.count("{") for line in lines)
    block = max((len(line) - len(line.lstrip(" ")) + line.count("- ") + line.count("? ") for line in lines), default=0)
    if flow <= _MAX_SAFE_DEPTH and block <= _MAX_SAFE_DEPTH:
        return None  # without parsing it
    depth = 0
    for event in yaml.parse(text, Loader=make_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_SAFE_DEPTH:
                return event.start_mark
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


def _parse_integer(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits.lstrip("+-")[:2] in {"0x", "0o"} else int(digits)


def _parse_float(text: str) -> float:
    return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


def _parse_boolean(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


_SCALAR_PATTERNS: tuple[tuple[str, re.Pattern[str], str | None], ...] = (
    ("null", re.compile(r"~|null|Null|NULL|"), None),
    ("bool", re.compile(r"(?i:true|false)"), "tTfF"),
    ("int", re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+"), "-+0123456789"),
    ("float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"), "-+.0123456789"),
    ("float", re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), "-+."),
)

_SCALAR_PARSERS: dict[str, Callable[[str], Any]] = {
    _TAG_PREFIX + "null": lambda _text: None,
    _TAG_PREFIX + "bool": _parse_boolean,
    _TAG_PREFIX + "int": _parse_integer,
    _TAG_PREFIX + "float": _parse_float,
    _TAG_PREFIX + "str": str,
    _TAG_PREFIX + "merge": str,
}


@cache
def make_loader() -> Any:
    """Return the loader class, made with the first file: importing yaml takes longer than reading a file."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # the base is known at run time
        yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - the name and its kind are PyYAML's

    for tag, pattern, first in _SCALAR_PATTERNS:
        full_pattern = re.compile(rf"(?:{pattern.pattern})\Z")
        Loader.add_implicit_resolver(_TAG_PREFIX + tag, full_pattern, list(first) if first else ["~", "n", "N", ""])
    Loader.add_implicit_resolver(_TAG_PREFIX + "merge", re.compile(r"<<\Z"), ["<"])
    return Loader


def _hide_secrets(root: Any, source: Source) -> None:
    """Mask every scalar under a secret key. The names of models, chains and limits are never secret keys."""
    pending: list[tuple[Any, tuple[str, ...], bool]] = [(root, (), False)]
    seen: set[tuple[int, bool]] = set()
    while pending:
        node, path, secret = pending.pop()
        if node is None or (id(node), secret) in seen:
            continue
        seen.add((id(node), secret))
        if node.id == "scalar":
            if not secret:
                _hide_swallowed(node, source)
            elif node.value and not is_reference(node.value):
                source.hide(_make_span(node, source))
        elif node.id == "sequence":
            pending += [(item, (*path, "-"), secret) for item in node.value]
        else:
            # A key of a flow mapping without a value: in `{api_key: a,b}`, the key `b` is half of the secret.
            hides_fragments = node.flow_style and (
                secret or any(key.id == "scalar" and is_secret(key.value) for key, _ in node.value)
            )
            for key, value in node.value:
                is_fragment = value.id == "scalar" and not value.value and not value.style
                if hides_fragments and is_fragment:
                    source.hide(_make_span(key, source))
                name = str(key.value) if key.id == "scalar" else ""
                is_entry_name = len(path) == 1 and path[0] in _ENTRY_SECTIONS and value.id == "mapping"
                is_entry_name = is_entry_name or (path == () and name == "secrets" and value.id == "mapping")
                inner = () if path == ("profiles",) else (*path[:2], name)  # a profile has the sections of a file
                is_hidden = secret or (not is_entry_name and is_secret(name))
                pending.append((value, inner, is_hidden and not is_plain_key_field((*path, name))))


def _hide_swallowed(node: Any, source: Source) -> None:
    """Mask what looks secret in a multi-line scalar: an unclosed quote swallows the keys below it."""
    first, last = node.start_mark.line, node.end_mark.line
    if first == last:
        return
    for number, ranges in guess_file_masks(source.lines[first : last + 1]).items():
        source.masks.setdefault(first + number + 1, []).extend(ranges)


def _make_span(node: Any, source: Source) -> Span:
    start, end = node.start_mark, node.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1, source.number)


class _Reader:
    """Converts the nodes of a file to data, and records their positions."""

    def __init__(self, report: Report, source: Source) -> None:
        self.report = report
        self.source = source
        self.places: dict[Path, Place] = {}
        self.empty: set[Path] = set()
        self._count = 0
        self._open: set[int] = set()
        self._merged: dict[int, list[tuple[str, Any, Any]]] = {}

    def read(self, node: Any, path: Path) -> Any:
        """Return the data of *node*, and record the positions of the values in it."""
        self._count += 1
        if id(node) in self._open:
            return self._refuse(node, "an alias that refers to its own parent")
        if self._count > _MAX_VALUES:
            self._abort(node, _TOO_LARGE)
        if len(path) > _MAX_DEPTH:
            self._abort(node, _TOO_DEEP)
        if node.id == "scalar":
            return self._read_scalar(node)
        if node.tag not in {_TAG_PREFIX + "map", _TAG_PREFIX + "seq"}:
            return self._refuse(node, "a tag (`!name`) is not supported")
        self._open.add(id(node))
        data: Any
        if node.id == "mapping":
            data = {}
            for name, key, value in self._get_pairs(node):
                data[name] = self._read_entry(key, value, (*path, name), flow=node.flow_style)
        else:
            data = [self._read_entry(None, item, (*path, i), flow=node.flow_style) for i, item in enumerate(node.value)]
        self._open.discard(id(node))
        return data

    def _read_entry(self, key: Any, value: Any, path: Path, *, flow: bool) -> Any:
        scalar = value.id == "scalar"
        self.places[path] = Place(
            None if key is None else _make_span(key, self.source),
            _make_span(value, self.source),
            value.value if scalar else None,
            bare=scalar and (flow or not value.style),
            block=not scalar and not value.flow_style,
        )
        if scalar and not value.style and value.value == "":
            self.empty.add(path)
        return self.read(value, path)

    def _get_pairs(self, node: Any, depth: int = 0) -> list[tuple[str, Any, Any]]:
        """Return a mapping's own (name, key, value) triples, then those that it merges from others with `<<`."""
        if id(node) not in self._merged:
            self._merged[id(node)] = []  # a mapping that merges itself gets nothing from it
            pairs = self._merged[id(node)] = list(self._merge_pairs(node, depth))
            self._count += len(pairs)
        return self._merged[id(node)]

    def _merge_pairs(self, node: Any, depth: int) -> Iterator[tuple[str, Any, Any]]:
        seen: dict[str, Any] = {}
        merged: list[Any] = []
        for key, value in node.value:
            if key.id != "scalar":
                self._refuse(key, "a key must be a name, not a list or mapping")
            elif key.tag == _TAG_PREFIX + "merge" and not key.style:
                merged += value.value if value.id == "sequence" else [value]
            elif key.value in seen:
                self._refuse_duplicate(key, seen[key.value].start_mark.line + 1)
            else:
                seen[key.value] = key
                yield key.value, key, value
        for other in merged:
            if other.id != "mapping" or depth > _MAX_DEPTH:
                self._refuse(other, "`<<` merges a mapping (`*name`) or a list of them")
                continue
            if self._count > _MAX_VALUES:
                self._abort(other, _TOO_LARGE)
            for name, key, value in self._get_pairs(other, depth + 1):
                if name not in seen:
                    seen[name] = key
                    yield name, key, value

    def _refuse_duplicate(self, key: Any, line: int) -> None:
        if not self.report.is_full:
            span = _make_span(key, self.source)
            name = self.report.mask_key(key.value, span)
            self.report.add(span, f"duplicate key `{name}`", f"it is already on line {line}")

    def _read_scalar(self, node: Any) -> Any:
        convert = _SCALAR_PARSERS.get(node.tag)
        if convert is None:
            return self._refuse(node, "a tag (`!name`) is not supported", "put quotes around text that begins with `!`")
        try:
            return convert(node.value)
        except ValueError:
            kind = node.tag.removeprefix(_TAG_PREFIX)
            return self._refuse(node, f"this is not a valid `{kind}`, which its tag asks for")

    def _abort(self, node: Any, message: str) -> NoReturn:
        """Report *message* at *node* and raise ConfigError: reading cannot go on."""
        self._refuse(node, message)
        self.report.check()
        raise AssertionError("a problem was reported")  # pragma: no cover

    def _refuse(self, node: Any, message: str, hint: str = "") -> None:
        self.report.add(_make_span(node, self.source), message, hint)
