"""What every ledger promises, in an SQLite file and in PostgreSQL."""

import asyncio
import csv
import dataclasses
import io
import json
import logging
import os
import threading
import time
import traceback
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from typer.testing import CliRunner

from modelhub import BudgetExceeded, Hub
from modelhub.accounting import ledger as writer
from modelhub.accounting import schema
from modelhub.accounting.ledger_location import LedgerError, parse_location
from modelhub.accounting.ledger_reader import open_database, open_ledger
from modelhub.accounting.record import AttemptUsage, UsageRecord
from modelhub.accounting.record_writer import RecordWriter
from modelhub.accounting.report import GROUP_BY, query_report, query_shapes
from modelhub.cli.application import app
from modelhub.core.response import COUNTS
from modelhub.core.tracebacks import linked_errors
from tests.system.ledger.conftest import until

NOW = datetime(2026, 3, 14, 23, 59, 59, 999_999, tzinfo=UTC)
LONG = "x" * 100_000


def hub_of(url, budgets=None, **usage):
    entry = {"provider": "scripted", "reply": "one two", "pricing": {"input": 1, "output": 2}}
    usage = {"batch": 5, "max_delay": "20ms", **usage, "ledger": url}
    config = {"version": 1, "models": {"m": entry, "n": entry}, "usage": usage, "budgets": budgets or {}}
    return Hub.from_dict({**config, "chains": {"c": {"models": ["m", "n"]}}})


def ask(hub, times=1, name="m", **tags):
    async def main():
        for number in range(times):
            await hub.get(name).with_tags(**({"n": number} | tags))("hello")

    asyncio.run(main())


def make_record(call_id, at=NOW, cost="0.5", tags=None, names="m", **changes):
    counts = dict.fromkeys(COUNTS, 1)
    facts = {"model": names, "vendor": names, "model_name": names, "response_model": names, "prices": names}
    figures = {"cost": None if cost is None else Decimal(cost), "estimated": True, "duration": 1.25}
    part = AttemptUsage(outcome="ok", used=True, started=0.5, arm=names, **facts, **figures, **counts)
    values = {"outcome": "complete", "error": None, "first_token": 0.1, "attempts": 1, "tags": tags or {}, "arm": names}
    record = UsageRecord(call_id, at, names, parts=(part,), **facts, **figures, **counts, **values)
    return dataclasses.replace(record, **changes)


def write(ledger, *records, signature=""):
    with closing(RecordWriter(open_database(parse_location(ledger.url)), 5.0)) as record_writer:
        record_writer.add(records, signature)


# -- what is written ---------------------------------------------------------------------------------------------------


def test_a_call_is_written_with_all_that_is_known_of_it(ledger, monkeypatch):
    """Before it returns, with a batch of 0; a database over the network is waited for briefly."""
    monkeypatch.setattr(writer, "SYNCHRONOUS_WAIT", 60)
    with hub_of(ledger.url, batch=0) as hub:
        ask(hub, name="c", user="42")
        assert hub.usage.health.as_dict() | {"path": ""} == {
            "ok": True,
            "path": "",
            "written": 1,
            "pending": 0,
            "lost": 0,
            "error": None,
        }
        row = ledger.rows("SELECT requested, model, vendor, outcome, error, output_tokens, attempts, tags FROM calls")
        tags = {"n": "0", "user": "42"}
        assert [(*found[:-1], as_object(found[-1])) for found in row] == [
            ("c", "m", "scripted", "complete", None, 2, 1, tags)
        ]
        ((cost, estimated, used),) = ledger.rows("SELECT cost, estimated, used FROM attempts")
        assert (Decimal(cost), bool(estimated), bool(used)) == (Decimal("0.000005"), True, True)


def as_object(value):
    return json.loads(value) if isinstance(value, str) else value


