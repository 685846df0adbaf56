"""One event loop in the background, for code that has none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

from modelhub.process import ExitStage, register_at_exit, register_at_fork

if TYPE_CHECKING:
    from types import TracebackType

    from modelhub.response import ChatResponse
    from modelhub.stream import ChatStream

__all__ = ["SyncStream", "run_sync"]

T = TypeVar("T")


class _Background:
    """A daemon thread with a loop, started at the first call and stopped at exit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._inherited: list[asyncio.AbstractEventLoop | None] = []
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Forget the parent's loop in a forked child, which has no thread that runs it."""
        self._inherited.append(self._loop)  # kept: it can be neither closed nor collected in silence
        self._lock, self._loop, self._thread = threading.Lock(), None, None

    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop, which runs."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="modelhub", daemon=True)
                self._thread.start()
                register_at_exit(self, ExitStage.LOOP)
            return self._loop

    def close_at_exit(self) -> None:
        """Cancel what runs and stop the loop."""
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is None or thread is None:
            return
        asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result(timeout=5)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=5)
        loop.close()


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


_background = _Background()


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run *coroutine* on the background loop and give back its result.

    Raises RuntimeError where this thread runs a loop itself. An interrupt (Ctrl-C) cancels the coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        coroutine.close()
        raise RuntimeError("an event loop is running here: use `await model(...)` instead of `model.sync(...)`")
    future = asyncio.run_coroutine_threadsafe(coroutine, _background.loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class SyncStream(Iterator["ChatResponse"]):
    """A stream as a plain iterator; close it, or use it as a context manager, when you stop early."""

    def __init__(self, stream: ChatStream) -> None:
        self._stream = stream

    def __next__(self) -> ChatResponse:
        async def following() -> ChatResponse | None:
            return await anext(self._stream, None)

        snapshot = run_sync(following())
        if snapshot is None:
            raise StopIteration
        return snapshot

    def final(self) -> ChatResponse:
        """Read to the end and give back the complete answer."""
        return run_sync(self._stream.final())

    def close(self) -> None:
        """Stop: the connection is given back."""
        run_sync(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
