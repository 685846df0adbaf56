"""Limit: a named pool of requests, tokens and places, shared by all models that name it.

aiolimiter's bucket lets a burst of its whole size through and then the whole rate again: up to twice the limit in one
minute. Here the bucket is small and leaks so much slower that burst and leak together never exceed the limit, in any
minute. Who came first is served first, whatever it asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from modelhub.errors import LimitRejected
from modelhub.middleware._base import Shared
from modelhub.middleware._tokens import estimate_tokens
from modelhub.model import ChatModelBase, ChatRequest, Layer
from modelhub.options import LayerOptions
from modelhub.stream import Reply, on_settled

if TYPE_CHECKING:
    from aiolimiter import AsyncLimiter

__all__ = ["Limit", "LimitOptions", "Pool"]

_MINUTE = 60.0
_BURST = 0.1  # the share of a minute's rate that may pass at once


class LimitOptions(LayerOptions):
    """What a pool admits."""

    requests_per_minute: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    """Attempts in any 60 seconds."""
    tokens_per_minute: Annotated[int, Field(gt=0, le=10_000_000_000)] | None = None
    """Input and output tokens in any 60 seconds, estimated before the request."""
    concurrency: Annotated[int, Field(gt=0, le=100_000)] | None = None
    """Attempts under way at the same time."""
    max_queue: Annotated[int, Field(ge=0)] | None = None
    """How many attempts may wait for a place; one more is refused. No bound if not given."""


class Pool:
    """One named limit. Every event loop has its own bucket and places: aiolimiter and asyncio bind them to one."""

    def __init__(self, name: str, options: LimitOptions) -> None:
        self.name = name
        self.options = options
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}

    async def acquire(self, tokens: int) -> Callable[[], None]:
        """Wait for a place, a request and *tokens*; gives the function that gives the place back.

        Raises LimitRejected at once for what can never fit, or where the queue is full.
        """
        most = self.options.tokens_per_minute
        if most is not None and tokens > most:
            raise LimitRejected(
                f"about {tokens} tokens can never fit limit `{self.name}` ({most} tokens a minute): "
                "shorten the messages or lower max_tokens"
            )
        lane = self._lane(asyncio.get_running_loop())
        if self.options.max_queue is not None and lane.queued >= self.options.max_queue and lane.busy():
            raise LimitRejected(f"limit `{self.name}` is full and {lane.queued} attempts wait already (`max_queue`)")
        await lane.enter(tokens)
        return lane.leave

    def _lane(self, loop: asyncio.AbstractEventLoop) -> _Lane:
        lane = self._lanes.get(loop)
        if lane is None:
            self._lanes = {known: lane for known, lane in self._lanes.items() if not known.is_closed()}
            lane = self._lanes[loop] = _Lane(self.options, loop)
        return lane


class _Lane:
    """One loop's share of a pool."""

    def __init__(self, options: LimitOptions, loop: asyncio.AbstractEventLoop) -> None:
        self.queued = 0
        self._loop = loop
        self._places = asyncio.Semaphore(options.concurrency) if options.concurrency else None
        self._turn = asyncio.Lock()  # asyncio's lock is fair: first come, first served
        self._buckets = [
            (_bucket(rate), by_tokens)
            for rate, by_tokens in ((options.requests_per_minute, False), (options.tokens_per_minute, True))
            if rate is not None
        ]

    def busy(self) -> bool:
        return self._turn.locked() or (self._places is not None and self._places.locked())

    async def enter(self, tokens: int) -> None:
        self.queued += 1
        try:
            async with self._turn:
                if self._places is not None:
                    await self._places.acquire()
                try:
                    for bucket, by_tokens in self._buckets:
                        await _draw(bucket, tokens if by_tokens else 1)
                except BaseException:
                    self.leave()
                    raise
        finally:
            self.queued -= 1

    def leave(self) -> None:
        # A stream that is collected after its loop has ended gives its place back to nobody.
        if self._places is not None and not self._loop.is_closed():
            self._places.release()


def _bucket(rate: int) -> AsyncLimiter:
    from aiolimiter import AsyncLimiter

    # In any minute at most burst + leak = rate pass.
    burst = max(1.0, rate * _BURST)
    leak = rate - burst
    return AsyncLimiter(burst, _MINUTE * burst / leak) if leak > 0 else AsyncLimiter(1.0, _MINUTE)


async def _draw(bucket: AsyncLimiter, amount: int) -> None:
    # The bucket takes no more than its size at once: a large amount is drawn in parts, nobody can come in between.
    left = float(amount)
    while left > 0:
        part = min(left, bucket.max_rate)
        await bucket.acquire(part)
        left -= part


class Limit(Layer):
    """Takes from a pool for every attempt, and holds its place until the reply is finished."""

    Options = LimitOptions

    def __init__(self, inner: ChatModelBase, pool: Pool) -> None:
        super().__init__(inner)
        self.pool = pool

    @classmethod
    def wrap(cls, inner: ChatModelBase, options: str | LimitOptions | None, shared: Shared) -> ChatModelBase:
        """A model that names a limit shares its pool; one that describes a limit has a pool of its own."""
        if options is None:
            return inner
        pool = shared.limits[options] if isinstance(options, str) else Pool(inner.name, options)
        return cls(inner, pool)

    async def send(self, request: ChatRequest) -> Reply:
        """The reply, when the pool admits it. Raises LimitRejected if it never will."""
        clock, began = self.services.clock, self.services.clock.now()
        leave = await self.pool.acquire(estimate_tokens(request))
        request.context.waited(clock.now() - began)
        try:
            reply = await self.inner.send(request)
        except BaseException:
            leave()
            raise
        on_settled(reply, lambda _: leave())
        return reply
