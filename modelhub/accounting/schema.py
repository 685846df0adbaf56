"""The tables of the ledger, the same in SQLite and in PostgreSQL, and how older ones are migrated.

In SQLite they are the tables of the file; in PostgreSQL they are in the schema `modelhub` of the database.

* `calls` has a row for each finished call, with its usage and cost, all attempts together.
* `attempts` has a row for each attempt of these calls; `number` counts from 0. Cost by model is in this table.
* `ledger` has one row, the version of the tables. Whoever writes locks it.

Costs are exact: `NUMERIC` in PostgreSQL, decimal text in SQLite. A cost that is NULL is unknown, and not zero. Times
are in UTC: `TIMESTAMPTZ`, or ISO text that sorts by time. `tags` is an object of texts (`JSONB`, or JSON text):
`tags ->> 'user'` is a tag's value in both. `shape`, `dropped` and `rounded` are JSON objects as text, or empty.
Characters that PostgreSQL cannot store (NUL, halves of surrogate pairs) are replaced by U+FFFD.

    SELECT a.model, COUNT(*) AS attempts, SUM(a.cost) AS usd, SUM(a.input_tokens + a.output_tokens) AS tokens
    FROM modelhub.calls c JOIN modelhub.attempts a USING (call_id)
    WHERE c.at >= now() - interval '7 days' GROUP BY a.model ORDER BY usd DESC;

Rows are only ever added. Columns may be added by later releases, never removed or changed in meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    DateTime,
    Dialect,
    Double,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    TypeDecorator,
    cast,
    delete,
    insert,
    inspect,
    literal,
    null,
    select,
    text,
)
from sqlalchemy.schema import CreateColumn, CreateSchema
from sqlalchemy.sql.selectable import FromClause
from sqlalchemy.types import TypeEngine

from modelhub.accounting.ledger_location import LedgerError
from modelhub.core.response import COUNTS

__all__ = [
    "MIGRATIONS",
    "POSTGRES_SCHEMA",
    "ExactDecimal",
    "LedgerTables",
    "PlainText",
    "UtcTime",
    "clean_text",
    "get_tables",
    "migrate",
    "read_version",
    "select_columns",
]

POSTGRES_SCHEMA = "modelhub"
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean_text(value: str) -> str:
    """Return *value* with every character that PostgreSQL cannot store replaced by U+FFFD."""
    if (value.isascii() and "\x00" not in value) or not _UNSTORABLE.search(value):
        return value
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)


class PlainText(TypeDecorator[str]):
    """Text of any length, without characters that PostgreSQL cannot store."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002 - alike in all
        """Return *value* as it is stored."""
        return None if value is None else clean_text(value)


class ExactDecimal(TypeDecorator[Decimal]):
    """A number without rounding: NUMERIC, or its digits as text in SQLite."""

    impl = Numeric
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else Numeric())

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Return *value* as it is stored."""
        return format(value, "f") if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:  # noqa: ARG002 - alike in all
        """Return the number that is stored as *value*."""
        return None if value is None else Decimal(value)


class UtcTime(TypeDecorator[datetime]):
    """An instant to the microsecond: TIMESTAMPTZ, or ISO text in UTC in SQLite."""

    impl = DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Return *value* as it is stored."""
        if value is None:
            return None
        at = value.astimezone(UTC)
        return at.isoformat(timespec="microseconds") if dialect.name == "sqlite" else at

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - alike in all
        """Return the instant that is stored as *value*."""
        if value is None:
            return None
        at = datetime.fromisoformat(value) if isinstance(value, str) else value
        return at.astimezone(UTC)


