"""Evaluate what a caller got in a drill, and find the setting that explains it."""

from __future__ import annotations

import itertools
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
from modelhub.middleware.retry.options import RetryOptions
from modelhub.middleware.timeout.options import TimeoutOptions

if TYPE_CHECKING:
    from modelhub.cli.drill.plan import DrillCase
    from modelhub.cli.drill.play import DrillOutcome
    from modelhub.config.load import Loaded
    from modelhub.core.events import Waiting
    from modelhub.middleware.chain.options import ChainOptions

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
    """Evaluates calls of *name* with the settings of *loaded*.

    A call is slow if it takes more than *slow_after* seconds for each model that fails.
    """

    def __init__(self, loaded: Loaded, name: str, slow_after: float) -> None:
        self.loaded = loaded
        self.name = name
        self.slow_after = slow_after
        self._chains = dict(_walk_chains(loaded, name))

    def evaluate(self, case: DrillCase, outcome: DrillOutcome) -> Evaluation:
        """Return the verdict on *outcome* and its reason."""
        if outcome.got == "nothing":
            return Evaluation(
                "lost", f"no end after {format_setting(MAX_CALL_SECONDS)}: {self._find_slowest(case, outcome)}"
            )
        if outcome.got == "crash":
            return Evaluation("wrong", f"{type(outcome.error).__name__} was raised, which is not a CallError")
        if outcome.got == "truncated":
            return Evaluation("wrong", "a truncated answer was returned as complete")
        if outcome.got == "error":
            return self._evaluate_error(case, outcome)
        return self._evaluate_answer(case, outcome)

    # -- an answer -----------------------------------------------------------------------------------------------------

    def _evaluate_answer(self, case: DrillCase, outcome: DrillOutcome) -> Evaluation:
        if case.drill.expects == "error":
            setting = (
                self._find_exception("fallback_on", str(outcome.attempts[0]["outcome"])) if outcome.attempts else None
            )
            if setting is None:
                return Evaluation("wrong", "a final refusal was sent to another model")
            return self._check_time(case, outcome, setting)
        if outcome.restarts:
            count = {1: "once", 2: "twice"}.get(outcome.restarts, f"{outcome.restarts} times")
            return self._check_time(case, outcome, f"restarted {count}")
        return self._check_time(case, outcome)

    def _check_time(self, case: DrillCase, outcome: DrillOutcome, why: str = "") -> Evaluation:
        if outcome.took > self.slow_after * len(case.on):
            return Evaluation("slow", self._find_slowest(case, outcome))
        return Evaluation("ok", why)

    # -- an error ------------------------------------------------------------------------------------------------------

    def _evaluate_error(self, case: DrillCase, outcome: DrillOutcome) -> Evaluation:
        if case.expects == "error":
            alone = case.drill.expects == "answer"
            return self._check_time(case, outcome, "there is no other model" if alone else "")
        if _are_all_too_long(outcome.error):
            return self._check_time(case, outcome, "no later model is known to have a larger context window")
        return Evaluation("lost", self._explain_loss(case, outcome))

    def _explain_loss(self, case: DrillCase, outcome: DrillOutcome) -> str:
        kinds = [str(attempt["outcome"]) for attempt in outcome.attempts]
        if isinstance(outcome.error, DeadlineExceeded):
            return f"{self._describe_deadline()}{self._describe_slowest_timeout(case, outcome)}"
        for kind in kinds:
            if (setting := self._find_exception("no_fallback_on", kind)) is not None:
                return setting
        if kinds[-1:] == ["StreamBroken"] or isinstance(outcome.error, errors.StreamBroken):
            raising = [name for name, chain in self._chains.items() if chain.on_broken_stream == "raise"]
            if raising:
                return f"on_broken_stream is raise{self._name_chain(raising[0])}"
        if not case.has_fallback and self._get_retry(case.on[0]).max_attempts == 1:
            return "retry.max_attempts is 1, and there is no other model"
        return _summarize_error(outcome.error)

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
        return (
            "the deadline"
            if chain is None or chain.deadline is None
            else f"deadline is {format_setting(chain.deadline)}"
        )

    def _describe_slowest_timeout(self, case: DrillCase, outcome: DrillOutcome) -> str:
        setting = _find_longest(self._list_timeouts(case, outcome))
        return f", {setting}" if setting else ""

    # -- where the time went -------------------------------------------------------------------------------------------

    def _find_slowest(self, case: DrillCase, outcome: DrillOutcome) -> str:
        """Return the setting that cost the most time, in words."""
        if isinstance(outcome.error, DeadlineExceeded):
            return self._describe_deadline()
        waits = ((self._describe_wait(case, wait), wait.seconds) for wait in outcome.waits)
        return _find_longest(
            itertools.chain(self._list_timeouts(case, outcome), self._list_queue_times(outcome), waits)
        )

    def _list_timeouts(self, case: DrillCase, outcome: DrillOutcome) -> Iterator[Spent]:
        """Yield the parts of the duration of each attempt, and the timeout that allowed each."""
        for attempt in outcome.attempts:
            duration, first_token = attempt["duration"] or 0.0, attempt["first_token"]
            name = _TIMEOUT_NAMES.get(str(attempt["outcome"]))
            if name is not None:
                yield self._describe_timeout(attempt["model"], name, case.stream), duration
            elif first_token is not None:
                yield self._describe_timeout(attempt["model"], "first_token", case.stream), first_token
                yield self._describe_timeout(attempt["model"], "slow", case.stream), duration - first_token
            else:
                name = "first_token" if case.stream else "total"
                yield self._describe_timeout(attempt["model"], name, case.stream), duration

    def _describe_timeout(self, model: str, name: str, stream: bool) -> str:
        timeout = self._get_timeout(model)
        total = f"total is {format_setting(timeout.total)}"
        if name == "slow":
            return f"{total}, and slow is not set" if timeout.slow is None else f"slow is {timeout.slow.below:g}/s"
        if name != "total":
            return f"{name} is {format_setting(getattr(timeout, name))}"
        return total if stream or self._streams_inside(model) else f"{total} (first_token needs stream_inside)"

    def _streams_inside(self, model: str) -> bool:
        options = self.loaded.models[model].options
        chains = self._chains.values()
        return (options is not None and options.stream_inside) or any(chain.stream_inside for chain in chains)

    def _list_queue_times(self, outcome: DrillOutcome) -> Iterator[Spent]:
        """Yield the time that each model's attempts waited in the queue of a limit."""
        for model in outcome.count_attempts():
            waited = sum(attempt["wait"] for attempt in outcome.attempts if attempt["model"] == model)
            yield (
                self._describe_limit(model),
                waited - sum(wait.seconds for wait in outcome.waits if wait.model == model),
            )

    def _describe_limit(self, model: str) -> str:
        limit = self.loaded.models[model].layers.get("limit")
        return f"limit `{limit}` makes it wait" if isinstance(limit, str) else "its limit makes it wait"

    def _describe_wait(self, case: DrillCase, wait: Waiting) -> str:
        if isinstance(wait.error, BreakerOpen):
            return "a breaker is open until its pause is over"
        if wait.error.retry_after is None:
            return f"retry.max_wait is {format_setting(self._get_retry(wait.model).max_wait)}"
        if case.has_fallback:
            return f"retry.max_retry_after is {format_setting(self._get_retry(wait.model).max_retry_after)}"
        return f"Retry-After asks for {format_setting(wait.error.retry_after)}, and there is no other model"

    def _get_timeout(self, model: str) -> TimeoutOptions:
        return self.loaded.models[model].layers.get("timeout") or TimeoutOptions()

    def _get_retry(self, model: str) -> RetryOptions:
        return self.loaded.models[model].layers.get("retry") or RetryOptions()


