"""The journal of a job: every answer, by the key of its row, in an SQLite file beside the output.

It is in WAL mode with `synchronous=NORMAL`: a transaction is in the operating system's hands when it is committed, so
nothing that was committed is lost when the process is killed at any point, and no row pays for an fsync. If the power
fails, the last moments may be missing, and those rows are asked again; the file itself stays whole.

`locking_mode=EXCLUSIVE` keeps a second job away from the same output until this process has ended, in whatever way,
and saves the index in shared memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelhub.jobs.answer import Answer
from modelhub.jobs.errors import JobError

__all__ = ["Journal", "JournalTotals", "StoredBatch", "find_journal", "read_answers"]

_VERSION = 1
_SCHEMA = (
    """CREATE TABLE answers (
    key BLOB PRIMARY KEY,
    failed INTEGER NOT NULL,
    columns TEXT NOT NULL,
    cost TEXT,
    output_tokens INTEGER NOT NULL
)""",
    """CREATE TABLE batches (
    id TEXT PRIMARY KEY,
    model TEXT NOT NULL,
    begun TEXT NOT NULL,
    name TEXT
)""",
    """CREATE TABLE batch_rows (
    key BLOB PRIMARY KEY,
    batch TEXT NOT NULL,
    number INTEGER NOT NULL,
    messages TEXT NOT NULL
)""",
    "CREATE INDEX batch_rows_batch ON batch_rows (batch)",
)
"""The answers; the vendors' batches under way (`name` is the vendor's, as soon as it is known), and their rows."""
_CACHE_KIB = 16_384
_encode_json = json.JSONEncoder(default=str).encode  # made once: `json.dumps` would make one for each row


@dataclass(frozen=True, slots=True)
class JournalTotals:
    """What is in a journal; `cost` is in US dollars, `unpriced` the number of answers whose cost is not known."""

    answered: int = 0
    failed: int = 0
    cost: Decimal = Decimal(0)
    unpriced: int = 0
    output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class StoredBatch:
    """A batch of the entry *model* that is under way since it was `begun`; `name` is the vendor's, if it is known."""

    id: str
    model: str
    begun: datetime
    name: str | None = None


def find_journal(output: Path) -> Path:
    """Return the path of the journal of the file *output*."""
    return output.with_name(f"{output.name}.journal")