def _make_calls(metadata: MetaData, schema: str | None) -> Table:
    tags_type: TypeEngine[Any] = JSON()
    if schema is not None:
        from sqlalchemy.dialects.postgresql import JSONB  # who writes to a file does not load another database's types

        tags_type = JSONB()
    return Table(
        "calls",
        metadata,
        Column("call_id", PlainText, primary_key=True),
        Column("at", UtcTime, nullable=False, comment="when the call ended"),
        Column("requested", PlainText, nullable=False, comment="the model or chain that was called"),
        Column("model", PlainText, comment="the model of the last attempt, which answered if the call was answered"),
        Column("vendor", PlainText, comment="the provider of the last attempt"),
        Column("model_name", PlainText, comment="the vendor's name of the model"),
        Column("response_model", PlainText, comment="the model that the vendor reported"),
        Column("outcome", PlainText, nullable=False, comment="complete, failed, closed, cancelled or abandoned"),
        Column("error", PlainText, comment="the class of the error"),
        *_make_count_columns(),
        Column("first_token", Double, comment="seconds from the start of the call; of streams"),
        Column("duration", Double, nullable=False, comment="seconds"),
        Column("attempts", Integer, nullable=False, comment="how many rows it has in attempts"),
        Column("tags", tags_type, nullable=False),
        Column("shape", PlainText, nullable=False, server_default="", comment="what the call asked for, as JSON"),
        Column("arm", PlainText, comment="the deployment or key of the last attempt, if several share its place"),
        Column("writer", PlainText, nullable=False, server_default="", comment="the hub that wrote the row"),
        Column("batch", BigInteger, nullable=False, server_default=text("0"), comment="in the order of writing"),
        schema=schema,
        sqlite_with_rowid=False,
    )


def _make_attempts(metadata: MetaData, schema: str | None) -> Table:
    return Table(
        "attempts",
        metadata,
        Column("call_id", PlainText, primary_key=True),
        Column("number", Integer, primary_key=True, autoincrement=False, comment="from 0"),
        Column("model", PlainText, nullable=False),
        Column("vendor", PlainText, nullable=False),
        Column("model_name", PlainText, nullable=False),
        Column("response_model", PlainText),
        Column("outcome", PlainText, nullable=False, comment="ok, or the class of the error"),
        Column("used", Boolean, nullable=False, comment="whether the vendor may charge for it"),
        *_make_count_columns(),
        Column("started", Double, nullable=False, comment="seconds from the start of the call"),
        Column("duration", Double, nullable=False, comment="seconds"),
        Column("dropped", PlainText, nullable=False, server_default="", comment="parameters left out, as JSON"),
        Column("rounded", PlainText, nullable=False, server_default="", comment="parameters changed, as JSON"),
        Column("arm", PlainText, comment="the deployment or key that was asked, if several share its place"),
        schema=schema,
        sqlite_with_rowid=False,
    )


def _make_count_columns() -> list[Column[Any]]:
    added = {"cache_write_1h_tokens": text("0")}
    return [
        *[Column(key, BigInteger, nullable=False, server_default=added.get(key)) for key in COUNTS],
        Column("cost", ExactDecimal, comment="US dollars; NULL if unknown"),
        Column("prices", PlainText, comment="where the prices come from"),
        Column("estimated", Boolean, nullable=False, comment="whether the vendor did not report the usage"),
    ]


@dataclass(frozen=True, eq=False)
class LedgerTables:
    """The tables of one dialect."""

    metadata: MetaData
    ledger: Table
    calls: Table
    attempts: Table
    calls_at: Index
    calls_batch: Index


@cache
def _make_tables(schema: str | None) -> LedgerTables:
    metadata = MetaData()
    version = Column("version", Integer, nullable=False, comment="of these tables")
    ledger = Table("ledger", metadata, version, schema=schema)
    calls, attempts = _make_calls(metadata, schema), _make_attempts(metadata, schema)
    indexes = Index("calls_at", calls.c.at), Index("calls_batch", calls.c.batch)
    return LedgerTables(metadata, ledger, calls, attempts, *indexes)


def get_tables(dialect: Dialect) -> LedgerTables:
    """Return the tables for *dialect*."""
    return _make_tables(POSTGRES_SCHEMA if dialect.name == "postgresql" else None)


