"""The ledger: a database with every finished call, written in batches by a background thread.

If the process is killed, at most the last batch is lost: a call that ends while a whole batch is unwritten waits a few
milliseconds for the writer. With a batch of 1, or no delay, each call is written before it returns, unless another
process has locked the file, or a database over the network takes longer than 0.1 s: then the writer thread waits, and
the call does not. No call ever speaks to a database over the network itself.

A ledger that cannot be written never fails or delays a call: its records are kept in memory, writing is retried, and
`health` shows the error. Beyond 100,000 records, the oldest are dropped, counted as lost, and that is logged. A file
that was deleted or moved away is created again.

Calls put their events into a deque, whose ends are atomic; whoever holds the lock `_file` writes what is in it. The
writer thread waits for a bare lock to be released, because `threading.Event` is a greenlet's where gevent has replaced
`threading`. `retire` may be called by a finalizer, so it waits for no lock.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from uuid import uuid4

from modelhub.accounting.database import LedgerDatabase
from modelhub.accounting.health import Health
from modelhub.accounting.ledger_location import LedgerError
from modelhub.accounting.record import UsageRecord
from modelhub.accounting.record_writer import RecordWriter
from modelhub.core.events import CallEnded
from modelhub.core.process import ExitStage, fork_count, register_at_exit, register_at_fork
from modelhub.core.threads import DaemonThread, new_lock, sleep

__all__ = ["Ledger"]

_log = logging.getLogger("modelhub")
MAX_PENDING = 100_000  # records to keep in memory while the file cannot be written
BACKPRESSURE = 0.005  # the longest time in seconds that a call waits for the writer
WRITER_TIMEOUT = 5.0  # seconds to wait for another process's lock, in the writer thread
CALL_TIMEOUT = 0.002  # the same, where a call waits
EXIT_TIMEOUT = 1.0  # the same, when the process exits
SYNCHRONOUS_WAIT = 0.1  # the longest time that a call waits for a database over the network, with a batch of 1
STALL_TIME = 0.05  # a database over the network that takes longer for a batch is not waited for
MAX_PAUSE = 30.0  # seconds between two attempts to write


class Ledger:
    """Writes finished calls to the ledger in *database*, which is opened with the first one.

    *batch* and *max_delay* (seconds) are those of `usage:`; *record* makes a record of an event. Safe to use from
    several threads, and by several processes on one file. It is flushed by `close` and when the process exits normally,
    also as a worker of multiprocessing or Celery; not by `os._exit` and signals.
    """

    def __init__(
        self,
        database: LedgerDatabase,
        batch: int = 50,
        max_delay: float = 1.0,
        record: Callable[[CallEnded], UsageRecord] = UsageRecord.from_event,
    ) -> None:
        self.database = database
        self._delay = max_delay
        self._synchronous = batch <= 1 or max_delay == 0
        self._max_unwritten = 1 if self._synchronous else batch  # with this many records, a call waits for the writer
        self._batch_start = max(1, batch // 2)  # this many records make the writer start
        self.make_record = record
        self._closed = False
        self._inherited: list[RecordWriter | None] = []
        self._reset()
        register_at_fork(self)
        self._register_at_exit()

    def _reset(self) -> None:
        self._signature = uuid4().hex[:12]
        self._queue: deque[CallEnded] = deque()
        self._writing = self._written = self._lost = self._dropped = 0
        self._write_start: float | None = None  # when the batch was begun that is being written
        self._wakeup = new_lock()
        self._wakeup.acquire()
        self._wakeup_pending = False  # whether the writer was notified already
        self._is_urgent = False
        self._thread: DaemonThread | None = None
        self._starting = new_lock()
        self._file = new_lock()  # held while writing
        self._record_writer: RecordWriter | None = None
        self._is_locked = False  # by another process, at the last attempt to write
        self._error: str | None = None

    def _register_at_exit(self) -> None:
        self._registered_in = fork_count()
        register_at_exit(self, ExitStage.LEDGER)

    def reset_after_fork(self) -> None:
        """Drop the parent's thread, file and unwritten calls in a forked child."""
        self._inherited.append(self._record_writer)  # neither used nor closed here
        self._reset()

    @property
    def health(self) -> Health:
        """The current state."""
        return Health(
            ok=self._error is None,
            path=str(self.database.location),
            written=self._written,
            pending=self._unwritten(),
            lost=self._lost,
            error=self._error,
        )

    def signature(self) -> str:
        """Return the value that marks this ledger's own rows in the file."""
        return self._signature

    def continue_from(self, other: Ledger) -> None:
        """Write rows as those of *other*, a ledger of this process with the same file, which this one replaces."""
        self._signature = other._signature

    def put(self, event: CallEnded) -> None:
        """Add the finished call of *event*. Never raises."""
        if self._registered_in != fork_count():
            self._register_at_exit()
        self._queue.append(event)
        if len(self._queue) > MAX_PENDING:
            self._drop_oldest()
        if (self._synchronous or self._closed) and not (self._error or self._is_locked or self.database.is_remote):
            self._write(CALL_TIMEOUT)
            if not self._queue:
                return
        self._start_or_wake_writer()
        if self._unwritten() >= self._max_unwritten:
            self._apply_backpressure()

    def flush(self, timeout: float = 10.0) -> None:
        """Write all pending calls; waits at most *timeout* seconds, and not at all while the file cannot be written."""
        deadline = time.monotonic() + timeout
        while self._unwritten() and self._error is None and time.monotonic() < deadline:
            self._is_urgent = True
            self._start_or_wake_writer()
            self._notify()
            sleep(0.001)

    def retire(self) -> None:
        """Have the writer write all pending calls and close the file: the ledger is no longer used."""
        self._closed = True
        if self._queue or self._record_writer is not None:
            self._start_or_wake_writer()
        self._notify()

    def close(self, timeout: float = 5.0) -> None:
        """Write all pending calls and close the file; waits at most *timeout* seconds.

        Calls that are added later are written at once.
        """
        self._closed = True
        self._notify()
        # A database over the network that has just failed would only take more time.
        if (self._thread is None or self._thread.join(timeout)) and not (self._error and self.database.is_remote):
            self._write(EXIT_TIMEOUT)
        if count := self._unwritten():
            reason = self._error or "there is no answer yet"
            _log.error("%d calls could not be written to the ledger %s: %s", count, self.database.location, reason)

    def close_at_exit(self) -> None:
        """Write all pending calls when the process exits; calls that end even later are written at once."""
        if not self._closed or self._unwritten():
            self.close()

    # -- the caller's side -----------------------------------------------------------------------------------------

    def _start_or_wake_writer(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._start()
        if not self._wakeup_pending:
            self._wakeup_pending = True
            self._notify()
        elif self._unwritten() >= self._batch_start:
            self._notify()

    def _unwritten(self) -> int:
        return len(self._queue) + self._writing

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is released already
            self._wakeup.release()

    def _start(self) -> None:
        if not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None or not self._thread.is_alive():
                self._wakeup_pending = False
                self._thread = DaemonThread(self._run, "modelhub-ledger")
        except RuntimeError:  # the interpreter is shutting down: the calls are written by `close_at_exit`, or here
            self._thread = None
            if self._closed:
                self._write(EXIT_TIMEOUT)
        finally:
            self._starting.release()

    def _apply_backpressure(self) -> None:
        """Wait briefly for the writer, unless the ledger is locked, stalled or cannot be written."""
        is_remote, is_synchronous = self.database.is_remote, self._synchronous
        deadline = time.monotonic() + (SYNCHRONOUS_WAIT if is_synchronous and is_remote else BACKPRESSURE)
        stall_time = SYNCHRONOUS_WAIT if is_synchronous else STALL_TIME
        while self._unwritten() >= self._max_unwritten and time.monotonic() < deadline:
            start = self._write_start
            is_stalled = is_remote and start is not None and time.monotonic() - start > stall_time
            if self._error or self._is_locked or is_stalled:
                return
            sleep(0.0005)

    def _drop_oldest(self) -> None:
        with contextlib.suppress(IndexError):
            self._queue.popleft()
            self._lost += 1
            self._dropped += 1

    # -- the writer's side -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while not self._closed:
            if self._error is None:
                self._wakeup.acquire()
                self._wait_for_batch()
            else:
                pause = min(MAX_PAUSE, 2 * pause or 0.25)
                self._pause(pause * random.uniform(0.75, 1))  # several processes do not come back at once
            self._write_with_timeout()
            pause = pause if self._error is not None else 0.0
        self._write_with_timeout()

    def _wait_for_batch(self) -> None:
        """Wait, after the first record, until there is half a batch or the delay is over."""
        deadline = time.monotonic() + self._delay
        while len(self._queue) < self._batch_start and not self._is_urgent and not self._closed:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not self._wakeup.acquire(timeout=remaining):
                break
        self._wakeup_pending = self._is_urgent = False

    def _pause(self, pause: float) -> None:
        deadline = time.monotonic() + pause
        while not self._closed and time.monotonic() < deadline:
            sleep(0.05)

    def _write_with_timeout(self) -> None:
        if not self.database.is_remote:
            self._write(CALL_TIMEOUT)
        if self._is_locked or self.database.is_remote:  # calls do not wait for the lock
            self._write(WRITER_TIMEOUT)

    def _write(self, timeout: float) -> None:
        """Write the queue; waits *timeout* seconds for other writers, and then leaves the rest in the queue."""
        if not self._file.acquire(timeout=timeout):
            return
        try:
            while self._queue and self._write_batch(timeout):
                pass
            if self._closed and not self._queue:
                self._close_record_writer()
        finally:
            self._file.release()

    def _write_batch(self, timeout: float) -> bool:
        """Write up to 1000 records; return whether they were written."""
        self._writing = min(len(self._queue), 1000)
        events = [self._queue.popleft() for _ in range(self._writing)]
        self._write_start = time.monotonic()
        unwritten = [events]
        try:
            while unwritten:
                unwritten[:1] = self._write_or_divide(unwritten[0], timeout)
                self._writing = sum(map(len, unwritten))
        except LedgerError as error:
            self._queue.extendleft(event for part in reversed(unwritten) for event in reversed(part))
            while len(self._queue) > MAX_PENDING:
                self._drop_oldest()
            self._is_locked = error.locked
            if not self._is_locked or timeout > CALL_TIMEOUT:
                self._close_record_writer()
                previous, self._error = self._error, str(error)
                if previous != self._error:
                    location = self.database.location
                    _log.error("the ledger %s cannot be written, and is retried: %s", location, self._error)
                self._report_dropped()
            return False
        finally:
            self._writing, self._write_start = 0, None
        self._is_locked = False
        if self._error is not None:
            self._error = None
            _log.warning("the ledger %s can be written again", self.database.location)
            self._report_dropped()
        return True

    def _write_or_divide(self, events: list[CallEnded], timeout: float) -> list[list[CallEnded]]:
        """Write *events*. Returns what remains: nothing, or two halves if one of them cannot be recorded."""
        try:
            self._store_records([self.make_record(event) for event in events], timeout)
        except LedgerError:
            raise
        except Exception:
            if len(events) > 1:
                middle = len(events) // 2
                return [events[:middle], events[middle:]]
            self._lost += 1
            _log.exception("a call could not be recorded")
        else:
            self._written += len(events)
        return []

    def _store_records(self, records: list[UsageRecord], timeout: float) -> None:
        """Write *records*. Raises LedgerError, and what the ledger cannot store as another exception."""
        if self._record_writer is not None and not self._record_writer.is_current():
            self._close_record_writer()  # the file was deleted or moved away
        if self._record_writer is not None:
            try:
                self._record_writer.add(records, self._signature, timeout)
            except LedgerError as error:
                if not error.disconnected:
                    raise
                self._close_record_writer()  # perhaps long ago: with a new connection, they are written at once
            else:
                return
        self._record_writer = RecordWriter(self.database, timeout)
        self._record_writer.add(records, self._signature, timeout)

    def _report_dropped(self) -> None:
        """Log how many calls were dropped since this was logged last."""
        count, self._dropped = self._dropped, 0
        if count:
            message = "%d calls are lost: more than %d could not be written to the ledger %s"
            _log.error(message, count, MAX_PENDING, self.database.location)

    def _close_record_writer(self) -> None:
        record_writer, self._record_writer = self._record_writer, None
        if record_writer is not None:
            with contextlib.suppress(LedgerError):
                record_writer.close()
