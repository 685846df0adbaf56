"""The part of a job that goes through a vendor's batch API, before what is left is asked live.

A batch and its rows are in the journal before anything is sent to the vendor, and the vendor's batch carries an id of
ours: so a job that was killed at any point finds its batches again, and hands no row in twice. The messages of its rows
are there too, until they are answered, so that answers which are paid for are kept even if the input changes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from modelhub.core.errors import CallError, InvalidRequest
from modelhub.core.row_result import RowResult
from modelhub.jobs.budget import JobBudget
from modelhub.jobs.errors import JobError
from modelhub.jobs.journal import Journal, StoredBatch
from modelhub.jobs.plan import JobRow, JobRows
from modelhub.jobs.rows import Answer, make_answer
from modelhub.jobs.vendor_batch.batch_model import BatchModel
from modelhub.jobs.vendor_batch.interface import PRICE_FACTOR, BatchRow, BatchState, VendorBatches
from modelhub.providers.http import HttpRequest

__all__ = ["BatchPhase", "BatchProgress"]

MAX_ROWS = 2_000  # of one batch: its answers must fit into one response
_MAX_BYTES = 15_000_000  # of the requests of one batch
_RECORDED_ROWS = 50  # answers that are written to the journal together
_MIN_POLL, _MAX_POLL = 5.0, 60.0
_MAX_FAILURES = 10  # of polling, in a row

_log = logging.getLogger("modelhub")


@dataclass(slots=True)
class BatchProgress:
    """How far the batches are: rows that were `answered` by them, `waiting` there, or got no answer (`unanswered`)."""

    answered: int = 0
    waiting: int = 0
    unanswered: int = 0


class BatchPhase:
    """Takes the rows that the journal has no answer for through the batches of *model*.

    A batch that has not ended *window* seconds after it began is cancelled; what it has answered by then counts.
    With *has_output*, the answers have a structure.
    """

    def __init__(self, model: BatchModel, rows: JobRows, journal: Journal, *, window: float, has_output: bool) -> None:
        self._model = model
        self._name = model.name
        self._rows = rows
        self._journal = journal
        self._clock = model.clock
        self._window = timedelta(seconds=window)
        self._has_output = has_output
        self._vendor: VendorBatches | None = None
        self._stopped = asyncio.Event()
        self.budget: JobBudget | None = None
        self.progress = BatchProgress()

    def stop(self) -> None:
        """Wait no longer: batches stay at the vendor, and the next run finds them."""
        self._stopped.set()

    async def run(self) -> None:
        """Hand in rows and wait for their answers. Raises JobError, with what the vendor says, if it refuses."""
        try:
            for batch in self._journal.list_batches():
                await self._recover(batch)
            await self._hand_in()
            await self._collect()
        except CallError as error:
            raise JobError(f"the batch API of `{self._name}`: {error.kind}: {error}") from error
        except (KeyError, TypeError) as error:
            raise JobError(f"the batch API of `{self._name}` answered what it should not: {error!r}") from error
        finally:
            await self._model.aclose()

    # -- handing in ------------------------------------------------------------------------------------------------

    async def _recover(self, batch: StoredBatch) -> None:
        """Find a batch of an earlier run at the vendor, or hand it in if it never got there."""
        rows = self._journal.list_batch_rows(batch.id)
        self.progress.waiting += len(rows)
        for _, messages in rows.values():
            self._hold(messages)
        if batch.name is not None or not rows:
            return
        sample = await self._model.write(next(iter(rows.values()))[1])
        vendor = self._open(sample)
        name = await vendor.find(batch.id, [f"{batch.id}-{number}" for number in rows])
        if name is None:
            requests = [(number, await self._model.write(messages)) for number, (_, messages) in rows.items()]
            name = await vendor.submit(batch.id, [_make_row(batch.id, *request) for request in requests])
        self._journal.name_batch(batch.id, name)

    async def _hand_in(self) -> None:
        """Put all rows that are not answered, and not in a batch, into batches."""
        rows: list[tuple[JobRow, HttpRequest]] = []
        size = 0
        seen: set[bytes] = set()
        for job_row in self._rows.read(self._journal):
            if job_row.answer is not None or job_row.key in seen or self._journal.has_batch_row(job_row.key):
                continue
            if self._stopped.is_set():
                return
            try:
                request = await self._model.write(job_row.messages)
            except InvalidRequest:
                continue  # why it cannot be sent is said when it is asked live
            length = sum(map(len, request.body))
            if rows and (len(rows) >= MAX_ROWS or size + length > _MAX_BYTES):
                await self._submit(rows)
                rows, size, seen = [], 0, set()
            budget = self.budget
            if budget is not None and not budget.has_room(budget.estimate(job_row.messages, PRICE_FACTOR)):
                break
            self._hold(job_row.messages)
            rows.append((job_row, request))
            seen.add(job_row.key)
            size += length
        if rows:
            await self._submit(rows)

    def _hold(self, messages: Any) -> None:
        if self.budget is not None:
            self.budget.hold(self.budget.estimate(messages, PRICE_FACTOR))

    async def _submit(self, rows: list[tuple[JobRow, HttpRequest]]) -> None:
        batch = StoredBatch(f"modelhub-{os.urandom(8).hex()}", self._name, self._clock.wall())
        self._journal.add_batch(batch, [(job_row.key, job_row.messages) for job_row, _ in rows])
        self.progress.waiting += len(rows)
        requests = [_make_row(batch.id, number, request) for number, (_, request) in enumerate(rows)]
        self._journal.name_batch(batch.id, await self._open(rows[0][1]).submit(batch.id, requests))

    def _open(self, sample: HttpRequest) -> VendorBatches:
        if self._vendor is None:
            self._vendor = self._model.open_batches(sample)
        return self._vendor

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _collect(self) -> None:
        """Wait until all batches have ended, and take their answers."""
        wait, failures, cancelled = _MIN_POLL, 0, set[str]()
        while (batches := self._journal.list_batches()) and not self._stopped.is_set():
            try:
                for batch in batches:
                    await self._look_at(batch, cancelled)
                failures = 0
            except CallError as error:  # a poll that fails says nothing of the batch
                failures += 1
                if failures >= _MAX_FAILURES:
                    raise
                _log.warning("polling the batches of `%s` failed: %s", self._name, error)
            if self._journal.list_batches():
                await self._sleep(wait)
                wait = min(_MAX_POLL, wait * 1.5)

    async def _sleep(self, seconds: float) -> None:
        """Wait, unless the job is stopped before."""
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        stopping = asyncio.ensure_future(self._stopped.wait())
        await asyncio.wait({sleeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (sleeping, stopping):
            task.cancel()

    async def _look_at(self, batch: StoredBatch, cancelled: set[str]) -> None:
        """Take the answers of *batch* if it has ended; have it cancelled if its time is over."""
        if batch.name is None:
            return
        if self._vendor is None and (rows := self._journal.list_batch_rows(batch.id)):
            self._open(await self._model.write(next(iter(rows.values()))[1]))
        vendor = self._vendor  # None if no row of the batch is left
        state = BatchState(True, "answered") if vendor is None else await vendor.poll(batch.name)
        if state.failure is not None:
            self._journal.remove_batch(batch.id)  # so that the next run hands its rows in again
            raise JobError(f"`{self._name}`: the vendor has refused a batch: {state.failure}")
        if vendor is None or state.has_ended:
            await self._take_results(batch, vendor)
        elif batch.id not in cancelled and self._clock.wall() - batch.begun > self._window:
            cancelled.add(batch.id)
            await vendor.cancel(batch.name)

    async def _take_results(self, batch: StoredBatch, vendor: VendorBatches | None) -> None:
        rows = self._journal.list_batch_rows(batch.id)
        answers: list[tuple[bytes, Answer]] = []
        if vendor is not None and batch.name is not None:
            async for response in vendor.results(batch.name):
                batch_id, _, number = response.row_id.rpartition("-")
                row = rows.get(int(number)) if batch_id == batch.id and number.isdecimal() else None
                if row is None or response.body is None:
                    continue
                key, messages = row
                try:
                    reply = await self._model.read(messages, response.body)
                except CallError as error:  # the row is asked live
                    _log.info("an answer of a batch of `%s` cannot be used: %s", self._name, error)
                    continue
                answer = make_answer(RowResult(0, None, reply), has_output=self._has_output)
                answers.append((key, answer))
                self._settle(messages, answer.cost)
                if len(answers) >= _RECORDED_ROWS:
                    self._record(answers)
        self._record(answers)
        unanswered = self._journal.list_batch_rows(batch.id)
        for _, messages in unanswered.values():
            self._settle(messages, Decimal(0))
        self.progress.unanswered += len(unanswered)
        self.progress.waiting -= len(unanswered)
        self._journal.remove_batch(batch.id)

    def _settle(self, messages: Any, cost: Decimal | None) -> None:
        if self.budget is not None:
            self.budget.settle(self.budget.estimate(messages, PRICE_FACTOR), cost)

    def _record(self, answers: list[tuple[bytes, Answer]]) -> None:
        self._journal.add(answers, replace=True, of_batch=True)
        self.progress.answered += len(answers)
        self.progress.waiting -= len(answers)
        answers.clear()


def _make_row(batch_id: str, number: int, request: HttpRequest) -> BatchRow:
    return BatchRow(f"{batch_id}-{number}", json.loads(b"".join(request.body)))
