"""The ledger: every settled call, written to a file by a thread of its own, in batches.

What may be lost when the process is killed is at most the last batch: a call that finishes while a whole batch is
unwritten waits, shortly, for the writer. With a batch of 1, or no delay, each call is written before it returns.

A ledger that cannot be written never fails a call, and never holds one up: its records are kept in memory, the writing
is tried again, and `health` tells of it.

A call may be settled by the garbage collector, also in the midst of the code below. So `put` takes no lock that its
own thread may hold: a queue whose ends are atomic, and a bell, which is a bare lock that anybody may release.
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
from modelhub.accounting.store import Store
from modelhub.events import CallSettled
from modelhub.process import register_at_fork

__all__ = ["Ledger"]

_log = logging.getLogger("modelhub")
_MOST_KEPT = 100_000  # records in memory while the file cannot be written
_HOLD_UP = 0.1  # seconds that a call waits for the writer at most
_PATIENCE = 5.0  # seconds for a lock of another process, in the writer's thread
_IMPATIENCE = 1.0  # the same where a call waits
_LONGEST_PAUSE = 30.0  # between two tries


class Ledger:
    """Writes calls to the file at *path*; nothing is opened before the first one.

    *batch* and *max_delay* (seconds) are those of the file; *record* makes a record of an event. Safe to
    use from several threads, and by several processes on one file. Flushed by `close`, and at exit.
    """

    def __init__(
        self,
        path: Path,
        batch: int = 50,
        max_delay: float = 1.0,
        record: Callable[[CallSettled], UsageRecord] = UsageRecord.of,
    ) -> None:
        self.path = path
        self._signature = uuid4().hex[:12]
        self._batch = batch
        self._delay = max_delay
        self._direct = batch <= 1 or max_delay == 0
        self._enough = max(1, batch // 2)  # to begin to write
        self._record = record
        self._queue: deque[CallSettled] = deque()
        self._writing = 0
        self._bell = threading.Lock()
        self._bell.acquire()
        self._rung = False  # whether the writer knows that there is something
        self._hurry = False
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._file = threading.Lock()  # who holds it writes
        self._writer = 0  # the thread that does
        self._store: Store | None = None
        self._closed = False
        self._written = 0
        self._lost = 0
        self._error: str | None = None
        register_at_fork(self)

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

    def put(self, event: CallSettled) -> None:
        """Take the settled call *event*. Never raises."""
        self._queue.append(event)
        if len(self._queue) > _MOST_KEPT:
            self._drop_oldest()
        if self._closed or (self._direct and self._error is None):
            self._write(_IMPATIENCE)
            if self._closed or self._error is None:
                return
        self._call_writer()
        if self._error is None and self._unwritten() >= self._batch:
            self._hold_up()

    def flush(self, timeout: float = 10.0) -> None:
        """Write what is there, waiting at most *timeout* seconds; a file that cannot be written is not waited for."""
        ends = time.monotonic() + timeout
        while self._unwritten() and self._error is None and time.monotonic() < ends:
            self._hurry = True
            self._call_writer()
            self._ring()
            time.sleep(0.001)

    def close(self, timeout: float = 5.0) -> None:
        """Write what is there and close the file, waiting at most *timeout* seconds.

        What comes later is written at once.
        """
        self._closed = True
        self._ring()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        self._write(_IMPATIENCE)
        if self._queue:
            _log.error("%d calls could not be written to the ledger %s: %s", len(self._queue), self.path, self._error)

    # -- the caller's side -----------------------------------------------------------------------------------------

    def _call_writer(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._start()
        if not self._rung:
            self._rung = True
            self._ring()
        elif self._unwritten() >= self._enough:
            self._ring()

    def _unwritten(self) -> int:
        return len(self._queue) + self._writing

    def _ring(self) -> None:
        with contextlib.suppress(RuntimeError):  # it rings already
            self._bell.release()

    def _start(self) -> None:
        if self._closed or not self._starting.acquire(blocking=False):
            return
        try:
            if self._thread is None or not self._thread.is_alive():
                self._rung = False
                self._thread = threading.Thread(target=self._run, name="modelhub-ledger", daemon=True)
                self._thread.start()
        except RuntimeError:  # the interpreter is ending: `close`, which runs at exit, writes the rest
            self._thread = None
        finally:
            self._starting.release()

    def _hold_up(self) -> None:
        ends = time.monotonic() + _HOLD_UP
        while self._unwritten() >= self._batch and self._error is None and time.monotonic() < ends:
            time.sleep(0.0005)

    def _drop_oldest(self) -> None:
        with contextlib.suppress(IndexError):
            self._queue.popleft()
            self._lost += 1

    # -- the writer's side -----------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = 0.0
        while not self._closed:
            if self._error is None:
                self._bell.acquire()
                self._gather()
            else:
                pause = min(_LONGEST_PAUSE, 2 * pause or 0.25)
                self._rest(pause)
            self._write(_PATIENCE)
            pause = pause if self._error is not None else 0.0

    def _gather(self) -> None:
        """Wait, after the first record, for half a batch or for the delay to be over."""
        ends = time.monotonic() + self._delay
        while len(self._queue) < self._enough and not self._hurry and not self._closed:
            left = ends - time.monotonic()
            if left <= 0 or not self._bell.acquire(timeout=left):
                break
        self._rung = self._hurry = False

    def _rest(self, pause: float) -> None:
        ends = time.monotonic() + pause
        while not self._closed and time.monotonic() < ends:
            time.sleep(0.05)

    def _write(self, patience: float) -> None:
        """Write all there is; what cannot be written stays in the queue."""
        me = threading.get_ident()
        if self._writer == me:
            return  # called by the garbage collector in the midst of writing: the loop below goes on
        with self._file:
            self._writer = me
            try:
                while self._queue and self._write_batch(patience):
                    pass
                if self._closed:
                    self._let_go()
            finally:
                self._writer = 0

    def _write_batch(self, patience: float) -> bool:
        self._writing = count = min(len(self._queue), 1000)
        events = [self._queue.popleft() for _ in range(count)]
        try:
            records = [self._record(event) for event in events]
            if self._store is None:
                self._store = Store(self.path, patience)
            self._store.add(records, self._signature)
        except (sqlite3.Error, OSError) as error:
            self._queue.extendleft(reversed(events))
            self._failed(error)
            return False
        except Exception:
            self._lost += count
            _log.exception("%d calls could not be recorded", count)
        else:
            self._written += count
            self._well()
        finally:
            self._writing = 0
        return True

    def _failed(self, error: Exception) -> None:
        self._let_go()
        told, self._error = self._error, f"{type(error).__name__}: {error}"
        if told != self._error:
            _log.error("the ledger %s cannot be written, and is tried again: %s", self.path, self._error)

    def _well(self) -> None:
        if self._error is not None:
            self._error = None
            _log.warning("the ledger %s can be written again", self.path)

    def _let_go(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.close()

    def reset_after_fork(self) -> None:
        """Forget in a forked child the thread, the file and what is unwritten: they are the parent's."""
        self._signature = uuid4().hex[:12]
        self._inherited = self._store  # neither used nor closed here
        self._store, self._thread, self._writer, self._writing = None, None, 0, 0
        self._queue.clear()
        self._file, self._starting, self._bell = threading.Lock(), threading.Lock(), threading.Lock()
        self._bell.acquire()
