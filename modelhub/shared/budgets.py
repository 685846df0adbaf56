"""Budgets in the store: what all processes have spent and reserved."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Sequence
from typing import Any

from modelhub.accounting.budget_store import AccountState, BudgetClaim, BudgetStoreDownError
from modelhub.middleware.limit.loop_timer import on_loop
from modelhub.shared.connection import StoreUnavailableError, load_script
from modelhub.shared.link import StoreClient, StoreLink, StoreLinks

__all__ = ["CLIENT_KEY", "BudgetClient", "SharedBudgets"]

CLIENT_KEY = "budgets"
"""By which a link knows its client of budgets."""

HOLD_SECONDS = 900.0
"""After what time the reservation of a call that was never settled ends; a call that takes longer is counted still."""
_MAX_BACKLOG = 20_000  # settlements that are kept while the store is down


class _Reservation:
    """What a call has reserved, on the loop of *client*."""

    def __init__(
        self, client: BudgetClient, claims: Sequence[BudgetClaim], call_id: str, states: Sequence[AccountState]
    ) -> None:
        self.states = states
        self._client = client
        self._claims = claims
        self._settlements = [call_id]

    def settle(self, used: Sequence[int]) -> None:
        """Replace each claim by what was *used*."""
        try:
            call_id = self._settlements.pop()
        except IndexError:
            return
        operation = {
            "op": "settle",
            "id": call_id,
            "used": list(used),
            "seconds": [claim.seconds for claim in self._claims],
            "unreserved": not self.states,  # it was admitted without the store
        }
        keys = self._client.keys_of(self._claims)
        on_loop(self._client.link.loop, self._client.post, keys, operation)


class BudgetClient(StoreClient):
    """The settlements of one event loop: sent one after the other, and kept while the store is down."""

    def __init__(self, link: StoreLink) -> None:
        self.link = link
        self._store = link.store
        self._outbox: deque[tuple[Sequence[str], dict[str, Any]]] = deque(maxlen=_MAX_BACKLOG)
        self._sender: asyncio.Task[None] | None = None

    def keys_of(self, claims: Sequence[BudgetClaim]) -> list[str]:
        """Return both keys of each claim's account; the braces keep all of them in one place of a cluster."""
        base = f"{{{self._store.options.prefix}:budgets}}"
        return [f"{base}:{claim.account}:{part}" for claim in claims for part in ("state", "held")]

    async def reserve(self, claims: Sequence[BudgetClaim]) -> _Reservation:
        """Reserve all of *claims*, or none. Raises StoreUnavailableError."""
        # What this process knows to be spent includes what it has settled: that must be told first, or it counts twice.
        self._send()
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender})
        call_id = self.link.next_id()
        operation = {
            "op": "reserve",
            "id": call_id,
            "hold": round(HOLD_SECONDS * 1e6),
            "claims": [
                {
                    "limit": claim.limit,
                    "amount": claim.amount,
                    "known": claim.known,
                    "seconds": claim.seconds,
                    "enforce": claim.enforce,
                }
                for claim in claims
            ],
        }
        states = await self._run(self.keys_of(claims), operation)
        return _Reservation(
            self, claims, call_id, [AccountState(spent, held, bool(refused)) for spent, held, refused in states]
        )

    def reserve_nothing(self, claims: Sequence[BudgetClaim]) -> _Reservation:
        """Return the reservation of a call that is made without the store; what it uses is told to that later."""
        return _Reservation(self, claims, self.link.next_id(), ())

    async def _run(self, keys: Sequence[str], operation: dict[str, Any]) -> Any:
        return await self.link.connection.run(load_script("budget"), keys, (json.dumps(operation),))

    def post(self, keys: Sequence[str], operation: dict[str, Any]) -> None:
        """Send the settlement *operation*, as soon as possible. Must be on the client's loop."""
        self._outbox.append((keys, operation))
        self._send()

    def _send(self) -> None:
        if self._store.monitor.is_down or self.link.is_closed:
            return
        if self._outbox and (self._sender is None or self._sender.done()):
            self._sender = self.link.loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._outbox:
            keys, operation = self._outbox[0]
            try:
                await self._run(keys, operation)
            except StoreUnavailableError as error:
                self.link.report_failure(error)
                return
            self._outbox.popleft()

    def store_is_back(self) -> None:
        """Send what was settled meanwhile."""
        self._send()

    async def aclose(self) -> None:
        """Send what is to be sent."""
        self._send()
        if self._sender is not None and not self._sender.done():
            await asyncio.wait({self._sender}, timeout=2 * self._store.options.timeout)


class SharedBudgets:
    """A `BudgetStore` in the store of a hub."""

    def __init__(self, store: StoreLinks) -> None:
        self._store = store

    async def reserve(self, claims: Sequence[BudgetClaim]) -> _Reservation:
        """Reserve all of *claims*, or none. Raises BudgetStoreDownError."""
        link = self._store.link()
        client = link.clients.get(CLIENT_KEY)
        if not isinstance(client, BudgetClient):
            client = link.clients[CLIENT_KEY] = BudgetClient(link)
        if not self._store.monitor.is_down:
            try:
                return await client.reserve(claims)
            except StoreUnavailableError as error:
                link.report_failure(error)
        if self._store.options.when_down.budgets == "refuse":
            raise BudgetStoreDownError(self._store.monitor.reason)
        return client.reserve_nothing(claims)
