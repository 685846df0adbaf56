"""The time limits of a stream, kept by one timer of the event loop.

A deadline passes whether or not anybody reads. Silence is counted only while somebody waits for the vendor: a reader
may take his time between two snapshots. To set a timer costs more than to look at a clock, so it is not set for each
snapshot: when it fires too early, it is set again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from modelhub.core.response import ChatResponse

__all__ = ["MakeError", "StreamTimer"]

MakeError = Callable[[ChatResponse | None], Exception]
"""What a stream fails with when a limit has passed; it is given the last snapshot."""
_TICK = 0.001  # some loops count in whole milliseconds, and fire a little early


class _SpeedLimit:
    """The least speed of a stream, in characters a second, measured over *seconds* of waiting for the vendor."""

    __slots__ = ("_count", "_counted", "_waited", "characters_per_second", "make_error", "seconds")

    def __init__(
        self, characters_per_second: float, seconds: float, count: Callable[[], int], make_error: MakeError
    ) -> None:
        self.characters_per_second = characters_per_second
        self.seconds = seconds
        self.make_error = make_error
        self._count = count
        self._counted = count()
        self._waited = 0.0

    def remaining(self, waiting: float) -> float:
        """Return the seconds of waiting until the speed is known; *waiting* has the wait that is under way."""
        return self.seconds - self._waited - waiting

    def add_wait(self, seconds: float) -> None:
        """Count a wait that is over."""
        self._waited += seconds

    def is_too_slow(self, waiting: float) -> bool:
        """Whether too little came since the last measurement; the next one begins now."""
        counted, waited = self._count(), self._waited + waiting
        is_slow = counted - self._counted < self.characters_per_second * waited
        self._counted, self._waited = counted, -waiting
        return is_slow


class StreamTimer:
    """Calls *on_expired* once, with what the stream fails with. *now* is the clock that deadlines are instants of.

    *count* returns how many characters have come so far: text, thinking and arguments of tools.
    """

    __slots__ = (
        "_count",
        "_deadlines",
        "_fires_at",
        "_handle",
        "_idle",
        "_loop",
        "_now",
        "_on_expired",
        "_speed",
        "_wait_began",
        "_waited",
        "_waits_since",
    )

    def __init__(
        self, now: Callable[[], float], on_expired: Callable[[MakeError], None], count: Callable[[], int]
    ) -> None:
        self._now = now
        self._on_expired = on_expired
        self._count = count
        self._loop = asyncio.get_running_loop()
        self._deadlines: list[tuple[float, MakeError]] = []
        self._idle: tuple[float, MakeError] | None = None
        self._speed: _SpeedLimit | None = None
        self._wait_began = 0.0
        self._waits_since: float | None = None
        self._waited = 0.0  # how long the snapshot that is to come was waited for, by reads that were cancelled
        self._handle: asyncio.TimerHandle | None = None
        self._fires_at = math.inf

    @property
    def is_waited_for(self) -> bool:
        """Whether somebody waits for the vendor now."""
        return self._waits_since is not None

    def add_deadline(self, at: float, make_error: MakeError) -> None:
        """Expire at the instant *at*; of several limits that pass together, the first one added is reported."""
        self._deadlines.append((at, make_error))
        self._set(at)

    def add_idle_limit(self, seconds: float, make_error: MakeError) -> None:
        """Expire when a snapshot was waited for *seconds*."""
        self._idle = (seconds, make_error)
        self._set(self._now() + seconds)  # it cannot be due earlier, and most often need not be set again

    def add_speed_limit(self, characters_per_second: float, seconds: float, make_error: MakeError) -> None:
        """Expire when fewer than *characters_per_second* came in *seconds* of waiting for the vendor."""
        self._speed = _SpeedLimit(characters_per_second, seconds, self._count, make_error)
        self._set(self._now() + seconds)

    def begin_wait(self) -> None:
        """Somebody waits for the vendor."""
        now = self._now()
        self._waits_since = since = now - self._waited
        if self._idle is not None and (at := since + self._idle[0]) < self._fires_at:
            self._set(at)
        if self._speed is not None:
            self._wait_began = now
            self._set(now + self._speed.remaining(0.0))

    def end_wait(self, is_cancelled: bool) -> None:
        """Nobody waits any more: the snapshot is there, or the read *is_cancelled*."""
        since, self._waits_since = self._waits_since, None
        if self._speed is not None:
            self._speed.add_wait(self._now() - self._wait_began)
        self._waited = self._now() - since if is_cancelled and since is not None else 0.0

    def stop(self) -> None:
        """Stop the timer and forget all limits: the stream is finished."""
        self._deadlines, self._idle, self._speed, self._fires_at = [], None, None, math.inf
        self._on_expired = lambda _: None  # no cycle: what is over is collected at once
        self._count = lambda: 0
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _set(self, at: float) -> None:
        if at >= self._fires_at:
            return
        if self._handle is not None:
            self._handle.cancel()
        self._fires_at = at
        self._handle = self._loop.call_later(max(0.0, at - self._now()), self._fire)

    def _fire(self) -> None:
        self._handle, self._fires_at = None, math.inf
        limits = list(self._deadlines)
        if self._idle is not None and self._waits_since is not None:
            limits.insert(0, (self._waits_since + self._idle[0], self._idle[1]))
        if self._speed is not None and self._waits_since is not None:
            waiting = self._now() - self._wait_began
            if self._speed.remaining(waiting) <= _TICK and self._speed.is_too_slow(waiting):
                self._on_expired(self._speed.make_error)
                return
            self._set(self._now() + self._speed.remaining(waiting))
        if not limits:
            return
        at, make_error = min(limits, key=lambda limit: limit[0])
        if at - self._now() > _TICK:
            self._set(at)
        else:
            self._on_expired(make_error)
