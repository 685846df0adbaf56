"""YAML text to data, with the place of every key and value.

Scalars are read as YAML 1.2 does: only `true` and `false` are booleans, `1:30` and `2025-01-01` are text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, NoReturn

from modelhub.config import syntax
from modelhub.config.problems import Report, Source, Span
from modelhub.config.secrets import guess_in_file, is_reference, is_secret

__all__ = ["Document", "Path", "Place", "parse", "plain_value"]

Path = tuple[str | int, ...]
"""The keys that lead to a value."""

_MOST_DEPTH = 40
_MOST_VALUES = 50_000
_MAX_SLOW_TEXT = 50_000
_SAFE_DEPTH = 200
_NAMED = frozenset({"models", "chains", "limits"})
_TOO_DEEP = "the file is nested too deeply"
_TOO_LARGE = "the file is too large, or its aliases make too many values of it"
_PREFIX = "tag:yaml.org,2002:"


class Place(NamedTuple):
    """Where a value stands. `written` is a scalar's text, None for a list or mapping; `bare` means that no quotes say
    it is text. Inside of `{}` and `[]` they do not: there, YAML itself demands them around `${VAR}`.
    """

    key: Span | None
    value: Span
    written: str | None = None
    bare: bool = False
    block: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """The data of a file and the places of all of it. Of configuration from a dict, there are no places."""

    source: Source
    data: Any
    places: dict[Path, Place] = field(default_factory=dict)
    empty: set[Path] = field(default_factory=set)

    def span(self, path: Path, *, key: bool = False) -> Span | None:
        """Where to point for *path*: at its value, or its *key*; at the nearest thing around it if it is not there."""
        while path and path not in self.places:
            path, key = path[:-1], True
        place = self.places.get(path)
        if place is None:
            return None
        return place.key if place.key is not None and (key or place.block) else place.value

    def line(self, path: Path) -> int:
        """The line of *path*, or 0."""
        span = self.span(path, key=True)
        return span.line if span is not None else 0


def parse(text: str, file: str) -> tuple[Document, Report]:
    """The data in *text*, and a report that has its keys given twice and what only YAML can express.

    Raises ConfigError if it is no YAML, or no mapping.
    """
    text = text.removeprefix("\ufeff")
    source = Source(file, syntax.LINE_BREAK.split(text))
    report = Report(source)
    root = _compose(text, report)
    if root is None or (root.id == "scalar" and not root.value):
        report.add(Span(1, 1, 1, 1), "the file is empty", "it needs at least `version: 1` and `models:`")
    elif root.id != "mapping":
        message = f"the file must be a mapping (`key: value`), not {'a list' if root.id == 'sequence' else 'text'}"
        report.add(_span(root), message, "begin with `version: 1`")
    report.check()
    _hide_secrets(root, source)
    reader = _Reader(report)
    data = reader.read(root, ())
    first = root.value[0][0] if root.value else root
    reader.places[()] = Place(_span(first), _span(root), block=True)
    return Document(source, data, reader.places, reader.empty), report


def plain_value(text: str) -> Any:
    """What *text* is when it stands in YAML without quotes: a number, a boolean, null, or text."""
    for tag, pattern, _ in _SCALARS:
        if pattern.fullmatch(text):
            return _CONVERT[_PREFIX + tag](text)
    return text


def _compose(text: str, report: Report) -> Any:
    import yaml

    try:
        if _may_be_deep(report.source.lines) and (mark := _find_depth(text)) is not None:
            report.add(Span(mark.line + 1, mark.column + 1, mark.line + 1, mark.column + 2), _TOO_DEEP)
            return report.check()
        return yaml.compose(text, Loader=_loader())
    except yaml.YAMLError as fast:
        error = fast
    # The C parser says less than the one in Python, which is slow; where they differ, the first one's word is taken.
    if len(text) <= _MAX_SLOW_TEXT:
        try:
            yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as slow:
            error = slow
        except RecursionError:
            pass
    for number, ranges in guess_in_file(report.source.lines).items():
        report.source.masks[number + 1] = ranges
    report.add(*syntax.explain(error, text))
    return report.check()


def _may_be_deep(lines: list[str]) -> bool:
    """Whether *lines* could be nested so deeply that composing them, which recurses, would end the process."""
    flow = sum(line.count("[") + line.count("{") for line in lines)
    block = max((len(line) - len(line.lstrip(" ")) + line.count("- ") + line.count("? ") for line in lines), default=0)
    return flow > _SAFE_DEPTH or block > _SAFE_DEPTH


def _find_depth(text: str) -> Any:
    """Return the mark of the first node of *text* that is nested too deeply, None if none is."""
    import yaml

    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _SAFE_DEPTH:
                return event.start_mark
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


def _number(text: str) -> int:
    digits = text.replace("_", "")
    return int(digits, 0) if digits.lstrip("+-")[:2] in {"0x", "0o"} else int(digits)


def _real(text: str) -> float:
    return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise ValueError(text)
    return text.lower() == "true"


_SCALARS: tuple[tuple[str, re.Pattern[str], str | None], ...] = (
    ("null", re.compile(r"~|null|Null|NULL|"), None),
    ("bool", re.compile(r"(?i:true|false)"), "tTfF"),
    ("int", re.compile(r"[-+]?[0-9][0-9_]*|0o[0-7_]+|0x[0-9a-fA-F_]+"), "-+0123456789"),
    ("float", re.compile(r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"), "-+.0123456789"),
    ("float", re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), "-+."),
)

_CONVERT: dict[str, Callable[[str], Any]] = {
    _PREFIX + "null": lambda _text: None,
    _PREFIX + "bool": _truth,
    _PREFIX + "int": _number,
    _PREFIX + "float": _real,
    _PREFIX + "str": str,
    _PREFIX + "merge": str,
}


@cache
def _loader() -> Any:
    """The loader, made when the first file is read: importing it costs more than reading a file."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # the base is known at run time
        yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012 - the name and its kind are PyYAML's

    for tag, pattern, first in _SCALARS:
        whole = re.compile(rf"(?:{pattern.pattern})\Z")
        Loader.add_implicit_resolver(_PREFIX + tag, whole, list(first) if first else ["~", "n", "N", ""])
    Loader.add_implicit_resolver(_PREFIX + "merge", re.compile(r"<<\Z"), ["<"])
    return Loader


