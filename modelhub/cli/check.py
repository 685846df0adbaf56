"""`modelhub check`: validate the file, and show which models are not configured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import AsJson, ConfigFile, Profile
from modelhub.cli.output import align_columns, format_count, make_line, print_json, print_lines, show_waiting
from modelhub.cli.report import format_config_error, make_problem_dicts, report_errors
from modelhub.core.errors import ConfigError, Problem

if TYPE_CHECKING:
    from modelhub.cli.model_status import Entry
    from modelhub.cli.output import Cell
    from modelhub.config.load import Loaded

__all__ = ["check"]

Strict = Annotated[bool, typer.Option("--strict", help="Exit with status 4 if a model is not configured.")]
CallsFile = Annotated[
    Path | None,
    typer.Option("--calls", metavar="PATH", help="Exit with status 1 if a model would refuse one of these calls."),
]


def check(
    strict: Strict = False,
    calls: CallsFile = None,
    as_json: AsJson = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Check the file for problems.

    Shows every problem at once, or the models and chains of the file and what they lack. Contacts no vendor.

    \b
    Examples:
      modelhub check
      modelhub check --calls calls.yaml
      modelhub check --strict --file deploy/models.yaml
    """
    with report_errors(as_json=as_json):
        try:
            loaded, entries = _load(file, profile)
        except ConfigError as error:
            if as_json:
                problems = make_problem_dicts(error)
                print_json({"ok": False, "file": error.problems[0].file or None, "problems": problems})
            else:
                print_lines(*format_config_error(error), wraps=False)
            raise typer.Exit(Exit.CONFIG) from None
        refusals, warnings = _find_refusals(loaded, calls), list(_find_warnings(loaded))
        unconfigured = [entry for entry in entries if entry.is_incomplete] if strict else []
        if as_json:
            _print_json(loaded, entries, refusals, warnings, is_ok=not unconfigured and not refusals)
        else:
            _print_entries(loaded, entries, refusals, warnings, unconfigured)
    if refusals or unconfigured:
        raise typer.Exit(Exit.FAILED if refusals else Exit.NOT_CONFIGURED)


def _find_refusals(loaded: Loaded, calls: Path | None) -> list[str]:
    """Return what a model of a chain would refuse of the calls in the file *calls*, in words."""
    if calls is None:
        return []
    from modelhub.cli.fit.compare import fit_members
    from modelhub.cli.fit.shape import read_shapes

    return [
        f"{shape.name}: `{member.model}` of `{chain}`: {asked}: {fit.detail}"
        for shape in read_shapes(calls)
        for chain in loaded.chains
        for member in fit_members(loaded, chain, shape)
        for asked, fit in member.fits.items()
        if fit.verdict == "refused"
    ]


def _find_warnings(loaded: Loaded) -> Iterator[str]:
    """Yield what was probably not meant so, and the chains whose deadline is used up by one silent model.

    `explain` has all warnings of a chain.
    """
    from modelhub.cli.chain_plan import Plan
    from modelhub.cli.chain_warnings import warn_long_timeout

    yield from dict.fromkeys(_warn_of_values(loaded))
    for chain in loaded.chains:
        for warning in warn_long_timeout(Plan(loaded, chain, {})):
            yield f"chain `{chain}`: {warning}"


def _warn_of_values(loaded: Loaded) -> Iterator[str]:
    """Yield warnings of keys that are written in the file, and of numbers that were probably meant in milliseconds."""
    for name in (*loaded.models, *loaded.chains):
        for origin in loaded.list_origins(name):
            place, shown = f"{origin.file}:{origin.line}", origin.shown.replace("_", "")
            if origin.is_literal_key:
                variable = _find_variable(loaded, name) if origin.path.endswith("api_key") else "NAME"
                yield f"{place}: `{origin.path}` has the key itself; write `${{{variable}}}`, and set that variable"
            elif origin.path in {"timeout.total", "deadline"} and shown.isdecimal() and int(shown) > 3600:
                meaning = f"`{origin.path}: {shown}` is {int(shown) / 3600:.1f} h: a plain number is in seconds"
                yield f"{place}: {meaning}; write `{int(shown) / 1000:g}s` if milliseconds are meant, else `{shown}s`"


