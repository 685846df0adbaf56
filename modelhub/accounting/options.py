"""What the file says of accounting: the section `usage:`, and the entries of `budgets:`."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field

from modelhub.options import Duration, Options

__all__ = ["SpendingOptions", "UsageOptions"]


class UsageOptions(Options):
    """What is counted, priced and kept of every call."""

    cost: bool | Literal["auto"] = "auto"
    """Whether calls are priced: `auto` loads the table of published prices when a cost is first looked at, `true` when
    the hub is made (and it must be installed), `false` prices nothing."""
    ledger: Annotated[str, Field(min_length=1)] | None = None
    """An SQLite file that gets a row for every call; beside this file, unless the path is absolute."""
    batch: Annotated[int, Field(ge=0, le=10_000)] = 50
    """How many finished calls may not be written yet; with 0 or 1, each is written before its call returns."""
    max_delay: Annotated[float, Duration(0, 60)] = 1.0
    """How long a finished call may wait to be written; with 0, each is written before its call returns."""
    refresh: Annotated[float, Duration(0.1, 3600)] = 5.0
    """How old may be what budgets know of other processes that write the same ledger, before it is read again in the
    background. They hold to within what the others spend in this time and their `max_delay`, and have under way."""


class SpendingOptions(Options):
    """What may be spent in a period, in money or in tokens: on one model, chain or tag, or on everything."""

    usd: Annotated[Decimal, Field(gt=0)] | None = None
    """US dollars."""
    tokens: Annotated[int, Field(gt=0)] | None = None
    """Input and output tokens together."""
    per: Annotated[str, Field(pattern=r"^(hour|day|month|[1-9][0-9]{0,3}[hd])$")]
    """The period: `hour`, `day`, `month` (by the calendar, in UTC), or a span such as `12h` or `30d`."""
    model: str | None = None
    """The model whose attempts count, in whichever chain it was asked."""
    chain: str | None = None
    """The chain whose calls count: those that asked for it by this name."""
    tag: Annotated[str, Field(pattern=r"^[^=]+(=.*)?$")] | None = None
    """The tag whose calls count: `job=nightly`, or `user` for a budget of its own for each user."""
    on_unpriced: Literal["refuse", "allow"] = "refuse"
    """Whether the file may set a budget in dollars on a model whose price is not known, and whose calls it cannot
    count."""
    on_exceeded: Literal["fail", "warn"] = "fail"
    """Refuse a call that would exceed the budget, or log a warning, once in a period."""
