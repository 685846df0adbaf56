"""Options that several commands share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from modelhub.cli.report import fail_usage

__all__ = ["AsJson", "ConfigFile", "Name", "OptionalName", "Parameters", "parse_parameters"]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="PATH", help="The configuration file (default: $MODELHUB_CONFIG, or ./models.yaml)."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_NAME = typer.Argument(metavar="NAME", help="The name of a model or a chain in the file.")
Name = Annotated[str, _NAME]
OptionalName = Annotated[str | None, _NAME]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--ask", metavar="NAME=VALUE", help="A parameter of the call, such as seed=1; can be repeated."),
]


def parse_parameters(texts: list[str] | None) -> dict[str, Any]:
    """Return the parameters that *texts*, such as "temperature=0", name; a value is JSON, or else text.

    Exits with a usage error for a text without a name.
    """
    return dict(_parse_parameter(text) for text in texts or [])


def _parse_parameter(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        fail_usage(f"expected NAME=VALUE, such as temperature=0, not {text!r}", "--ask")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
