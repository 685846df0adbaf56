"""How long one attempt may take."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from modelhub.middleware.limit.rates import RATE_SCHEMA, parse_rate
from modelhub.options import Duration, LayerOptions, Options

__all__ = ["SlowOptions", "TimeoutOptions"]


def _parse_speed(value: Any) -> Any:
    if isinstance(value, str):
        rate = parse_rate(value)
        return rate.amount / rate.period
    return value


_Speed = Annotated[
    float,
    Field(gt=0, le=1_000_000),
    BeforeValidator(_parse_speed),
    WithJsonSchema({"anyOf": [{"type": "number", "exclusiveMinimum": 0}, RATE_SCHEMA]}),
]


class SlowOptions(Options):
    """How slowly an answer may come: what is slower is alive, but useless."""

    below: _Speed
    """The least speed, in characters a second: `20/s`, or a number. Text, thinking and arguments of tools count."""
    after: Annotated[float, Duration(0.1, 600)] = 10.0
    """Over how many seconds the speed is measured; time in which nobody waits for the vendor does not count."""


class TimeoutOptions(LayerOptions):
    """How long one attempt may be silent, how slow it may be, and how long it may take."""

    connect: Annotated[float, Duration(0.001, 600)] = 5.0
    """Until the connection stands."""
    first_token: Annotated[float, Duration(0.001, 600)] = 30.0
    """Until a stream's first content arrives, counted from sending the request; pings do not count. Holds for a plain
    call too where it is streamed beneath (`stream_inside`)."""
    idle: Annotated[float, Duration(0.001, 600)] = 30.0
    """Between one content of a stream and the next."""
    slow: SlowOptions | None = None
    """How slowly a stream may come, such as `{below: 20/s, after: 10s}`; no bound if not given."""
    total: Annotated[float, Duration(0.001, 86_400)] = 120.0
    """Until the attempt's answer is complete, whether or not anybody reads it."""
