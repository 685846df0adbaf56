"""What holds while the store is down, and how it heals."""

import asyncio
import logging
import time

import pytest

from modelhub.core.clock import SystemClock
from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.layer import WaitLimits
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.limit.permit import AttemptResult
from modelhub.middleware.limit.rates import Amounts
from modelhub.shared.pool_client import get_client
from modelhub.telemetry.observer import Telemetry
from tests.clocks import SetForward
from tests.system.shared.conftest import until, until_waiting

QUICK = {"timeout": 0.3, "retry_interval": 0.05}


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


class AdvancedClock(SetForward, SystemClock):
    """The system's clock, which a test sets forward."""


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


async def test_what_was_admitted_meanwhile_counts_too_when_a_rate_has_been_added(fragile):
    """A reload during an outage adds a rate of which the attempts before it knew nothing."""
    (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, requests="10/min", burst=1)
    await pool.acquire()
    fragile.server.stop()
    await pool.acquire()
    pool.reconfigure(LimitOptions(requests="10/min", tokens="100/min", burst=1))
    fragile.server.start()
    await until(lambda: pool.store.health.ok)
    await pool.refresh()
    left = await pool.refresh()
    assert [rate.left for rate in left.rates] == [8, 100]


async def test_what_an_attempt_used_corrects_its_own_rate_when_a_rate_has_been_added(fragile):
    """What is told to a store that has lost its data is less what was given back of the tokens, and of nothing else."""
    (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, tokens="100/min", burst=1)
    permit = await pool.acquire(Amounts(50))
    pool.reconfigure(LimitOptions(requests="10/min", tokens="100/min", burst=1))
    permit.settle(AttemptResult(Amounts(10), answered=True))
    await pool.refresh()
    fragile.server.stop()
    fragile.server.start()
    await until(lambda: pool.store.health.ok)
    await pool.refresh()
    left = await pool.refresh()
    assert [rate.left for rate in left.rates if rate.what == "tokens"] == [90]


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
    get_client(second).ping()
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


@pytest.mark.parametrize("turns", range(3))
async def test_whoever_can_go_on_only_long_after_the_stand_in_admitted_it_counts_from_then_on(fragile, turns):
    """Whichever of the loop's turns between takes long: a minute that begins with its request holds no more."""
    clock = AdvancedClock()
    (pool,) = fragile.pools(shared={**QUICK, "replicas": 1}, clock=clock, requests="2/min", concurrency=1, burst=1)
    fragile.server.stop()
    held = await pool.acquire()
    waiting = asyncio.create_task(pool.acquire())
    await until(lambda: pool.left().waiting)
    held.settle()
    for _ in range(turns):
        await asyncio.sleep(0)
    clock.ahead = 30
    await waiting
    clock.ahead = 65
    assert pool.left().rates[0].left == 1
