"""What vendors say is left, as bounds on what may still pass.

A vendor's headers say of some limit of its own how much is left of it, and when it will be whole again. That is no
statement about any rate of ours: the limit may be of another size, of another period (Groq counts requests by the day
and tokens by the minute, OpenAI now this and now that), and others may draw on it. But whatever it is, no more than
what is left passes at the vendor before its reset, if nothing flows back meanwhile. So it is taken as just that, a
bound on what we admit until then, beside our own window and never in its place: it narrows, it cannot widen, and
neither the vendor's limit nor its period need be known.

It was true when the vendor wrote it down, and nobody knows when that was: between the request's departure and the
answer's arrival, which may be a minute later. So it must hold from each of these instants on. In as many seconds as it
was to hold, counted back from any moment until the last of them is over, no more passes than was left; but what was
admitted before the request was sent is surely counted already, and is left out.

Who alone uses an account notices little of it. Where the vendor's bucket refills all the time (Anthropic and Cerebras
say so, and OpenAI's does), each answer tells of what has flowed back, and replaces what was told before. But when
nothing is left, nobody is answered, and nothing is learnt until the reset, which may be hours off while there is room
again in seconds. So once a minute one attempt passes nevertheless, and its answer tells anew; or as soon as the vendor
itself wants to be asked again, if it says so (Retry-After). If it is answered, and nothing is said of what is left,
then what was said before is not true any more.

Models that share a pool may have limits of their own at the vendor: what is told to one does not replace what is told
to another, and the narrowest bound holds for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from modelhub.middleware._rates import MINUTE

if TYPE_CHECKING:
    from modelhub.middleware._meter import Hold, Window

__all__ = ["Claim", "Claims"]

_MOST = 8  # claims of one source that are kept of answers out of order


@dataclass(slots=True)
class Claim:
    """No more than *amount* passes in *seconds*, until it is *until*; *source* was told so for the attempt of *hold*.

    *passed* is what was admitted after that one, or more. *asked* is when somebody was last admitted, who may bring
    news, and *probe_after* how many seconds later another one may. *probes* are the numbers of the attempts that were
    admitted although the claim left no room for them: only the answer to one of these can disprove it.
    """

    source: str
    hold: Hold
    amount: int
    seconds: float
    until: float
    asked: float
    passed: int
    probe_after: float
    probes: list[int] = field(default_factory=list)


class Claims:
    """What holds of the rate that *window* keeps."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._claims: list[Claim] = []

    def hear(
        self, source: str, hold: Hold, amount: int, seconds: float, now: float, probe_after: float = MINUTE
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
        known = [claim for claim in self._claims if claim.until > now]
        kept = [claim for claim in known if claim.source != source or claim.hold.number > hold.number]
        if len(own := [claim for claim in kept if claim.source == source]) >= _MOST:
            kept.remove(max(own, key=lambda claim: claim.amount))
        claim = Claim(source, hold, amount, seconds, now + seconds, now, passed, probe_after)
        self._claims = [*kept, claim]
        return amount <= passed and all(claim.amount > claim.passed for claim in known)

    def disprove(self, source: str, hold: Hold) -> None:
        """Drop what left no room for the attempt of *hold*: *source* has answered it all the same."""
        self._claims = [claim for claim in self._claims if claim.source != source or hold.number not in claim.probes]

    def record_probe(self, number: int, amount: int, now: float) -> None:
        """Note where the attempt with this *number* is a probe: *amount* is admitted, and the claim leaves no room."""
        for claim in self._claims:
            if self._frees_at(claim, amount, now) is not None:
                claim.probes.append(number)

    def passed(self, amount: int, now: float) -> None:
        """*amount* was admitted."""
        for claim in self._claims:
            claim.passed += amount
            claim.asked = now

    def gave_back(self, hold: Hold, amount: int) -> None:
        """*amount* of what the attempt of *hold* had reserved was not used."""
        for claim in self._claims:
            if hold.number > claim.hold.number:
                claim.passed -= amount

    def wait(self, amount: int, now: float) -> float:
        """Seconds until *amount* may pass."""
        wait = 0.0
        for claim in self._claims:
            if (frees_at := self._frees_at(claim, amount, now)) is not None:
                wait = max(wait, min(frees_at, claim.asked + claim.probe_after) - now)
        return wait

    def left(self, most: int, now: float) -> int:
        """How much of *most* may pass."""
        return min([most, *(self._left(claim, now) for claim in self._claims if claim.until > now)])

    def _left(self, claim: Claim, now: float) -> int:
        return claim.amount - min(claim.passed, sum(amount for _, amount in self._within(claim, now)))

    def _frees_at(self, claim: Claim, amount: int, now: float) -> float | None:
        """Return when *claim* will leave room for *amount*, or None if it does already."""
        room = claim.amount - amount
        if claim.passed <= room or claim.until <= now:
            return None
        if room < 0:
            return claim.until
        for ended, passed in self._within(claim, now):
            room -= passed
            if room < 0:
                return min(claim.until, ended + claim.seconds)
        return None

    def _within(self, claim: Claim, now: float) -> Iterator[tuple[float, int]]:
        """When and how much passed lately, as far as the claim counts it, the latest first."""
        if claim.seconds >= self._window.span:
            yield claim.until, claim.passed  # the window does not remember it for so long
            return
        for ended, amount in self._window.after(claim.hold):
            if ended + claim.seconds <= now:
                return
            yield ended, amount
