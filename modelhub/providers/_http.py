"""HTTP clients: one for each event loop, made when it is first needed, sharing one TLS context."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Generic, TypeVar

__all__ = ["PerLoop", "tls_context"]

T = TypeVar("T")


@cache
def tls_context() -> ssl.SSLContext:
    """The system's trust and certifi's, loaded once: making one costs more than a call does."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class PerLoop(Generic[T]):
    """A client for each event loop: connections belong to the loop that opened them.

    *make* builds one inside the running loop; *close* gives it back.
    """

    def __init__(self, make: Callable[[], T], close: Callable[[T], Awaitable[None]]) -> None:
        self._make = make
        self._close = close
        self._clients: dict[asyncio.AbstractEventLoop, T] = {}
        self._lock = threading.Lock()

    def get(self) -> T:
        """The running loop's client."""
        loop = asyncio.get_running_loop()
        client = self._clients.get(loop)
        if client is None:
            client = self._make()
            with self._lock:
                # Loops that have ended took their connections with them; what is left is only memory.
                for ended in [known for known in self._clients if known.is_closed()]:
                    del self._clients[ended]
                self._clients[loop] = client
        return client

    async def aclose(self) -> None:
        """Close every client, each in its own loop. Loops that have ended are skipped."""
        with self._lock:
            clients, self._clients = self._clients, {}
        here = asyncio.get_running_loop()
        for loop, client in clients.items():
            if loop is here:
                await self._close(client)
            elif loop.is_running():
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_finish(self._close(client)), loop))


async def _finish(closing: Awaitable[None]) -> None:
    await closing
