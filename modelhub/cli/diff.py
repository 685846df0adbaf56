"""`modelhub diff`: what changes from one file to another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.exit import DiffExit
from modelhub.cli.options import AsJson, Profile
from modelhub.cli.output import (
    align_columns,
    format_cost,
    format_count,
    format_setting,
    make_line,
    print_json,
    print_lines,
)
from modelhub.cli.report import print_config_error, report_errors
from modelhub.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.cli.output import Cell
    from modelhub.config.changes import EntryChange, SettingChange
    from modelhub.config.load import Loaded

__all__ = ["diff"]

_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="The file as it is.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="The file as it would be.")],
    as_json: AsJson = False,
    profile: Profile = None,
) -> None:
    """Show what changes from one file to another.

    Shows which models, chains and other entries are added, removed or changed, key by key with the defaults filled in,
    and what that makes of the worst case of each chain: attempts, time, and money where prices are known. Secrets are
    never shown. Contacts no vendor, and needs no keys.

    \b
    Exit status: 0 nothing changes, 1 something does, 2 a file is broken or missing.

    \b
    Examples:
      modelhub diff models.yaml new.yaml
      modelhub diff <(git show HEAD:models.yaml) models.yaml
    """
    from modelhub.config.changes import compare
    from modelhub.config.load import load_file

    with report_errors(as_json=as_json):
        try:
            files = [load_file(path, profile=profile, runs_commands=False) for path in (old, new)]
            changes, bounds = compare(*files), _find_all_bounds(*files)
        except ConfigError as error:
            print_config_error(error, as_json)
            raise typer.Exit(DiffExit.BROKEN) from None
        if as_json:
            worst = [{"name": name, "old": a and asdict(a), "new": b and asdict(b)} for name, a, b in bounds]
            print_json({"same": not changes, "changes": changes.as_list(), "worst": worst})
        else:
            print_lines(*_format_changes(changes.entries), *_format_bounds(bounds))
    if changes:
        raise typer.Exit(DiffExit.DIFFERENT)


# -- what changes ------------------------------------------------------------------------------------------------------


def _format_changes(entries: tuple[EntryChange, ...]) -> Iterator[Text]:
    if not entries:
        yield make_line("nothing changes")
    for entry in entries:
        sign, style = _SIGNS[entry.change]
        ending = "" if entry.change == "changed" else f"  {entry.change}"
        subject = "" if entry.kind == "setting" else f"{entry.kind} "
        yield make_line((sign, style), f" {subject}", (entry.name, "bold"), (ending, style))
        yield from align_columns([_make_row(setting) for setting in entry.settings], indent=4)


def _make_row(setting: SettingChange) -> list[Cell]:
    if setting.is_hidden:
        return [setting.path, ("changed", "yellow")]
    old = ("-", "dim") if setting.old is None else (setting.old, "red")
    new = ("-", "dim") if setting.new is None else (setting.new, "green")
    return [setting.path, make_line(old, (" -> ", "dim"), new)]


# -- the worst case ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bounds:
    """What a call may take at worst; `dearest_call` is the price of one, None where no price is known."""

    attempts: int
    seconds: float
    may_wait_longer: bool
    dearest_call: Decimal | None

    def __str__(self) -> str:
        cost = f", {format_cost(self.dearest_call)}" if self.dearest_call is not None else ""
        more = " or more" if self.may_wait_longer else ""
        return f"{format_count(self.attempts, 'attempt')}, {format_setting(self.seconds)}{more}{cost}"


def _find_all_bounds(old: Loaded, new: Loaded) -> list[tuple[str, _Bounds | None, _Bounds | None]]:
    """Return the bounds of every chain, or of every model in a file without chains, in both files."""
    names = dict.fromkeys([*(old.chains or old.models), *(new.chains or new.models)])
    return [(name, _find_bounds(old, name), _find_bounds(new, name)) for name in names]


def _find_bounds(loaded: Loaded, name: str) -> _Bounds | None:
    """Return what a call of *name* may take, as if every key were set; None if *loaded* has no such name."""
    from modelhub.cli.chain_plan import Plan

    if name not in loaded:
        return None
    plan = Plan(loaded, name, {})
    worst = plan.find_worst_case()
    dearest = plan.find_highest_cost() if loaded.config.usage.cost else None
    return _Bounds(worst.attempts, worst.seconds, worst.open, None if dearest is None else dearest[0])


def _format_bounds(bounds: list[tuple[str, _Bounds | None, _Bounds | None]]) -> Iterator[Text]:
    changed = [(name, old, new) for name, old, new in bounds if old != new]
    rows: list[list[Cell]] = [
        [("at worst" if index == 0 else "", "bold"), name, f"{old or 'not there'} -> {new or 'not there'}"]
        for index, (name, old, new) in enumerate(changed)
    ]
    if rows:
        yield from align_columns(rows, indent=0)
        yield make_line(("money: a call of 8k tokens in, 2k out, at the dearest model with a known price", "dim"))
