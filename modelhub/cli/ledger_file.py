"""The ledger of a command: where it is, and what is said of one that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.output import make_line, print_lines, show_waiting
from modelhub.cli.report import fail, fail_usage

if TYPE_CHECKING:
    from modelhub.accounting.ledger_location import LedgerLocation
    from modelhub.config.load import Loaded

__all__ = ["LedgerFile", "Since", "check_exists", "find_ledger", "parse_ledger", "parse_since", "report_unreadable"]

Since = Annotated[
    str,
    typer.Option("--since", metavar="WHEN", help="The start: a span (7d, 12h, 30m), a date (2026-01-31), or `ever`."),
]
LedgerFile = Annotated[
    str | None, typer.Option("--ledger", metavar="PATH|URL", help="The ledger (default: `usage.ledger` of the file).")
]
_SPAN_PATTERN = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse_since(since: str, now: datetime) -> datetime | None:
    """Return the instant that *since* names, or None for `ever`; exits with a usage error for anything else."""
    if since == "ever":
        return None
    if (match := _SPAN_PATTERN.fullmatch(since)) is not None:
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        start = datetime.fromisoformat(since)
    except ValueError:
        fail_usage("use a span such as 7d, a date such as 2026-01-31, or `ever`", "--since")
    return start if start.tzinfo is not None else start.replace(tzinfo=UTC)


def parse_ledger(text: str) -> LedgerLocation:
    """Return the ledger at the path or URL *text*. Exits with a usage error if it is an unusable URL."""
    from modelhub.accounting.ledger_location import parse_location, validate_url

    try:
        validate_url(text)
    except ValueError as error:
        fail_usage(f"the URL {error}", "--ledger")
    return parse_location(text)


def find_ledger(ledger: str | None, loaded: Loaded) -> LedgerLocation:
    """Return where *ledger* is, or the one that the configuration sets. Raises ConfigError if it sets none.

    Exits with a usage error if *ledger* is an unusable URL.
    """
    if ledger is not None:
        return parse_ledger(ledger)
    from modelhub.accounting import accounting
    from modelhub.core.errors import ConfigError

    location = accounting.find_ledger(loaded.config.usage, Path(loaded.file).parent)
    if location is None:
        raise ConfigError(f"{loaded.file} has no ledger: add `usage: {{ledger: usage.db}}`")
    return location


def check_exists(ledger: LedgerLocation) -> bool:
    """Return whether there is a ledger to read; if not, that is printed."""
    if ledger.exists():
        return True
    print_lines(make_line(f"no calls yet: there is no {ledger}"), err=True)
    return False


@contextmanager
def report_unreadable(ledger: LedgerLocation) -> Iterator[None]:
    """Show that *ledger* is being read, if that takes long; print that it cannot be read, if that is so, and exit."""
    from modelhub.accounting.ledger_location import LedgerError

    try:
        with show_waiting(f"reading {ledger}"):
            yield
    except LedgerError as error:
        fail(f"{ledger} cannot be read: {error}")
