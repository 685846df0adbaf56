"""The result of one row of a job, and how far the job is: counts, rate, the time that is left, the cost so far."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, NamedTuple

from modelhub.core.clock import Clock
from modelhub.core.errors import CallError
from modelhub.core.response import Attempt, ChatResponse, ChatUsage, OutputT

__all__ = ["MapProgress", "RowResult", "RowUsage"]

_RATE_SECONDS = 30.0  # the rate is that of the last half minute
_SAMPLE_SECONDS = 1.0
_MAX_UNPRICED = 1024  # usages of a job, before the first cost is worked out


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
        """The tokens and the cost of all attempts together."""
        if self._usage is None:  # a job counts it, and writes it
            self._usage = self._sum_usage()
        return self._usage

    def _sum_usage(self) -> RowUsage:
        input_tokens = output_tokens = unknown_costs = 0
        total = Decimal(0)
        for attempt in self.attempts:
            if (usage := attempt["usage"]) is not None:
                input_tokens += usage["input_tokens"]
                output_tokens += usage["output_tokens"]
                cost = usage.cost
                if cost is None:
                    unknown_costs += 1
                else:
                    total += cost
        return RowUsage(input_tokens, output_tokens, total, unknown_costs)


class MapProgress:
    """The progress of `map`, up to date at any time.

    `total` is the number of rows, or None if it is not known; it may be set. `read` rows were taken from the input,
    of which `answered` and `failed` are done and the others `under_way`. `input_tokens` and `output_tokens` are those
    of all attempts. Costs are in US dollars, rates in rows a second, times in seconds. With *needs_costs*, each row's
    cost is worked out at once.
    """

    def __init__(self, clock: Clock, total: int | None = None, *, needs_costs: bool = False) -> None:
        self.total = total
        self.read = self.answered = self.failed = 0
        self.input_tokens = self.output_tokens = 0
        self._clock = clock
        self._started: float | None = None
        self._samples: deque[tuple[float, int]] = deque()
        self._unpriced: list[ChatUsage] = []
        self._has_priced = needs_costs
        self._cost, self._unknown_costs = Decimal(0), 0

    def start(self) -> None:
        """Begin to count the time, unless it is counted already."""
        if self._started is None:
            self._started = self._clock.now()
            self._samples.append((self._started, 0))

    def count(self, result: RowResult) -> None:
        """Count *result*, and the usage of its attempts."""
        if result.error is None:
            self.answered += 1
        else:
            self.failed += 1
        if self._has_priced:
            input_tokens, output_tokens, cost, unknown_costs = result.usage
            self.input_tokens += input_tokens
            self.output_tokens += output_tokens
            self._cost += cost
            self._unknown_costs += unknown_costs
        else:
            usages = [attempt["usage"] for attempt in result.attempts if attempt["usage"] is not None]
            self.input_tokens += sum(usage["input_tokens"] for usage in usages)
            self.output_tokens += sum(usage["output_tokens"] for usage in usages)
            self._unpriced += usages
            if len(self._unpriced) >= _MAX_UNPRICED:
                self._sum_costs()
        now = self._clock.now()
        if now - self._samples[-1][0] >= _SAMPLE_SECONDS:
            self._samples.append((now, self.done))
            while now - self._samples[0][0] > _RATE_SECONDS and len(self._samples) > 2:
                self._samples.popleft()

    def _sum_costs(self) -> None:
        # Not with the first rows: the first cost of all may have to load the table of prices. Afterwards with each row,
        # for usages that are kept are gone through by the garbage collector.
        self._has_priced = True
        for usage in self._unpriced:
            cost = usage.cost
            if cost is None:
                self._unknown_costs += 1
            else:
                self._cost += cost
        self._unpriced.clear()

    @property
    def done(self) -> int:
        """The number of rows that are answered or failed."""
        return self.answered + self.failed

    @property
    def under_way(self) -> int:
        """The number of rows that are being asked."""
        return self.read - self.done

    @property
    def elapsed(self) -> float:
        """Seconds since the first row was read; 0 before."""
        return 0.0 if self._started is None else self._clock.now() - self._started

    @property
    def rate(self) -> float:
        """Rows done a second, over the last half minute; 0 as long as nothing is known."""
        if not self._samples:
            return 0.0
        since, done = self._samples[0]
        seconds = self._clock.now() - since
        return (self.done - done) / seconds if seconds > 0 else 0.0

    @property
    def eta(self) -> float | None:
        """Seconds until all rows are done at this rate, or None if that is not known."""
        rate = self.rate
        return None if self.total is None or not rate else max(0, self.total - self.done) / rate

    @property
    def cost(self) -> Decimal:
        """What all attempts cost so far, as far as their prices are known."""
        self._sum_costs()
        return self._cost

    @property
    def unknown_costs(self) -> int:
        """The number of attempts whose cost is not known, and not part of `cost`."""
        self._sum_costs()
        return self._unknown_costs

    def __repr__(self) -> str:
        total = "" if self.total is None else f" of {self.total}"
        return f"<MapProgress {self.done}{total} done, {self.failed} failed, {self.under_way} under way>"
