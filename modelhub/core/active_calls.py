"""The calls of a hub under way: they end, and are recorded, when the hub closes or the process ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from operator import methodcaller
from typing import Protocol

from modelhub.core.clock import Clock
from modelhub.core.completions import run_completions
from modelhub.core.errors import HubClosed
from modelhub.core.process import ExitStage, fork_count, register_at_exit, register_at_fork
from modelhub.core.threads import sleep

__all__ = ["ActiveCall", "ActiveCalls"]

UNREAD_GRACE = 0.1  # seconds that a closing hub waits for a stream that nobody reads
END_TIMEOUT = 1.0  # seconds until calls that were ended have cleaned up
EXIT_TIMEOUT = 0.5  # the same when the process ends


class ActiveCall(Protocol):
    """One call as its hub sees it. All but `abandon_call` is called on the call's own event loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it runs on."""
        ...

    def end_call(self) -> None:
        """End the call with HubClosed, at once."""
        ...

    def end_call_if_waiting(self) -> None:
        """End it if nothing of it is at a vendor's: it waits in a queue, or to try again."""
        ...

    def end_call_if_unread(self) -> None:
        """End it if it is a stream that nobody reads at this moment."""
        ...

    def cancel_call(self) -> None:
        """Cancel its task, or discard the stream that it has led to."""
        ...

    def abandon_call(self) -> None:
        """Record it as it is; its loop will do nothing for it any more. From any thread."""
        ...


class ActiveCalls:
    """The calls of one hub that are under way. Safe to use from several threads and event loops."""

    def __init__(self, clock: Clock) -> None:
        self.is_closing = False
        self._clock = clock
        self._calls: dict[ActiveCall, None] = {}
        self._waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._drains: list[tuple[set[ActiveCall], Callable[[], None]]] = []
        register_at_fork(self)
        self._register_at_exit()

    def _register_at_exit(self) -> None:
        self._registered_in = fork_count()
        register_at_exit(self, ExitStage.CALLS)

    def reset_after_fork(self) -> None:
        """Forget in a forked child the calls of the parent."""
        self._calls, self._waiters, self._drains = {}, [], []

    def add(self, call: ActiveCall) -> None:
        """A call begins. Raises HubClosed."""
        self.check_open()
        if self._registered_in != fork_count():
            self._register_at_exit()
        self._calls[call] = None

    def check_open(self) -> None:
        """Raise HubClosed if the hub is closing: nothing is sent any more."""
        if self.is_closing:
            raise HubClosed("the hub was closed while the call was under way")

    def discard(self, call: ActiveCall) -> None:
        """Remove a call that is finished from those under way."""
        self._calls.pop(call, None)
        for drain in list(self._drains):
            self._discard_from(drain, (call,))
        for loop, event in self._waiters:
            if not self._is_any_running():
                _call_on(loop, event.set)

    def call_when_over(self, callback: Callable[[], None]) -> None:
        """Call *callback* once all calls that are under way now are over: at once, or where the last of them ends.

        That may be in any thread.
        """
        drain = set(self._calls), callback
        self._drains.append(drain)
        self._discard_from(drain, drain[0].difference(self._calls))  # which ended before they were waited for

    def _discard_from(self, drain: tuple[set[ActiveCall], Callable[[], None]], ended: Iterable[ActiveCall]) -> None:
        calls, callback = drain
        calls.difference_update(ended)
        if calls:
            return
        try:
            self._drains.remove(drain)
        except ValueError:  # another thread was faster
            return
        callback()

    # -- when the hub closes ---------------------------------------------------------------------------------------

    async def close(self, grace: float) -> None:
        """Begin no further call or attempt, wait *grace* seconds for those under way, and end what is left then.

        Calls that wait, in a limit's queue or to try again, are ended at once. So are streams that nobody reads, after
        a short moment.
        """
        self.is_closing = True
        run_completions(of_idle_loops=True)
        for end, seconds in (
            (methodcaller("end_call_if_waiting"), min(grace, UNREAD_GRACE)),
            (methodcaller("end_call_if_unread"), grace - UNREAD_GRACE),
            (methodcaller("end_call"), END_TIMEOUT),
        ):
            if not self._calls:
                return
            for call in list(self._calls):
                if not _call_on(call.loop, end, call):
                    call.abandon_call()
            await self._wait(seconds)

    def _is_any_running(self) -> bool:
        return any(call.loop.is_running() for call in list(self._calls))

    async def _wait(self, seconds: float) -> None:
        """Wait until no call is left whose loop runs, but not longer than *seconds*."""
        event = asyncio.Event()
        waiter = asyncio.get_running_loop(), event
        self._waiters.append(waiter)
        waits = [asyncio.ensure_future(event.wait()), asyncio.ensure_future(self._clock.sleep(max(0.0, seconds)))]
        try:
            if self._is_any_running():
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.remove(waiter)
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    # -- when the process ends -------------------------------------------------------------------------------------

    def close_without_loop(self) -> None:
        """Begin no further call, and end those under way, where no event loop may be started any more."""
        self.is_closing = True
        self.close_at_exit()

    def close_at_exit(self) -> None:
        """Cancel the calls of other threads, and discard their streams; record what is left as it is."""
        run_completions(of_idle_loops=True)
        for call in list(self._calls):
            _call_on(call.loop, call.cancel_call)
        ends = time.monotonic() + EXIT_TIMEOUT
        while self._is_any_running() and time.monotonic() < ends:
            sleep(0.001)
        for call in list(self._calls):
            call.abandon_call()


def _call_on(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *args: object) -> bool:
    """Call *function* on *loop*; return whether that is possible: the loop may have ended."""
    try:
        loop.call_soon_threadsafe(function, *args)
    except RuntimeError:
        return False
    return True
