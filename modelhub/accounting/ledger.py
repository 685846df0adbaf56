"""The ledger: every settled call, written to a file by a thread of its own, in batches.

What may be lost when the process is killed is at most the last batch: a call that finishes while a whole batch is
unwritten waits, for some milliseconds, for the writer. With a batch of 1, or no delay, each call is written before it
returns, unless somebody else has locked the file: then the writer's thread waits for the lock, and the call does not.

A ledger that cannot be written never fails a call, and never holds one up: its records are kept in memory, the writing
is tried again, and `health` says so. A file that was deleted or moved away is made again.

A call may be settled by the garbage collector, also in the middle of the code below. So `put` takes no lock that its
own thread may hold: a queue whose ends are atomic, and a wake-up, which is a bare lock that anybody may release.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from modelhub.accounting.health import Health
from modelhub.accounting.record import UsageRecord
from modelhub.accounting.store import Store, is_locked
from modelhub.core.events import CallEnded
from modelhub.core.process import ExitStage, fork_count, register_at_exit, register_at_fork
from modelhub.core.threads import DaemonThread, new_lock, sleep

__all__ = ["Ledger"]

_log = logging.getLogger("modelhub")
MAX_PENDING = 100_000  # records in memory while the file cannot be written
BACKPRESSURE = 0.005  # seconds that a call waits for the writer at most
WRITER_TIMEOUT = 5.0  # seconds for a lock of another process, in the writer's thread
CALL_TIMEOUT = 0.002  # the same where a call waits
EXIT_TIMEOUT = 1.0  # the same where nothing comes afterwards
MAX_PAUSE = 30.0  # seconds between two tries


class Ledger:
    """Writes calls to the file at *path*; nothing is opened before the first one.

    *batch* and *max_delay* (seconds) are those of the file; *record* makes a record of an event. Safe to use from
    several threads, and by several processes on one file. Flushed by `close`, and when the process ends in good order,
    also as a worker of multiprocessing or Celery; `os._exit` and signals skip that.
    """

    def __init__(
        self,
        path: Path,
        batch: int = 50,
        max_delay: float = 1.0,
        record: Callable[[CallEnded], UsageRecord] = UsageRecord.of,
    ) -> None:
        self.path = path
        self._batch = batch
        self._delay = max_delay
        self._synchronous = batch <= 1 or max_delay == 0
        self._early = max(1, batch // 2)  # so many records begin a batch
        self._record = record
        self._closed = False
        self._inherited: list[Store | None] = []
        self._reset()
        register_at_fork(self)
        self._register_at_exit()

    def _reset(self) -> None:
        self._signature = uuid4().hex[:12]
        self._queue: deque[CallEnded] = deque()
        self._writing = self._written = self._lost = 0
        self._wakeup = new_lock()
        self._wakeup.acquire()
        self._wakeup_pending = False  # whether the writer knows that there is something
        self._is_urgent = False
        self._thread: DaemonThread | None = None
        self._starting = new_lock()
        self._file = new_lock()  # who holds it writes
        self._writer = 0  # the thread that does
        self._store: Store | None = None
        self._is_locked = False  # by somebody else, when it was to be written last
        self._error: str | None = None

    def _register_at_exit(self) -> None:
        self._registered_in = fork_count()
        register_at_exit(self, ExitStage.LEDGER)

    def reset_after_fork(self) -> None:
        """Forget in a forked child the thread, the file and what is unwritten: they are the parent's."""
        self._inherited.append(self._store)  # neither used nor closed here
        self._reset()

    @property
    def health(self) -> Health:
        """How it is, at this moment."""
        return Health(
            ok=self._error is None,
            path=str(self.path),
            written=self._written,
            pending=self._unwritten(),
            lost=self._lost,
            error=self._error,
        )

    def signature(self) -> str:
        """What its calls are signed with in the file, to tell them from those of others."""
        return self._signature

    def put(self, event: CallEnded) -> None:
        """Take the settled call *event*. Never raises."""
        if self._registered_in != fork_count():
            self._register_at_exit()
        self._queue.append(event)
        if len(self._queue) > MAX_PENDING:
            self._drop_oldest()
        if (self._synchronous or self._closed) and not (self._error or self._is_locked):
            self._write(CALL_TIMEOUT)
            if not self._queue:
                return
        self._start_or_wake_writer()
        if self._unwritten() >= self._batch:
            self._apply_backpressure()

    def flush(self, timeout: float = 10.0) -> None:
        """Write what is there, waiting at most *timeout* seconds; a file that cannot be written is not waited for."""
        ends = time.monotonic() + timeout
        while self._unwritten() and self._error is None and time.monotonic() < ends:
            self._is_urgent = True
            self._start_or_wake_writer()
            self._notify()
            sleep(0.001)

    def retire(self) -> None:
        """Write what is there and close the file, without waiting for it: nobody uses the ledger any more."""
        self._closed = True
        if self._unwritten():
            self._start_or_wake_writer()
        elif self._thread is None:
            self._write(CALL_TIMEOUT)
        self._notify()

    def close(self, timeout: float = 5.0) -> None:
        """Write what is there and close the file, waiting at most *timeout* seconds.

        What comes later is written at once.
        """
        self._closed = True
        self._notify()
        if self._thread is None or self._thread.join(timeout):
            self._write(EXIT_TIMEOUT)
        if self._queue:
            _log.error("%d calls could not be written to the ledger %s: %s", len(self._queue), self.path, self._error)

    def close_at_exit(self) -> None:
        """Write what is there when the process ends; what is settled even later is written at once."""
        if not self._closed or self._unwritten():
            self.close()

    # -- the caller's side -----------------------------------------------------------------------------------------

    def _start_or_wake_writer(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._start()
        if not self._wakeup_pending:
            self._wakeup_pending = True
            self._notify()
        elif self._unwritten() >= self._early:
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
        except RuntimeError:  # the interpreter is ending: the rest is written when the process is closed, or here
            self._thread = None
            if self._closed:
                self._write(EXIT_TIMEOUT)
        finally:
            self._starting.release()

    def _apply_backpressure(self) -> None:
        """Wait shortly for the writer, unless a lock, or a file that cannot be written, holds it up as well."""
        ends = time.monotonic() + BACKPRESSURE
        while self._unwritten() >= self._batch and not (self._error or self._is_locked) and time.monotonic() < ends:
            sleep(0.0005)

    def _drop_oldest(self) -> None:
        with contextlib.suppress(IndexError):
            self._queue.popleft()
            self._lost += 1

    # -- the writer's side -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while not self._closed:
            if self._error is None:
                self._wakeup.acquire()
                self._gather()
            else:
                pause = min(MAX_PAUSE, 2 * pause or 0.25)
                self._rest(pause)
            self._write_patiently()
            pause = pause if self._error is not None else 0.0
        self._write_patiently()

    def _gather(self) -> None:
        """Wait, after the first record, for half a batch or for the delay to be over."""
        ends = time.monotonic() + self._delay
        while len(self._queue) < self._early and not self._is_urgent and not self._closed:
            remaining = ends - time.monotonic()
            if remaining <= 0 or not self._wakeup.acquire(timeout=remaining):
                break
        self._wakeup_pending = self._is_urgent = False

    def _rest(self, pause: float) -> None:
        ends = time.monotonic() + pause
        while not self._closed and time.monotonic() < ends:
            sleep(0.05)

    def _write_patiently(self) -> None:
        self._write(CALL_TIMEOUT)
        if self._is_locked:  # calls know by now, and do not wait with us
            self._write(WRITER_TIMEOUT)

    def _write(self, timeout: float) -> None:
        """Write all there is, waiting *timeout* seconds for whoever else writes; the rest stays in the queue."""
        this_thread = threading.get_ident()
        if self._writer == this_thread:
            return  # called by the garbage collector in the middle of writing: the loop below goes on
        if not self._file.acquire(timeout=timeout):
            return
        self._writer = this_thread
        try:
            while self._queue and self._write_batch(timeout):
                pass
            if self._closed and not self._queue:
                self._close_store()
        finally:
            self._writer = 0
            self._file.release()

    def _write_batch(self, timeout: float) -> bool:
        """Write up to 1000 records; return whether that went well."""
        self._writing = count = min(len(self._queue), 1000)
        events = [self._queue.popleft() for _ in range(count)]
        try:
            self._store_records([self._record(event) for event in events], timeout)
        except (sqlite3.Error, OSError) as error:
            self._queue.extendleft(reversed(events))
            self._is_locked = is_locked(error)
            if not self._is_locked or timeout > CALL_TIMEOUT:
                self._mark_failed(error)
            return False
        except Exception:
            self._lost += count
            _log.exception("%d calls could not be recorded", count)
        else:
            self._written += count
            self._mark_healthy()
        finally:
            self._writing = 0
        return True

    def _store_records(self, records: list[UsageRecord], timeout: float) -> None:
        if self._store is not None and not self._store.is_current():
            self._close_store()  # the file was deleted or moved away
        if self._store is None:
            self._store = Store(self.path, timeout)
        self._store.add(records, self._signature, timeout)

    def _mark_failed(self, error: Exception) -> None:
        self._close_store()
        previous, self._error = self._error, f"{type(error).__name__}: {error}"
        if previous != self._error:
            _log.error("the ledger %s cannot be written, and is tried again: %s", self.path, self._error)

    def _mark_healthy(self) -> None:
        self._is_locked = False
        if self._error is not None:
            self._error = None
            _log.warning("the ledger %s can be written again", self.path)

    def _close_store(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.close()
