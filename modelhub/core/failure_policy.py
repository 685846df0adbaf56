"""What may be done about a failure: the columns of the failure table."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["BreakerEffect", "Chargeable", "FailurePolicy", "RetryRule"]


class RetryRule(enum.Enum):
    """May the same model be asked again?"""

    NO = "no"
    YES = "yes"
    ONCE = "once"
    IF_LAST = "only if nobody is behind"
    AS_ASKED = "after Retry-After, if short or nobody is behind"


class BreakerEffect(enum.Enum):
    """What the failure means to the model's breaker."""

    IGNORES = "-"
    COUNTS = "counts"
    COOLS = "cools"
    OPENS = "opens"


class Chargeable(enum.Enum):
    """May the vendor have charged for the attempt?"""

    NO = "no"
    MAYBE = "maybe"
    YES = "yes"


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """What may be done about a failure: the row of the failure table."""

    what: str
    retry: RetryRule = RetryRule.NO
    fall_back: bool = True
    breaker: BreakerEffect = BreakerEffect.IGNORES
    billed: Chargeable = Chargeable.NO
