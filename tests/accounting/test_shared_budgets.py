"""Budgets of several hubs and processes on one ledger see what the others spend, and count nothing twice.

MODELHUB_LONG=1 tries seven times as many plans, and spends longer.
"""

import asyncio
import json
import math
import os
import sqlite3
import tempfile
import threading
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from modelhub import BudgetExceeded, Hub
from modelhub.accounting import shared_spend as shared_spend
from modelhub.accounting.ledger_location import LedgerError, parse_location
from modelhub.accounting.ledger_reader import open_database, open_ledger
from modelhub.accounting.options import SpendingOptions, find_period
from modelhub.accounting.record import UsageRecord
from modelhub.accounting.spending import Selection, make_spending_query
from modelhub.core.clock import SystemClock
from modelhub.core.context import Services
from modelhub.core.events import CallEnded
from modelhub.testing import VirtualClock, run_virtual
from tests.tables import table

HI = "one two three"  # four tokens with the answer, "ok"
LONG = bool(os.environ.get("MODELHUB_LONG"))
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def hub_of(folder, budgets=None, clock=None, models=None, observers=(), **usage):
    entry = {"provider": "scripted", "reply": "ok", "pricing": {"input": 1, "output": 1}}
    config = {
        "version": 1,
        "models": models or {"m": entry, "n": entry},
        "chains": {"c": {"models": ["m", "n"]}},
        "budgets": budgets or {"b": {"tokens": 14, "per": "day"}},
        "usage": {"ledger": str(folder / "usage.db"), "batch": 0, **usage},
    }
    return Hub.from_dict(config, services=Services(clock=clock or VirtualClock(), observers=observers))


async def ask(hub, times=1, name="m", **options):
    """How many of *times* calls were answered."""
    answered = 0
    for _ in range(times):
        try:
            await hub.get(name)(HI, **options)
        except BudgetExceeded:
            continue
        answered += 1
    return answered


def shown(hub):
    return {(one["budget"], one["of"]): (Decimal(one["spent"]), one["unpriced"]) for one in hub.usage.budgets}


def spent(hub):
    return [int(Decimal(one["spent"])) for one in hub.usage.budgets]


def read_again(hub):
    """Have the ledger read again, and wait for it, as no call does."""
    reader = hub.usage.spending_budgets.shared_spend
    reader.due = reader.clock.now()
    reader.refresh_if_due()
    with reader.read_lock:
        pass


def test_what_another_hub_has_spent_is_spent(tmp_path):
    """As soon as the ledger was read again, which the first call after `refresh` has done."""
    mine, other = (hub_of(tmp_path, {"b": {"tokens": 20, "per": "day"}}) for _ in range(2))

    async def main():
        assert await ask(other, 2) == 2
        assert (spent(other), spent(mine)) == ([8], [0])
        await asyncio.sleep(4.9)
        assert await ask(mine) == 1
        with mine.usage.spending_budgets.shared_spend.read_lock:
            assert spent(mine) == [4], "it is not due yet"
        await asyncio.sleep(0.2)
        assert await ask(mine) == 1, "this one has it read"
        with mine.usage.spending_budgets.shared_spend.read_lock:
            pass
        assert spent(mine) == [16]
        assert await ask(mine) == 0
        with pytest.raises(BudgetExceeded, match="has 16 tokens spent"):
            await mine.get("m")(HI)

    run_virtual(main())


@pytest.mark.parametrize("usage", [{"batch": 0}, {"batch": 1000, "max_delay": "60s"}])
def test_what_is_our_own_is_counted_once(tmp_path, usage):
    """Whether it is in the file already or not."""
    budgets = {"b": {"tokens": 1000, "per": "day"}, "usd": {"usd": 1, "per": "day"}}
    hub = hub_of(tmp_path, budgets, **usage)
    run_virtual(ask(hub, 3))
    for _ in range(3):
        read_again(hub)
        assert shown(hub) == {("b", None): (12, 0), ("usd", None): (Decimal("0.000012"), 0)}
        hub.usage.flush()
    hub.close()
    assert spent(hub_of(tmp_path)) == [12], "for the next one it is what others have spent"


