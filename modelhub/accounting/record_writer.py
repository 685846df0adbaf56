"""Write usage records into the tables of a ledger."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.engine.interfaces import DBAPICursor

from modelhub.accounting.bulk_insert import make_insert
from modelhub.accounting.database import LedgerDatabase
from modelhub.accounting.location import LedgerError
from modelhub.accounting.record import AttemptUsage, UsageRecord
from modelhub.accounting.schema import MIGRATIONS, ExactDecimal, UtcTime, clean_text, get_tables
from modelhub.core.response import COUNTS

__all__ = ["RecordWriter", "dump_object"]

_MAX_INTEGER = 2**63 - 1  # what the tables can hold: a third party's provider may report more
_get_counts = attrgetter(*COUNTS)


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
        self._calls, self._attempts = make_insert(tables.calls, dialect), make_insert(tables.attempts, dialect)
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
            batch = self._take_batch_number(cursor)
            self._calls.execute(cursor, [(*call, writer, batch) for call in calls])
            self._attempts.execute(cursor, attempts)

    def _take_batch_number(self, cursor: DBAPICursor) -> int:
        """Return the number of this batch. Other writers wait until it is written: batches are committed in order."""
        cursor.execute(self.lock_statement)
        version = [row[0] for row in cursor.fetchall()]
        if version != [len(MIGRATIONS)]:
            raise LedgerError(f"it was migrated to version {version} by another release, which this one does not know")
        cursor.execute(self._batch_statement)
        ((last_batch,),) = cursor.fetchall()
        return (last_batch or 0) + 1

    def close(self) -> None:
        """Close the connection. Raises LedgerError."""
        with self._database.translate_errors():
            self._database.close(self._connection)

    # -- rows, in the order of the columns -------------------------------------------------------------------------

    def _make_call_row(self, record: UsageRecord) -> tuple[Any, ...]:
        """Return the values of *record* up to the last two columns."""
        return (
            record.call_id,
            self._write_time(record.at),
            record.requested,
            record.model,
            record.vendor,
            record.model_name,
            record.response_model,
            record.outcome,
            record.error,
            *self._list_counts(record),
            record.first_token,
            record.duration,
            record.attempts,
            _dump_tags(record.tags),
            "" if record.shape is None else dump_object(record.shape),
            record.arm,
        )

    def _make_attempt_row(self, call_id: str, number: int, part: AttemptUsage) -> tuple[Any, ...]:
        return (
            call_id,
            number,
            part.model,
            part.vendor,
            part.model_name,
            part.response_model,
            part.outcome,
            part.used,
            *self._list_counts(part),
            part.started,
            part.duration,
            dump_object(part.dropped) if part.dropped else "",
            dump_object(part.rounded) if part.rounded else "",
            part.arm,
        )

    def _list_counts(self, record: UsageRecord | AttemptUsage) -> tuple[Any, ...]:
        counts: tuple[int, ...] = _get_counts(record)
        if min(counts) < 0 or max(counts) > _MAX_INTEGER:
            counts = tuple(max(0, min(count, _MAX_INTEGER)) for count in counts)
        cost = record.cost
        return (*counts, None if cost is None else self._write_cost(cost), record.prices, record.estimated)


def dump_object(value: Mapping[str, Any]) -> str:
    """Return *value* as JSON in its shortest form; equal objects have equal texts."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _dump_tags(tags: Mapping[str, str]) -> str:
    """Return *tags* as JSON that can be stored."""
    text = json.dumps(dict(tags))
    if "\\u" in text:  # only then may there be a character that cannot be stored
        text = json.dumps({clean_text(name): clean_text(value) for name, value in tags.items()})
    return text
