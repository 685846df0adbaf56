"""What is kept of a row's result: the columns of the output, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from modelhub.core.errors import CallError
from modelhub.core.response import Attempt
from modelhub.core.row_result import RowResult
from modelhub.jobs.json_text import dump_json

__all__ = ["Answer", "format_error", "make_answer"]


_NOTHING = Decimal(0)


@dataclass(slots=True)
class Answer:
    """The answer of a row, or its failure: `columns` of the output; `cost` in US dollars, None if it is not known.

    `is_new` tells of an answer from the journal that it was given in this run; `json` are its columns as JSON.
    """

    columns: dict[str, Any]
    has_failed: bool
    cost: Decimal | None
    output_tokens: int = 0
    is_new: bool = False
    json: bytes = b""

    def __post_init__(self) -> None:
        if not self.json:
            self.json = dump_json(self.columns)  # once, for the journal and the output


def make_answer(result: RowResult[Any], *, has_output: bool) -> Answer:
    """Return the answer of *result*; with *has_output*, it has a column for the structured output."""
    reply = result.reply
    input_tokens, output_tokens, cost = _sum_attempts(result.attempts)
    columns: dict[str, Any] = {"answer": None if reply is None else reply.text}
    if has_output:
        columns["output"] = None if reply is None else reply["metadata"]
    columns["error"] = None if result.error is None else format_error(result.error)
    columns["model"] = None if reply is None else reply["model"]
    columns["finish_reason"] = None if reply is None else reply["finish_reason"]
    columns["input_tokens"] = input_tokens
    columns["output_tokens"] = output_tokens
    columns["cost"] = None if cost is None else float(cost)
    return Answer(columns, result.error is not None, cost, output_tokens)


def format_error(error: CallError) -> str:
    """Return what the column `error` says: the class and the message."""
    return f"{error.kind}: {error}"


def _sum_attempts(attempts: Sequence[Attempt]) -> tuple[int, int, Decimal | None]:
    """Return the input tokens, the output tokens and the cost of *attempts*; a cost is None if one is not known."""
    input_tokens = output_tokens = 0
    cost: Decimal | None = _NOTHING
    for attempt in attempts:
        usage = attempt["usage"]
        if usage is not None:
            input_tokens += usage["input_tokens"]
            output_tokens += usage["output_tokens"]
            if cost is not None:
                price = usage.cost
                cost = None if price is None else cost + price
    return input_tokens, output_tokens, cost
