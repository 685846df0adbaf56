"""The result of one row of a job: its reply, or the error with which it failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from modelhub.core.errors import CallError
from modelhub.core.response import Attempt, ChatResponse, OutputT

__all__ = ["RowResult"]


@dataclass(slots=True)
class RowResult(Generic[OutputT]):
    """What became of a row: `reply`, or the `error` with which it failed; the other one is None.

    `index` is the row's place in the input, from 0, and `row` the row itself.
    """

    index: int
    row: Any
    reply: ChatResponse[OutputT] | None = None
    error: CallError | None = None

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
