"""Collect problems of a file, and format them with an excerpt, a caret and a suggestion."""

from __future__ import annotations

import difflib
import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from modelhub.config.secrets import MASK, Range, apply_masks, guess_line_masks, join_ranges, redact_text
from modelhub.core.errors import ConfigError, Problem

__all__ = ["Report", "Source", "Span", "format_choice", "suggest_name"]

_COMMENT = re.compile(r"\s*#")
_CONTEXT_LINES = 2
_MAX_LINE_WIDTH = 140
_MAX_NAME_LENGTH = 100
_MAX_PROBLEMS = 1000
_MAX_EXCERPTS = 100
"""How many problems are shown with an excerpt of the file."""
_MAX_LISTED = 12
"""How many names are listed beside a suggestion; more would hide it."""


class Span(NamedTuple):
    """A range of a file. Lines and columns count from 1; the end is exclusive.

    `file` is the file's number in its `Report`: 0 for the first one, more for those that it includes.
    """

    line: int
    column: int
    end_line: int
    end_column: int
    file: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file. `masks` has the hidden column ranges of each line (counted from 1).

    `number` is that of the spans in the file, and `folder` what relative paths in it start from.
    """

    file: str
    lines: list[str] = field(default_factory=list)
    number: int = 0
    folder: Path = Path()
    masks: dict[int, list[Range]] = field(default_factory=dict)
    _joined_masks: dict[int, tuple[int, list[Range]]] = field(default_factory=dict, repr=False)
    _masked_lines: dict[int, tuple[str, list[tuple[Range, Range]]]] = field(default_factory=dict, repr=False)

    def hide(self, span: Span) -> None:
        """Hide the text of *span* in every excerpt."""
        for number in range(span.line, min(span.end_line, len(self.lines)) + 1):
            line = self.lines[number - 1]
            start = span.column - 1 if number == span.line else len(line) - len(line.lstrip())
            end = span.end_column - 1 if number == span.end_line else len(line.rstrip())
            if _COMMENT.match(line, end):
                end = len(line.rstrip())  # "abc #def": what YAML takes for a comment may be half of the key
            self.masks.setdefault(number, []).append((start, end))

    def is_hidden(self, span: Span) -> bool:
        """Return whether the beginning of *span* is hidden."""
        return _is_overlapping(self._get_masks(span.line), span.column - 1, span.column)

    def format_excerpt(self, span: Span, hint: str) -> str:
        """Return the line of *span* and up to two before it, with a caret below and *hint* beside it."""
        if not 1 <= span.line <= len(self.lines):
            return ""
        first = max(1, span.line - _CONTEXT_LINES)
        while first < span.line and not self.lines[first - 1].strip():
            first += 1
        above = [
            f"{number:>5} | {_cut_line(self._get_masked_line(number)[0])[0]}" for number in range(first, span.line)
        ]
        return "\n".join([*(line.rstrip() for line in above), *self._format_marked_line(span, hint)])

    def _format_marked_line(self, span: Span, hint: str) -> Iterator[str]:
        masked, shifts = self._get_masked_line(span.line)
        start = _shift_index(span.column - 1, shifts)
        end = _shift_index(span.end_column - 1, shifts) if span.end_line == span.line else len(masked)
        line, offset = _cut_line(masked, start)
        start, end = start - offset, end - offset
        yield f"{span.line:>5} | {line}".rstrip()
        width = max(1, sum(map(_count_cells, line[start:end].rstrip())))
        indent = sum(map(_count_cells, line[:start]))
        yield f"{'':>5} | {'':>{indent}}{'^' * width} {hint}".rstrip()

    def _get_masked_line(self, number: int) -> tuple[str, list[tuple[Range, Range]]]:
        if number not in self._masked_lines:
            raw, masks = self.lines[number - 1], self._get_masks(number)
            # Masks from the parsed file are exact; a guess that overlaps one would hide too much.
            guessed = [(start, end) for start, end in guess_line_masks(raw) if not _is_overlapping(masks, start, end)]
            line, shifts = apply_masks(raw, [*masks, *guessed])
            self._masked_lines[number] = "".join(char if char.isprintable() else " " for char in line), shifts
        return self._masked_lines[number]

    def _get_masks(self, number: int) -> list[Range]:
        """Return the hidden ranges of a line, in order and without overlap."""
        masks = self.masks.get(number, [])
        if number not in self._joined_masks or self._joined_masks[number][0] != len(masks):
            self._joined_masks[number] = len(masks), list(join_ranges(masks))
        return self._joined_masks[number][1]


def _cut_line(line: str, place: int = 0) -> tuple[str, int]:
    """Return the part of *line* around the index *place*, and how many characters before that part are left out."""
    if len(line) <= _MAX_LINE_WIDTH:
        return line, 0
    start = max(0, min(place - _MAX_LINE_WIDTH // 2, len(line) - _MAX_LINE_WIDTH))
    part = line[start : start + _MAX_LINE_WIDTH]
    left = "..." if start else ""
    right = "..." if start + _MAX_LINE_WIDTH < len(line) else ""
    return f"{left}{part[len(left) : len(part) - len(right)]}{right}", start


def _is_overlapping(ranges: list[Range], start: int, end: int) -> bool:
    """Return whether one of *ranges*, which are sorted and disjoint, overlaps the range from *start* to *end*."""
    after = bisect_right(ranges, start, key=itemgetter(1))
    return after < len(ranges) and ranges[after][0] < end


def _count_cells(char: str) -> int:
    """Return how many columns *char* takes in a terminal."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in {"W", "F"} else 1


