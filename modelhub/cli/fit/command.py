"""`modelhub fit`: show which models of a chain take a call of a certain shape, before anything is deployed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.ledger_file import LedgerFile, Since, check_exists, find_ledger, parse_since, report_unreadable
from modelhub.cli.options import (
    AsJson,
    ConfigFile,
    Parameters,
    Profile,
    SchemaSource,
    complete_names,
    load_config,
    parse_parameters,
    read_schema,
)
from modelhub.cli.output import align_columns, format_count, make_line, print_json, print_lines
from modelhub.cli.report import fail_usage, report_errors

if TYPE_CHECKING:
    from modelhub.accounting.ledger_location import LedgerLocation
    from modelhub.cli.fit.compare import Fit, MemberFit
    from modelhub.cli.fit.shape import CallShape
    from modelhub.config.load import Loaded

__all__ = ["fit"]

_STYLES = {"as it is": "green", "spelled": "green", "rounded": "yellow", "dropped": "yellow", "refused": "bold red"}

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
        loaded = load_config(file, profile)
        location = find_ledger(ledger, loaded) if from_ledger else None
        if _fit_calls(loaded, _choose_shapes(loaded, name, shape, calls, location, since), as_json=as_json):
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
    loaded: Loaded, name: str | None, shape: CallShape, calls: Path | None, ledger: LedgerLocation | None, since: str
) -> Mapping[str, list[CallShape]]:
    """Return the shapes to look at, by the name called: those of the *ledger*, those in *calls*, or *shape*.

    Without a *name*, all chains are looked at, or all models if there is none.
    """
    from modelhub.cli.fit.shape import read_shapes

    if name is not None:
        loaded.check_name(name)
    names = [name] if name is not None else list(loaded.chains or loaded.models)
    if ledger is not None:
        return _read_ledger(ledger, names, parse_since(since, datetime.now(UTC)))
    return dict.fromkeys(names, [shape] if calls is None else list(read_shapes(calls)))


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

    fits = [
        (name, shape, list(fit_members(loaded, name, shape))) for name, listed in shapes.items() for shape in listed
    ]
    if as_json:
        dicts = [(name, shape.name, list(map(_make_dict, members))) for name, shape, members in fits]
        print_json([{"name": name, "call": call, "models": models} for name, call, models in dicts])
    else:
        has_names = len({name for name, *_ in fits}) > 1
        for number, (name, shape, members) in enumerate(fits):
            heading = ": ".join(part for part in (name if has_names else "", shape.name) if part)
            print_lines(*([""] if number else []), *([make_line((heading, "bold"))] if heading else []))
            _print_fits(members)
    return any(member.refuses for *_, members in fits for member in members)


def _make_dict(member: MemberFit) -> dict[str, Any]:
    fits = {key: {"verdict": each.verdict, "detail": each.detail or None} for key, each in member.fits.items()}
    return {"model": member.model, "provider": member.provider, "refuses": member.refuses, "fits": fits}


def _print_fits(members: Sequence[MemberFit]) -> None:
    """Print a table of what *members* make of a call, and why they drop or refuse a part of it."""
    asked = list(dict.fromkeys(key for member in members for key in member.fits))
    header = [("model", "bold"), *((key, "bold") for key in asked)]
    rows = [[(member.model, "bold"), *(_make_cell(member.fits.get(key)) for key in asked)] for member in members]
    changes = [
        f"{member.model}: `{key}` is {each.verdict}: {each.detail}"
        for member in members
        for key, each in member.fits.items()
        if each.verdict in ("dropped", "refused")
    ]
    refusing = ", ".join(member.model for member in members if member.refuses)
    result = f"{refusing} would refuse the call" if refusing else "none refuses"
    print_lines(*align_columns([header, *rows], indent=0, labels=["", *asked]))
    print_lines("", *changes, f"{format_count(len(members), 'model')}: {result}")


def _make_cell(each: Fit | None) -> tuple[str, str]:
    if each is None:
        return "-", "dim"
    return each.detail if each.verdict in ("spelled", "rounded") else each.verdict, _STYLES[each.verdict]
