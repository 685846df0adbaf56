"""`modelhub drill`: what a chain makes of every fault, without asking a vendor."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import AsJson, ConfigFile
from modelhub.cli.output import columns, names, print_json, say
from modelhub.cli.report import reported, usage_error
from modelhub.core.errors import ConfigError

if TYPE_CHECKING:
    from modelhub.cli.chain_plan import Plan
    from modelhub.cli.drill.plan import Candidates
    from modelhub.cli.drill.show import Report

__all__ = ["drill"]


def drill(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A model or a chain of the file.")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="FAULT", help="Only this fault; may be given several times.")
    ] = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Every fault on the first two models too, the first three, and so on.")
    ] = False,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Ask for streams, or for whole answers (default: as the chain does; for faults of streams, streams).",
            show_default=False,
        ),
    ] = None,
    slow: Annotated[str, typer.Option("--slow", metavar="TIME", help="What takes longer is slow.")] = "15s",
    strict: Annotated[bool, typer.Option("--strict", help="Leave with 1 if anything is slow, too.")] = False,
    list_faults: Annotated[bool, typer.Option("--list", help="Instead: the faults and their names.")] = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
) -> None:
    """Tell what a caller would get under every fault.

    A fire drill for your own file: lets its first model fail in every way there is, then the first two, and so on. The
    models' addresses are replaced by a server in this process, and time is virtual: no vendor is asked, no key is
    needed or used, and minutes take moments. Budgets and the usage ledger take no part.

    \b
    Examples:
      modelhub drill primary
      modelhub drill primary --only silence --only cut --stream
      modelhub drill primary --strict --slow 30s --json
    """
    if list_faults == (name is not None):
        usage_error("give a name, or --list" if name is None else "--list takes no name", "NAME")
    with reported(as_json=as_json):
        if list_faults or name is None:
            _list(as_json)
            return
        survived = _drill(Order(name, _known(only or []), deep, stream, _seconds(slow), file), strict, as_json)
    if not survived:
        raise typer.Exit(Exit.FAILED)


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be drilled, and how."""

    name: str
    only: list[str]
    deep: bool
    stream: bool | None
    wait_budget: float
    file: Path | None


def _known(only: list[str]) -> list[str]:
    from modelhub.testing import FAULTS

    for fault in only:
        if fault not in FAULTS:
            close = difflib.get_close_matches(fault, FAULTS, 1)
            meant = f"did you mean `{close[0]}`?" if close else "`modelhub drill --list` has them all"
            usage_error(f"no fault is called `{fault}`; {meant}", "--only")
    return only


def _seconds(text: str) -> float:
    from modelhub.options import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        usage_error(str(error), "--slow")


def _list(as_json: bool) -> None:
    from modelhub.testing import FAULTS

    if as_json:
        print_json(
            [
                {"fault": key, "title": fault.title, "expects": fault.expects, "alone": fault.alone}
                for key, fault in FAULTS.items()
            ]
        )
    else:
        say(*columns([[(key, "bold"), fault.title] for key, fault in FAULTS.items()], indent=0))


def _drill(order: Order, strict: bool, as_json: bool) -> bool:
    """Play and print; gives back whether all was survived."""
    from modelhub.cli.drill import show
    from modelhub.testing import run_virtual

    report = run_virtual(_played(order))
    if as_json:
        print_json(show.as_dict(report, strict=strict))
    else:
        say(*show.lines(report))
    return report.survived(strict=strict)


async def _played(order: Order) -> Report:
    from modelhub.cli.drill.evaluate import Evaluator
    from modelhub.cli.drill.plan import drill_cases, find_candidates
    from modelhub.cli.drill.play import in_drill_environment
    from modelhub.cli.drill.show import Report, Row, progress
    from modelhub.hub import find_config_file

    async with in_drill_environment(find_config_file(order.file)) as stage:
        plan = await stage.plan(order.name)
        lineup = _somebody(order.name, find_candidates(plan))
        forced, stream = order.stream is not None, _streams(plan) if order.stream is None else order.stream
        played = drill_cases(lineup, only=order.only, deep=order.deep, stream=stream, forced=forced)
        evaluate, rows = Evaluator(stage.loaded, order.name, order.wait_budget), []
        with progress(len(played)) as tell:
            for exercise in played:
                tell(exercise.title)
                outcome = await stage.play(order.name, exercise)
                rows.append(Row(exercise, outcome, evaluate.evaluate(exercise, outcome)))
    return Report(order.name, lineup, rows)


def _streams(plan: Plan) -> bool:
    if plan.chain is not None:
        return plan.chain.stream
    options = plan.loaded.models[plan.name].options
    return options is not None and options.stream


def _somebody(name: str, lineup: Candidates) -> Candidates:
    if not lineup.vendors:
        lacking = [f"{model}: {missing}" for model, missing in lineup.left_out.items()]
        reason = f" ({names(lacking)})" if lacking else ""
        raise ConfigError(f"there is nothing to drill: `{name}` asks no vendor{reason}")
    return lineup
