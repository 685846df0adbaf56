"""The journal of a job: every answer, by the key of its row, in an SQLite file beside the output.

It is in WAL mode with `synchronous=NORMAL`: a transaction is in the operating system's hands when it is committed, so
nothing that was committed is lost when the process is killed at any point, and no row pays for an fsync. If the power
fails, the last moments may be missing, and those rows are asked again; the file itself stays whole.

Answers are appended; their keys go into the index, `answer_keys`, a few thousand at a time and in order. For keys are
random: each written at once would change a page of its own, which costs more than everything else a row needs. The keys
that are not in the index yet are in memory, and a process that opens the journal after one that was killed indexes them
first.

`locking_mode=EXCLUSIVE` keeps a second job away from the same output until this process has ended, in whatever way,
and saves the index in shared memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelhub.jobs.errors import JobError
from modelhub.jobs.json_text import dump_json, parse_json
from modelhub.jobs.rows import Answer

__all__ = ["MAX_UNINDEXED", "Journal", "JournalTotals", "StoredBatch", "find_journal", "read_answers"]

_VERSION = 2
_SCHEMA = (
    """CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    key BLOB NOT NULL,
    failed INTEGER NOT NULL,
    columns TEXT NOT NULL,
    cost TEXT,
    output_tokens INTEGER NOT NULL
)""",
    "CREATE TABLE answer_keys (key BLOB PRIMARY KEY, answer INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE indexed (answer INTEGER NOT NULL)",
    "INSERT INTO indexed VALUES (0)",
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
"""The answers, their keys, and the last answer whose key is in the index; the vendors' batches under way (`name` is the
vendor's, as soon as it is known), and their rows."""
_INDEX_ANSWERS = """INSERT OR REPLACE INTO answer_keys
SELECT key, id FROM answers WHERE id > (SELECT answer FROM indexed) ORDER BY key, id"""
_COLUMNS = "SELECT key, failed, columns, cost, output_tokens, id > ? FROM answers"
_CACHE_KIB = 16_384
_MAX_ID = 2**63 - 1
MAX_UNINDEXED = 8192
"""How many keys are in memory before they go into the index."""


@dataclass(frozen=True, slots=True)
class JournalTotals:
    """What is in a journal; `cost` is in US dollars, without answers whose cost is not known."""

    answered: int = 0
    failed: int = 0
    cost: Decimal = Decimal(0)
    output_tokens: int = 0

    @property
    def average_output(self) -> float | None:
        """How many tokens an answer has on average, or None if that is not known."""
        return self.output_tokens / self.answered if self.answered and self.output_tokens else None


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


class _KeyFilter:
    """Tells which keys cannot be in the index, so that new rows need not be looked up: a bit for each hash of keys."""

    def __init__(self) -> None:
        self._bits = bytearray(8 * 1024 * 1024)

    def add(self, keys: Iterable[bytes]) -> None:
        """Add *keys*, which are hashes."""
        bits = self._bits
        for key in keys:
            number = int.from_bytes(key[:4], "little") & 0x3FFFFFF
            bits[number >> 3] |= 1 << (number & 7)

    def select(self, keys: Iterable[bytes]) -> list[bytes]:
        """Return those of *keys* that may be in the index."""
        bits, selected = self._bits, []
        for key in keys:
            number = int.from_bytes(key[:4], "little") & 0x3FFFFFF
            if bits[number >> 3] >> (number & 7) & 1:
                selected.append(key)
        return selected