def test_what_is_written_twice_is_there_once(ledger):
    """The ids are ours: a batch that is written again, after a failure in between, changes nothing."""
    records = [make_record(f"call-{number}") for number in range(300)]
    write(ledger, *records)
    write(ledger, *(dataclasses.replace(record, outcome="failed") for record in records), make_record("new"))
    assert ledger.rows("SELECT COUNT(*), COUNT(DISTINCT call_id) FROM calls") == [(301, 301)]
    assert ledger.rows("SELECT COUNT(*) FROM attempts") == [(301,)]
    assert ledger.rows("SELECT DISTINCT outcome FROM calls") == [("complete",)]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud800", "\ufffd"),
        ("\U0001f600 é \u202e \ufeff", "\U0001f600 é \u202e \ufeff"),
        ("'; DROP TABLE calls; -- \\ %s ? :x \"", "'; DROP TABLE calls; -- \\ %s ? :x \""),
        ("\\u0000 \r\n\t\x01", "\\u0000 \r\n\t\x01"),
        (LONG, LONG),
    ],
    ids=["nul", "surrogate", "unicode", "quotes", "escapes", "long"],
)
def test_any_text_is_stored_and_found_again(ledger, text, stored):
    """As a name, a tag and a tag's name; what PostgreSQL cannot store is replaced in both."""
    write(ledger, make_record("x", tags={text: text, "k": text}, names=text))
    assert ledger.rows("SELECT requested, model, model_name, response_model, prices, arm FROM calls") == [(stored,) * 6]
    for by in ("model", "tag:k", f"tag:{text}"):
        assert list(query_report(ledger.url, by=by)) == [stored], by


@pytest.mark.parametrize("cost", ["0", "0.000000000123456789012345678901", "12345678901234567890.5", "-0.1", None])
def test_costs_are_exact(ledger, cost):
    """Their sums as well; an unknown one is no zero."""
    write(ledger, make_record("x", cost=cost), make_record("y", cost="0.1"))
    total = query_report(ledger.url)["m"]
    assert (total.known_cost, total.unpriced) == (Decimal(cost or 0) + Decimal("0.1"), cost is None)


def test_times_are_in_utc_to_the_microsecond(ledger):
    """Whatever the time zone of the call or the database."""
    tokyo = timezone(timedelta(hours=9))
    write(ledger, make_record("x", at=NOW.astimezone(tokyo)))
    for by, name in (("hour", "2026-03-14T23"), ("day", "2026-03-14"), ("month", "2026-03")):
        assert list(query_report(ledger.url, by=by)) == [name]
    tick = timedelta(microseconds=1)
    for since, until_, calls in ((NOW, None, 1), (NOW + tick, None, 0), (None, NOW, 0), (None, NOW + tick, 1)):
        assert len(query_report(ledger.url, since, until=until_)) == calls
    with open_ledger(open_database(parse_location(ledger.url))) as reader:
        assert reader.connection.execute(schema.select(reader.calls.c.at)).scalar_one() == NOW


def test_a_figure_that_cannot_be_stored_loses_no_other_call(ledger, monkeypatch, caplog):
    """Counts are limited to 64 bits; a call that is impossible to store is lost alone, and that is logged."""
    hub = hub_of(ledger.url, batch=100, max_delay="60s")
    recorder, make = hub.usage.ledger, hub.usage.ledger.make_record
    changes = {"3": {"duration": object()}, "5": {"output_tokens": 10**30, "input_tokens": -1}}

    def make_some(event):
        return dataclasses.replace(make(event), **changes.get(event.tags["n"], {}))

    monkeypatch.setattr(recorder, "make_record", make_some)
    ask(hub, 8)
    hub.close()
    health = hub.usage.health
    assert (health.written, health.lost, health.pending, health.ok) == (7, 1, 0, True)
    assert ledger.rows("SELECT COUNT(*), MAX(output_tokens), MIN(input_tokens) FROM calls") == [(7, 2**63 - 1, 0)]
    assert "a call could not be recorded" in caplog.text


