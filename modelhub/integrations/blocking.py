"""Calls that block, for frameworks whose blocking methods are also used where an event loop runs, as in notebooks."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from modelhub.core.model import ChatModelBase
from modelhub.core.response import ChatResponse
from modelhub.core.sync import SyncStream, is_loop_running

__all__ = ["call_blocking", "iterate_blocking"]

T = TypeVar("T")


def call_blocking(model: ChatModelBase, **arguments: Any) -> ChatResponse:
    """Call *model* with *arguments* and wait for the complete reply, whatever runs in this thread."""
    reply: ChatResponse = _run(lambda: model.sync(**arguments, stream=False))
    return reply


def iterate_blocking(model: ChatModelBase, **arguments: Any) -> Iterator[ChatResponse]:
    """Call *model* with *arguments* and yield the snapshots of its stream, whatever runs in this thread."""
    stream: SyncStream = _run(lambda: model.sync(**arguments, stream=True))
    try:
        while (snapshot := _run(lambda: next(stream, None))) is not None:
            yield snapshot
    finally:
        _run(stream.close)


def _run(function: Callable[[], T]) -> T:
    """Return what *function* returns; where this thread runs an event loop, it is called in another thread."""
    if not is_loop_running():
        return function()
    context = contextvars.copy_context()  # has the tags and the deadline of the code around
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(context.run, function).result()
