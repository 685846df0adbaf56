"""What is measured: each row pairs the bare SDK with the full stack, in turns, so that a busy machine slows both.

Times are CPU time of this process (`time.process_time`), but for calls a second and the time to first content. A row
gives both medians, the median of the rounds' ratios, and the least and largest ratio.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import os
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import vendors

Work = Callable[[], Awaitable[Any]]
FRAGMENTS = ("openai", "anthropic", "dashscope")
"""Who streams a call's arguments in fragments; the others send them whole."""


class Scale(NamedTuple):
    """How much is done: rounds, and work in each."""

    rounds: int
    calls: int
    at_once: int
    each: int
    hops: int
    chunks: tuple[int, int]
    fragments: int
    first: int
    kept: int
    image: int
    characters: int
    many: int


FULL = Scale(9, 100, 100, 3, 40, (500, 4000), 2000, 15, 5000, 20_000_000, 100_000, 1000)
QUICK = Scale(1, 3, 10, 1, 2, (20, 40), 20, 1, 20, 1_000_000, 1000, 20)


@dataclass
class Row:
    """One line of the table; *better* is the larger figure for rates."""

    vendor: str
    what: str
    unit: str
    bare: float | None
    ours: float
    ratio: float | None = None
    least: float | None = None
    largest: float | None = None

    @classmethod
    def of(cls, vendor: str, what: str, unit: str, pairs: list[tuple[float, float]]) -> Row:
        ratios = [ours / bare for bare, ours in pairs]
        bare, ours = (statistics.median(values) for values in zip(*pairs, strict=True))
        return cls(vendor, what, unit, bare, ours, statistics.median(ratios), min(ratios), max(ratios))


