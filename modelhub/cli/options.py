"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "ConfigFile", "Name", "OptionalName"]

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
