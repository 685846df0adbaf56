"""Limit: what a pool admits, when, in which order, and what it refuses."""

import asyncio
import sys
from bisect import bisect_left
from collections import Counter

import pytest

from modelhub.core.errors import AllModelsFailed, DeadlineExceeded, LimitRejected
from modelhub.middleware.limit.layer import Amounts, AttemptResult, Limit, RateLimitPool, WaitLimits
from modelhub.middleware.limit.options import LimitOptions
from modelhub.testing import VirtualClock
from tests.clocks import SetForward
from tests.tables import table

NOTHING = Amounts()


def make(**options):
    """A pool in the running loop's time."""
    return RateLimitPool("tier", LimitOptions(**options), VirtualClock())


def used(*amounts):
    """An answer that took that much."""
    return AttemptResult(Amounts(*amounts), answered=True)


async def crowd(pool, size, amounts=NOTHING):
    """When each of *size* attempts that come at once passes."""
    clock, passed = VirtualClock(), []

    async def one(number):
        permit = await pool.acquire(amounts)
        passed.append((clock.now(), number))
        permit.settle()

    await asyncio.gather(*(one(number) for number in range(size)))
    assert [number for _, number in passed] == list(range(size))
    return [at for at, _ in passed]


def most_in_a_window(times, period):
    """How many of *times*, which are in order, the fullest window of *period* seconds holds."""
    return max(number - bisect_left(times, end - period) for number, end in enumerate(times, start=1))


async def test_the_rate_is_used_but_not_exceeded():
    """600 a minute, fifty tasks, five minutes: no minute holds more than 600, and at least 95 % of the rate is used."""
    pool, clock, passed = make(requests_per_minute=600), VirtualClock(), []

    async def worker():
        while clock.now() < 300:
            permit = await pool.acquire()
            passed.append(clock.now())
            await asyncio.sleep(0.7)
            permit.settle()

    await asyncio.gather(*(worker() for _ in range(50)))
    passed = [at for at in passed if at < 300]
    assert most_in_a_window(passed, 60) <= 600
    assert len(passed) >= 0.95 * 600 * 5


class AdvancedClock(SetForward, VirtualClock):
    """A clock of virtual time that a test sets forward."""


async def test_whoever_can_go_on_only_long_after_its_admission_counts_from_then_on():
    """The vendor sees its request no earlier: a second that begins with it holds no more than any other one."""
    clock = AdvancedClock()
    pool = RateLimitPool("tier", LimitOptions(requests="2/s", concurrency=1), clock)
    first = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await asyncio.sleep(0)
    first.settle()
    clock.ahead = 0.9
    passed = []
    for _ in range(3):
        (await waiting).settle()
        passed.append(clock.now())
        waiting = asyncio.create_task(pool.acquire())
    waiting.cancel()
    assert passed == [0.9, pytest.approx(1.04, abs=0.01), pytest.approx(1.94, abs=0.01)]


@table(
    ("options", "at_once"),
    [
        ({"requests_per_minute": 600}, 60),
        ({"requests_per_minute": 20}, 5),
        ({"requests_per_minute": 3}, 3),
        ({"requests_per_minute": 600, "burst": 1}, 600),
        ({"requests_per_minute": 600, "burst": 0}, 1),
        ({"requests": "700/day"}, 700),
        ({"requests": "10/s"}, 5),
        ({"concurrency": 7}, 7),
    ],
)
async def test_after_a_rest_a_part_of_the_rate_passes_at_once(options, at_once):
    """A tenth, but at least five; all of it where the period is long; or what `burst` says."""
    pool = make(**options)
    tasks = [asyncio.ensure_future(pool.acquire()) for _ in range(800)]
    await asyncio.sleep(0)
    assert sum(task.done() for task in tasks) == at_once
    for task in tasks:
        task.cancel()


async def test_what_is_beyond_the_burst_is_spread():
    """After the burst attempts pass one by one, so that nobody has to wait for a whole period to be over."""
    times = await crowd(make(requests_per_minute=60), 12)
    assert times == pytest.approx([0] * 6 + [1, 2, 3, 4, 5, 6], abs=0.01)


