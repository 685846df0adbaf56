"""What a pool promises, whatever store keeps it; the handles of a pool stand for processes that share it."""

import asyncio

import pytest

from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.layer import Amounts, AttemptResult, WaitLimits
from modelhub.middleware.limit.options import LimitOptions
from tests.system.shared.conftest import until_waiting

PERIOD = 0.2
RATE = "200ms"
ANSWERED = AttemptResult(answered=True)


def used(*amounts):
    """An answer that took that much."""
    return AttemptResult(Amounts(*amounts), answered=True)


def limited(retry_after=None):
    """A vendor's rate limit."""
    return AttemptResult(limited=True, retry_after=retry_after)


def fullest_window(admissions, period):
    """How much of *admissions*, of instants and amounts, the fullest window holds."""
    return max(sum(amount for at, amount in admissions if end - period <= at <= end) for end, _ in admissions)


async def test_no_window_holds_more_than_the_rate(world):
    """Three processes of eight tasks, requests and tokens: no window is over, wherever it begins."""
    pools = world.pools(3, requests=f"20/{RATE}", tokens=f"1000/{RATE}", burst=1)
    admissions = []

    async def work(pool, number):
        for step in range(3):
            tokens = 20 + (7 * number + 13 * step) % 60
            permit = await pool.acquire(Amounts(tokens))
            admissions.append((await world.admitted_at(permit), tokens))
            permit.settle(used(tokens, 0))

    await asyncio.gather(*(work(pool, number) for pool in pools for number in range(8)))
    assert len(admissions) == 72
    assert fullest_window(admissions, PERIOD) <= 1000
    assert fullest_window([(at, 1) for at, _ in admissions], PERIOD) <= 20


async def test_first_come_first_served(world):
    """The order in which attempts come is the order in which they pass, whichever process they come from."""
    pools = world.pools(3, concurrency=1)
    held, passed = await pools[0].acquire(), []

    async def come(number):
        permit = await pools[number % 3].acquire()
        passed.append(number)
        permit.settle()

    tasks = []
    for number in range(9):
        tasks.append(asyncio.ensure_future(come(number)))
        await until_waiting(world, pools[number % 3], number + 1)
    held.settle()
    await asyncio.gather(*tasks)
    assert passed == list(range(9))


async def test_a_large_amount_is_not_overtaken(world):
    """What came later and would fit waits behind what came first and does not."""
    first, second = world.pools(2, tokens=f"100/{RATE}", burst=1)
    await first.acquire(Amounts(60))
    large = asyncio.ensure_future(second.acquire(Amounts(90)))
    await until_waiting(world, second)
    small = asyncio.ensure_future(first.acquire(Amounts(5)))
    assert await world.admitted_at(await small) >= await world.admitted_at(await large)


async def test_what_was_not_used_comes_back_to_those_who_wait(world):
    """A reservation of 90 of which 10 were used leaves room for 90 at once, in another process too."""
    first, second = world.pools(2, tokens="100/min", burst=1)
    permit = await first.acquire(Amounts(30, 60))
    waiting = asyncio.ensure_future(second.acquire(Amounts(90)))
    await until_waiting(world, first)
    permit.settle(used(5, 5))
    later = await asyncio.wait_for(waiting, 10)
    assert await world.admitted_at(later) is not None
    assert [rate.left for rate in (await world.left(second)).rates] == [0]


@pytest.mark.parametrize("limit", [{"requests": "2/min"}, {"concurrency": 2}])
async def test_an_attempt_that_may_not_wait_passes_where_there_is_room(world, limit):
    """With `max_wait: 0s` two of three pass, and the third is refused."""
    (pool,) = world.pools(max_wait=0, burst=1, **limit)
    permits = [await pool.acquire(), await pool.acquire()]
    with pytest.raises(LimitRejected, match=r"no room|used up"):
        await pool.acquire()
    assert [permit.settle() for permit in permits] == [None, None]


async def test_what_was_used_beyond_the_reservation_counts(world):
    """Used 90 where 10 were reserved: 10 are left."""
    first, second = world.pools(2, tokens=f"100/{RATE}", burst=1)
    (await first.acquire(Amounts(10))).settle(used(50, 40))
    await world.left(first)
    assert [rate.left for rate in (await world.left(second)).rates] == [10]