def _walk_chains(loaded: Loaded, name: str) -> Iterator[tuple[str, ChainOptions]]:
    """Yield the chain *name* and the chains in it."""
    if name in loaded.chains:
        yield name, loaded.chains[name]
        for member in loaded.chains[name].member_names():
            yield from _walk_chains(loaded, member)


def _find_longest(spent: Iterable[Spent]) -> str:
    """Return the setting that cost the most time in total."""
    sums: dict[str, float] = {}
    for setting, seconds in spent:
        sums[setting] = sums.get(setting, 0.0) + seconds
    return max(sums, key=lambda setting: sums[setting], default="")


def _are_all_too_long(error: Exception | None) -> bool:
    """Return whether the prompt was too long for every model that could be tried."""
    leaves = error.leaves() if isinstance(error, AllModelsFailed) else [error]
    kinds = {type(leaf) for leaf in leaves} - {NotConfigured}
    return kinds == {ContextTooLong}


def _summarize_error(error: Exception | None) -> str:
    """Return the classes of the errors, with their models."""
    if isinstance(error, AllModelsFailed):
        return ", ".join(dict.fromkeys(f"{leaf.model} {leaf.kind}" for leaf in error.leaves()))
    return f"{error.model or '?'} {error.kind}" if isinstance(error, CallError) else str(error)
