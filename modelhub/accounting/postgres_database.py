"""A ledger in a PostgreSQL database, in the schema `modelhub`.

A connection pooler such as PgBouncer may be between: no setting outlasts a transaction, and nothing is prepared.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any, Self

import psycopg
from psycopg.errors import DataError, IntegrityError, LockNotAvailable
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.pool import NullPool

from modelhub.accounting.database import LedgerDatabase, RejectedRecord
from modelhub.accounting.ledger_location import LedgerError, LedgerLocation
from modelhub.accounting.schema import MIGRATIONS, migrate, read_version

__all__ = ["PostgresDatabase"]

_CONNECT_TIMEOUT = 5.0  # for each address of the host
WRITING_TIMEOUT = 10.0  # for each answer of the database
_READING_TIMEOUT = 120.0
IDLE_TIMEOUT = 10.0  # until the database ends the transaction of a process that is frozen, for which others wait
_MIGRATION_LOCK = 0x6D6F64656C687562  # the number of a lock in the database: "modelhub"
_DISCONNECTED = ("08", "57")  # the classes of errors of a connection, and of one that the server has ended
_APPLICATION_NAME = "modelhub"


class PostgresDatabase(LedgerDatabase):
    """The database at the URL of *location*."""

    is_remote = True
    driver_error = psycopg.Error

    def __init__(self, location: LedgerLocation, url: str) -> None:
        self._url = url
        super().__init__(location)

    def reset_after_fork(self) -> None:
        """Make the engines."""
        self.writing = self.make_engine(WRITING_TIMEOUT)
        self._reading = self.make_engine(_READING_TIMEOUT)

    def make_engine(self, timeout: float) -> Engine:
        """Return an engine whose connections wait at most *timeout* seconds for each answer."""
        # The URL goes to the driver alone, which knows more forms of it, and knows the standard variables and files.
        return create_engine(
            "postgresql+psycopg://",
            creator=lambda: _TimedConnection.open(self._url, timeout),
            poolclass=NullPool,
            pool_reset_on_return=None,  # it is closed, and may be lost
            hide_parameters=True,
            paramstyle="format",
            use_native_hstore=False,
        )

    def connect_for_writing(self, timeout: float) -> Connection:
        """Return a connection to current tables. Several processes may create or migrate them at the same time."""
        with self.translate_errors():
            connection = self.writing.connect()
            try:
                self._migrate(connection, timeout)
            except BaseException:
                connection.close()
                raise
        return connection

    def _migrate(self, connection: Connection, timeout: float) -> None:
        with connection.begin():
            if read_version(connection) == len(MIGRATIONS):
                return
        with connection.begin():
            connection.exec_driver_sql(_make_settings(max(timeout, WRITING_TIMEOUT)))
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            migrate(connection)

    def connect_for_reading(self) -> Connection:
        """Return a connection with one read-only transaction."""
        connection = self._reading.connect()
        return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    def begin(self, connection: Connection, cursor: DBAPICursor, timeout: float) -> None:  # noqa: ARG002
        """Begin a transaction whose locks others wait for no longer than this process lives."""
        cursor.execute(_make_settings(timeout))

    def make_error(self, error: BaseException, message: str) -> Exception:
        """Return a LedgerError or RejectedRecord with *message* for *error*."""
        is_unknown_type = isinstance(error, psycopg.ProgrammingError) and error.sqlstate is None
        if is_unknown_type or isinstance(error, DataError | IntegrityError):
            return RejectedRecord(message)
        is_lost = isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08")[:2] in _DISCONNECTED
        return LedgerError(
            message,
            locked=isinstance(error, LockNotAvailable),
            disconnected=is_lost and not isinstance(error, _AnswerTimeout),
        )


def _make_settings(timeout: float) -> str:
    """Return the statements that bound a transaction: how long it waits for locks, and the others for a frozen one."""
    return (
        f"SET LOCAL lock_timeout = {round(timeout * 1000)}; "
        f"SET LOCAL idle_in_transaction_session_timeout = {round(IDLE_TIMEOUT * 1000)}"
    )


class _TimedConnection(psycopg.Connection[Any]):
    """A connection that is closed if the database does not answer for `answer_timeout` seconds."""

    answer_timeout = WRITING_TIMEOUT

    @classmethod
    def open(cls, url: str, answer_timeout: float) -> Self:
        """Connect to *url*. Raises psycopg.Error."""
        parameters: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
        parameters.setdefault("application_name", _APPLICATION_NAME)
        parameters.setdefault("connect_timeout", round(_CONNECT_TIMEOUT))
        connection = cls.connect("", prepare_threshold=None, **parameters)
        connection.answer_timeout = answer_timeout
        return connection

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        """Wait for *gen*, an operation. Raises psycopg.OperationalError if that takes too long."""
        try:
            return super().wait(_limit_time(gen, self.answer_timeout), *args, **options)
        except _AnswerTimeout:
            self.close()  # what it would answer later must not be taken for the answer to something else
            raise


class _AnswerTimeout(psycopg.OperationalError):
    """The database did not answer in time."""


def _limit_time(operation: Generator[Any, Any, Any], timeout: float) -> Generator[Any, Any, Any]:
    """Return what *operation* returns, waiting for what it waits for. Raises _AnswerTimeout after *timeout* seconds."""
    deadline = time.monotonic() + timeout
    try:
        wanted = next(operation)
        while True:
            ready = yield wanted  # nothing is ready each time when the driver looks for signals
            if not ready and time.monotonic() > deadline:
                raise _AnswerTimeout(f"the database did not answer in {timeout:g} s")
            wanted = operation.send(ready)
    except StopIteration as stop:
        return stop.value
