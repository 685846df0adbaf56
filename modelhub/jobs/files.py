"""Files of rows: JSONL and CSV; which format a file has is told by its ending."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.jobs.errors import JobError
from modelhub.jobs.json_text import dump_json, parse_json
from modelhub.jobs.rows import Answer, InputRow, RowReader, RowWriter, merge_columns, rename_columns

__all__ = ["FORMATS", "find_format", "make_writer", "open_reader"]

FORMATS = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
"""The formats by the ending of a file's name."""
_MUST_QUOTE = re.compile(r'[",\r\n]')
_MAX_INTEGER = 2**63 - 1  # of a column of whole numbers
_CSV_TYPES = frozenset({str, int, float, bool, type(None)})  # others are written as JSON has them
_TYPES: tuple[tuple[type, str], ...] = ((bool, "bool"), (int, "int"), (float, "float"), (str, "text"))


def find_format(path: Path) -> str:
    """Return the format of the file *path*: "jsonl", "csv" or "parquet". Raises JobError for another ending."""
    kind = FORMATS.get(path.suffix.lower())
    if kind is None:
        raise JobError(f"{path}: the name of the file must end in {', '.join(FORMATS)}")
    return kind


def open_reader(path: Path) -> RowReader:
    """Return what reads the file *path*. Raises JobError if it is not there, or not of its format."""
    kind = find_format(path)
    if not path.is_file():
        raise JobError(f"{path}: there is no such file")
    if kind == "parquet":
        from modelhub.jobs.parquet import ParquetReader

        return ParquetReader(path)
    return CsvReader(path) if kind == "csv" else JsonlReader(path)


def make_writer(path: Path, kind: str, columns: Mapping[str, Any] | None) -> RowWriter:
    """Return what writes the file *path* in the format *kind*; *columns*, with their types, are None for JSONL."""
    if columns is None:
        return JsonlWriter(path)
    if kind == "parquet":
        from modelhub.jobs.parquet import ParquetWriter

        return ParquetWriter(path, columns)
    return CsvWriter(path, columns)


class JsonlReader:
    """Reads a JSON value from each line: an object, text (a prompt) or a list (messages); empty lines are skipped."""

    columns = None

    def __init__(self, path: Path) -> None:
        self._path = path

    def count(self) -> int:
        """Return the number of lines that are not empty."""
        with self._path.open("rb") as file:
            return sum(1 for line in file if not line.isspace())

    def find_columns(self) -> dict[str, str]:
        """Return the keys of all objects; a key whose values have several types is written as JSON."""
        types: dict[str, set[str]] = {}
        for row in self:
            for name, value in row.columns.items():
                kinds = types.setdefault(name, set())
                if value is not None:
                    kinds.add(_find_type(value))
        merged: dict[str, str] = {}
        for name, kinds in types.items():
            if kinds == {"int", "float"}:
                merged[name] = "float"
            else:
                merged[name] = "text" if not kinds else kinds.pop() if len(kinds) == 1 else "json"
        return merged

    def __iter__(self) -> Iterator[InputRow]:
        number = 0
        with self._path.open("rb") as file:
            for line_number, line in enumerate(file, 1):
                if line_number == 1:
                    line = line.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901 - the mark of UTF-8 is no text
                if line.isspace() or not line:
                    continue
                number += 1
                yield _parse_line(line, number, line_number)


def _parse_line(text: bytes, number: int, line: int) -> InputRow:
    try:
        value = parse_json(text)
    except UnicodeDecodeError:
        return _make_bad_row(number, line, "is not UTF-8 text")
    except json.JSONDecodeError as error:
        return _make_bad_row(number, line, f"is not JSON: {error.msg.lower()}, at character {error.pos + 1}")
    except (RecursionError, ValueError):
        return _make_bad_row(number, line, "is not JSON that can be read: nested too deeply, or a number is too long")
    if isinstance(value, dict):
        return InputRow(number, value, line)
    if isinstance(value, str | list):
        return InputRow(number, {"prompt" if isinstance(value, str) else "messages": value}, line)
    return _make_bad_row(number, line, f"is neither an object nor text nor a list of messages, but {text[:20]!r}")


