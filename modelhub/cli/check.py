"""`modelhub check`: whether the file is right, and what is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import AsJson, ConfigFile
from modelhub.cli.output import columns, counted, line, print_json, say
from modelhub.cli.report import config_failed, problems_as_dicts, reported
from modelhub.core.errors import ConfigError

if TYPE_CHECKING:
    from modelhub.cli.model_status import Entry
    from modelhub.cli.output import Cell
    from modelhub.config.load import Loaded

__all__ = ["check"]


def check(
    strict: Annotated[bool, typer.Option("--strict", help="Leave with 4 if a model is not configured.")] = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
) -> None:
    """Check the file.

    Says every problem at once, or what the file has and what is missing. Asks no vendor.

    \b
    Examples:
      modelhub check
      modelhub check --strict --file deploy/models.yaml
    """
    with reported(as_json=as_json):
        try:
            loaded, found = _read(file)
        except ConfigError as error:
            _broken(error, as_json)
            raise typer.Exit(Exit.CONFIG) from None
        lacking = [entry.name for entry in found if entry.missing and entry.kind == "model"]
        refused = strict and bool(lacking)
        if as_json:
            print_json({"ok": not refused, "file": loaded.file, "problems": [], **_sections(loaded, found)})
        else:
            _show(loaded, found)
            if refused:
                number = counted(len(lacking), "model")
                say("", line(("not ready", "bold red"), f": {number} not configured (--strict)"), err=True)
    if refused:
        raise typer.Exit(Exit.NOT_CONFIGURED)


def _read(file: ConfigFile) -> tuple[Loaded, list[Entry]]:
    from modelhub.cli.model_status import entries, missing
    from modelhub.config.load import load_file
    from modelhub.hub import find_config_file

    loaded = load_file(find_config_file(file))
    return loaded, list(entries(loaded, missing(loaded, check_clients=True)))


def _broken(error: ConfigError, as_json: bool) -> None:
    if as_json:
        file = error.problems[0].file or None
        print_json({"ok": False, "file": file, "problems": problems_as_dicts(error)})
    else:
        say(*config_failed(error), wrapped=False)


def _sections(loaded: Loaded, found: list[Entry]) -> dict[str, list[object]]:
    return {
        "models": [entry.as_dict() for entry in found if entry.kind == "model"],
        "chains": [entry.as_dict() for entry in found if entry.kind == "chain"],
        "limits": list(loaded.limits),
    }


def _show(loaded: Loaded, found: list[Entry]) -> None:
    from modelhub.cli.model_status import summary

    say(line((loaded.file, "bold"), f": {summary(loaded)}"))
    say(*columns([(entry.name, "bold"), *_row(entry)] for entry in found))


def _row(entry: Entry) -> list[Cell]:
    kind, what = entry.what
    if entry.kind == "model":
        return [kind, what, _state(entry)]
    return [kind, line(what, "  ", _state(entry)) if entry.missing else what]


def _state(entry: Entry) -> tuple[str, str]:
    return (f"not configured: {entry.missing}", "yellow") if entry.missing else ("ready", "green")
