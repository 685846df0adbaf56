"""How far a job is, while it runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modelhub.cli.output import format_cost, format_count, format_duration, is_terminal, print_lines, show_bar

if TYPE_CHECKING:
    from modelhub.jobs.batch_job import JobProgress

__all__ = ["describe_progress", "show_progress"]

_BAR_SECONDS = 0.2
_LINE_SECONDS = 10.0


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
        print_lines(f"{rows}, {describe_progress(progress)}", err=True)


async def _update_bar(progress: JobProgress) -> None:
    with show_bar(progress.total) as update:
        while True:
            update(progress.done, describe_progress(progress))
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
