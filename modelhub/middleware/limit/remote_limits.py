"""Bounds on what may still pass, from what vendors' headers say is left.

A header says how much is left of some limit of the vendor's, and when it will be whole again. That limit may have
another size and another period than our rate (Groq counts requests by the day and tokens by the minute), and others may
draw on it. Yet no more than what is left passes at the vendor before its reset, if nothing flows back meanwhile. So it
is taken as a bound on what we admit until then, beside our own window: it narrows, and never widens.

The figure was true at an unknown instant between the request's departure and the answer's arrival, which may be a
minute later. So it must hold from each of these instants on: in any period that is as long as the time to the reset, no
more passes than was left, until the last of these periods is over. What was admitted before the request was sent is
surely counted already, and is left out.

Where the vendor's bucket refills all the time (Anthropic and Cerebras say so, and OpenAI's does), each answer says what
has flowed back, and replaces what was said before. But when nothing is left, nobody is answered, and nothing is learnt
until the reset, which may be hours off while there is room again in seconds. So once a minute one attempt passes
nevertheless, a probe; or as soon as the vendor wants to be asked again, if it says so (Retry-After). If a probe is
answered, and nothing is said of what is left, then what was said before is not true any more.

Models that share a pool may have limits of their own at the vendor: what is said to one of them does not replace what
is said to another, and the narrowest bound holds for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from modelhub.middleware.limit.window import Admission, Window

__all__ = ["RemoteLimit", "RemoteLimits"]

_MAX_LIMITS_PER_SOURCE = 8  # of answers that came out of order


@dataclass(slots=True)
class RemoteLimit:
    """No more than *amount* passes in *seconds*, until it is *until*; *source* was told so for the attempt of *hold*.

    *consumed* is what was admitted after that one, or more. *last_probe* is when an attempt was last admitted, whose
    answer may bring news, and *probe_after* how many seconds later another one may. *probes* are the numbers of the
    attempts that were admitted although the limit left no room for them: only the answer to one of these can disprove
    it.
    """

    source: str
    hold: Admission
    amount: int
    seconds: float
    until: float
    last_probe: float
    consumed: int
    probe_after: float
    probes: list[int] = field(default_factory=list)


class RemoteLimits:
    """What holds of the rate that *window* keeps."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self.items: list[RemoteLimit] = []
        """Those that may still hold; most vendors say nothing, and then there is none."""

    def update_from_headers(
        self, source: str, hold: Admission, amount: int, seconds: float, now: float, probe_after: float
    ) -> bool:
        """*source* was told in the answer to the attempt of *hold* that for *seconds* only *amount* is left.

        What was told in answers to earlier attempts is over. Of an answer to a later one, which came sooner, nobody
        knows whether the vendor wrote it down sooner: that holds too. Gives back whether nothing more may pass now, and
        before it might.
        """
        window = self._window
        passed = window.total - hold.total  # what of it was given back is looked up when it matters, and if it can be
        if seconds >= window.span:
            passed = sum(amount for _, amount in window.after(hold))
        known = [limit for limit in self.items if limit.until > now]
        kept = [limit for limit in known if limit.source != source or limit.hold.number > hold.number]
        if len(own := [limit for limit in kept if limit.source == source]) >= _MAX_LIMITS_PER_SOURCE:
            kept.remove(max(own, key=lambda limit: limit.amount))
        limit = RemoteLimit(source, hold, amount, seconds, now + seconds, now, passed, probe_after)
        self.items = [*kept, limit]
        return amount <= passed and all(limit.amount > limit.consumed for limit in known)

    def disprove(self, source: str, hold: Admission) -> None:
        """Drop what left no room for the attempt of *hold*: *source* has answered it all the same."""
        self.items = [limit for limit in self.items if limit.source != source or hold.number not in limit.probes]

    def record_probe(self, number: int, amount: int, now: float) -> None:
        """Note where the attempt with this *number* is a probe: *amount* is admitted, and the limit leaves no room."""
        for limit in self.items:
            if self._frees_at(limit, amount, now) is not None:
                limit.probes.append(number)

    def record_consumed(self, amount: int, now: float) -> None:
        """Count *amount* as consumed of every limit, at the instant *now*."""
        for limit in self.items:
            limit.consumed += amount
            limit.last_probe = now

    def record_unused(self, hold: Admission, amount: int) -> None:
        """Count *amount* of what the attempt of *hold* had reserved as not consumed."""
        for limit in self.items:
            if hold.number > limit.hold.number:
                limit.consumed -= amount

    def wait(self, amount: int, now: float) -> float:
        """Seconds until *amount* may pass."""
        wait = 0.0
        for limit in self.items:
            if (frees_at := self._frees_at(limit, amount, now)) is not None:
                wait = max(wait, min(frees_at, limit.last_probe + limit.probe_after) - now)
        return wait

    def left(self, most: int, now: float) -> int:
        """How much of *most* may pass."""
        for limit in self.items:
            if limit.until > now:
                consumed = min(limit.consumed, sum(amount for _, amount in self._within(limit, now)))
                most = min(most, limit.amount - consumed)
        return most

    def _frees_at(self, limit: RemoteLimit, amount: int, now: float) -> float | None:
        """Return when *limit* will leave room for *amount*, or None if it does already."""
        room = limit.amount - amount
        if limit.consumed <= room or limit.until <= now:
            return None
        if room < 0:
            return limit.until
        for ended, passed in self._within(limit, now):
            room -= passed
            if room < 0:
                return min(limit.until, ended + limit.seconds)
        return None

    def _within(self, limit: RemoteLimit, now: float) -> Iterator[tuple[float, int]]:
        """When and how much passed lately, as far as the limit counts it, the latest first."""
        if limit.seconds >= self._window.span:
            yield limit.until, limit.consumed  # the window does not remember it for so long
            return
        for ended, amount in self._window.after(limit.hold):
            if ended + limit.seconds <= now:
                return
            yield ended, amount
