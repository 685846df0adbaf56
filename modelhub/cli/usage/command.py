"""`modelhub usage`: the usage and cost of calls, from the ledger."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.ledger_file import (
    LedgerFile,
    Since,
    check_exists,
    find_ledger,
    parse_ledger,
    parse_since,
    report_unreadable,
)
from modelhub.cli.options import AsJson, ConfigFile, Profile, load_config, parse_pairs
from modelhub.cli.output import make_line, print_json, print_lines
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.accounting.ledger_location import LedgerLocation
    from modelhub.accounting.options import SpendingOptions
    from modelhub.accounting.usage_totals import UsageTotals

__all__ = ["usage"]

GroupBy = Annotated[
    str,
    typer.Option(
        "--by", metavar="WHAT", help="Group by model, arm, chain, tag:NAME, vendor, outcome, hour, day, month, or all."
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        metavar="NAME=VALUE",
        help="Count only these calls: by model, arm, vendor, chain, outcome or tag:NAME, such as tag:user=42; can be "
        "repeated.",
    ),
]
AsCsv = Annotated[bool, typer.Option("--csv", help="Print CSV.")]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write an HTML page with charts (- for standard output).")
]


def usage(
    since: Since = "7d",
    by: GroupBy = "model",
    only: Only = None,
    as_csv: AsCsv = False,
    as_json: AsJson = False,
    html: HtmlFile = None,
    ledger: LedgerFile = None,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Show what calls used and cost.

    Reads the ledger that is set under `usage:`. An unknown cost is shown as unknown, not as zero.

    \b
    Examples:
      modelhub usage
      modelhub usage --since 30d --by tag:user
      modelhub usage --by day --csv > usage.csv
      modelhub usage --since 30d --html usage.html --only chain=primary
    """
    if as_csv + as_json + (html is not None) > 1:
        fail_usage("use only one of --csv, --json and --html", "--csv")
    now = datetime.now(UTC)
    start, only_values = parse_since(since, now), _parse_only(only)
    with report_errors(as_json=as_json):
        query = _Query(*_find_ledger(ledger, file, profile), start, now, only_values)
        if html is not None:
            _write_page(html, query)
            return
        totals = _read_totals(query, by)
        if as_json:
            _print_json(totals, by, query)
        elif as_csv:
            print_csv(totals)
        else:
            _print_table(totals, by, query)


@dataclass(frozen=True, slots=True)
class _Query:
    """The calls to show, those in `ledger` from `since` on with every value in `only`, and `budgets` as of `now`."""

    ledger: LedgerLocation
    budgets: Mapping[str, SpendingOptions]
    since: datetime | None
    now: datetime
    only: Mapping[str, str]


def _parse_only(texts: list[str] | None) -> dict[str, str]:
    """Return the filter that *texts*, such as "tag:user=42", describe; exits with a usage error for anything else."""
    from modelhub.accounting.report import check_filter

    only = parse_pairs(texts, "--only", "chain=primary")
    try:
        check_filter(only)
    except ValueError as error:
        fail_usage(str(error), "--only")
    return only


def _find_ledger(
    ledger: str | None, file: Path | None, profile: str | None
) -> tuple[LedgerLocation, Mapping[str, SpendingOptions]]:
    """Return where the ledger is, and the budgets of the configuration; none for a ledger named without one."""
    if ledger is not None and file is None:
        return parse_ledger(ledger), {}
    loaded = load_config(file, profile)
    return find_ledger(ledger, loaded), loaded.config.budgets


def _read_totals(query: _Query, by: str) -> dict[str, UsageTotals]:
    from modelhub.accounting.report import query_report
    from modelhub.cli.usage.table import sort_by_cost

    if not check_exists(query.ledger):
        return {}
    with report_unreadable(query.ledger):
        try:
            totals = query_report(query.ledger, query.since, by, only=query.only)
        except ValueError as error:
            fail_usage(str(error), "--by")
    return totals if by in {"hour", "day", "month"} else sort_by_cost(totals)


def _write_page(page: Path, query: _Query) -> None:
    from modelhub.cli.usage.page import make_page

    ledger = query.ledger
    if check_exists(ledger) and ledger.path is not None and page.exists() and page.samefile(ledger.path):
        fail_usage("this is the ledger itself", "--html")
    with report_unreadable(ledger):
        text = make_page(ledger, query.since, query.now, only=query.only, budgets=query.budgets)
    if str(page) == "-":
        print(text)  # noqa: T201
        return
    page.write_text(text, encoding="utf-8", errors="replace")
    print_lines(make_line(f"wrote {page}"), err=True)


def _print_table(totals: dict[str, UsageTotals], by: str, query: _Query) -> None:
    """Print *totals*, and below them hops to other models, parameters that models did not take, and budgets."""
    from modelhub.accounting.ledger_reader import open_database, open_ledger
    from modelhub.accounting.report import filter_calls, list_parameter_changes, read_hops
    from modelhub.accounting.spending import read_budget_states
    from modelhub.cli.usage.table import format_budget, format_changes, format_hops, format_table

    lines = format_table(totals, by, query.since)
    if query.ledger.exists():
        with report_unreadable(query.ledger), open_ledger(open_database(query.ledger)) as reader:
            if totals:
                filtered = filter_calls(reader, query.only)
                lines += format_hops(read_hops(filtered, query.since))
                lines += format_changes(list_parameter_changes(filtered, query.since))
            lines += [format_budget(state) for state in read_budget_states(reader, query.budgets, query.now)]
    print_lines(*lines)


def _print_json(totals: dict[str, UsageTotals], by: str, query: _Query) -> None:
    """Print *totals* by name, and for models how many attempts left out which parameters."""
    from modelhub.accounting.ledger_reader import open_database, open_ledger
    from modelhub.accounting.report import filter_calls, list_parameter_changes

    rows = [{"name": name, **total.as_dict()} for name, total in totals.items()]
    if by == "model" and totals:
        dropped: dict[str, Counter[str]] = defaultdict(Counter)
        with report_unreadable(query.ledger), open_ledger(open_database(query.ledger)) as reader:
            for change in list_parameter_changes(filter_calls(reader, query.only), query.since):
                if change.is_dropped:
                    dropped[change.model][change.parameter] += change.attempts
        rows = [{**row, "dropped": dropped[row["name"]]} for row in rows]
    print_json(rows)


def print_csv(totals: dict[str, UsageTotals]) -> None:
    """Print *totals* by name as CSV; a name that a spreadsheet would read as a formula is quoted."""
    import csv
    import sys

    from modelhub.accounting.usage_totals import UsageTotals

    writer = csv.DictWriter(sys.stdout, ["name", *UsageTotals().as_dict()], lineterminator="\n")
    writer.writeheader()
    for name, total in totals.items():
        # Names and tags come from outside.
        cell = f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
        writer.writerow({"name": cell, **total.as_dict()})
