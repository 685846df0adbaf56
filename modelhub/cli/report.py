"""Report errors of commands, and exit with the matching status."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.output import format_count, is_terminal, make_line, print_json, print_lines
from modelhub.core.errors import CallError, ConfigError, Problem, UnknownModel

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.call_trace import CallTrace

__all__ = [
    "fail",
    "fail_usage",
    "format_config_error",
    "make_problem_dicts",
    "print_config_error",
    "print_simple_error",
    "report_errors",
]


@contextmanager
def report_errors(*, as_json: bool = False, trace: CallTrace | None = None) -> Iterator[None]:
    """Print an expected error to standard error, or as JSON to standard output, and exit with its status."""
    try:
        try:
            yield
        except CallError as error:
            _print_call_error(error, as_json, trace)
            raise typer.Exit(Exit.FAILED) from None
        except ConfigError as error:
            print_config_error(error, as_json)
            raise typer.Exit(Exit.CONFIG) from None
        except UnknownModel as error:
            print_simple_error("UnknownModel", str(error), as_json)
            raise typer.Exit(Exit.CONFIG) from None
    except KeyboardInterrupt:
        # The terminal has printed ^C, and the cursor is behind it.
        print_lines(*([""] if is_terminal(sys.stderr) else []), make_line(("interrupted", "dim")), err=True)
        raise typer.Exit(Exit.INTERRUPTED) from None
    except BrokenPipeError:
        _silence_output()
        raise typer.Exit(Exit.PIPE_CLOSED) from None
    except OSError as error:
        _silence_output()
        place = f" {error.filename}" if error.filename else " the output"
        print_simple_error("OSError", f"cannot write{place}: {(error.strerror or str(error)).lower()}", as_json=False)
        raise typer.Exit(Exit.FAILED) from None


def fail(message: str, status: Exit = Exit.FAILED) -> NoReturn:
    """Print an error on standard error, and exit with *status*."""
    print_lines(make_line(("Error", "bold red"), f": {message}"), err=True)
    raise typer.Exit(status) from None


def fail_usage(message: str, hint: str) -> NoReturn:
    """Exit with an error about *hint*, the name of an argument or option."""
    raise typer.BadParameter(message, param_hint=hint)


def print_simple_error(kind: str, message: str, as_json: bool) -> None:
    """Print an error that has a *kind* and a *message* and nothing else; as JSON, to standard output."""
    if as_json:
        print_json({"error": {"kind": kind, "message": message}})
    else:
        print_lines(make_line(("Error", "bold red"), f": {message}"), err=True)


def print_config_error(error: ConfigError, as_json: bool) -> None:
    """Print every problem of a broken file; as JSON, to standard output."""
    if as_json:
        problems = make_problem_dicts(error)
        print_json({"error": {"kind": "ConfigError", "message": str(error), "problems": problems}})
    else:
        print_lines(*format_config_error(error), err=True, wraps=False)


def _print_call_error(error: CallError, as_json: bool, trace: CallTrace | None) -> None:
    from modelhub.cli.call_trace import CallTrace
    from modelhub.cli.error_view import format_call_error, make_error_dict

    if as_json:
        print_json({"error": {**make_error_dict(error), "attempts": list(error.attempts)}})
    else:
        print_lines(*format_call_error(error, trace or CallTrace()), err=True)


def _silence_output() -> None:
    """Redirect closed output streams to /dev/null, or the interpreter would report another error at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            os.dup2(devnull, stream.fileno())
    os.close(devnull)


# -- a broken file -----------------------------------------------------------------------------------------------------


def format_config_error(error: ConfigError) -> list[Text]:
    """Return the lines that show every problem, and their number."""
    if not any(problem.file for problem in error.problems):
        return [make_line(("Error", "bold red"), f": {error}")]
    lines: list[Text] = []
    for problem in error.problems:
        lines += [*_format_problem(problem), make_line("")]
    file = error.problems[0].file
    return [*lines, make_line((f"{format_count(len(error.problems), 'problem')} in {file}", "bold"))]


def _format_problem(problem: Problem) -> Iterator[Text]:
    place = ":".join(str(part) for part in (problem.file, problem.line, problem.column) if part)
    words = [(part, "bold" if part.startswith("`") else "") for part in re.split(r"(`[^`]*`)", problem.message)]
    yield make_line((place, "bold"), (": ", "dim"), *words)
    for row in problem.excerpt.splitlines():
        number, bar, text = row.partition("|")
        stripped = text.lstrip()
        if stripped.startswith("^") and not number.strip():
            carets = stripped[: len(stripped) - len(stripped.lstrip("^"))]
            blank = text[: len(text) - len(stripped)]
            yield make_line((f"{number}{bar}", "dim"), blank, (carets, "bold red"), (stripped[len(carets) :], "green"))
        else:
            yield make_line((f"{number}{bar}", "dim"), text)
    if problem.hint and not problem.excerpt:
        yield make_line("  ", (problem.hint, "green"))


def make_problem_dicts(error: ConfigError) -> list[dict[str, Any]]:
    """Return the problems as JSON-compatible dicts."""
    keys = ("message", "file", "line", "column", "hint", "excerpt")
    return [{key: getattr(problem, key) for key in keys} for problem in error.problems]
