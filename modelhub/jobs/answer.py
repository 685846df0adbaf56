"""What is kept of a row's result: the columns of the output, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from modelhub.core.errors import CallError
from modelhub.core.row_result import RowResult
from modelhub.jobs.json_text import dump_json

__all__ = ["Answer", "format_error", "make_answer"]


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
    input_tokens, output_tokens, known_cost, unknown_costs = result.usage
    cost = None if unknown_costs else known_cost
    columns: dict[str, Any] = {
        "answer": None if reply is None else reply.text,
        **({"output": None if reply is None else reply["metadata"]} if has_output else {}),
        "error": None if result.error is None else format_error(result.error),
        "model": None if reply is None else reply["model"],
        "finish_reason": None if reply is None else reply["finish_reason"],
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost": None if cost is None else float(cost),
    }
    return Answer(columns, result.error is not None, cost, output_tokens)


def format_error(error: CallError) -> str:
    """Return what the column `error` says: the class and the message."""
    return f"{error.kind}: {error}"
