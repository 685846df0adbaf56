"""Ledgers that several processes write, and processes that end or are killed while they do.

MODELHUB_LONG=1 runs the long versions: 200 kills, and three processes with 10 000 calls.
"""

import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from decimal import Decimal

import pytest

from modelhub.accounting.report import query_report
from tests.system import caller, spender

LONG = bool(os.environ.get("MODELHUB_LONG"))
NEEDS_FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def rows(path, query="SELECT * FROM calls"):
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def start(ledger, name, *, calls=0, batch=50):
    """A child process that calls, and the file of its finished calls."""
    reading, writing = os.pipe()
    process = multiprocessing.get_context("fork").Process(
        target=caller.run, args=(str(ledger), name, calls, batch, writing)
    )
    process.start()
    os.close(writing)
    return process, os.fdopen(reading, "rb")


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_killed_process_loses_at_most_the_last_batch(tmp_path):
    """Killed at any moment, with calls and streams under way: what was reported is there, once, and whole."""
    ledger, chance = tmp_path / "usage.db", random.Random(7)
    reported, most_missing = 0, 0
    for turn in range(200 if LONG else 1):
        batch = (10, 0, 50, 50)[turn % 4]
        process, output = start(ledger, f"k{turn}", batch=batch)
        with output:
            finished = [output.readline() for _ in range(chance.randint(1, 400))]
            process.kill()
            finished += output.read().splitlines()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        names = {line.strip().decode() for line in finished if line.strip()}
        written = rows(ledger, f"SELECT json_extract(tags, '$.n') AS n FROM calls WHERE n LIKE 'k{turn}-%'")
        missing = names - {name for (name,) in written}
        assert len(missing) <= batch, (turn, batch)
        assert len(written) == len(set(written)), "twice"
        reported += len(names)
        most_missing = max(most_missing, len(missing))
    halves = rows(ledger, "SELECT c.call_id FROM calls c LEFT JOIN attempts a USING (call_id) WHERE a.call_id IS NULL")
    assert halves == []
    assert rows(ledger, "PRAGMA integrity_check") == [("ok",)]
    sys.stdout.write(f"{reported} calls reported, at most {most_missing} missing after a kill\n")


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_three_processes_share_one_file(tmp_path):
    """Every call of each is there once; the totals are exact."""
    ledger, calls = tmp_path / "usage.db", 3334 if LONG else 50
    began = time.monotonic()
    processes = [start(ledger, name, calls=calls) for name in "abc"]
    for process, output in processes:
        with output:
            assert len(output.read().splitlines()) == calls
        process.join()
        assert process.exitcode == 0
    sys.stdout.write(f"{3 * calls} calls in {time.monotonic() - began:.1f} s\n")
    assert len(rows(ledger)) == 3 * calls
    totals = query_report(ledger, by="model")
    assert (totals["good"].calls, totals["good"].attempts) == (3 * calls, 3 * calls)
    # Two tokens in, three out, for every call: 2 x 1 + 3 x 2 millionths of a dollar.
    assert totals["good"].cost == Decimal(3 * calls * 8) / 1_000_000
    assert totals["down"].attempts == sum(number % 5 == 0 for number in range(calls)) * 3
    assert totals["down"].cost == 0


def test_what_is_pending_when_a_process_ends_is_written(tmp_path):
    """The hub is left open, and the batch would have waited for a minute."""
    path = tmp_path / "usage.db"
    code = """
import asyncio, sys
from modelhub import Hub
models, usage = {"m": {"provider": "scripted"}}, {"ledger": sys.argv[1], "batch": 100, "max_delay": "60s"}
hub = Hub.from_dict({"version": 1, "models": models, "usage": usage})
async def main():
    for _ in range(4):
        await hub.get("m")("hello")
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert len(rows(path)) == 4


@NEEDS_FORK
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_two_processes_keep_one_budget(tmp_path):
    """They spend it together, and over it no more than they can in the time until they hear of each other."""
    limit, ledger = 6000 if LONG else 1000, tmp_path / "usage.db"
    context, connections, processes = multiprocessing.get_context("fork"), [], []
    for _ in range(2):
        connection, childs_end = context.Pipe()
        processes.append(context.Process(target=spender.run, args=(str(ledger), limit, childs_end)))
        processes[-1].start()
        childs_end.close()
        connections.append(connection)
    own = [connection.recv() for connection in connections]
    for connection in connections:
        connection.send(sum(own))
    spent = [connection.recv() for connection in connections]
    for process, connection in zip(processes, connections, strict=True):
        process.join()
        connection.close()
    assert [process.exitcode for process in processes] == [0, 0]
    total = query_report(ledger, by="all")[""].total_tokens
    assert sum(own) == total
    assert limit <= total < 1.6 * limit, "each alone would have spent all of it"
    assert spent == [total, total]
