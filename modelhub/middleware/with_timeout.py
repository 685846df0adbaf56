"""A clock on a call: give up on an await when its time is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from modelhub.core.errors import CallError
from modelhub.core.tracebacks import drop_frames

__all__ = ["with_timeout"]

T = TypeVar("T")


async def with_timeout(work: Coroutine[Any, Any, T], seconds: float, failure: Callable[[], CallError]) -> T:
    """The result of *work*, which is cancelled when *seconds* are over. Raises what *failure* says then."""
    try:
        async with asyncio.timeout(seconds) as scope:
            return await work
    except TimeoutError as error:
        if not scope.expired():
            raise  # a failure of its own that is a TimeoutError too
        drop_frames(error)
        late = failure()
        raise late from late.__cause__ or error.__cause__
