"""Whether the ledger keeps every call, with processes killed and the database going away, and what it costs a call.

    python -m benchmarks.ledger [--calls 10000] [--kills 16] [--only sqlite,postgresql,cost]

Four processes call a scripted model. One after another is killed by SIGKILL and replaced; twice meanwhile, PostgreSQL
crashes and is started again a second later (an SQLite file is locked by another process for as long). A process reports
a call as written when `hub.usage` has nothing pending. In the end every reported call must be there exactly once, with
its attempts; what a kill may lose is a batch of those that were finished and not yet reported, or all of those since
the ledger is away.

The cost of a call is CPU time of the whole process, its writer thread included, in processes that take turns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.postgres import PostgresServer
from modelhub import Hub

PROCESSES = 4
TASKS = 8
BATCH = 50
CHUNK = 200  # calls between two reports
OUTAGE = 1.0


def make_hub(url: str | None) -> Hub:
    usage: dict[str, Any] = {"cost": False} if url is None else {"ledger": url, "batch": BATCH}
    price = {"input": 1, "output": 2}
    models = {
        "m": {"provider": "scripted", "reply": "one two", "pricing": price},
        "down": {"provider": "scripted", "steps": [{"fail": "UnsupportedFeature"}]},
    }
    return Hub.from_dict({"version": 1, "models": models, "chains": {"c": {"models": ["down", "m"]}}, "usage": usage})


# -- a process that calls ----------------------------------------------------------------------------------------------


async def call(url: str, name: str, count: int) -> None:
    """Make *count* calls; write `done NUMBER` for each that is finished, `written NUMBER` when it surely is."""
    hub, ending = make_hub(url), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    numbers, unreported = iter(range(count)), []

    async def work(share: int) -> None:
        for _, number in zip(range(share), numbers, strict=False):
            model = hub.get("c" if number % 5 == 0 else "m").with_tags(n=f"{name}-{number}")
            await model("hello there")
            unreported.append(number)
            os.write(1, f"done {name}-{number}\n".encode())

    while unreported or not ending.is_set():
        if not ending.is_set():
            await asyncio.gather(*(work(CHUNK // TASKS) for _ in range(TASKS)))
        await asyncio.to_thread(hub.usage.flush)
        if hub.usage.health.pending:
            await asyncio.sleep(0.1)
            continue
        os.write(1, "".join(f"written {name}-{number}\n" for number in unreported).encode())
        unreported.clear()
    await hub.aclose()


# -- the supervisor ----------------------------------------------------------------------------------------------------


class Calls:
    """Four processes that call until *total* calls are reported, of which some are killed."""

    def __init__(self, url: str, total: int) -> None:
        self.url, self.total = url, total
        self.done: set[str] = set()
        self.written: set[str] = set()
        self.killed: dict[str, bool] = {}  # by name: whether the ledger was away, or had just been
        self.last_away = -60.0
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._names = (f"p{number}" for number in range(1_000_000))
        self._lock = threading.Lock()
        for _ in range(PROCESSES):
            self._start()

    def _start(self) -> None:
        name = next(self._names)
        command = [sys.executable, "-m", "benchmarks.ledger", "--worker", self.url, name, str(1_000_000)]
        process = self.processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE)
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            kind, _, call_name = line.decode().strip().partition(" ")
            with self._lock:
                (self.done if kind == "done" else self.written).add(call_name)

    def count(self) -> int:
        with self._lock:
            return len(self.written)

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.killed[name] = time.monotonic() - self.last_away < 10
        self._start()

    def run(self, kills: int, go_away: Callable[[], None]) -> None:
        """Kill processes, and have the ledger go away twice, evenly over the calls."""
        events = [("kill", (number + 1) / (kills + 1)) for number in range(kills)] + [("away", 0.3), ("away", 0.7)]
        outages: list[threading.Thread] = []
        for event, share in sorted(events, key=lambda pair: pair[1]):
            while self.count() < share * self.total:
                time.sleep(0.01)
            time.sleep(random.uniform(0, 0.05))
            if event == "kill":
                self.kill(random.choice(list(self.processes)))
            else:
                self.last_away = time.monotonic()
                outages.append(threading.Thread(target=go_away))
                outages[-1].start()
        while self.count() < self.total:
            time.sleep(0.01)
        for outage in outages:
            outage.join()
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            if process.wait(60) not in {0, -signal.SIGTERM}:  # the latter before it has begun
                raise SystemExit(f"a process failed: {process.returncode}")
        time.sleep(0.5)  # until the last lines are read


def check(calls: Calls, rows: Callable[[str], list[tuple[Any, ...]]], tag: str) -> dict[str, Any]:
    """Hold what was reported against what is there."""
    there = Counter(name for (name,) in rows(f"SELECT {tag} FROM calls"))
    missing = calls.written - set(there)
    twice = [name for name, count in there.items() if count > 1]
    ids = rows("SELECT COUNT(*) - COUNT(DISTINCT call_id) FROM calls")[0][0]
    halves = rows(
        "SELECT COUNT(*) FROM calls c WHERE c.attempts <> (SELECT COUNT(*) FROM attempts a WHERE a.call_id = c.call_id)"
    )[0][0]
    lost = Counter(name.partition("-")[0] for name in calls.done - set(there))
    by_state = [[lost.pop(name, 0) for name, away in calls.killed.items() if away == state] for state in (False, True)]
    return {
        "reported": len(calls.written),
        "missing": len(missing),
        "there twice": len(twice) + ids,
        "without all attempts": halves,
        "killed": len(calls.killed),
        "finished and not reported, lost by each kill": by_state[0],
        "the same, while or soon after the ledger was away": by_state[1],
        "lost by processes that ended normally": sum(lost.values()),
        "exactly once": not (missing or twice or ids or halves or lost),
    }


def try_sqlite(total: int, kills: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "usage.db")

        def lock() -> None:
            with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
                connection.execute("BEGIN EXCLUSIVE")
                time.sleep(OUTAGE)

        def rows(query: str) -> list[tuple[Any, ...]]:
            with contextlib.closing(sqlite3.connect(path)) as connection:
                return connection.execute(query).fetchall()

        return run(path, total, kills, lock, rows, "json_extract(tags, '$.n')")


def try_postgres(total: int, kills: int) -> dict[str, Any]:
    import psycopg

    server = PostgresServer()
    try:

        def crash() -> None:
            server.stop()
            time.sleep(OUTAGE)
            server.start()

        def rows(query: str) -> list[tuple[Any, ...]]:
            with psycopg.connect(server.url(), options="-c search_path=modelhub") as connection:
                return connection.execute(query.encode()).fetchall()

        return run(server.url(), total, kills, crash, rows, "tags ->> 'n'")
    finally:
        server.close()


def run(
    url: str,
    total: int,
    kills: int,
    go_away: Callable[[], None],
    rows: Callable[[str], list[tuple[Any, ...]]],
    tag: str,
) -> dict[str, Any]:
    began, calls = time.monotonic(), Calls(url, total)
    try:
        calls.run(kills, go_away)
    finally:
        for process in calls.processes.values():
            process.kill()
    return check(calls, rows, tag) | {"seconds": round(time.monotonic() - began, 1)}


# -- the cost of a call ------------------------------------------------------------------------------------------------


async def measure(url: str | None, count: int = 2000, rounds: int = 5) -> list[float]:
    """The CPU time of a call in microseconds, of each round."""
    hub, costs = make_hub(url), []

    async def work() -> None:
        for _ in range(count // 20):
            await hub.get("m")("hello", tags={"user": "42"})

    for _ in range(rounds + 1):
        began = time.process_time()
        await asyncio.gather(*(work() for _ in range(20)))
        hub.usage.flush()
        costs.append((time.process_time() - began) / count * 1e6)
    await hub.aclose()
    return costs[1:]


def compare_costs(turns: int) -> Iterator[dict[str, Any]]:
    server = PostgresServer()
    costs: dict[str, list[float]] = {"none": [], "sqlite": [], "postgresql": []}
    try:
        for _ in range(turns):
            for kind in costs:
                with tempfile.TemporaryDirectory() as folder:
                    url = {"sqlite": f"{folder}/usage.db", "postgresql": server.url()}.get(kind, "")
                    command = [sys.executable, "-m", "benchmarks.ledger", "--measure", url]
                    costs[kind] += json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    finally:
        server.close()
    for kind, measured in costs.items():
        yield {
            "ledger": kind,
            "us CPU a call, median": round(statistics.median(measured)),
            "least": round(min(measured)),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=16)
    parser.add_argument("--only", default="sqlite,postgresql,cost")
    parser.add_argument("--worker", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        url, name, count = options.worker
        asyncio.run(call(url, name, int(count)))
    elif options.measure is not None:
        print(json.dumps(asyncio.run(measure(options.measure or None))))
    else:
        for kind, attempt in (("sqlite", try_sqlite), ("postgresql", try_postgres)):
            if kind in options.only:
                print(json.dumps({"ledger": kind} | attempt(options.calls, options.kills), indent=2), flush=True)
        if "cost" in options.only:
            for row in compare_costs(3):
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
