"""The usage record: one for each call, frozen, made from what its settlement tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from modelhub.core.events import CallEnded
from modelhub.core.response import COUNTS, Attempt, ChatUsage

__all__ = ["AttemptUsage", "UsageRecord"]

Source = Callable[[str], str | None]
"""Tells where the price of a model's entry comes from."""


@dataclass(frozen=True, slots=True)
class AttemptUsage:
    """What one attempt used. The counts are 0, and `used` is false, where the vendor charged nothing for it.

    `response_model` is the model that the vendor said it was, None if it did not. `cost` is in US dollars, None where
    it is not known; `prices` says by which prices it was worked out, and `estimated` that the vendor did not give the
    figures. Times are in seconds, `started` since the call began.
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

    @classmethod
    def of(cls, attempt: Attempt, source: Source) -> AttemptUsage:
        """The record of *attempt*, which is over."""
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
            prices=source(attempt["model"]) if usage is not None and cost is not None else None,
            estimated=usage is not None and bool(usage["estimated"]),
            started=attempt["started"],
            duration=attempt["duration"] or 0.0,
        )


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """What one call used, all its attempts together.

    `model`, `vendor`, `model_name` and `response_model` (the model that the vendor said it was) are those of the model
    asked last: who answered, if anybody did. `outcome` is
    "complete", "failed", "closed", "cancelled" or "abandoned", `error` the failure's class. `cost` is None if that of
    any attempt is not known. `parts` has every attempt that was made, not those that were passed over.
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

    @classmethod
    def of(cls, event: CallEnded, source: Source = lambda _: None) -> UsageRecord:
        """The record of the call that *event* tells of; *source* knows where prices come from."""
        parts = tuple(AttemptUsage.of(attempt, source) for attempt in event.attempts if not attempt["skipped"])
        last = parts[-1] if parts else None
        sources = {part.prices: None for part in parts if part.prices is not None}
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
            cost=_sum(parts),
            prices=", ".join(sources) or None,
            estimated=any(part.estimated for part in parts),
            first_token=event.first_token,
            duration=event.duration,
            attempts=len(parts),
            tags=dict(event.tags),
            parts=parts,
        )

    def as_dict(self) -> dict[str, Any]:
        """The record as JSON can hold it: money and time as text."""
        found = _plain(self)
        found["parts"] = [_plain(part) for part in self.parts]
        return found


def _sum(parts: tuple[AttemptUsage, ...]) -> Decimal | None:
    total = Decimal(0)
    for part in parts:
        if part.cost is None:
            return None
        total += part.cost
    return total


def _plain(record: UsageRecord | AttemptUsage) -> dict[str, Any]:
    return {field.name: _jsonable(getattr(record, field.name)) for field in fields(record)}


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value
