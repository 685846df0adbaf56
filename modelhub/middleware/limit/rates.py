"""Rates as a file writes them: `10/s`, `500/min`, `100/10s`, `100_000/day`."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema
from pydantic_core import PydanticCustomError

__all__ = ["MINUTE", "RATE_SCHEMA", "Amounts", "Rate", "Rates", "What", "parse_rate"]

MINUTE = 60.0
_DAY = 86_400.0
_MAX_PERIOD = 31 * _DAY
_MAX_AMOUNT = 1_000_000_000_000

_UNITS = {"ms": 0.001, "s": 1.0, "m": MINUTE, "min": MINUTE, "h": 3600.0, "d": _DAY}
_UNITS |= {"second": 1.0, "minute": MINUTE, "hour": 3600.0, "day": _DAY}
_UNIT_NAMES = {1.0: "s", MINUTE: "min", 3600.0: "h", _DAY: "day"}
_PATTERN = r"\s*([0-9][0-9_]*)\s*/\s*([0-9]+(?:\.[0-9]+)?)?\s*(" + "|".join(sorted(_UNITS)) + r")\s*"
_RATE = re.compile(_PATTERN)

What = Literal["requests", "tokens", "input_tokens", "output_tokens"]
"""What a rate counts."""


class Amounts(NamedTuple):
    """What one attempt takes, besides being one request: tokens that go in and that come out."""

    input: int = 0
    output: int = 0

    def of(self, what: What) -> int:
        """How much of *what* it is."""
        if what == "requests":
            return 1
        if what == "tokens":
            return self.input + self.output
        return self.input if what == "input_tokens" else self.output


class Rate(NamedTuple):
    """At most *amount* in any *period* seconds."""

    amount: int
    period: float

    def __str__(self) -> str:
        return f"{self.amount}/{self.unit}"

    @property
    def unit(self) -> str:
        """The period as it stands behind the slash: "min", "10s"."""
        return _UNIT_NAMES.get(self.period) or f"{self.period:g}s"


def parse_rate(value: Any) -> Rate:
    """Return *value*, such as "10/s", as a Rate. Raises PydanticCustomError for what is none, or out of bounds."""
    if isinstance(value, Rate):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        hint = f"did you mean `{value}/min`?"
        raise PydanticCustomError("rate", "has no period: write it like 10/s, 500/min or 100000/day", {"hint": hint})
    match = _RATE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise PydanticCustomError("rate", "expected a rate such as 10/s, 500/min, 100/10s or 100000/day")
    rate = Rate(int(match[1].replace("_", "")), float(match[2] or 1) * _UNITS[match[3]])
    if not 0 < rate.amount <= _MAX_AMOUNT:
        raise PydanticCustomError("rate", "the amount of a rate is between 1 and {most}", {"most": f"{_MAX_AMOUNT:,}"})
    if not _UNITS["ms"] <= rate.period <= _MAX_PERIOD:
        raise PydanticCustomError("rate", "the period of a rate is between 1 ms and 31 days")
    return rate


def _parse_rates(value: Any) -> Any:
    several = isinstance(value, list | tuple) and not isinstance(value, Rate)
    if several and not value:
        raise PydanticCustomError("rate", "is empty: give a rate such as 10/s, or remove it")
    return tuple(parse_rate(item) for item in value) if several else (parse_rate(value),)


RATE_SCHEMA = {"type": "string", "pattern": f"^{_PATTERN}$", "examples": ["10/s", "500/min", "100000/day"]}

Rates = Annotated[
    tuple[Rate, ...],
    BeforeValidator(_parse_rates),
    PlainSerializer(lambda rates: [str(rate) for rate in rates], list[str], when_used="json"),
    WithJsonSchema({"anyOf": [RATE_SCHEMA, {"type": "array", "items": RATE_SCHEMA, "minItems": 1}]}),
]
"""One rate, or a list of rates that all hold."""
