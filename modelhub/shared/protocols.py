"""What the parts of the store know of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from modelhub.core.clock import Clock
    from modelhub.core.errors import LimitRejected
    from modelhub.middleware.limit.options import LimitOptions
    from modelhub.middleware.limit.rates import Rate, What
    from modelhub.shared.admissions import Admissions
    from modelhub.shared.connection import StoreConnection, StoreUnavailableError
    from modelhub.shared.health import HealthMonitor
    from modelhub.shared.options import SharedOptions
    from modelhub.shared.permit import ClientView, Operation, SharedPermit

__all__ = ["LinkView", "PoolView", "StoreView"]


class LinkView(Protocol):
    """What one event loop has of the store; see `StoreLink`."""

    member: str
    loop: asyncio.AbstractEventLoop
    connection: StoreConnection
    is_closed: bool

    def client(self, pool: PoolView) -> ClientView:
        """Return this loop's client of *pool*."""
        ...

    @property
    def budgets(self) -> Any:
        """Return this loop's client of budgets, a `BudgetClient`."""
        ...

    def report_failure(self, error: StoreUnavailableError) -> None:
        """Record that the store is down, unless it is this link that is closed."""
        ...

    def next_id(self) -> str:
        """Return an id that nobody else has had."""
        ...


class StoreView(Protocol):
    """The store of a hub; see `SharedStore`."""

    options: SharedOptions
    clock: Clock
    monitor: HealthMonitor

    @property
    def cooldowns(self) -> Any:
        """The breakers of the hub, a `SharedCooldowns`."""
        ...

    def known_processes(self, since: float) -> int:
        """Return how many processes share the limits, as counted since that instant; 0 if they were not."""
        ...

    def tell_cooldown(self, name: str, seconds: float) -> None:
        """Tell all processes that the model *name* cools down for so long. From any thread."""
        ...

    def link(self) -> LinkView:
        """Return the link of the running loop."""
        ...

    def forget_link(self, link: LinkView) -> None:
        """Remove a link that is closed."""
        ...

    def clients(self, pool: PoolView) -> Iterator[ClientView]:
        """Yield the clients of *pool*, one for each event loop."""
        ...

    def hand_over(self, pool: PoolView, operation: Operation) -> None:
        """Send *operation*, whose own loop has ended, by another one."""
        ...


class PoolView(Protocol):
    """A pool that is kept in the store; see `SharedPool`."""

    store: StoreView
    name: str
    key: str
    keys: list[str]
    epoch: str
    version: int
    options: LimitOptions
    rates: dict[str, tuple[What, Rate]]
    admissions: Admissions
    counted: tuple[int, float]
    max_delay: float
    grant_lifetime: float

    def settings(self, member: str) -> tuple[str | bytes, ...]:
        """Return what the script must know of the pool, for calls of *member*."""
        ...

    def last_left(self) -> Sequence[int]:
        """Return what of each rate was left for all processes when the store last said it."""
        ...

    def show(self, shown: Sequence[float]) -> None:
        """Record what the store says of the pool."""
        ...

    def record(self, permit: SharedPermit) -> None:
        """Record that *permit* was admitted."""
        ...

    def explain(self, permit: SharedPermit, code: str, number: int, value: int) -> LimitRejected:
        """Return the refusal of *permit* that the script gave as *code*."""
        ...

    def rejected(self, why: str, retry_after: float | None = None) -> LimitRejected:
        """Return the refusal that says *why*."""
        ...

    def paused(self, client: ClientView, seconds: float) -> None:
        """Refuse those waiting at *client* who have no time for a pause."""
        ...

    def reject_first(self, client: ClientView, wait: float) -> None:
        """Refuse the first ticket, of *client*, if *wait* seconds are too long."""
        ...

    def has_lost_data(self) -> None:
        """Tell the store what this process admitted, and which of its attempts last."""
        ...

    def take_unreported(self) -> Mapping[str, list[tuple[float, int]]]:
        """Return, once, what was admitted while the store was down, by age."""
        ...
