"""The periods of budgets, in UTC.

Hours, days and months are those of the calendar; spans such as `30d` are counted from 1970, so that they are the same
in every process and after every restart.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["find_period"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_SPANS = {"hour": _HOUR, "h": _HOUR, "day": _DAY, "d": _DAY}


def find_period(per: str, at: datetime) -> tuple[datetime, datetime]:
    """Return the start and the end of the period *per* ("day", "30d") that contains *at*."""
    at = at.astimezone(UTC)
    if per == "month":
        start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return start, (start + timedelta(days=32)).replace(day=1)
    span = _SPANS[per] if per in _SPANS else int(per[:-1]) * _SPANS[per[-1]]
    start = _EPOCH + (at - _EPOCH) // span * span
    return start, start + span