async def test_what_passed_close_together_is_counted_from_the_last():
    """A long window is kept in parts; each leaves it as a whole, when its last admission does."""
    pool, clock = make(requests="2/h"), VirtualClock()
    await pool.acquire()
    await asyncio.sleep(3)
    await pool.acquire()
    await pool.acquire()
    assert clock.now() == pytest.approx(3604, abs=0.1)


async def test_rates_hold_together():
    """Ten a second, and thirty a minute: both."""
    times = await crowd(make(requests=["10/s", "30/m"], burst=1), 70)
    assert most_in_a_window(times, 1) == 10
    assert most_in_a_window(times, 60) == 30


async def test_tokens_are_counted_apart_where_the_vendor_does():
    """Input and output each have their rate."""
    pool = make(input_tokens_per_minute=1000, output_tokens="100/m", burst=1)
    permit = await pool.acquire(Amounts(900, 10))
    assert [rate.left for rate in pool.left().rates] == [100, 90]
    permit.settle()
    times = await crowd(pool, 2, Amounts(10, 90))
    assert times == pytest.approx([0, 61], abs=0.1)


async def test_a_large_amount_is_not_starved_by_small_ones():
    """Who came first is served first, whatever it asks for."""
    pool, clock = make(tokens_per_minute=100, burst=1), VirtualClock()
    (await pool.acquire(Amounts(50))).settle()
    large = asyncio.ensure_future(pool.acquire(Amounts(80)))
    await asyncio.sleep(1)
    small = [asyncio.ensure_future(pool.acquire(Amounts(1))) for _ in range(5)]
    await asyncio.sleep(59)
    assert not any(task.done() for task in small)
    await asyncio.gather(large, *small)
    assert clock.now() == pytest.approx(61, abs=0.1)


# -- refusing ----------------------------------------------------------------------------------------------------------


async def test_what_can_never_fit_is_refused_at_once(world):
    """The error says which limit, how much, what to do, and which model."""
    chain = world.chain({"say": "x"}, limits={"tier": {"tokens_per_minute": 100}}, entry={"limit": "tier"})
    with pytest.raises(
        LimitRejected, match=r"limit `tier` can never admit about \d+ tokens at once .* 100/min.*"
    ) as got:
        await chain("hello", max_tokens=200)
    assert "lower max_tokens" in str(got.value)
    assert (got.value.model, got.value.provider, got.value.retry_after) == ("a", "scripted", None)
    assert world.asked("a") == 0


async def test_a_wait_beyond_the_deadline_fails_at_once_and_the_chain_moves_on(world, now):
    """What cannot pass in the call's time is not waited for: another model can answer in it."""
    limited = {"steps": [{"say": "a"}], "limit": {"requests": "1/m"}}
    chain = world.chain(limited, {"say": "b"}, deadline="20s")
    assert (await chain("x")).model == "a"
    reply = await chain("x")
    assert (reply.model, now()) == ("b", 0.0)
    assert reply.attempts[0].outcome == "LimitRejected"
    assert reply.attempts[0].retry_after == pytest.approx(61, abs=0.1)
    with pytest.raises(LimitRejected, match=r"limit `a` has no room for 61\.0 s; only 20\.0 s are left"):
        await world.hubs[-1].get("a")("x", deadline="20s")


async def test_the_queue_ahead_counts():
    """Who would come too late behind all who wait is refused, who would not may wait."""
    pool = make(requests_per_minute=60, burst=0)
    tasks = [asyncio.ensure_future(pool.acquire()) for _ in range(31)]
    await asyncio.sleep(0)
    with pytest.raises(LimitRejected, match=r"no room for 31\.0 s; only 29\.0 s"):
        await pool.acquire(waits=WaitLimits(until=29))
    await pool.acquire(waits=WaitLimits(until=32))
    assert VirtualClock().now() == pytest.approx(31, abs=0.1)
    await asyncio.gather(*tasks)


