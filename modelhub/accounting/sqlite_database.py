"""A ledger in an SQLite file.

The file is created readable by its user only (mode 0600, its log and index too); the mode of an existing file is not
changed. The write-ahead log lets several processes write and read at the same time; it needs a local disk.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import NullPool

from modelhub.accounting.database import LedgerDatabase, RejectedRecord
from modelhub.accounting.ledger_location import LedgerError, LedgerLocation
from modelhub.accounting.schema import MIGRATIONS, migrate
from modelhub.accounting.sql import DecimalSum

__all__ = ["SqliteDatabase"]

_READING_TIMEOUT = 5.0


class SqliteDatabase(LedgerDatabase):
    """The file at *path*."""

    is_remote = False
    driver_error = sqlite3.Error

    def __init__(self, location: LedgerLocation, path: Path) -> None:
        self._path = path
        super().__init__(location)

    def reset_after_fork(self) -> None:
        """Make the engine for reading; each connection for writing has its own."""
        self._reading = _make_engine(self._open_for_reading, "BEGIN")

    def connect_for_writing(self, timeout: float) -> Connection:
        """Return a connection to the file, which is created if there is none."""
        with contextlib.suppress(OSError):  # it exists, or SQLite will report what is wrong
            # SQLite's other files take over its mode.
            os.close(os.open(os.path.realpath(self._path), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        engine = _make_engine(lambda: self._open_for_writing(timeout), "BEGIN IMMEDIATE")
        file_id = _identify_file(self._path)
        with self.translate_errors():
            connection = engine.connect()
            connection.info["file"] = file_id
            try:
                if _read_version(_get_driver(connection)) != len(MIGRATIONS):
                    with connection.begin():
                        migrate(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    def _open_for_writing(self, timeout: float) -> sqlite3.Connection:
        # One thread at a time uses it, but not always the same one.
        connection = sqlite3.connect(self._path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            if _read_version(connection) < len(MIGRATIONS):
                _enable_wal(connection, time.monotonic() + timeout)
            # Without a sync for each commit, a crash of the process loses nothing; a power failure may lose the last.
            connection.execute("PRAGMA synchronous=NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def connect_for_reading(self) -> Connection:
        """Return a connection with the SQL function `decimal_sum`."""
        return self._reading.connect()

    def _open_for_reading(self) -> sqlite3.Connection:
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        connection = sqlite3.connect(uri, uri=True, timeout=_READING_TIMEOUT, isolation_level=None)
        connection.create_aggregate("decimal_sum", 1, DecimalSum)  # type: ignore[arg-type]  # its finalize gives text
        try:
            (tables,) = connection.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
            if tables and not _read_version(connection):
                raise sqlite3.DatabaseError("it is not a ledger")
        except BaseException:
            connection.close()
            raise
        return connection

    def begin(self, connection: Connection, cursor: DBAPICursor, timeout: float) -> None:
        """Begin a transaction that holds the file's lock."""
        if connection.info.get("timeout") != timeout:
            cursor.execute(f"PRAGMA busy_timeout={round(timeout * 1000)}")
            connection.info["timeout"] = timeout
        cursor.execute("BEGIN IMMEDIATE")

    def is_current(self, connection: Connection) -> bool:
        """Return whether the file at the path is the one that was opened: it may be deleted or moved away."""
        return bool(_identify_file(self._path) == connection.info["file"])

    def close(self, connection: Connection) -> None:
        """Close the file. If it was moved away, its log is first written back into it."""
        try:
            if not self.is_current(connection):
                _get_driver(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()

    def make_error(self, error: BaseException, message: str) -> Exception:
        """Return a LedgerError or RejectedRecord with *message* for *error*."""
        if isinstance(error, sqlite3.DataError | sqlite3.IntegrityError) or "binding parameter" in message:
            return RejectedRecord(message)
        code: int = getattr(error, "sqlite_errorcode", 0)
        return LedgerError(message, locked=(code & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))


def _make_engine(connect: Callable[[], sqlite3.Connection], begin: str) -> Engine:
    """Return an engine whose connections are made by *connect*, and whose transactions start with *begin*."""
    options: dict[str, Any] = {"poolclass": NullPool, "pool_reset_on_return": None, "hide_parameters": True}
    engine = create_engine("sqlite://", creator=connect, **options)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _get_driver(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection behind *connection*, for what must not begin a transaction."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("the connection is closed")
    return driver


def _enable_wal(connection: sqlite3.Connection, deadline: float) -> None:
    """Switch the file to a write-ahead log; waits while another process does the same."""
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # In a deadlock of two connections, SQLite fails one at once, without a timeout.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.001)
        else:
            return


def _identify_file(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
