"""The result of one row of a job: its reply, or the error with which it failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, NamedTuple

from modelhub.core.errors import CallError
from modelhub.core.response import Attempt, ChatResponse, OutputT

__all__ = ["RowResult", "RowUsage"]


class RowUsage(NamedTuple):
    """What all attempts of a row used: tokens, and US dollars without the `unknown_costs`, which are counted."""

    input_tokens: int
    output_tokens: int
    cost: Decimal
    unknown_costs: int


@dataclass(slots=True)
class RowResult(Generic[OutputT]):
    """What became of a row: `reply`, or the `error` with which it failed; the other one is None.

    `index` is the row's place in the input, from 0, and `row` the row itself.
    """

    index: int
    row: Any
    reply: ChatResponse[OutputT] | None = None
    error: CallError | None = None
    _usage: RowUsage | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def text(self) -> str | None:
        """The text of the reply, or None if the row failed."""
        return None if self.reply is None else self.reply.text

    @property
    def output(self) -> OutputT | None:
        """The structured output, if one was asked for, or None if the row failed."""
        return None if self.reply is None else self.reply.output

    @property
    def attempts(self) -> Sequence[Attempt]:
        """The attempts of the call, of a reply or of an error; empty if nothing was sent."""
        if self.reply is not None:
            return self.reply["attempts"]  # type: ignore[no-any-return] # the key is declared
        return () if self.error is None else self.error.attempts

    @property
    def usage(self) -> RowUsage:
        """The tokens and the cost of all attempts, summed when they are first looked at."""
        if self._usage is None:
            self._usage = _sum_usage(self.attempts)
        return self._usage


def _sum_usage(attempts: Sequence[Attempt]) -> RowUsage:
    input_tokens = output_tokens = unknown_costs = 0
    cost = Decimal(0)
    for attempt in attempts:
        usage = attempt["usage"]
        if usage is not None:
            input_tokens += usage["input_tokens"]
            output_tokens += usage["output_tokens"]
            attempt_cost = usage.cost
            if attempt_cost is None:
                unknown_costs += 1
            else:
                cost += attempt_cost
    return RowUsage(input_tokens, output_tokens, cost, unknown_costs)
