"""`modelhub schema`: the JSON Schema of the file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelhub.cli.output import print_json, print_lines
from modelhub.cli.report import report_errors

__all__ = ["schema"]


def schema(
    write: Annotated[
        Path | None,
        typer.Option("--write", "-w", metavar="PATH", help="Write the schema to this file instead of printing it."),
    ] = None,
) -> None:
    """Print the JSON Schema of the file.

    Editors use it to complete and check the file.

    \b
    Examples:
      modelhub schema --write models.schema.json
      # yaml-language-server: $schema=./models.schema.json   (the first line of models.yaml)
    """
    import json

    from modelhub.config.jsonschema import build_file_schema

    with report_errors():
        if write is None:
            print_json(build_file_schema())
            return
        write.parent.mkdir(parents=True, exist_ok=True)
        write.write_text(json.dumps(build_file_schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print_lines(f"wrote {write}", err=True)