async def test_a_permit_is_settled_once(world):
    """The second settlement of a permit changes nothing."""
    (pool,) = world.pools(tokens="100/min", concurrency=2, burst=1)
    permit, _ = await pool.acquire(Amounts(50)), await pool.acquire(Amounts(10))
    permit.settle(used(20, 0))
    permit.settle(used(0, 0))
    left = await world.left(pool)
    assert (left.taken, left.rates[0].left) == (1, 70)


async def test_what_was_not_sent_is_given_back_whole(world):
    """An attempt that never reached the vendor leaves nothing behind."""
    (pool,) = world.pools(requests="10/min", tokens="100/min", concurrency=1, burst=1)
    (await pool.acquire(Amounts(50))).settle(AttemptResult(sent=False))
    left = await world.left(pool)
    assert (left.taken, [rate.left for rate in left.rates]) == (0, [10, 100])


async def test_what_can_never_fit_is_refused_at_once(world):
    """An amount over the rate is refused, whoever waits."""
    (pool,) = world.pools(tokens="100/min")
    with pytest.raises(LimitRejected, match="can never admit about 101 tokens"):
        await pool.acquire(Amounts(101))


async def test_a_wait_beyond_the_deadline_is_refused_at_once(world):
    """Who would have to wait a minute, and has ten seconds, is told so."""
    first, second = world.pools(2, requests="1/min")
    await first.acquire()
    with pytest.raises(LimitRejected, match=r"has no room for \d+\.\d s; only"):
        await second.acquire(waits=WaitLimits(max_wait=10))


async def test_the_queue_ahead_counts(world):
    """Those who wait in front will use what comes back first."""
    first, second = world.pools(2, requests=f"2/{RATE}", burst=1)
    await asyncio.gather(first.acquire(), first.acquire())
    waiting = [asyncio.ensure_future(first.acquire()) for _ in range(2)]
    await until_waiting(world, first, 2)
    with pytest.raises(LimitRejected, match="has no room"):
        await second.acquire(waits=WaitLimits(max_wait=1.4 * PERIOD))
    await asyncio.gather(*waiting)


async def test_a_full_queue_refuses(world):
    """`max_queue` counts those who wait in all processes."""
    first, second = world.pools(2, concurrency=1, max_queue=1)
    held = await first.acquire()
    waiting = asyncio.ensure_future(first.acquire())
    await until_waiting(world, first)
    with pytest.raises(LimitRejected, match="is full, and 1 attempts wait already"):
        await second.acquire()
    held.settle()
    (await waiting).settle()


async def test_a_long_quota_that_is_used_up_is_not_waited_for(world):
    """Nobody waits a day for a quota, where there is a bound on such waits."""
    first, second = world.pools(2, requests="1/day")
    await first.acquire()
    with pytest.raises(LimitRejected, match="has used up its requests"):
        await second.acquire(waits=WaitLimits(budget=60))


async def test_no_more_attempts_at_once_than_slots(world):
    """Eight slots, three processes of eight tasks: never nine."""
    pools, busy, most = world.pools(3, concurrency=8), [], []

    async def work(pool):
        for _ in range(2):
            permit = await pool.acquire()
            busy.append(permit)
            most.append(len(busy))
            await asyncio.sleep(0.002)
            busy.remove(permit)
            permit.settle()

    await asyncio.gather(*(work(pool) for pool in pools for _ in range(8)))
    assert max(most) == 8
    for pool in pools:
        await world.left(pool)  # each has told of all its attempts
    assert [(await world.left(pool)).taken for pool in pools] == [0, 0, 0]


async def test_who_gives_up_waiting_leaves_nothing(world):
    """A cancelled attempt holds no slot, and those behind it pass."""
    first, second = world.pools(2, concurrency=1)
    held = await first.acquire()
    gone = asyncio.ensure_future(second.acquire())
    await until_waiting(world, second)
    behind = asyncio.ensure_future(first.acquire())
    await until_waiting(world, first, 2)
    gone.cancel()
    held.settle()
    (await behind).settle()
    await world.left(first)
    left = await world.left(second)
    assert (left.taken, left.waiting) == (0, 0)


async def test_a_pause_is_the_latest_of_all_instants_told(world):
    """A later, shorter wish of a vendor shortens nothing, whichever process was told."""
    first, second = world.pools(2, requests="10/min", burst=1)
    one, two = await first.acquire(), await second.acquire()
    one.settle(limited(50))
    await world.left(first)
    two.settle(limited(10))
    assert (await world.left(second)).paused == pytest.approx(50, abs=2)


