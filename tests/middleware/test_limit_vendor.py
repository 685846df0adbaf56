"""Limit: what the vendor says narrows the pool for everybody in it; how many at once it bears is found by trying."""

import asyncio

import pytest

from modelhub.errors import LimitRejected, RateLimited
from modelhub.middleware.limit import Bill, Limit, LimitOptions, Pool
from modelhub.testing import VirtualClock

LIMITED = {"fail": "RateLimited"}
ONCE = {"retry": {"max_attempts": 1}}


def make(**options):
    return Pool("tier", LimitOptions(**options), VirtualClock())


def limited(retry_after=None):
    return Bill(limited=True, retry_after=retry_after)


ANSWERED = Bill(answered=True)


# -- pauses ------------------------------------------------------------------------------------------------------------


async def test_a_rate_limit_pauses_every_model_of_the_pool(world, now):
    """Whoever shares the pool waits until the vendor wants to be asked again."""
    hub = world.hub(
        {
            "a": {"steps": [{**LIMITED, "retry_after": 20}], "limit": "t", **ONCE},
            "b": {"steps": [{"say": "b"}], "limit": "t"},
        },
        limits={"t": {"concurrency": 5}},
    )
    with pytest.raises(RateLimited):
        await hub.get("a")("x")
    reply = await hub.get("b")("x")
    assert now() == pytest.approx(20, abs=0.01)
    assert reply.attempts[0].wait == pytest.approx(20, abs=0.01)


async def test_a_pause_is_never_shortened(now):
    """A later, shorter wish changes nothing; a longer one does."""
    pool = make(concurrency=5)
    permits = [await pool.acquire() for _ in range(3)]
    for permit, seconds, left in zip(permits, (30, 5, 40), (30, 29, 40), strict=True):
        permit.settle(limited(seconds))
        assert pool.left().paused == pytest.approx(left)
        await asyncio.sleep(1)
    assert repr(pool).endswith("paused for 39.0 s>")
    await pool.acquire()
    assert now() == pytest.approx(42, abs=0.01)


async def test_without_a_wish_pauses_grow_until_somebody_is_answered():
    """One second, two, four, ... thirty at most; attempts that were under way when a pause began say nothing new."""
    pool, pauses = make(concurrency=5), []
    for _ in range(7):
        permits = [await pool.acquire() for _ in range(2)]
        await asyncio.sleep(0.1)
        for permit in permits:
            permit.settle(limited())
        pauses.append(pool.left().paused)
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 30, 30])
    (await pool.acquire()).settle(ANSWERED)
    (await pool.acquire()).settle(limited())
    assert pool.left().paused == pytest.approx(1)


async def test_a_pause_turns_away_who_has_no_time_for_it(now):
    """Who waits with a deadline before its end is told at once, and can ask another model."""
    pool = make(requests="2/m")
    first = await pool.acquire()
    await pool.acquire()
    soon = asyncio.ensure_future(pool.acquire(deadline=80))
    late = asyncio.ensure_future(pool.acquire(deadline=200))
    await asyncio.sleep(1)
    first.settle(limited(100))
    with pytest.raises(LimitRejected, match=r"no room for 100\.0 s; only 79\.0 s") as refused:
        await soon
    assert refused.value.retry_after == pytest.approx(100)
    assert now() == 1
    await late
    assert now() == pytest.approx(101, abs=0.01)


async def test_a_long_pause_is_not_waited_for_while_another_model_can_answer(world, now):
    """Ten seconds, or a minute if nobody is behind and the call has no deadline."""
    hub = world.hub(
        {
            "a": {"steps": [{**LIMITED, "retry_after": 30}, {**LIMITED, "retry_after": 300}], "limit": "t", **ONCE},
            "b": {"steps": [{"say": "b"}], "limit": "t"},
            "c": {"say": "c"},
        },
        {"main": {"models": ["b", "c"]}},
        limits={"t": {"concurrency": 5}},
    )
    with pytest.raises(RateLimited):
        await hub.get("a")("x")
    assert ((await hub.get("main")("x")).model, now()) == ("c", 0)
    assert ((await hub.get("b")("x")).model, now()) == ("b", pytest.approx(30, abs=0.01))
    with pytest.raises(RateLimited):
        await hub.get("a")("x")
    with pytest.raises(LimitRejected, match=r"limit `t` is paused for 300\.0 s, as the vendor asked"):
        await hub.get("b")("x")


