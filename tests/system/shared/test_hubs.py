"""Hubs that share their limits: of several processes, event loops and models."""

import asyncio
import importlib.util
import os
import subprocess
import sys
import time

import pytest

from modelhub import Hub
from modelhub.core.errors import ConfigError
from modelhub.middleware.breaker.layer import Breaker, BreakerState
from modelhub.middleware.limit.options import LimitOptions
from modelhub.testing import FaultServer, faults, reroute_config
from tests.system.shared.conftest import until


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


async def test_the_request_of_a_call_tells_its_permit_when_it_is_written(shared, monkeypatch):
    """So it is with a model that is asked over HTTP."""
    written = []
    monkeypatch.setattr("modelhub.shared.pool_client.SharedPermit.on_sent", lambda permit: written.append(permit.state))
    async with FaultServer() as server:
        models = {"m": {"provider": "openai", "model_name": "gpt-5-mini", "limit": "tier"}}
        options = config(shared.url, models=models)
        options = {**reroute_config(options, server), "shared": options["shared"]}
        async with Hub.from_dict(options, environ={}) as hub:
            await hub.get("m")("hi")
    assert [state.name for state in written] == ["HELD"]


async def test_a_pool_that_is_forgotten_leaves_nothing_in_the_process(shared):
    """Until then each who asks for it gets the same one, with the latest options."""
    (pool,) = shared.pools(concurrency=1)
    store = pool.store
    again = store.make_pool(pool.name, LimitOptions(concurrency=2))
    assert again is pool
    assert pool.options.concurrency == 2
    permit = await pool.acquire()
    assert pool.key in store.link().clients
    await store.forget_pool(pool)
    assert pool.key not in store.link().clients
    permit.settle()
    assert store.make_pool(pool.name, LimitOptions(concurrency=2)) is not pool


async def test_a_pool_that_is_forgotten_does_not_count_processes_any_more(shared):
    """Not even by an answer that was under way when it was forgotten."""
    first, second = shared.pools(2, requests="10/min")
    await second.refresh()
    await first.refresh()
    assert first.store.health.replicas == 2
    asking = asyncio.ensure_future(first.refresh())
    await asyncio.sleep(0)
    await first.store.forget_pool(first)
    await asking
    assert first.store.health.replicas is None


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


async def test_a_hub_whose_file_names_a_store_later_shares_from_then_on(shared):
    """What a vendor answers to it after the reload cools the model in a hub that named the store from the beginning."""
    models = {"a": {"provider": "openai", "model_name": "gpt-5-mini", "retry": {"max_attempts": 1}}}
    models["b"] = {"provider": "scripted", "reply": "from b"}
    async with FaultServer() as server:
        server.script("a", [faults.status(429, retry_after=60)])
        written = config(shared.url, models=models, chains={"c": {"models": ["a", "b"]}})
        alone = reroute_config(written, server)
        options = {**alone, "shared": written["shared"]}
        async with Hub.from_dict(alone, environ={}) as one, Hub.from_dict(options, environ={}) as two:
            chain = one.get("c")
            one.reload(options)
            await two.get("b")("hi")
            await until(lambda: two.shared.links)
            assert (await chain("hi")).text == "from b"
            await until(lambda: two.get("a").models[0].cooldown())


async def test_models_of_callers_keys_share_from_a_reload_on_that_names_a_store(shared):
    """Their limits and breakers are made anew, in the store."""
    entry = {"provider": "openai", "model_name": "gpt-5-mini", "limit": "tier"}
    async with FaultServer() as server:
        written = config(shared.url, models={"m": entry})
        alone = reroute_config(written, server)
        alone["models"]["m"]["api_key"] = "${call:openai}"
        async with Hub.from_dict(alone, environ={}) as hub:
            chain = hub.get("m").with_keys(openai="k")
            await chain("hi")
            hub.reload({**alone, "shared": written["shared"]})
            await chain("hi")
            assert hub.shared.links


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
