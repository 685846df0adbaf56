"""The ledger's file: an SQLite database with a row for each call and one for each of its attempts.

It is made for its user alone (mode 0600, and so are its log and index); the mode of a file that exists is left alone.

Its form has a version, in `PRAGMA user_version`; an older file is brought up to date when it is opened for writing. The
write-ahead log lets several processes write, and others read, at once; it needs a local disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelhub.accounting.record import AttemptUsage, UsageRecord
from modelhub.core.response import COUNTS

__all__ = ["MIGRATIONS", "Store", "connect_for_reading", "instant", "is_locked"]

_COUNTS = """
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
    error TEXT,{_COUNTS}
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
    used INTEGER NOT NULL,{_COUNTS}
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
)
"""What leads from each version of the file to the next. Cost is text, so that it is exact; times are in UTC.

Calls that are written together are a batch; batches are numbered as they come in, whoever writes them.
"""
_ADDED = (
    (2, "calls", "0 AS cache_write_1h_tokens"),
    (2, "attempts", "0 AS cache_write_1h_tokens"),
    (3, "calls", "'' AS writer"),
    (3, "calls", "0 AS batch"),
    (4, "calls", "NULL AS response_model"),
    (4, "attempts", "NULL AS response_model"),
)
"""The columns that a version has first, and what they are in an older file, which a reader must not change."""

_CALL = (
    *("call_id", "at", "requested", "model", "vendor", "model_name", "response_model", "outcome", "error"),
    *(*COUNTS, "cost", "prices", "estimated"),
    *("first_token", "duration", "attempts", "tags", "writer", "batch"),
)
_ATTEMPT = (
    *("call_id", "number", "model", "vendor", "model_name", "response_model", "outcome", "used"),
    *(*COUNTS, "cost", "prices", "estimated"),
    *("started", "duration"),
)
_MAX_INTEGER = 2**63 - 1  # what the file can hold: a third party's provider may report more
_MOST_ROWS = 250  # in one statement


