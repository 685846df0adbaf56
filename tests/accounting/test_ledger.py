"""The ledger: nothing is lost, nothing is counted twice, and no call fails because of it.

MODELHUB_LONG=1 runs the long versions: sixty files made at once.
"""

import asyncio
import dataclasses
import gc
import os
import sqlite3
import threading
import time
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from modelhub import Hub
from modelhub.accounting import ledger as room
from modelhub.accounting import schema
from modelhub.accounting.ledger_location import LedgerError, parse_location
from modelhub.accounting.ledger_reader import open_database
from modelhub.accounting.record_writer import RecordWriter
from modelhub.accounting.report import GROUP_BY, query_report
from modelhub.accounting.schema import MIGRATIONS
from modelhub.accounting.usage_totals import UsageTotals
from tests.accounting import released_ledgers

LONG = bool(os.environ.get("MODELHUB_LONG"))
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
PRICE = {"input": 1, "output": 2}


def hub_of(path, **usage):
    models = {"m": {"provider": "scripted", "reply": "one two", "pricing": PRICE}}
    usage = {"batch": 5, "max_delay": "50ms", **usage, "ledger": str(path)}
    return Hub.from_dict({"version": 1, "models": models, "usage": usage})


def database_of(path):
    return open_database(parse_location(str(path)))


def ask(hub, times=1, **kwargs):
    async def main():
        for number in range(times):
            reply = await hub.get("m").with_tags(n=number)("hello", **kwargs)
            if kwargs.get("stream"):
                await reply.final()

    asyncio.run(main())


