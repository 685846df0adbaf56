"""Shared output functions: printing, colours, columns, and readable numbers."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.text import Text

    Cell = Text | tuple[str, str] | str

__all__ = [
    "Cell",
    "replace_unencodable",
    "escape_controls",
    "align_columns",
    "can_rewrite_lines",
    "format_count",
    "find_width",
    "is_terminal",
    "make_line",
    "format_cost",
    "join_names",
    "print_json",
    "print_lines",
    "show_bar",
    "show_waiting",
    "format_setting",
    "format_duration",
    "wrap_line",
]

_CONTROL_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: 0x2421,
    **dict.fromkeys(range(0x80, 0xA0), 0xFFFD),
}
_LABEL = re.compile(r" *\S+ {2,}(?=\S)|at worst ")
"""A label before the first column; continuation lines are indented to its end."""
_MIN_WIDTH = 20
_MIN_LAST_COLUMN = 12
"""The minimum width of the last cell of a row."""
_GAP = "  "
"""What is between two cells of a row."""


def replace_unencodable() -> None:
    """Print `?` for characters that the terminal's encoding lacks, instead of raising UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def escape_controls(text: str) -> str:
    """Return *text* with control characters replaced, so that a terminal does not interpret them."""
    return text.translate(_CONTROL_PICTURES)


def is_terminal(stream: TextIO | None) -> bool:
    """Return whether *stream*, None if it is closed, is a terminal."""
    return stream is not None and stream.isatty()


def can_rewrite_lines(stream: TextIO | None) -> bool:
    """Return whether *stream* is a terminal on which a line can be written over, such as that of a progress bar."""
    return is_terminal(stream) and os.environ.get("TERM") != "dumb"


def find_width(stream: TextIO | None) -> int | None:
    """Return the number of columns of *stream*: $COLUMNS or the terminal's, or None if it is not a terminal."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) >= _MIN_WIDTH:
        return int(columns)
    return shutil.get_terminal_size().columns if is_terminal(stream) else None


def wrap_line(row: Text, width: int | None) -> list[Text]:
    """Return *row* as lines of at most *width* columns; continuation lines are indented to its second column."""
    from rich.cells import cell_len
    from rich.console import Console

    plain = row.plain
    if width is None or cell_len(plain) <= width:
        return [row]
    indent = len(plain) - len(plain.lstrip(" "))
    label = _LABEL.match(plain)
    first_indent = min(indent, width // 4)
    next_indent = label.end() if label is not None and label.end() <= width // 4 else first_indent + 2
    lines = row[indent:].wrap(Console(width=width), width - next_indent)
    return [
        make_line(" " * (next_indent if index else first_indent)).append_text(text) for index, text in enumerate(lines)
    ]


def print_lines(*rows: Text | str, err: bool = False, end: str = "\n", wraps: bool = True) -> None:
    """Print each of *rows* on a separate line: styled on a terminal, plain elsewhere.

    Lines that are too long for the terminal are wrapped, unless *wraps* is false.
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
    # Captured, because rich would exit the process itself when a pipe is closed.
    with console.capture() as captured:
        width = find_width(stream) if wraps and end == "\n" else None
        for row in rows:
            for part in wrap_line(make_line(row) if isinstance(row, str) else row, width):
                console.print(part, soft_wrap=True, end=end)
    stream.write(captured.get())
    stream.flush()


def print_json(value: Any) -> None:
    """Print *value* as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=_convert_value), flush=True)  # noqa: T201


def _convert_value(value: Any) -> Any:
    if isinstance(value, Sequence):
        return list(value)
    return str(value)


@contextmanager
def show_waiting(activity: str, delay: float = 1.0) -> Iterator[None]:
    """Show *activity*, such as "reading usage.db", on a terminal after *delay* seconds, until the block ends.

    Nothing is shown where standard error is no terminal. The block prints nothing itself.
    """
    if not can_rewrite_lines(sys.stderr):
        yield
        return
    has_line, line = threading.Event(), f"{activity} ..."

    def write_line() -> None:
        has_line.set()
        sys.stderr.write(f"\r{line}")
        sys.stderr.flush()

    timer = threading.Timer(delay, write_line)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        if has_line.is_set():
            sys.stderr.write(f"\r{' ' * len(line)}\r")
            sys.stderr.flush()


@contextmanager
def show_bar(total: int) -> Iterator[Callable[[int, str], None]]:
    """Show a progress bar on standard error until the block ends; yields a function of what is done, and a text."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False, color_system=None if os.environ.get("NO_COLOR") else "auto")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done, text: bar.update(task, completed=done, description=text, refresh=True)