def _find_variable(loaded: Loaded, model: str) -> str:
    """Return the variable that the vendor's own tools read the key of *model* from, or "NAME" for another server."""
    options = loaded.models[model].options
    if options is None or not options.model_fields_set.isdisjoint({"base_url", "compat"}):
        return "NAME"
    return (*options.key_variables, "NAME")[0]


@show_waiting("checking the file, its secrets and the clients")
def _load(file: ConfigFile, profile: str | None) -> tuple[Loaded, list[Entry]]:
    from modelhub.cli.model_status import find_missing, find_unchecked, list_entries
    from modelhub.config.load import load_file
    from modelhub.hub import find_config_file

    path = find_config_file(file)
    loaded = load_file(path, profile=profile)
    if loaded.profile is None:
        _check_profiles(path, loaded.profiles)
    _check_ledger(loaded)
    missing = find_missing(loaded, check_clients=True)
    return loaded, list(list_entries(loaded, missing, find_unchecked(loaded)))


def _check_profiles(path: Path, profiles: Sequence[str]) -> None:
    """Raise ConfigError with every problem that the file has with one of its *profiles*."""
    from modelhub.config.load import load_file

    problems: list[Problem] = []
    for profile in profiles:
        try:
            load_file(path, profile=profile, runs_commands=False)
        except ConfigError as error:
            label = f"profile `{profile}`: "
            problems += [problem._replace(message=label + problem.message) for problem in error.problems]
    if problems:
        raise ConfigError(problems)


def _check_ledger(loaded: Loaded) -> None:
    """Raise ConfigError if the driver of the ledger's database is not installed."""
    from modelhub.accounting.ledger_location import is_server_url, parse_location

    ledger = loaded.config.usage.ledger
    if ledger is not None and is_server_url(ledger):
        from modelhub.accounting.ledger_reader import open_database

        try:
            open_database(parse_location(ledger))
        except ConfigError as error:
            raise ConfigError([loaded.problem(("usage", "ledger"), str(error))]) from None


def _print_json(loaded: Loaded, entries: list[Entry], refusals: list[str], warnings: list[str], *, is_ok: bool) -> None:
    print_json(
        {
            "ok": is_ok,
            "file": loaded.file,
            "problems": [],
            "refusals": refusals,
            "warnings": warnings,
            "models": [entry.as_dict() for entry in entries if entry.kind == "model"],
            "chains": [entry.as_dict() for entry in entries if entry.kind == "chain"],
            "limits": list(loaded.limits),
        }
    )


def _print_entries(
    loaded: Loaded, entries: list[Entry], refusals: list[str], warnings: list[str], unconfigured: list[Entry]
) -> None:
    """Print a line for each entry, then *warnings*, *refusals*, and the number of models that must be configured."""
    sections = {"model": loaded.models, "chain": loaded.chains, "limit": loaded.limits}
    counts = ", ".join(format_count(len(names), thing) for thing, names in sections.items() if names)
    profile = "" if loaded.profile is None else f", profile {loaded.profile}"
    rows: list[list[Cell]] = []
    for entry in entries:
        (kind, description), state = entry.cells, _format_state(entry)
        if entry.kind == "model":
            rows.append([(entry.name, "bold"), kind, description, state])
        else:
            cell = make_line(description, "  ", state) if entry.missing else description
            rows.append([(entry.name, "bold"), kind, cell])
    print_lines(make_line((loaded.file, "bold"), f"{profile}: {counts}"), *align_columns(rows))
    print_lines(*(make_line(("watch", "bold yellow"), f": {warning}") for warning in warnings), err=True)
    print_lines(*(make_line(("refused", "bold red"), f": {refusal}") for refusal in refusals), err=True)
    if unconfigured:
        number = format_count(len(unconfigured), "model")
        print_lines("", make_line(("not ready", "bold red"), f": {number} not configured (--strict)"), err=True)


def _format_state(entry: Entry) -> tuple[str, str]:
    if entry.missing:
        return f"not configured: {entry.missing}", "yellow"
    if entry.missing_keys:
        return f"ready, without {', '.join(entry.missing_keys)}", "yellow"
    if entry.call_key is not None:
        return f"ready for calls with their own key: .with_keys({entry.call_key}=...)", "green"
    if entry.unchecked is not None:
        return f"ready if {entry.unchecked}", "yellow"
    return "ready", "green"
