"""The database of a ledger: how connections are made, and what SQLite and PostgreSQL do differently."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from sqlalchemy import Connection
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from modelhub.accounting.ledger_location import LedgerError, LedgerLocation
from modelhub.core.process import register_at_fork
from modelhub.core.tracebacks import drop_frames

__all__ = ["LedgerDatabase", "RejectedRecord"]


class RejectedRecord(Exception):
    """The database cannot store a record, whenever it is tried."""


class LedgerDatabase(ABC):
    """Makes connections to the database at *location*.

    `is_remote` means that it is reached over a network, so that an answer may take any time.
    """

    is_remote: bool
    driver_error: type[Exception]
    """The base class of the driver's own errors."""

    def __init__(self, location: LedgerLocation) -> None:
        self.location = location
        self.reset_after_fork()
        register_at_fork(self)

    @abstractmethod
    def reset_after_fork(self) -> None:
        """Make the engines, whose locks another thread of the parent may hold."""

    @abstractmethod
    def connect_for_writing(self, timeout: float) -> Connection:
        """Return a connection to current tables; they are created or migrated. Waits *timeout* seconds for others.

        Raises LedgerError, also if the tables are of a later version.
        """

    @abstractmethod
    def connect_for_reading(self) -> Connection:
        """Return a read-only connection whose queries all see the same state. Raises LedgerError."""

    @abstractmethod
    def begin(self, connection: Connection, cursor: DBAPICursor, timeout: float) -> None:
        """Begin a transaction for writing, which waits at most *timeout* seconds for those of others."""

    @contextmanager
    def transaction(self, connection: Connection, timeout: float) -> Iterator[DBAPICursor]:
        """Begin a transaction for writing, whose statements are executed by the driver's cursor.

        It waits at most *timeout* seconds for those of others. Raises LedgerError, and RejectedRecord if one of the
        rows cannot be stored.
        """
        with self.translate_errors():
            driver = connection.connection.dbapi_connection
            if driver is None:
                raise LedgerError("the connection is closed")
            cursor = driver.cursor()
            try:
                self.begin(connection, cursor, timeout)
                yield cursor
                driver.commit()
            except BaseException:
                with suppress(self.driver_error):
                    driver.rollback()
                raise
            finally:
                cursor.close()

    def is_current(self, connection: Connection) -> bool:  # noqa: ARG002 - a file may be replaced
        """Return whether *connection* is still one to what is at the location."""
        return True

    def close(self, connection: Connection) -> None:
        """Close *connection*, which was made for writing."""
        connection.close()

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise what the database refuses as LedgerError, or RejectedRecord if one of the rows is the reason."""
        failure: Exception | None = None
        try:
            yield
        except (SQLAlchemyError, self.driver_error) as error:
            drop_frames(error, contexts=False)  # the driver's frames hold the password
            cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
            failure = self.make_error(cause, self.location.redact(str(cause)))
        if failure is not None:
            raise failure from None

    @abstractmethod
    def make_error(self, error: BaseException, message: str) -> Exception:
        """Return a LedgerError or RejectedRecord with *message* for *error*, one of the driver's or of SQLAlchemy's."""
