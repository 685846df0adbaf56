"""What the integrations do alike: blocking calls, what a reply has beside its text, what each snapshot adds.

Frameworks append what a stream adds. A stream of modelhub may be begun again by another model; then what was appended
is void. `StreamDeltas` either ends such a stream with StreamBroken (`error`) or holds everything back until the answer
is complete (`buffer`).
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, TypeVar

from modelhub.core.errors import StreamBroken
from modelhub.core.model import ChatModelBase
from modelhub.core.response import Block, ChatResponse
from modelhub.core.sync import SyncStream, is_loop_running

__all__ = [
    "Delta",
    "DeltaReader",
    "Restarts",
    "StreamDeltas",
    "call_blocking",
    "find_provider",
    "get_details",
    "iterate_blocking",
]

T = TypeVar("T")


# -- calls that block --------------------------------------------------------------------------------------------------


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
    """Return what *function* returns; where this thread runs an event loop (notebooks), another thread calls it."""
    if not is_loop_running():
        return function()
    context = contextvars.copy_context()  # has the tags and the deadline of the code around
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(context.run, function).result()


# -- what a reply has beside its text ----------------------------------------------------------------------------------


def get_details(block: Mapping[str, Any]) -> dict[str, Any]:
    """Return what *block* has beside its text, and must have again when it goes back to its vendor."""
    keys = ("signature", "data", "provider", "item", "host", "phase")
    return {key: block[key] for key in keys if block.get(key) is not None}


def find_provider(reply: ChatResponse) -> str | None:
    """Return the provider of the model that answered, or None if no attempt says so."""
    return next((attempt.provider for attempt in reversed(reply.attempts) if attempt.model == reply.model), None)


# -- what each snapshot adds -------------------------------------------------------------------------------------------


class Delta(NamedTuple):
    """A new piece of text, of thinking, or of the arguments of a tool call (JSON text).

    *number* counts the thinking blocks, or the calls, from 0. *call* is the block of a call at its first delta, whose
    text is empty.
    """

    kind: Literal["text", "thinking", "call"]
    text: str
    number: int = 0
    call: Mapping[str, Any] | None = None


class DeltaReader:
    """Takes the snapshots of one stream, begun again *restarts* times, and tells what each adds to the one before.

    The blocks are only looked at where the text has not grown, since building them costs more than a word does.
    """

    def __init__(self, restarts: int = 0) -> None:
        self._restarts = restarts
        self._has_text = False  # or a call
        self._thinking: list[int] = []
        self._arguments: list[int] = []
        self._skips_thinking = False

    def detect_restart(self, snapshot: ChatResponse) -> bool:
        """Return whether another model begins the answer again with *snapshot*, after text or a call: that is void.

        After thinking alone the answer goes on: then that model's thoughts are not read, for they would be appended.
        """
        if snapshot["restarts"] == self._restarts:
            return False
        self._restarts = snapshot["restarts"]
        self._skips_thinking = self._skips_thinking or any(self._thinking)
        return self._has_text

    def read(self, snapshot: ChatResponse) -> Iterator[Delta]:
        """Yield what *snapshot* has that the snapshots before it had not: text, then thinking, then calls."""
        if delta := snapshot["delta"]:
            self._has_text = True
            yield Delta("text", delta)
        if not delta or snapshot["is_last"]:
            yield from self._read_blocks(snapshot["content"])

    def read_whole(self, reply: ChatResponse) -> list[Delta]:
        """Return what the complete *reply* has, of which nothing was read: thinking, the text, and calls."""
        deltas = list(self._read_blocks(reply.content))
        position = next((index for index, delta in enumerate(deltas) if delta.kind == "call"), len(deltas))
        text = [Delta("text", reply.text)] if reply.text else []
        return [*deltas[:position], *text, *deltas[position:]]

    def _read_blocks(self, content: Sequence[Block]) -> Iterator[Delta]:
        """Yield what is new of thinking, and then of calls, in *content*."""
        for index, block in enumerate(block for block in content if block["type"] == "thinking"):
            if index == len(self._thinking):
                self._thinking.append(0)
            if piece := block["thinking"][self._thinking[index] :]:
                self._thinking[index] += len(piece)
                if not self._skips_thinking:
                    yield Delta("thinking", piece, index)
        for index, call in enumerate(block for block in content if block["type"] == "tool_use"):
            if index == len(self._arguments):
                if not call["name"]:
                    return  # the vendor has opened the call, and not yet said of which tool
                self._has_text = True
                self._arguments.append(0)
                yield Delta("call", "", index, call)
            if piece := (call.get("raw_input") or "")[self._arguments[index] :]:
                self._arguments[index] += len(piece)
                yield Delta("call", piece, index)


Restarts = Literal["error", "buffer"]
"""What happens if another model begins the answer again after a part of it was passed on."""


class StreamDeltas:
    """What each snapshot of one stream adds, as *restarts* says. With `buffer`, the last one adds everything."""

    def __init__(self, restarts: Restarts) -> None:
        self._holds_back = restarts == "buffer"
        self._reader = DeltaReader()

    def add(self, snapshot: ChatResponse) -> list[Delta]:
        """Return what *snapshot* adds. Raises StreamBroken if what was added before is void."""
        if self._holds_back:
            return self._reader.read_whole(snapshot) if snapshot["is_last"] else []
        if not self._reader.detect_restart(snapshot):
            return list(self._reader.read(snapshot))
        error = StreamBroken(
            "the stream broke, and another model would begin the answer again, although a part of it was passed on: "
            'ask again, or pass `restarts="buffer"`, which holds a stream back until it is complete',
            model=snapshot.model,
        )
        error.attempts = snapshot.attempts
        raise error
