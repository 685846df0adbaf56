"""The periods of budgets.

They are those of the calendar, in UTC; a span such as `30d` is counted from the epoch, so that every process and every
restart means the same one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["period"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_SPANS = {"hour": _HOUR, "h": _HOUR, "day": _DAY, "d": _DAY}


def period(per: str, at: datetime) -> tuple[datetime, datetime]:
    """The beginning and the end of the period *per* in which *at* is."""
    at = at.astimezone(UTC)
    if per == "month":
        start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return start, (start + timedelta(days=32)).replace(day=1)
    span = _SPANS[per] if per in _SPANS else int(per[:-1]) * _SPANS[per[-1]]
    start = _EPOCH + (at - _EPOCH) // span * span
    return start, start + span
