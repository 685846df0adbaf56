"""What only a store has: leases, clocks, data that are lost, servers that are down, and those that refuse."""

import asyncio
import logging
import os
import time

import pytest

from modelhub import Hub
from modelhub.core.clock import SystemClock
from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.layer import Amounts, AttemptResult
from modelhub.middleware.limit.options import LimitOptions

ANSWERED = AttemptResult(answered=True)


class SkewedClock(SystemClock):
    """A machine whose clock is a second ahead."""

    def now(self):
        return time.monotonic() + 1.0


async def until(condition):
    """Return when *condition* is true."""
    while not condition():
        await asyncio.sleep(0.002)


async def kill(pool):
    """Let the process of *pool* end without a word to the store."""
    for link in list(pool.store._links.values()):
        link.is_closed = True
        await link.connection.aclose()
    pool.store._links.clear()


async def test_a_killed_process_loses_its_slots_with_its_lease(shared):
    """Its two slots are free after the lease, and not before."""
    dead, living = shared.pools(2, shared={"lease": 0.3}, concurrency=2)
    first, _ = await dead.acquire(), await dead.acquire()
    began = await shared.admitted_at(first)
    await kill(dead)
    permit = await living.acquire()
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
    monkeypatch.setattr("modelhub.shared.pool.PATIENCE", 0.2)
    monkeypatch.setattr("modelhub.shared.pool_client.PATIENCE", 0.2)
    holder, dead, living = shared.pools(3, concurrency=1)
    held = await holder.acquire()
    lost = asyncio.ensure_future(dead.acquire())
    while (await shared.left(holder)).waiting < 1:
        await asyncio.sleep(0.001)
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
        times.append(await shared.admitted_at(await pool.acquire(max_wait=5)))

    await asyncio.gather(*(work(pool) for pool in (true, skewed) for _ in range(12)))
    assert max(sum(1 for at in times if end - 0.2 <= at <= end) for end in times) <= 10


async def test_a_permit_that_was_reserved_is_settled_once_whoever_says_so_twice(shared):
    """The settlement of an attempt is told again after an outage; it counts once."""
    (pool,) = shared.pools(tokens="100/min", burst=1)
    permit = await pool.acquire(Amounts(50))
    permit.settle(AttemptResult(Amounts(20, 0), answered=True))
    again = {"op": "settle", "id": permit.id, "sent": False, "answered": False, "limited": False, "retry_after": -1}
    permit.client.post(again)
    assert [rate.left for rate in (await pool.refresh()).rates] == [80]


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
    while (await first.refresh()).waiting < 1:
        await asyncio.sleep(0.001)
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


# -- outages ------------------------------------------------------------------------------------------------------


QUICK = {"timeout": 0.1, "retry_interval": 0.05}


async def test_a_store_that_is_down_leaves_each_process_its_part(fragile):
    """Two processes share ten: each may pass five more a minute, less what it has passed, and no more."""
    first, second = fragile.pools(2, shared={**QUICK, "replicas": 2}, requests="10/min", burst=1)
    await first.acquire()
    await second.acquire()
    fragile.server.stop()
    for _ in range(4):
        await first.acquire()
    with pytest.raises(LimitRejected):
        await first.acquire(max_wait=0.1)
    health = first.store.health
    assert (health.ok, health.limits, health.error is not None) == (False, "split", True)


async def test_without_replicas_the_processes_are_counted(fragile):
    """Three processes were seen: each keeps to a third."""
    pools = fragile.pools(3, shared=QUICK, requests="9/min", burst=1)
    for pool in pools:
        await pool.acquire()
    await asyncio.gather(*(pool.refresh() for pool in pools))
    assert pools[0].store.health.replicas == 3
    fragile.server.stop()
    await pools[0].acquire()
    await pools[0].acquire()
    with pytest.raises(LimitRejected):
        await pools[0].acquire(max_wait=0.1)


async def test_who_never_reached_the_store_refuses_its_part(fragile):
    """Nobody knows how many processes there are: nobody passes N times the limit."""
    fragile.server.stop()
    (pool,) = fragile.pools(shared=QUICK, requests="9/min")
    with pytest.raises(LimitRejected, match="nor how many processes share it"):
        await pool.acquire()


async def test_the_file_may_refuse(fragile):
    """`when_down: {limits: refuse}`: attempts are refused, and say why."""
    (pool,) = fragile.pools(shared={**QUICK, "when_down": {"limits": "refuse"}}, requests="9/min")
    await pool.acquire()
    fragile.server.stop()
    with pytest.raises(LimitRejected, match="while the shared store is down"):
        await pool.acquire()


async def test_the_file_may_let_each_process_alone(fragile):
    """`when_down: {limits: alone}`: each keeps to the whole limit."""
    (pool,) = fragile.pools(shared={**QUICK, "when_down": {"limits": "alone"}}, requests="3/min", burst=1)
    await pool.acquire()
    fragile.server.stop()
    await pool.acquire()
    await pool.acquire()
    with pytest.raises(LimitRejected):
        await pool.acquire(max_wait=0.1)