# -- versions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Migration:
    """What one version has that the version before it had not: names of tables, indexes, and columns by table."""

    tables: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    indexes: tuple[str, ...] = ()


MIGRATIONS = (
    Migration(tables=("calls", "attempts"), indexes=("calls_at",)),
    Migration(columns={"calls": ("cache_write_1h_tokens",), "attempts": ("cache_write_1h_tokens",)}),
    Migration(columns={"calls": ("writer", "batch")}, indexes=("calls_batch",)),
    Migration(columns={"calls": ("response_model",), "attempts": ("response_model",)}),
    Migration(columns={"calls": ("shape",), "attempts": ("dropped", "rounded")}),
    Migration(columns={"calls": ("arm",), "attempts": ("arm",)}),
    Migration(tables=("ledger",)),
)
"""The versions of the tables, oldest first. Up to version 6, there were only SQLite files, which have their version in
`PRAGMA user_version` alone."""


def read_version(connection: Connection) -> int:
    """Return the version of the tables, 0 if there are none. Raises SQLAlchemyError."""
    ledger = get_tables(connection.dialect).ledger
    if inspect(connection).has_table(ledger.name, schema=ledger.schema):
        return int(connection.execute(select(ledger.c.version)).scalar_one())
    if connection.dialect.name == "sqlite":
        return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())
    return 0


def migrate(connection: Connection) -> None:
    """Bring the tables to the current version, in the transaction of *connection*; there may be none yet.

    Raises LedgerError if they are of a later version, and SQLAlchemyError.
    """
    tables, version, current = get_tables(connection.dialect), read_version(connection), len(MIGRATIONS)
    if version > current:
        raise LedgerError(f"it has version {version}, but this release only knows versions up to {current}")
    if version == current:
        return
    schema = tables.ledger.schema
    if schema is not None and not inspect(connection).has_schema(schema):  # whoever may not create it may use it
        connection.execute(CreateSchema(schema))
    for migration in MIGRATIONS[version:]:
        _apply(connection, tables, migration, is_new=version == 0)
    connection.execute(delete(tables.ledger))
    connection.execute(insert(tables.ledger).values(version=current))
    if connection.dialect.name == "sqlite":  # earlier releases look here, and refuse what they do not know
        connection.exec_driver_sql(f"PRAGMA user_version={current}")


def _apply(connection: Connection, tables: LedgerTables, migration: Migration, *, is_new: bool) -> None:
    """Carry out *migration*; if *is_new*, its tables were just created with all later columns and indexes."""
    for name in migration.tables:
        getattr(tables, name).create(connection)
    if is_new:
        return
    for name, columns in migration.columns.items():
        table: Table = getattr(tables, name)
        for column in columns:
            specification = CreateColumn(table.c[column]).compile(dialect=connection.dialect)
            table_name = connection.dialect.identifier_preparer.format_table(table)
            connection.exec_driver_sql(f"ALTER TABLE {table_name} ADD COLUMN {specification}")
    for name in migration.indexes:
        getattr(tables, name).create(connection)


def select_columns(table: Table, version: int) -> FromClause:
    """Return *table* as it is in *version*, with the current columns: those that it lacks have their defaults.

    In version 0, there are no rows.
    """
    added: set[str] = set()
    for migration in MIGRATIONS[version:]:
        added.update(table.c.keys() if table.name in migration.tables else migration.columns.get(table.name, ()))
    if not added:
        return table
    columns = [_get_default(column).label(column.name) if column.name in added else column for column in table.c]
    query = select(*columns)
    return (query.where(text("1 = 0")) if version == 0 else query).subquery(table.name)


def _get_default(column: Column[Any]) -> ColumnElement[Any]:
    default = getattr(column.server_default, "arg", None)
    return cast(null() if default is None else literal(default) if isinstance(default, str) else default, column.type)
