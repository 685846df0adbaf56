"""Arguments and options that several commands share, and how what they name is read."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.output import show_waiting
from modelhub.cli.report import fail_usage

if TYPE_CHECKING:
    from modelhub.config.load import Loaded
    from modelhub.hub import Hub

__all__ = [
    "AsJson",
    "ConfigFile",
    "Name",
    "OptionalName",
    "Parameters",
    "Profile",
    "SchemaSource",
    "complete_names",
    "import_name",
    "load_config",
    "load_hub",
    "parse_pairs",
    "parse_parameters",
    "parse_seconds",
    "read_schema",
    "read_yaml",
]


def complete_names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names of the file that begin with *incomplete*, each with what it is; none if it cannot be read."""
    import yaml

    from modelhub.config_source import find_config_file
    from modelhub.core.errors import ConfigError

    file = ctx.params.get("file")
    try:
        config = yaml.safe_load(find_config_file(file and Path(file)).read_text(encoding="utf-8"))
        names = [(str(name), section[:-1]) for section in ("chains", "models") for name in config.get(section) or {}]
    except (ConfigError, OSError, ValueError, yaml.YAMLError, AttributeError, TypeError):
        return []  # a command line is being typed: this is not the place for errors
    return [(name, kind) for name, kind in names if name.startswith(incomplete)]


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


def load_config(file: Path | None, profile: str | None) -> Loaded:
    """Return the configuration in *file*, or in the default one, without running its commands. Raises ConfigError."""
    from modelhub.config.load import load_file
    from modelhub.config_source import find_config_file

    return load_file(find_config_file(file), profile=profile, runs_commands=False)


def load_hub(file: Path | None, profile: str | None, **options: Any) -> Hub:
    """Return `Hub.from_yaml(file, profile=profile, **options)`, which may run commands that print secrets."""
    from modelhub.hub import Hub

    with show_waiting("loading the file"):
        return Hub.from_yaml(file, profile=profile, **options)


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


def read_yaml(path: Path) -> Any:
    """Return what a YAML file that is not the configuration has.

    Raises ConfigError, which shows the place and not the text: it may be a key.
    """
    import yaml

    from modelhub.config.including import read_text
    from modelhub.config.syntax import explain_syntax_error
    from modelhub.core.errors import ConfigError, Problem

    text = read_text(path, str(path))
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        span, message, hint = explain_syntax_error(error, text)
    except ValueError as error:  # of a date, say, that does not exist
        raise ConfigError(f"{path}: {error}") from None
    raise ConfigError([Problem(message, str(path), span.line, span.column, hint=hint)])


def parse_pairs(texts: list[str] | None, option: str, example: str) -> dict[str, str]:
    """Return the values of *option*, such as *example*, by their names. Exits with a usage error for other texts."""
    pairs: dict[str, str] = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not separator or not name:
            fail_usage(f"expected NAME=VALUE, such as {example}, not {text!r}", option)
        pairs[name] = value
    return pairs


def parse_parameters(texts: list[str] | None) -> dict[str, Any]:
    """Return the parameters of a call that `--ask` names; a value is JSON, or else text."""
    parameters: dict[str, Any] = {}
    for name, text in parse_pairs(texts, "--ask", "temperature=0").items():
        try:
            parameters[name] = json.loads(text)
        except ValueError:
            parameters[name] = text
    return parameters


def parse_seconds(text: str, option: str) -> float:
    """Return the time *text*, such as "30s", in seconds. Exits with a usage error about *option* if it is none."""
    from modelhub.options import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        fail_usage(str(error), option)
