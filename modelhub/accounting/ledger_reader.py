"""Open a ledger, for whatever is done with it, and read it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection
from sqlalchemy.sql.selectable import FromClause

from modelhub.accounting.database import LedgerDatabase
from modelhub.accounting.ledger_location import LedgerError, LedgerLocation
from modelhub.accounting.schema import MIGRATIONS, get_tables, read_version, select_columns
from modelhub.accounting.sqlite_database import SqliteDatabase
from modelhub.core.errors import ConfigError
from modelhub.version import install_command

__all__ = ["LedgerReader", "open_database", "open_ledger"]


@dataclass(frozen=True, slots=True)
class LedgerReader:
    """A ledger that is open for reading. All queries of the `connection` see the same state.

    `calls` and `attempts` have the current columns, also if an older release wrote the tables.
    """

    connection: Connection
    calls: FromClause
    attempts: FromClause


def open_database(location: LedgerLocation) -> LedgerDatabase:
    """Return the database at *location*; nothing is connected yet. Raises ConfigError without its driver."""
    if location.path is not None:
        return SqliteDatabase(location, location.path)
    try:
        from modelhub.accounting.postgres_database import PostgresDatabase
    except ImportError:
        raise ConfigError(f"the ledger {location} needs psycopg: {install_command('postgres')}") from None
    return PostgresDatabase(location, location.url or "")


@contextmanager
def open_ledger(database: LedgerDatabase) -> Iterator[LedgerReader]:
    """Open the ledger in *database* for reading. It may be written by an older release, and is not changed.

    What is just being created is a ledger without calls. Raises LedgerError if there is no ledger.
    """
    with database.translate_errors(), database.connect_for_reading() as connection:
        version = read_version(connection)
        if version > len(MIGRATIONS):
            raise LedgerError(f"it is not a ledger that this release can read (version {version})")
        tables = get_tables(connection.dialect)
        yield LedgerReader(
            connection,
            select_columns(tables.calls, version),
            select_columns(tables.attempts, version),
        )