async def test_what_the_vendor_says_is_left_narrows_and_never_widens(now):
    """Its headers tell what others have used; that it has more than our rate changes nothing."""
    pool = make(requests_per_minute=10, burst=1)

    async def told(remaining, seconds):
        (await pool.acquire()).settle(Bill(answered=True, told={"requests": (remaining, seconds)}))
        return pool.left().rates[0].left

    assert await told(2, 5) == 2
    for _ in range(2):
        (await pool.acquire()).settle()
    assert now() == 0
    (await pool.acquire()).settle()
    assert now() == pytest.approx(5, abs=0.01)
    assert pool.left().rates[0].left == 6
    assert await told(5000, 60) == 5


async def test_a_provider_tells_through_the_call(world):
    """What it notes of its answer's headers comes to the pool."""
    chain = world.chain({"say": "x"}, limits={"t": {"requests_per_minute": 100}}, entry={"limit": "t"})
    limit = world.layer("a", Limit)
    send = limit.inner.send

    async def with_headers(request):
        request.context.tell_left({"requests": (3, 30.0), "tokens": (0, 1.0)})
        return await send(request)

    limit.inner.send = with_headers
    await chain("x")
    assert limit.pool.left().rates[0].left == 3


# -- as many at once as the vendor bears -------------------------------------------------------------------------------


async def rounds(pool, number, offered, bears=10_000):
    """The places after each of *number* rounds in which *offered* attempts come; the vendor *bears* so many at once."""
    found = []

    async def one():
        permit = await pool.acquire()
        too_many = pool.places.taken > bears
        await asyncio.sleep(1)
        permit.settle(limited(0) if too_many else ANSWERED)

    for _ in range(number):
        await asyncio.gather(*(one() for _ in range(offered)))
        found.append(pool.left().places)
    return found


async def test_it_grows_fast_while_all_is_in_use():
    """Slow start: each answer makes room for one more, up to 256."""
    pool = make(concurrency="auto")
    assert pool.left().places == 4
    waiting = asyncio.ensure_future(rounds(pool, 1, 1000))
    await asyncio.sleep(1.5)
    assert pool.places.taken == 8
    await asyncio.sleep(1)
    assert pool.places.taken == 16
    await waiting
    assert pool.left().places == 256


async def test_it_does_not_grow_while_it_is_not_used():
    """Two at a time never need more than four places."""
    assert await rounds(make(concurrency="auto"), 20, 2) == [4] * 20


async def test_a_rate_limit_halves_it_once():
    """All that were under way when it was cut speak of the same load; for ten seconds nothing changes."""
    pool = make(concurrency="auto")
    await rounds(pool, 1, 100)
    permits = [await pool.acquire() for _ in range(pool.left().places)]
    places = len(permits)
    for permit in permits[:5]:
        permit.settle(limited(0))
        await asyncio.sleep(1)
    assert pool.left().places == places // 2
    for permit in permits[5:]:
        permit.settle(ANSWERED)
    assert pool.left().places == places // 2


async def test_after_a_cut_a_round_makes_room_for_one_more():
    """Additive increase."""
    pool = make(concurrency="auto")
    permits = [await pool.acquire() for _ in range(4)]
    permits[0].settle(limited(0))
    for permit in permits[1:]:
        permit.settle()
    assert pool.left().places == 2
    await asyncio.sleep(11)
    assert await rounds(pool, 1, 2) == [2]  # half a place
    assert pool.places._size == pytest.approx(2.5)
    found = await rounds(pool, 10, 60)
    assert found == sorted(found)
    assert found[-1] > 10


async def test_ordinary_failures_say_nothing_about_the_load():
    """Neither up nor down."""
    pool = make(concurrency="auto")
    for _ in range(10):
        for permit in [await pool.acquire() for _ in range(4)]:
            permit.settle(Bill())
    assert pool.left().places == 4


async def test_it_finds_what_the_vendor_bears():
    """It settles between half of it and a little above, and stays usable."""
    pool = make(concurrency="auto")
    found = await rounds(pool, 60, 60, bears=20)
    assert all(8 <= places <= 24 for places in found[10:])
    assert sum(found[10:]) / len(found[10:]) > 11
