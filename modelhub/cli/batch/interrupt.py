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

    def stop(self) -> None:
        """Let the calls under way finish, and begin no other; on the event loop."""
        progress = self.job.progress
        if progress.batches is not None and progress.batches.waiting:
            _print_note(f"{format_count(progress.batches.waiting, 'row')} stay in batches; the next run finds them")
        else:
            under_way = format_count(progress.calls.under_way, "call")
            _print_note(f"finishing {under_way} under way; Ctrl-C again cancels them")
        self.job.stop()

    def cancel(self) -> None:
        """Cancel the calls under way; on the event loop."""
        _print_note("cancelling")
        self._tasks.append(asyncio.get_running_loop().create_task(self.job.cancel()))


def _print_note(text: str) -> None:
    print_lines("", make_line((f"-- {text} --", "dim")), err=True)


@contextmanager
def stop_on_interrupt(job: BatchJob) -> Iterator[Interrupts]:
    """While inside, SIGINT and SIGTERM stop *job*; after the second, they do what they did before."""
    interrupts, loop = Interrupts(job), asyncio.get_running_loop()

    def handle(number: int, frame: Any) -> None:  # noqa: ARG001 - the parameters of a handler
        interrupts.count += 1
        if interrupts.count > 1:
            restore()
        loop.call_soon_threadsafe(interrupts.stop if interrupts.count == 1 else interrupts.cancel)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    try:
        yield interrupts
    finally:
        restore()