def rows(path, query="SELECT * FROM calls"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


# -- exactly once ------------------------------------------------------------------------------------------------------


def test_the_same_call_is_never_written_twice(tmp_path):
    """Its id is made by us: a batch that is written again, after a failure in between, changes nothing."""
    path, made = tmp_path / "usage.db", []
    hub = hub_of(path, batch=0)
    make = hub.usage.ledger.make_record
    hub.usage.ledger.make_record = lambda event: made.append(make(event)) or made[-1]
    ask(hub, 3)
    with closing(RecordWriter(database_of(path), 1.0)) as writer:
        writer.add(made)
    hub.close()
    assert len(rows(path)) == len(rows(path, "SELECT * FROM attempts")) == 3


@pytest.mark.parametrize("usage", [{"batch": 0}, {"batch": 1}, {"max_delay": 0}])
@pytest.mark.parametrize("stream", [False, True])
def test_without_a_batch_a_call_is_written_before_it_returns(tmp_path, usage, stream):
    """And before the last snapshot of a stream is handed out."""
    path = tmp_path / "usage.db"
    hub = hub_of(path, **usage)

    async def main():
        reply = await hub.get("m")("hello", stream=stream)
        if stream:
            async for snapshot in reply:
                assert len(rows(path)) == 1 if snapshot.is_last else not path.exists()
        assert len(rows(path)) == 1

    asyncio.run(main())
    hub.close()


def test_a_batch_is_written_in_its_time(tmp_path):
    """A single call is there after the delay, half a batch at once."""
    path = tmp_path / "usage.db"
    with hub_of(path, batch=10, max_delay="30s") as hub:
        ask(hub, 4)
        assert hub.usage.health.pending == 4
        ask(hub, 5)
        # How many more than half a batch are written at once depends on the threads; fewer would mean a whole batch.
        until(lambda: hub.usage.health.written >= 5)
        hub.usage.flush()
        assert hub.usage.health.as_dict()["written"] == 9
    with hub_of(path, batch=10, max_delay="20ms") as hub:
        ask(hub, 1)
        until(lambda: hub.usage.health.written == 1)
    assert len(rows(path)) == 10


def until(true, seconds=20):
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_what_is_pending_is_written_when_the_hub_closes_or_is_forgotten(tmp_path):
    """However long the batch would have waited."""
    path = tmp_path / "usage.db"
    hub = hub_of(path, batch=100, max_delay="60s")
    ask(hub, 3)
    hub.close()
    assert len(rows(path)) == 3
    hub = hub_of(path, batch=100, max_delay="60s")
    ask(hub, 2)
    del hub
    gc.collect()
    until(lambda: len(rows(path)) == 5)


def test_what_is_settled_after_the_hub_has_closed_is_written_too(tmp_path):
    """A stream whose loop stood still when the hub was closed is counted when the loop goes on."""
    path, loop = tmp_path / "usage.db", asyncio.new_event_loop()
    hub = hub_of(path)
    stream = loop.run_until_complete(hub.get("m")("hello", stream=True))
    hub.close()
    assert not path.exists()
    loop.run_until_complete(stream.aclose())
    loop.close()
    assert hub.usage.total.calls == 1
    assert [row[0] for row in rows(path, "SELECT outcome FROM calls")] == ["failed"]


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_has_a_ledger_of_its_own(tmp_path):
    """What the parent has not written yet is written by the parent alone."""
    path = tmp_path / "usage.db"
    hub = hub_of(path, batch=100, max_delay="60s")
    ask(hub, 2)
    child = os.fork()
    if child == 0:
        ask(hub, 3)
        hub.usage.ledger.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(rows(path)) == 3
    hub.close()
    assert len(rows(path)) == 5


@pytest.mark.parametrize("usage", [{"batch": 2}, {"batch": 0}])
def test_a_call_that_is_settled_in_the_midst_of_writing_is_written_too(tmp_path, usage):
    """What is put in by the very thread that writes waits for nothing, and is not forgotten."""
    path = tmp_path / "usage.db"
    hub = hub_of(path, **usage)
    ledger, seen = hub.usage.ledger, []
    make = ledger.make_record

    def record(event):
        if not seen:
            seen.append(event)
            ledger.put(event._replace(call_id="another"))
        return make(event)

    ledger.make_record = record
    ask(hub, 2)
    hub.close()
    assert len(rows(path)) == 3


# -- a ledger that fails -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("usage", [{}, {"batch": 0}])
def test_a_ledger_that_cannot_be_opened_fails_no_call(tmp_path, usage, caplog):
    """It is logged once and told by `health`; when it can be written, all is there."""
    folder = tmp_path / "not yet"
    hub = hub_of(folder / "usage.db", **usage)
    ask(hub, 20)
    until(lambda: not hub.usage.health.ok)
    health = hub.usage.health
    assert (health.pending, health.written, health.lost) == (20, 0, 0)
    assert "unable to open" in health.error
    folder.mkdir()
    until(lambda: hub.usage.health.ok)
    hub.close()
    assert len(rows(folder / "usage.db")) == 20
    told = [record.getMessage() for record in caplog.records if "ledger" in record.getMessage()]
    assert ["cannot be written" in told[0], "again" in told[1], len(told)] == [True, True, 2]


class ReadOnly(RecordWriter):
    """As if the folder had become read-only."""

    def __init__(self, database, timeout):
        super().__init__(database, timeout)
        self._connection.connection.driver_connection.execute("PRAGMA query_only=1")


class Full(RecordWriter):
    """As if the disk had become full."""

    def __init__(self, database, timeout):
        super().__init__(database, timeout)
        self._connection.connection.driver_connection.execute("PRAGMA max_page_count=1")


@pytest.mark.parametrize("usage", [{}, {"batch": 0}])
@pytest.mark.parametrize(("store", "words"), [(ReadOnly, "readonly"), (Full, "disk is full")])
def test_a_ledger_that_can_no_longer_be_written_fails_no_call(tmp_path, usage, store, words, monkeypatch):
    """The same, with SQLite's own errors, in the midst of work."""
    path = tmp_path / "usage.db"
    with hub_of(path) as hub:
        ask(hub, 1)
    hub = hub_of(path, **usage)
    with monkeypatch.context() as patched:
        patched.setattr(room, "RecordWriter", store)
        ask(hub, 200)
        until(lambda: not hub.usage.health.ok)
        assert words in hub.usage.health.error
        ask(hub, 10)
    until(lambda: hub.usage.health.ok)
    hub.close()
    assert len(rows(path)) == hub.usage.health.written + 1 == 211


@pytest.mark.parametrize("usage", [{}, {"batch": 0}])
def test_a_file_that_others_have_locked_holds_nobody_up(tmp_path, usage, monkeypatch):
    """Calls go on while it is locked, and are written afterwards."""
    monkeypatch.setattr(room, "WRITER_TIMEOUT", 0.05)
    path = tmp_path / "usage.db"
    hub = hub_of(path, **usage)
    ask(hub, 1)
    hub.usage.flush()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        ask(hub, 30)
        assert time.monotonic() - began < 60, "each waited for the lock"
        until(lambda: not hub.usage.health.ok)
        assert "locked" in hub.usage.health.error
        other.execute("COMMIT")
    until(lambda: hub.usage.health.ok)
    hub.close()
    assert len(rows(path)) == 31


def test_a_file_that_is_no_ledger_fails_no_call(tmp_path):
    """Nor does one of a later version; neither is touched."""
    foreign, later = tmp_path / "notes.txt", tmp_path / "later.db"
    foreign.write_bytes(b"this is no database at all" * 100)
    with closing(sqlite3.connect(later)) as connection:
        connection.execute("PRAGMA user_version=99")
    for path, words in ((foreign, "not a database"), (later, "has version 99")):
        hub = hub_of(path)
        ask(hub, 2)
        until(lambda hub=hub: not hub.usage.health.ok)
        assert words in hub.usage.health.error
        hub.close()
        assert hub.usage.health.pending == 2
    assert foreign.read_bytes() == b"this is no database at all" * 100


def test_memory_is_bounded_while_the_ledger_fails(tmp_path, monkeypatch):
    """The oldest records go first, and are told as lost."""
    monkeypatch.setattr(room, "MAX_PENDING", 10)
    hub = hub_of(tmp_path / "nowhere" / "usage.db", batch=0)
    ask(hub, 15)
    health = hub.usage.health
    assert (health.pending, health.lost) == (10, 5)
    (tmp_path / "nowhere").mkdir()
    hub.close()
    assert [row[0] for row in rows(tmp_path / "nowhere" / "usage.db", "SELECT COUNT(*) FROM calls")] == [10]


def test_a_record_that_cannot_be_made_does_not_stop_the_others(tmp_path, monkeypatch):
    """It is lost, and told so."""
    hub = hub_of(tmp_path / "usage.db", batch=0)
    ledger = hub.usage.ledger
    good, ledger.make_record = ledger.make_record, lambda event: 1 / 0
    ask(hub, 1)
    ledger.make_record = good
    ask(hub, 1)
    assert (hub.usage.health.lost, hub.usage.health.written, hub.usage.health.ok) == (1, 1, True)
    hub.close()


def test_figures_that_the_file_cannot_hold_lose_nothing_else(tmp_path, monkeypatch):
    """A provider of a third party may count beyond 64 bits: the row is written, with the largest figure there is."""
    hub = hub_of(tmp_path / "usage.db", batch=0)
    ledger, most = hub.usage.ledger, 2**63 - 1
    record = ledger.make_record

    def record_nonsense(event):
        part, *_ = (made := record(event)).parts
        parts = (dataclasses.replace(part, output_tokens=10**30, input_tokens=-(10**30)),)
        return dataclasses.replace(made, output_tokens=10**30, input_tokens=-(10**30), parts=parts)

    monkeypatch.setattr(ledger, "make_record", record_nonsense)
    ask(hub, 2)
    hub.close()
    figures = "SELECT model, input_tokens, output_tokens FROM"
    assert rows(tmp_path / "usage.db", f"{figures} calls") == [("m", 0, most)] * 2
    assert rows(tmp_path / "usage.db", f"{figures} attempts") == [("m", 0, most)] * 2
    assert (hub.usage.health.lost, hub.usage.health.written) == (0, 2)


# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_ledger_lies_beside_the_file(tmp_path, monkeypatch):
    """Whatever the current directory is."""
    (tmp_path / "models.yaml").write_text(
        "version: 1\nmodels: {m: {provider: scripted}}\nusage: {ledger: usage.db, batch: 0}\n", encoding="utf-8"
    )
    monkeypatch.chdir("/")
    with Hub.from_yaml(tmp_path / "models.yaml") as hub:
        assert not (tmp_path / "usage.db").exists(), "nothing is opened before the first call"
        ask(hub)
    assert len(rows(tmp_path / "usage.db")) == 1


def test_many_may_make_the_file_at_once(tmp_path):
    """None of them is sent away because another is at it."""
    failed = []
    for turn in range(60 if LONG else 12):
        together = threading.Barrier(4)

        def make(path=tmp_path / f"{turn}.db", together=together):
            together.wait()
            try:
                RecordWriter(database_of(path), 5.0).close()
            except LedgerError as error:
                failed.append(error)

        threads = [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


def test_a_file_that_another_is_making_is_waited_for(tmp_path, monkeypatch):
    """SQLite fails one of two that switch a new file to a log at once; that one tries again."""
    path, tries = tmp_path / "usage.db", []
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        def give_way(seconds):
            tries.append(seconds)
            other.execute("COMMIT")

        monkeypatch.setattr(time, "sleep", give_way)
        RecordWriter(database_of(path), 5.0).close()
    assert len(tries) == 1


def test_a_new_file_has_its_version_where_earlier_releases_look_for_it_too(tmp_path):
    """So that they refuse it instead of writing half of a record."""
    path = tmp_path / "usage.db"
    with hub_of(path) as hub:
        ask(hub, 2)
    assert rows(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert rows(path, "SELECT version FROM ledger") == [(len(MIGRATIONS),)]
    assert rows(path, "PRAGMA journal_mode") == [("wal",)]


@pytest.mark.parametrize("version", range(1, len(released_ledgers.VERSIONS) + 1))
def test_a_file_of_an_earlier_release_is_read_as_it_is_and_migrated_by_the_next_call(tmp_path, version):
    """Who only reads changes nothing; nothing is lost, and what later versions keep is empty in earlier rows."""
    path = tmp_path / "usage.db"
    released_ledgers.write_ledger(path, version)
    old = UsageTotals(1, 0, 1, 9, 2, 4, 3, reasoning_tokens=1, known_cost=Decimal("0.5"))
    for by in ("model", "tag:n"):
        assert list(query_report(path, by=by).values()) == [old]
    assert rows(path, "PRAGMA user_version") == [(version,)]
    before = [rows(path, f"SELECT * FROM {table}")[0] for table in ("calls", "attempts")]
    with hub_of(path) as hub:
        ask(hub, 2)
        old.add(hub.usage.total)
    assert query_report(path) == {"m": old}
    assert rows(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    for table, row in zip(("calls", "attempts"), before, strict=True):
        (kept,) = rows(path, f"SELECT * FROM {table} WHERE call_id = 'x'")
        assert kept[: len(row)] == row
        assert len(rows(path, f"SELECT * FROM {table}")) == 3
    batch = 7 if version >= 3 else 0
    assert rows(path, "SELECT DISTINCT batch FROM calls ORDER BY batch") == [(batch,), (batch + 1,)]


@pytest.mark.parametrize("version", range(1, len(released_ledgers.VERSIONS) + 1))
def test_a_migrated_file_has_the_columns_and_indexes_of_a_new_one(tmp_path, version):
    """In whatever version it began."""
    released_ledgers.write_ledger(tmp_path / "old.db", version)
    for name in ("old.db", "new.db"):
        RecordWriter(database_of(tmp_path / name), 1.0).close()

    def describe(name):
        columns = {
            table: sorted(rows(tmp_path / name, f"SELECT name, pk FROM pragma_table_info('{table}')"))
            for table in ("calls", "attempts", "ledger")
        }
        return columns, sorted(rows(tmp_path / name, "SELECT name FROM sqlite_master WHERE type = 'index'"))

    assert describe("old.db") == describe("new.db")


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    """It is one transaction: the file stays what the earlier release wrote."""
    path = tmp_path / "usage.db"
    released_ledgers.write_ledger(path, 2)
    impossible = dataclasses.replace(MIGRATIONS[-1], columns={"calls": ("call_id",)})
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS[:-1], impossible))
    with pytest.raises(LedgerError, match="duplicate column"):
        RecordWriter(database_of(path), 1.0)
    assert rows(path, "PRAGMA user_version") == [(2,)]
    assert query_report(path)["m"].calls == 1


@pytest.mark.parametrize("begun", [False, True])
def test_a_file_that_is_being_made_has_no_calls_yet(tmp_path, begun, caplog):
    """It is there before its tables are, in whatever moment one looks, or a process was killed."""
    path = tmp_path / "usage.db"
    path.touch()
    if begun:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    assert [query_report(path, by=by) for by in (*GROUP_BY, "tag:n")] == [{}] * (len(GROUP_BY) + 1)
    budgets = {"b": {"tokens": 9, "per": "day", "tag": "user"}}
    models = {"m": {"provider": "scripted"}}
    with Hub.from_dict({"version": 1, "models": models, "usage": {"ledger": str(path)}, "budgets": budgets}) as hub:
        assert hub.usage.budgets == []
    assert caplog.text == ""
    with hub_of(path) as hub:
        ask(hub, 2)
    assert query_report(path)["m"].calls == 2


def test_a_report_sums_the_file_by_what_one_asks(tmp_path):
    """By model, chain, day, tag; since and until."""
    path = tmp_path / "usage.db"
    with hub_of(path) as hub:
        ask(hub, 3)
        ask(hub, 1, stream=True)
        totals, tags = hub.usage.total, hub.usage.by_tag["n"]
    for by in GROUP_BY:
        assert list(query_report(path, by=by).values()) == [totals], by
    assert query_report(path, by="tag:n") == tags
    assert query_report(path, by="tag:other") == {"": totals}
    (day,) = query_report(path, by="day")
    assert len(day) == len("2026-01-01")
    at = hub.services.clock.wall()
    assert query_report(path, since=at) == {}
    assert list(query_report(path, until=at).values()) == [totals]
    with pytest.raises(ValueError, match="not by 'week'"):
        query_report(path, by="week")
    with pytest.raises(LedgerError, match="unable to open"):
        query_report(tmp_path / "nothing.db")


@pytest.mark.parametrize("batch", [1, 10])
def test_a_lock_of_another_process_stalls_neither_a_call_nor_its_loop(tmp_path, batch, monkeypatch):
    """The writer's thread waits for it; what was called meanwhile is written when the lock is gone."""
    monkeypatch.setattr(room, "WRITER_TIMEOUT", 120)
    path = tmp_path / "usage.db"
    hub = hub_of(path, batch=batch)
    ask(hub)
    hub.usage.flush()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        ask(hub, 40)
        assert time.monotonic() - began < 60, "calls waited for the lock"
        assert hub.usage.health.ok
        assert hub.usage.health.pending == 40
        other.execute("COMMIT")
    hub.close()
    assert len(rows(path)) == 41


@pytest.mark.parametrize("batch", [1, 10])
def test_a_ledger_that_is_deleted_or_moved_away_is_made_again(tmp_path, batch):
    """A moved file keeps what was written to it, also what was only in its log; later calls are in the new one."""
    path, moved = tmp_path / "usage.db", tmp_path / "usage.db.1"
    hub = hub_of(path, batch=batch)
    ask(hub, 3)
    hub.usage.flush()
    path.rename(moved)
    ask(hub, 2)
    hub.usage.flush()
    assert (len(rows(moved)), len(rows(path))) == (3, 2)
    for file in tmp_path.glob("usage.db*"):
        file.unlink()
    ask(hub)
    hub.close()
    assert len(rows(path)) == 1
    assert (hub.usage.health.ok, hub.usage.health.pending) == (True, 0)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_new_ledger_is_private_to_its_user(tmp_path):
    """Its log and index are as well; the mode of a file that exists is its owner's business."""
    path, shared = tmp_path / "usage.db", tmp_path / "shared.db"
    shared.touch()
    shared.chmod(0o640)
    for file, mode in ((path, 0o600), (shared, 0o640)):
        hub = hub_of(file)
        ask(hub)
        hub.usage.flush()
        names = sorted(tmp_path.glob(f"{file.name}*"))
        assert [name.suffix for name in names] == [".db", ".db-shm", ".db-wal"]
        assert {name.stat().st_mode & 0o777 for name in names} == {mode}
        hub.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgres://u:s3cret@h1:1,h2:2/db?sslmode=require&password=s3cret", "postgresql://h1:1,h2:2/db"),
        ("postgresql+psycopg://u:s3cret@/db?host=/run/pg", "postgresql:///run/pg/db"),
        ("postgresql:///db?host=/run/pg&user=u&password=s3cret", "postgresql:///run/pg/db"),
        ("postgresql://u:s3cret@h", "postgresql://h/"),
        ("postgresql://u:s3cret@h?dbname=db", "postgresql://h/db"),
        ("postgresql://u:s3cret/s3cret@s3cret?s3cret@h/db", "postgresql://h/db"),
    ],
)
def test_a_url_is_shown_as_host_and_database(url, shown):
    """In whatever form it is written."""
    location = parse_location(url)
    assert (str(location), "s3cret" in repr(location)) == (shown, False)
    assert location.redact("no 's3cret'") == "no '***'"


def test_the_page_about_the_ledger_names_every_column():
    """People query the tables themselves."""
    page = (Path(__file__).parents[2] / "docs" / "ledger.md").read_text(encoding="utf-8")
    tables = schema.get_tables(create_engine("sqlite://").dialect)
    columns = {column.name for table in tables.metadata.tables.values() for column in table.c}
    assert {name for name in columns if f"`{name}`" not in page} == set()
