"""The verdict on what a caller got in a fire drill, and the setting behind it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelhub.cli.drill.play import PATIENCE
from modelhub.cli.output import span
from modelhub.core import errors
from modelhub.core.errors import (
    AllModelsFailed,
    BreakerOpen,
    CallError,
    ContextTooLong,
    DeadlineExceeded,
    NotConfigured,
)
from modelhub.middleware.retry.options import RetryOptions
from modelhub.middleware.timeout.options import TimeoutOptions

if TYPE_CHECKING:
    from modelhub.cli.drill.plan import DrillCase
    from modelhub.cli.drill.play import Outcome
    from modelhub.config.load import Loaded
    from modelhub.core.events import Waiting
    from modelhub.core.response import Attempt
    from modelhub.middleware.chain.options import ChainOptions

__all__ = ["Evaluator", "Evaluation", "Verdict"]

Verdict = Literal["ok", "slow", "lost", "wrong"]

Spent = tuple[str, float]
"""A setting in words, and the seconds it cost."""

_CLOCKS = {
    "ConnectTimeout": "connect",
    "FirstTokenTimeout": "first_token",
    "IdleTimeout": "idle",
    "TooSlow": "slow",
    "TotalTimeout": "total",
}


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A verdict and its reason, which may be empty."""

    verdict: Verdict
    why: str = ""


class Evaluator:
    """Judges what calls of *name* came to by the settings of *loaded*; over *wait_budget* seconds for each model that
    fails is slow."""

    def __init__(self, loaded: Loaded, name: str, wait_budget: float) -> None:
        self.loaded = loaded
        self.name = name
        self.wait_budget = wait_budget
        self._chains = dict(_chains_in(loaded, name))

    def evaluate(self, exercise: DrillCase, outcome: Outcome) -> Evaluation:
        """The verdict on *outcome*."""
        if outcome.got == "nothing":
            return Evaluation("lost", f"no end after {span(PATIENCE)}: {self._slowest(exercise, outcome)}")
        if outcome.got == "crash":
            return Evaluation("wrong", f"{type(outcome.error).__name__} came out, which is no CallError")
        if outcome.got == "truncated":
            return Evaluation("wrong", "part of an answer passes for all of it")
        if outcome.got == "error":
            return self._failed(exercise, outcome)
        return self._answered(exercise, outcome)

    # -- an answer -----------------------------------------------------------------------------------------------------

    def _answered(self, exercise: DrillCase, outcome: Outcome) -> Evaluation:
        if exercise.drill.expects == "error":
            setting = self._exception("fallback_on", str(outcome.attempts[0]["outcome"])) if outcome.attempts else None
            if setting is None:
                return Evaluation("wrong", "what was refused for good was asked again elsewhere")
            return self._in_time(exercise, outcome, setting)
        if outcome.restarts:
            times = {1: "once", 2: "twice"}.get(outcome.restarts, f"{outcome.restarts} times")
            return self._in_time(exercise, outcome, f"restarted {times}")
        return self._in_time(exercise, outcome)

    def _in_time(self, exercise: DrillCase, outcome: Outcome, why: str = "") -> Evaluation:
        if outcome.took > self.wait_budget * len(exercise.on):
            return Evaluation("slow", self._slowest(exercise, outcome))
        return Evaluation("ok", why)

    # -- an error ------------------------------------------------------------------------------------------------------

    def _failed(self, exercise: DrillCase, outcome: Outcome) -> Evaluation:
        if exercise.expects == "error":
            alone = exercise.drill.expects == "answer"
            return self._in_time(exercise, outcome, "nobody is behind" if alone else "")
        if _nobody_is_larger(outcome.error):
            return self._in_time(exercise, outcome, "no model behind is known to hold more")
        return Evaluation("lost", self._why_lost(exercise, outcome))

    def _why_lost(self, exercise: DrillCase, outcome: Outcome) -> str:
        kinds = [str(attempt["outcome"]) for attempt in outcome.attempts]
        if isinstance(outcome.error, DeadlineExceeded):
            return f"{self._deadline()}{self._slowest_clock(exercise, outcome)}"
        for kind in kinds:
            if (setting := self._exception("no_fallback_on", kind)) is not None:
                return setting
        if kinds[-1:] == ["StreamBroken"] or isinstance(outcome.error, errors.StreamBroken):
            raising = [name for name, chain in self._chains.items() if chain.on_broken_stream == "raise"]
            if raising:
                return f"on_broken_stream is raise{self._of(raising[0])}"
        if not exercise.has_fallback and self._retry(exercise.on[0]).max_attempts == 1:
            return "retry.max_attempts is 1, and nobody is behind"
        return _in_short(outcome.error)

    def _exception(self, key: str, kind: str) -> str | None:
        """Which chain's list *key* names the failure *kind*, in words."""
        cls = getattr(errors, kind, None)
        for name, chain in self._chains.items():
            for failure in getattr(chain, key):
                if isinstance(cls, type) and issubclass(cls, getattr(errors, failure)):
                    return f"{key} has {failure}{self._of(name)}"
        return None

    def _of(self, chain: str) -> str:
        return "" if chain == self.name else f" in `{chain}`"

    def _deadline(self) -> str:
        chain = self._chains.get(self.name)
        return "the deadline" if chain is None or chain.deadline is None else f"deadline is {span(chain.deadline)}"

    def _slowest_clock(self, exercise: DrillCase, outcome: Outcome) -> str:
        setting = _longest(self._clocks(exercise, outcome))
        return f", {setting}" if setting else ""

    # -- where the time went -------------------------------------------------------------------------------------------

    def _slowest(self, exercise: DrillCase, outcome: Outcome) -> str:
        """The setting that cost the most time, in words."""
        if isinstance(outcome.error, DeadlineExceeded):
            return self._deadline()
        waits = ((self._wait(exercise, wait), wait.seconds) for wait in outcome.waits)
        return _longest(itertools.chain(self._clocks(exercise, outcome), self._queues(outcome), waits))

    def _clocks(self, exercise: DrillCase, outcome: Outcome) -> Iterator[Spent]:
        """What each attempt took, and the clock that let it."""
        for attempt in outcome.attempts:
            clock = _clock(attempt, exercise.stream)
            limit = getattr(self._timeout(attempt["model"]), clock)
            shown = span(limit) if isinstance(limit, float) else f"{limit.below:g}/s"
            yield f"{clock} is {shown}", attempt["duration"] or 0.0

    def _queues(self, outcome: Outcome) -> Iterator[Spent]:
        """The waits that nobody announced: those in the queue of a limit."""
        for model in outcome.counts():
            waited = sum(attempt["wait"] for attempt in outcome.attempts if attempt["model"] == model)
            yield self._limit(model), waited - sum(wait.seconds for wait in outcome.waits if wait.model == model)

    def _limit(self, model: str) -> str:
        limit = self.loaded.models[model].layers.get("limit")
        return f"limit `{limit}` makes it wait" if isinstance(limit, str) else "its limit makes it wait"

    def _wait(self, exercise: DrillCase, wait: Waiting) -> str:
        if isinstance(wait.error, BreakerOpen):
            return "a model is left alone until its breaker closes"
        if wait.error.retry_after is None:
            return f"retry.max_wait is {span(self._retry(wait.model).max_wait)}"
        if exercise.has_fallback:
            return f"retry.max_retry_after is {span(self._retry(wait.model).max_retry_after)}"
        return f"Retry-After asks for {span(wait.error.retry_after)}, and nobody is behind"

    def _timeout(self, model: str) -> TimeoutOptions:
        return self.loaded.models[model].layers.get("timeout") or TimeoutOptions()

    def _retry(self, model: str) -> RetryOptions:
        return self.loaded.models[model].layers.get("retry") or RetryOptions()


def _chains_in(loaded: Loaded, name: str) -> Iterator[tuple[str, ChainOptions]]:
    """The chain *name* and the chains in it."""
    if name in loaded.chains:
        yield name, loaded.chains[name]
        for member in loaded.chains[name].models:
            yield from _chains_in(loaded, member)


def _clock(attempt: Attempt, stream: bool) -> str:
    """The clock that ended *attempt*, or would have."""
    found = _CLOCKS.get(str(attempt["outcome"]))
    if found is not None:
        return found
    if not stream:
        return "total"
    return "first_token" if attempt["first_token"] is None else "idle"


def _longest(spent: Iterable[Spent]) -> str:
    """The setting that cost the most in all."""
    sums: dict[str, float] = {}
    for setting, seconds in spent:
        sums[setting] = sums.get(setting, 0.0) + seconds
    return max(sums, key=lambda setting: sums[setting], default="")


def _nobody_is_larger(error: Exception | None) -> bool:
    """Whether everybody who could be asked said, or is known to say, that the prompt is too long."""
    leaves = error.leaves() if isinstance(error, AllModelsFailed) else [error]
    kinds = {type(leaf) for leaf in leaves} - {NotConfigured}
    return kinds == {ContextTooLong}


def _in_short(error: Exception | None) -> str:
    """The classes of what went wrong."""
    if isinstance(error, AllModelsFailed):
        return ", ".join(dict.fromkeys(f"{leaf.model} {leaf.kind}" for leaf in error.leaves()))
    return f"{error.model or '?'} {error.kind}" if isinstance(error, CallError) else str(error)
