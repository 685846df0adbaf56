"""Limit: what the vendor says narrows the pool for everybody in it; how many at once it bears is found by trying."""

import asyncio

import pytest

from modelhub.core.errors import LimitRejected, RateLimited
from modelhub.middleware.limit.layer import Amounts, AttemptResult, Limit, RateLimitPool, WaitLimits
from modelhub.middleware.limit.options import LimitOptions
from modelhub.testing import VirtualClock

LIMITED = {"fail": "RateLimited"}
ONCE = {"retry": {"max_attempts": 1}}


def make(**options):
    return RateLimitPool("tier", LimitOptions(**options), VirtualClock())


def limited(retry_after=None):
    return AttemptResult(limited=True, retry_after=retry_after)


ANSWERED = AttemptResult(answered=True)


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
    soon = asyncio.ensure_future(pool.acquire(waits=WaitLimits(until=80)))
    late = asyncio.ensure_future(pool.acquire(waits=WaitLimits(until=200)))
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
        (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (remaining, seconds)}))
        return pool.left().rates[0].left

    assert await told(2, 5) == 2
    for _ in range(2):
        (await pool.acquire()).settle()
    assert now() == 0
    (await pool.acquire()).settle()
    assert now() == pytest.approx(5, abs=0.01)
    assert pool.left().rates[0].left == 6
    assert await told(5000, 60) == 5


async def test_what_was_admitted_meanwhile_is_taken_off(now):
    """The vendor may not have counted yet what was sent after the request that it answers."""
    pool = make(requests_per_minute=100, burst=1)
    first, *_ = [await pool.acquire() for _ in range(4)]
    first.settle(AttemptResult(answered=True, told={"requests": (5, 30)}))
    assert pool.left().rates[0].left == 2
    for _ in range(3):
        await pool.acquire()
    assert now() == pytest.approx(30, abs=0.01)


async def test_what_leaves_our_window_gives_no_room_at_the_vendors(now):
    """Until its reset no more passes than it said, also if our own minute is over before."""
    pool = make(requests_per_minute=10, burst=1)
    for _ in range(8):
        (await pool.acquire()).settle()
    await asyncio.sleep(50)
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (2, 40)}))
    await asyncio.sleep(15)
    for _ in range(2):
        (await pool.acquire()).settle()
    assert now() == 65
    await pool.acquire()
    assert now() == pytest.approx(90, abs=0.01)


async def test_it_holds_longer_than_our_own_period(now):
    """A pool that counts by the second does not forget in a second what holds for thirty."""
    pool = make(requests="10/s")
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (12, 30)}))
    passed = []
    for _ in range(13):
        (await pool.acquire()).settle()
        passed.append(now())
    assert passed[11] < 3
    assert passed[12] == pytest.approx(30, abs=0.01)


async def test_newer_news_replace_older(now):
    """Each answer tells of what has flowed back; one to an earlier request, if it comes late, can only narrow."""
    pool = make(requests_per_minute=100, burst=1)
    early, late = [await pool.acquire() for _ in range(2)]
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (3, 50)}))
    early.settle(AttemptResult(answered=True, told={"requests": (40, 5)}))
    assert pool.left().rates[0].left == 3
    late.settle(AttemptResult(answered=True, told={"requests": (2, 5)}))
    assert pool.left().rates[0].left == 1  # one was admitted after it
    await asyncio.sleep(6)
    assert pool.left().rates[0].left == 3
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (60, 5)}))
    assert (pool.left().rates[0].left, now()) == (60, 6)


async def test_what_one_model_is_told_does_not_replace_what_another_was_told():
    """A vendor has limits for each model; in one pool the narrowest holds for all, as long as it holds."""
    pool = make(requests_per_minute=100, burst=1)
    for source, told in (("a", (3, 20)), ("b", (50, 40))):
        (await pool.acquire(source=source)).settle(AttemptResult(answered=True, told={"requests": told}))
    assert pool.left().rates[0].left == 2  # b was admitted since
    await asyncio.sleep(20)
    assert pool.left().rates[0].left == 50


