"""Insert many rows with few statements.

The writer of a ledger shares the interpreter with the calls that it records. SQLAlchemy's own execution of a list of
rows takes three times as long, and each of its steps gives the interpreter's lock away. So the statement is compiled
once, for a row, repeated, and executed by the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import Dialect, Table, insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine.interfaces import DBAPICursor

from modelhub.accounting.schema import clean_text

__all__ = ["BulkInsert"]

_MAX_ROWS = 250  # in one statement


class BulkInsert:
    """Inserts rows into *table*; a row whose primary key exists is not changed."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        if dialect.name == "sqlite":  # in half the time of ON CONFLICT DO NOTHING
            statement = insert(table).prefix_with("OR IGNORE")
        else:
            statement = postgresql.insert(table).on_conflict_do_nothing()
        text = str(statement.compile(dialect=dialect, column_keys=table.c.keys()))
        self._head, _, values = text.partition(" VALUES ")
        row, parenthesis, self._tail = values.rpartition(")")
        self._row = row + parenthesis

    def execute(self, cursor: DBAPICursor, rows: Sequence[Sequence[Any]]) -> None:
        """Insert *rows*, of values in the order of the columns, as the driver takes them. Raises its errors."""
        for start in range(0, len(rows), _MAX_ROWS):
            chunk = rows[start : start + _MAX_ROWS]
            text = f"{self._head} VALUES {', '.join([self._row] * len(chunk))}{self._tail}"
            cursor.execute(text, _clean_texts(tuple(chain.from_iterable(chunk))))


def _clean_texts(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return *values* with every text as it can be stored; nearly always, all can."""
    text = "".join([value for value in values if value.__class__ is str])
    if clean_text(text) is text:
        return values
    return tuple(clean_text(value) if isinstance(value, str) else value for value in values)