def test_a_reading_holds_nobody_up(tmp_path, monkeypatch):
    """Calls go on with the last figure while the file is read; it is read once at a time."""
    mine, other = hub_of(tmp_path), hub_of(tmp_path)
    reading, go_on, readings, connect = threading.Event(), threading.Event(), [], shared_spend.open_ledger

    def slow(path):
        readings.append(path)
        reading.set()
        go_on.wait(10)
        return connect(path)

    async def main():
        await ask(other, 2)
        monkeypatch.setattr(shared_spend, "open_ledger", slow)
        for _ in range(2):
            await asyncio.sleep(6)
            assert await ask(mine) == 1
            assert reading.wait(10)
        assert (spent(mine), len(readings)) == ([8], 1)
        go_on.set()
        with mine.usage.spending_budgets.shared_spend.read_lock:
            assert spent(mine) == [16]

    run_virtual(main())


def test_a_reading_that_fails_is_told_once_and_the_last_figure_kept(tmp_path, monkeypatch, caplog):
    """And told again when it is over; no call fails of it."""
    mine, other = hub_of(tmp_path), hub_of(tmp_path)
    run_virtual(ask(other))
    read_again(mine)

    def broken(path):
        raise LedgerError("disk I/O error")

    with monkeypatch.context() as patched:
        patched.setattr(shared_spend, "open_ledger", broken)
        run_virtual(ask(other))
        for _ in range(3):
            read_again(mine)
            assert spent(mine) == [4]
        assert run_virtual(ask(mine)) == 1
    read_again(mine)
    assert spent(mine) == [12]
    told = [record.getMessage() for record in caplog.records if "read" in record.getMessage()]
    assert told[0].startswith("budgets keep the last known spending of other processes: the ledger ")
    assert ("disk I/O error" in told[0], "can be read again" in told[1], len(told)) == (True, True, 2)


def test_without_room_for_a_thread_no_call_fails(tmp_path, monkeypatch, caplog):
    """The reading is tried again when it is due again."""
    mine, other = hub_of(tmp_path), hub_of(tmp_path)
    run_virtual(ask(other))
    with monkeypatch.context() as patched:

        def no_room(self):
            raise RuntimeError("can't start new thread")

        patched.setattr(threading.Thread, "start", no_room)
        read_again(mine)
    assert "can't start new thread" in caplog.text
    read_again(mine)
    assert spent(mine) == [4]


def test_only_what_is_new_is_read(tmp_path):
    """What was read before is not asked for again; a file that was put in its place is read from its beginning."""
    mine, other = hub_of(tmp_path), hub_of(tmp_path)
    for total in (4, 8):
        run_virtual(ask(other))
        read_again(mine)
        assert spent(mine) == [total]
        with closing(sqlite3.connect(tmp_path / "usage.db")) as connection:
            connection.execute("DELETE FROM attempts")
            connection.commit()
    other.close()
    for file in tmp_path.iterdir():
        file.unlink()
    read_again(mine)
    assert spent(mine) == [8], "no file says nothing"
    with hub_of(tmp_path) as third:
        run_virtual(ask(third))
    read_again(mine)
    assert spent(mine) == [4]


@pytest.fixture(name="usage_file")
def _usage_file(tmp_path):
    """A ledger with a call."""
    with hub_of(tmp_path) as hub:
        run_virtual(ask(hub))
    return tmp_path / "usage.db"