def _shift_index(index: int, shifts: list[tuple[Range, Range]]) -> int:
    """Return the column of *index* after masking; within a mask, the mask's start."""
    after = bisect_left(shifts, index, key=lambda pair: pair[0][0])  # the number of masks that begin before it
    if not after:
        return index
    (_, end), (new_start, new_end) = shifts[after - 1]
    return new_start if index < end else index + new_end - end


class Report:
    """Collects the problems of a file and those that it includes, at most one for each position.

    Further problems at the same position usually follow from the first.
    """

    def __init__(self, *sources: Source) -> None:
        self.sources = list(sources)
        self._problems: dict[tuple[int, int, int, str], tuple[Span | None, str, str]] = {}

    def mask_key(self, key: str, span: Span | None) -> str:
        """Return *key*, which is at *span*, for a message: `***` if it is hidden there."""
        return MASK if span is not None and self.sources[span.file].is_hidden(span) else redact_text(key)

    def add(self, span: Span | None, message: str, hint: str = "") -> None:
        """Add a problem at *span*. Without a span (configuration from a dict), every distinct message is kept."""
        key = (0, 0, 0, message) if span is None else (span.file, span.line, span.column, "")
        if not self.is_full:
            self._problems.setdefault(key, (span, message, hint))

    def check(self) -> None:
        """Raise ConfigError with every problem, in the order of the file, if there are any."""
        if self._problems:
            keys = sorted(self._problems, key=lambda at: at[:3])
            detailed = [self.make_problem(*self._problems[at]) for at in keys[:_MAX_EXCERPTS]]
            brief = [self.make_problem(*self._problems[at], excerpt=False) for at in keys[_MAX_EXCERPTS:]]
            more = [Problem(f"these are the first {_MAX_PROBLEMS:,} problems", self.sources[0].file)] * self.is_full
            raise ConfigError([*detailed, *brief, *more])

    @property
    def is_full(self) -> bool:
        """Whether the limit is reached, so that further problems are dropped."""
        return len(self._problems) >= _MAX_PROBLEMS

    @property
    def has_many(self) -> bool:
        """Whether there are so many problems that further ones get no suggestion."""
        return len(self._problems) >= _MAX_EXCERPTS

    def make_problem(self, span: Span | None, message: str, hint: str, *, excerpt: bool = True) -> Problem:
        """Return a problem at *span*, with an excerpt of the file unless *excerpt* is False."""
        # Excerpts are made last, when all masks are known.
        source = self.sources[0 if span is None else span.file]
        if span is None:
            return Problem(message, source.file, hint=hint)
        lines = source.format_excerpt(span, hint) if excerpt else ""
        return Problem(message, source.file, span.line, span.column, lines, hint)


def suggest_name(name: str, known: Collection[str], *, kind: str = "") -> str:
    """Return a hint for the unknown *name*: the closest of *known*; with *kind*, or if none is close, all of them."""
    matches = difflib.get_close_matches(name, known, 1) if len(name) <= _MAX_NAME_LENGTH else []
    close = matches or [other for other in known if other.lower() == name.lower()]
    suggestion = f"did you mean `{close[0]}`?" if close else ""
    if close and (not kind or len(known) > _MAX_LISTED):
        return suggestion
    names = ", ".join(known)
    listed = f"{kind}: {names}" if kind else f"known keys: {names}"
    if not known:
        return f"there are no {kind}" if kind else ""
    return f"{suggestion} ({listed})" if suggestion else listed


def format_choice(values: Iterable[str]) -> str:
    """Format *values* as a choice: `a`, `b` or `c`."""
    *first, last = [f"`{value}`" for value in values]
    return f"{', '.join(first)} or {last}" if first else last