def _hide_secrets(root: Any, source: Source) -> None:
    """Hide every scalar under a key that holds a secret; models and the like may bear any name."""
    todo: list[tuple[Any, tuple[str, ...], bool]] = [(root, (), False)]
    seen: set[tuple[int, bool]] = set()
    while todo:
        node, path, secret = todo.pop()
        if node is None or (id(node), secret) in seen:
            continue
        seen.add((id(node), secret))
        if node.id == "scalar":
            if not secret:
                _hide_swallowed(node, source)
            elif node.value and not is_reference(node.value):
                source.hide(_span(node))
        elif node.id == "sequence":
            todo += [(item, (*path, "-"), secret) for item in node.value]
        else:
            hides_scraps = bool(node.flow_style) and (secret or _has_secret(node))
            for key, value in node.value:
                if hides_scraps and _is_scrap(value):
                    source.hide(_span(key))
                name = str(key.value) if key.id == "scalar" else ""
                named = len(path) == 1 and path[0] in _NAMED and value.id == "mapping"
                todo.append((value, (*path[:2], name), secret or (not named and is_secret(name))))


def _hide_swallowed(node: Any, source: Source) -> None:
    """Hide what looks secret in a text over several lines: a quote that is not closed takes in the keys below it."""
    first, last = node.start_mark.line, node.end_mark.line
    if first == last:
        return
    for number, ranges in guess_in_file(source.lines[first : last + 1]).items():
        source.masks.setdefault(first + number + 1, []).extend(ranges)


def _is_scrap(value: Any) -> bool:
    """Whether a key of a flow mapping has no value: `{api_key: a,b}` has the key `b`, half of the secret."""
    return bool(value.id == "scalar" and not value.value and not value.style)


def _has_secret(node: Any) -> bool:
    return any(key.id == "scalar" and is_secret(key.value) for key, _ in node.value)


def _span(node: Any) -> Span:
    start, end = node.start_mark, node.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


