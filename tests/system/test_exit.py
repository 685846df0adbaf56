"""A process always ends, in silence, and what it did is recorded."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

FILE = """
version: 1
usage: {ledger: usage.db, batch: 100, max_delay: 60s}
models: {m: {provider: scripted, reply: one two}, slow: {provider: scripted, steps: [{say: one two, pause: 60s}]}}
"""


@pytest.fixture(name="run")
def _run(tmp_path):
    """Run a script beside a models.yaml; it must end well and say nothing but what it prints."""
    (tmp_path / "models.yaml").write_text(FILE, encoding="utf-8")

    def run(code, *options):
        (tmp_path / "app.py").write_text(code, encoding="utf-8")
        command = [sys.executable, *options, "app.py"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout.split("\n")[:-1]

    return run


def outcomes(folder):
    with closing(sqlite3.connect(folder / "usage.db")) as connection:
        return [row[0] for row in connection.execute("SELECT outcome FROM calls ORDER BY at, outcome")]


def test_streams_that_are_open_when_a_script_ends_are_recorded(run, tmp_path):
    """In generators, in a module's variables, and of an ended loop, also amid a read; `close`, `atexit` come later."""
    printed = run(
        """
import asyncio, atexit
from modelhub import Hub

hub = Hub.from_yaml()
atexit.register(lambda: print("at exit:", hub.get("m").sync("bye").text))
atexit.register(hub.close)
atexit.unregister(hub.close)

def words():
    with hub.get("m").sync("hi", stream=True) as stream:
        for snapshot in stream:
            yield snapshot.delta

answer, module_level = words(), hub.get("m").sync("hi", stream=True)
print(next(answer), next(module_level).delta)

async def main():
    stream = await hub.get("m")("hi", stream=True)
    await anext(stream)
    slow = await hub.get("slow")("hi", stream=True)
    await anext(slow)
    try:
        await asyncio.wait_for(anext(slow), 0.01)
    except TimeoutError:
        return stream, slow

left = asyncio.run(main())
"""
    )
    assert printed == ["one one", "at exit: one two"]
    assert sorted(outcomes(tmp_path)) == ["abandoned"] * 3 + ["cancelled", "complete"]


def test_a_daemon_thread_amid_a_call_ends_in_silence(run):
    """As it would anywhere else in it: nobody waits for what it does, and nobody reads what it failed with."""
    printed = run(
        """
import threading
from modelhub import Hub

hub, asked = Hub.from_yaml(), threading.Event()

def work():
    asked.set()
    hub.get("slow").sync("hi", stream=True).final()
    print("never")

hub.get("m").sync("hi")
threading.Thread(target=work, daemon=True).start()
asked.wait()
print("done")
"""
    )
    assert printed == ["done"]


def test_a_hub_may_be_closed_anywhere_and_twice(run, tmp_path):
    """In an `atexit` handler, from another thread, and in a finalizer that happens to run inside a loop."""
    printed = run(
        """
import asyncio, atexit, gc, threading, time, weakref
from modelhub import Hub

hub, threaded, finalized, weak = [Hub.from_yaml() for _ in range(4)]
for each in (hub, threaded, finalized, weak):
    each.get("m").sync("hi")
atexit.register(hub.close)
thread = threading.Thread(target=lambda: (threaded.close(), threaded.close()))
thread.start()
thread.join()

class Owner:
    def __del__(self):
        finalized.close()

async def main():
    owner, other = Owner(), Owner()
    weakref.finalize(other, weak.close)
    del owner, other
    gc.collect()
    for each in (finalized, weak):
        while each.usage.health.pending:
            await asyncio.sleep(0.005)
    threaded.close()

asyncio.run(main())
print([repr(each)[:30] for each in (threaded, finalized, weak)])
""",
        "-W",
        "error",
    )
    assert printed == [str(["<Hub models.yaml, closed [chai"] * 3)]
    assert outcomes(tmp_path) == ["complete"] * 4


WORKERS = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

hub = None

def work(number):
    global hub
    from modelhub import Hub
    hub = hub or Hub.from_yaml()
    return hub.get("m").sync("hi").text

def main():
    process = multiprocessing.get_context("fork").Process(target=work, args=(1,))
    process.start()
    process.join()
    with ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as pool:
        print(list(pool.map(work, range(2))))

if __name__ == "__main__":
    main()
"""


def test_workers_write_their_last_rows(run, tmp_path):
    """A hub that is made in a worker is recorded at its orderly end, however the worker was started."""
    assert run(WORKERS) == ["['one two', 'one two']"]
    assert outcomes(tmp_path) == ["complete"] * 3
