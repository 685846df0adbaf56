"""Limit: one pool for all event loops and threads of a process. In real time, because threads have no other."""

import asyncio
import gc
import threading
import time

import pytest

from modelhub import Hub
from modelhub.middleware.limit.layer import Amounts, Limit, RateLimitPool
from modelhub.middleware.limit.options import LimitOptions

PERIOD, MOST = 0.5, 40


def most_in_a_window(times, period):
    """How many of *times* the fullest window of *period* seconds holds."""
    times = sorted(times)
    first = held = 0
    for last, end in enumerate(times):
        while times[first] < end - period:
            first += 1
        held = max(held, last - first + 1)
    return held


async def take(pool, seconds, passed):
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        permit = await pool.acquire(Amounts(1))
        passed.append(permit.began)
        await asyncio.sleep(0)
        permit.settle()


@pytest.mark.parametrize("burst", [None, 1])
def test_the_count_is_exact_over_threads(burst):
    """Four loops in four threads, ten tasks each: together they keep to the rate, use it, and nobody starves."""
    pool = RateLimitPool("t", LimitOptions(requests=f"{MOST}/500ms", burst=burst, concurrency=8))
    passed = [[] for _ in range(4)]

    async def main(mine):
        await asyncio.gather(*(take(pool, 2.0, mine) for _ in range(10)))

    threads = [threading.Thread(target=asyncio.run, args=(main(mine),)) for mine in passed]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    together = [at for mine in passed for at in mine]
    assert most_in_a_window(together, PERIOD) <= MOST
    assert len(together) >= 0.9 * MOST * 2.0 / PERIOD
    assert min(map(len, passed)) > 0.5 * len(together) / 4
    assert (pool.slots.taken, pool.left().waiting, pool._timers) == (0, 0, {})


def test_a_hub_keeps_its_count_over_several_runs():
    """Each `asyncio.run` has its own loop; the pool is the same."""
    config = {
        "version": 1,
        "limits": {"t": {"requests": "3/500ms", "burst": 1}},
        "models": {"a": {"provider": "scripted", "reply": "x", "limit": "t"}},
    }
    hub = Hub.from_dict(config)

    async def ask():
        await hub.get("a")("x")

    began = time.monotonic()
    for _ in range(7):
        asyncio.run(ask())
    assert time.monotonic() - began >= 1.0


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

    asyncio.run(asyncio.wait_for(another(), 5))
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

    asyncio.run(asyncio.wait_for(another(), 5))
    loop.run_until_complete(asyncio.wait_for(waiting, 5))
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
        thread.join(20)
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
