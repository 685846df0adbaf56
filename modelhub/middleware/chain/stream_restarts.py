"""The stream of a chain: when it breaks, the next model begins the answer anew."""

from __future__ import annotations

import asyncio
import weakref

from modelhub.core.errors import DeadlineExceeded, StreamBroken
from modelhub.core.response import ChatResponse
from modelhub.core.snapshot_reader import ReadInterrupted
from modelhub.core.stream import ChatStream, Outcome, Reply, add_done_callback
from modelhub.middleware.chain.fallback import CallRun

__all__ = ["RestartingSnapshots"]


class RestartingSnapshots:
    """The snapshots of *reply*, and after it breaks, those of the model that *run* finds next.

    A read that is cancelled can be made again, also in the middle of a restart: that has a task of its own.
    """

    def __init__(self, run: CallRun, reply: ChatStream) -> None:
        self._run = run
        self._restarts = self._seen = 0
        self._restart: asyncio.Task[Reply] | None = None
        self._is_reading = self._is_over = False
        self._stream: weakref.ref[ChatStream] | None = None  # no cycle: a forgotten stream must be collected at once
        self._read_from(reply)

    def attach(self, stream: ChatStream) -> ChatStream:
        """Serve *stream*, which is given back."""
        self._stream = weakref.ref(stream)
        return stream

    @property
    def is_pending(self) -> bool:
        """Whether a read that was cancelled can be made again."""
        if self._restart is not None or self._current._source.is_pending:
            return True
        outcome = self._current.settled
        return outcome is not None and outcome.how == "failed"

    @property
    def is_being_read(self) -> bool:
        """Whether a task waits for the next snapshot."""
        return self._is_reading

    def interrupt(self) -> bool:
        """End the read under way; False if nobody waits for the vendor."""
        return self._current._source.interrupt()

    async def __anext__(self) -> ChatResponse:
        """The next snapshot. Raises StreamBroken, or what else ends the call, if nobody can begin it anew."""
        self._is_reading = True
        try:
            while True:
                if self._restart is not None and (whole := await self._finish_restart(self._restart)) is not None:
                    return self._count_restarts(whole)
                if self._is_over:
                    raise StopAsyncIteration
                try:
                    return self._count_restarts(await self._current.__anext__())
                except StreamBroken as error:
                    self._begin_restart(error)
                except DeadlineExceeded as error:
                    raise self._run.as_stream_error(error)  # noqa: B904 - it says its cause itself
                except StopAsyncIteration:
                    outcome = self._current.settled
                    if outcome is not None and outcome.how == "closed":
                        raise ReadInterrupted from None
                    raise
        except (asyncio.CancelledError, GeneratorExit):
            self._is_reading = False
            if (outcome := self._current.settled) is not None:
                self._end_attempt(outcome)
            raise
        finally:
            self._is_reading = False

    def _count_restarts(self, snapshot: ChatResponse) -> ChatResponse:
        # A chain below may have begun anew as well: the count only goes up.
        self._seen = snapshot["restarts"] = dict.__getitem__(snapshot, "restarts") + self._restarts
        return snapshot

    def _read_from(self, stream: ChatStream) -> None:
        self._current = stream
        add_done_callback(stream, self._end_attempt)
        if (outer := self._outer()) is not None:
            outer.follow(stream)

    # -- beginning anew ------------------------------------------------------------------------------------------------

    def _begin_restart(self, broken: StreamBroken) -> None:
        if (start := self._run.find_restart(broken)) is None:
            self._run.give_up(broken)
            raise broken from broken.__cause__
        self._restart = asyncio.ensure_future(self._run.restart(broken, start))
        self._restart.add_done_callback(self._end_restart)

    async def _finish_restart(self, restart: asyncio.Task[Reply]) -> ChatResponse | None:
        """Wait for *restart*; gives the answer, if it is no stream but whole."""
        try:
            reply = await asyncio.shield(restart)
        except asyncio.CancelledError:
            if restart.cancelled():
                raise ReadInterrupted from None
            raise
        if isinstance(reply, ChatStream):
            self._continue_with(reply)
            return None
        self._restart, self._is_over = None, True
        self._restarts = self._seen + 1
        return reply

    def _continue_with(self, reply: ChatStream) -> None:
        if self._restart is not None:
            self._restart = None
            self._restarts = self._seen + 1
            self._read_from(reply)

    def _end_restart(self, restart: asyncio.Task[Reply]) -> None:
        """A restart may end while nobody reads: if it has failed, the call is over all the same."""
        if restart.cancelled():
            return
        if (error := restart.exception()) is None:
            if isinstance(reply := restart.result(), ChatStream):
                self._continue_with(reply)
        elif isinstance(error, Exception) and not self._is_reading and (outer := self._outer()) is not None:
            outer.fail(error)

    def _outer(self) -> ChatStream | None:
        return self._stream() if self._stream is not None else None

    # -- when nobody reads ---------------------------------------------------------------------------------------------

    def _end_attempt(self, outcome: Outcome) -> None:
        """The time of the attempt may be over while nobody reads: if that ends the call, it ends at once."""
        outer = self._outer()
        if outer is None or outcome.how != "failed" or self._is_reading or self._restart is not None:
            return
        error, run = outcome.error, self._run
        if isinstance(error, DeadlineExceeded):
            outer.fail(run.as_stream_error(error))
        elif not isinstance(error, StreamBroken):
            return
        elif run.find_restart(error) is None:
            run.give_up(error)
            outer.fail(error)
        elif run.request.deadline is not None:
            # Somebody may still come to read on, until then.
            clock = run.request.context.services.clock
            outer.time_limits(clock.now).add_deadline(run.request.deadline, run.exceed_deadline)

    async def aclose(self) -> None:
        """End the restart, if one is under way, and the stream that is read from."""
        restart = self._restart
        if restart is not None:
            restart.cancel()
            await asyncio.wait({restart})
            if not restart.cancelled() and restart.exception() is None and isinstance(restart.result(), ChatStream):
                await restart.result().aclose()
        await self._current.aclose()
