"""Usage records: one for each call, made when the call ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from modelhub.core.events import CallEnded
from modelhub.core.response import COUNTS, Attempt, ChatUsage

__all__ = ["AttemptUsage", "UsageRecord"]

SourceLookup = Callable[[str], str | None]
"""Returns where the price of a model's entry comes from, or None."""


@dataclass(frozen=True, slots=True)
class AttemptUsage:
    """The usage of one attempt. If the vendor charged nothing for it, the counts are 0 and `used` is false.

    `arm` is the deployment or key that was asked, if several share its place in the chain. `response_model` is the
    model that the vendor reported, or None. `cost` is in US dollars, or None if it is unknown; `prices` is the source
    of the prices. `estimated` means that the vendor did not report the usage. Times are in seconds; `started` counts
    from the start of the call. `dropped` and `rounded` are the call's parameters that were left out or changed for this
    model, with the reason or the change.
    """

    model: str
    vendor: str
    model_name: str
    response_model: str | None
    outcome: str
    used: bool
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    cost: Decimal | None
    prices: str | None
    estimated: bool
    started: float
    duration: float
    dropped: Mapping[str, str] = field(default_factory=dict)
    rounded: Mapping[str, str] = field(default_factory=dict)
    arm: str | None = None

    @classmethod
    def from_event(cls, attempt: Attempt, find_source: SourceLookup) -> AttemptUsage:
        """Make the record of *attempt*, which has ended."""
        usage: ChatUsage | None = attempt["usage"]
        cost = usage.cost if usage is not None else Decimal(0)
        return cls(
            model=attempt["model"],
            vendor=attempt["provider"],
            model_name=attempt["model_name"],
            response_model=attempt["response_model"],
            outcome=attempt["outcome"] or "",
            used=usage is not None,
            **{key: usage[key] if usage is not None else 0 for key in COUNTS},
            cost=cost,
            prices=find_source(attempt["model"]) if usage is not None and cost is not None else None,
            estimated=usage is not None and bool(usage["estimated"]),
            started=attempt["started"],
            duration=attempt["duration"] or 0.0,
            dropped=dict(attempt["dropped"]),
            rounded=dict(attempt["rounded"]),
            arm=attempt["arm"],
        )


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """The usage of one call, all its attempts together.

    `model`, `arm`, `vendor`, `model_name` and `response_model` (the one that the vendor reported) are those of the last
    attempt, which answered if the call was answered. `outcome` is "complete", "failed", "closed", "cancelled" or
    "abandoned", `error` the name of the error's class. `cost` is None if the cost of any attempt is unknown. `parts`
    has every attempt that was made; skipped models are not in it. `shape` is what the call asked for, without what it
    said; None in records of earlier versions.
    """

    call_id: str
    at: datetime
    requested: str
    model: str | None
    vendor: str | None
    model_name: str | None
    response_model: str | None
    outcome: str
    error: str | None
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    reasoning_tokens: int
    cost: Decimal | None
    prices: str | None
    estimated: bool
    first_token: float | None
    duration: float
    attempts: int
    tags: Mapping[str, str]
    parts: tuple[AttemptUsage, ...]
    shape: Mapping[str, Any] | None = None
    arm: str | None = None

    @classmethod
    def from_event(cls, event: CallEnded, find_source: SourceLookup = lambda _: None) -> UsageRecord:
        """Make the record of the call that ended with *event*; *find_source* returns the source of a model's price."""
        parts = tuple(
            AttemptUsage.from_event(attempt, find_source) for attempt in event.attempts if not attempt["skipped"]
        )
        last = parts[-1] if parts else None
        sources = {part.prices: None for part in parts if part.prices is not None}
        costs = [part.cost for part in parts if part.cost is not None]
        return cls(
            call_id=event.call_id,
            at=event.at.astimezone(UTC),
            requested=event.requested,
            model=event.model,
            vendor=last.vendor if last is not None else None,
            model_name=last.model_name if last is not None else None,
            response_model=last.response_model if last is not None else None,
            outcome=event.how,
            error=event.error,
            **{key: sum(getattr(part, key) for part in parts) for key in COUNTS},
            cost=sum(costs, Decimal(0)) if len(costs) == len(parts) else None,
            prices=", ".join(sources) or None,
            estimated=any(part.estimated for part in parts),
            first_token=event.first_token,
            duration=event.duration,
            attempts=len(parts),
            tags=dict(event.tags),
            parts=parts,
            shape=event.shape,
            arm=last.arm if last is not None else None,
        )
