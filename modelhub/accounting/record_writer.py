"""Write usage records into the tables of a ledger, many rows with few statements.

The writer shares the interpreter with the calls that it records. SQLAlchemy's own execution of a list of rows takes
three times as long, and each of its steps gives the interpreter's lock away. So the statement is compiled once, and
executed by the driver: with the values of many rows in SQLite, and in PostgreSQL with all rows as one JSON text, which
the driver need not look at.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

from sqlalchemy import JSON, Dialect, Table, func, insert, select
from sqlalchemy.engine.interfaces import DBAPICursor

from modelhub.accounting.database import LedgerDatabase
from modelhub.accounting.ledger_location import LedgerError
from modelhub.accounting.record import AttemptUsage, UsageRecord
from modelhub.accounting.schema import MIGRATIONS, ExactDecimal, UtcTime, clean_text, get_tables
from modelhub.core.response import COUNTS

__all__ = ["RecordWriter"]

_MAX_INTEGER = 2**63 - 1  # what the tables can hold: a third party's provider may report more
_MAX_ROWS = 250  # in one statement with values
_encode_object = json.JSONEncoder(separators=(",", ":"), sort_keys=True).encode  # equal objects have equal texts
_get_counts = attrgetter(*COUNTS)
_get_names = attrgetter("model", "vendor", "model_name", "response_model", "outcome")


class RecordWriter:
    """A connection for writing to *database*, whose tables are created or migrated; *timeout* is in seconds.

    Raises LedgerError, also for tables of a later version.
    """

    def __init__(self, database: LedgerDatabase, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._connection = database.connect_for_writing(timeout)
        dialect = self._connection.dialect
        tables = get_tables(dialect)
        lock = select(tables.ledger.c.version).with_for_update()
        last_batch = select(func.max(tables.calls.c.batch))
        self.lock_statement = str(lock.compile(dialect=dialect))
        self._batch_statement = str(last_batch.compile(dialect=dialect))
        insert_class = ValuesInsert if dialect.name == "sqlite" else JsonInsert
        self._calls, self._attempts = insert_class(tables.calls, dialect), insert_class(tables.attempts, dialect)
        self._write_time = partial(UtcTime().process_bind_param, dialect=dialect)
        self._write_cost = partial(ExactDecimal().process_bind_param, dialect=dialect)

    def is_current(self) -> bool:
        """Return whether it still writes to what is at the location: a file may be deleted or moved away."""
        return self._database.is_current(self._connection)

    def add(self, records: Sequence[UsageRecord], writer: str = "", timeout: float | None = None) -> None:
        """Write *records* in one transaction, signed by *writer*; a record that exists already is not changed.

        The ids of calls are made by us: what is written again, after a failure, is there once. Waits *timeout* seconds
        for other writers (default: as it was opened). Raises LedgerError, and RejectedRecord if the database cannot
        store one of the records.
        """
        calls = [self._make_call_row(record) for record in records]
        attempts = [
            self._make_attempt_row(record.call_id, number, part)
            for record in records
            for number, part in enumerate(record.parts)
        ]
        with self._database.transaction(self._connection, self._timeout if timeout is None else timeout) as cursor:
            cursor.execute(self.lock_statement)  # other writers wait until this is written: batches are in order
            version = [row[0] for row in cursor.fetchall()]
            if version != [len(MIGRATIONS)]:
                raise LedgerError(
                    f"it was migrated to version {version} by another release, which this one does not know"
                )
            cursor.execute(self._batch_statement)
            ((last_batch,),) = cursor.fetchall()
            batch = (last_batch or 0) + 1
            self._calls.execute(cursor, [(*call, writer, batch) for call in calls])
            self._attempts.execute(cursor, attempts)

    def close(self) -> None:
        """Close the connection. Raises LedgerError."""
        with self._database.translate_errors():
            self._database.close(self._connection)

    # -- rows, in the order of the columns -------------------------------------------------------------------------

    def _make_call_row(self, record: UsageRecord) -> tuple[Any, ...]:
        """Return the values of *record* up to the last two columns."""
        tags = json.dumps(dict(record.tags))
        if "\\u" in tags:  # only then may there be a character that cannot be stored
            tags = json.dumps({clean_text(name): clean_text(value) for name, value in record.tags.items()})
        return (
            record.call_id,
            self._write_time(record.at),
            record.requested,
            *_get_names(record),
            record.error,
            *self._list_counts(record),
            record.first_token,
            record.duration,
            record.attempts,
            tags,
            "" if record.shape is None else _encode_object(record.shape),
            record.arm,
        )

    def _make_attempt_row(self, call_id: str, number: int, part: AttemptUsage) -> tuple[Any, ...]:
        return (
            call_id,
            number,
            *_get_names(part),
            part.used,
            *self._list_counts(part),
            part.started,
            part.duration,
            _encode_object(part.dropped) if part.dropped else "",
            _encode_object(part.rounded) if part.rounded else "",
            part.arm,
        )

    def _list_counts(self, record: UsageRecord | AttemptUsage) -> tuple[Any, ...]:
        counts: tuple[int, ...] = _get_counts(record)
        if min(counts) < 0 or max(counts) > _MAX_INTEGER:
            counts = tuple(max(0, min(count, _MAX_INTEGER)) for count in counts)
        cost = record.cost
        return (*counts, None if cost is None else self._write_cost(cost), record.prices, record.estimated)


# -- inserting ---------------------------------------------------------------------------------------------------------


class ValuesInsert:
    """Inserts rows into *table* with a list of values, for SQLite; a row whose primary key exists is not changed."""

    def __init__(self, table: Table, dialect: Dialect) -> None:
        statement = insert(table).prefix_with("OR IGNORE")  # in half the time of ON CONFLICT DO NOTHING
        text = str(statement.compile(dialect=dialect, column_keys=table.c.keys()))
        self._head, _, self._row = text.partition(" VALUES ")

    def execute(self, cursor: DBAPICursor, rows: Sequence[Sequence[Any]]) -> None:
        """Insert *rows*, of values in the order of the columns, as the driver takes them. Raises its errors."""
        for start in range(0, len(rows), _MAX_ROWS):
            chunk = rows[start : start + _MAX_ROWS]
            values = tuple(chain.from_iterable(chunk))
            text = "".join([value for value in values if value.__class__ is str])
            if clean_text(text) is not text:
                values = tuple(map(_clean_value, values))
            cursor.execute(f"{self._head} VALUES {', '.join([self._row] * len(chunk))}", values)


class JsonInsert:
    """Inserts rows into *table* with one JSON text, for PostgreSQL; a row whose primary key exists is not changed."""

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
        """Insert *rows*, of values in the order of the columns, as the driver takes them. Raises its errors."""
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
