"""`modelhub fit`: show which models of a chain take a call of a certain shape, before anything is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.completion import complete_names
from modelhub.cli.exit import Exit
from modelhub.cli.ledger_file import LedgerFile, Since, check_exists, find_ledger, parse_since, report_unreadable
from modelhub.cli.options import AsJson, ConfigFile, Parameters, Profile, SchemaSource, parse_parameters, read_schema
from modelhub.cli.output import make_line, print_lines
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.accounting.location import LedgerLocation
    from modelhub.cli.fit.shape import CallShape
    from modelhub.config.load import Loaded

__all__ = ["fit"]

NameOrAll = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME",
        help="A model or a chain of the file (default: all chains).",
        autocompletion=complete_names,
    ),
]
HasTools = Annotated[bool, typer.Option("--tools", help="The call has tools.")]
HasImage = Annotated[bool, typer.Option("--image", help="The call has an image.")]
HasAudio = Annotated[bool, typer.Option("--audio", help="The call has a sound.")]
HasDocument = Annotated[bool, typer.Option("--document", help="The call has a PDF.")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="The call limits the answer's tokens.")]
Effort = Annotated[str | None, typer.Option("--effort", help="The call's `reasoning_effort`.")]
Streams = Annotated[bool, typer.Option("--stream", help="The call streams.")]
CallsFile = Annotated[Path | None, typer.Option("--calls", metavar="PATH", help="Shapes of calls in a YAML file.")]
FromLedger = Annotated[bool, typer.Option("--from-ledger", help="The shapes of the calls that the ledger has seen.")]


def fit(
    name: NameOrAll = None,
    tools: HasTools = False,
    image: HasImage = False,
    audio: HasAudio = False,
    document: HasDocument = False,
    schema: SchemaSource = None,
    max_tokens: MaxTokens = None,
    effort: Effort = None,
    ask: Parameters = None,
    stream: Streams = False,
    calls: CallsFile = None,
    from_ledger: FromLedger = False,
    since: Since = "30d",
    ledger: LedgerFile = None,
    as_json: AsJson = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Show what each model would make of a call.

    Each part of the call is sent as it is, spelled otherwise, dropped or refused. No vendor is asked, and no key is
    needed. Exits with status 1 if a model would refuse the call.

    \b
    Examples:
      modelhub fit primary --tools --max-tokens 500 --effort high
      modelhub fit primary --schema app:Invoice --ask temperature=0 --ask stop=END
      modelhub fit primary --calls calls.yaml
      modelhub fit primary --from-ledger --since 7d
    """
    with report_errors(as_json=as_json):
        own = {"max_tokens": max_tokens, "reasoning_effort": effort}
        parameters = parse_parameters(ask) | {key: value for key, value in own.items() if value is not None}
        media = {"image": image, "audio": audio, "document": document}
        shape = _make_shape(parameters, tools, media, schema, stream, from_ledger or calls is not None)
        loaded, names = _load(file, profile, name)
        location = find_ledger(ledger, file, profile) if from_ledger else None
        if _fit_calls(loaded, _choose_shapes(names, shape, calls, location, since), as_json=as_json):
            raise typer.Exit(Exit.FAILED)


def _make_shape(
    parameters: Mapping[str, Any],
    tools: bool,
    media: Mapping[str, bool],
    schema: str | None,
    stream: bool,
    is_recorded: bool,
) -> CallShape:
    """Return the shape of the call that the options describe; of recorded calls they must describe nothing."""
    from modelhub.cli.fit.shape import CallShape
    from modelhub.core.call_options import check_keywords
    from modelhub.core.errors import InvalidRequest

    try:
        check_keywords(parameters)
    except InvalidRequest as error:
        fail_usage(str(error), "--ask / --effort / --max-tokens")
    shape = CallShape(
        parameters=parameters,
        tools=tools,
        media=tuple(kind for kind, is_in in media.items() if is_in),
        schema=None if schema is None else read_schema(schema),
        stream=stream,
    )
    if is_recorded and shape != CallShape():
        fail_usage("leave the other options out: what its calls ask for is recorded", "--from-ledger / --calls")
    return shape


def _choose_shapes(
    names: list[str], shape: CallShape, calls: Path | None, ledger: LedgerLocation | None, since: str
) -> Mapping[str, list[CallShape]]:
    """Return the shapes to look at, by the name called: those of the *ledger*, those in *calls*, or *shape*."""
    if ledger is not None:
        return _read_ledger(ledger, names, parse_since(since, datetime.now(UTC)))
    return dict.fromkeys(names, [shape] if calls is None else _read_calls(calls))


def _load(file: Path | None, profile: str | None, name: str | None) -> tuple[Loaded, list[str]]:
    """Return the configuration, and the names to look at: *name*, or all chains, or all models if there is none."""
    from modelhub.config.load import load_file
    from modelhub.hub import find_config_file

    loaded = load_file(find_config_file(file), profile=profile, runs_commands=False)
    if name is None:
        return loaded, list(loaded.chains or loaded.models)
    loaded.check_name(name)
    return loaded, [name]


def _read_calls(path: Path) -> list[CallShape]:
    from modelhub.cli.fit.shape import read_shapes

    return list(read_shapes(path))


def _read_ledger(location: LedgerLocation, names: list[str], since: datetime | None) -> dict[str, list[CallShape]]:
    """Return the shapes of the calls to each of *names*; prints which of them were not called."""
    from modelhub.cli.fit.recorded import read_recorded_shapes

    if not check_exists(location):
        return {}
    with report_unreadable(location):
        shapes = {name: list(read_recorded_shapes(location, name, since)) for name in names}
    for name in names:
        if not shapes[name]:
            period = "yet" if since is None else f"since {since:%Y-%m-%d %H:%M} UTC"
            print_lines(make_line(f"no calls to `{name}` {period} in {location}"), err=True)
    return shapes


def _fit_calls(loaded: Loaded, shapes: Mapping[str, list[CallShape]], *, as_json: bool) -> bool:
    """Print what models make of calls of these *shapes*, by the name called; return whether one would be refused."""
    from modelhub.cli.fit.compare import fit_members
    from modelhub.cli.fit.show import print_fits

    fits = [
        (name, shape, list(fit_members(loaded, name, shape))) for name, listed in shapes.items() for shape in listed
    ]
    print_fits(fits, as_json=as_json)
    return any(member.refuses for *_, members in fits for member in members)
