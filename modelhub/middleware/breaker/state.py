"""What a breaker remembers of its model."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from modelhub.core.errors import CallError
from modelhub.core.process import register_at_fork
from modelhub.core.threads import new_lock

__all__ = ["AttemptCounts", "BreakerState"]

_BUCKETS = 60  # a window is counted in so many parts, and a part is forgotten as a whole


@dataclass(slots=True)
class _Bucket:
    """The attempts that ended within a short time."""

    began: float
    ended: float
    attempts: int = 0
    failures: int = 0


class AttemptCounts:
    """How many of the attempts within a window failed; each costs the same, however many there were."""

    __slots__ = ("attempts", "buckets", "failures")

    def __init__(self) -> None:
        self.buckets: deque[_Bucket] = deque()
        self.attempts = 0
        self.failures = 0

    def add(self, has_failed: bool, now: float, window: float) -> None:
        """Count an attempt that ends *now*, and forget those that ended longer than *window* seconds ago."""
        buckets = self.buckets
        if not buckets or now - buckets[-1].began >= window / _BUCKETS:
            buckets.append(_Bucket(now, now))
        bucket = buckets[-1]
        bucket.ended = now
        bucket.attempts += 1
        bucket.failures += has_failed
        self.attempts += 1
        self.failures += has_failed
        while buckets[0].ended < now - window:
            oldest = buckets.popleft()
            self.attempts -= oldest.attempts
            self.failures -= oldest.failures

    def clear(self) -> None:
        """Forget all attempts that were counted."""
        self.buckets.clear()
        self.attempts = self.failures = 0


@dataclass(slots=True, eq=False, weakref_slot=True)
class BreakerState:
    """What is known of one endpoint, key and model."""

    consecutive_failures: int = 0
    openings: int = 0
    until: float = 0.0
    probing: bool = False
    probe_timeout: float = math.inf  # until when the others wait for the probe's outcome
    last_error: CallError | None = field(default=None, repr=False)
    seen: AttemptCounts = field(default_factory=AttemptCounts, repr=False)
    is_shared: bool = False
    """Whether `until` is what the vendor itself answered, or another process has said."""
    on_open: Callable[[float], None] | None = field(default=None, repr=False)
    """Called with the seconds for which the vendor itself has it cool down, where processes share that."""
    lock: threading.Lock = field(default_factory=new_lock, repr=False)

    def __post_init__(self) -> None:
        register_at_fork(self)

    def leave_alone(self, until: float) -> None:
        """Keep the breaker open until then, as another process has said; a later instant that is known stays."""
        with self.lock:
            if until > self.until:
                self.until, self.is_shared = until, True

    def reset_after_fork(self) -> None:
        """Let a forked child probe for itself: a probe under way is the parent's."""
        self.lock = new_lock()
        self.probing, self.probe_timeout = False, math.inf
