"""What only a store has: leases, clocks, lost answers and messages, and data that are lost."""

import asyncio
import logging
import time

import pytest

from modelhub.core.clock import SystemClock
from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.layer import Amounts, AttemptResult, WaitLimits
from modelhub.shared.pool_client import get_client
from tests.system.shared.conftest import until, until_waiting

ANSWERED = AttemptResult(answered=True)


class SkewedClock(SystemClock):
    """A machine whose clock is a second ahead."""

    def now(self):
        return time.monotonic() + 1.0


async def kill(pool):
    """Let the process of *pool* end without a word to the store."""
    for link in list(pool.store.links.values()):
        link.is_closed = True
        await link.connection.aclose()
    pool.store.links.clear()


async def test_a_killed_process_loses_its_slots_with_its_lease(shared):
    """Its two slots are free after the lease, and not before."""
    dead, living = shared.pools(2, shared={"lease": 0.3}, concurrency=2)
    first, _ = await dead.acquire(), await dead.acquire()
    began = await shared.admitted_at(first)
    await kill(dead)
    permit = await asyncio.wait_for(living.acquire(), 10)
    assert await shared.admitted_at(permit) - began >= 0.3


async def test_a_slot_is_renewed_while_its_attempt_lasts(shared):
    """A stream that takes three leases keeps its slot all the time."""
    busy, other = shared.pools(2, shared={"lease": 0.12}, concurrency=1)
    stream = await busy.acquire()
    waiting = asyncio.ensure_future(other.acquire())
    done, _ = await asyncio.wait({waiting}, timeout=0.36)
    assert not done
    stream.settle(ANSWERED)
    (await waiting).settle()


async def test_a_ticket_of_a_killed_process_holds_nobody_up(shared, monkeypatch):
    """Those behind it pass when its process has not been heard of for a while."""
    monkeypatch.setattr("modelhub.shared.pool_state.PATIENCE", 0.2)
    monkeypatch.setattr("modelhub.shared.pool_client.PATIENCE", 0.2)
    holder, dead, living = shared.pools(3, concurrency=1)
    held = await holder.acquire()
    lost = asyncio.ensure_future(dead.acquire())
    await until_waiting(shared, holder)
    await kill(dead)
    waiting = asyncio.ensure_future(living.acquire())
    await asyncio.sleep(0.25)
    held.settle()
    (await waiting).settle()
    lost.cancel()


async def test_the_clock_of_a_process_does_not_matter(shared):
    """One clock is a second ahead, and no window is over."""
    (true,), (skewed,) = shared.pools(requests="10/200ms"), shared.pools(clock=SkewedClock(), requests="10/200ms")
    times = []

    async def work(pool):
        times.append(await shared.admitted_at(await pool.acquire(waits=WaitLimits(max_wait=5))))

    await asyncio.gather(*(work(pool) for pool in (true, skewed) for _ in range(12)))
    assert max(sum(1 for at in times if end - 0.2 <= at <= end) for end in times) <= 10


async def test_a_request_that_is_written_late_counts_from_then_on(shared):
    """What is written in time counts from its admission on, and nothing counts twice."""
    (pool,) = shared.pools(requests="10/s", burst=1)
    permit, grains = await pool.acquire(), []
    for late in (-60, 60):  # seconds; a busy machine may be late by itself
        permit.granted_at = asyncio.get_running_loop().time() - late
        permit.on_sent()
        assert (await pool.refresh()).rates[0].left == 9
        async with await shared.client() as client:
            grains.append(int((await client.lrange(pool.keys[4], -1, -1))[0]))
    assert grains[0] == int(await shared.admitted_at(permit) * 1e3)
    assert grains[1] > grains[0]


async def test_a_pause_whose_message_is_lost_turns_away_those_who_have_no_time_for_it(shared):
    """Such as one that begins while a process does not listen: the store says it with its next answer."""
    first, second = shared.pools(2, concurrency=1)
    held = await first.acquire()
    waiting = asyncio.ensure_future(second.acquire(waits=WaitLimits(budget=5)))
    await until_waiting(shared, first)
    async with await shared.client() as client:
        await client.client_kill_filter(_type="pubsub")
    held.settle(AttemptResult(limited=True, retry_after=30))
    with pytest.raises(LimitRejected, match=r"is paused for \d\d\.\d s, as the vendor asked"):
        await asyncio.wait_for(waiting, 10)


async def test_a_process_that_stood_still_since_it_was_admitted_asks_again(shared):
    """What it was admitted to long ago is given back, and its attempt passes when there is room now."""
    first, second = shared.pools(2, concurrency=1)
    held = await first.acquire()
    waiting = asyncio.ensure_future(second.acquire())
    await until_waiting(shared, first)
    client = get_client(second)
    (ticket,) = client.waiting
    client.admit(ticket, client.loop.time() - 100)
    held.settle()
    permit = await asyncio.wait_for(waiting, 5)
    assert permit.id != ticket
    await second.refresh()
    assert (await first.refresh()).taken == 1


async def test_a_permit_that_was_reserved_is_settled_once_whoever_says_so_twice(shared):
    """The settlement of an attempt is told again after an outage; it counts once."""
    (pool,) = shared.pools(tokens="100/min", burst=1)
    permit = await pool.acquire(Amounts(50))
    permit.settle(AttemptResult(Amounts(20, 0), answered=True))
    again = "settle", permit.id, False, False, False, -1, False, False
    permit.client.post(again)
    assert [rate.left for rate in (await pool.refresh()).rates] == [80]


