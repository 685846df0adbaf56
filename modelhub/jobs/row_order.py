"""Rows of the output in the order of the input, though their answers come in another."""

from __future__ import annotations

from modelhub.jobs.answer import Answer
from modelhub.jobs.rows import InputRow, RowWriter

__all__ = ["MAX_EARLY_ROWS", "OrderedWriter"]

MAX_EARLY_ROWS = 1024
"""How many rows may wait for one before them."""


class OrderedWriter:
    """Passes rows on to *writer* in the order of their numbers; those that come early have to wait.

    If too many of them wait, which is bad for memory, it gives up: no further row is written, and `is_complete` stays
    False. The rows must then be written from the journal.
    """

    def __init__(self, writer: RowWriter) -> None:
        self._writer = writer
        self._early: dict[int, tuple[InputRow, Answer]] = {}
        self._next_number = 1
        self._has_given_up = False

    @property
    def is_complete(self) -> bool:
        """Whether all rows so far were written."""
        return not self._early and not self._has_given_up

    def write(self, row: InputRow, answer: Answer) -> None:
        """Write *row*, and those that waited for it; or keep it until it is its turn."""
        if self._has_given_up:
            return
        self._early[row.number] = (row, answer)
        while (waiting := self._early.pop(self._next_number, None)) is not None:
            self._writer.write(*waiting)
            self._next_number += 1
        if len(self._early) > MAX_EARLY_ROWS:
            self._early.clear()
            self._has_given_up = True

    def flush(self) -> None:
        """Pass what was written to the operating system."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the file."""
        self._writer.close()
