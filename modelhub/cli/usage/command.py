"""`modelhub usage`: what calls used and cost, from the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import AsJson, ConfigFile
from modelhub.cli.output import line, print_json, say
from modelhub.cli.report import reported, usage_error

if TYPE_CHECKING:
    from modelhub.accounting.usage_totals import UsageTotals

__all__ = ["usage"]

_SPAN = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def usage(
    since: Annotated[
        str, typer.Option("--since", metavar="WHEN", help="A span (7d, 12h, 30m), a date (2026-01-31), or `ever`.")
    ] = "7d",
    by: Annotated[
        str,
        typer.Option("--by", metavar="WHAT", help="model, chain, tag:NAME, vendor, outcome, hour, day, month, or all."),
    ] = "model",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with charts (- for standard output)."),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="PATH", help="The ledger; else the file's `usage.ledger`.")
    ] = None,
    file: ConfigFile = None,
) -> None:
    """Tell what calls used and cost.

    Reads the ledger, which the file names under `usage:`. A cost that is not known is never taken for nothing.

    \b
    Examples:
      modelhub usage
      modelhub usage --since 30d --by tag:user
      modelhub usage --by day --csv > usage.csv
      modelhub usage --since 30d --html usage.html
    """
    if as_csv + as_json + (html is not None) > 1:
        usage_error("give one of --csv, --json and --html", "--csv")
    now = datetime.now(UTC)
    start = _start(since, now)
    with reported(as_json=as_json):
        path = ledger or _ledger_of(file)
        if html is not None:
            _write_page(html, path, start, now)
            return
        found = _sums(path, start, by)
        if as_json:
            print_json([{"name": name, **total.as_dict()} for name, total in found.items()])
        elif as_csv:
            _print_csv(found)
        else:
            from modelhub.cli.usage.table import lines

            say(*lines(found, by, start))


def _start(since: str, now: datetime) -> datetime | None:
    if since == "ever":
        return None
    if (match := _SPAN.fullmatch(since)) is not None:
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        found = datetime.fromisoformat(since)
    except ValueError:
        usage_error("give a span such as 7d, a date such as 2026-01-31, or `ever`", "--since")
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _ledger_of(file: Path | None) -> Path:
    from modelhub.accounting.accounting import find_ledger
    from modelhub.config.load import load_file
    from modelhub.core.errors import ConfigError
    from modelhub.hub import find_config_file

    path = find_config_file(file)
    found = find_ledger(load_file(path).config.usage, path.parent)
    if found is None:
        raise ConfigError(f"{path} keeps no ledger: add `usage: {{ledger: usage.db}}`")
    return found


def _sums(ledger: Path, since: datetime | None, by: str) -> dict[str, UsageTotals]:
    from modelhub.accounting.report import query_report

    if not _exists(ledger):
        return {}
    with _readable(ledger):
        try:
            found = query_report(ledger, since, by)
        except ValueError as error:
            usage_error(str(error), "--by")
    if by in {"hour", "day", "month"}:
        return found
    return dict(sorted(found.items(), key=lambda item: (-item[1].known_cost, -item[1].total_tokens, item[0])))


def _write_page(page: Path, ledger: Path, since: datetime | None, now: datetime) -> None:
    from modelhub.cli.usage import page as _usage_page

    if _exists(ledger) and page.exists() and page.samefile(ledger):
        usage_error("this is the ledger itself", "--html")
    with _readable(ledger):
        text = _usage_page.page(ledger, since, now)
    if str(page) == "-":
        print(text)  # noqa: T201
        return
    page.write_text(text, encoding="utf-8", errors="replace")
    say(line(f"wrote {page}"), err=True)


def _exists(ledger: Path) -> bool:
    if ledger.exists():
        return True
    say(line(f"no calls yet: there is no {ledger}"), err=True)
    return False


@contextmanager
def _readable(ledger: Path) -> Iterator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        say(line(("error", "bold red"), f": {ledger} cannot be read: {error}"), err=True)
        raise typer.Exit(Exit.FAILED) from None


def _print_csv(found: dict[str, UsageTotals]) -> None:
    import csv
    import sys

    from modelhub.accounting.usage_totals import UsageTotals

    writer = csv.DictWriter(sys.stdout, ["name", *UsageTotals().as_dict()], lineterminator="\n")
    writer.writeheader()
    for name, total in found.items():
        writer.writerow({"name": _as_text(name), **total.as_dict()})


def _as_text(cell: str) -> str:
    """Return *cell* so that no spreadsheet takes it for a formula: names and tags are anybody's."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
