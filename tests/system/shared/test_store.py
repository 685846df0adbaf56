"""What only a store has: leases, clocks, data that are lost, servers that are down, and those that refuse."""

import asyncio
import importlib.util
import logging
import os
import subprocess
import sys
import time

import pytest

from modelhub import Hub
from modelhub.core.clock import SystemClock
from modelhub.core.errors import ConfigError, LimitRejected
from modelhub.middleware.breaker.layer import Breaker, BreakerState
from modelhub.middleware.limit.layer import Amounts, AttemptResult, WaitLimits
from modelhub.middleware.limit.options import LimitOptions
from modelhub.telemetry.observer import Telemetry
from modelhub.testing import FaultServer, faults, reroute_config
from tests.system.shared.conftest import until_waiting

ANSWERED = AttemptResult(answered=True)


class SkewedClock(SystemClock):
    """A machine whose clock is a second ahead."""

    def now(self):
        return time.monotonic() + 1.0


async def until(condition):
    """Return when *condition* is true. Raises TimeoutError if it never is."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


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
    monkeypatch.setattr("modelhub.shared.pool.PATIENCE", 0.2)
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
    client = second.store.link().client(second)
    (ticket,) = client.waiting
    client.admit(ticket, client.loop.time() - 100)
    held.settle()
    permit = await asyncio.wait_for(waiting, 5)
    assert permit.id != ticket
    await second.refresh()
    assert (await first.refresh()).taken == 1


async def test_the_request_of_a_call_tells_its_permit_when_it_is_written(shared, monkeypatch):
    """So it is with a model that is asked over HTTP."""
    written = []
    monkeypatch.setattr("modelhub.shared.permit.SharedPermit.on_sent", lambda permit: written.append(permit.state))
    async with FaultServer() as server:
        models = {"m": {"provider": "openai", "model_name": "gpt-5-mini", "limit": "tier"}}
        options = config(shared.url, models=models)
        options = {**reroute_config(options, server), "shared": options["shared"]}
        async with Hub.from_dict(options, environ={}) as hub:
            await hub.get("m")("hi")
    assert [state.name for state in written] == ["HELD"]


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
        await first.acquire(waits=WaitLimits(max_wait=0.1))
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
        await pools[0].acquire(waits=WaitLimits(max_wait=0.1))


async def test_the_processes_of_a_limit_count_for_one_that_fewer_of_them_use(fragile):
    """What only one of two processes has asked for until now, such as a fallback's limit, both may use in an outage."""
    first, second = fragile.pools(2, requests="10/min")
    own = first.store.make_pool("own", LimitOptions(requests="4/min", burst=1))
    await second.acquire()
    await first.refresh()
    await own.acquire()
    await own.refresh()
    fragile.server.stop()
    await own.acquire()
    with pytest.raises(LimitRejected):
        await own.acquire(waits=WaitLimits(max_wait=0.1))
    assert first.store.health.replicas == 2


class AdvancedClock(SystemClock):
    """A clock that a test sets forward."""

    ahead = 0.0

    def now(self):
        return time.monotonic() + self.ahead


async def test_processes_that_were_counted_too_long_ago_are_no_number_to_divide_by(fragile):
    """After a pause of two minutes there may be any number of them: only `replicas` says how many."""
    clock = AdvancedClock()
    (counting,) = fragile.pools(clock=clock, requests="9/min")
    (configured,) = fragile.pools(shared={"replicas": 3}, clock=clock, requests="9/min", burst=1)
    for pool in (counting, configured):
        await pool.refresh()
        await pool.store.aclose()  # as when its event loop ends
    clock.ahead = 120
    fragile.server.stop()
    with pytest.raises(LimitRejected, match="nor how many processes share it now"):
        await counting.acquire()
    await configured.acquire()


async def test_a_forked_child_was_counted_by_nobody(fragile):
    """In an outage it refuses its part, which is none of those that its parent knows of."""
    (pool,) = fragile.pools(requests="9/min")
    await pool.refresh()
    fragile.server.stop()
    await pool.acquire()
    pool.store.reset_after_fork()
    with pytest.raises(LimitRejected, match="nor how many processes share it now"):
        await pool.acquire()


async def test_a_process_with_a_long_lease_is_counted_while_its_attempt_lasts(shared, monkeypatch):
    """It calls as often as one that has nothing under way: here it learns in time that another one has left."""
    monkeypatch.setattr("modelhub.shared.pool_client.PATIENCE", 0.03)
    monkeypatch.setattr("modelhub.shared.pool_client.PRESENCE", 0.06)
    first, second = shared.pools(2, shared={"lease": 3600}, concurrency=2)
    await first.acquire()
    await second.acquire()
    beyond_first_call = time.monotonic() + 0.05
    await until(lambda: first.store.health.replicas == 2 and time.monotonic() > beyond_first_call)
    await second.store.aclose()
    await until(lambda: first.store.health.replicas == 1)


