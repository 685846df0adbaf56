"""Renew the secrets of a hub: every so often, and when a vendor has refused one."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from modelhub.core.process import register_at_fork

if TYPE_CHECKING:
    from weakref import WeakMethod

    from modelhub.core.clock import Clock
    from modelhub.core.model import ChatModelBase

__all__ = ["SecretRenewal"]

MIN_INTERVAL = 5.0
"""Seconds between two renewals because of refusals: a key that is simply wrong must not run a command at each call."""
_EARLY = 0.8
"""The part of the period after which values are renewed in the background, while calls go on with those before."""


class SecretRenewal:
    """Has the references of a configuration resolved again, by one thread at a time.

    *resolve* does it, and raises nothing; *find_retry* returns the retry layer of a label, as it is now. Nothing waits
    for time to pass: whether values are due is looked at when a call begins.
    """

    period: float | None = None
    """After how many seconds values are renewed; None for never."""

    def __init__(
        self,
        resolve: WeakMethod[Callable[[], None]],
        find_retry: WeakMethod[Callable[[str], ChatModelBase | None]],
        clock: Clock,
    ) -> None:
        self._resolve = resolve
        self._find_retry = find_retry
        self._clock = clock
        self._renewed_at = -math.inf
        self._refused_at = -math.inf
        self._background: asyncio.Future[None] | None = None
        self._generation = 0
        self._waiting = 0  # calls that wait for a renewal
        self._lock = threading.Lock()
        register_at_fork(self)

    def reset_after_fork(self) -> None:
        """Replace the lock in a forked child: another thread of the parent may have held it."""
        self._lock, self._background, self._waiting = threading.Lock(), None, 0

    def start(self, period: float | None) -> None:
        """Count *period* from now: the values have just been resolved."""
        self.period, self._renewed_at = period, self._clock.now()

    async def ensure_fresh(self) -> None:
        """Renew the values if they are due: in the background a while before that, and else before this returns."""
        if self.period is None:
            return
        age = self._clock.now() - self._renewed_at
        if age >= self.period:
            await self._renew()
        elif age >= _EARLY * self.period and (self._background is None or self._background.done()):
            self._background = asyncio.ensure_future(self._renew())

    async def renew(self, label: str, retry: ChatModelBase) -> ChatModelBase | None:
        """Return the retry layer to go on with after *retry*, that of *label*, was refused for its key.

        Values are renewed, unless that has just been done. None if that changes nothing for *label*.
        """
        current = self._find_current(label)
        if current is retry:
            now = self._clock.now()
            is_allowed = now - self._refused_at >= MIN_INTERVAL
            if is_allowed:
                self._refused_at = now
            if is_allowed or self._waiting:  # else a renewal that another call has begun, and that will do for this one
                await self._renew()
                current = self._find_current(label)
        return None if current is retry else current

    def _find_current(self, label: str) -> ChatModelBase | None:
        find_retry = self._find_retry()
        return None if find_retry is None else find_retry(label)

    async def _renew(self) -> None:
        self._waiting += 1
        try:
            await asyncio.to_thread(self._renew_once, self._generation)
        finally:
            self._waiting -= 1

    def _renew_once(self, generation: int) -> None:
        """Resolve the references, unless another thread has done so since *generation* was read."""
        with self._lock:
            resolve = self._resolve()
            if self._generation != generation or resolve is None:
                return
            try:
                resolve()
            finally:
                self._generation += 1
                self._renewed_at = self._clock.now()  # also if it failed: it is tried again after a period
