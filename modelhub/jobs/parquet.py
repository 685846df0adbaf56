"""Parquet files, through pyarrow (extra `parquet`)."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.jobs.errors import JobError
from modelhub.jobs.json_text import dump_json
from modelhub.jobs.rows import Answer, InputRow, merge_columns
from modelhub.version import install_command

__all__ = ["ParquetReader", "ParquetWriter"]

_READ_ROWS = 256  # rows that are turned into objects together
_WRITE_ROWS = 4096  # rows of one group of the file


def _import_pyarrow() -> Any:
    try:
        importlib.import_module("pyarrow.parquet")  # a submodule of what is returned
        return importlib.import_module("pyarrow")
    except ImportError:
        raise JobError(f"Parquet files need pyarrow: {install_command('parquet')}") from None


class ParquetReader:
    """Reads the rows of a Parquet file. Raises JobError if it is none."""

    def __init__(self, path: Path) -> None:
        self._pyarrow = _import_pyarrow()
        self._path = path
        with self._open() as file:
            self._schema = file.schema_arrow
            self._rows = file.metadata.num_rows
        self.columns: Sequence[str] = list(self._schema.names)

    def _open(self) -> Any:
        try:
            return self._pyarrow.parquet.ParquetFile(self._path)
        except self._pyarrow.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise JobError(f"{self._path}: this is no Parquet file: {reason}") from None

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._rows)

    def find_columns(self) -> dict[str, Any]:
        """Return the columns with their types."""
        return {field.name: field.type for field in self._schema}

    def __iter__(self) -> Iterator[InputRow]:
        number = 0
        with self._open() as file:
            for batch in file.iter_batches(batch_size=_READ_ROWS):
                try:
                    rows = batch.to_pylist()
                except (ValueError, OverflowError):
                    rows = list(self._read_values(batch))
                for columns in rows:
                    number += 1
                    if isinstance(columns, InvalidRequest):
                        yield InputRow(number, {}, problem=InvalidRequest(f"row {number}: {columns}"))
                    else:
                        yield InputRow(number, columns)

    def _read_values(self, batch: Any) -> Iterator[dict[str, Any] | InvalidRequest]:
        """Yield the rows of a *batch* with values that Python's dates cannot hold, or why a row cannot be read."""
        columns = {name: self._in_microseconds(batch.column(name)) for name in self.columns}
        for at in range(batch.num_rows):
            row: dict[str, Any] = {}
            try:
                for name, column in columns.items():
                    row[name] = column[at].as_py()
            except (ValueError, OverflowError):
                value = column[at].cast(self._pyarrow.string(), safe=False)
                yield InvalidRequest(f"column `{name}` holds {value}, which Python's dates and times cannot hold")
            else:
                yield row

    def _in_microseconds(self, column: Any) -> Any:
        """Return *column* with what is finer than Python's dates and times cut off."""
        kind, types = column.type, self._pyarrow.types
        if not types.is_temporal(kind) or getattr(kind, "unit", "") != "ns":
            return column
        if types.is_timestamp(kind):
            return column.cast(self._pyarrow.timestamp("us", kind.tz), safe=False)
        return column.cast(self._pyarrow.duration("us") if types.is_duration(kind) else "time64[us]", safe=False)


class ParquetWriter:
    """Writes rows into a Parquet file with these *columns*; a file without its end, of a killed job, cannot be read."""

    def __init__(self, path: Path, columns: Mapping[str, Any]) -> None:
        self._pyarrow = pyarrow = _import_pyarrow()
        text = pyarrow.string()
        types = {
            "int": pyarrow.int64(),
            "float": pyarrow.float64(),
            "bool": pyarrow.bool_(),
            "text": text,
            "json": text,
        }
        self._json_columns = [name for name, kind in columns.items() if isinstance(kind, str) and kind == "json"]
        self._schema = pyarrow.schema(
            [(name, types[kind] if isinstance(kind, str) else kind) for name, kind in columns.items()]
        )
        self._file = pyarrow.parquet.ParquetWriter(path, self._schema)
        self._rows: list[Mapping[str, Any]] = []

    def write(self, row: InputRow, answer: Answer) -> None:
        """Write *row* with its *answer*; what is missing is null."""
        columns = merge_columns(row, answer)
        for name in self._json_columns:
            if columns.get(name) is not None:
                columns[name] = dump_json(columns[name]).decode()
        self._rows.append(columns)
        if len(self._rows) >= _WRITE_ROWS:
            self._write_group()

    def flush(self) -> None:
        """Do nothing: rows are written in groups, and can be read when the file is finished."""

    def _write_group(self) -> None:
        rows, self._rows = self._rows, []
        try:
            table = self._pyarrow.Table.from_pylist(rows, schema=self._schema)
        except UnicodeEncodeError:  # text that UTF-8 cannot hold must not stop the job
            table = self._pyarrow.Table.from_pylist([_escape_surrogates(row) for row in rows], schema=self._schema)
        self._file.write_table(table)

    def close(self) -> None:
        """Write the last group, and what makes the file complete."""
        if self._rows:
            self._write_group()
        self._file.close()


def _escape_surrogates(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }
