"""Evaluate what a caller got in a drill, and find the setting that explains it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modelhub.cli.drill.play import MAX_CALL_SECONDS
from modelhub.cli.output import format_setting
from modelhub.core import errors
from modelhub.core.errors import (
    AllModelsFailed,
    BreakerOpen,
    CallError,
    ContextTooLong,
    DeadlineExceeded,
    NotConfigured,
)

if TYPE_CHECKING:
    from modelhub.cli.chain_plan import Plan
    from modelhub.cli.drill.plan import DrillCase
    from modelhub.cli.drill.play import DrillOutcome
    from modelhub.core.events import Waiting

__all__ = ["Evaluator", "Evaluation", "Verdict"]

Verdict = Literal["ok", "slow", "lost", "wrong"]

Spent = tuple[str, float]
"""A setting in words, and the seconds that it cost."""

_TIMEOUT_NAMES = {
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
    """Evaluates calls with the settings of *plan*.

    A call is slow if it takes more than *slow_after* seconds for each model that fails.
    """

    def __init__(self, plan: Plan, slow_after: float) -> None:
        self.name = plan.name
        self.slow_after = slow_after
        self._models = {member.name: member for member in plan.models}
        self._chains = {plan.name: plan.chain} if plan.chain is not None else {}
        self._chains |= {member.name: member.chain for member in plan.members if member.chain is not None}

    def evaluate(self, case: DrillCase, outcome: DrillOutcome) -> Evaluation:
        """Return the verdict on *outcome* and its reason."""
        if outcome.got == "nothing":
            slowest = self._find_slowest(case, outcome)
            return Evaluation("lost", f"no end after {format_setting(MAX_CALL_SECONDS)}: {slowest}")
        if outcome.got == "crash":
            return Evaluation("wrong", f"{type(outcome.error).__name__} was raised, which is not a CallError")
        if outcome.got == "truncated":
            return Evaluation("wrong", "a truncated answer was returned as complete")
        if outcome.got == "error":
            return self._evaluate_error(case, outcome)
        return self._evaluate_answer(case, outcome)

    def _check_time(self, case: DrillCase, outcome: DrillOutcome, why: str) -> Evaluation:
        if outcome.took > self.slow_after * len(case.on):
            return Evaluation("slow", self._find_slowest(case, outcome))
        return Evaluation("ok", why)

    def _evaluate_answer(self, case: DrillCase, outcome: DrillOutcome) -> Evaluation:
        if case.drill.expects == "error":
            kind = str(outcome.attempts[0]["outcome"]) if outcome.attempts else ""
            setting = self._find_exception("fallback_on", kind)
            if setting is None:
                return Evaluation("wrong", "a final refusal was sent to another model")
            return self._check_time(case, outcome, setting)
        count = {1: "once", 2: "twice"}.get(outcome.restarts, f"{outcome.restarts} times")
        return self._check_time(case, outcome, f"restarted {count}" if outcome.restarts else "")

    # -- an error ------------------------------------------------------------------------------------------------------

    def _evaluate_error(self, case: DrillCase, outcome: DrillOutcome) -> Evaluation:
        error = outcome.error
        if case.expects == "error":
            is_expected_elsewhere = case.drill.expects == "answer"
            return self._check_time(case, outcome, "there is no other model" if is_expected_elsewhere else "")
        leaves = error.leaves() if isinstance(error, AllModelsFailed) else [error]
        if {type(leaf) for leaf in leaves} - {NotConfigured} == {ContextTooLong}:
            return self._check_time(case, outcome, "no later model is known to have a larger context window")
        return Evaluation("lost", self._explain_loss(case, outcome))

    def _explain_loss(self, case: DrillCase, outcome: DrillOutcome) -> str:
        error, kinds = outcome.error, [str(attempt["outcome"]) for attempt in outcome.attempts]
        if isinstance(error, DeadlineExceeded):
            setting = _find_longest(self._list_timeouts(case, outcome))
            return f"{self._describe_deadline()}, {setting}" if setting else self._describe_deadline()
        for kind in kinds:
            if (exception := self._find_exception("no_fallback_on", kind)) is not None:
                return exception
        if kinds[-1:] == ["StreamBroken"] or isinstance(error, errors.StreamBroken):
            raising = [name for name, chain in self._chains.items() if chain.on_broken_stream == "raise"]
            if raising:
                return f"on_broken_stream is raise{self._name_chain(raising[0])}"
        if not case.has_fallback and self._models[case.on[0]].retry.max_attempts == 1:
            return "retry.max_attempts is 1, and there is no other model"
        if isinstance(error, AllModelsFailed):
            return ", ".join(dict.fromkeys(f"{leaf.model} {leaf.kind}" for leaf in error.leaves()))
        return f"{error.model or '?'} {error.kind}" if isinstance(error, CallError) else str(error)

    def _find_exception(self, key: str, kind: str) -> str | None:
        """Return, in words, which chain's list *key* has the error class *kind*, or None."""
        cls = getattr(errors, kind, None)
        for name, chain in self._chains.items():
            for failure in getattr(chain, key):
                if isinstance(cls, type) and issubclass(cls, getattr(errors, failure)):
                    return f"{key} has {failure}{self._name_chain(name)}"
        return None

    def _name_chain(self, chain: str) -> str:
        return "" if chain == self.name else f" in `{chain}`"

    def _describe_deadline(self) -> str:
        chain = self._chains.get(self.name)
        if chain is None or chain.deadline is None:
            return "the deadline"
        return f"deadline is {format_setting(chain.deadline)}"

    # -- where the time went -------------------------------------------------------------------------------------------

    def _find_slowest(self, case: DrillCase, outcome: DrillOutcome) -> str:
        """Return the setting that cost the most time, in words."""
        if isinstance(outcome.error, DeadlineExceeded):
            return self._describe_deadline()
        waits = [(self._describe_wait(case, wait), wait.seconds) for wait in outcome.waits]
        return _find_longest([*self._list_timeouts(case, outcome), *self._list_queue_times(outcome), *waits])

    def _list_timeouts(self, case: DrillCase, outcome: DrillOutcome) -> Iterator[Spent]:
        """Yield the parts of the duration of each attempt, and the timeout that allowed each."""
        for attempt in outcome.attempts:
            model, duration, first_token = attempt["model"], attempt["duration"] or 0.0, attempt["first_token"]
            name = _TIMEOUT_NAMES.get(str(attempt["outcome"]))
            if name is None and first_token is not None:
                yield self._describe_timeout(model, "first_token", case.stream), first_token
                yield self._describe_timeout(model, "slow", case.stream), duration - first_token
            else:
                name = name or ("first_token" if case.stream else "total")
                yield self._describe_timeout(model, name, case.stream), duration

    def _describe_timeout(self, model: str, name: str, stream: bool) -> str:
        timeout = self._models[model].timeout
        total = f"total is {format_setting(timeout.total)}"
        if name == "slow":
            return f"{total}, and slow is not set" if timeout.slow is None else f"slow is {timeout.slow.below:g}/s"
        if name != "total":
            return f"{name} is {format_setting(getattr(timeout, name))}"
        return total if stream or self._models[model].streams_inside else f"{total} (first_token needs stream_inside)"

    def _list_queue_times(self, outcome: DrillOutcome) -> Iterator[Spent]:
        """Yield the time that each model's attempts waited in the queue of a limit."""
        for model in outcome.count_attempts():
            limit = self._models[model].get_layer("limit")
            name = f"limit `{limit}`" if isinstance(limit, str) else "its limit"
            waited = sum(attempt["wait"] for attempt in outcome.attempts if attempt["model"] == model)
            retried = sum(wait.seconds for wait in outcome.waits if wait.model == model)
            yield f"{name} makes it wait", waited - retried

    def _describe_wait(self, case: DrillCase, wait: Waiting) -> str:
        if isinstance(wait.error, BreakerOpen):
            return "a breaker is open until its pause is over"
        retry = self._models[wait.model].retry
        if wait.error.retry_after is None:
            return f"retry.max_wait is {format_setting(retry.max_wait)}"
        if case.has_fallback:
            return f"retry.max_retry_after is {format_setting(retry.max_retry_after)}"
        return f"Retry-After asks for {format_setting(wait.error.retry_after)}, and there is no other model"


def _find_longest(spent: Iterable[Spent]) -> str:
    """Return the setting that cost the most time in total."""
    sums: dict[str, float] = {}
    for setting, seconds in spent:
        sums[setting] = sums.get(setting, 0.0) + seconds
    return max(sums, key=lambda setting: sums[setting], default="")
