"""Clocks on a call: give up on an await, or on a stream, when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar

from modelhub.errors import CallError
from modelhub.response import ChatResponse
from modelhub.stream import ChatStream

__all__ = ["Expiry", "in_time", "watched"]

T = TypeVar("T")
Expiry = tuple[float, Callable[[], CallError]]
"""How many seconds are left, and what it means when they are over."""


async def in_time(work: Coroutine[Any, Any, T], expiry: Expiry) -> T:
    """The result of *work*, which is cancelled when the time is over. Raises what *expiry* says then."""
    seconds, failure = expiry
    try:
        async with asyncio.timeout(seconds) as scope:
            return await work
    except TimeoutError as error:
        if not scope.expired():
            raise  # a failure of its own that is a TimeoutError too
        raise failure() from error.__cause__


def watched(
    reply: ChatStream,
    expiry: Callable[[], Expiry],
    broken: Callable[[CallError, ChatResponse | None], CallError],
) -> ChatStream:
    """The same stream, whose every snapshot must come within what *expiry* says at that moment.

    *broken* makes of the failure and the last snapshot what the reader is told.
    """

    async def snapshots() -> AsyncGenerator[ChatResponse, None]:
        last: ChatResponse | None = None
        while True:
            seconds, failure = expiry()
            try:
                async with asyncio.timeout(seconds) as scope:
                    last = await anext(reply)
            except StopAsyncIteration:
                return
            except TimeoutError:
                if not scope.expired():
                    raise
                raise broken(failure(), last)  # noqa: B904 - it says its cause itself
            yield last

    return ChatStream(snapshots(), inner=reply)
