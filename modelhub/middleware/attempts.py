"""What attempts and their failures say about asking again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from modelhub.core.errors import AllModelsFailed, BreakerEffect, BreakerOpen, CallError, TimedOut
from modelhub.core.response import Attempt

__all__ = ["count_made", "is_cooling_down", "leaves_of"]


def count_made(attempts: Sequence[Attempt]) -> int:
    """Return how many of *attempts* were made, and not only skipped."""
    return sum(not attempt["skipped"] for attempt in attempts)


def leaves_of(error: CallError) -> Iterable[CallError]:
    """Return the failures of single models that *error* consists of."""
    return error.leaves() if isinstance(error, AllModelsFailed) else (error,)


def is_cooling_down(error: CallError) -> bool:
    """Whether *error* says that its model is cooling down: it may be asked again after a while."""
    if isinstance(error, BreakerOpen):
        cause = error.__cause__
        return not isinstance(cause, CallError) or cause.breaker_effect is not BreakerEffect.OPENS
    # Its breaker has opened, or the vendor says the same. Who was silent is not waited for.
    return error.should_retry is False and error.retry_after is not None and not isinstance(error, TimedOut)