class Store:
    """A connection that writes. Opens, or makes, the file at *path*; *wait_budget* is in seconds.

    Raises sqlite3.Error, also for a file of a later version, and OSError.
    """

    def __init__(self, path: Path, wait_budget: float) -> None:
        self._path = path
        self._timeout = wait_budget
        _create_private(path)
        self._identity = _file_identity(path)
        # One thread at a time uses it, but not always the same one.
        self._connection = sqlite3.connect(path, timeout=wait_budget, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(wait_budget)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, wait_budget: float) -> None:
        run = self._connection.execute
        if _version(self._connection) < len(MIGRATIONS):
            self._keep_a_log(time.monotonic() + wait_budget)
        # The log survives the process's end without a sync for each commit; only a power failure may cost the last.
        run("PRAGMA synchronous=NORMAL")
        if _version(self._connection) == len(MIGRATIONS):
            return
        with self._transaction():
            version = _version(self._connection)
            if version > len(MIGRATIONS):
                raise sqlite3.DatabaseError(f"the file has version {version}, this release knows {len(MIGRATIONS)}")
            for step in MIGRATIONS[version:]:
                for statement in step:
                    run(statement)
            run(f"PRAGMA user_version={len(MIGRATIONS)}")

    def _keep_a_log(self, until: float) -> None:
        """Have the file keep a write-ahead log; who makes it first at the same moment as we is waited for."""
        while True:
            try:
                self._connection.execute("PRAGMA journal_mode=WAL")
            except sqlite3.OperationalError as error:
                # Of two that hold each other up, SQLite sends one away at once.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
                time.sleep(0.001)
            else:
                return

    def is_current(self) -> bool:
        """Return whether the file at the path still is the one that was opened: it may be deleted or moved."""
        return _file_identity(self._path) == self._identity

    def add(self, records: Sequence[UsageRecord], writer: str = "", timeout: float | None = None) -> None:
        """Write *records*, all or none, signed by *writer*; one that is there already is left as it is.

        Waits *timeout* seconds for a lock, or as long as it was opened with. Raises sqlite3.Error.
        """
        if timeout is not None and timeout != self._timeout:
            self._connection.execute(f"PRAGMA busy_timeout={round(timeout * 1000)}")
            self._timeout = timeout
        calls = [_call(record) for record in records]
        attempts = [
            _attempt(record.call_id, number, part) for record in records for number, part in enumerate(record.parts)
        ]
        with self._transaction():
            (last,) = self._connection.execute("SELECT COALESCE(MAX(batch), 0) FROM calls").fetchone()
            self._insert("calls", _CALL, [(*call, writer, last + 1) for call in calls])
            self._insert("attempts", _ATTEMPT, attempts)

    def _insert(self, table: str, names: tuple[str, ...], rows: Sequence[tuple[Any, ...]]) -> None:
        # One statement for many rows: each step of a statement gives the interpreter's lock away.
        for at in range(0, len(rows), _MOST_ROWS):
            part = rows[at : at + _MOST_ROWS]
            marks = ",".join([f"({','.join('?' * len(part[0]))})"] * len(part))
            self._connection.execute(
                f"INSERT OR IGNORE INTO {table} ({','.join(names)}) VALUES {marks}",  # noqa: S608 - our own text
                [value for row in part for value in row],
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
        """Close the file. What is only in the log of a file that was moved away is put into that file before."""
        try:
            if not self.is_current():
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            self._connection.close()


def is_locked(error: Exception) -> bool:
    """Return whether *error* says that somebody else holds the file's lock."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _create_private(path: Path) -> None:
    """Make an empty file at *path* that only its user may read, if there is none; SQLite's other files follow it."""
    target = os.path.realpath(path)
    with contextlib.suppress(OSError):  # it is there, or SQLite says what is wrong
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def _file_identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def instant(at: datetime) -> str:
    """*at* as the file has it: text that sorts by time."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _call(record: UsageRecord) -> tuple[Any, ...]:
    return (
        record.call_id,
        instant(record.at),
        record.requested,
        record.model,
        record.vendor,
        record.model_name,
        record.response_model,
        record.outcome,
        record.error,
        *_counts(record),
        record.first_token,
        record.duration,
        record.attempts,
        json.dumps(dict(record.tags)),
    )


def _attempt(call_id: str, number: int, part: AttemptUsage) -> tuple[Any, ...]:
    return (
        call_id,
        number,
        part.model,
        part.vendor,
        part.model_name,
        part.response_model,
        part.outcome,
        int(part.used),
        *_counts(part),
        part.started,
        part.duration,
    )


def _counts(record: UsageRecord | AttemptUsage) -> tuple[Any, ...]:
    return (
        *[max(0, min(getattr(record, key), _MAX_INTEGER)) for key in COUNTS],
        None if record.cost is None else format(record.cost, "f"),
        record.prices,
        int(record.estimated),
    )


class _DecimalSum:
    """An exact sum of text that is a number; what is null is left out."""

    def __init__(self) -> None:
        self.total = Decimal(0)

    def step(self, value: str | None) -> None:
        if value is not None:
            self.total += Decimal(value)

    def finalize(self) -> str:
        return format(self.total, "f")


def connect_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that only reads, with the function `decimal_sum`.

    An older file is shown in today's form, and one that is being made as a ledger without calls.

    Raises sqlite3.Error if there is no such ledger.
    """
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
    connection.create_aggregate("decimal_sum", 1, _DecimalSum)  # type: ignore[arg-type]  # its finalize gives text
    connection.row_factory = sqlite3.Row
    try:
        (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        version = _version(connection)
        if version == tables == 0:
            _show_as_empty(connection)
            return connection
        if not 1 <= version <= len(MIGRATIONS):
            raise sqlite3.DatabaseError(f"{path} is no ledger that this release can read (version {version})")
        _show_as_today(connection, version)
    except BaseException:
        connection.close()
        raise
    return connection


def _show_as_empty(connection: sqlite3.Connection) -> None:
    for step in MIGRATIONS:
        for statement in step:
            what = statement.replace("CREATE TABLE ", "CREATE TEMP TABLE ").replace(
                "CREATE INDEX ", "CREATE INDEX temp."
            )
            connection.execute(what)


def _show_as_today(connection: sqlite3.Connection, version: int) -> None:
    for table in ("calls", "attempts"):
        missing = [what for since, of, what in _ADDED if of == table and since > version]
        if missing:
            connection.execute(
                f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(missing)} FROM main.{table}"  # noqa: S608 - our own text
            )
