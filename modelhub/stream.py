"""Streams of snapshots, and the one way to hear that a reply is finished.

A `ChatStream` yields `ChatResponse`s, each the whole answer so far. It is committed: its first content was in hand
before anybody saw it (`ChatStream.open`). What must happen when a reply is finished, give back a permit, count usage,
goes through `on_settled`: exactly once, inner layer first, whether the reply is complete, fails, is closed, cancelled
or simply forgotten.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import warnings
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from modelhub.errors import BadReply
from modelhub.response import ChatResponse

if TYPE_CHECKING:
    from types import TracebackType

    from modelhub.events import How

__all__ = ["ChatStream", "Outcome", "Reply", "on_settled"]

Snapshots = AsyncGenerator[ChatResponse, None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reply was finished: the last that was seen of it, and the error if it failed."""

    how: How
    reply: ChatResponse | None
    error: BaseException | None = None


class _Settlement:
    """The part of a stream that outlives its reader: who wants to know, and whether they have been told."""

    __slots__ = ("callbacks", "inner", "last", "loop", "outcome", "thread")

    def __init__(self, inner: _Settlement | None) -> None:
        self.callbacks: list[Callable[[Outcome], None]] = []
        self.inner = inner
        self.last: ChatResponse | None = None
        self.outcome: Outcome | None = None
        self.loop = asyncio.get_running_loop()
        self.thread = threading.get_ident()

    def settle(self, how: How, error: BaseException | None = None) -> None:
        """Tell everybody, inner streams first; later calls do nothing."""
        if self.outcome is not None:
            return
        self.outcome = outcome = Outcome(how, self.last, error)
        if self.inner is not None:
            self.inner.settle(how, error)
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            _tell(callback, outcome)

    def abandon(self) -> None:
        """Settle for a stream that was forgotten; the garbage collector may call from any thread."""
        if self.thread == threading.get_ident() or self.loop.is_closed():
            self.settle("abandoned")
        else:
            self.loop.call_soon_threadsafe(self.settle, "abandoned")


def _tell(callback: Callable[[Outcome], None], outcome: Outcome) -> None:
    try:
        callback(outcome)
    except Exception:
        # The others must still hear of it: a permit that is not given back is worse than a lost count.
        logging.getLogger("modelhub").exception("a callback failed while a reply was settled")


class ChatStream(AsyncGenerator[ChatResponse, None]):
    """An answer that is still coming: iterate over it, or `await stream.final()`.

    Each item is the whole answer so far. Use it as a context manager (`async with`) or call `aclose()` when you stop
    early. After the first item, a failure comes out of the iteration as `StreamBroken`.

    *snapshots* is what is iterated, *inner* the stream it was made from, if a layer wrapped one: both are closed, and
    settled, together.
    """

    def __init__(
        self, snapshots: Snapshots, *, first: ChatResponse | None = None, inner: ChatStream | None = None
    ) -> None:
        self._snapshots = snapshots
        self._first = first
        self._inner = inner
        self._settlement: _Settlement = _Settlement(inner._settlement if inner is not None else None)

    @classmethod
    async def open(cls, snapshots: Snapshots) -> Self:
        """Commit: wait for the first snapshot of *snapshots*.

        Raises BadReply if there is none, and whatever *snapshots* raises before it.
        """
        try:
            first = await anext(snapshots)
        except StopAsyncIteration:
            raise BadReply("the stream ended before any content") from None
        return cls(snapshots, first=first)

    def follow(self, inner: ChatStream) -> None:
        """From here on the answer comes from *inner*: the stream before it has been settled."""
        self._inner = inner
        self._settlement.inner = inner._settlement

    @property
    def settled(self) -> Outcome | None:
        """How the stream was finished, or None while it lasts."""
        return self._settlement.outcome

    async def __anext__(self) -> ChatResponse:
        settlement = self._settlement
        if self._first is not None:
            snapshot, self._first = self._first, None
        else:
            try:
                snapshot = await self._snapshots.__anext__()
            except StopAsyncIteration:
                settlement.settle("complete")
                raise
            except (asyncio.CancelledError, GeneratorExit) as error:
                settlement.settle("cancelled", error)
                raise
            except BaseException as error:
                settlement.settle("failed", error)
                raise
        settlement.last = snapshot
        if dict.__getitem__(snapshot, "is_last"):  # the short way: this is done for each word
            # Whoever makes snapshots has let go of its connection before the last one.
            settlement.settle("complete")
        return snapshot

    async def final(self) -> ChatResponse:
        """Read to the end and give back the complete answer. Raises BadReply if the stream was closed before."""
        last: ChatResponse | None = self._settlement.last
        async for snapshot in self:
            last = snapshot
        if last is None or not last["is_last"]:
            raise BadReply("the stream was closed before it was read to its end")
        return last

    async def aclose(self) -> None:
        """Stop: the connection is given back and the reply is settled. Safe to call twice."""
        self._first = None  # who has closed it is given nothing more
        try:
            await self._snapshots.aclose()
            if self._inner is not None:
                await self._inner.aclose()
        finally:
            self._settlement.settle("closed")

    async def asend(self, value: Any) -> ChatResponse:  # noqa: ARG002 - the protocol's parameter; snapshots only come out
        """The next snapshot; *value* has no meaning here."""
        return await self.__anext__()

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> ChatResponse:
        """Close the stream, then raise what is given."""
        await self.aclose()
        error = typ() if isinstance(typ, type) and val is None else (val if val is not None else typ)
        raise error.with_traceback(tb)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        outcome = self._settlement.outcome
        return f"<ChatStream {outcome.how if outcome else 'open'}>"

    def __del__(self) -> None:
        settlement = getattr(self, "_settlement", None)
        if settlement is not None and settlement.outcome is None:
            settlement.abandon()
            warnings.warn(f"{self!r} was never read to its end nor closed", ResourceWarning, stacklevel=2)


Reply = ChatResponse | ChatStream
"""What a call gives back: a complete answer, or one whose first content is in hand."""


def on_settled(reply: Reply, callback: Callable[[Outcome], None]) -> None:
    """Call *callback* once, when *reply* is finished: at once for a complete one, or for one settled already.

    Callbacks run in the order they were given, so that an inner layer, which saw the reply first, hears of it first.
    """
    if not isinstance(reply, ChatStream):
        callback(Outcome("complete", reply))
    elif reply._settlement.outcome is not None:
        callback(reply._settlement.outcome)
    else:
        reply._settlement.callbacks.append(callback)
