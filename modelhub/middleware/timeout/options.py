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
    """The least speed of an answer; a slower one is given up."""

    below: _Speed
    """The least speed, in characters a second: `20/s`, or a number. Text, thinking and arguments of tools count."""
    after: Annotated[float, Duration(0.1, 600)] = 10.0
    """The time over which the speed is measured, such as `10s`. Time in which nobody waits for the vendor does not
    count."""


class TimeoutOptions(LayerOptions):
    """How long one attempt may take, how long it may be silent, and how slow it may be."""

    connect: Annotated[float, Duration(0.001, 600)] = 5.0
    """The time limit for connecting, TLS included."""
    first_token: Annotated[float, Duration(0.001, 600)] = 30.0
    """The time limit for the first content of a stream, from sending the request; pings do not count. It also applies
    to plain calls that are streamed internally (`stream_inside`)."""
    idle: Annotated[float, Duration(0.001, 600)] = 30.0
    """The time limit between one content of a stream and the next."""
    slow: SlowOptions | None = None
    """The least speed of a stream, such as `{below: 20/s, after: 10s}`. Unlimited by default."""
    total: Annotated[float, Duration(0.001, 86_400)] = 120.0
    """The time limit for the complete answer, whether or not anybody reads it."""
