"""The ledger's file: an SQLite database with a row for each call and one for each of its attempts.

It is created readable by its user only (mode 0600, its log and index too); the mode of an existing file is not changed.

The version of its schema is in `PRAGMA user_version`; an older file is migrated when it is opened for writing. The
write-ahead log lets several processes write and read at the same time; it needs a local disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelhub.accounting.record import AttemptUsage, UsageRecord
from modelhub.core.response import COUNTS

__all__ = ["MIGRATIONS", "Store", "connect_for_reading", "format_time", "is_locked"]

_COUNT_COLUMNS = """
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cache_read_tokens INTEGER NOT NULL,
    cache_write_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL,
    cost TEXT,
    prices TEXT,
    estimated INTEGER NOT NULL,"""
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"""CREATE TABLE calls (
    call_id TEXT PRIMARY KEY,
    at TEXT NOT NULL,
    requested TEXT NOT NULL,
    model TEXT,
    vendor TEXT,
    model_name TEXT,
    outcome TEXT NOT NULL,
    error TEXT,{_COUNT_COLUMNS}
    first_token REAL,
    duration REAL NOT NULL,
    attempts INTEGER NOT NULL,
    tags TEXT NOT NULL
) WITHOUT ROWID""",
        f"""CREATE TABLE attempts (
    call_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    model TEXT NOT NULL,
    vendor TEXT NOT NULL,
    model_name TEXT NOT NULL,
    outcome TEXT NOT NULL,
    used INTEGER NOT NULL,{_COUNT_COLUMNS}
    started REAL NOT NULL,
    duration REAL NOT NULL,
    PRIMARY KEY (call_id, number)
) WITHOUT ROWID""",
        "CREATE INDEX calls_at ON calls (at)",
    ),
    (
        "ALTER TABLE calls ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE attempts ADD COLUMN cache_write_1h_tokens INTEGER NOT NULL DEFAULT 0",
    ),
    (
        "ALTER TABLE calls ADD COLUMN writer TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE calls ADD COLUMN batch INTEGER NOT NULL DEFAULT 0",
        "CREATE INDEX calls_batch ON calls (batch)",
    ),
    (
        "ALTER TABLE calls ADD COLUMN response_model TEXT",
        "ALTER TABLE attempts ADD COLUMN response_model TEXT",
    ),
    (
        "ALTER TABLE calls ADD COLUMN shape TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attempts ADD COLUMN dropped TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE attempts ADD COLUMN rounded TEXT NOT NULL DEFAULT ''",
    ),
    (
        "ALTER TABLE calls ADD COLUMN arm TEXT",
        "ALTER TABLE attempts ADD COLUMN arm TEXT",
    ),
)
"""The statements that migrate each version of the file to the next. Costs are exact numbers as text, times are in UTC.

`shape`, `dropped` and `rounded` are JSON objects, or empty.

Calls that are written together are a batch; batches are numbered in the order of writing, over all writers.
"""
_ADDED_COLUMNS = (
    (2, "calls", "0 AS cache_write_1h_tokens"),
    (2, "attempts", "0 AS cache_write_1h_tokens"),
    (3, "calls", "'' AS writer"),
    (3, "calls", "0 AS batch"),
    (4, "calls", "NULL AS response_model"),
    (4, "attempts", "NULL AS response_model"),
    (5, "calls", "'' AS shape"),
    (5, "attempts", "'' AS dropped"),
    (5, "attempts", "'' AS rounded"),
    (6, "calls", "NULL AS arm"),
    (6, "attempts", "NULL AS arm"),
)
"""The columns added in each version, and their values when an older file is read, which is then not migrated."""

_CALL_COLUMNS = (
    *("call_id", "at", "requested", "model", "vendor", "model_name", "response_model", "outcome", "error"),
    *(*COUNTS, "cost", "prices", "estimated"),
    *("first_token", "duration", "attempts", "tags", "shape", "arm", "writer", "batch"),
)
_ATTEMPT_COLUMNS = (
    *("call_id", "number", "model", "vendor", "model_name", "response_model", "outcome", "used"),
    *(*COUNTS, "cost", "prices", "estimated"),
    *("started", "duration", "dropped", "rounded", "arm"),
)
_MAX_INTEGER = 2**63 - 1  # what the file can hold: a third party's provider may report more
_MAX_ROWS = 250  # in one statement


class Store:
    """A connection for writing. Opens or creates the file at *path*; *wait_budget* is in seconds.

    Raises sqlite3.Error, also for a file of a newer version, and OSError.
    """

    def __init__(self, path: Path, timeout: float) -> None:
        self._path = path
        self._timeout = timeout
        _create_private(path)
        self._identity = _identify_file(path)
        # One thread at a time uses it, but not always the same one.
        self._connection = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(timeout)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, timeout: float) -> None:
        execute = self._connection.execute
        if _read_version(self._connection) < len(MIGRATIONS):
            self._enable_wal(time.monotonic() + timeout)
        # Without a sync for each commit, a crash of the process loses nothing; a power failure may lose the last ones.
        execute("PRAGMA synchronous=NORMAL")
        if _read_version(self._connection) == len(MIGRATIONS):
            return
        with self._transaction():
            version = _read_version(self._connection)
            if version > len(MIGRATIONS):
                raise sqlite3.DatabaseError(
                    f"the file has version {version}, but this release only knows versions up to {len(MIGRATIONS)}"
                )
            for step in MIGRATIONS[version:]:
                for statement in step:
                    execute(statement)
            execute(f"PRAGMA user_version={len(MIGRATIONS)}")

    def _enable_wal(self, deadline: float) -> None:
        """Switch the file to a write-ahead log; waits while another process does the same."""
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                # In a deadlock of two connections, SQLite fails one at once, without a timeout.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.001)
            else:
                return

    def is_current(self) -> bool:
        """Return whether the file at the path is still the one that was opened: it may be deleted or moved away."""
        return _identify_file(self._path) == self._identity

    def add(self, records: Sequence[UsageRecord], writer: str = "", timeout: float | None = None) -> None:
        """Write *records* in one transaction, signed by *writer*; a record that exists already is not changed.

        Waits *timeout* seconds for a lock (default: that of the connection). Raises sqlite3.Error.
        """
        if timeout is not None and timeout != self._timeout:
            self._connection.execute(f"PRAGMA busy_timeout={round(timeout * 1000)}")
            self._timeout = timeout
        calls = [_make_call_row(record) for record in records]
        attempts = [
            _make_attempt_row(record.call_id, number, part)
            for record in records
            for number, part in enumerate(record.parts)
        ]
        with self._transaction():
            (last,) = self._connection.execute("SELECT COALESCE(MAX(batch), 0) FROM calls").fetchone()
            self._insert("calls", _CALL_COLUMNS, [(*call, writer, last + 1) for call in calls])
            self._insert("attempts", _ATTEMPT_COLUMNS, attempts)

    def _insert(self, table: str, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        # One statement for many rows: each step of a statement releases the interpreter's lock.
        for start in range(0, len(rows), _MAX_ROWS):
            chunk = rows[start : start + _MAX_ROWS]
            placeholders = ",".join([f"({','.join('?' * len(chunk[0]))})"] * len(chunk))
            self._connection.execute(
                f"INSERT OR IGNORE INTO {table} ({','.join(names)}) VALUES {placeholders}",  # noqa: S608 - our own text
                [value for row in chunk for value in row],
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Close the file. If it was moved away, its log is first written back into it."""
        try:
            if not self.is_current():
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._connection.close()


