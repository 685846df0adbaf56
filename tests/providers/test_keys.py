"""Several keys of one model, against a server that tells them apart."""

import pickle
import random

import pytest
import pytest_asyncio

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.errors import AllModelsFailed, AuthenticationFailed, CallError, NotConfigured, RequestRefused
from modelhub.core.events import ArmEjected, FellBack, Waiting
from tests.providers.keyed_server import serving


@pytest_asyncio.fixture(name="server")
async def _server():
    async with serving() as server:
        yield server


@pytest.fixture(name="events")
def _events():
    return []


@pytest.fixture(name="make")
def _make(server, events):
    """A hub of one model with *keys*."""

    def make(keys, *, environ=None, chains=None, seed=0, **entry):
        config = {
            "version": 1,
            "defaults": {"retry": {"max_attempts": 1}},
            "models": {
                "gpt": {"provider": "openai", "model_name": "m", "base_url": server.url, "keys": keys, **entry},
                "last": {"provider": "scripted", "reply": "last"},
            },
            "chains": chains or {},
        }
        services = Services(random=random.Random(seed), observers=(events.append,))
        return Hub.from_dict(config, environ=environ or {}, services=services)

    return make


def keys(*names, **weights):
    return [{"api_key": f"key-{name}", "name": name, "weight": weights.get(name, 1)} for name in names]


async def test_calls_are_shared_over_the_keys(server, make):
    """Under one name: who calls does not see which key it was, the attempt says it."""
    async with make(keys("a", "b", a=3)) as hub:
        replies = [await hub.get("gpt")("hi") for _ in range(60)]
    assert 30 < server.asked["key-a"] < 58
    assert server.asked["key-a"] + server.asked["key-b"] == 60
    assert {(reply.model, reply.requested) for reply in replies} == {("gpt", "gpt")}
    assert {reply.attempts[0].arm for reply in replies} == {"gpt#a", "gpt#b"}


async def test_a_key_that_is_refused_is_asked_once(server, make, events):
    """The other key answers the same call, and all that follow; one event says so, without the key."""
    server.refused["key-a"] = 401
    async with make(keys("a", "b", a=1000)) as hub:
        replies = [await hub.get("gpt")("hi") for _ in range(20)]
    assert server.asked == {"key-a": 1, "key-b": 20}
    assert [attempt.outcome for attempt in replies[0].attempts] == ["AuthenticationFailed", "ok"]
    (event,) = [event for event in events if isinstance(event, ArmEjected)]
    assert (event.model, event.arm, event.chain) == ("gpt", "gpt#a", "gpt")
    assert "key-a" not in repr(events)
    assert {(event.arm, event.to_arm) for event in events if isinstance(event, FellBack)} == {("gpt#a", "gpt#b")}


async def test_an_empty_account_is_asked_once(server, make):
    """As a key that is refused."""
    server.refused["key-a"] = 402
    async with make(keys("a", "b", a=1000)) as hub:
        assert {(await hub.get("gpt")("hi")).text for _ in range(10)} == {"for key-b"}
    assert server.asked["key-a"] == 1


async def test_a_rate_limit_is_of_its_key(server, make):
    """The other one answers at once, and is not paused."""
    server.refused["key-a"], server.retry_after = 429, 30
    async with make(keys("a", "b", a=1000), limit={"requests_per_minute": 600}) as hub:
        replies = [await hub.get("gpt")("hi") for _ in range(10)]
    assert server.asked == {"key-a": 1, "key-b": 10}
    assert [attempt.outcome for attempt in replies[0].attempts] == ["RateLimited", "ok"]
    assert max(attempt.wait for reply in replies for attempt in reply.attempts) < 1


async def test_all_keys_are_asked_before_the_next_model(server, make):
    """And then it answers."""
    server.refused = {"key-a": 401, "key-b": 429, "key-c": 503}
    async with make(keys("a", "b", "c"), chains={"main": {"models": ["gpt", "last"]}}) as hub:
        reply = await hub.get("main")("hi")
    assert (reply.text, sum(server.asked.values())) == ("last", 3)


async def test_what_the_model_refuses_is_not_asked_again_with_another_key(server, make):
    """It would refuse it again."""
    server.refused = {"key-a": 400, "key-b": 400}
    async with make(keys("a", "b"), chains={"main": {"models": ["gpt", "last"]}}) as hub:
        assert (await hub.get("main")("hi")).text == "last"
        with pytest.raises(RequestRefused):
            await hub.get("gpt")("hi")
    assert sum(server.asked.values()) == 2


async def test_a_model_whose_keys_all_fail_raises_as_with_one_key(server, make):
    """The failure that most keys met, with the attempts of all."""
    server.refused = {"key-a": 401, "key-b": 401, "key-c": 503}
    async with make(keys("a", "b", "c")) as hub:
        with pytest.raises(AuthenticationFailed) as caught:
            await hub.get("gpt")("hi")
    assert len(caught.value.attempts) == 3


async def test_without_fallback_the_keys_of_one_model_are_asked(server, make):
    """They are one model."""
    server.refused["key-a"] = 401
    async with make(keys("a", "b", a=1000), chains={"main": {"models": ["gpt", "last"]}}) as hub:
        assert (await hub.get("main")("hi", fallback=False)).text == "for key-b"


