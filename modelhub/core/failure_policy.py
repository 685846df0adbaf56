"""What may be done about a failure: the columns of the failure table."""

from __future__ import annotations

import enum
import warnings
from typing import NamedTuple

__all__ = ["BreakerEffect", "Chargeable", "FailurePolicy", "RetryRule"]


_FORMER_VALUES: dict[object, str] = {
    "only if nobody is behind": "only if it is the last model",
    "after Retry-After, if short or nobody is behind": "after Retry-After, if that is short or it is the last model",
}


class RetryRule(enum.Enum):
    """May the same model be asked again?"""

    NO = "no"
    YES = "yes"
    ONCE = "once"
    IF_LAST = "only if it is the last model"
    AS_ASKED = "after Retry-After, if that is short or it is the last model"

    @classmethod
    def _missing_(cls, value: object) -> RetryRule | None:
        """Accept the values of the release before, with a DeprecationWarning."""
        if (new_value := _FORMER_VALUES.get(value)) is None:
            return None
        warnings.warn(f"the value {value!r} of RetryRule is {new_value!r} now", DeprecationWarning, stacklevel=4)
        return cls(new_value)


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


class FailurePolicy(NamedTuple):
    """What may be done about a failure: the row of the failure table."""

    what: str
    retry: RetryRule = RetryRule.NO
    fall_back: bool = True
    breaker: BreakerEffect = BreakerEffect.IGNORES
    billed: Chargeable = Chargeable.NO
