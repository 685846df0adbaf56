"""What a job is asked to do, and the rows of its input as they are to be asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from modelhub.core.errors import InvalidRequest
from modelhub.core.row_prompts import RowPrompts
from modelhub.core.row_result import RowResult
from modelhub.jobs.errors import JobError
from modelhub.jobs.files import open_reader
from modelhub.jobs.journal import Journal
from modelhub.jobs.row_keys import RowKeys
from modelhub.jobs.rows import Answer, InputRow, RowReader, make_answer

__all__ = ["CHUNK_ROWS", "MAX_SAMPLES", "JobOptions", "JobRow", "JobRows"]

CHUNK_ROWS = 128
"""How many rows are looked up in the journal together."""
MAX_SAMPLES = 5
"""How many errors are shown of rows that failed, or cannot be asked."""


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What a job is asked to do.

    The rows of *source* are asked with the template *prompt* and the message *system*, if there are any, *parameters*
    and the structure *structured_model*, *concurrency* at a time; their answers go into *output*, in the order of the
    input if *ordered*. *budget* is in US dollars. With *retry_failed*, rows that failed before are asked again.
    """

    source: Path
    output: Path
    prompt: str | None = None
    system: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    structured_model: Any = None
    concurrency: int = 16
    budget: Decimal | None = None
    ordered: bool = False
    retry_failed: bool = False

    @property
    def has_output(self) -> bool:
        """Whether the answers have a structure."""
        return self.structured_model is not None


@dataclass(slots=True)
class JobRow:
    """A row of the input with what is sent for it, and its key.

    `answer` is there if the row need not be asked: it is in the journal, or the row is wrong; a wrong row has no key.
    While the row is asked, `reserved` is its part of the budget.
    """

    row: InputRow
    messages: Any = None
    key: bytes = b""
    answer: Answer | None = None
    reserved: Decimal = Decimal(0)


class JobRows:
    """The rows of a job's input, with the answers that the journal has.

    Raises InvalidRequest for a wrong template, and JobError for the input, or if it has no column that is named.
    """

    def __init__(self, options: JobOptions, keys: RowKeys) -> None:
        self._options = options
        self._keys = keys
        self._prompts = RowPrompts(options.prompt, options.system)
        self.reader: RowReader = open_reader(options.source)
        columns, template = self.reader.columns, self._prompts.template
        if columns is None:
            return
        if template is None and not {"messages", "prompt"} & set(columns):
            raise JobError(
                f"{options.source} has neither a column `messages` nor `prompt` (it has: {', '.join(columns)}): "
                'name its columns in a prompt, such as "Summarise: {text}"'
            )
        for name in template.columns if template is not None else ():
            if name not in columns and name.partition(".")[0] not in columns:
                raise JobError(f"{options.source} has no column `{name}` (it has: {', '.join(columns)})")

    def read(self, journal: Journal | None, *, retry_failed: bool | None = None) -> Iterator[JobRow]:
        """Yield every row; those that the *journal* has answered have their answer."""
        retry_failed = self._options.retry_failed if retry_failed is None else retry_failed
        rows = iter(self.reader)
        while chunk := [self._make_row(row) for row in islice(rows, CHUNK_ROWS)]:
            if journal is not None:
                answers = journal.find([row.key for row in chunk if row.answer is None])
                for row in chunk if answers else ():
                    answer = answers.get(row.key)
                    if answer is not None and not (answer.has_failed and retry_failed):
                        row.answer = answer
            yield from chunk

    def _make_row(self, row: InputRow) -> JobRow:
        try:
            if row.problem is not None:
                raise row.problem
            messages = self._prompts.make_messages(row.columns)
        except InvalidRequest as error:
            message = str(error) if error is row.problem else f"{row.place}: {error}"
            result: RowResult[Any] = RowResult(0, None, error=InvalidRequest(message))
            return JobRow(row, answer=make_answer(result, has_output=self._options.has_output))
        return JobRow(row, messages, self._keys.make_key(messages))
