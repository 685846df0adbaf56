"""How a problem looks: the excerpt with its caret, and what was probably meant."""

from __future__ import annotations

import difflib
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from modelhub.config.secrets import MASK, Range, apply_masks, guess_in_line, join_ranges, shown
from modelhub.core.errors import ConfigError, Problem

__all__ = ["Report", "Source", "Span", "any_of", "did_you_mean"]

_COMMENT = re.compile(r"\s*#")
_CONTEXT = 2
_WIDEST = 140
_MAX_NAME = 100
_MAX_PROBLEMS = 1000
_MAX_EXCERPTS = 100
_MAX_LISTED = 12
"""So many names are listed beside a suggestion; more would hide it."""
"""How many problems are shown with their lines. Who has more mends these first."""


class Span(NamedTuple):
    """A stretch of the file; all counts from 1, the end is the first place after it."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Source:
    """The text problems are shown in. `masks` has what is hidden of each line (counted from 1)."""

    file: str
    lines: list[str] = field(default_factory=list)
    masks: dict[int, list[Range]] = field(default_factory=dict)
    _joined: dict[int, tuple[int, list[Range]]] = field(default_factory=dict, repr=False)
    _shown: dict[int, tuple[str, list[tuple[Range, Range]]]] = field(default_factory=dict, repr=False)

    def hide(self, span: Span) -> None:
        """Show nothing of *span* in any excerpt."""
        for number in range(span.line, min(span.end_line, len(self.lines)) + 1):
            line = self.lines[number - 1]
            start = span.column - 1 if number == span.line else len(line) - len(line.lstrip())
            end = span.end_column - 1 if number == span.end_line else len(line.rstrip())
            if _COMMENT.match(line, end):
                end = len(line.rstrip())  # "abc #def": what YAML takes for a comment may be half of the key
            self.masks.setdefault(number, []).append((start, end))

    def name(self, key: str, span: Span | None) -> str:
        """How a message calls *key*, which stands at *span*."""
        if span is None:
            return shown(key)
        column = span.column - 1
        return MASK if _overlaps(self._masks_of(span.line), column, column + 1) else shown(key)

    def excerpt(self, span: Span, hint: str) -> str:
        """The marked line, with up to two lines before it, and *hint* beside the caret."""
        if not 1 <= span.line <= len(self.lines):
            return ""
        first = max(1, span.line - _CONTEXT)
        while first < span.line and not self.lines[first - 1].strip():
            first += 1
        rows = [f"{number:>5} | {self._line(number)[0]}".rstrip() for number in range(first, span.line + 1)]
        return "\n".join([*rows, self._caret(span, hint)])

    def _caret(self, span: Span, hint: str) -> str:
        line, moved = self._line(span.line)
        start = _moved(span.column - 1, moved)
        end = _moved(span.end_column - 1, moved) if span.end_line == span.line else len(line)
        width = max(1, sum(map(_cells, line[start:end].rstrip())))
        indent = sum(map(_cells, line[:start]))
        return f"{'':>5} | {'':>{indent}}{'^' * width} {hint}".rstrip()

    def _line(self, number: int) -> tuple[str, list[tuple[Range, Range]]]:
        if number not in self._shown:
            self._shown[number] = self._mask_line(number)
        return self._shown[number]

    def _mask_line(self, number: int) -> tuple[str, list[tuple[Range, Range]]]:
        raw = self.lines[number - 1]
        known = self._masks_of(number)
        # Where the tree knows better, a guess would hide too much.
        guessed = [(start, end) for start, end in guess_in_line(raw) if not _overlaps(known, start, end)]
        line, moved = apply_masks(raw, [*known, *guessed])
        if len(line) > _WIDEST:
            line = f"{line[: _WIDEST - 3]}..."
        return "".join(char if char.isprintable() else " " for char in line), moved

    def _masks_of(self, number: int) -> list[Range]:
        """Return what is hidden of a line: in order, without overlap."""
        masks = self.masks.get(number, [])
        if number not in self._joined or self._joined[number][0] != len(masks):
            self._joined[number] = len(masks), list(join_ranges(masks))
        return self._joined[number][1]


def _overlaps(ranges: list[Range], start: int, end: int) -> bool:
    """Whether one of *ranges*, which are in order and apart, has something of what is from *start* to before *end*."""
    after = bisect_right(ranges, start, key=itemgetter(1))
    return after < len(ranges) and ranges[after][0] < end


def _cells(char: str) -> int:
    """How many columns of a terminal *char* takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def _moved(index: int, moved: list[tuple[Range, Range]]) -> int:
    """Where *index* stands after masking; in the middle of a mask, at its nearer end."""
    after = bisect_left(moved, index, key=lambda pair: pair[0][0])  # how many begin before it
    if not after:
        return index
    (_, end), (new_start, new_end) = moved[after - 1]
    return new_start if index < end else index + new_end - end


class Report:
    """The problems found so far. One place tells one problem: what follows from it would only be noise."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self._found: dict[tuple[int, int, str], tuple[Span | None, str, str]] = {}

    def add(self, span: Span | None, message: str, hint: str = "") -> None:
        """Note a problem at *span*; without a place (configuration from a dict) every message stands for itself."""
        place = (0, 0, message) if span is None else (span.line, span.column, "")
        if not self.is_full:
            self._found.setdefault(place, (span, message, hint))

    def check(self) -> None:
        """Raise ConfigError with every problem, in the order of the file, if there is any."""
        if self._found:
            places = sorted(self._found, key=lambda at: at[:2])
            shown = [self.problem(*self._found[at]) for at in places[:_MAX_EXCERPTS]]
            rest = [self.problem(*self._found[at], excerpt=False) for at in places[_MAX_EXCERPTS:]]
            more = [Problem(f"these are the first {_MAX_PROBLEMS:,} problems", self.source.file)] * self.is_full
            raise ConfigError([*shown, *rest, *more])

    @property
    def is_full(self) -> bool:
        """Whether there are so many problems that further ones are left out."""
        return len(self._found) >= _MAX_PROBLEMS

    @property
    def has_many(self) -> bool:
        """Whether there are so many problems that further ones need no suggestion."""
        return len(self._found) >= _MAX_EXCERPTS

    def problem(self, span: Span | None, message: str, hint: str, *, excerpt: bool = True) -> Problem:
        """Return a problem at *span*, with the lines of the file that it is about."""
        # Only now is it known of every line what has to be hidden.
        if span is None:
            return Problem(message, self.source.file, hint=hint)
        lines = self.source.excerpt(span, hint) if excerpt else ""
        return Problem(message, self.source.file, span.line, span.column, lines, hint)


def did_you_mean(name: str, known: Collection[str], *, kind: str = "") -> str:
    """What was probably meant by *name*, and, where *kind* is given or nothing is near, what there is."""
    near = difflib.get_close_matches(name, known, 1) if len(name) <= _MAX_NAME else []
    close = near or [other for other in known if other.lower() == name.lower()]
    meant = f"did you mean `{close[0]}`?" if close else ""
    if close and (not kind or len(known) > _MAX_LISTED):
        return meant
    there_is = ", ".join(known)
    listed = f"{kind}: {there_is}" if kind else f"known keys: {there_is}"
    if not known:
        return f"there are no {kind}" if kind else ""
    return f"{meant} ({listed})" if meant else listed


def any_of(values: Iterable[str]) -> str:
    """*values* as a choice: `a`, `b` or `c`."""
    *first, last = [f"`{value}`" for value in values]
    return f"{', '.join(first)} or {last}" if first else last
