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


class _DialectFunction(FunctionElement[Any]):
    """A function that each database writes in its own way: in the templates, `{0}` is the first argument."""

    inherit_cache = True
    sqlite: str
    postgresql: str


@compiles(_DialectFunction)
def _compile(element: _DialectFunction, compiler: SQLCompiler, **options: Any) -> str:
    template: str = getattr(element, compiler.dialect.name)
    return template.format(*(compiler.process(clause, **options) for clause in element.clauses))


class exact_sum(_DialectFunction):  # noqa: N801 - it is a function of SQL
    """The exact sum of costs; nulls are ignored, and the sum of none is 0."""

    inherit_cache = True
    type = ExactDecimal()
    sqlite = "decimal_sum({0})"
    postgresql = "COALESCE(SUM({0}), 0)"


class tag_value(_DialectFunction):  # noqa: N801 - it is a function of SQL
    """The value of a tag in a column of tags, or NULL: `tag_value(calls.c.tags, name)`."""

    inherit_cache = True
    type = Text()
    sqlite = "(SELECT value FROM json_each({0}) WHERE key = {1})"
    postgresql = "({0} ->> {1})"


class utc_prefix(_DialectFunction):  # noqa: N801 - it is a function of SQL
    """The first characters of an instant in UTC as ISO text, down to the hour: `utc_prefix(at, 10)` is the day."""

    inherit_cache = True
    type = Text()
    sqlite = "substr({0}, 1, {1})"
    postgresql = """left(to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24'), {1})"""


class without_index(_DialectFunction):  # noqa: N801 - it is a function of SQL
    """A column, by which SQLite is not to look for rows."""

    inherit_cache = True
    sqlite = "+{0}"
    postgresql = "{0}"

    def __init__(self, column: ColumnElement[Any]) -> None:
        super().__init__(column)
        self.type = column.type


class DecimalSum:
    """The aggregate `decimal_sum` for SQLite: the exact sum of numbers as text; nulls are ignored."""

    def __init__(self) -> None:
        self.total = Decimal(0)

    def step(self, value: str | None) -> None:
        """Add *value*, a number as text, as SQLite calls it for each row; null is ignored."""
        if value is not None:
            self.total += Decimal(value)

    def finalize(self) -> str:
        """Return the sum as text, 0 for no rows."""
        return format(self.total, "f")


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
