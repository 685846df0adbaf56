"""A job: every row of a file is asked once, and its answer is in the journal before it is in the output.

The journal is the truth; the output is written anew by each run, from the answers of the journal and those that come
in, to a file of its own that takes the output's place at the end. So no row is missing or there twice, whenever the
job was killed before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from modelhub.core.errors import BudgetExceeded
from modelhub.core.model import ChatModelBase
from modelhub.core.row_progress import MapProgress
from modelhub.core.row_result import RowResult
from modelhub.core.row_stream import RowStream
from modelhub.jobs.answer import Answer, make_answer
from modelhub.jobs.budget import JobBudget
from modelhub.jobs.errors import JobError
from modelhub.jobs.estimate import CostEstimator
from modelhub.jobs.files import find_format, make_writer
from modelhub.jobs.journal import Journal
from modelhub.jobs.plan import CHUNK_ROWS, JobOptions, JobRow, JobRows
from modelhub.jobs.row_order import OrderedWriter
from modelhub.jobs.rows import InputRow, RowWriter
from modelhub.jobs.vendor_batch.interface import PRICE_FACTOR
from modelhub.jobs.vendor_batch.phase import BatchPhase, BatchProgress

__all__ = ["BatchJob", "JobProgress"]

_MAX_SAMPLES = 5
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


class _BatchBudget:
    """The budget of a job, for rows in a batch, which cost a part of the usual price."""

    def __init__(self, budget: JobBudget, estimator: CostEstimator) -> None:
        self._budget = budget
        self._estimator = estimator

    def _estimate(self, messages: Any) -> Decimal:
        return self._estimator.reserve(messages) * Decimal(PRICE_FACTOR)

    def has_room(self, messages: Any) -> bool:
        """Return whether a row with *messages* fits into the budget."""
        return self._budget.has_room(self._estimate(messages))

    def hold(self, messages: Any) -> None:
        """Set aside what a row with *messages* may cost."""
        self._budget.hold(self._estimate(messages))

    def settle(self, messages: Any, cost: Decimal | None) -> None:
        """Replace what was set aside for a row with *messages* by what it has cost."""
        self._budget.settle(self._estimate(messages), cost)


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
        self._waiting: dict[bytes, JobRow] = {}
        self._repeated = 0  # rows in `_waiting` that are not under way themselves
        self._row_done = asyncio.Event()
        self._budget: JobBudget | None = None
        self._estimator: CostEstimator  # if there is a budget
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
        return make_writer(self._partial, find_format(self._options.output), self._rows.find_columns())

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
        known = totals.answered + totals.failed
        average = totals.output_tokens / known if totals.output_tokens else None
        self._estimator = estimator = CostEstimator(self._model, self._options.parameters, average)
        if estimator.unpriced:
            names = ", ".join(f"`{name}`" for name in estimator.unpriced)
            raise JobError(f"the price of {names} is not known, so no budget can be kept: set `pricing:` in the entry")
        self._budget = JobBudget(limit, totals.cost)
        if self._phase is not None:
            self._phase.budget = _BatchBudget(self._budget, estimator)

    # -- asking ----------------------------------------------------------------------------------------------------

    async def _read_pending(self) -> AsyncIterator[JobRow]:
        """Yield the rows that must be asked; the others are done at once, or with the row that they are like."""
        for job_row in self._rows.read(self.journal):
            if job_row.answer is not None:
                self._finish_known(job_row, job_row.answer)
                if not self.progress.done % CHUNK_ROWS:
                    await asyncio.sleep(0)  # others have their turn while a journal is gone through
            elif (like := self._waiting.get(job_row.key)) is not None:
                like.add_repeated(job_row.row)
                await self._wait_for_repeated()
            elif (answer := self.journal.find_recent(job_row.key)) is not None:
                self._finish_repeated(job_row.row, answer)
            elif self._budget is None or await self._reserve(job_row, self._budget):
                self._waiting[job_row.key] = job_row
                yield job_row
            else:
                return

    async def _wait_for_repeated(self) -> None:
        self._repeated += 1
        while self._repeated >= _MAX_REPEATED:
            self._row_done.clear()
            await self._row_done.wait()

    async def _reserve(self, job_row: JobRow, budget: JobBudget) -> bool:
        """Set the cost of *job_row* aside. Returns False if there is not enough left of the *budget*."""
        job_row.reserved = self._estimator.reserve(job_row.messages)
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
        answers: list[tuple[bytes, Answer]] = []
        for result in results:
            job_row: JobRow = result.row
            answer = make_answer(result, has_output=self._options.has_output)
            if self._budget is not None:
                self._budget.settle(job_row.reserved, answer.cost)
            if isinstance(result.error, BudgetExceeded):  # not the row's fault: it is asked when there is money again
                self.progress.stop_reason = str(result.error)
                self._repeated -= len(self._waiting.pop(job_row.key).repeated or ())
                self.stop()
                continue
            answers.append((job_row.key, answer))
        self.journal.add(answers, replace=self._options.retry_failed)
        for key, answer in answers:
            job_row = self._waiting.pop(key)
            self._finish(job_row.row, answer)
            for row in job_row.repeated or ():
                self._repeated -= 1
                self._finish_repeated(row, answer)
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

    def _finish_repeated(self, row: InputRow, answer: Answer) -> None:
        self.progress.repeated += 1
        self._finish(row, answer)

    def _finish(self, row: InputRow, answer: Answer) -> None:
        if answer.has_failed:
            self._count_failure(row, answer.columns["error"])
        else:
            self.progress.answered += 1
        self._writer.write(row, answer)

    def _count_failure(self, row: InputRow, error: str) -> None:
        self.progress.failed += 1
        self.progress.errors[error.partition(":")[0]] += 1
        if len(self.progress.samples) < _MAX_SAMPLES:
            self.progress.samples.append(error if row.place in error else f"{row.place}: {error}")

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
