"""`modelhub fit`: show which models of a chain take a call of a certain shape, before anything is deployed."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import AsJson, ConfigFile, Parameters, parse_parameters
from modelhub.cli.output import align_columns, format_count, make_line, print_json, print_lines
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.cli.fit.compare import Fit, MemberFit
    from modelhub.cli.fit.shape import CallShape

__all__ = ["fit"]

_STYLES = {"as it is": "green", "spelled": "green", "rounded": "yellow", "dropped": "yellow", "refused": "bold red"}


def fit(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model or a chain of the file.")],
    tools: Annotated[bool, typer.Option("--tools", help="The call has tools.")] = False,
    image: Annotated[bool, typer.Option("--image", help="The call has an image.")] = False,
    schema: Annotated[
        str | None,
        typer.Option("--schema", metavar="CLASS", help="The answer has a structure: `module:Class`, or a JSON file."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="The call limits the answer's tokens.")] = None,
    effort: Annotated[str | None, typer.Option("--effort", help="The call's `reasoning_effort`.")] = None,
    ask: Parameters = None,
    stream: Annotated[bool, typer.Option("--stream", help="The call streams.")] = False,
    calls: Annotated[
        Path | None, typer.Option("--calls", metavar="PATH", help="Shapes of calls in a YAML file.")
    ] = None,
    as_json: AsJson = False,
    file: ConfigFile = None,
) -> None:
    """Show what each model would make of a call.

    Each part of the call is sent as it is, spelled otherwise, dropped or refused. No vendor is asked, and no key is
    needed. Exits with status 1 if a model would refuse the call.

    \b
    Examples:
      modelhub fit primary --tools --max-tokens 500 --effort high
      modelhub fit primary --schema app:Invoice --ask temperature=0 --ask stop=END
      modelhub fit primary --calls calls.yaml
    """
    with report_errors(as_json=as_json):
        from modelhub.cli.fit.shape import CallShape, read_shapes

        parameters = parse_parameters(ask)
        if max_tokens is not None:
            parameters["max_tokens"] = max_tokens
        if effort is not None:
            parameters["reasoning_effort"] = effort
        shape = CallShape(parameters=parameters, tools=tools, image=image, schema=_read_schema(schema), stream=stream)
        if calls is not None and shape != CallShape():
            fail_usage("the file says what its calls ask for: leave the other options out", "--calls")
        shapes = [shape] if calls is None else list(read_shapes(calls))
        refused = _fit_calls(name, shapes, file, as_json=as_json)
    if refused:
        raise typer.Exit(Exit.FAILED)


def _fit_calls(name: str, shapes: list[CallShape], file: Path | None, *, as_json: bool) -> bool:
    """Print what the models of *name* make of calls of these *shapes*; return whether one would be refused."""
    from modelhub.cli.fit.compare import fit_members
    from modelhub.config.load import load_file
    from modelhub.hub import find_config_file

    loaded = load_file(find_config_file(file))
    loaded.check_name(name)
    results = [(shape, list(fit_members(loaded, name, shape))) for shape in shapes]
    if as_json:
        print_json(
            [{"call": shape.name, "models": [_as_dict(member) for member in members]} for shape, members in results]
        )
    else:
        for shape, members in results:
            _show(shape, members)
    return any(member.refuses for _, members in results for member in members)


def _show(shape: CallShape, members: list[MemberFit]) -> None:
    asked = list(dict.fromkeys(key for member in members for key in member.fits))
    header = [("model", "bold"), *((key, "bold") for key in asked)]
    rows = [[(member.model, "bold"), *(_cell(member.fits.get(key)) for key in asked)] for member in members]
    if shape.name:
        print_lines(make_line((shape.name, "bold")))
    print_lines(*align_columns([header, *rows], indent=0, labels=["", *asked]))
    changes = [
        f"{member.model}: `{key}` is {each.verdict}: {each.detail}"
        for member in members
        for key, each in member.fits.items()
        if each.verdict in ("dropped", "refused")
    ]
    refusing = [member.model for member in members if member.refuses]
    number = format_count(len(members), "model")
    print_lines(
        "",
        *changes,
        f"{number}: {', '.join(refusing)} would refuse the call" if refusing else f"{number}: none refuses",
    )


def _cell(each: Fit | None) -> tuple[str, str]:
    if each is None:
        return "-", "dim"
    return each.detail if each.verdict in ("spelled", "rounded") else each.verdict, _STYLES[each.verdict]


def _as_dict(member: MemberFit) -> dict[str, Any]:
    fits = {key: {"verdict": each.verdict, "detail": each.detail or None} for key, each in member.fits.items()}
    return {"model": member.model, "provider": member.provider, "refuses": member.refuses, "fits": fits}


def _read_schema(text: str | None) -> Any:
    """Return the class `module:Class`, or the JSON Schema in a file."""
    if text is None:
        return None
    if text.endswith(".json"):
        try:
            return json.loads(Path(text).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            fail_usage(f"{text}: {error}", "--schema")
    module, separator, name = text.partition(":")
    if not separator:
        fail_usage("expected module:Class, such as app:Invoice, or a .json file", "--schema")
    sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        fail_usage(f"{text}: {error}", "--schema")
    finally:
        sys.path.remove(str(Path.cwd()))
