"""Limit: one pool for all event loops and threads of a process. In real time, because threads have no other."""

import asyncio
import gc
import threading
import time

import pytest

from modelhub import Hub
from modelhub.middleware.limit.layer import Amounts, Limit, RateLimitPool
from modelhub.middleware.limit.options import LimitOptions

PERIOD, MOST, SECONDS = 0.25, 20, 1.0


def most_in_a_window(times, period):
    """How many of *times* the fullest window of *period* seconds holds."""
    times = sorted(times)
    first = held = 0
    for last, end in enumerate(times):
        while times[first] < end - period:
            first += 1
        held = max(held, last - first + 1)
    return held


class Taker:
    """Takes from *pool* in a loop and a thread of its own, with ten tasks, for a while.

    `passed` are the instants at which it was let in, `stalled` is how long its loop could not do what was due: no pool
    is to blame for a machine that is busy with something else.
    """

    def __init__(self, pool):
        self.pool, self.passed, self.stalled = pool, [], 0.0
        self.thread = threading.Thread(target=lambda: asyncio.run(self.run()))

    async def run(self):
        self.ends = time.monotonic() + SECONDS
        watch = asyncio.create_task(self.watch())
        await asyncio.gather(*(self.take() for _ in range(10)))
        watch.cancel()

    async def take(self):
        while time.monotonic() < self.ends:
            permit = await self.pool.acquire(Amounts(1))
            self.passed.append(permit.began)
            await asyncio.sleep(0)
            permit.settle()

    async def watch(self, tick=0.02, tolerance=0.005):
        while True:
            began = time.monotonic()
            await asyncio.sleep(tick)
            late = time.monotonic() - began - tick
            self.stalled += late if late > tolerance else 0


@pytest.mark.parametrize("burst", [None, 1])
def test_the_count_is_exact_over_threads(burst):
    """Four loops in four threads, ten tasks each: together they keep to the rate, use it, and nobody starves."""
    pool = RateLimitPool("t", LimitOptions(requests=f"{MOST}/{PERIOD * 1000:g}ms", burst=burst, concurrency=8))
    takers = [Taker(pool) for _ in range(4)]
    for taker in takers:
        taker.thread.start()
    for taker in takers:
        taker.thread.join(60)
    assert not any(taker.thread.is_alive() for taker in takers)
    together = [instant for taker in takers for instant in taker.passed]
    assert most_in_a_window(together, PERIOD) <= MOST
    stalled = sum(taker.stalled for taker in takers)
    assert len(together) >= 0.9 * MOST * (SECONDS - stalled) / PERIOD
    for taker in takers:
        assert len(taker.passed) >= 0.5 * len(together) / 4 * (1 - taker.stalled / SECONDS)
    assert (pool.slots.taken, pool.left().waiting, pool.timers) == (0, 0, {})


def test_a_hub_keeps_its_count_over_several_runs():
    """Each `asyncio.run` has its own loop; the pool is the same."""
    config = {
        "version": 1,
        "limits": {"t": {"requests": "3/100ms", "burst": 1}},
        "models": {"a": {"provider": "scripted", "reply": "x", "limit": "t"}},
    }
    hub = Hub.from_dict(config)

    async def ask():
        await hub.get("a")("x")

    began = time.monotonic()
    for _ in range(7):
        asyncio.run(ask())
    assert time.monotonic() - began >= 0.2


def test_a_loop_that_is_gone_holds_nobody_up():
    """Who waited on a loop that was closed under it is forgotten."""
    pool = RateLimitPool("t", LimitOptions(concurrency=1))
    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(pool.acquire())
    waiting = loop.create_task(pool.acquire())
    loop.run_until_complete(asyncio.sleep(0))
    assert pool.left().waiting == 1
    loop.close()
    held.settle()

    async def another():
        (await pool.acquire()).settle()

    asyncio.run(asyncio.wait_for(another(), 60))
    assert pool.left().taken == 0
    waiting._log_destroy_pending = False
    del waiting, held
    gc.collect()


def test_a_loop_that_stands_still_holds_up_only_itself():
    """Its turn comes and goes; the timers of other loops wake those behind it."""
    pool = RateLimitPool("t", LimitOptions(requests="2/200ms", burst=0))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(pool.acquire())
    waiting = loop.create_task(pool.acquire())
    loop.run_until_complete(asyncio.sleep(0))

    async def another():
        (await pool.acquire()).settle()

    asyncio.run(asyncio.wait_for(another(), 60))
    loop.run_until_complete(asyncio.wait_for(waiting, 60))
    loop.close()


def test_places_are_exact_over_threads():
    """Never more at once than `concurrency`, whoever gives back from wherever."""
    pool, busy, most = RateLimitPool("t", LimitOptions(concurrency=3)), [], []

    async def main():
        async def one():
            for _ in range(50):
                permit = await pool.acquire()
                busy.append(1)
                most.append(len(busy))
                await asyncio.sleep(0)
                busy.pop()
                permit.settle()

        await asyncio.gather(*(one() for _ in range(5)))

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert max(most) == 3
    assert pool.slots.taken == 0


def test_the_layers_of_two_models_share_the_named_pool():
    """Same name, same pool; a limit written into an entry is its own."""
    hub = Hub.from_dict(
        {
            "version": 1,
            "limits": {"t": {"concurrency": 2}},
            "models": {
                "a": {"provider": "scripted", "limit": "t"},
                "b": {"provider": "scripted", "limit": "t"},
                "c": {"provider": "scripted", "limit": {"concurrency": 2}},
            },
        }
    )
    pools = [
        next(layer for layer in hub.get(name).models[0].stack() if isinstance(layer, Limit)).pool for name in "abc"
    ]
    assert pools[0] is pools[1]
    assert pools[2] is not pools[0]
    assert pools[2].name == "c"
