"""The typer application with all commands."""

from __future__ import annotations

from typing import Annotated

import typer

from modelhub import __version__
from modelhub.cli.batch.command import batch
from modelhub.cli.chat.command import chat
from modelhub.cli.check import check
from modelhub.cli.diff import diff
from modelhub.cli.drill.command import drill
from modelhub.cli.exit import EPILOG
from modelhub.cli.explain import explain
from modelhub.cli.fit.command import fit
from modelhub.cli.imports.command import import_file
from modelhub.cli.init import init
from modelhub.cli.list import list_names
from modelhub.cli.schema import schema
from modelhub.cli.serve import serve
from modelhub.cli.usage.command import usage

__all__ = ["app"]

app = typer.Typer(
    name="modelhub",
    epilog=EPILOG,
    no_args_is_help=True,
    # Help is plain text, which neither loads rich nor breaks in a pipe; a traceback must not show local variables.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"modelhub {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Named chat models and fallback chains from one YAML file."""


app.command("init")(init)
app.command("chat")(chat)
app.command("batch")(batch)
app.command("check")(check)
app.command("list")(list_names)
app.command("explain")(explain)
app.command("diff")(diff)
app.command("fit")(fit)
app.command("drill")(drill)
app.command("serve")(serve)
app.command("usage")(usage)
app.command("schema")(schema)
app.command("import")(import_file)
