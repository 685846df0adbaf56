"""`modelhub usage`: the usage and cost of calls, from the ledger."""

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
from modelhub.cli.output import make_line, print_json, print_lines
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.accounting.usage_totals import UsageTotals

__all__ = ["usage"]

_SPAN_PATTERN = re.compile(r"(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def usage(
    since: Annotated[
        str,
        typer.Option(
            "--since", metavar="WHEN", help="The start: a span (7d, 12h, 30m), a date (2026-01-31), or `ever`."
        ),
    ] = "7d",
    by: Annotated[
        str,
        typer.Option(
            "--by", metavar="WHAT", help="Group by model, chain, tag:NAME, vendor, outcome, hour, day, month, or all."
        ),
    ] = "model",
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    as_json: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write an HTML page with charts (- for standard output)."),
    ] = None,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="PATH", help="The ledger (default: `usage.ledger` of the file).")
    ] = None,
    file: ConfigFile = None,
) -> None:
    """Show what calls used and cost.

    Reads the ledger that is set under `usage:`. An unknown cost is shown as unknown, not as zero.

    \b
    Examples:
      modelhub usage
      modelhub usage --since 30d --by tag:user
      modelhub usage --by day --csv > usage.csv
      modelhub usage --since 30d --html usage.html
    """
    if as_csv + as_json + (html is not None) > 1:
        fail_usage("use only one of --csv, --json and --html", "--csv")
    now = datetime.now(UTC)
    start = _parse_since(since, now)
    with report_errors(as_json=as_json):
        path = ledger or _find_ledger(file)
        if html is not None:
            _write_page(html, path, start, now)
            return
        totals = _query_totals(path, start, by)
        if as_json:
            print_json([{"name": name, **total.as_dict()} for name, total in totals.items()])
        elif as_csv:
            _print_csv(totals)
        else:
            from modelhub.cli.usage.table import format_table

            print_lines(*format_table(totals, by, start))


def _parse_since(since: str, now: datetime) -> datetime | None:
    if since == "ever":
        return None
    if (match := _SPAN_PATTERN.fullmatch(since)) is not None:
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        start = datetime.fromisoformat(since)
    except ValueError:
        fail_usage("use a span such as 7d, a date such as 2026-01-31, or `ever`", "--since")
    return start if start.tzinfo is not None else start.replace(tzinfo=UTC)


def _find_ledger(file: Path | None) -> Path:
    from modelhub.accounting.accounting import find_ledger
    from modelhub.config.load import load_file
    from modelhub.core.errors import ConfigError
    from modelhub.hub import find_config_file

    path = find_config_file(file)
    ledger = find_ledger(load_file(path).config.usage, path.parent)
    if ledger is None:
        raise ConfigError(f"{path} has no ledger: add `usage: {{ledger: usage.db}}`")
    return ledger


def _query_totals(ledger: Path, since: datetime | None, by: str) -> dict[str, UsageTotals]:
    from modelhub.accounting.report import query_report

    if not _check_exists(ledger):
        return {}
    with _report_unreadable(ledger):
        try:
            totals = query_report(ledger, since, by)
        except ValueError as error:
            fail_usage(str(error), "--by")
    if by in {"hour", "day", "month"}:
        return totals
    return dict(sorted(totals.items(), key=lambda item: (-item[1].known_cost, -item[1].total_tokens, item[0])))


def _write_page(page: Path, ledger: Path, since: datetime | None, now: datetime) -> None:
    from modelhub.cli.usage import page as _usage_page

    if _check_exists(ledger) and page.exists() and page.samefile(ledger):
        fail_usage("this is the ledger itself", "--html")
    with _report_unreadable(ledger):
        text = _usage_page.make_page(ledger, since, now)
    if str(page) == "-":
        print(text)  # noqa: T201
        return
    page.write_text(text, encoding="utf-8", errors="replace")
    print_lines(make_line(f"wrote {page}"), err=True)


def _check_exists(ledger: Path) -> bool:
    if ledger.exists():
        return True
    print_lines(make_line(f"no calls yet: there is no {ledger}"), err=True)
    return False


@contextmanager
def _report_unreadable(ledger: Path) -> Iterator[None]:
    import sqlite3

    try:
        yield
    except sqlite3.Error as error:
        print_lines(make_line(("error", "bold red"), f": {ledger} cannot be read: {error}"), err=True)
        raise typer.Exit(Exit.FAILED) from None


def _print_csv(totals: dict[str, UsageTotals]) -> None:
    import csv
    import sys

    from modelhub.accounting.usage_totals import UsageTotals

    writer = csv.DictWriter(sys.stdout, ["name", *UsageTotals().as_dict()], lineterminator="\n")
    writer.writeheader()
    for name, total in totals.items():
        writer.writerow({"name": _escape_formula(name), **total.as_dict()})


def _escape_formula(cell: str) -> str:
    """Return *cell* quoted if a spreadsheet would read it as a formula: names and tags come from outside."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell
