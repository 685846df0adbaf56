"""One object for each event loop: connections belong to the loop that opened them."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, Generic, TypeVar

from modelhub.core.errors import HubClosed
from modelhub.core.process import register_at_fork

__all__ = ["PerLoop"]

T = TypeVar("T")


class PerLoop(Generic[T]):
    """A client for each event loop: connections belong to the loop that opened them.

    *make* builds one inside the running loop; *close* gives it back, at the latest when the loop shuts down, as
    `asyncio.run` does at its end. After `aclose` there are no new clients.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._clients: dict[asyncio.AbstractEventLoop, tuple[T, AsyncGenerator[None, None]]] = {}
        self._lock = threading.Lock()
        self._is_closed = False
        self._inherited: list[Any] = []
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Set aside in a forked child the parent's clients: their connections may be neither used nor closed."""
        self._inherited.append(self._clients)
        self._clients, self._lock = {}, threading.Lock()

    def get(self) -> T:
        """The running loop's client. Raises HubClosed after `aclose`."""
        loop = asyncio.get_running_loop()
        entry = self._clients.get(loop)
        if entry is None:
            entry = self._open(loop)
        return entry[0]

    def _open(self, loop: asyncio.AbstractEventLoop) -> tuple[T, AsyncGenerator[None, None]]:
        if self._is_closed:
            raise HubClosed("the model was closed: it sends nothing any more")
        client = self._make()
        closer = self._close_with_loop(loop, client)
        with contextlib.suppress(StopIteration):  # the generator is at its `yield` now, without having been awaited
            closer.__anext__().send(None)
        entry = client, closer
        with self._lock:
            # Loops that ended without shutting down took their connections with them; what is left is only memory.
            for ended in [known for known in self._clients if known.is_closed()]:
                del self._clients[ended]
            self._clients[loop] = entry
        return entry

    async def _close_with_loop(self, loop: asyncio.AbstractEventLoop, client: T) -> AsyncGenerator[None, None]:
        """Give *client* back when this generator is closed.

        The running loop closes all async generators when it shuts down (`loop.shutdown_asyncgens`): the only notice of
        its end that a loop gives.
        """
        try:
            yield
        finally:
            with self._lock:
                if (entry := self._clients.get(loop)) is not None and entry[0] is client:
                    del self._clients[loop]
            await self._close(client)

    async def aclose(self) -> None:
        """Close every client, each in its own loop. Loops that have ended are skipped."""
        with self._lock:
            self._is_closed = True
            entries, self._clients = self._clients, {}
        here = asyncio.get_running_loop()
        for loop, (_, closer) in entries.items():
            if loop is here:
                await closer.aclose()
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_close_generator(closer), loop))


async def _close_generator(closer: AsyncGenerator[None, None]) -> None:
    await closer.aclose()
