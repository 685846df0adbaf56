"""The rows of a job's input and output, whatever the format of the file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from modelhub.core.errors import InvalidRequest
from modelhub.jobs.answer import Answer

__all__ = ["ANSWER_COLUMNS", "InputRow", "RowReader", "RowWriter", "merge_columns", "name_columns", "rename_columns"]

ANSWER_COLUMNS = {
    "row": "int",
    "answer": "text",
    "output": "json",
    "error": "text",
    "model": "text",
    "finish_reason": "text",
    "input_tokens": "int",
    "output_tokens": "int",
    "cost": "float",
}
"""The columns that a job adds to those of the input, with their types.

`row` is the number of the row in the input, from 1, `answer` the text, `output` the structured output if one was asked
for, `error` why the row failed, `cost` US dollars. Tokens and cost are those of all attempts.
"""


@dataclass(slots=True)
class InputRow:
    """A row of the input: its `number`, from 1, its values by column, and its first `line` in a file of lines.

    `problem` says what is wrong with a row that cannot be read; it has no columns then.
    """

    number: int
    columns: Mapping[str, Any]
    line: int | None = None
    problem: InvalidRequest | None = None

    @property
    def place(self) -> str:
        """Where it is in the file, such as "line 17"."""
        return f"row {self.number}" if self.line is None else f"line {self.line}"


class RowReader(Protocol):
    """Reads a file row by row."""

    @property
    def columns(self) -> Sequence[str] | None:
        """The names of all columns, or None if each row has its own."""
        ...

    def count(self) -> int:
        """Return the number of rows."""
        ...

    def find_columns(self) -> dict[str, Any]:
        """Return every column and its type: one of `ANSWER_COLUMNS`, or "bool", or a type of pyarrow."""
        ...

    def __iter__(self) -> Iterator[InputRow]:
        """Read the rows, from the beginning."""
        ...


class RowWriter(Protocol):
    """Writes a file row by row."""

    def write(self, row: InputRow, answer: Answer) -> None:
        """Write *row* with its *answer*."""
        ...

    def flush(self) -> None:
        """Pass what was written to the operating system, as far as the format allows."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


def name_columns(columns: Mapping[str, Any], has_output: bool) -> dict[str, Any]:
    """Return all columns of the output with their types: *columns* of the input, and those of the answers."""
    added = {name: kind for name, kind in ANSWER_COLUMNS.items() if has_output or name != "output"}
    return {_rename(name): kind for name, kind in columns.items()} | added


def merge_columns(row: InputRow, answer: Answer) -> dict[str, Any]:
    """Return a row of the output: the columns of the input, and those of *answer*."""
    return {**rename_columns(row.columns), "row": row.number, **answer.columns}


def rename_columns(columns: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return *columns* of the input; one that has the name of one of ours is called `input_...`."""
    if ANSWER_COLUMNS.keys().isdisjoint(columns):
        return columns
    return {_rename(name): value for name, value in columns.items()}


def _rename(name: str) -> str:
    return f"input_{name}" if name in ANSWER_COLUMNS else name
