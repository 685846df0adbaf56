"""The options of accounting: the section `usage:`, and the entries of `budgets:`."""

from __future__ import annotations

import difflib
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from modelhub.accounting.ledger_location import validate_url
from modelhub.options import Duration, Options

__all__ = ["SpendingOptions", "UsageOptions", "find_period"]


class UsageOptions(Options):
    """Which usage of calls is priced and stored."""

    cost: bool | Literal["auto"] = "auto"
    """Whether costs are computed. `auto` loads the table of published prices when a cost is first needed, if the table
    is installed (the extra `prices`). `true` requires the table and loads it with the hub. `false` turns costs off."""
    ledger: Annotated[str, Field(min_length=1)] | None = Field(default=None, repr=False)  # it may hold a password
    """Where every call is recorded: an SQLite file, such as `usage.db` (a relative path is relative to this file's
    folder), or a PostgreSQL database, such as `postgresql://user:${PGPASSWORD}@host/database` (extra `postgres`)."""
    batch: Annotated[int, Field(ge=0, le=10_000)] = 50
    """How many finished calls may be pending before they are written; with 0 or 1, each is written before it ends."""
    max_delay: Annotated[float, Duration(0, 60)] = 1.0
    """How long a finished call may be pending before it is written; with 0, each call is written before it returns."""
    refresh: Annotated[float, Duration(0.1, 3600)] = 5.0
    """How often the spending of other processes that write the same ledger is read again, in the background. Together,
    processes may exceed a budget by what they spend in this time and their `max_delay`, and by calls under way."""

    @field_validator("ledger")
    @classmethod
    def _check_ledger(cls, ledger: str | None) -> str | None:
        try:
            validate_url(ledger or "")
        except ValueError as error:
            raise PydanticCustomError("ledger", "{reason}", {"reason": str(error)}) from None
        return ledger


_PERIOD = re.compile(r"^(hour|day|month|[1-9][0-9]{0,3}[hd])$")


def _check_period(period: str) -> str:
    if _PERIOD.fullmatch(period) is None:
        close = difflib.get_close_matches(period.lower(), ("hour", "day", "month"), 1, cutoff=0.5)
        hint = f"did you mean `{close[0]}`?" if close else ""
        raise PydanticCustomError(
            "period", "expected `hour`, `day`, `month`, or a span of hours or days such as 12h or 30d", {"hint": hint}
        )
    return period


Period = Annotated[str, AfterValidator(_check_period), WithJsonSchema({"type": "string", "pattern": _PERIOD.pattern})]
"""A period of time in which a budget is spent."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)
_SPANS = {"hour": _HOUR, "h": _HOUR, "day": _DAY, "d": _DAY}


def find_period(per: str, at: datetime) -> tuple[datetime, datetime]:
    """Return the start and the end of the period *per* ("day", "30d") that contains *at*, in UTC.

    Hours, days and months are those of the calendar; spans such as `30d` are counted from 1970, so that they are the
    same in every process and after every restart.
    """
    at = at.astimezone(UTC)
    if per == "month":
        start = at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        return start, (start + timedelta(days=32)).replace(day=1)
    span = _SPANS[per] if per in _SPANS else int(per[:-1]) * _SPANS[per[-1]]
    start = _EPOCH + (at - _EPOCH) // span * span
    return start, start + span


class SpendingOptions(Options):
    """A spending limit per period, in US dollars or tokens: for one model, one chain, one tag, or in total."""

    usd: Annotated[Decimal, Field(gt=0)] | None = None
    """The limit in US dollars, such as `50`."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """The limit in tokens, input and output together, such as `100_000`."""
    per: Period
    """The period: `hour`, `day` or `month` of the calendar (in UTC), or a span such as `12h` or `30d`."""
    model: str | None = None
    """Count only attempts at this model, in any chain."""
    chain: str | None = None
    """Count only calls to this chain."""
    tag: Annotated[str, Field(pattern=r"^[^=]+(=.*)?$")] | None = Field(default=None, examples=["job=nightly"])
    """Count only calls with this tag: `job=nightly` for one value, or `user` for a separate budget for each user."""
    on_unpriced: Literal["refuse", "allow"] = "refuse"
    """Whether a budget in dollars may include a model whose price is unknown: `refuse` makes that an error when the
    file is loaded, `allow` does not count the model's calls."""
    on_exceeded: Literal["fail", "warn"] = "fail"
    """What happens to a call that would exceed the budget: `fail` raises BudgetExceeded, `warn` logs a warning once
    per period."""

    @property
    def limit(self) -> Decimal:
        """The limit, in US dollars or in tokens."""
        return Decimal(self.tokens or 0) if self.usd is None else self.usd

    @property
    def has_one_account(self) -> bool:
        """Whether all calls that count share the limit: else each value of the tag has an account of its own."""
        return self.tag is None or "=" in self.tag
