"""Options that several commands share."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from modelhub.cli.completion import complete_names
from modelhub.cli.report import fail_usage

__all__ = [
    "AsJson",
    "ConfigFile",
    "Name",
    "OptionalName",
    "Parameters",
    "Profile",
    "SchemaSource",
    "import_name",
    "parse_parameters",
    "read_schema",
]

ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--file", "-f", metavar="PATH", help="The configuration file (default: $MODELHUB_CONFIG, or ./models.yaml)."
    ),
]
Profile = Annotated[
    str | None,
    typer.Option("--profile", metavar="NAME", help="The profile that applies (default: $MODELHUB_PROFILE)."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_NAME = typer.Argument(
    metavar="NAME", help="The name of a model or a chain in the file.", autocompletion=complete_names
)
Name = Annotated[str, _NAME]
OptionalName = Annotated[str | None, _NAME]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--ask", metavar="NAME=VALUE", help="A parameter of the call, such as seed=1; can be repeated."),
]

SchemaSource = Annotated[
    str | None,
    typer.Option("--schema", metavar="CLASS", help="The answer has a structure: `module:Class`, or a JSON file."),
]


def read_schema(text: str) -> Any:
    """Return the class `module:Class`, or the JSON Schema in a file. Exits with a usage error if there is none."""
    if not text.endswith(".json"):
        return import_name(text, "--schema")
    try:
        return json.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        fail_usage(f"{text}: {(getattr(error, 'strerror', None) or str(error)).lower()}", "--schema")


def import_name(text: str, option: str) -> Any:
    """Return what *text*, such as "app:Invoice", names; modules are looked for in the working directory, too.

    Exits with a usage error about *option* if there is nothing of that name.
    """
    module, separator, name = text.partition(":")
    if not separator:
        expected = "module:Class, such as app:Invoice, or a .json file" if option == "--schema" else "module:name"
        fail_usage(f"expected {expected}", option)
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        fail_usage(f"{text}: {error}", option)
    finally:
        sys.path.remove(str(Path.cwd()))


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
