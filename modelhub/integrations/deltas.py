"""What is new in each snapshot of a stream, for readers that append what they get.

A stream of modelhub may be begun again by another model; then what was appended is void. `StreamDeltas` either ends
such a stream with StreamBroken (`error`) or holds everything back until the answer is complete (`buffer`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from modelhub.core.errors import StreamBroken
from modelhub.core.response import Block, ChatResponse
from modelhub.core.stream import ChatStream

__all__ = ["Delta", "DeltaReader", "Restarts", "StreamDeltas", "read_deltas"]

Restarts = Literal["error", "buffer"]
"""What happens if another model begins the answer again after a part of it was passed on."""


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
    """Takes the snapshots of one stream and tells what each adds to the one before.

    The blocks are only looked at where the text has not grown, since building them costs more than a word does.
    """

    def __init__(self) -> None:
        self.has_text = False
        """Whether text or a call has been read."""
        self._thinking: list[int] = []
        self._arguments: list[int] = []

    @property
    def has_thinking(self) -> bool:
        """Whether thinking has been read."""
        return any(self._thinking)

    def read(self, snapshot: ChatResponse) -> Iterator[Delta]:
        """Yield what *snapshot* adds."""
        if delta := snapshot["delta"]:
            self.has_text = True
            yield Delta("text", delta)
        if not delta or snapshot["is_last"]:
            yield from self.read_blocks(snapshot["content"])

    def read_blocks(self, content: Sequence[Block]) -> Iterator[Delta]:
        """Yield what is new of thinking and calls in *content*."""
        for index, block in enumerate(block for block in content if block["type"] == "thinking"):
            if index == len(self._thinking):
                self._thinking.append(0)
            if piece := block["thinking"][self._thinking[index] :]:
                self._thinking[index] += len(piece)
                yield Delta("thinking", piece, index)
        for index, call in enumerate(block for block in content if block["type"] == "tool_use"):
            if index == len(self._arguments):
                if not call["name"]:
                    return  # the vendor has opened the call, and not yet said of which tool
                self.has_text = True
                self._arguments.append(0)
                yield Delta("call", "", index, call)
            if piece := (call.get("raw_input") or "")[self._arguments[index] :]:
                self._arguments[index] += len(piece)
                yield Delta("call", piece, index)


class StreamDeltas:
    """What each snapshot of one stream adds, as *restarts* says.

    With `buffer`, everything is added by the last one. With `error`, `add` raises StreamBroken when another model
    begins the answer again after text or a call; after thinking alone it goes on, without that model's thoughts.
    """

    def __init__(self, restarts: Restarts) -> None:
        self._holds_back = restarts == "buffer"
        self._reader = DeltaReader()
        self._count = 0
        self._skips_thinking = False

    def add(self, snapshot: ChatResponse) -> list[Delta]:
        """Return what *snapshot* adds."""
        if self._holds_back:
            return self._read_whole(snapshot) if snapshot["is_last"] else []
        if snapshot["restarts"] > self._count:
            if self._reader.has_text:
                raise _make_error(snapshot)
            self._count = snapshot["restarts"]
            self._skips_thinking = self._skips_thinking or self._reader.has_thinking
        deltas = self._reader.read(snapshot)
        return [delta for delta in deltas if not (self._skips_thinking and delta.kind == "thinking")]

    def _read_whole(self, reply: ChatResponse) -> list[Delta]:
        blocks = list(self._reader.read_blocks(reply.content))
        return [
            *(delta for delta in blocks if delta.kind == "thinking"),
            *([Delta("text", reply.text)] if reply.text else []),
            *(delta for delta in blocks if delta.kind == "call"),
        ]


async def read_deltas(stream: ChatStream, restarts: Restarts) -> AsyncIterator[tuple[ChatResponse, list[Delta]]]:
    """Yield each snapshot with what it adds; the last one is the complete reply. See `StreamDeltas`."""
    deltas = StreamDeltas(restarts)
    async for snapshot in stream:
        yield snapshot, deltas.add(snapshot)


def _make_error(snapshot: ChatResponse) -> StreamBroken:
    error = StreamBroken(
        "the stream broke, and another model would begin the answer again, although a part of it was passed on: ask "
        'again, or pass `restarts="buffer"`, which holds a stream back until it is complete',
        model=snapshot.model,
    )
    error.attempts = snapshot.attempts
    return error
