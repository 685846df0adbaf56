"""What a job has done, or would do, in a few lines or as JSON, and how far it is while it runs."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import (
    format_cost,
    format_count,
    format_duration,
    is_terminal,
    join_names,
    make_line,
    print_json,
    print_lines,
    show_bar,
)

if TYPE_CHECKING:
    from rich.text import Text

    from modelhub.jobs.batch_job import JobProgress
    from modelhub.jobs.dry_run import DryRun
    from modelhub.jobs.journal import JournalTotals
    from modelhub.jobs.plan import JobOptions

__all__ = ["print_plan", "print_summary", "show_progress"]

_BAR_SECONDS = 0.2
_LINE_SECONDS = 10.0


def print_summary(
    progress: JobProgress, totals: JournalTotals, options: JobOptions, *, interrupted: bool, as_json: bool
) -> None:
    """Print what the run has done: to standard error, or as JSON to standard output."""
    if not as_json:
        print_lines(*_format_summary(progress, totals, options), err=True)
        return
    calls = progress.calls
    counts = ("total", "answered", "failed", "left", "reused", "repeated", "invalid", "errors", "stop_reason")
    summary = {
        "output": str(options.output),
        **{name: getattr(progress, name) for name in counts},
        "interrupted": interrupted,
        "batches": None if progress.batches is None else dataclasses.asdict(progress.batches),
        "asked": calls.done,
        "seconds": round(calls.elapsed, 3),
        "input_tokens": calls.input_tokens,
        "output_tokens": calls.output_tokens,
        "cost": str(calls.cost),
        "unknown_costs": calls.unknown_costs,
        "journal_cost": str(totals.cost),
    }
    print_json(summary)


def _format_summary(progress: JobProgress, totals: JournalTotals, options: JobOptions) -> Iterator[Text | str]:
    yield make_line(
        (str(options.output), "bold"),
        f": {format_count(progress.total, 'row')}: {progress.answered:,} answered, ",
        (f"{progress.failed:,} failed", "bold red" if progress.failed else ""),
        (f", {progress.left:,} left" if progress.left else "", "yellow"),
    )
    if (others := _describe_others(progress.reused, progress.repeated, progress.invalid)) is not None:
        yield f"  {others}"
    batches = progress.batches
    if batches is not None and (batches.answered or batches.waiting or batches.unanswered):
        waiting = f", {batches.waiting:,} still there" if batches.waiting else ""
        yield f"  in batches: {batches.answered:,} answered, {batches.unanswered:,} without an answer{waiting}"
    yield f"  {_describe_calls(progress, totals)}"
    for sample in progress.samples:
        yield make_line("  ", (sample, "red"))
    if progress.failed > len(progress.samples):
        kinds = join_names([f"{count:,} {kind}" for kind, count in progress.errors.most_common()])
        yield f"  of all failed rows: {kinds}"
    if progress.stop_reason is not None:
        yield make_line("  stopped: ", (progress.stop_reason, "yellow"))
    if progress.left:
        yield "  the same command goes on with the rows that are left"
    elif progress.failed > progress.invalid:
        yield "  the same command with --retry-failed asks the failed rows again"


def _describe_others(reused: int, repeated: int, invalid: int) -> str | None:
    """Return how many rows are not asked, and why."""
    parts = [
        *([f"{reused:,} from the journal"] if reused else []),
        *([f"{repeated:,} like another row"] if repeated else []),
        *([f"{invalid:,} that cannot be asked"] if invalid else []),
    ]
    return f"not asked: {join_names(parts)}" if parts else None


def _describe_calls(progress: JobProgress, totals: JournalTotals) -> str:
    calls = progress.calls
    if not calls.done:
        return "no row was asked" if progress.batches is None else "no row was asked one by one"
    seconds = calls.elapsed
    rate = f", {calls.done / seconds:,.1f} rows/s" if seconds else ""
    parts = [f"{format_count(calls.done, 'row')} asked in {format_duration(seconds)}{rate}"]
    parts.append(f"{calls.input_tokens:,} input and {calls.output_tokens:,} output tokens")
    unknown = f" (unknown for {format_count(calls.unknown_costs, 'attempt')})" if calls.unknown_costs else ""
    parts.append(f"{format_cost(calls.cost)}{unknown}")
    if totals.cost > calls.cost:
        parts.append(f"{format_cost(totals.cost)} with earlier runs")
    return ", ".join(parts)


def print_plan(name: str, run: DryRun, options: JobOptions, *, as_json: bool) -> None:
    """Print what a job would do and may cost, on standard output."""
    if as_json:
        print_json(_make_plan_dict(run))
        return
    asked = f": {format_count(run.total, 'row')}, of which {run.asked:,} would be asked of `{name}`"
    others = _describe_others(run.reused, run.repeated, run.invalid)
    print_lines(
        make_line((str(options.source), "bold"), asked),
        *([f"  {others}"] if others is not None else []),
        *(make_line("  ", (sample, "red")) for sample in run.samples),
        *(["  through the vendor's batch API, at half the price"] if run.in_batches else []),
        *_format_costs(run, options.budget),
    )


def _make_plan_dict(run: DryRun) -> dict[str, Any]:
    estimate = run.estimate
    worst = None if estimate.worst is None else str(estimate.worst)
    cost = {"low": str(estimate.low), "expected": str(estimate.expected), "worst": worst}
    names = ["in_batches", "total", "asked", "reused", "repeated", "invalid", "output_tokens"]
    names += ["is_measured", "unpriced", "unbounded"]
    return {**{name: getattr(run, name) for name in names}, "cost": None if run.unpriced else cost}


def _format_costs(run: DryRun, budget: Decimal | None) -> Iterator[Text | str]:
    if run.unpriced:
        names = join_names([f"`{name}`" for name in run.unpriced])
        yield f"  cost: not known, since {names} has no known price: set `pricing:` in the entry"
        return
    estimate = run.estimate
    source = "the average of the journal" if run.is_measured else "an assumption"
    answers = f"first model, answers of {run.output_tokens:,} tokens ({source})"
    yield _format_cost_line("low", estimate.low, "short answers, cheapest model, one attempt")
    yield _format_cost_line("expected", estimate.expected, answers)
    if estimate.worst is None:
        names = join_names([f"`{name}`" for name in run.unbounded])
        yield f"  worst     unbounded: nothing limits the answers of {names} (--ask max_tokens=500)"
    else:
        yield _format_cost_line("worst", estimate.worst, "longest answers, every attempt of every model")
    if budget is not None and estimate.expected > budget:
        yield make_line("  ", (f"the budget of {format_cost(budget)} is less than the expected cost", "yellow"))


def _format_cost_line(label: str, cost: Decimal, meaning: str) -> Text:
    rounded = format_cost(cost.quantize(Decimal("0.0001")) if cost < 1 else cost)
    return make_line(f"  {label:<10}", (rounded, "bold"), f"  {meaning}")


# -- while it runs -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def show_progress(progress: JobProgress) -> AsyncIterator[None]:
    """Show *progress* on standard error while inside."""
    shown = asyncio.create_task(_update_bar(progress) if is_terminal(sys.stderr) else _print_lines(progress))
    try:
        yield
    finally:
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)


async def _print_lines(progress: JobProgress) -> None:
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        rows = f"{progress.done:,} of {format_count(progress.total, 'row')}"
        print_lines(f"{rows}, {_describe_progress(progress)}", err=True)


async def _update_bar(progress: JobProgress) -> None:
    with show_bar(progress.total) as update:
        while True:
            update(progress.done, _describe_progress(progress))
            await asyncio.sleep(_BAR_SECONDS)


def _describe_progress(progress: JobProgress) -> str:
    """Return the rate, the time that is left, the cost so far and the failed rows, as far as there are any."""
    if progress.batches is not None and progress.batches.waiting:
        return f"{format_count(progress.batches.waiting, 'row')} in batches, {progress.batches.answered:,} answered"
    parts = [f"{progress.calls.rate:,.1f} rows/s"]
    if progress.eta is not None and progress.left:
        parts.append(f"{format_duration(progress.eta)} left")
    if progress.calls.cost or not progress.calls.unknown_costs:
        parts.append(format_cost(progress.calls.cost))
    if progress.failed:
        parts.append(f"{progress.failed:,} failed")
    return ", ".join(parts)