async def test_a_key_that_is_not_set_is_passed_over(server, make, events):
    """The event says which variable to set; without any key the model is not configured."""
    listed = [{"api_key": "${KEY_A}"}, {"api_key": "${KEY_B}"}]
    async with make(listed, environ={"KEY_B": "key-b"}) as hub:
        assert (await hub.get("gpt")("hi")).attempts[-1].arm == "gpt#2"
    assert [(event.arm, str(event.error)) for event in events if isinstance(event, ArmEjected)] == [
        ("gpt#1", "set KEY_A")
    ]
    async with make(listed) as hub:
        assert hub.loaded.models["gpt"].missing == "set KEY_A or set KEY_B"
        with pytest.raises(NotConfigured):
            await hub.get("gpt")("hi")


async def test_a_user_keeps_his_key(server, make):
    """An arm of its own with `by` passes the tag on to the keys, whatever their order in the file."""
    chains = {"main": {"models": [{"arms": ["gpt"], "by": "tag:user"}]}}
    unnamed = [{"api_key": f"key-{name}"} for name in "abc"]

    async def ask(listed, seed):
        async with make(listed, chains=chains, seed=seed) as hub:
            return [(await hub.get("main")("hi", tags={"user": str(user)})).text for user in range(20)]

    assert await ask(unnamed, 1) == await ask(unnamed[::-1], 2)


async def test_each_key_has_a_limit_of_its_own(server, make):
    """One that is described at the model is each key's; a named one is shared by those that name it."""
    async with make(keys("a", "b"), limit={"concurrency": 1}) as hub:
        chain = hub.get("gpt")
        first, second = (model.stack() for model in chain.models)
        pools = [layer.pool for stack in (first, second) for layer in stack if hasattr(layer, "pool")]
        assert len({id(pool) for pool in pools}) == 2
        assert [pool.name for pool in pools] == ["gpt#a", "gpt#b"]


async def test_no_key_is_in_a_text(server, make):
    """Of the hub, its configuration, its chain or an error; and a hub with literal keys is not pickled."""
    server.refused = {"key-a": 401, "key-b": 503}
    async with make(keys("a", "b"), chains={"main": {"models": ["gpt", "last"]}}) as hub:
        with pytest.raises(AllModelsFailed) as caught:
            await hub.get("main")("hi", fallback=False)
        entry = hub.loaded.models["gpt"]
        texts = [repr(hub), repr(hub.loaded), repr(hub.get("main")), repr(entry), str(caught.value), repr(caught.value)]
        assert not any("key-a" in text or "key-b" in text for text in texts)
    bare = Hub.from_dict(
        {"version": 1, "models": {"gpt": {"provider": "openai", "model_name": "m", "keys": keys("a", "b")}}}
    )
    with pytest.raises(pickle.PicklingError, match=r"models.gpt.keys.0.api_key"):
        pickle.dumps(bare)


async def test_a_hub_with_references_to_keys_can_be_pickled(make):
    """Weights, names and limits of keys are no secrets."""
    listed = [{"api_key": "${KEY_A}", "name": "a", "weight": 2, "limit": "org"}, {"api_key": "${KEY_B}"}]
    config = {
        "version": 1,
        "limits": {"org": {"concurrency": 3}},
        "models": {"gpt": {"provider": "openai", "model_name": "m", "keys": listed}},
    }
    again = pickle.loads(pickle.dumps(Hub.from_dict(config)))
    assert [key.label for key in again.loaded.models["gpt"].keys] == ["gpt#a", "gpt#2"]


async def test_a_reload_keeps_the_keys_that_stay(server, make):
    """Their connections, limits and breakers go on; a key that is gone gets no call."""
    async with make(keys("a", "b"), environ={}) as hub:
        chain = hub.get("gpt")
        for _ in range(10):
            await chain("hi")
        kept = {model for model in chain.models if "gpt#b" in repr(chain.plan.find_arm(model).arm.label)}
        config = {
            "version": 1,
            "defaults": {"retry": {"max_attempts": 1}},
            "models": {
                "gpt": {"provider": "openai", "model_name": "m", "base_url": server.url, "keys": keys("b", "c")}
            },
        }
        hub.reload(config)
        assert kept < set(chain.models)
        server.asked.clear()
        for _ in range(20):
            await chain("hi")
    assert set(server.asked) == {"key-b", "key-c"}


async def test_a_cooldown_is_not_waited_for_when_the_model_has_refused_the_request(server, make, events):
    """Asked with another key since: the first one would be refused too."""
    server.refused, server.retry_after = {"key-a": 429, "key-b": 400}, 5
    async with make(keys("a", "b", a=1000), retry={"max_attempts": 3}) as hub:
        with pytest.raises(CallError):
            await hub.get("gpt")("hi")
    assert server.asked == {"key-a": 1, "key-b": 1}
    assert not [event for event in events if isinstance(event, Waiting)]


async def test_a_new_key_in_the_place_of_a_refused_one_is_a_new_arm(server, make, events):
    """If it is refused too, that is reported as well."""
    server.refused = {"key-a": 401, "key-c": 401}
    vendor = {"provider": "openai", "model_name": "m", "base_url": server.url, "retry": {"max_attempts": 1}}
    async with make([{"api_key": "key-a", "weight": 1000}, {"api_key": "key-b"}]) as hub:
        await hub.get("gpt")("hi")
        new = [{"api_key": "key-c", "weight": 1000}, {"api_key": "key-b"}]
        hub.reload({"version": 1, "models": {"gpt": {**vendor, "keys": new}}})
        await hub.get("gpt")("hi")
    assert [event.arm for event in events if isinstance(event, ArmEjected)] == ["gpt#1", "gpt#1"]