@table("what", [{}, {"model": "m"}, {"chain": "c"}, {"tag": "user"}, {"tag": "user=1"}])
@table("unit", ["usd", "tokens"])
@table(("anew", "index"), [(True, "calls_at"), (False, "calls_batch")])
def test_a_reading_costs_as_much_as_there_is_to_read(usage_file, what, unit, anew, index):
    """SQLite goes by the time at first and by the batch from then on, and never through the whole file."""
    options = SpendingOptions(per="day", **{unit: 1}, **what)
    selection = Selection(datetime(2026, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC), None if anew else 0, "")
    with open_ledger(open_database(parse_location(str(usage_file)))) as ledger:
        query = make_spending_query(ledger, options, selection)
        text = query.compile(dialect=ledger.connection.dialect, compile_kwargs={"literal_binds": True})
        plan = [row[3] for row in ledger.connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")]
    assert plan[0].startswith(f"SEARCH calls USING INDEX {index}")
    assert plan.count("SEARCH attempts USING PRIMARY KEY (call_id=?)") == 1


def test_the_next_period_begins_with_what_others_spend_in_it(tmp_path):
    """Also what was written in it before we came to it."""
    budgets = {"b": {"tokens": 100, "per": "hour"}}
    start = datetime(2026, 1, 1, 9, 59, tzinfo=UTC)
    mine = hub_of(tmp_path, budgets, VirtualClock(start))
    ahead = hub_of(tmp_path, budgets, VirtualClock(start.replace(hour=10, minute=0)))

    async def main():
        await ask(ahead)
        await ask(mine, 2)
        read_again(mine)
        assert spent(mine) == [8], "that is not in this hour"
        await asyncio.sleep(61)
        await ask(mine)
        read_again(mine)
        assert spent(mine) == [8]

    run_virtual(main())


# -- whatever happens --------------------------------------------------------------------------------------------------

BUDGETS = {
    "all": {"tokens": 10**6, "per": "hour"},
    "money": {"usd": 10**6, "per": "day"},
    "m": {"tokens": 10**6, "per": "day", "model": "m"},
    "c": {"tokens": 10**6, "per": "day", "chain": "c"},
    "each": {"tokens": 10**6, "per": "hour", "tag": "user"},
    "night": {"usd": 10**6, "per": "day", "tag": "job=nightly"},
}
PRICED = {"provider": "scripted", "pricing": {"input": 1, "output": 1}}
MODELS = {"m": {**PRICED, "steps": [{"fail": "ServerError"}, {"say": "ok"}]}, "n": {"provider": "scripted"}}
steps = st.one_of(
    st.tuples(
        st.just("call"),
        st.integers(0, 1),
        st.sampled_from("mnc"),
        st.dictionaries(st.sampled_from(["user", "job"]), st.sampled_from(["1", "nightly"]), max_size=2),
    ),
    st.tuples(st.sampled_from(["write", "read", "restart"]), st.integers(0, 1)),
    st.tuples(st.just("wait"), st.just(0)),
)


class World:
    """Two hubs on one ledger, and what each of them must know of what both have spent."""

    def __init__(self, folder):
        self.folder = folder
        self.clock = VirtualClock(datetime(2026, 1, 1, 22, tzinfo=UTC))
        self.records = {}  # by call: whose, and what it used
        self.unwritten = {0: set(), 1: set()}
        self.written = set()
        self.known = {}  # calls, by hub: its own, and what it has read
        self.hubs = {0: self.open(0), 1: self.open(1)}

    def open(self, number):
        def observe(event):
            if isinstance(event, CallEnded):
                record = UsageRecord.from_event(event)
                self.records[record.call_id] = record
                self.unwritten[number].add(record.call_id)
                self.known[number].add(record.call_id)

        self.known[number] = set(self.written)
        usage = {"batch": 10_000, "max_delay": "60s"}
        hub = hub_of(self.folder, BUDGETS, self.clock, MODELS, observers=(observe,), **usage)
        hub.usage.spending_budgets.shared_spend.due = math.inf  # it reads when the plan says so
        return hub

    def wrote(self, number):
        self.written |= self.unwritten[number]
        self.unwritten[number] = set()

    async def step(self, what, number, *how):
        hub = self.hubs[number]
        if what == "call":
            name, tags = how
            await asyncio.gather(hub.get(name)(HI, tags=tags), return_exceptions=True)
        elif what == "write":
            hub.usage.flush()
            self.wrote(number)
        elif what == "read":
            read_again(hub)
            hub.usage.spending_budgets.shared_spend.due = math.inf
            self.known[number] |= self.written
        elif what == "restart":
            await hub.aclose()
            self.wrote(number)
            self.hubs[number] = self.open(number)
        else:
            await asyncio.sleep(1800)

    def expected(self, number):
        found = {(name, None): (Decimal(0), 0) for name in BUDGETS if name != "each"}
        for call_id in self.known[number]:
            record = self.records[call_id]
            for name, options in BUDGETS.items():
                start, _ = find_period(options["per"], self.clock.wall())
                parts = on_budget(options, record)
                if record.at < start or not parts:
                    continue
                key = name, record.tags["user"] if name == "each" else None
                amount, unpriced = found.get(key, (Decimal(0), 0))
                found[key] = (
                    amount + sum((amount_of(options, part) for part in parts), Decimal(0)),
                    unpriced + sum("usd" in options and part.used and part.cost is None for part in parts),
                )
        return found


def on_budget(options, record):
    """The attempts of *record* that count."""
    if options.get("chain", record.requested) != record.requested:
        return []
    tag, given, value = options.get("tag", "").partition("=")
    if tag and (tag not in record.tags or (given and record.tags[tag] != value)):
        return []
    return [part for part in record.parts if options.get("model", part.model) == part.model]


def amount_of(options, part):
    return (part.cost or Decimal(0)) if "usd" in options else Decimal(part.input_tokens + part.output_tokens)


@settings(max_examples=60 if LONG else 8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=3, max_size=14))
@example([("call", 1, "m", {}), ("write", 1), ("read", 0)] * 2)
def test_no_call_is_counted_twice_or_forgotten(plan):
    """At every moment a hub has all its own calls on its budgets, and all that others had written when it read last."""

    async def main(folder):
        world = World(folder)
        for step in [*plan, *(("write", 0), ("write", 1), ("read", 0), ("read", 1))]:
            await world.step(*step)
            for number, hub in world.hubs.items():
                assert shown(hub) == world.expected(number), (step, number)
        assert shown(world.hubs[0]) == shown(world.hubs[1])
        for hub in world.hubs.values():
            await hub.aclose()

    with tempfile.TemporaryDirectory() as folder:
        run_virtual(main(Path(folder)))


