"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["AsJson", "ConfigFile", "Name"]

ConfigFile = Annotated[
    Path | None,
    typer.Option("--file", "-f", metavar="PATH", help="The file; else $MODELHUB_CONFIG, else ./models.yaml."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="A model or a chain of the file.")]