async def test_what_the_others_had_used_is_not_passed_again(fragile):
    """One process used eight of ten: of the two that are left each may pass one, until that period is over."""
    first, second = fragile.pools(2, shared={**QUICK, "replicas": 2}, requests="10/min", burst=1)
    for _ in range(8):
        await first.acquire()
    await second.refresh()
    fragile.server.stop()
    await second.acquire()
    with pytest.raises(LimitRejected):
        await second.acquire(waits=WaitLimits(max_wait=0.1))


async def test_nothing_passes_until_the_others_can_have_told_what_they_passed(fragile):
    """What comes when the store is back waits as long as others may take to find it."""
    (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, requests="10/min", burst=1)
    await pool.acquire()
    fragile.server.stop()
    await pool.acquire()
    fragile.server.start()
    await until(lambda: pool.store.health.ok)
    up_since = pool.store.monitor.up_since
    await pool.acquire()
    assert time.monotonic() - up_since > QUICK["retry_interval"]


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
        await pool.acquire(waits=WaitLimits(max_wait=0.1))


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
    await until_waiting(fragile, first)
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
    (pool,) = fragile.pools(shared={**QUICK, "timeout": 5, "replicas": 1}, requests="100/min")
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


async def left(hub):
    """How many requests are left for all."""
    return (await hub.limits["tier"].refresh()).rates[0].left


async def test_hubs_of_one_file_share_their_limits(shared):
    """What one has used is not left for the other."""
    options = config(shared.url)
    async with Hub.from_dict(options) as one, Hub.from_dict(options) as two:
        await one.get("m")("hi")
        await two.get("m")("hi")
        assert await left(one) == 8
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


def test_event_loops_of_one_process_share_their_limits(shared_url):
    """Code without an event loop, and one loop after the other: each call counts, and no slot is left behind."""
    with Hub.from_dict(config(shared_url, limits={"tier": {"requests": "10/min", "concurrency": 1}})) as hub:
        hub.get("m").sync("hi")

        async def ask():
            await hub.get("m")("hi")
            return await left(hub), (await hub.limits["tier"].refresh()).taken

        assert asyncio.run(ask()) == (8, 0)
        assert asyncio.run(ask()) == (7, 0)


def test_a_forked_child_is_a_process_of_its_own(shared_url):
    """It has neither the parent's slots nor its connections, and its calls count."""
    options = config(shared_url, limits={"tier": {"requests": "10/min", "concurrency": 1}})
    with Hub.from_dict(options) as hub:
        hub.get("m").sync("hi")
        child = os.fork()
        if child == 0:
            answered = False
            try:
                answered = hub.get("m").sync("hi").text == "hello"
                hub.close()
            finally:
                os._exit(0 if answered else 1)
        assert os.waitpid(child, 0)[1] == 0
        hub.get("m").sync("hi")
        assert asyncio.run(left(hub)) == 7


async def test_what_a_vendor_answered_to_one_process_cools_the_model_in_all(shared):
    """A rate limit of one process: the other asks the next model at once; a failure to connect stays with one."""
    models = {"a": {"provider": "openai", "model_name": "gpt-5-mini", "retry": {"max_attempts": 1}}}
    models["b"] = {"provider": "scripted", "reply": "from b"}
    async with FaultServer() as server:
        server.script("a", [faults.status(429, retry_after=60)])
        written = config(shared.url, models=models, chains={"c": {"models": ["a", "b"]}})
        options = {**reroute_config(written, server), "shared": written["shared"]}
        async with Hub.from_dict(options, environ={}) as one, Hub.from_dict(options, environ={}) as two:
            await two.get("b")("hi")
            await until(lambda: two.shared.links)
            assert (await one.get("c")("hi")).text == "from b"
            breaker = next(layer for layer in two.get("a").models[0].stack() if isinstance(layer, Breaker))
            await until(lambda: breaker.state.until)
            reply = await two.get("c")("hi")
    assert [(attempt.model, attempt.outcome) for attempt in reply.attempts] == [("a", "BreakerOpen"), ("b", "ok")]


def test_what_is_rerouted_shares_nothing(tmp_path):
    """A drill of a file keeps its limits to itself, whatever server the file names, and whether that is known."""
    file = tmp_path / "models.yaml"
    file.write_text(
        "version: 1\nshared: {url: '${SOME_STORE}'}\nlimits: {tier: {requests: 10/10s}}\n"
        "models: {m: {provider: scripted, reply: hi, limit: tier}}\n"
    )
    with FaultServer().running() as server:
        rerouted = [reroute_config(source, server) for source in (file, config("${SOME_STORE}"))]
    assert [("shared" in options, list(options["limits"])) for options in rerouted] == [(False, ["tier"])] * 2
    assert rerouted[0]["limits"]["tier"]["requests"] == ["10/10s"]


