"""Rows of a Ray dataset, each asked once, by a hub in each actor (extra `ray`).

    import ray
    from modelhub.ray import ChatRows

    answers = ray.data.read_parquet("reviews").map_batches(
        ChatRows,
        fn_constructor_kwargs={"name": "primary", "config": "models.yaml", "prompt": "Name the topic: {text}"},
        concurrency=2,
        batch_size=64,
    )
    answers.write_parquet("topics")

Ray schedules the actors and retries their batches. Each actor makes its hub when it has its first batch. With `shared:`
in the file (extra `redis`), all of them keep to the same limits and budgets. With `journal=`, a folder that all of them
see, what was answered is not asked again: neither when an actor dies, nor in another run.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from modelhub.core.errors import CallError
from modelhub.core.row_prompts import RowPrompts
from modelhub.core.row_result import RowResult
from modelhub.hub import Hub
from modelhub.jobs.journal import Journal, read_answers
from modelhub.jobs.row_keys import RowKeys, describe_entries
from modelhub.jobs.rows import Answer, make_answer

__all__ = ["ChatRows"]


class ChatRows:
    """A callable class for `map_batches`: it asks the chain or model *name* once for each row.

    *config* is the path of the file or a dict of its structure; `$MODELHUB_CONFIG` or ./models.yaml if not given.
    *prompt* is a template with the columns, such as `"Summarise: {text}"`; without it, a row has a column `prompt` or
    `messages`. *system* is the system message, *concurrency* how many calls of one actor are under way at a time.
    *structured_model* is a pydantic class or a JSON Schema. Further keywords are parameters of every call.

    The columns that are added are `answer` (text), `output` (JSON, with *structured_model*), `error` (why the row
    failed, or None: a failed row does not stop the others), `model`, `finish_reason`, `input_tokens`, `output_tokens`,
    `cost` (US dollars, None if unknown) and `key`, which tells rows apart whose answers may differ.

    *journal* is a folder that keeps the answers. Failed rows are asked again.
    """

    def __init__(
        self,
        name: str,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        prompt: str | None = None,
        system: str | None = None,
        concurrency: int = 16,
        structured_model: Any = None,
        journal: str | os.PathLike[str] | None = None,
        **parameters: Any,
    ) -> None:
        self._name = name
        self._config = config
        self._prompts = RowPrompts(prompt, system)
        self._concurrency = concurrency
        self._structured_model = structured_model
        self._parameters = parameters
        self._folder = None if journal is None else Path(journal)
        self._runner: asyncio.Runner | None = None

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Return *batch*, columns by name, with the columns of the answers.

        Raises ConfigError for a wrong file, and UnknownModel for a name that it does not have.
        """
        runner = self._runner or self._open()
        columns = {}
        for name, values in batch.items():  # arrays of numpy, as Ray hands them over
            to_list = getattr(values, "tolist", None)
            columns[name] = list(values) if to_list is None else to_list()
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        answers = runner.run(self._answer(rows))
        return {**columns, **{name: [answer[name] for answer in answers] for name in (answers[0] if answers else ())}}

    def _open(self) -> asyncio.Runner:
        """Make the hub and the journal, and return what runs the calls."""
        is_dict = isinstance(self._config, Mapping)
        self._hub = Hub.from_dict(self._config) if is_dict else Hub.from_yaml(self._config)  # type: ignore[arg-type]
        self._hub.get(self._name)
        self._keys = RowKeys(describe_entries(self._hub.loaded, self._name), self._parameters, self._structured_model)
        self._own: Journal | None = None
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._own = Journal(self._folder / f"{uuid4().hex}.journal")
        self._runner = asyncio.Runner()
        return self._runner

    def close(self) -> None:
        """Close the hub and the journal. An actor need not: they end with its process."""
        if self._runner is not None:
            self._runner.run(self._hub.aclose())
            self._runner.close()
            self._runner = None
            if self._own is not None:
                self._own.close()

    async def _answer(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the added columns of each of *rows*, and put new answers into the journal."""
        prepared = [self._prepare(row) for row in rows]
        messages = {key: content for key, content in prepared if key is not None}
        answers = self._find_answers(messages)
        new = await self._ask({key: content for key, content in messages.items() if key not in answers})
        if self._own is not None:
            self._own.add(list(new.items()), replace=True)
        answers |= new
        return [
            {**content.columns, "key": None} if key is None else {**answers[key].columns, "key": key.hex()}
            for key, content in prepared
        ]

    def _prepare(self, row: dict[str, Any]) -> tuple[bytes | None, Any]:
        """Return the key of *row* and its messages, or None and an answer that says why it cannot be asked."""
        try:
            messages = self._prompts.make_messages(row)
            return self._keys.make_key(messages), messages
        except CallError as error:
            return None, make_answer(RowResult(0, row, error=error), has_output=self._structured_model is not None)

    def _find_answers(self, keys: Collection[bytes]) -> dict[bytes, Answer]:
        """Return the answers, no failures, for *keys* in the journals of this actor and of those that have ended."""
        if self._folder is None or self._own is None or not keys:
            return {}
        journals = [self._own.find(keys)]
        for path in self._folder.glob("*.journal"):
            try:
                journals.append(read_answers(path, keys))
            except sqlite3.OperationalError:
                continue  # its actor lives, and answers other rows
        return {key: answer for journal in journals for key, answer in journal.items() if not answer.has_failed}

    async def _ask(self, messages: Mapping[bytes, Any]) -> dict[bytes, Answer]:
        has_output = self._structured_model is not None
        structure = {"structured_model": self._structured_model} if has_output else {}
        results = self._hub.get(self._name).map(
            (content if isinstance(content, str) else {"messages": content} for content in messages.values()),
            concurrency=self._concurrency,
            ordered=True,
            **structure,
            **self._parameters,
        )
        answers = [make_answer(result, has_output=has_output) async for result in results]
        return dict(zip(messages, answers, strict=True))
