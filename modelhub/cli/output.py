"""Shared printing: where text goes, what is coloured, columns, and numbers as people read them."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.text import Text

    Cell = Text | tuple[str, str] | str

__all__ = [
    "Cell",
    "be_lenient",
    "clean",
    "columns",
    "counted",
    "find_width",
    "line",
    "money",
    "names",
    "print_json",
    "say",
    "span",
    "took",
    "wrap",
]

_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
_LABEL = re.compile(r" *\S+ {2,}(?=\S)|at worst ")
"""What stands before the first column: lines that go on are indented as much."""
_LEAST_WIDTH = 20
_LEAST_LAST = 12
"""How many columns must be left for the last cell of a row."""


def be_lenient() -> None:
    """Print `?` for what the terminal's encoding lacks instead of failing over it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def clean(text: str) -> str:
    """*text* from outside without anything a terminal would obey."""
    return text.translate(_CONTROLS)


def find_width(stream: TextIO | None) -> int | None:
    """Return how many columns *stream* has: those of $COLUMNS or of the terminal; None if there is no limit."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) >= _LEAST_WIDTH:
        return int(columns)
    return shutil.get_terminal_size().columns if stream is not None and stream.isatty() else None


def wrap(row: Text, width: int | None) -> list[Text]:
    """Return *row* as lines of at most *width* columns; those after the first are indented, below its second column."""
    from rich.cells import cell_len
    from rich.console import Console

    plain = row.plain
    if width is None or cell_len(plain) <= width:
        return [row]
    indent = len(plain) - len(plain.lstrip(" "))
    label = _LABEL.match(plain)
    lead = min(indent, width // 4)
    hang = label.end() if label is not None and label.end() <= width // 4 else lead + 2
    lines = row[indent:].wrap(Console(width=width), width - hang)
    return [line(" " * (hang if at else lead)).append_text(part) for at, part in enumerate(lines)]


def say(*rows: Text | str, err: bool = False, end: str = "\n", wrapped: bool = True) -> None:
    """Print each of *rows* on a line of its own: styled on a terminal, plain elsewhere.

    What is too long for the terminal goes on below, unless *wrapped* is false.
    """
    stream: TextIO | None = sys.stderr if err else sys.stdout
    if stream is None:
        return
    from rich.console import Console

    console = Console(
        file=stream,
        color_system=None if os.environ.get("NO_COLOR") else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )
    # Captured, because rich would end the process by itself when the reader of a pipe has gone.
    with console.capture() as captured:
        width = find_width(stream) if wrapped and end == "\n" else None
        for row in rows:
            for part in wrap(line(row) if isinstance(row, str) else row, width):
                console.print(part, soft_wrap=True, end=end)
    stream.write(captured.get())
    stream.flush()


def print_json(value: Any) -> None:
    """Print *value* as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_jsonable), flush=True)  # noqa: T201


def _jsonable(value: Any) -> Any:
    if isinstance(value, Sequence):
        return list(value)
    return str(value)


def line(*parts: tuple[str, str] | str) -> Text:
    """One line of *parts*: text, or text and its style."""
    from rich.text import Text

    return Text.assemble(*((clean(part), "") if isinstance(part, str) else (clean(part[0]), part[1]) for part in parts))


def columns(
    rows: Iterable[Sequence[Cell]], *, indent: int = 2, gap: int = 2, labels: Sequence[str] = (), room: int = 0
) -> list[Text]:
    """Return *rows* with their cells aligned; the last cell of a row takes what room it needs.

    A table that is wider than the terminal, but for *room* columns, is not aligned: its cells follow each other, each
    behind its one of *labels*; if there are any, only the first cell is left of the first row, the header.
    """
    from rich.cells import cell_len

    texts = [[line(cell) if isinstance(cell, str | tuple) else cell for cell in row] for row in rows]
    widths: dict[int, int] = {}
    for row in texts:
        for at, cell in enumerate(row[:-1]):
            widths[at] = max(widths.get(at, 0), cell_len(cell.plain))
    width = find_width(sys.stdout)
    if width is not None and indent + sum(widths.values()) + gap * len(widths) + _LEAST_LAST > width - room:
        header = [_joined(row[:1], indent, gap, ()) for row in texts[: bool(labels)]]
        return header + [_joined(row, indent, gap, labels) for row in texts[bool(labels) :]]
    lines = []
    for row in texts:
        whole = line(" " * indent)
        for at, cell in enumerate(row):
            whole.append_text(cell)
            if at < len(row) - 1:
                whole.append(" " * (widths[at] - cell_len(cell.plain) + gap))
        whole.rstrip()
        lines.append(whole)
    return lines


def _joined(row: Sequence[Text], indent: int, gap: int, labels: Sequence[str]) -> Text:
    """Return the cells of *row* that are not empty, one behind the other."""
    joined = line(" " * indent)
    for at, original in enumerate(row):
        cell = original.copy()
        cell.rstrip()
        plain = cell.plain.lstrip()
        if not plain:
            continue
        if at:
            joined.append(" " * gap)
        if at < len(labels) and labels[at]:
            joined.append_text(line((f"{labels[at]} ", "dim")))
        joined.append_text(cell[len(cell.plain) - len(plain) :] if at else cell)
    return joined


def took(seconds: float) -> str:
    """A measured time: 0.2 s, 12.3 s, 2 min 5 s."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if rest else f"{minutes} min"


def span(seconds: float) -> str:
    """A time somebody set: 500 ms, 2.5 s, 120 s, 15 min, 2 h."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g} ms"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 5 * 60 and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{round(seconds, 1):g} s"


def counted(number: int, thing: str) -> str:
    """1 model, 2 models."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def money(cost: Decimal) -> str:
    """US dollars with as many digits as say something: $0.0018, $1.25."""
    if not cost:
        return "$0"
    digits = 2 if cost >= 1 else 1 - cost.adjusted()
    return f"${cost:,.{digits}f}"


def names(found: Sequence[str], word: str = "and") -> str:
    """A, b and c."""
    return f" {word} ".join(filter(None, (", ".join(found[:-1]), found[-1]))) if found else ""
