"""How far a job is, while it runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import format_cost, format_count, format_duration, is_terminal, print_lines

if TYPE_CHECKING:
    from modelhub.jobs.batch_job import JobProgress

__all__ = ["describe_progress", "show_progress"]

_BAR_SECONDS = 0.2
_LINE_SECONDS = 10.0


@asynccontextmanager
async def show_progress(progress: JobProgress) -> AsyncIterator[None]:
    """Show *progress* on standard error while inside."""
    shown = asyncio.create_task(_show_bar(progress) if is_terminal(sys.stderr) else _print_progress(progress))
    try:
        yield
    finally:
        shown.cancel()
        await asyncio.gather(shown, return_exceptions=True)


async def _print_progress(progress: JobProgress) -> None:
    while True:
        await asyncio.sleep(_LINE_SECONDS)
        print_lines(
            f"{progress.done:,} of {format_count(progress.total, 'row')}, {describe_progress(progress)}", err=True
        )


async def _show_bar(progress: JobProgress) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns: list[Any] = [BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[text]}")]
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=progress.total, text="")
        while True:
            bar.update(task, completed=progress.done, text=describe_progress(progress), refresh=True)
            await asyncio.sleep(_BAR_SECONDS)


def describe_progress(progress: JobProgress) -> str:
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
