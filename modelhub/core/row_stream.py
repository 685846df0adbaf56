"""Many calls at once, a bounded number of them under way: what `model.map(rows)` gives.

A task reads the rows, starts a task for each, and waits when `concurrency` calls are under way, or as many results are
waiting to be taken: nothing is read that is not needed. What the tasks share, `_MapRun`, knows nothing of the
`RowStream` that is iterated, so that a stream which is dropped in the midst of an iteration can cancel them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, Self

from modelhub.core.errors import CallError
from modelhub.core.process import fork_count
from modelhub.core.response import ChatResponse, OutputT
from modelhub.core.row_result import MapProgress, RowResult
from modelhub.core.sync import run_sync

__all__ = ["RowStream", "SyncRowStream"]

Ask = Callable[[Any], Awaitable[ChatResponse[Any]]]
Rows = Iterable[Any] | AsyncIterable[Any]

_ORDERED_WINDOW = 4
"""How many times `concurrency` rows an ordered stream may hold, so that a slow row does not stop all others at once."""


class _MapRun:
    """The rows that are under way, and the results that nobody has taken yet."""

    def __init__(self, ask: Ask, rows: Rows, progress: MapProgress, concurrency: int, ordered: bool) -> None:
        self.ask = ask
        self.rows = rows
        self.progress = progress
        self.concurrency = concurrency
        self.max_held = concurrency * (_ORDERED_WINDOW if ordered else 1)
        self.held = 0  # rows that are under way, or whose result was not taken
        self.ready: deque[RowResult[Any]] = deque()
        self.ordered = ordered
        self.early: dict[int, RowResult[Any]] = {}  # results that come after one that is not there yet
        self.next_index = 0
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.reader: asyncio.Task[None] | None = None
        self.is_stopped = self.is_read = self.is_cancelled = False
        self.error: Exception | None = None
        self.changed = asyncio.Event()  # for who takes results
        self.has_slot = asyncio.Event()  # for who reads rows
        self.loop: asyncio.AbstractEventLoop | None = None
        self.forks = 0

    async def _read_rows(self) -> None:
        try:
            if isinstance(self.rows, AsyncIterable):
                async for row in self.rows:
                    if self._start_row(row) and not await self._wait_for_slot():
                        break
            else:
                for row in self.rows:
                    if self._start_row(row) and not await self._wait_for_slot():
                        break
        except Exception as error:  # of the caller's rows: it ends the iteration
            self.error = self.error or error

    def _end_reading(self, _: Any) -> None:
        self.is_read = True
        self.changed.set()

    def _start_row(self, row: Any) -> bool:
        """Ask for *row*; return whether to wait before the next one is read."""
        index = self.progress.read
        self.progress.read += 1
        self.held += 1
        self.tasks[index] = asyncio.create_task(self._ask_row(index, row))
        return self.is_stopped or self.held >= self.max_held or len(self.tasks) >= self.concurrency

    async def _wait_for_slot(self) -> bool:
        """Wait until there is place for another row; return whether to read it."""
        while self.held >= self.max_held or len(self.tasks) >= self.concurrency:
            self.has_slot.clear()
            await self.has_slot.wait()
        return not self.is_stopped

    async def _ask_row(self, index: int, row: Any) -> None:
        try:
            try:
                result = RowResult(index, row, await self.ask(row))
            except CallError as error:
                result = RowResult(index, row, error=error)
            self._finish_row(result)
        except asyncio.CancelledError:
            if not self.is_cancelled:
                self._fail(RuntimeError(f"the task of row {index} was cancelled by somebody else"))
            raise
        except Exception as error:  # not of this row, such as a closed hub: it ends the iteration
            self._fail(error)
        finally:
            self.tasks.pop(index, None)
            self.changed.set()
            self.has_slot.set()

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.stop()

    def _finish_row(self, result: RowResult[Any]) -> None:
        self.progress.count(result)
        if not self.ordered:
            self.ready.append(result)
            return
        self.early[result.index] = result
        while self.next_index in self.early:
            self.ready.append(self.early.pop(self.next_index))
            self.next_index += 1

    async def wait_ready(self) -> bool:
        """Wait for a result, first of all reading rows on the running loop; return False after the last one.

        Raises what ended the iteration.
        """
        if self.reader is None and not self.is_stopped:
            self.progress.start()
            self.loop, self.forks = asyncio.get_running_loop(), fork_count()
            self.reader = self.loop.create_task(self._read_rows())
            self.reader.add_done_callback(self._end_reading)
        while not self.ready:
            if self.is_read and not self.tasks:
                if self.error is not None:
                    raise self.error
                return False
            self.changed.clear()
            await self.changed.wait()
        return True

    def stop(self) -> None:
        """Read no more rows."""
        self.is_stopped = True
        if self.reader is None:
            self.is_read = True
        else:
            self.reader.cancel()

    def cancel(self) -> list[asyncio.Task[Any]]:
        """Cancel everything that is under way; return the tasks, which end soon."""
        self.is_cancelled = True
        self.stop()
        self.ready.clear()
        tasks = list(self.tasks.values())
        self.tasks.clear()  # a task that never began does not remove itself
        for task in tasks:
            task.cancel()
        return tasks if self.reader is None else [*tasks, self.reader]


class RowStream(AsyncIterator[RowResult[OutputT]], Generic[OutputT]):
    """The results of many rows: iterate over it, each item is a `RowResult`.

    Rows are read as they are needed: at most *concurrency* calls are under way, and no further row is read while as
    many results wait to be taken (in order: four times as many rows are held, at most). A sync iterable is read on the
    event loop, so reading a row should not take long.

    A row that fails is a result with an `error`. What is not about one row ends the iteration, after the results that
    are there: an error of *rows* itself, or HubClosed.

    Use it as a context manager (`async with`), or call `aclose()`, when you stop early: calls under way are cancelled.
    A stream that is dropped without that cancels them as well, without waiting. `stop()` reads no more rows, and lets
    calls under way finish.
    """

    def __init__(
        self, ask: Ask, rows: Rows, progress: MapProgress, *, concurrency: int = 16, ordered: bool = False
    ) -> None:
        self.progress = progress
        """How far the job is, at any time."""
        self._run: _MapRun = _MapRun(ask, rows, progress, concurrency, ordered)

    async def __anext__(self) -> RowResult[OutputT]:
        run = self._run
        if run.is_cancelled or (not run.ready and not await run.wait_ready()):
            raise StopAsyncIteration
        run.held -= 1
        run.has_slot.set()
        return run.ready.popleft()

    def take_ready(self) -> list[RowResult[OutputT]]:
        """Return the results that are there already, without waiting; there may be none."""
        run = self._run
        results = list(run.ready)
        run.ready.clear()
        run.held -= len(results)
        run.has_slot.set()
        return results

    def stop(self) -> None:
        """Read no more rows: calls under way finish, and the iteration ends with the last of them."""
        self._run.stop()

    async def aclose(self) -> None:
        """Stop: calls under way are cancelled, and have ended when this returns. Safe to call twice."""
        await asyncio.gather(*self._run.cancel(), return_exceptions=True)

    def sync(self) -> SyncRowStream[OutputT]:
        """The same for code without an event loop, as a plain iterator: `for row in chain.map(rows).sync(): ...`.

        The rows are read in the thread of the background loop.
        """
        return SyncRowStream(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<RowStream {self.progress!r}>"

    def __del__(self) -> None:
        run: _MapRun | None = getattr(self, "_run", None)
        if run is None or run.loop is None or run.loop.is_closed() or run.forks != fork_count():
            return
        if run.tasks or not run.is_read:
            run.loop.call_soon_threadsafe(run.cancel)  # the garbage collector may be in any thread


class SyncRowStream(Iterator[RowResult[OutputT]], Generic[OutputT]):
    """A `RowStream` as a plain iterator; close it, or use it as a context manager, when you stop early."""

    def __init__(self, stream: RowStream[OutputT]) -> None:
        self._stream = stream
        self._forks = fork_count()

    @property
    def progress(self) -> MapProgress:
        """How far the job is, at any time."""
        return self._stream.progress

    def __next__(self) -> RowResult[OutputT]:
        async def read() -> RowResult[OutputT] | None:
            return await anext(self._stream, None)

        if self._forks != fork_count():
            raise RuntimeError("this job was begun before the process forked: only the parent can read its results")
        result = run_sync(read(), instead="`async for row in model.map(rows)`")
        if result is None:
            raise StopIteration
        return result

    def close(self) -> None:
        """Stop: calls under way are cancelled. Does nothing in a forked child, whose parent they belong to."""
        if self._forks == fork_count():
            run_sync(self._stream.aclose(), instead="`await rows.aclose()`")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
