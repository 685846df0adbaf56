"""What pools of limits have in common, and where they are kept: in this process, or in a store of several processes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.permit import AttemptPermit, AttemptResult, State, WaitLimits
from modelhub.middleware.limit.rates import Amounts, Rate, What

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions

__all__ = ["LimitPool", "LimitStore", "PoolRefusals", "PoolScope", "PoolSnapshot", "RateSnapshot"]

PoolScope = Literal["limit", "model"]
"""Whose pool it is: an entry's of `limits:`, or a model's that describes a limit of its own."""

NOTHING = Amounts()
UNBOUNDED = WaitLimits()


class RateSnapshot(NamedTuple):
    """One rate, and how much of it is left; below 0 where attempts used more than was expected of them."""

    what: What
    rate: Rate
    left: int

    def __str__(self) -> str:
        return f"{self.left} of {self.rate.amount} {self.what.replace('_', ' ')}/{self.rate.unit}"


class PoolSnapshot(NamedTuple):
    """One pool at one moment: its rates, its `slots` (None: no bound) and how many are `taken`, how many attempts are
    `waiting`, and for how many more seconds it is `paused`; after `spread` seconds the rates let one more pass."""

    name: str
    rates: tuple[RateSnapshot, ...]
    slots: int | None
    taken: int
    waiting: int
    paused: float
    spread: float = 0.0

    @property
    def has_room(self) -> bool:
        """Whether one more attempt would probably pass at once."""
        is_free = self.slots is None or self.taken < self.slots
        return is_free and not self.waiting and self.paused <= 0 and self.spread <= 0

    def __str__(self) -> str:
        slots = f"{self.taken} under way"
        if self.slots is not None:
            slots = f"{max(0, self.slots - self.taken)} of {self.slots} places"
        parts = [*map(str, self.rates), slots]
        if self.waiting:
            parts.append(f"{self.waiting} waiting")
        if self.paused:
            parts.append(f"paused for {self.paused:.1f} s")
        return ", ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """Return the snapshot as a JSON-compatible dict."""
        rates = {f"{rate.what}/{rate.rate.unit}": {"limit": rate.rate.amount, "left": rate.left} for rate in self.rates}
        slots = None if self.slots is None else {"limit": self.slots, "left": max(0, self.slots - self.taken)}
        return {
            "rates": rates,
            "concurrency": slots,
            "under_way": self.taken,
            "waiting": self.waiting,
            "paused": self.paused,
        }


class PoolRefusals:
    """What the refusals of the pool *name* say."""

    name: str
    options: LimitOptions

    def rejected(self, why: str, retry_after: float | None = None) -> LimitRejected:
        """Return the refusal that says *why*, and after how many seconds to ask again."""
        return LimitRejected(f"limit `{self.name}` {why}", retry_after=retry_after)

    def explain_too_large(self, what: What, rate: Rate, amount: int) -> LimitRejected:
        """Return the refusal of an attempt that takes more of *what* than *rate* ever admits."""
        return self.rejected(
            f"can never admit about {amount} {what.replace('_', ' ')} at once (it admits {rate}): "
            "shorten the messages, lower max_tokens or raise the limit"
        )

    def explain_full(self, waiting: int) -> LimitRejected:
        """Return the refusal of an attempt for which the queue has no room."""
        return self.rejected(f"is full, and {waiting} attempts wait already (`max_queue`)")

    def explain_pause(self, seconds: float) -> LimitRejected:
        """Return the refusal of an attempt that has no time for a pause of so many *seconds*."""
        return self.rejected(f"is paused for {seconds:.1f} s, as the vendor asked", seconds)

    def explain_quota(self, what: What, rate: Rate, wait: float) -> LimitRejected:
        """Return the refusal of an attempt for which *rate*, a long one, has no room for *wait* seconds."""
        return self.rejected(f"has used up its {what.replace('_', ' ')} ({rate})", wait)

    def explain_remote_limit(self, what: What, left: int, wait: float) -> LimitRejected:
        """Return the refusal of an attempt for which the vendor has no room for *wait* seconds, only for *left*."""
        words = what.replace("_", " ")
        return self.rejected(
            f"has only {max(0, left)} {words} left, as the vendor said: no room for {wait:.1f} s", wait
        )

    def explain_timeout(self, max_wait: float | None) -> LimitRejected:
        """Return the refusal of an attempt that has stood in the queue for *max_wait* seconds."""
        why = "(`max_wait`)" if max_wait == self.options.max_wait else "and another model can be asked"
        return self.rejected(f"had no room within {max_wait:g} s {why}")

    def explain_lateness(self, waits: WaitLimits, wait: float, now: float) -> LimitRejected:
        """Return the refusal of an attempt that would have to wait *wait* seconds from *now* on, longer than *waits*.

        Both figures are rounded away from each other: 0.94 s and 0.91 s must not read as the same.
        """
        time_left = 0.0 if waits.until is None else max(0.0, waits.until - now)
        up, down = math.ceil(wait * 10) / 10, math.floor(time_left * 10) / 10
        return self.rejected(f"has no room for {up:.1f} s; only {down:.1f} s are left to wait", wait)


PermitT = TypeVar("PermitT", bound=AttemptPermit)


class LimitPool(PoolRefusals, ABC, Generic[PermitT]):
    """One limit.

    Whatever keeps it promises the same: in any period no more passes than its rate admits, in the order in which
    attempts come; what an attempt reserved is replaced once by what it used; what can never pass, or not in time, is
    refused at once; and a pause lasts until the latest of all the instants that vendors asked for.
    """

    @abstractmethod
    def request(self, amounts: Amounts = NOTHING, waits: WaitLimits = UNBOUNDED, *, source: str = "") -> PermitT:
        """Return the permit for *amounts*; one that is not HELD yet goes to `wait`.

        *source* is who asks: what the vendor tells of its limits is kept apart for each. Raises LimitRejected at once
        for what can never fit; a pool in this process also where the queue is full, and for what cannot be had within
        *waits* or its own `max_wait`.
        """

    @abstractmethod
    async def wait(self, permit: PermitT) -> None:
        """Wait until *permit* may pass. Raises LimitRejected like `request`, also later: a pause may come meanwhile."""

    async def acquire(self, amounts: Amounts = NOTHING, waits: WaitLimits = UNBOUNDED, *, source: str = "") -> PermitT:
        """Wait until *amounts* may pass and a slot is free, and return the permit. Raises LimitRejected."""
        permit = self.request(amounts, waits, source=source)
        if permit.state is not State.HELD:
            await self.wait(permit)
        return permit

    @abstractmethod
    def settle(self, permit: PermitT, result: AttemptResult) -> None:
        """Give back the slot of *permit* and what was not used. From any thread; only the first call counts."""

    @abstractmethod
    def update_from_headers(self, permit: PermitT, told: Mapping[str, tuple[int, float]]) -> None:
        """Record what the vendor says is left, and for how many seconds, before the attempt of *permit* is over."""

    @abstractmethod
    def reconfigure(self, options: LimitOptions) -> None:
        """Hold to *options* from now on: what was admitted, attempts under way, the queue and pauses go on.

        Only a rate of a period that the pool has not had so far begins at nothing.
        """

    @abstractmethod
    def left(self) -> PoolSnapshot:
        """What may still pass, as far as this process knows."""

    def __repr__(self) -> str:
        return f"<Pool {self.name}: {self.left()}>"


class LimitStore(Protocol):
    """Makes the pools of a hub."""

    def make_pool(self, name: str, options: LimitOptions, scope: PoolScope = "limit") -> LimitPool[Any]:
        """Return the pool *name* of *scope*."""
        ...

    async def forget_pool(self, pool: LimitPool[Any]) -> None:
        """Give back what this process holds of *pool*, which it does not use any more."""
        ...
