"""A job: every row of a file is asked once, and its answer is in the journal before it is in the output.

The journal is the truth; the output is written anew by each run, from the answers of the journal and those that come
in, to a file of its own that takes the output's place at the end. So no row is missing or there twice, whenever the
job was killed before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from modelhub.core.call_options import parse_call_options
from modelhub.core.errors import BudgetExceeded
from modelhub.core.model import ChatModelBase
from modelhub.core.row_result import MapProgress, RowResult
from modelhub.core.row_stream import RowStream
from modelhub.hub import Hub
from modelhub.jobs.budget import JobBudget
from modelhub.jobs.errors import JobError
from modelhub.jobs.estimate import CostEstimator
from modelhub.jobs.files import find_format, make_writer
from modelhub.jobs.journal import Journal, find_journal
from modelhub.jobs.plan import CHUNK_ROWS, MAX_SAMPLES, JobOptions, JobRow, JobRows
from modelhub.jobs.row_keys import RowKeys, describe_entries
from modelhub.jobs.rows import Answer, InputRow, OrderedWriter, RowWriter, make_answer, name_columns
from modelhub.jobs.vendor_batch.batch_model import BatchModel, find_batch_entry
from modelhub.jobs.vendor_batch.phase import BatchPhase, BatchProgress

__all__ = ["BatchJob", "JobProgress", "open_job", "open_rows"]

_MAX_REPEATED = 10_000  # rows that wait for the answer of a row like them, before no further row is read


@dataclass(slots=True)
class JobProgress:
    """How far a job is: `calls` for the rows that are asked, and the counts of all rows.

    `batches` has those of a vendor's batch API, if it is used.
    `total` is the number of rows of the input, `answered` and `failed` rows are done; `reused` of them had their answer
    in the journal, `repeated` got that of a row like them, and `invalid` could not be asked.
    """

    total: int
    calls: MapProgress
    batches: BatchProgress | None = None
    answered: int = 0
    failed: int = 0
    reused: int = 0
    repeated: int = 0
    invalid: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    """How often each class of error occurred."""
    samples: list[str] = field(default_factory=list)
    """The places and errors of the first rows that failed."""
    stop_reason: str | None = None
    """Why the job ended before its last row, if it did."""

    @property
    def done(self) -> int:
        """The number of rows that are done."""
        return self.answered + self.failed

    @property
    def left(self) -> int:
        """The number of rows that are not done."""
        return max(0, self.total - self.done)

    @property
    def eta(self) -> float | None:
        """Seconds until all rows are done at this rate, or None if that is not known."""
        rate = self.calls.rate
        return self.left / rate if rate else None


class BatchJob:
    """One run of a job: *model* is asked for the *rows* that the *journal* has no answer for.

    With *phase*, rows go through a vendor's batch API first. Its `progress` is up to date at any time.
    """

    def __init__(
        self,
        model: ChatModelBase,
        options: JobOptions,
        rows: JobRows,
        journal: Journal,
        phase: BatchPhase | None = None,
    ) -> None:
        self._model: Any = model
        self._options = options
        self._rows = rows
        self.journal = journal
        self._arguments = {"structured_model": options.structured_model, "stream": False, **options.parameters}
        self._under_way: set[bytes] = set()  # the keys of the rows that are asked
        self._repeats: dict[bytes, list[InputRow]] = {}  # the rows that get the same answer as one under way
        self._repeated = 0  # how many these are
        self._row_done = asyncio.Event()
        self._budget: JobBudget | None = None
        self._writer: RowWriter
        self._partial = options.output.with_name(f"{options.output.name}.partial")
        calls = MapProgress(model.services.clock, needs_costs=True)
        self._phase = phase
        self._is_stopped = False
        self.progress = JobProgress(rows.reader.count(), calls, None if phase is None else phase.progress)
        self._stream: RowStream[Any] = RowStream(
            self._ask, self._read_pending(), calls, concurrency=options.concurrency
        )

    async def run(self) -> JobProgress:
        """Ask the rows, and write the output; return the final progress.

        Raises JobError if the budget cannot be kept, or is gone already.
        """
        if self._options.budget is not None:
            self._open_budget(self._options.budget)
        if self._phase is not None:
            await self._phase.run()
        writer = self._open_output()
        if self._options.ordered:
            writer = OrderedWriter(writer)
        self._writer = writer
        with closing(writer):
            async with self._stream:
                async for result in self._stream:
                    self._record([result, *self._stream.take_ready()])
        is_stopped = self._is_stopped or self.progress.stop_reason is not None
        if is_stopped or (isinstance(writer, OrderedWriter) and not writer.is_complete):
            # A job that is stopped has not come to all the rows that the journal has an answer for.
            self._write_from_journal()
        self._partial.replace(self._options.output)
        return self.progress

    def _open_output(self) -> RowWriter:
        kind = find_format(self._options.output)
        columns = None  # of JSONL, where each row has its own
        if kind != "jsonl":
            columns = name_columns(self._rows.reader.find_columns(), self._options.has_output)
        return make_writer(self._partial, kind, columns)

    def stop(self) -> None:
        """Begin no further row; rows under way are finished, and the output is written.

        Batches stay at the vendor; the next run finds them.
        """
        self._is_stopped = True
        if self._phase is not None:
            self._phase.stop()
        self._stream.stop()

    async def cancel(self) -> None:
        """Cancel rows under way as well; the output is written."""
        self.stop()
        await self._stream.aclose()

    def _open_budget(self, limit: Decimal) -> None:
        totals = self.journal.sum_totals()
        estimator = CostEstimator(self._model, self._options.parameters, totals.average_output)
        if estimator.unpriced:
            names = ", ".join(f"`{name}`" for name in estimator.unpriced)
            raise JobError(f"the price of {names} is not known, so no budget can be kept: set `pricing:` in the entry")
        self._budget = JobBudget(limit, totals.cost, estimator)
        if self._phase is not None:
            self._phase.budget = self._budget

    # -- asking ----------------------------------------------------------------------------------------------------

    async def _read_pending(self) -> AsyncIterator[JobRow]:
        """Yield the rows that must be asked; the others are done at once, or with the row that they are like."""
        for job_row in self._rows.read(self.journal):
            if job_row.key in self._under_way:
                self._repeats.setdefault(job_row.key, []).append(job_row.row)
                self._repeated += 1
                while self._repeated >= _MAX_REPEATED:
                    self._row_done.clear()
                    await self._row_done.wait()
            elif (answer := job_row.answer or self.journal.find_recent(job_row.key)) is not None:
                self._finish_known(job_row, answer)
                if not self.progress.done % CHUNK_ROWS:
                    await asyncio.sleep(0)  # others have their turn while a journal is gone through
            elif self._budget is None or await self._reserve(job_row, self._budget):
                self._under_way.add(job_row.key)
                yield job_row
            else:
                return

    async def _reserve(self, job_row: JobRow, budget: JobBudget) -> bool:
        """Set the cost of *job_row* aside. Returns False if there is not enough left of the *budget*."""
        job_row.reserved = budget.estimate(job_row.messages)
        if await budget.reserve(job_row.reserved):
            return True
        self.progress.stop_reason = (
            f"the budget of ${budget.limit} is spent: ${budget.spent:.4f} are gone, "
            f"and the next row may cost ${job_row.reserved:.4f}"
        )
        return False

    def _ask(self, job_row: JobRow) -> Awaitable[Any]:
        reply: Awaitable[Any] = self._model(job_row.messages, **self._arguments)
        return reply

    # -- what comes in ---------------------------------------------------------------------------------------------

    def _record(self, results: list[RowResult[Any]]) -> None:
        """Write *results* to the journal, then to the output."""
        answered: list[tuple[JobRow, Answer]] = []
        for result in results:
            job_row: JobRow = result.row
            self._under_way.remove(job_row.key)
            answer = make_answer(result, has_output=self._options.has_output)
            if self._budget is not None:
                self._budget.settle(job_row.reserved, answer.cost)
            if isinstance(result.error, BudgetExceeded):  # not the row's fault: it is asked when there is money again
                self.progress.stop_reason = str(result.error)
                self._repeated -= len(self._repeats.pop(job_row.key, ()))
                self.stop()
            else:
                answered.append((job_row, answer))
        self.journal.add([(row.key, answer) for row, answer in answered], replace=self._options.retry_failed)
        for job_row, answer in answered:
            self._finish(job_row.row, answer)
            for row in self._repeats.pop(job_row.key, ()):
                self._repeated -= 1
                self.progress.repeated += 1
                self._finish(row, answer)
        self._row_done.set()
        self._writer.flush()

    def _finish_known(self, job_row: JobRow, answer: Answer) -> None:
        if not job_row.key:
            self.progress.invalid += 1
        elif answer.is_new:
            self.progress.repeated += 1
        else:
            self.progress.reused += 1
        self._finish(job_row.row, answer)

    def _finish(self, row: InputRow, answer: Answer) -> None:
        progress = self.progress
        if answer.has_failed:
            error = answer.columns["error"]
            progress.failed += 1
            progress.errors[error.partition(":")[0]] += 1
            if len(progress.samples) < MAX_SAMPLES:
                progress.samples.append(error if row.place in error else f"{row.place}: {error}")
        else:
            progress.answered += 1
        self._writer.write(row, answer)

    def _write_from_journal(self) -> None:
        """Write every row that has an answer, in the order of the input, and count them."""
        progress = self.progress
        progress.answered = progress.failed = 0
        progress.errors.clear()
        progress.samples.clear()
        self._writer = self._open_output()
        with closing(self._writer):
            for job_row in self._rows.read(self.journal, retry_failed=False):
                if job_row.answer is not None:
                    self._finish(job_row.row, job_row.answer)


def open_rows(hub: Hub, name: str, options: JobOptions) -> JobRows:
    """Return the rows of a job that asks *name*. Raises JobError for its files, InvalidRequest for its options."""
    output = options.output
    for path in (options.source, output):
        find_format(path)  # which raises for an ending that is not known
    if output.resolve() == options.source.resolve():
        raise JobError(f"{output}: the output would replace the input")
    if output.exists() and not find_journal(output).exists():
        raise JobError(
            f"{output} exists, and has no journal of an earlier run: choose another name, or remove the file"
        )
    hub.loaded.check_name(name)
    parsed = parse_call_options(dict(options.parameters))  # what is wrong is said before a row is read
    entries = describe_entries(hub.loaded, name)
    return JobRows(options, RowKeys(entries, parsed.parameters, options.structured_model))


@contextmanager
def open_job(hub: Hub, name: str, options: JobOptions) -> Iterator[BatchJob]:
    """Open the job that asks the chain or model *name* of *hub* as *options* say: `await job.run()` runs it.

    If a model of the chain has `batch:`, rows go through its vendor's batch API first. Raises JobError, InvalidRequest
    and UnknownModel if the job cannot begin.
    """
    rows = open_rows(hub, name, options)
    journal = Journal(find_journal(options.output))
    try:
        phase, batch = None, find_batch_entry(hub.loaded, name)
        if batch is not None:
            entry, batch_options = batch
            model = BatchModel(hub, entry.name, name, options.parameters, options.structured_model)
            phase = BatchPhase(model, rows, journal, window=batch_options.window, has_output=options.has_output)
        yield BatchJob(hub.get(name), options, rows, journal, phase)
    finally:
        journal.close()