async def test_what_is_not_used_comes_back():
    """Of what was admitted since, only what was really used is taken off."""
    pool = make(tokens_per_minute=10_000, burst=1)
    (await pool.acquire(Amounts(100))).settle(AttemptResult(Amounts(100), told={"tokens": (5000, 30)}))
    permit = await pool.acquire(Amounts(100, 4000))
    assert pool.left().rates[0].left == 900
    permit.settle(AttemptResult(Amounts(100, 300)))
    assert pool.left().rates[0].left == 4600
    (await pool.acquire(Amounts(100))).settle(AttemptResult(Amounts(600)))
    assert pool.left().rates[0].left == 4000


async def test_once_a_minute_somebody_asks_anew(now):
    """A reset may be a day off, and there may be room long before: the answer to one attempt tells."""
    pool = make(requests_per_minute=100, requests="5000/day", burst=1)
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (0, 80_000)}))
    (await pool.acquire()).settle()
    assert now() == pytest.approx(60, abs=0.01)
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (2, 80_000)}))
    assert now() == pytest.approx(120, abs=0.02)
    for _ in range(2):
        (await pool.acquire()).settle()
    assert now() == pytest.approx(120, abs=0.02)
    (await pool.acquire()).settle()
    assert now() == pytest.approx(180, abs=0.03)


async def test_who_waits_behind_others_is_not_refused_for_what_they_will_use(now):
    """Each of those in front brings news: what is left now says nothing about what will be when they are answered."""
    pool = make(requests_per_minute=100, burst=1, concurrency=1)
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (2, 30)}))

    async def one():
        permit = await pool.acquire(waits=WaitLimits(until=20))
        await asyncio.sleep(1)
        permit.settle(AttemptResult(answered=True, told={"requests": (2, 30)}))

    await asyncio.gather(*(one() for _ in range(10)))
    assert now() == 10


async def test_who_waits_is_turned_away_when_nothing_is_left(now):
    """Whoever has another model behind need not wait its turn to hear that there is nothing to wait for."""
    pool = make(requests_per_minute=100, burst=0)
    first = await pool.acquire()
    patient, hasty = [
        asyncio.ensure_future(pool.acquire(waits=WaitLimits(budget=wait_budget))) for wait_budget in (None, 10)
    ]
    await asyncio.sleep(0.1)
    first.settle(AttemptResult(answered=True, told={"requests": (0, 30)}))
    with pytest.raises(LimitRejected, match=r"has only 0 requests left, as the vendor said: no room for 30\.0 s"):
        await hasty
    assert now() == pytest.approx(0.1)
    await patient
    assert now() == pytest.approx(30.1, abs=0.01)


async def test_alone_with_a_vendor_that_refills_one_is_not_slowed_down(now):
    """Where the bucket flows back all the time, its headers cost no throughput, however late its answers come."""

    async def drive(tells):
        pool, began = make(tokens_per_minute=60_000), now()
        level, since = 60_000.0, began

        async def one():
            nonlocal level, since
            permit = await pool.acquire(Amounts(500, 500))
            level, since = min(60_000, level + (now() - since) * 1000) - 1000, now()
            assert level >= 0
            left, reset = int(level), (60_000 - level) / 1000
            await asyncio.sleep(20)
            permit.settle(
                AttemptResult(Amounts(500, 500), answered=True, told={"tokens": (left, reset)} if tells else None)
            )

        await asyncio.gather(*(one() for _ in range(300)))
        return now() - began

    assert await drive(tells=True) == pytest.approx(await drive(tells=False), rel=0.01)


async def test_what_the_attempt_has_of_the_vendors_limits_comes_to_the_pool(world):
    """A provider records what its answer's headers say."""
    chain = world.chain({"say": "x"}, limits={"t": {"requests_per_minute": 100}}, entry={"limit": "t"})
    limit = world.layer("a", Limit)
    send = limit.inner.send

    async def with_headers(request):
        reply = await send(request)
        request.context.attempts[-1]["rate_limits"] = {"requests": (3, 30.0), "tokens": (0, 1.0)}
        return reply

    limit.inner.send = with_headers
    await chain("x")
    assert limit.pool.left().rates[0].left == 3


# -- as many at once as the vendor bears -------------------------------------------------------------------------------