def make_line(*parts: tuple[str, str] | str) -> Text:
    """Return a line of *parts*: text, or (text, style)."""
    from rich.text import Text

    return Text.assemble(
        *(
            (escape_controls(part), "") if isinstance(part, str) else (escape_controls(part[0]), part[1])
            for part in parts
        )
    )


def align_columns(
    rows: Iterable[Sequence[Cell]], *, indent: int = 2, labels: Sequence[str] = (), reserved: int = 0
) -> list[Text]:
    """Return *rows* with their cells aligned; the last cell of a row is not padded.

    A table that is wider than the terminal, less *reserved* columns, is not aligned: its cells follow each other, each
    after one of *labels*. If there are labels, only the first cell of the first row, the header, is kept.
    """
    from rich.cells import cell_len

    texts = [[make_line(cell) if isinstance(cell, str | tuple) else cell for cell in row] for row in rows]
    widths: dict[int, int] = {}
    for row in texts:
        for index, cell in enumerate(row[:-1]):
            widths[index] = max(widths.get(index, 0), cell_len(cell.plain))
    width = find_width(sys.stdout)
    if (
        width is not None
        and indent + sum(widths.values()) + len(_GAP) * len(widths) + _MIN_LAST_COLUMN > width - reserved
    ):
        header = [_join_cells(row[:1], indent, ()) for row in texts[: bool(labels)]]
        return header + [_join_cells(row, indent, labels) for row in texts[bool(labels) :]]
    lines = []
    for row in texts:
        aligned = make_line(" " * indent)
        for index, cell in enumerate(row):
            aligned.append_text(cell)
            if index < len(row) - 1:
                aligned.append(" " * (widths[index] - cell_len(cell.plain)) + _GAP)
        aligned.rstrip()
        lines.append(aligned)
    return lines


def _join_cells(row: Sequence[Text], indent: int, labels: Sequence[str]) -> Text:
    """Return one line with the cells of *row* that are not empty."""
    joined = make_line(" " * indent)
    for index, original in enumerate(row):
        cell = original.copy()
        cell.rstrip()
        plain = cell.plain.lstrip()
        if not plain:
            continue
        if index:
            joined.append(_GAP)
        if index < len(labels) and labels[index]:
            joined.append_text(make_line((f"{labels[index]} ", "dim")))
        joined.append_text(cell[len(cell.plain) - len(plain) :] if index else cell)
    return joined


def format_duration(seconds: float) -> str:
    """Format a measured time in seconds: 0.2 s, 12.3 s, 2 min 5 s."""
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, remainder = divmod(round(seconds), 60)
    return f"{minutes} min {remainder} s" if remainder else f"{minutes} min"


def format_setting(seconds: float) -> str:
    """Format a configured time in seconds: 500 ms, 2.5 s, 120 s, 15 min, 2 h."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g} ms"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 5 * 60 and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{round(seconds, 1):g} s"


def format_count(number: int, thing: str) -> str:
    """Format a number of things: 1 model, 2 models."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def format_cost(cost: Decimal) -> str:
    """Format US dollars with the significant digits: $0.0018, $1.25."""
    if not cost:
        return "$0"
    digits = 2 if cost >= 1 else 1 - cost.adjusted()
    return f"${cost:,.{digits}f}"


def join_names(items: Sequence[str], word: str = "and") -> str:
    """Join *items* as in a sentence: a, b and c."""
    return f" {word} ".join(filter(None, (", ".join(items[:-1]), items[-1]))) if items else ""
