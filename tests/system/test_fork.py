"""A forked child begins anew: nothing that its parent holds or has under way concerns it."""

import asyncio
import json
import os
import signal
import sqlite3
import sys
import threading
import time
import traceback
from contextlib import closing

import pytest

from modelhub import CallError, Hub
from modelhub.core.clock import SystemClock
from modelhub.core.context import Services
from modelhub.providers.sdk_import import import_sdk

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def run_in_child(work):
    """Fork, and return what *work* returns in the child, as JSON carries it; a child that hangs is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        try:
            os.write(writer, json.dumps(work()).encode())
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        result = pipe.read()
    assert os.waitpid(child, 0)[1] == 0, "the child was killed"
    return json.loads(result)


class JumpingClock(SystemClock):
    """The machine's time, and what is added to it."""

    added = 0.0

    def now(self):
        return time.monotonic() + self.added


def hub_of(*steps, ledger=None, clock=None, **layers):
    config = {"version": 1, "models": {"m": {"provider": "scripted", "steps": list(steps), **layers}}}
    if "limit" in layers:
        config["limits"] = {layers["limit"]: {"concurrency": 1}}
    if ledger is not None:
        config["usage"] = {"ledger": str(ledger), "batch": 100, "max_delay": "60s"}
    return Hub.from_dict(config, services=Services(clock=clock or SystemClock()))


def until(condition):
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


def test_sync_works_in_a_child_whose_parent_has_used_it():
    """Calls, streams and `close` have a loop of their own there, in a child of the child too; the parent goes on."""
    hub = hub_of({"say": "one two"})
    half_read = hub.get("m").sync("hi", stream=True)
    next(half_read)

    def work():
        replies = [hub.get("m").sync("hi").text, hub.get("m").sync("hi", stream=True).final().text]
        replies.append(run_in_child(lambda: hub.get("m").sync("hi").text))
        calls = hub.usage.total.calls
        hub.close()
        return replies, calls

    assert run_in_child(work) == [["one two"] * 3, 2]
    assert half_read.final().text == "one two"
    assert hub.get("m").sync("hi").text == "one two"
    hub.close()


def test_places_probes_and_rows_of_the_parent_are_not_the_childs(tmp_path):
    """With the only place taken, the breaker probing and rows unwritten in the parent, the child calls and records."""
    ledger = tmp_path / "usage.db"
    breaker, clock = {"failures": 1, "pause": 600, "max_pause": 600}, JumpingClock()
    steps = {"fail": "Overloaded"}, {"wait": 0.5, "say": "probe"}, {"say": "fine"}
    hub = hub_of(*steps, ledger=ledger, clock=clock, limit="narrow", retry={"max_attempts": 1}, breaker=breaker)

    def ask():
        return asyncio.run(hub.get("m")("hi", deadline=60)).text

    with pytest.raises(CallError, match="scripted"):
        ask()
    clock.added += 3600
    probe = threading.Thread(target=ask)
    probe.start()
    until(lambda: hub.limits["narrow"].left().taken == 1)

    def work():
        left = hub.limits["narrow"].left()
        text = ask()
        hub.close()
        return left.taken, left.waiting, text, hub.usage.total.calls

    assert run_in_child(work) == [0, 0, "fine", 1]
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute("SELECT outcome FROM calls").fetchall() == [("complete",)]
    probe.join()
    assert hub.limits["narrow"].left().taken == 0
    hub.close()
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute("SELECT outcome, COUNT(*) FROM calls GROUP BY 1").fetchall() == [
            ("complete", 2),
            ("failed", 1),
        ]


def test_a_fork_from_a_running_loop_leaves_the_parents_stream_alone(tmp_path):
    """The child neither counts the stream that its parent reads, nor says that it was forgotten."""
    ledger = tmp_path / "usage.db"
    hub = hub_of({"say": "one two three"}, ledger=ledger, limit="narrow")

    async def main():
        stream = await hub.get("m")("hi", stream=True)
        await anext(stream)

        def work():
            nonlocal stream
            del stream
            text = hub.get("m").sync("hi").text
            hub.close()
            return text, hub.usage.total.calls, hub.limits["narrow"].left().taken

        assert run_in_child(work) == ["one two three", 1, 0]
        assert hub.limits["narrow"].left().taken == 1
        assert (await stream.final()).text == "one two three"
        await hub.aclose()

    asyncio.run(main())
    with closing(sqlite3.connect(ledger)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM calls").fetchone() == (2,)


def test_children_do_not_wait_for_the_same_jittered_times():
    """Chance is seeded again in each of them."""
    hub = hub_of({"say": "x"})
    drawn = [run_in_child(lambda: hub.services.random.random()) for _ in range(2)]
    assert len({*drawn, hub.services.random.random()}) == 3


def test_a_fork_waits_for_an_import_that_another_thread_has_begun(tmp_path, monkeypatch):
    """A child would wait for ever for a module that its parent's thread has only begun to import."""
    (tmp_path / "slow_sdk.py").write_text("import time\ntime.sleep(0.2)\nvalue = 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    parent = threading.Thread(target=lambda: asyncio.run(import_sdk("slow_sdk")))
    parent.start()
    until(lambda: "slow_sdk" in sys.modules)

    def work():
        asyncio.run(import_sdk("slow_sdk"))
        return sys.modules["slow_sdk"].value

    assert run_in_child(work) == 1
    parent.join()
    sys.modules.pop("slow_sdk")
