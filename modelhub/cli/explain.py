"""`modelhub explain`: show what a call would do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.options import AsJson, ConfigFile, OptionalName, Profile
from modelhub.cli.output import align_columns, print_json, print_lines
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.cli.output import Cell

__all__ = ["explain"]


def explain(
    name: OptionalName = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="Show instead how each class of error is handled.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --failures: print a Markdown table.")] = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Show what a call would do.

    Shows which models are tried, in which order, how often and for how long, what to watch out for, and where each
    setting comes from. Contacts no vendor.

    \b
    Examples:
      modelhub explain primary
      modelhub explain --failures
    """
    if markdown and not failures:
        fail_usage("it requires --failures", "--markdown")
    if failures == (name is not None):
        fail_usage("pass a name, or --failures" if name is None else "--failures takes no name", "NAME")
    with report_errors(as_json=as_json):
        if failures or name is None:
            _print_failures(markdown, as_json)
        else:
            _explain(name, as_json, file, profile)


def _print_failures(markdown: bool, as_json: bool) -> None:
    from modelhub.cli import model_table as table

    if as_json:
        keys = [word.replace(" ", "_") for word in table.HEADER]
        print_json([dict(zip(keys, row, strict=True)) for row in table.make_rows()])
    elif markdown:
        typer.echo(table.format_markdown())
    else:  # the longest column is last, so that a narrow terminal wraps only that
        rows: list[list[Cell]] = [
            [(name, "bold"), *cells, description] for name, description, *cells in (table.HEADER, *table.make_rows())
        ]
        print_lines(*align_columns(rows, indent=0))


def _explain(name: str, as_json: bool, file: ConfigFile, profile: str | None) -> None:
    from modelhub.cli import explained as _explained
    from modelhub.cli.chain_plan import Plan
    from modelhub.cli.model_status import find_missing
    from modelhub.config.load import load_file
    from modelhub.hub import Hub, find_config_file

    loaded = load_file(find_config_file(file), profile=profile, runs_commands=False)
    if name not in loaded.models and name not in loaded.chains:
        Hub(loaded).get(name)  # raises, with what was probably meant
    plan = Plan(loaded, name, find_missing(loaded))
    if as_json:
        print_json(_explained.make_plan_dict(plan))
    else:
        print_lines(*_explained.format_plan(plan))