def is_locked(error: Exception) -> bool:
    """Return whether *error* means that another connection holds the file's lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _create_private(path: Path) -> None:
    """Create an empty file at *path* with mode 0600, if there is none; SQLite's other files take over its mode."""
    target = os.path.realpath(path)
    with contextlib.suppress(OSError):  # it exists, or SQLite will report what is wrong
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _identify_file(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def format_time(at: datetime) -> str:
    """Return *at* as text that sorts by time, as in the file."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _make_call_row(record: UsageRecord) -> tuple[Any, ...]:
    return (
        record.call_id,
        format_time(record.at),
        record.requested,
        record.model,
        record.vendor,
        record.model_name,
        record.response_model,
        record.outcome,
        record.error,
        *_list_counts(record),
        record.first_token,
        record.duration,
        record.attempts,
        json.dumps(dict(record.tags)),
        "" if record.shape is None else dump_object(record.shape),
        record.arm,
    )


def _make_attempt_row(call_id: str, number: int, part: AttemptUsage) -> tuple[Any, ...]:
    return (
        call_id,
        number,
        part.model,
        part.vendor,
        part.model_name,
        part.response_model,
        part.outcome,
        int(part.used),
        *_list_counts(part),
        part.started,
        part.duration,
        dump_object(part.dropped) if part.dropped else "",
        dump_object(part.rounded) if part.rounded else "",
        part.arm,
    )


def dump_object(value: Mapping[str, Any]) -> str:
    """Return *value* as JSON in its shortest form; equal objects have equal texts."""
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _list_counts(record: UsageRecord | AttemptUsage) -> tuple[Any, ...]:
    return (
        *[max(0, min(getattr(record, key), _MAX_INTEGER)) for key in COUNTS],
        None if record.cost is None else format(record.cost, "f"),
        record.prices,
        int(record.estimated),
    )


class _DecimalSum:
    """An SQL aggregate: the exact sum of numbers as text; nulls are ignored."""

    def __init__(self) -> None:
        self.total = Decimal(0)

    def step(self, value: str | None) -> None:
        if value is not None:
            self.total += Decimal(value)

    def finalize(self) -> str:
        return format(self.total, "f")


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """Open a read-only connection to the ledger at *path*, with the SQL function `decimal_sum`.

    An older file is shown with the current columns, and a file that is just being created as a ledger without calls.
    Raises sqlite3.Error if the file is missing or is not a ledger.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    connection.create_aggregate("decimal_sum", 1, _DecimalSum)  # type: ignore[arg-type]  # its finalize gives text
    connection.row_factory = sqlite3.Row
    try:
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        version = _read_version(connection)
        if version == tables == 0:
            _create_empty_views(connection)
            return connection
        if not 1 <= version <= len(MIGRATIONS):
            raise sqlite3.DatabaseError(f"{path} is not a ledger that this release can read (version {version})")
        _create_current_views(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _create_empty_views(connection: sqlite3.Connection) -> None:
    for step in MIGRATIONS:
        for statement in step:
            temporary = statement.replace("CREATE TABLE ", "CREATE TEMP TABLE ").replace(
                "CREATE INDEX ", "CREATE INDEX temp."
            )
            connection.execute(temporary)


def _create_current_views(connection: sqlite3.Connection, version: int) -> None:
    for table in ("calls", "attempts"):
        missing = [column for since, table_name, column in _ADDED_COLUMNS if table_name == table and since > version]
        if missing:
            connection.execute(
                f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(missing)} FROM main.{table}"  # noqa: S608 - our own text
            )