async def test_nobody_passes_during_a_pause(world):
    """A rate limit that one process met pauses all."""
    first, second = world.pools(2, requests="10/min", burst=1)
    told = await first.acquire()
    began = await world.admitted_at(told)
    told.settle(limited(0.1))
    assert await world.admitted_at(await second.acquire()) >= began + 0.1


async def test_a_pause_turns_away_those_who_have_no_time_for_it(world):
    """Who waits for a slot, and has less time than the vendor's pause takes, is refused when the pause begins."""
    first, second = world.pools(2, concurrency=1)
    held = await first.acquire()
    waiting = asyncio.ensure_future(second.acquire(waits=WaitLimits(budget=5)))
    await until_waiting(world, first)
    held.settle(limited(30))
    with pytest.raises(LimitRejected, match=r"is paused for (30\.0|29\.\d) s, as the vendor asked"):
        await waiting


async def test_pauses_without_a_wish_grow_until_somebody_is_answered(world):
    """A second, then two; after an answer, a second again."""
    (pool,) = world.pools(requests="1000/min", burst=1)
    permits = [await pool.acquire() for _ in range(3)]
    permits[0].settle(limited())
    assert (await world.left(pool)).paused == pytest.approx(1, abs=0.2)
    permits[1].settle(limited())  # it was under way when the pause began, and says nothing new
    assert (await world.left(pool)).paused <= 1


async def test_what_the_vendor_says_is_left_narrows(world):
    """Two are left for a minute, says the vendor: two pass, and the third is refused if it cannot wait."""
    first, second = world.pools(2, requests="100/min", burst=1)
    (await first.acquire()).settle(AttemptResult(answered=True, told={"requests": (2, 50.0)}))
    await world.left(first)
    await second.acquire()
    await second.acquire()
    with pytest.raises(LimitRejected, match="as the vendor said"):
        await second.acquire(waits=WaitLimits(budget=5))


async def test_what_the_vendor_says_never_widens(world):
    """A vendor's thousand is no room where our own rate has none."""
    (pool,) = world.pools(requests="2/min", burst=1)
    (await pool.acquire()).settle(AttemptResult(answered=True, told={"requests": (1000, 50.0)}))
    assert [rate.left for rate in (await world.left(pool)).rates] == [1]


async def test_after_a_rest_a_tenth_passes_at_once(world):
    """The remainder of a rate is spread over its period, over all processes together."""
    pools = world.pools(2, requests="60/min")
    for pool in pools:
        await world.left(pool)
    tasks = [asyncio.ensure_future(pools[number % 2].acquire()) for number in range(9)]
    await asyncio.wait(tasks, timeout=0.1)
    assert sum(task.done() for task in tasks) in (6, 7)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_an_adaptive_limit_grows_in_use_and_is_halved_by_a_rate_limit(world):
    """Four at first; each answer while all are in use makes room for one more; a rate limit halves what was in use."""
    (pool,) = world.pools(concurrency="auto")
    permits = [await pool.acquire() for _ in range(4)]
    assert (await world.left(pool)).slots == 4
    permits.pop().settle(ANSWERED)
    assert (await world.left(pool)).slots == 5
    permits += [await pool.acquire() for _ in range(2)]
    permits.pop().settle(limited(0.01))
    assert (await world.left(pool)).slots == 2


async def test_other_rates_hold_from_the_next_attempt_on(world):
    """What was admitted before a change of the options counts under the new ones."""
    (pool,) = world.pools(requests="2/min", burst=1)
    await pool.acquire()
    pool.reconfigure(LimitOptions(requests="3/min", tokens="50/min", burst=1))
    await pool.acquire(Amounts(10))
    assert [rate.left for rate in (await world.left(pool)).rates] == [1, 40]


async def test_the_picture_says_what_is_left(world):
    """Rates, slots, attempts under way and those that wait, of all processes."""
    first, second = world.pools(2, requests="10/min", tokens="100/min", concurrency=2, burst=1)
    await first.acquire(Amounts(20, 10))
    await second.acquire(Amounts(5, 5))
    waiting = asyncio.ensure_future(first.acquire())
    await until_waiting(world, first)
    left = await world.left(second)
    assert str(left) == "8 of 10 requests/min, 60 of 100 tokens/min, 0 of 2 places, 1 waiting"
    waiting.cancel()
