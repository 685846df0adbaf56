"""What every command does about errors: say them, and leave with the status they stand for."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.output import counted, line, print_json, say
from modelhub.core.errors import CallError, ConfigError, Problem, UnknownModel

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.call_trace import CallTrace

__all__ = ["config_failed", "problems_as_dicts", "reported", "usage_error"]


@contextmanager
def reported(*, as_json: bool = False, story: CallTrace | None = None) -> Iterator[None]:
    """Turn what a person may meet into words on standard error (or JSON on standard output) and an exit status."""
    try:
        try:
            yield
        except CallError as error:
            _call_failed(error, as_json, story)
            raise typer.Exit(Exit.FAILED) from None
        except ConfigError as error:
            if as_json:
                _print_error("ConfigError", str(error), problems=problems_as_dicts(error))
            else:
                say(*config_failed(error), err=True, wrapped=False)
            raise typer.Exit(Exit.CONFIG) from None
        except UnknownModel as error:
            _simple("UnknownModel", str(error), as_json)
            raise typer.Exit(Exit.CONFIG) from None
    except KeyboardInterrupt:
        # The terminal has written ^C, and the cursor stands behind it.
        say(*([""] if sys.stderr is not None and sys.stderr.isatty() else []), line(("interrupted", "dim")), err=True)
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        _silence()
        raise typer.Exit(Exit.PIPE_CLOSED) from None
    except OSError as error:
        _silence()
        place = f" {error.filename}" if error.filename else " the output"
        _simple("OSError", f"cannot write{place}: {(error.strerror or str(error)).lower()}", as_json=False)
        raise typer.Exit(Exit.FAILED) from None


def usage_error(message: str, hint: str) -> NoReturn:
    """Say that *hint*, a part of the command line, is wrong."""
    raise typer.BadParameter(message, param_hint=hint)


def _simple(kind: str, message: str, as_json: bool) -> None:
    if as_json:
        _print_error(kind, message)
    else:
        say(line(("Error", "bold red"), f": {message}"), err=True)


def _print_error(kind: str, message: str, **more: Any) -> None:
    print_json({"error": {"kind": kind, "message": message, **more}})


def _call_failed(error: CallError, as_json: bool, story: CallTrace | None) -> None:
    from modelhub.cli.call_trace import CallTrace
    from modelhub.cli.error_view import as_dict, call_failed

    if as_json:
        print_json({"error": {**as_dict(error), "attempts": list(error.attempts)}})
    else:
        say(*call_failed(error, story or CallTrace()), err=True)


def _silence() -> None:
    """Nothing more can be written; without this the interpreter would complain once again at its end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(devnull, stream.fileno())
    os.close(devnull)


# -- a broken file -----------------------------------------------------------------------------------------------------


def config_failed(error: ConfigError) -> list[Text]:
    """The lines that tell of every problem, and how many there are."""
    if not any(problem.file for problem in error.problems):
        return [line(("Error", "bold red"), f": {error}")]
    lines: list[Text] = []
    for problem in error.problems:
        lines += [*_problem(problem), line("")]
    file = error.problems[0].file
    return [*lines, line((f"{counted(len(error.problems), 'problem')} in {file}", "bold"))]


def _problem(problem: Problem) -> Iterator[Text]:
    place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part)
    yield line((place, "bold"), (": ", "dim"), *_quoted(problem.message))
    for row in problem.excerpt.splitlines():
        number, bar, rest = row.partition("|")
        stripped = rest.lstrip()
        if stripped.startswith("^") and not number.strip():
            carets = stripped[: len(stripped) - len(stripped.lstrip("^"))]
            blank = rest[: len(rest) - len(stripped)]
            yield line((f"{number}{bar}", "dim"), blank, (carets, "bold red"), (stripped[len(carets) :], "green"))
        else:
            yield line((f"{number}{bar}", "dim"), rest)
    if problem.hint and not problem.excerpt:
        yield line("  ", (problem.hint, "green"))


def _quoted(message: str) -> Iterator[tuple[str, str]]:
    """*message* with what stands in backticks made bold."""
    for part in re.split(r"(`[^`]*`)", message):
        yield part, "bold" if part.startswith("`") else ""


def problems_as_dicts(error: ConfigError) -> list[dict[str, Any]]:
    """Every problem as JSON has it."""
    keys = ("message", "file", "line", "column", "hint", "excerpt")
    return [{key: getattr(problem, key) for key in keys} for problem in error.problems]