# -- processes ---------------------------------------------------------------------------------------------------------


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_parent_and_child_of_a_fork_are_others_to_each_other(tmp_path):
    """What the parent had spent, written or not, is what another has; what it has under way it counts alone."""
    budgets = {"b": {"tokens": 1000, "per": "9999d"}}
    hub = hub_of(tmp_path, budgets, SystemClock(), batch=100, max_delay="60s")  # what is begun later is another's
    there, back = os.pipe(), os.pipe()

    def figures():
        return [(one["spent"], one["held"]) for one in hub.usage.budgets]

    def child(stream):
        os.close(there[1])
        asyncio.run(stream.aclose())
        os.write(back[1], json.dumps([figures(), asyncio.run(ask(hub)), figures()]).encode())
        hub.usage.ledger.close()
        os.read(there[0], 1)
        read_again(hub)
        os.write(back[1], json.dumps(figures()).encode())

    async def main():
        await ask(hub, 2)
        stream = await hub.get("m")(HI, stream=True)
        assert figures() == [("8", "5")]
        if (number := os.fork()) == 0:
            thread = threading.Thread(target=child, args=(stream,))  # the loop is the parent's
            thread.start()
            thread.join()
            os._exit(0)
        await stream.aclose()
        return number

    number = asyncio.run(main())
    os.close(back[1])
    assert json.loads(os.read(back[0], 1000)) == [[["8", "0"]], 1, [["12", "0"]]]
    hub.usage.flush()
    own = int(figures()[0][0])
    os.write(there[1], b"!")
    assert json.loads(os.read(back[0], 1000)) == [[str(own + 4), "0"]]
    os.waitpid(number, 0)
    read_again(hub)
    assert figures() == [(str(own + 4), "0")]
