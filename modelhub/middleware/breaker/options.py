"""When the circuit breaker of a model opens, and for how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelhub.options import Duration, LayerOptions

__all__ = ["BreakerOptions"]


class BreakerOptions(LayerOptions):
    """When the circuit breaker of a model opens, and for how long."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """The number of attempts that must fail in a row before the breaker opens. While it is open, no call is sent."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share of failed attempts within `window` that opens the breaker too, from twice `failures` attempts on."""
    window: Annotated[float, Duration(0.1, 3600)] = 30.0
    """The time over which `share` is counted, such as `30s`."""
    pause: Annotated[float, Duration(0.01, 3600)] = 1.0
    """How long the breaker is open at first, plus up to a tenth of random jitter. One call is then sent as a probe;
    each probe that fails doubles the pause."""
    max_pause: Annotated[float, Duration(0.01, 3600)] = 4.0
    """The longest pause after failures that pass by themselves. After a timeout it is at least as long as the
    timeout."""
    slow_first_token: Annotated[float, Duration(0.1, 600)] | None = None
    """Answers whose first content takes longer than this, such as `10s`, are returned but count as failures. By default
    they do not count. When the first content of a plain answer came is known only with `stream_inside`."""
    long_pause: Annotated[float, Duration(0.01, 86_400)] = 60.0
    """How long the breaker is open after failures that need a person: a wrong key, an empty account, an unknown
    model."""
