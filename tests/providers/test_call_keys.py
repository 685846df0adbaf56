"""Keys that come with each call, against a server that tells them apart."""

import asyncio
import gc
import logging
import pickle

import pytest
import pytest_asyncio

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.errors import AuthenticationFailed, BreakerOpen, CallError, InvalidRequest, NotConfigured
from modelhub.logs import LogObserver
from modelhub.middleware.chain import call_keys
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.keyed_server import serving
from tests.tables import table

SECRET = "tenant-secret-1"


@pytest_asyncio.fixture(name="server")
async def _server():
    async with serving() as server:
        yield server


@pytest.fixture(name="config")
def _config(server):
    vendor = {"provider": "openai", "model_name": "m", "base_url": server.url}
    return {
        "version": 1,
        "defaults": {"retry": {"max_attempts": 1}},
        "limits": {"tier": {"concurrency": 1}},
        "models": {
            "gpt": {**vendor, "api_key": "${call:openai}", "limit": "tier"},
            "mini": {**vendor, "api_key": "${call:openai}", "limit": "tier"},
            "other": {**vendor, "api_key": "${call:other}"},
            "own": {**vendor, "api_key": "${OWN_KEY}"},
        },
        "chains": {
            "tenants": {"models": ["gpt", "other"]},
            "mixed": {"models": ["gpt", "own"]},
            "outer": {"models": ["tenants"]},
        },
    }


@pytest.fixture(name="hub")
def _hub(config):
    return Hub.from_dict(config, environ={"OWN_KEY": "own"})


async def test_each_call_is_made_with_its_own_key(server, hub):
    """The same chain, the same model, one after the other and at once."""
    async with hub:
        chain = hub.get("gpt")
        texts = await asyncio.gather(*((chain.with_keys(openai=f"t{n % 3}"))("hi") for n in range(9)))
    assert [reply.text for reply in texts] == [f"for t{n % 3}" for n in range(9)]
    assert server.asked == {"t0": 3, "t1": 3, "t2": 3}


async def test_a_call_without_its_key_is_not_configured(server, hub, monkeypatch):
    """Whatever key the environment has; the message says what to call."""
    monkeypatch.setenv("OPENAI_API_KEY", "of-the-application")
    async with hub:
        for chain in (hub.get("gpt"), hub.get("gpt").with_keys(openai=None), hub.get("gpt").with_keys(openai="")):
            with pytest.raises(NotConfigured, match=r"`gpt` takes its key from the call.*with_keys\(openai=\.\.\.\)"):
                await chain("hi")
    assert not server.asked


async def test_a_chain_passes_over_models_without_their_key(server, hub):
    """As over any model that is not configured."""
    async with hub:
        reply = await hub.get("tenants").with_keys(other="t1")("hi")
    assert [(attempt.model, attempt.outcome) for attempt in reply.attempts] == [
        ("gpt", "NotConfigured"),
        ("other", "ok"),
    ]
    assert server.asked == {"t1": 1}


async def test_a_refused_key_is_replaced_by_none_of_the_application(server, config):
    """The call fails; only a model that the file lists behind it, with its own key, may answer."""
    server.refused["t1"] = 401
    async with Hub.from_dict(config, environ={"OWN_KEY": "own"}) as hub:
        with pytest.raises(AuthenticationFailed):
            await hub.get("gpt").with_keys(openai="t1")("hi")
        assert server.asked == {"t1": 1}
        assert (await hub.get("mixed").with_keys(openai="t2")("hi")).text == "for t2"


async def test_a_breaker_is_of_one_key(server, hub):
    """A key that was refused is not asked again for a while; the others are."""
    server.refused["t1"] = 401
    async with hub:
        chain = hub.get("gpt")
        with pytest.raises(AuthenticationFailed):
            await chain.with_keys(openai="t1")("hi")
        with pytest.raises(BreakerOpen):
            await chain.with_keys(openai="t1")("hi")
        assert (await chain.with_keys(openai="t2")("hi")).text == "for t2"
    assert server.asked == {"t1": 1, "t2": 1}


async def test_a_limit_is_of_one_key(server, hub):
    """Two keys do not wait for each other; two models of one key that name the same limit do."""
    server.hold()
    async with hub:
        calls = [
            asyncio.ensure_future(hub.get(name).with_keys(openai=key)("hi"))
            for name, key in (("gpt", "t1"), ("gpt", "t2"), ("mini", "t1"))
        ]
        while sum(server.under_way.values()) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert server.under_way == {"t1": 1, "t2": 1}
        assert hub.limits["tier"].left().taken == 0
        server.release.set()
        await asyncio.gather(*calls)
    assert server.asked == {"t1": 2, "t2": 1}


