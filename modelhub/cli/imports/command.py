"""The command `modelhub import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.options import read_yaml
from modelhub.cli.output import format_count, make_line, print_lines
from modelhub.cli.report import fail, fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.cli.imports.litellm import Translation

__all__ = ["import_file"]

Library = Annotated[str, typer.Argument(metavar="LIBRARY", help="Whose file it is: litellm.")]
Source = Annotated[Path, typer.Argument(metavar="PATH", help="The file to translate.")]
Target = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="PATH", help="Write to this file instead of printing.")
]


def import_file(library: Library, path: Source, output: Target = None) -> None:
    """Translate another library's file.

    Prints the translation, or writes it; what could not be translated is said on standard error, and in comments at the
    top of the translation. Contacts no vendor.

    \b
    Examples:
      modelhub import litellm config.yaml
      modelhub import litellm config.yaml --output models.yaml
    """
    if library != "litellm":
        fail_usage(f"{library!r} is not a library whose files can be read (there is: litellm)", "LIBRARY")
    with report_errors():
        translation = _translate(path)
        text = _make_text(path, translation)
        if output is None:
            typer.echo(text, nl=False)
        elif output.exists():
            fail(f"{output} exists; nothing was written")
        else:
            output.write_text(text, encoding="utf-8")
            print_lines(make_line("wrote ", (str(output), "bold")), err=True)
        models, chains = (len(translation.config.get(section, ())) for section in ("models", "chains"))
        print_lines(f"{format_count(models, 'model')}, {format_count(chains, 'chain')}", err=True)
        print_lines(*(make_line(("not translated", "yellow"), f": {note}") for note in translation.notes), err=True)


def _translate(path: Path) -> Translation:
    """Return the translation, with the problems of the file that it makes among its notes."""
    from modelhub.cli.imports.litellm import translate
    from modelhub.config.load import load_dict
    from modelhub.core.errors import ConfigError

    source = read_yaml(path)
    try:
        translation = translate(source if isinstance(source, dict) else {})
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        load_dict(translation.config)
    except ConfigError as error:
        translation.notes += [f"the translation needs a change: {problem.message}" for problem in error.problems]
    return translation


def _make_text(path: Path, translation: Translation) -> str:
    import yaml

    notes = "".join(f"#   {note}\n" for note in translation.notes)
    head = f"# Translated from {path.name}.\n" + (f"# Not translated:\n{notes}" if notes else "")
    return head + yaml.safe_dump(translation.config, sort_keys=False, allow_unicode=True, width=110)