async def test_it_heals_by_itself_and_what_was_admitted_meanwhile_counts(fragile):
    """The server comes back empty: what all had admitted before and meanwhile is told to it."""
    (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, requests="10/min", concurrency=5, burst=1)
    await pool.acquire()
    fragile.server.stop()
    await pool.acquire()
    assert not pool.store.health.ok
    fragile.server.start()
    await until(lambda: pool.store.health.ok)
    await pool.refresh()
    left = await pool.refresh()
    assert (left.taken, left.rates[0].left) == (2, 8)


async def test_a_server_that_hangs_holds_nobody_longer_than_the_timeout(fragile):
    """An attempt that asks a server that does not answer goes on without it; those that waited there do too."""
    first, second = fragile.pools(2, shared={**QUICK, "replicas": 1}, requests="10/min", concurrency=2, burst=1)
    held = await first.acquire()
    with fragile.server.hung():
        began = time.monotonic()
        (await second.acquire()).settle()
        (await first.acquire()).settle()
        assert time.monotonic() - began < 2
        assert not first.store.health.ok
    await until(lambda: first.store.health.ok and second.store.health.ok)
    held.settle()
    await first.refresh()
    assert (await second.refresh()).taken == 0


async def test_those_in_the_queue_of_a_store_that_goes_down_go_on_without_it(fragile):
    """Nobody waits for a store that is gone."""
    first, second = fragile.pools(2, shared={**QUICK, "replicas": 2}, concurrency=2)
    held = [await first.acquire(), await first.acquire()]
    waiting = asyncio.ensure_future(second.acquire())
    while (await first.refresh()).waiting < 1:
        await asyncio.sleep(0.001)
    fragile.server.stop()
    second.store.link().client(second).ping()
    (await asyncio.wait_for(waiting, 5)).settle()
    for permit in held:
        permit.settle()


async def test_an_outage_is_said_once_at_its_begin_and_at_its_end(fragile, caplog):
    """A warning when it begins, with what holds meanwhile, and one when it is over; the password is in neither."""
    fragile.url = fragile.url.replace("unix://", "unix://default:geheim@")
    with caplog.at_level(logging.WARNING, "modelhub"):
        (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, requests="100/min", burst=1)
        await pool.acquire()
        fragile.server.stop()
        for _ in range(3):
            await pool.acquire()
        fragile.server.start()
        await until(lambda: pool.store.health.ok)
    assert [record.event for record in caplog.records] == ["shared_store_down", "shared_store_up"]
    assert "limits: split, budgets: refuse" in caplog.records[0].getMessage()
    assert "geheim" not in caplog.text + repr(pool.store) + repr(pool.store.options) + repr(pool.store.health)


async def test_a_server_that_is_full_counts_as_down(fragile):
    """A server that refuses to write is said to be down, with its own reason."""
    (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, requests="100/min")
    async with await fragile.client() as client:
        await client.config_set("maxmemory", "1")
        while pool.store.health.ok:
            await pool.acquire()
        assert "OutOfMemory" in pool.store.health.error
        await client.config_set("maxmemory", "0")
    await until(lambda: pool.store.health.ok)


# -- processes and hubs --------------------------------------------------------------------------------------------


def config(url, **sections):
    """A file whose model has a limit that is shared."""
    return {
        "version": 1,
        "shared": {"url": url, "prefix": f"hub-{os.getpid()}-{time.monotonic_ns()}"},
        "limits": {"tier": {"requests": "10/min", "burst": 1}},
        "models": {"m": {"provider": "scripted", "reply": "hello", "limit": "tier"}},
        **sections,
    }


async def test_hubs_of_one_file_share_their_limits(shared):
    """What one has used is not left for the other."""
    options = config(shared.url)
    async with Hub.from_dict(options) as one, Hub.from_dict(options) as two:
        await one.get("m")("hi")
        await two.get("m")("hi")
        assert [rate.left for rate in (await one.limits["tier"].refresh()).rates] == [8]
        assert one.shared.health.ok


async def test_a_pool_that_is_forgotten_leaves_nothing_in_the_process(shared):
    """Until then each who asks for it gets the same one, with the latest options."""
    (pool,) = shared.pools(concurrency=1)
    store = pool.store
    again = store.make_pool(pool.name, LimitOptions(concurrency=2))
    assert again is pool
    assert pool.options.concurrency == 2
    permit = await pool.acquire()
    assert store.link().find_client(pool) is not None
    await store.forget_pool(pool)
    assert store.link().find_client(pool) is None
    permit.settle()
    assert store.make_pool(pool.name, LimitOptions(concurrency=2)) is not pool