async def test_models_are_kept_for_the_keys_used_last(config, monkeypatch):
    """Of more keys the oldest one's is closed, by the hub; it is served again as if it were new."""
    monkeypatch.setattr(call_keys, "MAX_CALL_KEYS", 3)
    closed = []
    close = OpenAIChatModel.aclose

    async def note_and_close(model):
        closed.append(model)
        await close(model)

    monkeypatch.setattr(OpenAIChatModel, "aclose", note_and_close)
    async with Hub.from_dict(config, environ={"OWN_KEY": "own"}) as hub:
        chain = hub.get("gpt")
        for number in (0, 1, 2, 0, 3, 4):
            await chain.with_keys(openai=f"t{number}")("hi")
        async with asyncio.timeout(10):
            while len(closed) < 2:
                await asyncio.sleep(0)
        assert [[*model.secrets()] for model in closed] == [["t1"], ["t2"]]
        assert (await chain.with_keys(openai="t1")("hi")).text == "for t1"
    assert len(closed) == 6


async def test_a_key_in_use_is_closed_only_when_it_is_idle(server, config, monkeypatch):
    """A call that is under way while newer keys push its key out gets its answer."""
    monkeypatch.setattr(call_keys, "MAX_CALL_KEYS", 1)
    async with Hub.from_dict(config, environ={"OWN_KEY": "own"}) as hub:
        chain = hub.get("gpt")
        server.hold()
        first = asyncio.ensure_future(chain.with_keys(openai="t0")("hi"))
        while not server.under_way:
            await asyncio.sleep(0)
        release, server.release = server.release, None
        for number in range(1, 4):
            await chain.with_keys(openai=f"t{number}")("hi")
        release.set()
        assert (await first).text == "for t0"
        async with asyncio.timeout(10):
            while len(server.connections()) > 1:
                await asyncio.sleep(0)


async def test_a_closed_hub_has_closed_the_connections_of_all_keys(server, hub, recwarn):
    """Only the hub closes."""
    async with hub:
        for number in range(5):
            await hub.get("gpt").with_keys(openai=f"t{number}")("hi")
    del hub
    gc.collect()
    assert not [warning for warning in recwarn if "unclosed" in f"{warning.message}".lower()]


async def test_no_key_is_in_any_text(server, config, caplog):
    """Of the view, the hub, an error, an event or a log entry; and nothing that holds one is pickled."""
    server.refused[SECRET] = 401
    events = []
    services = Services(observers=(events.append, LogObserver()))
    with caplog.at_level(logging.DEBUG):
        async with Hub.from_dict(config, environ={"OWN_KEY": "own"}, services=services) as hub:
            view = hub.get("tenants").with_keys(openai=SECRET)
            with pytest.raises(CallError) as caught:
                await view("hi")
            texts = [repr(view), str(vars(view)), repr(hub), repr(events), str(caught.value), repr(caught.value)]
            with pytest.raises(pickle.PicklingError) as refused:
                pickle.dumps(view)
            error = pickle.dumps(str(caught.value.attempts))
    texts += [str(refused.value), error.decode("latin-1"), *(record.getMessage() for record in caplog.records)]
    assert not [text for text in texts if SECRET in text]


def test_a_hub_with_references_to_callers_keys_can_be_pickled(config):
    """They are references, like variables."""
    assert list(pickle.loads(pickle.dumps(Hub.from_dict(config)))) == [*config["chains"], *config["models"]]


async def test_tags_and_keys_come_in_any_order(hub):
    """Each view keeps what the one before it has."""
    async with hub:
        chain = hub.get("outer")
        views = [
            chain.with_keys(openai="t1").with_tags(user="u"),
            chain.with_tags(user="u").with_keys(openai="t1"),
            chain.with_keys(other="t2").with_keys(openai="t1").with_tags(user="u"),
        ]
        assert {(await view("hi")).text for view in views} == {"for t1"}
        assert hub.usage.by_tag["user"]["u"].calls == 3


@table(
    ("name", "keys", "message"),
    [
        ("tenants", {"opnai": "x"}, r"has no `\$\{call:opnai\}`; did you mean `openai`\? \(there are: openai, other\)"),
        ("own", {"openai": "x"}, r"no model of `own` takes its key from the call"),
        ("gpt", {"openai": 5}, "`openai` must be text, not int"),
        ("gpt", {"openai": "two\nlines"}, "`openai` has a space, a line break"),
    ],
)
def test_what_is_no_key_is_refused(hub, name, keys, message):
    """By its name, without its value."""
    with pytest.raises(InvalidRequest, match=message) as caught:
        hub.get(name).with_keys(**keys)
    assert "two" not in str(caught.value)


async def test_a_reload_keeps_what_belongs_to_a_key(server, config):
    """Its breaker stays open if nothing of its models has changed, and is a new one if something has."""
    server.refused["t1"] = 401
    async with Hub.from_dict(config, environ={"OWN_KEY": "own"}) as hub:
        chain = hub.get("gpt").with_keys(openai="t1")
        with pytest.raises(AuthenticationFailed):
            await chain("hi")
        hub.reload({**config, "chains": {}})
        with pytest.raises(BreakerOpen):
            await chain("hi")
        config["limits"]["tier"] = {"concurrency": 2}
        hub.reload(config)
        with pytest.raises(AuthenticationFailed):
            await chain("hi")
