"""What a pool of a rate limit admits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from modelhub.middleware.limit.rates import MINUTE, Rate, Rates, What
from modelhub.options import Duration, LayerOptions

__all__ = ["LimitOptions"]

_BURST_SHARES = {"requests": 0.1, "tokens": 0.5, "input_tokens": 0.5, "output_tokens": 0.5}

_MIN_REQUEST_BURST = 5

_Requests = Annotated[int, Field(gt=0, le=10_000_000)]

_Tokens = Annotated[int, Field(gt=0, le=10_000_000_000)]


class LimitOptions(LayerOptions):
    """What a pool admits. It admits less while the vendor's headers report that less is left."""

    BOUNDS: ClassVar[tuple[str, ...]] = (
        "requests_per_minute",
        "tokens_per_minute",
        "input_tokens_per_minute",
        "output_tokens_per_minute",
        "requests",
        "tokens",
        "input_tokens",
        "output_tokens",
        "concurrency",
    )
    """The keys of which a pool needs at least one."""

    requests_per_minute: _Requests | None = None
    """Attempts in any 60 seconds."""
    tokens_per_minute: _Tokens | None = None
    """Input and output tokens in any 60 seconds, estimated before the request and settled after it."""
    input_tokens_per_minute: _Tokens | None = None
    """Input tokens in any 60 seconds, for vendors that count them apart."""
    output_tokens_per_minute: _Tokens | None = None
    """Output tokens in any 60 seconds, for vendors that count them apart."""
    requests: Rates | None = None
    """Attempts in any other period: `10/s`, `100/10s`, `5000/day`; or a list of rates that all hold."""
    tokens: Rates | None = None
    """Input and output tokens in any other period, such as `100_000/day`."""
    input_tokens: Rates | None = None
    """Input tokens in any other period."""
    output_tokens: Rates | None = None
    """Output tokens in any other period."""
    concurrency: Annotated[int, Field(gt=0, le=100_000)] | Literal["auto"] | None = None
    """Attempts in flight at the same time. `auto` adapts to the vendor: it starts at 4, grows while all are in use, and
    is halved by a 429."""
    burst: Annotated[float, Field(ge=0, le=1)] | None = None
    """The share of a rate that may pass at once after a pause; the remainder is spread over the period. 1 is all at
    once, 0 is one by one. The default is a tenth of the requests (at least 5), half of the tokens, and all of a rate
    whose period is over a minute."""
    max_queue: Annotated[int, Field(ge=0)] | None = None
    """How many attempts may wait in the queue; one more is rejected. Unlimited by default."""
    max_wait: Annotated[float, Duration(0, 86_400)] | None = None
    """How long an attempt may wait; a longer wait is rejected as soon as it is foreseen. By default an attempt waits
    until the call's deadline, or half of the time until then if there is a fallback. For a pause that the vendor asked
    for, and for a limit that is used up by its headers or over a minute, it waits 60 s, or 10 s if there is a fallback.
    """

    def rates(self) -> Iterator[tuple[What, Rate]]:
        """Every rate, by what it counts."""
        counted: tuple[What, ...] = ("requests", "tokens", "input_tokens", "output_tokens")
        for what in counted:
            per_minute = getattr(self, f"{what}_per_minute")
            if per_minute is not None:
                yield what, Rate(per_minute, MINUTE)
            for rate in getattr(self, what) or ():
                yield what, rate

    def burst_of(self, what: What, rate: Rate) -> float:
        """How much of *rate* may pass at once."""
        if self.burst is not None:
            return self.burst * rate.amount
        if rate.period > MINUTE:
            return rate.amount
        share = _BURST_SHARES[what] * rate.amount
        return max(share, _MIN_REQUEST_BURST) if what == "requests" else share
