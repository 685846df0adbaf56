"""Ctrl-C during a job: the first stops it cleanly, the second cancels what is under way, the third ends the process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from modelhub.cli.output import format_count, make_line, print_lines

if TYPE_CHECKING:
    from modelhub.jobs.batch_job import BatchJob

__all__ = ["Interrupts", "stop_on_interrupt"]


@dataclass(slots=True)
class Interrupts:
    """How often the job was interrupted."""

    job: BatchJob
    count: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def handle(self) -> None:
        """Stop the job, or cancel it if it was stopped already; on the event loop."""
        self.count += 1
        progress = self.job.progress
        if self.count == 1:
            if progress.batches is not None and progress.batches.waiting:
                _print_note(f"{format_count(progress.batches.waiting, 'row')} stay in batches; the next run finds them")
            else:
                under_way = format_count(progress.calls.under_way, "call")
                _print_note(f"finishing {under_way} under way; Ctrl-C again cancels them")
            self.job.stop()
        else:
            _print_note("cancelling")
            self._tasks.append(asyncio.get_running_loop().create_task(self.job.cancel()))


def _print_note(text: str) -> None:
    print_lines("", make_line((f"-- {text} --", "dim")), err=True)


@contextmanager
def stop_on_interrupt(job: BatchJob) -> Iterator[Interrupts]:
    """While inside, SIGINT and SIGTERM stop *job*; after the second, they do what they did before."""
    interrupts, loop = Interrupts(job), asyncio.get_running_loop()
    signals = 0

    def on_signal(number: int, frame: Any) -> None:  # noqa: ARG001 - the parameters of a handler
        nonlocal signals
        signals += 1
        if signals >= 2:
            restore()
        loop.call_soon_threadsafe(interrupts.handle)

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield interrupts
    finally:
        restore()
