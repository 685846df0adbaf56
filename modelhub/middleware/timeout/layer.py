"""Attempt timeout: four clocks on every attempt.

`connect` is the provider's own; the others are kept here, because no SDK has them: their timeouts are per read, so that
a stream of pings, or one word every twenty seconds, never ends.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from modelhub.core.errors import (
    CallError,
    FirstTokenTimeout,
    IdleTimeout,
    StreamBroken,
    TimedOut,
    TooSlow,
    TotalTimeout,
)
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.request import ChatRequest
from modelhub.core.response import ChatResponse
from modelhub.core.stream import ChatStream, Reply
from modelhub.middleware.time_limit import TimeLimit
from modelhub.middleware.timeout.options import TimeoutOptions

__all__ = ["Timeout", "TimeoutOptions"]


class Timeout(Layer):
    """Gives up on an attempt that is silent, or takes, too long."""

    Options = TimeoutOptions

    def __init__(self, inner: ChatModelBase, options: TimeoutOptions | None = None) -> None:
        super().__init__(inner)
        self.options = options or TimeoutOptions()

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: TimeoutOptions | None, build_context: Any) -> ChatModelBase:  # noqa: ARG003
        """Every model has its clocks, with the defaults where the file says nothing."""
        layer = cls(inner, options)
        layer._provider.attempt_timeout = layer.options.total
        return layer

    async def send(self, request: ChatRequest) -> Reply:
        """One attempt within its time. Raises FirstTokenTimeout or TotalTimeout; later StreamBroken from the like."""
        # What has to be loaded before the first request is no fault of the vendor's.
        if not self._provider.is_prepared:
            await self._provider.prepare()
        clock = self.services.clock
        ends = clock.now() + self.options.total
        streaming = self.inner.streams if request.stream is None else request.stream
        is_inside = not streaming and (request.stream_inside or self._provider.stream_inside)
        if is_inside:
            request = request.replace(stream=True)
        if (streaming or is_inside) and self.options.first_token <= self.options.total:
            limit = TimeLimit(
                self.options.first_token, lambda: self._expired(request, FirstTokenTimeout, "first_token")
            )
        else:
            limit = TimeLimit(self.options.total, lambda: self._expired(request, TotalTimeout, "total"))
        with limit:
            reply = await self.inner.send(request)
        if not isinstance(reply, ChatResponse):
            self._limit(reply, request, ends)
            if is_inside:
                return await _read_whole(reply)
        return reply

    def _limit(self, stream: ChatStream, request: ChatRequest, ends: float) -> None:
        """Limit a committed stream: the silence between two contents, its speed, and all of it until *ends*."""

        def make_error(cls: type[TimedOut], clock: str, last: ChatResponse | None) -> StreamBroken:
            failure = self._expired(request, cls, clock)
            broken = StreamBroken(f"the stream broke: {failure}", model=self.name)
            broken.partial, broken.__cause__ = last, failure
            return broken

        limits = stream.time_limits(self.services.clock.now)
        limits.add_idle_limit(self.options.idle, partial(make_error, IdleTimeout, "idle"))
        if (slow := self.options.slow) is not None:
            limits.add_speed_limit(slow.below, slow.after, partial(make_error, TooSlow, "slow"))
        limits.add_deadline(ends, partial(make_error, TotalTimeout, "total"))

    def _expired(self, request: ChatRequest, cls: type[TimedOut], clock: str) -> TimedOut:
        options, slow = self.options, self.options.slow
        words = {
            "first_token": f"no content after {options.first_token:g} s",
            "idle": f"no further content for {options.idle:g} s",
            "slow": f"fewer than {slow.below:g} characters a second over {slow.after:g} s" if slow else "",
            "total": f"no complete answer after {options.total:g} s",
        }
        failure = cls(f"{words[clock]} (`timeout.{clock}`)", model=self.name)
        # The provider was cancelled and left its record open, for us to say why.
        request.context.fail_open_attempts(failure)
        return failure


async def _read_whole(stream: ChatStream) -> ChatResponse:
    """Return the answer of a *stream* that its caller does not see, as a plain call gives it.

    Raises what broke the stream, as before the commit: the caller has seen nothing of it.
    """
    try:
        async with stream:
            reply = await stream.final()
    except StreamBroken as broken:
        if isinstance(broken.__cause__, CallError):
            raise broken.__cause__ from None
        raise
    plain = reply.copy()
    plain["delta"] = plain.text
    return plain