def _make_bad_row(number: int, line: int, problem: str) -> InputRow:
    return InputRow(number, {}, line, InvalidRequest(f"line {line} {problem}"))


def _find_type(value: Any) -> str:
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        return "json"
    return next((kind for type_, kind in _TYPES if isinstance(value, type_)), "json")


class JsonlWriter:
    """Writes each row as a JSON object on a line."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, row: InputRow, answer: Answer) -> None:
        """Write *row* with its *answer*, whose JSON is there already; dates and the like as text."""
        columns = dump_json(rename_columns(row.columns))[:-1]
        comma = b"," if len(columns) > 1 else b""
        self._file.write(b'%s%s"row":%d,%s\n' % (columns, comma, row.number, answer.json[1:]))

    def flush(self) -> None:
        """Pass all lines to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _quote(field: str) -> str:
    """Return *field* as it stands in a line of CSV."""
    return '"' + field.replace('"', '""') + '"' if _MUST_QUOTE.search(field) else field


class CsvReader:
    """Reads a CSV file whose first line names the columns; all values are text. Raises JobError without such a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        csv.field_size_limit(sys.maxsize)  # the module's own bound, for the process, is less than a long document
        with self._open() as file:
            self.columns: Sequence[str] = next(csv.reader(file), [])
        if not self.columns:
            raise JobError(f"{path}: the first line must name the columns")
        repeated = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if repeated:
            raise JobError(f"{path}: two columns are called `{repeated[0]}`")

    def _open(self) -> Any:
        # Bytes that are not UTF-8 go through as they are, so that a row with such a text fails, and no other.
        return self._path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")

    def count(self) -> int:
        """Return the number of rows."""
        with self._open() as file:
            return sum(1 for values in csv.reader(file) if values) - 1

    def find_columns(self) -> dict[str, str]:
        """Return the columns, all of which are text."""
        return dict.fromkeys(self.columns, "text")

    def __iter__(self) -> Iterator[InputRow]:
        columns, width, number = self.columns, len(self.columns), 0
        with self._open() as file:
            reader = csv.reader(file)
            next(reader, None)
            next_line = reader.line_num + 1
            for values in reader:
                line, next_line = next_line, reader.line_num + 1
                if not values:
                    continue
                number += 1
                if len(values) == width:
                    yield InputRow(number, dict(zip(columns, values, strict=True)), line)
                else:
                    yield _make_bad_row(number, line, f"has {len(values)} fields, not {width} as the first line says")


class CsvWriter:
    """Writes rows as CSV, with a first line that names the *columns*; dates, lists and the like are as in JSON."""

    def __init__(self, path: Path, columns: Mapping[str, Any]) -> None:
        self._file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="")
        self._columns = list(columns)
        self._nested = [
            place for place, kind in enumerate(columns.values()) if kind == "json" or not isinstance(kind, str)
        ]
        self._write_fields(self._columns)

    def write(self, row: InputRow, answer: Answer) -> None:
        """Write *row* with its *answer*; what is missing or None is empty."""
        if [*row.columns, "row", *answer.columns] == self._columns:  # as they are, if the input is CSV too
            values = [*row.columns.values(), row.number, *answer.columns.values()]
        else:
            columns = merge_columns(row, answer)
            values = [columns.get(name) for name in self._columns]
        for place in self._nested:
            if type(values[place]) not in _CSV_TYPES:
                text = dump_json(values[place]).decode()
                values[place] = parse_json(text) if text[0] == '"' else text
        self._write_fields([value if type(value) is str else "" if value is None else str(value) for value in values])

    def _write_fields(self, fields: list[str]) -> None:
        # Not by Python's writer, which looks at each character, and leaves a lone carriage return without quotes.
        line = ",".join(fields)
        if '"' in line or "\n" in line or "\r" in line or line.count(",") >= len(fields):
            line = ",".join([_quote(field) for field in fields])
        self._file.write(f"{line}\n")

    def flush(self) -> None:
        """Pass all lines to the operating system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
