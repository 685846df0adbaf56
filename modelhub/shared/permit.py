"""Permits of pools in the store."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from modelhub.middleware.limit.permit import AttemptPermit, AttemptResult, WaitLimits

if TYPE_CHECKING:
    from modelhub.core.errors import LimitRejected
    from modelhub.middleware.limit.rates import Amounts
    from modelhub.shared.admissions import RecordedAdmission

__all__ = ["ClientView", "Operation", "SharedPermit"]

_UNKNOWN = AttemptResult()

Operation = tuple[Any, ...]
"""What the script of a pool is to do: the operation's name, and what it needs."""


class ClientView(Protocol):
    """One pool as one event loop uses it; see `PoolClient`."""

    loop: asyncio.AbstractEventLoop
    waiting: dict[str, SharedPermit]
    """Those that the store has not admitted yet, by id, in the order in which they came."""
    active: dict[str, SharedPermit]
    """Those whose attempts are under way, by id."""

    async def request(self, permit: SharedPermit, max_queue: int, time_left: int, wait_budget: int) -> None:
        """Ask the store for *permit*, and wait until there is an answer."""
        ...

    def admit_locally(self, permit: SharedPermit) -> None:
        """Give *permit*, which was admitted without the store, an id."""
        ...

    def cancel(self, permit: SharedPermit) -> None:
        """Take *permit* out of the queue."""
        ...

    def refuse(self, permit: SharedPermit, refusal: LimitRejected) -> None:
        """Take *permit* out of the queue, and say why."""
        ...

    def request_was_sent(self, permit: SharedPermit) -> None:
        """Tell the store if the request of *permit* was written long after it was admitted."""
        ...

    def post(self, operation: Operation) -> None:
        """Send *operation* with the next call."""
        ...

    def post_soon(self, operation: Operation) -> None:
        """Send *operation* with the next call, or in a moment if there is none."""
        ...

    def restore(self, admitted: Mapping[str, list[tuple[float, int]]]) -> None:
        """Tell the store what this process *admitted*, and which attempts of this loop last."""
        ...

    async def ask(self) -> None:
        """Wait until the store has said what is left; or until it is down."""
        ...


class SharedPermit(AttemptPermit):
    """One attempt's way through a pool in the store; the lease that its slot is held by has the same *id*."""

    __slots__ = ("client", "granted_at", "id", "latest", "needs", "recorded", "settle_locally", "timeout")

    def __init__(
        self,
        give_back: Callable[[SharedPermit, AttemptResult], None],
        amounts: Amounts,
        needs: Mapping[str, int],
        waits: WaitLimits,
        source: str,
    ) -> None:
        super().__init__(give_back, amounts, waits, source)
        self.needs = needs
        """What it takes of each rate, by the rate's key."""
        self.id = ""
        self.client: ClientView | None = None
        self.timeout: asyncio.Timeout | None = None
        """What ends its wait, if it has a `max_wait`."""
        self.latest = 0.0
        """When that is over, in the time of its loop."""
        self.granted_at = math.inf
        """When the store admitted it, by its loop's clock, or a little earlier."""
        self.recorded: RecordedAdmission = ()
        self.settle_locally: Callable[[AttemptResult], None] | None = None
        """Settles it in the pool that stands in for the store while that is down."""

    def on_sent(self) -> None:
        """Count the attempt from now on, if long ago it was admitted: its request is written only now."""
        if self.client is not None:
            self.client.request_was_sent(self)