class Bench:
    """One vendor's rows."""

    def __init__(self, vendor: str, server: str, scale: Scale) -> None:
        self.vendor, self.server, self.scale = vendor, f"{server}/{vendor}", scale
        self.bare = vendors.BARE[vendor]

    def rows(self) -> Iterator[Callable[[], Awaitable[list[Row]]]]:
        yield self.calls
        yield self.concurrent
        yield self.hop
        yield self.chunks
        if self.vendor in FRAGMENTS:
            yield self.fragments
        yield self.first_content
        yield self.memory

    @asynccontextmanager
    async def both(self, path: str, second: str | None = None) -> Any:
        """A bare client and a chain, for the same address."""
        url = f"{self.server}/{path}"
        hub = vendors.hub(self.vendor, url, second and f"{self.server}/{second}")
        client = self.bare.open(url)
        try:
            yield client, hub.get("chat")
        finally:
            await self.bare.close(client)
            await hub.aclose()

    async def pairs(self, bare: Work, ours: Work, count: int) -> list[tuple[float, float]]:
        """CPU microseconds for each of *count* things done in one go."""
        for work in (bare, ours, ours, ours):  # the first two of ours are the SDK's: it shows how it writes them
            await work()
        found = []
        for round_ in range(self.scale.rounds):
            order = (bare, ours) if round_ % 2 else (ours, bare)
            spent = {work: await cpu(work) / count * 1e6 for work in order}
            found.append((spent[bare], spent[ours]))
        return found

    async def calls(self) -> list[Row]:
        count = self.scale.calls
        async with self.both("text/1") as (client, chain):
            found = await self.pairs(
                repeated(lambda: self.bare.call(client), count), repeated(lambda: vendors.ours(chain), count), count
            )
        return [Row.of(self.vendor, "a call", "us CPU", found)]

    async def concurrent(self) -> list[Row]:
        many, each = self.scale.at_once, self.scale.each
        async with self.both("text/1") as (client, chain):
            bare = together(repeated(lambda: self.bare.call(client), each), many)
            ours = together(repeated(lambda: vendors.ours(chain), each), many)
            await bare()
            await ours()
            rates, spent = [], []
            for _ in range(max(1, self.scale.rounds // 2)):
                (b_wall, b_cpu), (o_wall, o_cpu) = await both_clocks(bare), await both_clocks(ours)
                rates.append((many * each / b_wall, many * each / o_wall))
                spent.append((b_cpu / each / many * 1e6, o_cpu / each / many * 1e6))
        return [
            Row.of(self.vendor, f"{many} at once: calls", "a second", rates),
            Row.of(self.vendor, f"{many} at once: a call", "us CPU", spent),
        ]

    async def hop(self) -> list[Row]:
        count = self.scale.hops
        async with self.both("refuse/1", "text/1") as (first, chain):
            second = self.bare.open(f"{self.server}/text/1")

            async def by_hand() -> str:
                try:
                    return await self.bare.call(first)
                except Exception:
                    return await self.bare.call(second)

            found = await self.pairs(repeated(by_hand, count), repeated(lambda: vendors.ours(chain), count), count)
            await self.bare.close(second)
        return [Row.of(self.vendor, "a failed hop", "us CPU", found)]

    async def chunks(self) -> list[Row]:
        found = []
        for count in self.scale.chunks:
            async with self.both(f"text/{count}") as (client, chain):
                times = max(1, 1000 // count) if self.scale is FULL else 1
                pairs = await self.pairs(
                    repeated(lambda: vendors.joined(self.vendor, client), times),
                    repeated(lambda: vendors.snapshots(chain), times),
                    count * times,
                )
            found.append(Row.of(self.vendor, f"a chunk of {count}", "us CPU", pairs))
        return found

    async def fragments(self) -> list[Row]:
        count = self.scale.fragments
        async with self.both(f"tool/{count}") as (client, chain):
            pairs = await self.pairs(
                lambda: vendors.joined(self.vendor, client, "tool"), lambda: vendors.snapshots(chain, "tool"), count
            )
        return [Row.of(self.vendor, "a tool fragment", "us CPU", pairs)]

    async def first_content(self) -> list[Row]:
        async with self.both("paced/40") as (client, chain):
            # Both read to the end: google-genai leaves the connection of a stream that is broken off to the garbage
            # collector, and aiohttp says so.
            async def bare() -> float:
                began, first = time.perf_counter(), 0.0
                async for piece in self.bare.pieces(client):
                    if piece and not first:
                        first = time.perf_counter()
                return (first - began) * 1000

            async def ours() -> float:
                began = time.perf_counter()
                async with await chain(vendors.MESSAGES, stream=True) as stream:
                    await anext(stream)
                    first = time.perf_counter()
                    await stream.final()
                return (first - began) * 1000

            pairs = [(await bare(), await ours()) for _ in range(self.scale.first + 1)][1:]
        return [Row.of(self.vendor, "time to first content", "ms", pairs)]

    async def memory(self) -> list[Row]:
        """How much the process has grown by after many calls; the bare SDK goes first, on fresh memory."""
        async with self.both("text/1") as (client, chain):
            grown = []
            for call in (lambda: self.bare.call(client), lambda: vendors.ours(chain)):
                await repeated(call, min(200, self.scale.kept))()
                gc.collect()
                before = resident()
                await repeated(call, self.scale.kept)()
                gc.collect()
                grown.append((resident() - before) / 1e6)
        return [Row(self.vendor, f"growth over {self.scale.kept} calls", "MB", *grown)]


class Large(Bench):
    """Rows about size, for the one vendor that all others resemble."""

    def rows(self) -> Iterator[Callable[[], Awaitable[list[Row]]]]:
        yield self.image
        yield self.answer
        yield self.arguments
        yield self.streams

    async def image(self) -> list[Row]:
        """An image goes in, base64 in the message; its size is that of the file."""
        size = self.scale.image
        data = base64.b64encode(os.urandom(size)).decode()
        url = f"data:image/png;base64,{data}"
        message = {
            "role": "user",
            "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": url}}],
        }
        what = f"{size // 1_000_000} MB in"
        async with self.both("text/1") as (client, chain):
            bare, ours = (lambda: self.bare.call(client, [message])), (lambda: vendors.ours(chain, [message]))
            pairs = await self.pairs(bare, ours, 1000)
            stalls = (await longest_step(bare), await longest_step(ours))
            peaks = (await peak(bare) / size, await peak(ours) / size)
        return [
            Row.of(self.vendor, what, "ms CPU", pairs),
            Row(self.vendor, f"{what}: longest step", "ms", *stalls),
            Row(self.vendor, f"{what}: memory", "x payload", *peaks),
        ]

    async def answer(self) -> list[Row]:
        async with self.both("big/1") as (client, chain):
            bare, ours = (lambda: self.bare.call(client)), (lambda: vendors.ours(chain))
            pairs = await self.pairs(bare, ours, 1000)
            stalls, peaks = (await longest_step(bare), await longest_step(ours)), (await peak(bare), await peak(ours))
        return [
            Row.of(self.vendor, "1 MB out", "ms CPU", pairs),
            Row(self.vendor, "1 MB out: longest step", "ms", *stalls),
            Row(self.vendor, "1 MB out: memory", "x payload", *(found / 1e6 for found in peaks)),
        ]

    async def arguments(self) -> list[Row]:
        """Long arguments; then what twice as many cost."""
        found = []
        for count in (self.scale.characters, 2 * self.scale.characters):
            async with self.both(f"tool/{count // 10}") as (client, chain):
                pairs = await self.pairs(
                    lambda: vendors.joined(self.vendor, client, "tool"), lambda: vendors.snapshots(chain, "tool"), 1000
                )
            found.append(Row.of(self.vendor, f"{count:,} characters of arguments", "ms CPU", pairs))
        half, whole = ((row.bare or 0.0, row.ours) for row in found)
        return [*found, Row(self.vendor, "twice the arguments", "x", whole[0] / half[0], whole[1] / half[1])]

    async def streams(self) -> list[Row]:
        """Many streams at once: all must finish, and nobody long after the others."""
        many = self.scale.many
        async with self.both("text/40") as (_, chain):
            await vendors.snapshots(chain)
            gc.collect()
            before, began, ends = resident(), time.perf_counter(), []
            held: list[Any] = []

            async def one() -> None:
                async with await chain(vendors.MESSAGES, stream=True) as stream:
                    held.append(None)
                    if len(held) == many:
                        held.append(resident())
                    while len(held) < many:  # all streams stand at the same time
                        await asyncio.sleep(0)
                    assert len((await stream.final()).text) == 200
                ends.append(time.perf_counter() - began)

            await asyncio.gather(*(one() for _ in range(many)))
        kilobytes = (max(entry for entry in held if entry) - before) / 1000 / many
        return [
            Row(self.vendor, f"{many} streams at once: finished", "", None, float(len(ends))),
            Row(self.vendor, f"{many} streams at once: last after first", "x", None, max(ends) / min(ends)),
            Row(self.vendor, f"{many} streams at once: a stream", "KB", None, kilobytes),
        ]


