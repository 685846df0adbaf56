"""Every call completes once, wherever it is left; in virtual time, with streams collected in the midst of other work.

MODELHUB_LONG=1 tries five times as many.
"""

import asyncio
import contextlib
import gc
import os
import random
import time
import warnings
from collections import Counter
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.core.events import CallEnded
from modelhub.testing import VirtualClock, run_virtual

LONG = bool(os.environ.get("MODELHUB_LONG"))
SCRIPTS = {
    "a": [{"say": "one two three", "pause": 1}, {"fail": "Overloaded"}, {"say": "late", "wait": 20}],
    "b": [{"say": "four five", "pause": 2}, {"say": "six seven", "break_after": 1}, {"fail": "RateLimited"}],
}


class ForgetfulClock(VirtualClock):
    """Now and then somebody who asks for the time is interrupted by the garbage collector, which finds a stream."""

    def __init__(self, every):
        super().__init__()
        self.every = every
        self.asked = 0
        self.forgotten = []

    def now(self):
        self.asked += 1
        if self.forgotten and self.asked % self.every == 0:
            self.forgotten.pop()
        return super().now()


class Span:
    """What follows a call, as telemetry does."""

    def __init__(self, counts):
        self.counts = counts
        self.counts["begun"] += 1

    def committed(self, reply):
        """Nothing is to be done."""

    def settled(self, event, outcome):
        self.counts["ended"] += 1


def make_hub(clock, rows, spans, scripts=SCRIPTS):
    config = {
        "version": 1,
        "limits": {"pool": {"concurrency": 2, "tokens_per_minute": 100_000}},
        "models": {
            name: {"provider": "scripted", "steps": steps, "limit": "pool", "retry": {"max_attempts": 2}}
            for name, steps in scripts.items()
        },
        "chains": {"main": {"models": list(scripts)}},
        "budgets": {"all": {"tokens": 10_000_000, "per": "day"}},
    }
    observers = (lambda event: rows.append(event) if isinstance(event, CallEnded) else None,)
    services = Services(clock, random.Random(0), observers, (lambda request: Span(spans),))
    return Hub.from_dict(config, services=services)


async def read(hub, reader, clock):
    """Make one call and leave it as *reader* says."""
    how, amount = reader
    stream = await hub.get("main")("hi", stream=True, max_tokens=50)
    for _ in range(0 if how == "cancel" else amount):
        await anext(stream, None)
    if how == "close":
        await stream.aclose()
    elif how == "keep":
        clock.forgotten.append(stream)  # until somebody asks for the time
    elif how == "cycle":
        stream.itself = stream
    elif how in ("all", "cancel"):
        await stream.final()


def check_child(hub, rows, clock):
    """In a forked child nothing is held, and what its parent has under way is not recorded. Ends the process."""
    before = len(rows)
    clock.forgotten.clear()
    gc.collect()
    usage, pool = hub.usage, hub.limits["pool"].left()
    fine = pool.taken == pool.waiting == 0 and len(rows) == before
    fine = fine and all(Decimal(budget["held"]) == 0 for budget in usage.budgets)
    os._exit(0 if fine else 1)


async def play(hub, plan, clock, rows):
    forks = []
    for reader, pause in plan:
        task = asyncio.ensure_future(read(hub, reader, clock))
        if reader[0] == "cancel":
            asyncio.get_running_loop().call_later(reader[1], task.cancel)
        elif reader[0] == "fork" and (pid := os.fork()) == 0:
            check_child(hub, rows, clock)
        elif reader[0] == "fork":
            forks.append(os.waitpid(pid, 0)[1])
        if pause is None:
            continue  # the next call begins beside it
        with contextlib.suppress(CallError, asyncio.CancelledError):
            await task
        await asyncio.sleep(pause)
    assert set(forks) <= {0}
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


readers = st.one_of(
    st.tuples(st.sampled_from(["all", "close", "keep", "forget", "cycle"]), st.integers(0, 3)),
    st.tuples(st.just("cancel"), st.sampled_from([0, 0.5, 3, 25])),
)
plans = st.lists(st.tuples(readers, st.sampled_from([None, 0, 1])), min_size=1, max_size=6)


def run_plan(plan, every, ends):
    """Play *plan* and check that nothing is left of it."""
    clock, rows, spans = ForgetfulClock(every), [], Counter()
    hub = make_hub(clock, rows, spans)

    async def main():
        await play(hub, plan, clock, rows)
        if ends == "close":
            await hub.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # forgotten streams say so
        run_virtual(main(), grace=0)
        clock.forgotten.clear()  # of a loop that has ended
        gc.collect()
        total = hub.usage.total
    assert total.calls == len(rows) == len({row.call_id for row in rows}) == len(plan)
    assert spans == {"begun": len(plan), "ended": len(plan)}
    pool = hub.limits["pool"].left()
    assert (pool.taken, pool.waiting) == (0, 0)
    assert all(Decimal(budget["held"]) == 0 for budget in hub.usage.budgets)
    assert total.total_tokens == sum(row.usage.total_tokens for row in rows if row.usage is not None)


@settings(max_examples=250 if LONG else 25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans, st.integers(1, 7), st.sampled_from(["close", "leave"]))
def test_no_permit_reservation_row_or_span_is_lost_or_doubled(plan, every, ends):
    """Whatever is read, closed, cancelled or forgotten, with the hub closed or left open at the end."""
    run_plan(plan, every, ends)


@settings(max_examples=25 if LONG else 5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans, st.integers(1, 7))
def test_a_forked_child_completes_nothing_of_its_parents(plan, every):
    """Its pools and budgets hold nothing, it records nothing, and the parent goes on as if nothing had happened."""
    run_plan([*plan, (("keep", 1), 0), (("fork", 1), 1)], every, "close")


@pytest.fixture(name="no_collections")
def _no_collections():
    """The garbage collector runs when it is told to: while another thread is collecting, `gc.collect` does nothing."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collections")
def test_a_call_whose_loop_is_dropped_completes_when_the_hub_closes():
    """Neither its permit nor its record is lost with the coroutine, which the garbage collector ends."""
    clock, rows, spans = ForgetfulClock(1), [], Counter()
    hub = make_hub(clock, rows, spans, {"a": [{"say": "late", "wait": 20}]})

    async def main():
        asyncio.ensure_future(hub.get("main")("hi"))  # noqa: RUF006 - nobody keeps it
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    assert hub.limits["pool"].left().taken == 1
    hub.close()
    latest = time.monotonic() + 10
    while hub.limits["pool"].left().taken and time.monotonic() < latest:
        gc.collect()
    assert hub.limits["pool"].left().taken == 0
    assert [row.how for row in rows] == ["abandoned"]
    assert spans == {"begun": 1, "ended": 1}


@pytest.mark.usefixtures("no_collections")
def test_a_stream_whose_loop_stands_still_completes_when_the_hub_closes():
    """Such as that of a notebook's cell: it is not closed, and may never run again."""
    clock, rows, spans = ForgetfulClock(1), [], Counter()
    hub = make_hub(clock, rows, spans)
    loop = asyncio.new_event_loop()
    stream = loop.run_until_complete(hub.get("main")("hi", stream=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del stream
        gc.collect()
    assert (hub.limits["pool"].left().taken, rows) == (1, [])
    hub.close()
    assert (hub.limits["pool"].left().taken, len(rows), spans["ended"]) == (0, 1, 1)
    loop.run_until_complete(loop.shutdown_asyncgens())  # else what asyncio itself still has to close is warned of
    loop.close()