async def test_what_a_cancelled_attempt_was_sending_for_others_is_sent_again(shared):
    """An attempt makes the call in its own task; a settlement that went with it is not lost with the task."""
    (pool,) = shared.pools(tokens="100/min", burst=1)
    permit = await pool.acquire(Amounts(50))
    async with await shared.client() as client:
        await client.client_kill_filter(_type="normal", skipme=True)  # so that the call has to wait for a connection
    permit.settle(AttemptResult(Amounts(20, 0), answered=True))
    cancelled = asyncio.create_task(pool.acquire(Amounts(10)))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    snapshot = await pool.refresh()
    assert [rate.left for rate in snapshot.rates] == [80]
    assert snapshot.taken == 0


async def test_a_call_whose_answer_was_lost_with_its_connection_is_made_again_and_counts_once(lossy):
    """So it is when a server or a proxy closes connections: it is no outage, and nothing passes twice."""
    other, pool = lossy.pools(2, requests="9/min", tokens="100/min", concurrency=5, burst=1)
    await other.refresh()  # the server knows the script now
    lossy.proxy.lose = b'"acquire"'
    permit = await pool.acquire(Amounts(50))
    snapshot = await pool.refresh()
    assert (snapshot.taken, [rate.left for rate in snapshot.rates]) == (1, [8, 50])
    lossy.proxy.lose = b'"settle"'
    permit.settle(AttemptResult(Amounts(20, 0), answered=True))
    snapshot = await pool.refresh()
    assert (snapshot.taken, [rate.left for rate in snapshot.rates]) == (0, [8, 80])
    assert (lossy.proxy.lose, pool.store.health.outages) == (b"", 0)


@pytest.mark.parametrize("lost", ["FLUSHALL", "state", "leases", "requests/60"])
async def test_what_the_store_has_lost_is_told_again(shared, lost):
    """All of it or a single key, as by eviction: what each process admitted counts again, and its slots are taken."""
    first, second = shared.pools(2, requests="10/min", concurrency=4, burst=1)
    await first.acquire()
    await second.acquire()
    await second.acquire()
    async with await shared.client() as client:
        await (client.flushall() if lost == "FLUSHALL" else client.delete(f"{first.keys[0].rpartition(':')[0]}:{lost}"))
    for pool in (first, second, first, second):
        await pool.refresh()
    left = await first.refresh()
    assert (left.taken, left.rates[0].left) == (3, 7)


async def test_those_who_wait_are_not_forgotten_with_the_data(shared):
    """A ticket that the store has lost is drawn again."""
    first, second = shared.pools(2, concurrency=1)
    held = await first.acquire()
    waiting = asyncio.ensure_future(second.acquire())
    await until_waiting(shared, first)
    async with await shared.client() as client:
        await client.flushall()
    await first.refresh()
    held.settle()
    (await asyncio.wait_for(waiting, 5)).settle()


async def test_closing_gives_everything_back(shared):
    """Slots and tickets of a hub that is closed are free at once."""
    first, second = shared.pools(2, concurrency=1)
    await first.acquire()
    await first.store.aclose()
    await asyncio.wait_for(second.acquire(), 5)


async def test_scripts_run_where_only_eval_is_allowed(shared):
    """A server that refuses EVALSHA and SCRIPT is asked by EVAL."""
    async with await shared.client() as client:
        await client.execute_command("ACL", "SETUSER", "plain", "on", ">pw", "~*", "&*", "+@all", "-evalsha", "-script")
    shared.url = shared.url.replace("unix://", "unix://plain:pw@")
    (pool,) = shared.pools(requests="10/min", burst=1)
    await pool.acquire()
    await pool.acquire()
    assert [rate.left for rate in (await pool.refresh()).rates] == [8]
    assert pool.store.health.ok


async def test_a_loss_of_data_is_logged_and_a_second_one_counts_as_an_outage(shared, caplog):
    """Whoever evicts or deletes keys again and again keeps no limits: then holds what the file says."""
    with caplog.at_level(logging.WARNING, "modelhub"):
        (pool,) = shared.pools(shared={"replicas": 1}, requests="100/min", burst=1)
        for expected in (["shared_store_lost_data"], ["shared_store_lost_data", "shared_store_down"]):
            await pool.refresh()
            async with await shared.client() as client:
                await client.delete(pool.keys[1])
            await pool.refresh()
            assert [record.event for record in caplog.records] == expected
    assert "again and again" in pool.store.health.error
    await pool.acquire(waits=WaitLimits(max_wait=1))


async def test_each_process_learns_of_each_loss_while_its_own_call_is_under_way(lossy, own_server):
    """So all of them begin to do without the store at once: nobody takes what others count as their part."""
    options = {"requests": "100/min", "burst": 1}
    (busy,) = lossy.pools(shared={"replicas": 2}, **options)
    (other,) = lossy.pools(shared={"replicas": 2, "url": own_server.url()}, **options)
    for pool in (busy, other):
        await pool.refresh()
    lossy.proxy.hold = b'"ping"'
    under_way = asyncio.create_task(busy.refresh())
    async with await lossy.client() as client:
        for _ in range(2):
            await client.delete(other.keys[1])
            await other.refresh()
    await until(lambda: not busy.store.health.ok)
    assert "again and again" in busy.store.health.error
    lossy.proxy.released.set()
    await under_way


async def test_a_loss_that_an_earlier_version_tells_is_asked_about(shared):
    """Its message does not say the epoch; whoever hears it asks the store."""
    (pool,) = shared.pools(requests="10/min")
    await pool.refresh()
    channel = f"{pool.store.options.prefix}:all"
    async with await shared.client() as client, asyncio.timeout(10):
        while not await client.publish(channel, f"{pool.key}\nlost"):
            await asyncio.sleep(0.002)  # nobody listens yet
        counts = pool.store.process_counts
        counted = counts[pool.key]
        await client.publish(channel, f"{pool.key}\nlost")
        await until(lambda: counts[pool.key] is not counted)