async def test_reservations_that_will_come_back_are_no_reason_to_refuse():
    """Attempts that have used a tenth of what they reserved are expected to do so again."""
    pool = make(tokens_per_minute=1000, burst=1)
    for _ in range(2):
        permit = await pool.acquire(Amounts(0, 500))
        permit.settle(used(0, 50))
    held = [await pool.acquire(Amounts(0, 400)) for _ in range(2)]
    waiting = asyncio.ensure_future(pool.acquire(Amounts(0, 400), WaitLimits(until=5)))
    await asyncio.sleep(1)
    held[0].settle(used(0, 40))
    await waiting


async def test_a_full_queue_refuses():
    """Nobody waits beyond `max_queue`; 0 means that nobody waits at all."""
    pool = make(concurrency=1, max_queue=2)
    held = await pool.acquire()
    tasks = [asyncio.ensure_future(pool.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(LimitRejected, match="full, and 2 attempts wait already"):
        await tasks[2]
    held.settle()
    (await tasks[0]).settle()
    (await tasks[1]).settle()
    impatient = make(concurrency=1, max_queue=0)
    await impatient.acquire()
    with pytest.raises(LimitRejected):
        await impatient.acquire()


async def test_no_wait_is_longer_than_max_wait():
    """For a place, until `max_wait` is over; for a rate, where it is clear before, not at all."""
    pool, clock = make(concurrency=1, requests="2/m", max_wait="10s"), VirtualClock()
    held = await pool.acquire()
    with pytest.raises(LimitRejected, match=r"no room within 10 s \(`max_wait`\)"):
        await pool.acquire()
    assert clock.now() == 10
    held.settle()
    (await pool.acquire()).settle()
    with pytest.raises(LimitRejected, match="no room for 51"):
        await pool.acquire()
    assert clock.now() == 10


async def test_nobody_waits_a_day_without_having_said_so():
    """A rate over a minute that is used up refuses calls without a deadline; `max_wait` says otherwise."""
    pool = make(requests="1/day")
    (await pool.acquire(waits=WaitLimits(budget=60))).settle()
    with pytest.raises(LimitRejected, match=r"has used up its requests \(1/day\)") as refused:
        await pool.acquire(waits=WaitLimits(budget=60))
    assert refused.value.retry_after == pytest.approx(86_401, abs=1)
    patient = make(requests="1/day", max_wait="24h", burst=1)
    (await patient.acquire(waits=WaitLimits(budget=60))).settle()
    with pytest.raises(LimitRejected, match="no room for 86401"):
        await patient.acquire(waits=WaitLimits(budget=60))


async def test_the_calls_own_deadline_ends_a_wait_for_a_place(world, now):
    """How long others hold their places nobody knows: such a wait ends when the call's time is over."""
    chain = world.chain([{"say": "x", "wait": 60}], limits={"t": {"concurrency": 1}}, entry={"limit": "t"})
    first = asyncio.ensure_future(chain("x"))
    await asyncio.sleep(1)
    with pytest.raises(DeadlineExceeded):
        await chain("x", deadline=5)
    assert now() == 6
    await first
    assert world.layer("a", Limit).pool.left().taken == 0


async def test_a_chain_whose_models_share_a_pool_says_why(world):
    """If every model of a chain is refused, the group has each refusal with its model."""
    entry = {"limit": "t"}
    chain = world.chain({"say": "a"}, {"say": "b"}, limits={"t": {"requests": "1/day"}}, entry=entry)
    await chain("x")
    with pytest.raises(AllModelsFailed) as failed:
        await chain("x")
    assert [error.model for error in failed.value.exceptions] == ["a", "b"]
    assert failed.value.retry_after == pytest.approx(86_401, abs=1)


# -- looking -----------------------------------------------------------------------------------------------------------


async def test_a_pool_tells_what_is_left(now):
    """`left()` is a picture of the moment, and the repr is its text."""
    pool = make(requests_per_minute=500, tokens_per_minute=200_000, concurrency=2)
    permits = [await pool.acquire(Amounts(1000, 500)) for _ in range(2)]
    waiting = asyncio.ensure_future(pool.acquire())
    await asyncio.sleep(0)
    assert repr(pool) == ("<Pool tier: 498 of 500 requests/min, 197000 of 200000 tokens/min, 0 of 2 places, 1 waiting>")
    waiting.cancel()
    await asyncio.wait([waiting])
    permits[0].settle(used(100, 100))
    assert str(pool.left()) == "498 of 500 requests/min, 198300 of 200000 tokens/min, 1 of 2 places"
    found = pool.left().as_dict()
    assert found["rates"]["requests/min"] == {"limit": 500, "left": 498}
    assert found["concurrency"] == {"limit": 2, "left": 1}
    await asyncio.sleep(62)
    assert [rate.left for rate in pool.left().rates] == [500, 200_000]


async def test_waiting_is_told_by_the_attempt(world):
    """The attempt's record says how long it stood in the queue."""
    chain = world.chain({"say": "a"}, limits={"t": {"requests": "1/10s"}}, entry={"limit": "t"})
    await chain("x")
    assert (await chain("x")).attempts[0].wait == pytest.approx(10.2, abs=0.01)


async def test_no_place_is_held_while_a_retry_waits(world):
    """A place is given back before the wait, and every attempt takes from the rate."""
    steps = [{"fail": "Overloaded"}, {"fail": "Overloaded"}, {"say": "done"}]
    limits = {"t": {"concurrency": 1, "requests": "10/h"}}
    chain = world.chain(steps, limits=limits, entry={"limit": "t", "retry": {"initial_wait": "20s", "max_wait": "20s"}})
    call = asyncio.ensure_future(chain("x"))
    await asyncio.sleep(1)
    pool = world.layer("a", Limit).pool
    assert not call.done()
    assert pool.left().taken == 0
    await call
    assert pool.left().rates[0].left == 7


async def test_a_pool_costs_little():
    """Taking and settling calls few functions, and no more of them after many requests than after few."""
    pool = make(requests="1000000/s", tokens_per_minute=10**9, concurrency=100)

    async def count_calls(requests):
        calls = Counter()
        sys.setprofile(lambda frame, event, arg: calls.update([event]))
        try:
            for _ in range(requests):
                (await pool.acquire(Amounts(10, 10))).settle(used(5, 5))
        finally:
            sys.setprofile(None)
        return calls["call"] / requests

    first = await count_calls(100)
    assert first < 150
    assert await count_calls(1000) < 1.1 * first


# -- calls that end in the queue -------------------------------------------------------------------------------------


async def test_a_deadline_that_passes_in_the_queue_names_the_limit(world):
    """And says how long the call waited there; nobody was asked."""
    hub = world.hub({"m": {"steps": [{"say": "x", "wait": 20}], "limit": "one"}}, limits={"one": {"concurrency": 1}})
    first = asyncio.ensure_future(hub.get("m")("hi"))
    await asyncio.sleep(1)
    text = r"time is over after 5\.0 s, of which `m` waited 5\.0 s in the queue of limit `one`"
    with pytest.raises(DeadlineExceeded, match=text) as caught:
        await hub.get("m")("hi", deadline=5)
    assert isinstance(caught.value.__cause__, LimitRejected)
    await first


async def test_a_model_behind_gets_half_of_the_time(world, now):
    """The queue does not swallow the time in which another model can answer."""
    hub = world.hub(
        {"m": {"steps": [{"say": "x", "wait": 50}], "limit": "one"}, "b": [{"say": "fine", "wait": 4}]},
        {"main": {"models": ["m", "b"], "deadline": 10}},
        limits={"one": {"concurrency": 1}},
    )
    first = asyncio.ensure_future(hub.get("m")("hi"))
    await asyncio.sleep(1)
    reply = await hub.get("main")("hi")
    assert (reply.text, now()) == ("fine", 10)
    assert "limit `one` had no room within 5 s" in reply.attempts[0].message
    await first
