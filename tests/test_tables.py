"""A table that is played in one test hides no row that fails."""

import asyncio
import inspect
import os
import sys

import pytest

from tests.tables import table


def play(names, rows, test, ids=None):
    """Play a table as pytest would."""
    played = table(names, rows, ids)(test)()
    if inspect.iscoroutine(played):
        asyncio.run(played)


def failures_of(*args, **kwargs):
    """What a table raises, with the notes of its failures."""
    with pytest.raises(BaseException) as caught:
        play(*args, **kwargs)
    failures = getattr(caught.value, "exceptions", [caught.value])
    return caught.value, [getattr(failure, "__notes__", []) for failure in failures]


def test_every_row_is_played_and_each_that_fails_is_named():
    """Whatever it fails by: an error of its own, an assertion, or what `pytest.raises` misses."""
    played = []

    def test(number, text):
        played.append(text)
        with pytest.raises(ZeroDivisionError):
            1 / number
        assert text == "same"

    error, notes = failures_of("number, text", [(1, "a"), (0, "same"), (0, "b")], test)
    assert played == ["a", "same", "b"]
    assert str(error) == "2 of 3 rows failed (2 sub-exceptions)"
    assert notes == [["in the row: number=1, text='a'"], ["in the row: number=0, text='b'"]]


def test_the_only_failure_is_raised_as_it_is():
    """Its traceback is the report; a test with `await` is played like any other."""

    async def test(number):
        await asyncio.sleep(0)
        assert number != 2

    error, notes = failures_of("number", [1, 2, 3], test, ids=["a", "b", "c"])
    assert isinstance(error, AssertionError)
    assert notes == [["in the row: b"]]


def test_a_row_that_would_skip_the_test_fails():
    """The rows after it are played."""

    def test(number):
        if number == 1:
            pytest.skip("not here")
        assert number == 3

    error, notes = failures_of("number", [1, 2, 3], test)
    assert [str(failure) for failure in error.exceptions][:1] == ["the row number=1 asks to skip the test: not here"]
    assert notes[1] == ["in the row: number=2"]


def test_several_tables_are_played_with_each_other():
    """The test keeps its fixtures, and takes none of the columns."""
    played = []

    @table("upper", "AB")
    @table("lower", "ab")
    def test(fixture, upper, lower):
        played.append(upper + lower)

    assert list(inspect.signature(test).parameters) == ["fixture"]
    test(fixture=None)
    assert played == ["Aa", "Ab", "Ba", "Bb"]


@table("row", ["first", "second"])
def test_a_row_sees_nothing_of_those_before_it(monkeypatch, tmp_path, caplog, capsys, row):
    """What they patched is as before; they wrote, logged and printed elsewhere."""
    assert (os.environ.get("ROW"), list(tmp_path.iterdir()), caplog.records) == (None, [], [])
    assert capsys.readouterr().out == ""
    monkeypatch.setenv("ROW", row)
    (tmp_path / row).touch()
    sys.stdout.write(row)


def test_a_table_that_does_not_fit_its_test_is_refused():
    """A column that the test does not take, and a table without rows, would test nothing."""
    with pytest.raises(AssertionError, match="takes no"):
        table("b", [1])(lambda a: None)
    with pytest.raises(AssertionError, match="without rows"):
        table("a", [])
