"""`modelhub explain`: what a call would do, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.options import AsJson, ConfigFile
from modelhub.cli.output import columns, print_json, say
from modelhub.cli.report import reported, usage_error

if TYPE_CHECKING:
    from modelhub.cli.output import Cell

__all__ = ["explain"]


def explain(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A model or a chain of the file.")] = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="Instead: every class of failure and what is done about it.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --failures: as a Markdown table.")] = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
) -> None:
    """Tell what a call would do.

    Who is asked in which order, how often and for how long, what to watch, and where the file says so. Asks no vendor.

    \b
    Examples:
      modelhub explain primary
      modelhub explain --failures
    """
    if markdown and not failures:
        usage_error("it goes with --failures", "--markdown")
    if failures == (name is not None):
        usage_error("give a name, or --failures" if name is None else "--failures takes no name", "NAME")
    with reported(as_json=as_json):
        if failures or name is None:
            _failures(markdown, as_json)
        else:
            _explain(name, as_json, file)


def _failures(markdown: bool, as_json: bool) -> None:
    from modelhub.cli import model_table as table

    if as_json:
        keys = [word.replace(" ", "_") for word in table.HEADER]
        print_json([dict(zip(keys, row, strict=True)) for row in table.rows()])
    elif markdown:
        typer.echo(table.markdown())
    else:
        # The longest column last: a narrow terminal then wraps only that.
        found: list[list[Cell]] = [
            [(name, "bold"), *cells, what] for name, what, *cells in (table.HEADER, *table.rows())
        ]
        say(*columns(found, indent=0))


def _explain(name: str, as_json: bool, file: ConfigFile) -> None:
    from modelhub.cli import explained as _explained
    from modelhub.cli.chain_plan import Plan
    from modelhub.cli.model_status import missing
    from modelhub.config.load import load_file
    from modelhub.hub import Hub, find_config_file

    loaded = load_file(find_config_file(file))
    if name not in loaded.models and name not in loaded.chains:
        Hub(loaded).get(name)  # raises, with what was probably meant
    plan = Plan(loaded, name, missing(loaded))
    if as_json:
        print_json(_explained.as_dict(plan))
    else:
        say(*_explained.lines(plan))
