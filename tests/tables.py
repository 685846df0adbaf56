"""Tables of rows that are played in one test: a test for each row costs more than most rows do."""

from __future__ import annotations

import functools
import inspect
import itertools
import reprlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., Any])
Row = tuple[str, dict[str, Any]]

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60


def table(names: str | tuple[str, ...], rows: Iterable[Any], ids: Any = None) -> Callable[[Test], Test]:
    """Return a decorator for a test that plays all *rows*, written as `pytest.mark.parametrize` wants them.

    A row that fails keeps no other from being played. What is raised names each row that failed, by *ids* (names in
    the order of the rows, or a function of a value) or by its values. Of several tables on one test, each row of one
    is played with each of the others. Fixtures are made once for all rows; see `_renewed` for those that begin anew.
    """
    columns = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names
    values = [row if len(columns) > 1 else (row,) for row in rows]
    labels = [None] * len(values) if ids is None or callable(ids) else list(ids)
    own_rows = [
        (_describe(columns, row, ids) if label is None else label, dict(zip(columns, row, strict=True)))
        for label, row in zip(labels, values, strict=True)
    ]
    assert own_rows, f"a table without rows: {names}"

    def decorate(test: Test) -> Test:
        tables = [*getattr(test, "tables", ()), own_rows]
        played = _played(getattr(test, "test_of_row", test), tables)
        played.__dict__ |= {**test.__dict__, **played.__dict__}
        return played

    return decorate


def _describe(columns: tuple[str, ...], row: tuple[Any, ...], ids: Callable[[Any], Any] | None) -> str:
    shown = [_REPR.repr(value) if ids is None else str(ids(value)) for value in row]
    return ", ".join(f"{column}={text}" for column, text in zip(columns, shown, strict=True))


def _played(test: Any, tables: list[list[Row]]) -> Any:
    """The test of all combinations of rows, which takes what *test* takes beside the columns."""

    def combine() -> Iterator[Row]:
        for rows in itertools.product(*reversed(tables)):
            yield ", ".join(label for label, _ in rows), {name: row[name] for _, row in rows for name in row}

    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def played(**fixtures: Any) -> None:
            outcomes = Outcomes()
            for number, (label, row) in enumerate(combine()):
                with outcomes.of(label), _renewed(fixtures, number) as renewed:
                    await test(**renewed, **row)
            outcomes.report()

    else:

        @functools.wraps(test)
        def played(**fixtures: Any) -> None:
            outcomes = Outcomes()
            for number, (label, row) in enumerate(combine()):
                with outcomes.of(label), _renewed(fixtures, number) as renewed:
                    test(**renewed, **row)
            outcomes.report()

    signature = inspect.signature(test)
    columns = {name for rows in tables for name in rows[0][1]}
    unknown = columns - signature.parameters.keys()
    assert not unknown, f"{test.__name__} takes no {unknown}"
    parameters = [parameter for name, parameter in signature.parameters.items() if name not in columns]
    vars(played).update(__signature__=signature.replace(parameters=parameters), tables=tables, test_of_row=test)
    return played


class Outcomes:
    """The failures of a table's rows, each with a note that names its row."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.rows = 0

    @contextmanager
    def of(self, label: str) -> Iterator[None]:
        """Keep what fails within, so that the next row can be played."""
        self.rows += 1
        try:
            yield
        except pytest.skip.Exception as skipped:  # would hide the rows that come after it, and those that have failed
            self.failures.append(AssertionError(f"the row {label} asks to skip the test: {skipped}"))
        except (Exception, pytest.fail.Exception) as error:
            error.add_note(f"in the row: {label}")
            self.failures.append(error)

    def report(self) -> None:
        """Raise the one failure, or all together."""
        if len(self.failures) == 1:
            raise self.failures[0]
        if self.failures:
            raise BaseExceptionGroup(f"{len(self.failures)} of {self.rows} rows failed", self.failures)


@contextmanager
def _renewed(fixtures: dict[str, Any], number: int) -> Iterator[dict[str, Any]]:
    """The fixtures for a row: what an earlier row patched, wrote, logged or asked a scripted server is not in them."""
    renewed = dict(fixtures)
    with ExitStack() as stack:
        for name, value in fixtures.items():
            if name == "monkeypatch":
                renewed[name] = stack.enter_context(pytest.MonkeyPatch.context())
            elif name == "tmp_path":
                renewed[name] = value / f"row-{number}"
                renewed[name].mkdir()
            elif name == "caplog":
                value.clear()
            elif name in ("capsys", "capfd"):
                value.readouterr()
            elif hasattr(value, "begin_row") and not isinstance(value, type):
                value.begin_row()
        yield renewed