async def rounds(pool, number, offered, bears=10_000):
    """The places after each of *number* rounds in which *offered* attempts come; the vendor *bears* so many at once."""
    found = []

    async def one():
        permit = await pool.acquire()
        too_many = pool.slots.taken > bears
        await asyncio.sleep(1)
        permit.settle(limited(0) if too_many else ANSWERED)

    for _ in range(number):
        await asyncio.gather(*(one() for _ in range(offered)))
        found.append(pool.left().slots)
    return found


async def test_it_grows_fast_while_all_is_in_use():
    """Slow start: each answer makes room for one more, up to 256."""
    pool = make(concurrency="auto")
    assert pool.left().slots == 4
    waiting = asyncio.ensure_future(rounds(pool, 1, 1000))
    await asyncio.sleep(1.5)
    assert pool.slots.taken == 8
    await asyncio.sleep(1)
    assert pool.slots.taken == 16
    await waiting
    assert pool.left().slots == 256


async def test_it_does_not_grow_while_it_is_not_used():
    """Two at a time never need more than four places."""
    assert await rounds(make(concurrency="auto"), 20, 2) == [4] * 20


async def test_a_rate_limit_halves_it_once():
    """All that were under way when it was cut speak of the same load; for ten seconds nothing changes."""
    pool = make(concurrency="auto")
    await rounds(pool, 1, 100)
    permits = [await pool.acquire() for _ in range(pool.left().slots)]
    slots = len(permits)
    for permit in permits[:5]:
        permit.settle(limited(0))
        await asyncio.sleep(1)
    assert pool.left().slots == slots // 2
    for permit in permits[5:]:
        permit.settle(ANSWERED)
    assert pool.left().slots == slots // 2


async def test_after_a_cut_a_round_makes_room_for_one_more():
    """Additive increase."""
    pool = make(concurrency="auto")
    permits = [await pool.acquire() for _ in range(4)]
    permits[0].settle(limited(0))
    for permit in permits[1:]:
        permit.settle()
    assert pool.left().slots == 2
    await asyncio.sleep(11)
    assert await rounds(pool, 1, 2) == [2]  # half a place
    assert pool.slots.size == pytest.approx(2.5)
    found = await rounds(pool, 10, 60)
    assert found == sorted(found)
    assert found[-1] > 10


async def test_ordinary_failures_say_nothing_about_the_load():
    """Neither up nor down."""
    pool = make(concurrency="auto")
    for _ in range(10):
        for permit in [await pool.acquire() for _ in range(4)]:
            permit.settle(AttemptResult())
    assert pool.left().slots == 4


async def test_it_finds_what_the_vendor_bears():
    """It settles between half of it and a little above, and stays usable."""
    pool = make(concurrency="auto")
    found = await rounds(pool, 60, 60, bears=20)
    assert all(8 <= slots <= 24 for slots in found[10:])
    assert sum(found[10:]) / len(found[10:]) > 11


async def test_an_answer_shows_that_there_is_room_after_all(now):
    """A vendor that says when to ask again is asked then; if it answers, what its header said holds nobody up."""
    pool = make(tokens_per_minute=100_000)
    refused = await pool.acquire(Amounts(10, 0))
    refused.settle(AttemptResult(limited=True, retry_after=1, told={"tokens": (0, 360)}))
    second = await pool.acquire(Amounts(10, 0))
    assert now() == pytest.approx(1, abs=0.1)
    second.settle(AttemptResult(Amounts(10, 0), answered=True))
    for _ in range(3):
        (await pool.acquire(Amounts(10, 0))).settle(AttemptResult(Amounts(10, 0), answered=True))
    assert now() == pytest.approx(1, abs=0.1)


async def test_an_answer_to_an_attempt_that_had_room_disproves_nothing(now):
    """What passed longer ago than the vendor's period makes room again, and whoever takes it may well be answered."""
    pool = make(requests="100/10s", burst=1)
    slow = await pool.acquire()
    (await pool.acquire()).settle(ANSWERED)
    await asyncio.sleep(0.5)
    slow.settle(AttemptResult(answered=True, told={"requests": (1, 5)}))
    (await pool.acquire()).settle(ANSWERED)
    assert now() == pytest.approx(5, abs=0.01)
    (await pool.acquire()).settle(ANSWERED)
    assert now() == pytest.approx(5.5, abs=0.01)
