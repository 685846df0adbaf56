"""Insert many rows with few statements.

The writer of a ledger shares the interpreter with the calls that it records. SQLAlchemy's own execution of a list of
rows takes three times as long, and each of its steps gives the interpreter's lock away. So the statement is compiled
once, and executed by the driver: with the values of many rows in SQLite, and in PostgreSQL with all rows as one JSON
text, which the driver need not look at.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from itertools import chain
from typing import Any

from sqlalchemy import JSON, Dialect, Table, insert
from sqlalchemy.engine.interfaces import DBAPICursor

from modelhub.accounting.schema import clean_text

__all__ = ["BulkInsert", "make_insert"]

_MAX_ROWS = 250  # in one statement with values


class BulkInsert(ABC):
    """Inserts rows into a table; a row whose primary key exists is not changed."""

    @abstractmethod
    def execute(self, cursor: DBAPICursor, rows: Sequence[Sequence[Any]]) -> None:
        """Insert *rows*, of values in the order of the columns, as the driver takes them. Raises its errors."""


def make_insert(table: Table, dialect: Dialect) -> BulkInsert:
    """Return what inserts rows into *table*."""
    return ValuesInsert(table, dialect) if dialect.name == "sqlite" else JsonInsert(table, dialect)


class ValuesInsert(BulkInsert):
    """Inserts with a list of values, for SQLite."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        statement = insert(table).prefix_with("OR IGNORE")  # in half the time of ON CONFLICT DO NOTHING
        text = str(statement.compile(dialect=dialect, column_keys=table.c.keys()))
        self._head, _, self._row = text.partition(" VALUES ")

    def execute(self, cursor: DBAPICursor, rows: Sequence[Sequence[Any]]) -> None:
        """Insert *rows*."""
        for start in range(0, len(rows), _MAX_ROWS):
            chunk = rows[start : start + _MAX_ROWS]
            values = tuple(chain.from_iterable(chunk))
            text = "".join([value for value in values if value.__class__ is str])
            if clean_text(text) is not text:
                values = tuple(map(_clean_value, values))
            cursor.execute(f"{self._head} VALUES {', '.join([self._row] * len(chunk))}", values)


class JsonInsert(BulkInsert):
    """Inserts with one JSON text, for PostgreSQL."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        format_name = dialect.identifier_preparer.quote
        self._names = table.c.keys()
        names, selected, types = [], [], []
        for column in table.c:
            name, is_json = format_name(column.name), isinstance(column.type, JSON)
            names.append(name)
            selected.append(f"{name}::jsonb" if is_json else name)
            types.append(f"{name} {'text' if is_json else column.type.compile(dialect)}")
        self._statement = (
            f"INSERT INTO {dialect.identifier_preparer.format_table(table)} ({', '.join(names)}) "  # noqa: S608 - our own
            f"SELECT {', '.join(selected)} FROM json_to_recordset(%s::json) AS row ({', '.join(types)}) "
            "ON CONFLICT DO NOTHING"
        )

    def execute(self, cursor: DBAPICursor, rows: Sequence[Sequence[Any]]) -> None:
        """Insert *rows*."""
        text = self._dump(rows)
        if "\\u0000" in text or clean_text(text) is not text:
            text = self._dump([[_clean_value(value) for value in row] for row in rows])
        cursor.execute(self._statement, (text,))

    def _dump(self, rows: Sequence[Sequence[Any]]) -> str:
        objects = [dict(zip(self._names, row, strict=True)) for row in rows]
        return json.dumps(objects, default=_encode_value, ensure_ascii=False, check_circular=False)


def _encode_value(value: Any) -> str:
    if isinstance(value, Decimal | datetime):
        return str(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")


def _clean_value(value: Any) -> Any:
    return clean_text(value) if isinstance(value, str) else value