def test_a_report_is_what_the_hub_has_counted(ledger):
    """By whatever one asks; what calls asked for is there too."""
    with hub_of(ledger.url) as hub:
        ask(hub, 3, user="ann")
        ask(hub, 2, name="c")
        usage = hub.usage
        total, by_chain, by_user = usage.total, usage.by_chain, usage.by_tag["user"]
    for by in GROUP_BY:
        report = query_report(ledger.url, by=by)
        assert sum(row.attempts for row in report.values()) == total.attempts, by
    assert query_report(ledger.url, by="all") == {"": total}
    assert query_report(ledger.url, by="chain") == by_chain
    assert query_report(ledger.url, by="tag:user")["ann"] == by_user["ann"]
    ((shape, calls, last_at),) = query_shapes(ledger.url, "m")
    assert (shape, calls, last_at.tzinfo) == ({}, 3, UTC)
    with pytest.raises(ValueError, match="not by 'week'"):
        query_report(ledger.url, by="week")


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_shows_it(ledger, tmp_path, monkeypatch):
    """As a table, CSV and a page; a reference in the file is filled in, and no password is shown."""
    monkeypatch.chdir(tmp_path)
    models = "models: {m: {provider: scripted, pricing: {input: 1, output: 1}}}"
    usage = "usage: {ledger: '${LEDGER_URL}', batch: 0}\nbudgets: {b: {tokens: 1000, per: 9999d}}"
    text = f"version: 1\n{models}\n{usage}\n"
    (tmp_path / "models.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("LEDGER_URL", ledger.url)

    def run(*arguments):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        assert "s3cret" not in done.output
        return done

    assert "ready" in run("check").stdout
    assert json.loads(run("explain", "m", "--json").stdout)["ledger"] == str(parse_location(ledger.url))
    for user in ("ann", "bob", "ann"):
        with Hub.from_yaml("models.yaml") as hub:
            ask(hub, user=user)
    rows = csv.DictReader(io.StringIO(run("usage", "--by", "tag:user", "--csv").stdout))
    assert {row["name"]: row["calls"] for row in rows} == {"ann": "2", "bob": "1"}
    assert run("usage", "--ledger", ledger.url).stdout.splitlines()[1].split()[:2] == ["m", "3"]
    assert "ann" in run("usage", "--html", "-").stdout
    assert run("usage", "--only", "tag:user=bob", "--by", "chain").stdout.splitlines()[1].split()[:2] == ["m", "1"]
    assert "18 of 1,000" in run("usage").stdout
    assert run("fit", "m", "--from-ledger").exit_code == 0


# -- budgets -----------------------------------------------------------------------------------------------------------


def test_budgets_are_rebuilt_from_it(ledger):
    """What this hub or another has spent is spent, also for the next hub; nothing is counted twice."""
    budgets = {
        "all": {"tokens": 9, "per": "9999d"},
        "usd": {"usd": 1, "per": "9999d", "model": "m"},
        "each": {"tokens": 100, "per": "9999d", "tag": "user"},
        "ann": {"tokens": 100, "per": "9999d", "tag": "user=ann"},
        "c": {"tokens": 100, "per": "9999d", "chain": "c"},
    }
    with hub_of(ledger.url, budgets) as hub:
        ask(hub, user="ann")
        ask(hub, name="c", user="bob\x00")
        hub.usage.flush()
        own = spent(hub)
        read_again(hub)
        assert spent(hub) == own
    with hub_of(ledger.url, budgets) as hub:
        assert spent(hub) == {
            ("all", None): "6",
            ("usd", None): "0.000010",
            ("each", "ann"): "3",
            ("each", "bob\ufffd"): "3",
            ("ann", None): "3",
            ("c", None): "3",
        }
        ask(hub, user="ann")
        with pytest.raises(BudgetExceeded):
            ask(hub, user="ann")
        other = hub_of(ledger.url, budgets)
        hub.usage.flush()
        read_again(other)
        assert spent(other) == spent(hub)
        other.close()


def spent(hub):
    return {(budget["budget"], budget["of"]): budget["spent"] for budget in hub.usage.budgets}


def read_again(hub):
    shared_spend = hub.usage.spending_budgets.shared_spend
    shared_spend.due = 0
    shared_spend.refresh_if_due()
    with shared_spend.read_lock:
        pass


# -- a ledger that is away ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [0, 5])
def test_a_ledger_that_goes_away_fails_no_call_and_gets_every_one_when_it_is_back(ledger, batch, caplog):
    """It is logged when it goes and when it comes back, without the password; each call is there once."""
    hub = hub_of(ledger.url, batch=batch)
    ask(hub, 3)
    hub.usage.flush()
    ledger.go_away()
    ask(hub, 20)
    until(lambda: not hub.usage.health.ok)
    assert (hub.usage.health.pending, hub.usage.health.lost) == (20, 0)
    ledger.come_back()
    until(lambda: hub.usage.health.ok)
    hub.close()
    assert ledger.rows("SELECT COUNT(*), COUNT(DISTINCT call_id) FROM calls") == [(23, 23)]
    logged = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert any("cannot be written, and is retried" in message for message in logged)
    assert "can be written again" in logged[-1]
    assert "s3cret" not in caplog.text + repr(hub.usage.health)


def test_what_is_lost_while_it_is_away_is_counted_and_logged(ledger, monkeypatch, caplog):
    """Memory is bounded: the oldest calls go first."""
    monkeypatch.setattr(writer, "MAX_PENDING", 10)
    ledger.go_away()
    hub = hub_of(ledger.url)
    ask(hub, 15)
    until(lambda: (hub.usage.health.pending, hub.usage.health.lost) == (10, 5))
    ledger.come_back()
    hub.close()
    numbers = {as_object(tags)["n"] for (tags,) in ledger.rows("SELECT tags FROM calls")}
    assert numbers == {str(number) for number in range(5, 15)}
    lost = [record.args[0] for record in caplog.records if "are lost" in record.getMessage()]
    assert sum(lost) == 5


def test_what_cannot_be_written_until_the_hub_is_closed_is_logged(ledger, caplog):
    """Closing takes no longer for it."""
    ledger.go_away()
    hub = hub_of(ledger.url)
    ask(hub, 3)
    hub.close()
    assert hub.usage.health.pending == 3
    assert "3 calls could not be written to the ledger" in caplog.text
    ledger.come_back()


def test_budgets_begin_at_zero_loudly_while_it_is_away(ledger, caplog):
    """And know what was spent when it is back."""
    with hub_of(ledger.url) as hub:
        ask(hub)
    if ledger.kind == "sqlite":
        pytest.skip("a file that is not there is one without calls")
    ledger.go_away()
    hub = hub_of(ledger.url, {"b": {"tokens": 100, "per": "9999d"}})
    assert spent(hub) == {("b", None): "0"}
    assert "budgets start at zero: the ledger" in caplog.text
    ledger.come_back()
    read_again(hub)
    assert spent(hub) == {("b", None): "3"}
    hub.close()


# -- processes and versions --------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_writes_its_own_calls(ledger):
    """With a connection of its own; what the parent has not written is written by the parent alone."""
    hub = hub_of(ledger.url, batch=100, max_delay="60s")
    ask(hub, 2)
    hub.usage.flush()
    ask(hub, 2)
    child = os.fork()
    if child == 0:
        ask(hub, 3)
        hub.usage.ledger.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert ledger.rows("SELECT COUNT(*) FROM calls") == [(5,)]
    ask(hub)
    hub.close()
    assert ledger.rows("SELECT COUNT(*) FROM calls") == [(8,)]


def test_many_may_create_the_tables_at_once(ledger):
    """None of them fails because another is at it."""
    together, failed = threading.Barrier(4), []

    def create(number):
        together.wait()
        try:
            write(ledger, make_record(f"call-{number}"))
        except LedgerError as error:
            failed.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sorted(ledger.rows("SELECT batch FROM calls")) == [(1,), (2,), (3,), (4,)]


def test_tables_of_an_earlier_release_are_read_as_they_are_and_migrated_by_the_next_call(ledger, monkeypatch):
    """What is there stays; what later versions keep is empty in earlier rows."""
    arms, versions = schema.MIGRATIONS[-2], (*schema.MIGRATIONS[:-2], schema.MIGRATIONS[-1])
    write(ledger, make_record("x"))
    with open_database(parse_location(ledger.url)).connect_for_writing(5) as connection, connection.begin():
        tables = schema.get_tables(connection.dialect)
        for table in (tables.calls, tables.attempts):
            connection.execute(schema.text(f"ALTER TABLE {table.fullname} DROP COLUMN arm"))
        connection.execute(tables.ledger.update().values(version=len(versions)))
        if ledger.kind == "sqlite":
            connection.exec_driver_sql(f"PRAGMA user_version={len(versions)}")
    monkeypatch.setattr(schema, "MIGRATIONS", (*versions, arms))
    assert list(query_report(ledger.url, by="arm")) == [""]
    write(ledger, make_record("y"))
    assert ledger.rows("SELECT call_id, arm FROM calls ORDER BY call_id") == [("x", None), ("y", "m")]
    assert ledger.rows("SELECT version FROM ledger") == [(len(versions) + 1,)]


def test_tables_of_a_later_release_are_not_touched(ledger):
    """Neither when they are opened, nor when another process migrates them meanwhile."""
    record_writer = RecordWriter(open_database(parse_location(ledger.url)), 5.0)
    with open_database(parse_location(ledger.url)).connect_for_writing(5) as connection, connection.begin():
        connection.execute(schema.get_tables(connection.dialect).ledger.update().values(version=99))
        if ledger.kind == "sqlite":
            connection.exec_driver_sql("PRAGMA user_version=99")
    with closing(record_writer), pytest.raises(LedgerError, match="version"):
        record_writer.add([make_record("x")])
    with pytest.raises(LedgerError, match="has version 99"):
        write(ledger, make_record("x"))
    with pytest.raises(LedgerError, match="version 99"):
        query_report(ledger.url)
    assert ledger.rows("SELECT COUNT(*) FROM calls") == [(0,)]


def test_an_empty_ledger_has_no_calls(ledger):
    """Before the first one is written, and nothing is created by looking."""
    if ledger.kind == "sqlite":
        (parse_location(ledger.url).path).touch()
    assert [query_report(ledger.url, by=by) for by in ("hour", "tag:n")] == [{}, {}]
    hub = hub_of(ledger.url, {"b": {"tokens": 9, "per": "day", "tag": "user"}})
    assert hub.usage.budgets == []
    hub.close()


# -- a database over the network ---------------------------------------------------------------------------------------


def test_a_user_who_may_not_create_the_schema_may_use_one_that_is_there(remote):
    """It is made for him beforehand, and he owns it."""
    remote.execute("DROP ROLE IF EXISTS app")
    remote.execute("CREATE ROLE app LOGIN PASSWORD 'app'")
    target = remote.url.rpartition("@")[2]
    location = parse_location(f"postgresql://app:app@{target}")
    with pytest.raises(LedgerError, match="permission denied for database"):
        RecordWriter(open_database(location), 5.0)
    remote.execute("CREATE SCHEMA modelhub AUTHORIZATION app")
    with hub_of(location.url) as hub:
        ask(hub)
    assert query_report(location)["m"].calls == 1
    remote.execute("DROP SCHEMA modelhub CASCADE")
    remote.execute("DROP ROLE app")


def test_a_connection_that_was_lost_meanwhile_is_made_again_silently(remote, caplog):
    """Idle ones are closed by many a network: that is no failure."""
    hub = hub_of(remote.url)
    for calls in (3, 6, 9):
        ask(hub, 3)
        hub.usage.flush()
        assert remote.rows("SELECT COUNT(*) FROM calls") == [(calls,)]
        remote.forwarder.break_connections()
    hub.close()
    assert caplog.text == ""


@pytest.mark.parametrize("batch", [0, 5])
def test_a_database_that_hangs_holds_up_no_call(remote, batch, monkeypatch, caplog):
    """After a while that is a failure, and the calls are there once when it goes on."""
    from modelhub.accounting import postgres_database

    monkeypatch.setattr(postgres_database, "WRITING_TIMEOUT", 0.2)
    hub = hub_of(remote.url, batch=batch)
    ask(hub)
    hub.usage.flush()
    remote.forwarder.freeze()
    began = time.monotonic()
    ask(hub, 400)
    assert time.monotonic() - began < 20, "each call waited"
    until(lambda: not hub.usage.health.ok)
    assert "did not answer in 0.2 s" in caplog.text
    hub.usage.ledger.database.writing = hub.usage.ledger.database.make_engine(60)
    remote.forwarder.thaw()
    until(lambda: hub.usage.health.ok)
    hub.close()
    assert remote.rows("SELECT COUNT(*), COUNT(DISTINCT call_id) FROM calls") == [(401, 401)]


def test_a_writer_that_stops_in_the_midst_of_a_batch_holds_up_the_others_for_a_while_only(remote, monkeypatch):
    """The database ends its transaction."""
    from modelhub.accounting import postgres_database

    monkeypatch.setattr(postgres_database, "IDLE_TIMEOUT", 0.2)
    write(remote, make_record("x"))
    database = open_database(parse_location(remote.url))
    connection = database.connect_for_writing(5)
    cursor = connection.connection.dbapi_connection.cursor()
    database.begin(connection, cursor, 5)
    cursor.execute(RecordWriter(database, 5).lock_statement)
    write(remote, make_record("y"))
    assert remote.rows("SELECT COUNT(*) FROM calls") == [(2,)]
    connection.close()


@pytest.mark.parametrize("usage", [{"batch": 0}, {"batch": 50}])
def test_no_call_speaks_to_the_database_itself(remote, usage, monkeypatch):
    """Its thread does: an event loop is never held up by a network."""
    threads = set()
    add = RecordWriter.add

    def record_thread(self, *args):
        threads.add(threading.get_ident())
        return add(self, *args)

    monkeypatch.setattr(RecordWriter, "add", record_thread)
    hub = hub_of(remote.url, **usage)
    ask(hub, 3)
    hub.usage.flush()
    assert len(threads) == 1
    assert threading.get_ident() not in threads
    hub.close()


def test_no_password_is_shown(remote, caplog):
    """Not in a repr, a log, an error, or the state of the ledger, however wrong the URL is."""
    location = parse_location(remote.url.replace("s3cret", "s3cret-wrong"))
    shown = [repr(location), str(location), location.name]
    with pytest.raises(LedgerError) as caught:
        query_report(location)
    error = caught.value
    shown += [str(error), repr(error), *(repr(linked) for linked in linked_errors(error))]
    shown += [repr(value) for linked in linked_errors(error) for value in list_locals(linked)]
    hub = hub_of(location.url)
    ask(hub)
    until(lambda: not hub.usage.health.ok)
    hub.close()
    shown += [repr(hub.usage.health), repr(hub.services), repr(hub), caplog.text]
    assert "password authentication failed" in caplog.text
    assert [text for text in shown if "s3cret" in text] == []


def list_locals(error):
    """The local variables that a report of *error* would show."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return [value for frame in frames if "/tests/" not in frame.f_code.co_filename for value in frame.f_locals.values()]
