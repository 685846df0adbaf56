"""The rows of a job's input and output, whatever the format of the file, and what is kept of their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from modelhub.core.errors import InvalidRequest
from modelhub.core.row_result import RowResult
from modelhub.jobs.json_text import dump_json

__all__ = ["ANSWER_COLUMNS", "MAX_EARLY_ROWS", "Answer", "InputRow", "OrderedWriter", "RowReader", "RowWriter"]
__all__ += ["make_answer", "merge_columns", "name_columns", "rename_columns"]

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
MAX_EARLY_ROWS = 1024
"""How many rows of an output in order may wait for one before them."""


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


@dataclass(slots=True)
class Answer:
    """The answer of a row, or its failure: `columns` of the output; `cost` in US dollars, None if it is not known.

    `is_new` tells of an answer from the journal that it was given in this run; `json` are its columns as JSON.
    """

    columns: dict[str, Any]
    has_failed: bool
    cost: Decimal | None
    output_tokens: int = 0
    is_new: bool = False
    json: bytes = b""

    def __post_init__(self) -> None:
        if not self.json:
            self.json = dump_json(self.columns)  # once, for the journal and the output


def make_answer(result: RowResult[Any], *, has_output: bool) -> Answer:
    """Return the answer of *result*; with *has_output*, it has a column for the structured output."""
    reply, error = result.reply, result.error
    input_tokens, output_tokens, known_cost, unknown_costs = result.usage
    cost = None if unknown_costs else known_cost
    text = metadata = model = finish_reason = None
    if reply is not None:
        text, model, finish_reason = reply.text, reply["model"], reply["finish_reason"]
        metadata = reply["metadata"] if has_output else None
    columns: dict[str, Any] = {
        "answer": text,
        **({"output": metadata} if has_output else {}),
        "error": None if error is None else f"{error.kind}: {error}",
        "model": model,
        "finish_reason": finish_reason,
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost": None if cost is None else float(cost),
    }
    return Answer(columns, error is not None, cost, output_tokens)


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


class OrderedWriter:
    """Passes rows on to *writer* in the order of their numbers; those that come early have to wait.

    If too many of them wait, which is bad for memory, it gives up: no further row is written, and `is_complete` stays
    False. The rows must then be written from the journal.
    """

    def __init__(self, writer: RowWriter) -> None:
        self._writer = writer
        self._early: dict[int, tuple[InputRow, Answer]] = {}
        self._next_number = 1
        self._has_given_up = False

    @property
    def is_complete(self) -> bool:
        """Whether all rows so far were written."""
        return not self._early and not self._has_given_up

    def write(self, row: InputRow, answer: Answer) -> None:
        """Write *row*, and those that waited for it; or keep it until it is its turn."""
        if self._has_given_up:
            return
        self._early[row.number] = (row, answer)
        while (waiting := self._early.pop(self._next_number, None)) is not None:
            self._writer.write(*waiting)
            self._next_number += 1
        if len(self._early) > MAX_EARLY_ROWS:
            self._early.clear()
            self._has_given_up = True

    def flush(self) -> None:
        """Pass what was written to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()


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
