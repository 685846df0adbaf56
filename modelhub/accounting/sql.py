"""SQL that differs between SQLite and PostgreSQL, as expressions that are the same in both."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Text, and_, case, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.sql.selectable import FromClause

from modelhub.accounting.schema import ExactDecimal

__all__ = [
    "DecimalSum",
    "count_if",
    "count_unpriced",
    "exact_sum",
    "select_tag_names",
    "tag_value",
    "utc_prefix",
    "without_index",
]


class exact_sum(FunctionElement[Decimal]):  # noqa: N801 - it is a function of SQL
    """The exact sum of costs; nulls are ignored, and the sum of none is 0."""

    name = "exact_sum"
    type = ExactDecimal()
    inherit_cache = True


@compiles(exact_sum, "sqlite")
def _compile_sqlite_sum(element: exact_sum, compiler: SQLCompiler, **options: Any) -> str:
    return f"decimal_sum({compiler.process(element.clauses, **options)})"


@compiles(exact_sum, "postgresql")
def _compile_postgres_sum(element: exact_sum, compiler: SQLCompiler, **options: Any) -> str:
    return f"COALESCE(SUM({compiler.process(element.clauses, **options)}), 0)"


class DecimalSum:
    """The aggregate `decimal_sum` for SQLite: the exact sum of numbers as text; nulls are ignored."""

    def __init__(self) -> None:
        self.total = Decimal(0)

    def step(self, value: str | None) -> None:
        """Add *value*."""
        if value is not None:
            self.total += Decimal(value)

    def finalize(self) -> str:
        """Return the sum."""
        return format(self.total, "f")


class tag_value(FunctionElement[str]):  # noqa: N801 - it is a function of SQL
    """The value of a tag in a column of tags, or NULL: `tag_value(calls.c.tags, name)`."""

    name = "tag_value"
    type = Text()
    inherit_cache = True


@compiles(tag_value, "sqlite")
def _compile_sqlite_tag(element: tag_value, compiler: SQLCompiler, **options: Any) -> str:
    tags, key = (compiler.process(clause, **options) for clause in element.clauses)
    return f"(SELECT value FROM json_each({tags}) WHERE key = {key})"  # noqa: S608 - our own text


@compiles(tag_value, "postgresql")
def _compile_postgres_tag(element: tag_value, compiler: SQLCompiler, **options: Any) -> str:
    tags, key = (compiler.process(clause, **options) for clause in element.clauses)
    return f"({tags} ->> {key})"


class utc_prefix(FunctionElement[str]):  # noqa: N801 - it is a function of SQL
    """The first characters of an instant in UTC as ISO text, down to the hour: `utc_prefix(at, 10)` is the day."""

    name = "utc_prefix"
    type = Text()
    inherit_cache = True


@compiles(utc_prefix, "sqlite")
def _compile_sqlite_prefix(element: utc_prefix, compiler: SQLCompiler, **options: Any) -> str:
    at, length = (compiler.process(clause, **options) for clause in element.clauses)
    return f"substr({at}, 1, {length})"


@compiles(utc_prefix, "postgresql")
def _compile_postgres_prefix(element: utc_prefix, compiler: SQLCompiler, **options: Any) -> str:
    at, length = (compiler.process(clause, **options) for clause in element.clauses)
    return f"""left(to_char({at} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24'), {length})"""


class without_index(FunctionElement[Any]):  # noqa: N801 - it is a function of SQL
    """A column, by which SQLite is not to look for rows."""

    name = "without_index"
    inherit_cache = True

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


@compiles(without_index, "sqlite")
def _compile_sqlite_column(element: without_index, compiler: SQLCompiler, **options: Any) -> str:
    return f"+{compiler.process(element.clauses, **options)}"


@compiles(without_index, "postgresql")
def _compile_postgres_column(element: without_index, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)


def count_if(condition: ColumnElement[bool]) -> ColumnElement[int]:
    """Return the number of rows for which *condition* is true."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0, type_=Integer)


def count_unpriced(attempts: FromClause) -> ColumnElement[int]:
    """Return the number of *attempts* whose cost is unknown."""
    return count_if(and_(attempts.c.used, attempts.c.cost.is_(None)))


def select_tag_names(calls: FromClause, dialect_name: str) -> Select[str, int]:
    """Return a query for the names of the tags of *calls*, and for how many calls have each."""
    function = func.json_each if dialect_name == "sqlite" else func.jsonb_each
    tags = function(calls.c.tags).table_valued("key").alias("tag")
    name = tags.c.key.label("name")
    return select(name, func.count()).select_from(calls).join(tags, tags.c.key.is_not(None)).group_by("name")