class Journal:
    """The answers of a job. It belongs to one process at a time.

    Raises JobError if another process has it, if it cannot be opened, or if it is no journal of this version.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.touch(mode=0o600)  # answers are as confidential as prompts
        self._database = sqlite3.connect(path, timeout=0, isolation_level=None)
        self._unindexed: dict[bytes, int] = {}  # the ids of the answers whose keys are not in the index, by their keys
        self._filter = _KeyFilter()
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
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"it is of version {version}, and this modelhub writes version {_VERSION}")
        execute("COMMIT")
        self._index_answers()
        self._filter.add(key for (key,) in execute("SELECT key FROM answer_keys"))
        (self._last_row,) = execute("SELECT COALESCE(MAX(id), 0) FROM answers").fetchone()
        self._next_id = self._last_row + 1

    def find(self, keys: Iterable[bytes]) -> dict[bytes, Answer]:
        """Return the answers that are there for *keys*."""
        if len(self._unindexed) >= MAX_UNINDEXED:
            self._index_answers()
        return self._load(self._find_ids(keys))

    def find_recent(self, key: bytes) -> Answer | None:
        """Return the answer for *key* if it was added in this run, since `find` was called last.

        Otherwise None, or an earlier answer of this run.
        """
        id_ = self._unindexed.get(key)
        return None if id_ is None else self._load([id_])[key]

    def _find_ids(self, keys: Iterable[bytes]) -> list[int]:
        unindexed, wanted = self._unindexed, set(keys)
        others = wanted.difference(unindexed)
        ids = [unindexed[key] for key in wanted - others]
        if indexed := self._filter.select(others):
            query = f"SELECT answer FROM answer_keys WHERE key IN ({_make_marks(indexed)})"  # noqa: S608
            ids += (id_ for (id_,) in self._database.execute(query, indexed))
        return ids

    def _load(self, ids: Sequence[int]) -> dict[bytes, Answer]:
        if not ids:
            return {}
        rows = self._database.execute(f"{_COLUMNS} WHERE id IN ({_make_marks(ids)})", (self._last_row, *ids))
        return {key: _load_answer(*stored) for key, *stored in rows}

    def _index_answers(self) -> None:
        with self._write():
            self._database.execute(_INDEX_ANSWERS)
            self._database.execute("UPDATE indexed SET answer = (SELECT COALESCE(MAX(id), 0) FROM answers)")
        self._filter.add(self._unindexed)
        self._unindexed.clear()

    def add(self, answers: Sequence[tuple[bytes, Answer]], *, replace: bool = False, of_batch: bool = False) -> None:
        """Write *answers*, for keys that have none, in one transaction; with *replace*, they replace those that have.

        Answers *of_batch* end the part of their rows in a batch.
        """
        replaced = self._find_ids(key for key, _ in answers) if replace else ()
        # Of just these types: for others, bytes and bool too, the driver looks for an adapter with each value.
        stored = [
            (
                id_,
                bytearray(key),
                int(answer.has_failed),
                answer.json.decode(),
                None if answer.cost is None else str(answer.cost),
                answer.output_tokens,
            )
            for id_, (key, answer) in enumerate(answers, self._next_id)
        ]
        with self._write():
            self._database.executemany("INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)", stored)
            if replaced:  # after the new ones are there, so that no id is used again
                self._database.executemany("DELETE FROM answers WHERE id = ?", [(id_,) for id_ in replaced])
            if of_batch:
                self._database.executemany("DELETE FROM batch_rows WHERE key = ?", [(key,) for key, _ in answers])
        for key, _ in answers:
            self._unindexed[key] = self._next_id
            self._next_id += 1

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
        (answered, failed, cost, tokens) = self._database.execute(
            "SELECT TOTAL(NOT failed), TOTAL(failed), TOTAL(CAST(cost AS REAL)), TOTAL(output_tokens) FROM answers"
        ).fetchone()
        return JournalTotals(int(answered), int(failed), Decimal(f"{cost:.9f}"), int(tokens))

    # -- batches of the vendors ------------------------------------------------------------------------------------

    def add_batch(self, batch: StoredBatch, rows: Sequence[tuple[bytes, Any]]) -> None:
        """Write *batch* and its *rows*, keys with messages, none of which is in another batch."""
        stored = (batch.id, batch.model, batch.begun.isoformat(), batch.name)
        with self._write():
            self._database.execute("INSERT INTO batches VALUES (?, ?, ?, ?)", stored)
            self._database.executemany(
                "INSERT INTO batch_rows VALUES (?, ?, ?, ?)",
                [(key, batch.id, number, dump_json(messages).decode()) for number, (key, messages) in enumerate(rows)],
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
        return {number: (key, parse_json(messages)) for number, key, messages in rows}

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
    values = ",".join(["(?)"] * len(wanted))
    query = f"""WITH wanted (key) AS (VALUES {values}) {_COLUMNS}
        WHERE id IN (SELECT answer FROM answer_keys WHERE key IN wanted)
        OR (id > (SELECT answer FROM indexed) AND key IN wanted) ORDER BY id"""  # noqa: S608
    database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=0)
    try:
        rows = database.execute(query, (*wanted, _MAX_ID)).fetchall()
    finally:
        database.close()
    return {key: _load_answer(*stored) for key, *stored in rows}


def _make_marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))


def _load_answer(failed: int, columns: str, cost: str | None, output_tokens: int, is_new: int) -> Answer:
    price = None if cost is None else Decimal(cost)
    return Answer(parse_json(columns), bool(failed), price, output_tokens, bool(is_new), columns.encode())
