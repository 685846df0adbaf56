"""Where the pools of limits are kept: in this process, or in a store that several processes share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from modelhub.core.clock import Clock
from modelhub.middleware.limit.permit import AttemptResult, State, WaitLimits
from modelhub.middleware.limit.pool import RateLimitPool
from modelhub.middleware.limit.rates import Amounts
from modelhub.middleware.limit.snapshot import PoolSnapshot

if TYPE_CHECKING:
    from modelhub.middleware.limit.options import LimitOptions

__all__ = ["AttemptPermit", "LimitPool", "LimitStore", "LocalLimitStore", "PoolScope"]

PoolScope = Literal["limit", "model"]
"""Whose pool it is: an entry's of `limits:`, or a model's that describes a limit of its own."""


class AttemptPermit(Protocol):
    """One attempt's way through a pool."""

    state: State

    @property
    def on_sent(self) -> Callable[[], None] | None:
        """What is to be called when the request of the attempt is written to its connection, if anything is."""
        ...

    def settle(self, result: AttemptResult = ...) -> None:
        """Give back the slot and what was not used. From any thread; only the first call counts."""
        ...


_PermitT = TypeVar("_PermitT", bound=AttemptPermit)


class LimitPool(Protocol[_PermitT]):
    """One limit.

    Whatever keeps it promises the same: in any period no more passes than its rate admits, in the order in which
    attempts come; what an attempt reserved is replaced once by what it used; what can never pass, or not in time, is
    refused at once; and a pause lasts until the latest of all the instants that vendors asked for.
    """

    name: str
    options: LimitOptions

    def request(self, amounts: Amounts = ..., waits: WaitLimits = ..., *, source: str = "") -> _PermitT:
        """Return the permit for *amounts*; one that is not HELD yet goes to `wait`. Raises LimitRejected."""
        ...

    async def wait(self, permit: _PermitT) -> None:
        """Wait until *permit* may pass. Raises LimitRejected."""
        ...

    async def acquire(self, amounts: Amounts = ..., waits: WaitLimits = ..., *, source: str = "") -> _PermitT:
        """Wait until *amounts* may pass and a slot is free, and return the permit. Raises LimitRejected."""
        ...

    def update_from_headers(self, permit: _PermitT, told: Mapping[str, tuple[int, float]]) -> None:
        """Record what the vendor says is left, and for how many seconds, before the attempt of *permit* is over."""
        ...

    def reconfigure(self, options: LimitOptions) -> None:
        """Hold to *options* from now on: what was admitted, attempts under way, the queue and pauses go on."""
        ...

    def left(self) -> PoolSnapshot:
        """What may still pass, as far as this process knows."""
        ...


class LimitStore(Protocol):
    """Makes the pools of a hub."""

    def make_pool(self, name: str, options: LimitOptions, scope: PoolScope = "limit") -> LimitPool[Any]:
        """Return the pool *name* of *scope*."""
        ...

    async def forget_pool(self, pool: LimitPool[Any]) -> None:
        """Give back what this process holds of *pool*, which it does not use any more."""
        ...


class LocalLimitStore:
    """Keeps pools in this process: the default."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def make_pool(self, name: str, options: LimitOptions, scope: PoolScope = "limit") -> RateLimitPool:  # noqa: ARG002
        """Return a new pool, which only this process uses."""
        return RateLimitPool(name, options, self._clock)

    async def forget_pool(self, pool: LimitPool[Any]) -> None:
        """Do nothing: a pool is only where it is used."""