class Journal:
    """The answers of a job. It belongs to one process at a time.

    Raises JobError if another process has it, if it cannot be opened, or if it is no journal of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch(mode=0o600)  # answers are as confidential as prompts
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
        try:
            self._open()
        except sqlite3.DatabaseError as error:
            self._database.close()
            is_busy = getattr(error, "sqlite_errorcode", None) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            reason = "another job is writing this output" if is_busy else f"it cannot be opened: {error}"
            raise JobError(f"{path}: {reason}") from None

    def _open(self) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode=EXCLUSIVE")
        execute("PRAGMA journal_mode=WAL")
        execute("PRAGMA synchronous=NORMAL")
        execute(f"PRAGMA cache_size=-{_CACHE_KIB}")
        execute("BEGIN IMMEDIATE")
        (version,) = execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA:
                execute(statement)
            execute(f"PRAGMA user_version={_VERSION}")
        execute("COMMIT")
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"it is of version {version}, and this modelhub writes version {_VERSION}")

        self.begin_run()

    def begin_run(self) -> None:
        """Count the answers that are there as those of earlier runs."""
        (self._last_row,) = self._database.execute("SELECT COALESCE(MAX(rowid), 0) FROM answers").fetchone()

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Answer]:
        """Return the answers that are there for *keys*."""
        wanted = list(dict.fromkeys(keys))
        if not wanted:
            return {}
        marks = ",".join("?" * len(wanted))
        rows = self._database.execute(
            f"SELECT key, failed, columns, cost, output_tokens, rowid > ? FROM answers WHERE key IN ({marks})",  # noqa: S608
            (self._last_row, *wanted),
        )
        return {key: _load_answer(*stored) for key, *stored in rows}

    def add(self, answers: Sequence[tuple[bytes, Answer]], *, of_batch: bool = False) -> None:
        """Write *answers* in one transaction; an answer for the same key is replaced.

        Answers *of_batch* end the part of their rows in a batch.
        """
        stored = [
            (
                key,
                answer.has_failed,
                _encode_json(answer.columns),
                None if answer.cost is None else str(answer.cost),
                answer.output_tokens,
            )
            for key, answer in answers
        ]
        with self._write():
            self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", stored)
            if of_batch:
                self._database.executemany("DELETE FROM batch_rows WHERE key = ?", [(key,) for key, _ in answers])

    @contextmanager
    def _write(self) -> Iterator[None]:
        """Write in one transaction what is written inside. Raises JobError if that fails, such as on a full disk."""
        try:
            self._database.execute("BEGIN IMMEDIATE")
            yield
            self._database.execute("COMMIT")
        except sqlite3.Error as error:
            raise JobError(f"{self._path}: the journal cannot be written: {error}") from error

    def sum_totals(self) -> JournalTotals:
        """Return what all answers come to."""
        (answered, failed, cost, unpriced, tokens) = self._database.execute(
            "SELECT TOTAL(NOT failed), TOTAL(failed), TOTAL(CAST(cost AS REAL)), TOTAL(cost IS NULL),"
            " TOTAL(output_tokens) FROM answers"
        ).fetchone()
        return JournalTotals(int(answered), int(failed), Decimal(f"{cost:.9f}"), int(unpriced), int(tokens))

    # -- batches of the vendors ------------------------------------------------------------------------------------

    def add_batch(self, batch: StoredBatch, rows: Sequence[tuple[bytes, Any]]) -> None:
        """Write *batch* and its *rows*, keys with messages, none of which is in another batch."""
        stored = (batch.id, batch.model, batch.begun.isoformat(), batch.name)
        with self._write():
            self._database.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", stored)
            self._database.executemany(
                "INSERT INTO batch_rows VALUES (?, ?, ?, ?)",
                [(key, batch.id, number, _encode_json(messages)) for number, (key, messages) in enumerate(rows)],
            )

    def name_batch(self, batch_id: str, name: str) -> None:
        """Note the vendor's *name* for a batch."""
        with self._write():
            self._database.execute("UPDATE batches SET name = ? WHERE id = ?", (name, batch_id))

    def list_batches(self) -> list[StoredBatch]:
        """Return the batches that are not done."""
        rows = self._database.execute("SELECT id, model, begun, name FROM batches ORDER BY begun, id")
        return [StoredBatch(id_, model, datetime.fromisoformat(begun), name) for id_, model, begun, name in rows]

    def list_batch_rows(self, batch_id: str) -> dict[int, tuple[bytes, Any]]:
        """Return the rows of a batch that have no answer yet, keys with messages, by their number."""
        rows = self._database.execute("SELECT number, key, messages FROM batch_rows WHERE batch = ?", (batch_id,))
        return {number: (key, json.loads(messages)) for number, key, messages in rows}

    def has_batch_row(self, key: bytes) -> bool:
        """Return whether the row is part of a batch."""
        return self._database.execute("SELECT 1 FROM batch_rows WHERE key = ?", (key,)).fetchone() is not None

    def remove_batch(self, batch_id: str) -> None:
        """Forget a batch that is done, and the rows to which it gave no answer."""
        with self._write():
            self._database.execute("DELETE FROM batch_rows WHERE batch = ?", (batch_id,))
            self._database.execute("DELETE FROM batches WHERE id = ?", (batch_id,))

    def close(self) -> None:
        """Close the file, and take its write-ahead log into it."""
        self._database.close()


def read_answers(path: Path, keys: Iterable[bytes]) -> dict[bytes, Answer]:
    """Return the answers for *keys* in the journal at *path*, which is not changed.

    Raises sqlite3.OperationalError while the process that it belongs to has it.
    """
    wanted = list(dict.fromkeys(keys))
    marks = ",".join("?" * len(wanted))
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0)
    try:
        rows = database.execute(
            f"SELECT key, failed, columns, cost, output_tokens, 0 FROM answers WHERE key IN ({marks})",  # noqa: S608
            wanted,
        ).fetchall()
    finally:
        database.close()
    return {key: _load_answer(*stored) for key, *stored in rows}


def _load_answer(failed: int, columns: str, cost: str | None, output_tokens: int, is_new: int) -> Answer:
    loaded: dict[str, Any] = json.loads(columns)
    return Answer(loaded, bool(failed), None if cost is None else Decimal(cost), output_tokens, bool(is_new))
