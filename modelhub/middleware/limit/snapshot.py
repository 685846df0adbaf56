"""What is left of a pool, as a picture of one moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from modelhub.middleware.limit.rates import Rate, What

__all__ = ["PoolSnapshot", "RateSnapshot"]


class RateSnapshot(NamedTuple):
    """One rate, and how much of it is left; below 0 where attempts used more than was expected of them."""

    what: What
    rate: Rate
    left: int

    def __str__(self) -> str:
        return f"{self.left} of {self.rate.amount} {self.what.replace('_', ' ')}/{self.rate.unit}"


class PoolSnapshot(NamedTuple):
    """One pool: its rates, its `slots` (None: no bound) and how many are `taken`, how many attempts are `waiting`, and
    for how many more seconds it is `paused`; after `spread` seconds the rates let one more pass."""

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
        return ", ".join(self._parts())

    def _parts(self) -> Iterator[str]:
        yield from map(str, self.rates)
        if self.slots is not None:
            yield f"{max(0, self.slots - self.taken)} of {self.slots} places"
        else:
            yield f"{self.taken} under way"
        if self.waiting:
            yield f"{self.waiting} waiting"
        if self.paused:
            yield f"paused for {self.paused:.1f} s"

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
