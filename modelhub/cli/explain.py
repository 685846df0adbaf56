"""`modelhub explain`: show what a call would do, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.options import AsJson, ConfigFile, OptionalName, Profile, load_config
from modelhub.cli.output import align_columns, print_json, print_lines
from modelhub.cli.report import fail_usage, report_errors
from modelhub.core.errors import AllModelsFailed, failure_classes

if TYPE_CHECKING:
    from modelhub.cli.output import Cell

__all__ = ["explain", "format_failures_markdown"]

_FAILURE_HEADER = ("class", "what", "retry same model", "fall back", "breaker", "may have cost money")


def explain(
    name: OptionalName = None,
    failures: Annotated[
        bool, typer.Option("--failures", help="Show instead how each class of error is handled.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="With --failures: print a Markdown table.")] = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Show what a call would do.

    Shows which models are tried, in which order, how often and for how long, what to watch out for, and where each
    setting comes from. Contacts no vendor.

    \b
    Examples:
      modelhub explain primary
      modelhub explain --failures
    """
    if markdown and not failures:
        fail_usage("it requires --failures", "--markdown")
    if failures == (name is not None):
        fail_usage("pass a name, or --failures" if name is None else "--failures takes no name", "NAME")
    with report_errors(as_json=as_json):
        if name is None:
            _print_failures(markdown, as_json)
        else:
            _print_plan(name, as_json, file, profile)


def _print_plan(name: str, as_json: bool, file: ConfigFile, profile: str | None) -> None:
    from modelhub.cli.chain_plan import Plan
    from modelhub.cli.model_status import find_missing
    from modelhub.cli.plan_view import format_plan, make_plan_dict

    loaded = load_config(file, profile)
    loaded.check_name(name)
    plan = Plan(loaded, name, find_missing(loaded))
    if as_json:
        print_json(make_plan_dict(plan))
    else:
        print_lines(*format_plan(plan))


# -- the failure table -------------------------------------------------------------------------------------------------


def _print_failures(markdown: bool, as_json: bool) -> None:
    rows = list(_list_failures())
    if as_json:
        keys = [word.replace(" ", "_") for word in _FAILURE_HEADER]
        print_json([dict(zip(keys, row, strict=True)) for row in rows])
    elif markdown:
        typer.echo(format_failures_markdown())
    else:  # the longest column is last, so that a narrow terminal wraps only that
        cells: list[list[Cell]] = [
            [(name, "bold"), *others, description] for name, description, *others in (_FAILURE_HEADER, *rows)
        ]
        print_lines(*align_columns(cells, indent=0))


def format_failures_markdown() -> str:
    """Return the table of error classes as GitHub-flavoured Markdown."""
    table = [_FAILURE_HEADER, ("---",) * len(_FAILURE_HEADER)]
    table += [(f"`{name}`", *cells) for name, *cells in _list_failures()]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table)


def _list_failures() -> Iterator[tuple[str, ...]]:
    """Yield a row for each error class, in the order of their definition: what it is, and how it is handled."""
    for cls in failure_classes():
        policy, description = cls.policy, cls.policy.what
        if "policy" not in vars(cls):  # a class that inherits its parent's policy is described by its own docstring
            first_line = (cls.__doc__ or "").split("\n")[0].rstrip(".")
            description = first_line[:1].lower() + first_line[1:]
        handling = ("yes" if policy.fall_back else "no", policy.breaker.value, policy.billed.value)
        is_group = cls is AllModelsFailed
        yield (cls.__name__, description, *(("",) * 4 if is_group else (policy.retry.value, *handling)))