class _Reader:
    """One walk over the nodes of a file."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.places: dict[Path, Place] = {}
        self.empty: set[Path] = set()
        self._count = 0
        self._open: set[int] = set()
        self._merged: dict[int, list[tuple[str, Any, Any]]] = {}

    def read(self, node: Any, path: Path) -> Any:
        """The data of *node*; notes the places of what is in it."""
        self._count += 1
        if id(node) in self._open:
            return self._refuse(node, "an alias to what it stands in")
        if self._count > _MOST_VALUES:
            self._end(node, _TOO_LARGE)
        if len(path) > _MOST_DEPTH:
            self._end(node, _TOO_DEEP)
        if node.id == "scalar":
            return self._scalar(node)
        if node.tag not in {_PREFIX + "map", _PREFIX + "seq"}:
            return self._refuse(node, "a tag (`!name`) is not supported")
        self._open.add(id(node))
        read = self._mapping if node.id == "mapping" else self._list
        data = read(node, path)
        self._open.discard(id(node))
        return data

    def _list(self, node: Any, path: Path) -> list[Any]:
        return [self._entry(None, item, (*path, index), flow=node.flow_style) for index, item in enumerate(node.value)]

    def _mapping(self, node: Any, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for name, key, value in self._pairs(node):
            data[name] = self._entry(key, value, (*path, name), flow=node.flow_style)
        return data

    def _entry(self, key: Any, value: Any, path: Path, *, flow: bool) -> Any:
        scalar = value.id == "scalar"
        self.places[path] = Place(
            None if key is None else _span(key),
            _span(value),
            value.value if scalar else None,
            bare=scalar and (flow or not value.style),
            block=not scalar and not value.flow_style,
        )
        if scalar and not value.style and value.value == "":
            self.empty.add(path)
        return self.read(value, path)

    def _pairs(self, node: Any, depth: int = 0) -> list[tuple[str, Any, Any]]:
        """Return the keys of a mapping, then those it takes over from others (`<<`) and has not itself."""
        if id(node) not in self._merged:
            self._merged[id(node)] = []  # what a mapping takes over from itself is nothing
            pairs = self._merged[id(node)] = list(self._merge(node, depth))
            self._count += len(pairs)
        return self._merged[id(node)]

    def _merge(self, node: Any, depth: int) -> Iterator[tuple[str, Any, Any]]:
        seen: dict[str, Any] = {}
        merged: list[Any] = []
        for key, value in node.value:
            if key.id != "scalar":
                self._refuse(key, "a key must be a name, not a list or mapping")
            elif key.tag == _PREFIX + "merge" and not key.style:
                merged += value.value if value.id == "sequence" else [value]
            elif key.value in seen:
                self._refuse_duplicate(key, seen[key.value].start_mark.line + 1)
            else:
                seen[key.value] = key
                yield key.value, key, value
        for other in merged:
            if other.id != "mapping" or depth > _MOST_DEPTH:
                self._refuse(other, "`<<` takes over a mapping (`*name`) or a list of them")
                continue
            if self._count > _MOST_VALUES:
                self._end(other, _TOO_LARGE)
            for name, key, value in self._pairs(other, depth + 1):
                if name not in seen:
                    seen[name] = key
                    yield name, key, value

    def _refuse_duplicate(self, key: Any, line: int) -> None:
        if not self.report.is_full:
            name = self.report.source.name(key.value, _span(key))
            self.report.add(_span(key), f"duplicate key `{name}`", f"it is already on line {line}")

    def _scalar(self, node: Any) -> Any:
        convert = _CONVERT.get(node.tag)
        if convert is None:
            return self._refuse(node, "a tag (`!name`) is not supported", "put quotes around text that begins with `!`")
        try:
            return convert(node.value)
        except ValueError:
            return self._refuse(node, f"this is no {node.tag.removeprefix(_PREFIX)}, as its tag says")

    def _end(self, node: Any, message: str) -> NoReturn:
        """Raise ConfigError: the file is not to be read any further."""
        self._refuse(node, message)
        self.report.check()
        raise AssertionError("a problem was reported")  # pragma: no cover

    def _refuse(self, node: Any, message: str, hint: str = "") -> None:
        self.report.add(_span(node), message, hint)
