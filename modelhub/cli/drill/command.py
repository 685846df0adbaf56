"""`modelhub drill`: how a chain copes with every fault, without contacting a vendor."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelhub.cli.exit import Exit
from modelhub.cli.options import (
    AsJson,
    ConfigFile,
    OptionalName,
    Parameters,
    Profile,
    parse_parameters,
    parse_seconds,
)
from modelhub.cli.output import align_columns, join_names, print_json, print_lines
from modelhub.cli.report import fail_usage, report_errors
from modelhub.core.errors import ConfigError

if TYPE_CHECKING:
    from modelhub.cli.chain_plan import Plan
    from modelhub.cli.drill.show import DrillReport

__all__ = ["drill"]

OnlyFaults = Annotated[
    list[str] | None, typer.Option("--only", metavar="FAULT", help="Only this fault; can be repeated.")
]
Deep = Annotated[
    bool, typer.Option("--deep", help="Play every fault also on the first two models, the first three, and so on.")
]
StreamAnswers = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Stream the answers, or not (default: as the chain does; faults of streams are always streamed).",
        show_default=False,
    ),
]
SlowAfter = Annotated[str, typer.Option("--slow", metavar="TIME", help="A call that takes longer counts as slow.")]
WithTools = Annotated[bool, typer.Option("--tools", help="Make calls with a tool.")]
Strict = Annotated[bool, typer.Option("--strict", help="Exit with status 1 also if a call is slow.")]
ListFaults = Annotated[bool, typer.Option("--list", help="List the faults and their names instead.")]


def drill(
    name: OptionalName = None,
    only: OnlyFaults = None,
    deep: Deep = False,
    stream: StreamAnswers = None,
    slow: SlowAfter = "15s",
    tools: WithTools = False,
    ask: Parameters = None,
    strict: Strict = False,
    list_faults: ListFaults = False,
    as_json: AsJson = False,
    file: ConfigFile = None,
    profile: Profile = None,
) -> None:
    """Show what a caller would get under every fault.

    A fire drill for your file: its first model fails in every way, then the first two, and so on. The models' addresses
    are replaced by a server in this process, and time is virtual: no vendor is contacted, no key is needed or used, and
    minutes pass in moments. Budgets and the usage ledger are not used.

    \b
    Examples:
      modelhub drill primary
      modelhub drill primary --only silence --only cut --stream
      modelhub drill primary --tools --ask max_tokens=500
      modelhub drill primary --strict --slow 30s --json
    """
    if list_faults == (name is not None):
        fail_usage("pass a name, or --list" if name is None else "--list takes no name", "NAME")
    with report_errors(as_json=as_json):
        if name is None:
            _list_faults(as_json)
            return
        call = parse_parameters(ask)
        seconds = parse_seconds(slow, "--slow")
        request = DrillRequest(name, _find_faults(only or []), deep, stream, seconds, file, profile, call, tools)
        survived = _run_drill(request, strict, as_json)
    if not survived:
        raise typer.Exit(Exit.FAILED)


@dataclass(frozen=True, slots=True)
class DrillRequest:
    """The arguments of a drill."""

    name: str
    only: list[str]
    deep: bool
    stream: bool | None
    slow_after: float
    file: Path | None
    profile: str | None
    call: Mapping[str, Any]
    """The arguments of each call besides its messages and tools."""
    has_tools: bool


def _find_faults(only: list[str]) -> list[str]:
    """Return the names of the faults *only*, which are written as names or as titles."""
    from modelhub.testing import FAULTS

    names = {drill.title.lower(): name for name, drill in FAULTS.items()} | {name: name for name in FAULTS}
    for fault in only:
        if fault.lower() not in names:
            close = difflib.get_close_matches(fault.lower(), names, 1)
            suggestion = f"did you mean `{names[close[0]]}`? " if close else ""
            fail_usage(f"no fault is called `{fault}`; {suggestion}`modelhub drill --list` lists all", "--only")
    return [names[fault.lower()] for fault in only]


def _list_faults(as_json: bool) -> None:
    from modelhub.testing import FAULTS

    if as_json:
        shown = ("title", "expects", "alone")
        print_json([{"fault": key, **{name: getattr(fault, name) for name in shown}} for key, fault in FAULTS.items()])
    else:
        print_lines(*align_columns([[(key, "bold"), fault.title] for key, fault in FAULTS.items()], indent=0))


def _run_drill(request: DrillRequest, strict: bool, as_json: bool) -> bool:
    """Play the faults and print the report. Returns whether all faults were survived."""
    from modelhub.cli.drill import show
    from modelhub.testing import run_virtual

    report = run_virtual(_play_all(request))
    if as_json:
        print_json(show.make_report_dict(report, strict=strict))
    else:
        print_lines(*show.format_report(report))
    return report.survived(strict=strict)


async def _play_all(request: DrillRequest) -> DrillReport:
    """Play the faults. Raises ConfigError if the call asks no vendor."""
    from modelhub.cli.drill.evaluate import Evaluator
    from modelhub.cli.drill.plan import find_candidates, make_drill_cases
    from modelhub.cli.drill.play import open_drill_environment
    from modelhub.cli.drill.show import DrillReport, Row, show_progress
    from modelhub.cli.fit.shape import SAMPLE_TOOL
    from modelhub.config_source import find_config_file

    call = {**request.call, "tools": [SAMPLE_TOOL]} if request.has_tools else request.call
    async with open_drill_environment(find_config_file(request.file), request.profile) as environment:
        plan = await environment.make_plan(request.name)
        candidates = find_candidates(plan)
        if not candidates.vendors:
            lacking = join_names([f"{model}: {missing}" for model, missing in candidates.left_out.items()])
            reason = f" ({lacking})" if lacking else ""
            raise ConfigError(f"there is nothing to drill: `{request.name}` calls no vendor{reason}")
        stream = _is_streamed(plan) if request.stream is None else request.stream
        forced = request.stream is not None
        cases = make_drill_cases(candidates, only=request.only, deep=request.deep, stream=stream, forced=forced)
        evaluator, rows = Evaluator(plan, request.slow_after), []
        with show_progress(len(cases)) as advance:
            for case in cases:
                advance(case.title)
                outcome = await environment.play(request.name, case, call)
                rows.append(Row(case, outcome, evaluator.evaluate(case, outcome)))
    return DrillReport(request.name, candidates, rows)


def _is_streamed(plan: Plan) -> bool:
    if plan.chain is not None:
        return plan.chain.stream
    options = plan.members[0].options
    return options is not None and options.stream