# -- clocks ------------------------------------------------------------------------------------------------------------


def repeated(work: Work, count: int) -> Work:
    async def run() -> None:
        for _ in range(count):
            await work()

    return run


def together(work: Work, count: int) -> Work:
    async def run() -> None:
        await asyncio.gather(*(work() for _ in range(count)))

    return run


async def cpu(work: Work) -> float:
    """CPU seconds."""
    gc.collect()
    began = time.process_time()
    await work()
    return time.process_time() - began


async def both_clocks(work: Work) -> tuple[float, float]:
    """Wall and CPU seconds."""
    gc.collect()
    began, spent = time.perf_counter(), time.process_time()
    await work()
    return time.perf_counter() - began, time.process_time() - spent


async def longest_step(work: Work) -> float:
    """The longest that one step kept the event loop, in ms of its CPU time; the least of three runs."""
    found = []
    for _ in range(3):
        with steps() as taken:
            await asyncio.sleep(0)  # what runs now began before
            await work()
        found.append(max(taken) * 1000)
    return min(found)


@contextmanager
def steps() -> Iterator[list[float]]:
    taken: list[float] = []
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        taken.append(time.thread_time() - began)

    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield taken
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


async def peak(work: Work) -> int:
    """Bytes allocated at the peak."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await work()
    found = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return found


def resident() -> int:
    """Bytes of memory that the process has now."""
    with Path("/proc/self/statm").open() as status:
        return int(status.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    for row in bench.rows():
        for found in await row():
            yield asdict(found)


async def main(vendor: str, server: str, quick: bool) -> None:
    """Print every row as JSON."""
    import json

    warnings.simplefilter("ignore")
    kind, _, name = vendor.rpartition(":")
    bench = (Large if kind else Bench)(name, server, QUICK if quick else FULL)
    async for row in measure(bench):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], "--quick" in sys.argv))