async def test_a_process_that_begins_later_hears_of_cooldowns(shared):
    """A link that is made asks what it has missed."""
    first, second = shared.store(), shared.store()
    known, late = BreakerState(), BreakerState()
    first.cooldowns.watch(("m", "key"), known)
    known.on_open(50.0)
    async with await shared.client() as client:
        while not await client.exists(f"{{{first.options.prefix}:cooldowns}}"):
            await asyncio.sleep(0.002)
    second.cooldowns.watch(("m", "key"), late)
    second.cooldowns.listen()
    await until(lambda: late.until)
    assert late.until - time.monotonic() == pytest.approx(50, abs=5)


async def test_closing_finishes_what_is_being_told_and_is_no_outage(shared):
    """A cooldown that was met just before is told, and a connection that this process closes is not the store's end."""
    first, second = shared.store(), shared.store()
    known, late = BreakerState(), BreakerState()
    first.cooldowns.watch(("m", "key"), known)
    first.link()
    known.on_open(50.0)
    await first.aclose()
    assert (first.health.ok, first.health.outages) == (True, 0)
    second.cooldowns.watch(("m", "key"), late)
    second.cooldowns.listen()
    await until(lambda: late.until)


async def test_a_link_that_closes_does_not_join_again(shared):
    """Not even if it learns just then that the store is back: else it would be counted for another minute."""
    first, second = shared.pools(2, requests="10/min")
    await first.refresh()
    await second.refresh()
    (link,) = first.store.links.values()
    leaving = asyncio.ensure_future(first.store.aclose())
    while not leaving.done():
        link.store_changed(is_down=False)
        await asyncio.sleep(0)
    await second.refresh()
    assert second.store.health.replicas == 1


async def test_who_comes_while_a_link_closes_is_admitted_by_another(shared):
    """An event loop that ends a link may go on itself."""
    (pool,) = shared.pools(requests="10/min", burst=1)
    await pool.acquire()
    closing = asyncio.ensure_future(pool.store.aclose())
    permits = []
    while not closing.done():
        permits.append(asyncio.ensure_future(pool.acquire()))
        await asyncio.sleep(0)
        if len(permits) == 9:
            break
    await asyncio.wait_for(asyncio.gather(*permits), 10)
    await closing


async def test_an_outage_is_a_metric(fragile):
    """`modelhub.shared.down` is 1 while the store is down, and 0 afterwards."""
    metrics = pytest.importorskip("opentelemetry.sdk.metrics")
    export = pytest.importorskip("opentelemetry.sdk.metrics.export")
    reader = export.InMemoryMetricReader()
    telemetry = Telemetry(meter_provider=metrics.MeterProvider([reader]))
    (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, requests="100/min")
    pool.store.monitor.record = telemetry.record_shared_store

    def value():
        data = reader.get_metrics_data()
        found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return [m.data.data_points[0].value for m in found if m.name == "modelhub.shared.down"]

    await pool.acquire()
    with fragile.server.hung():
        await pool.acquire()
        assert value() == [1]
    await until(lambda: pool.store.health.ok)
    assert value() == [0]


def test_without_the_section_nothing_of_it_is_imported():
    """No module of the store, and no client library."""
    code = (
        "import sys; from modelhub import Hub; "
        "Hub.from_dict({'version': 1, 'models': {'m': {'provider': 'scripted', 'reply': 'x'}}}).get('m').sync('hi'); "
        "print([m for m in sys.modules if m.startswith(('redis', 'modelhub.shared.')) and not m.endswith('.options')])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_missing_client_library_is_said_with_its_place(monkeypatch):
    """`shared:` without the extra is a problem of the file, with what to install."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "redis" else find(name, *rest))
    with pytest.raises(ConfigError, match=r"needs the client of Redis and Valkey(?s:.*)modelhub-chains\[redis\]"):
        Hub.from_dict(config("redis://localhost"))


@pytest.mark.parametrize("url", ["http://h", "redis://", "localhost:6379", "redis://me:geheim@h:99999999"])
def test_an_address_that_is_none_is_refused_and_not_shown(url):
    """The problem names the key; a password in the address is masked."""
    with pytest.raises(ConfigError) as caught:
        Hub.from_dict(config(url))
    assert "expected an address such as redis://host:6379/0" in str(caught.value)
    assert "geheim" not in str(caught.value)
