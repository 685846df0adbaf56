"""A hub reads its configuration again: as a whole or not at all, and what has not changed goes on."""

import asyncio
import gc
import logging
import weakref

import pytest

from modelhub import (
    BreakerOpen,
    BudgetExceeded,
    CallError,
    ConfigError,
    Hub,
    HubClosed,
    LimitRejected,
    UnknownModel,
)
from modelhub.core.events import Reloaded, ReloadFailed
from modelhub.middleware.limit.layer import Limit
from modelhub.testing import FaultServer, faults

OPENAI = {"provider": "openai", "model_name": "gpt-5-mini", "api_key": "sk-one", "api": "chat"}


async def begin(chain, **kwargs):
    """Start a call and let it get as far as it can."""
    call = asyncio.ensure_future(chain("hi", **kwargs))
    await asyncio.sleep(0.01)
    return call


async def test_a_model_that_the_application_holds_follows_the_file(file):
    """It is the same object, as a member of a chain too, and so is the chain with tags."""
    hub = file.open({"a": "old"}, chains={"main": {"models": ["a"]}})
    held, tagged = [hub.get("a"), hub.get("main")], hub.get("main").with_tags(user="1")
    assert [(await model("hi")).text for model in [*held, tagged]] == ["old"] * 3
    changes = file.reload({"a": "new", "b": "other"}, chains={"main": {"models": ["b", "a"], "deadline": "5s"}})
    assert [(await model("hi")).text for model in [*held, tagged]] == ["new", "other", "other"]
    assert hub.get("main") is held[1]
    assert (held[1].deadline, list(held[1].names())) == (5.0, ["b", "a"])
    assert str(changes) == (
        "model `a` changed (reply: old -> new), model `b` added, "
        "chain `main` changed (models: [a] -> [b, a]; deadline: nothing -> 5s)"
    )


async def test_a_file_with_a_problem_changes_nothing(file, caplog):
    """The caller gets the error, the log has the places with an excerpt, and calls go on as before."""
    hub = file.open({"a": "old", "b": "old too"})
    held = hub.get("a")
    loaded = hub.loaded
    with pytest.raises(ConfigError, match=r"models\.yaml:9:21: `max_attempts: many` must be"):
        file.reload({"a": "new", "b": {"retry": {"max_attempts": "many"}}})
    assert [(await model("hi")).text for model in (held, hub.get("b"))] == ["old", "old too"]
    assert hub.loaded is loaded
    failures = [event for event in file.events if isinstance(event, ReloadFailed)]
    assert [(event.file, event.error.problems[0].line) for event in failures] == [(str(file.path), 9)]
    assert not [event for event in file.events if isinstance(event, Reloaded)]


def test_a_problem_is_logged_as_it_is_rendered(file, caplog):
    """With its place and the marked line, at the level of errors."""
    file.write({"a": "old"})
    with Hub.from_yaml(file.path) as hub, caplog.at_level(logging.INFO, "modelhub"):
        file.path.write_text("version: 1\nmodels:\n  a: {provider: scripted, replly: new}\n")
        with pytest.raises(ConfigError):
            hub.reload()
        file.write({"a": "new"})
        hub.reload()
    failed, done = [record for record in caplog.records if record.event.startswith("reload")]
    assert (failed.levelname, failed.problems[0]["line"]) == ("ERROR", 3)
    assert "models.yaml:3:27: unknown key `replly`" in failed.getMessage()
    assert "did you mean `reply`?" in failed.getMessage()
    assert done.getMessage().endswith("models.yaml: model `a` changed (reply: old -> new)")


async def test_a_call_under_way_keeps_what_it_began_with(file):
    """A retry, a fallback and a restart go to the models of its own configuration."""
    failing = [{"wait": 1, "fail": "Overloaded"}]
    hub = file.open(
        {"a": failing, "b": "the old one", "c": [{"wait": 1, "say": "one two", "break_after": 1}]},
        chains={"main": {"models": ["a", "b"]}, "restarted": {"models": ["c", "b"]}},
    )
    calls = [await begin(hub.get("main")), await begin(hub.get("restarted"), stream=True)]
    file.reload({"a": "new", "b": "new"}, chains={"main": {"models": ["a"]}})
    assert (await calls[0]).text == "the old one"
    assert (await (await calls[1]).final()).text == "the old one"
    assert (await hub.get("main")("hi")).text == "new"


async def test_a_name_that_is_gone_says_so_until_it_is_back(file):
    """Both for `get` and for calls of what the application still holds."""
    hub = file.open({"a": "one", "b": "two"})
    held = hub.get("a")
    file.reload({"b": "two"})
    with pytest.raises(UnknownModel, match=r"no model or chain is called `a` \(there are: b\)"):
        await held("hi")
    with pytest.raises(UnknownModel, match="no model or chain is called `a`"):
        hub.get("a")
    file.reload({"a": "back", "b": "two"})
    assert (await held("hi")).text == "back"
    await hub.aclose()
    with pytest.raises(HubClosed):
        await held("hi")
    with pytest.raises(HubClosed):
        hub.reload()


async def test_what_was_admitted_counts_after_a_reload(file):
    """A limit that stays the same goes on, and so does one whose numbers change, for changed models too."""
    limits = {"tier": {"requests_per_minute": 3, "burst": 1}}
    hub = file.open(
        {"a": {"reply": "one", "limit": "tier"}, "b": {"limit": {"requests": "2/min"}, "reply": "x"}}, limits=limits
    )
    pool = hub.limits["tier"]
    for name in ("a", "a", "b"):
        await hub.get(name)("hi")
    file.reload(
        {"a": {"reply": "new", "limit": "tier"}, "b": {"limit": {"requests": "2/min"}, "reply": "y"}}, limits=limits
    )
    assert hub.limits["tier"] is pool
    assert pool.left().rates[0].left == 1
    limits["tier"]["requests_per_minute"] = 10
    file.reload(
        {"a": {"reply": "new", "limit": "tier"}, "b": {"limit": {"requests": "5/min"}, "reply": "y"}}, limits=limits
    )
    assert pool.left().rates[0].left == 8
    own = next(layer for layer in hub.get("b").models[0].stack() if isinstance(layer, Limit)).pool
    assert own.left().rates[0].left == 4


async def test_a_lower_bound_of_places_holds_for_those_that_are_taken(file):
    """Attempts of before the reload count, whatever kind of bound it was; who waits is admitted as places come free."""
    slow = {"steps": [{"wait": 1, "say": "ok"}], "limit": "tier"}
    hub = file.open({"a": slow}, limits={"tier": {"concurrency": "auto"}})
    calls = [await begin(hub.get("a")) for _ in range(4)]
    file.reload({"a": slow}, limits={"tier": {"concurrency": 2}})
    calls += [await begin(hub.get("a")) for _ in range(4)]
    pool = hub.limits["tier"]
    assert (pool.left().taken, pool.left().waiting) == (4, 4)
    most = 0
    while not all(call.done() for call in calls):
        await asyncio.sleep(0.1)
        most = max(most, pool.left().taken if calls[3].done() else 0)
    assert most == 2
    assert [call.result().text for call in calls] == ["ok"] * 8


async def test_who_waits_is_measured_by_the_new_limit(file):
    """A rate that is raised lets the queue go on, one that is lowered below a request's size refuses it."""
    entry = {"steps": [{"wait": 1, "say": "ok"}], "limit": "tier", "ask": {"max_tokens": 50}}
    hub = file.open({"a": entry}, limits={"tier": {"tokens": "100/day", "burst": 1}})
    calls = [await begin(hub.get("a"), deadline=3600 * 24 * 2) for _ in range(3)]
    assert hub.limits["tier"].left().waiting == 2
    file.reload({"a": entry}, limits={"tier": {"tokens": "20/day", "burst": 1}})
    assert (await calls[0]).text == "ok"
    for call in calls[1:]:
        with pytest.raises(CallError, match="can never admit"):
            await call
    file.reload({"a": entry}, limits={"tier": {"tokens": "1000/day", "burst": 1}})
    assert (await hub.get("a")("hi")).text == "ok"


async def test_who_waits_needs_what_a_new_rate_asks(file):
    """A rate that is added holds for attempts that stand in the queue already."""
    entry = {"steps": [{"wait": 1, "say": "ok"}], "limit": "tier"}
    hub = file.open({"a": entry}, limits={"tier": {"concurrency": 1}})
    calls = [await begin(hub.get("a")) for _ in range(3)]
    file.reload({"a": entry}, limits={"tier": {"concurrency": 1, "requests": "1/min"}})
    await calls[1]
    assert asyncio.get_running_loop().time() < 5
    await calls[2]
    assert asyncio.get_running_loop().time() > 60


async def test_an_open_breaker_stays_open(file):
    """For an entry that has not changed, and for one that asks the same endpoint with the same key."""
    async with FaultServer() as server:
        server.script("openai", faults.status(500))
        entry = {
            **OPENAI,
            "base_url": server.url("openai"),
            "retry": {"max_attempts": 1},
            "breaker": {"failures": 1, "pause": "60s", "max_pause": "60s"},
        }
        hub = file.open({"a": entry, "b": "ok"})
        with pytest.raises(CallError):
            await hub.get("a")("hi")
        file.reload({"a": {**entry, "timeout": {"total": "7s"}}, "b": "new"})
        with pytest.raises(BreakerOpen):
            await hub.get("a")("hi")
        file.reload({"a": {**entry, "api_key": "sk-another"}, "b": "new"})
        server.heal("openai")
        assert (await hub.get("a")("hi")).text
        await hub.aclose()


async def test_what_is_spent_goes_on(file):
    """A budget with another limit knows what was spent, and the totals of the hub go on too."""
    entry = {"reply": "ok", "pricing": {"input": 1, "output": 1}}
    hub = file.open({"a": entry}, budgets={"daily": {"tokens": 100, "per": "day"}})
    for _ in range(3):
        await hub.get("a")("one two three")
    usage = hub.usage
    file.reload({"a": {**entry, "reply": "new"}}, budgets={"daily": {"tokens": 14, "per": "day"}})
    with pytest.raises(BudgetExceeded, match="14 tokens per day"):
        await hub.get("a")("one two three")
    file.reload({"a": entry})
    assert (await hub.get("a")("hi")).text == "ok"
    assert hub.usage is usage
    assert usage.total.calls == 5


async def test_connections_of_unchanged_models_go_on_and_others_end_with_their_last_call(file):
    """Nothing is closed that a call still uses, and nothing stays open that no call can use again."""
    async with FaultServer() as server:
        entries = {name: {**OPENAI, "base_url": server.url(f"openai/{name}")} for name in ("a", "b")}
        hub = file.open(entries)
        held = hub.get("a"), hub.get("b")
        stream = await held[0]("hi", stream=True)
        await held[1]("hi")
        assert server.connections == 2
        kept = held[1].models[0]
        file.reload({"a": {**entries["a"], "api_key": "sk-two", "organization": "two"}, "b": entries["b"]})
        await asyncio.sleep(0.1)
        assert server.connections == 2
        assert held[1].models[0] is kept
        await stream.final()
        await asyncio.sleep(0.1)
        assert server.connections == 1
        for model in held:
            await model("hi")
        assert server.connections == 2
        organizations = [request.headers.get("openai-organization") for request in server.requests()]
        assert organizations == [None, None, "two", None]
        await hub.aclose()
        await asyncio.sleep(0.1)
        assert server.connections == 0


async def test_a_configuration_that_is_not_used_any_more_is_forgotten(file):
    """After the last call that began with it."""
    hub = file.open({"a": [{"wait": 1, "say": "old"}]})
    call = await begin(hub.get("a"))
    old = weakref.ref(hub.get("a").models[0])
    for number in range(3):
        file.reload({"a": f"new {number}"})
    gc.collect()
    assert old() is not None
    assert (await call).text == "old"
    del call
    gc.collect()
    assert old() is None


async def test_a_hub_of_a_dict_takes_another_dict_or_reads_its_references_again(tmp_path, monkeypatch):
    """With the same promises; a hub of a file refuses a dict."""
    (tmp_path / "reply").write_text("one")
    config = {"version": 1, "models": {"a": {"provider": "scripted", "reply": f"${{file:{tmp_path / 'reply'}}}"}}}
    hub = Hub.from_dict(config)
    held = hub.get("a")
    assert not hub.reload()
    (tmp_path / "reply").write_text("two")
    assert str(hub.reload()) == "model `a` changed (reply: changed)"
    assert (await held("hi")).text == "two"
    config["models"]["a"]["reply"] = "three"
    assert await hub.areload(config)
    assert (await held("hi")).text == "three"
    with pytest.raises(ConfigError):
        hub.reload({"version": 1})
    assert not hub.reload()
    assert (await held("hi")).text == "three"


async def test_a_variable_that_changes_is_read_again(file, monkeypatch):
    """Also one that no reference names, such as the address that the vendor's SDK looks for."""
    async with FaultServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.url("openai/one"))
        hub = file.open({"a": {"provider": "openai", "model_name": "gpt-5-mini", "api": "chat"}})
        held = hub.get("a")
        await held("hi")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url("openai/two"))
        hub.reload()
        await held("hi")
        assert [len(server.requests(f"openai/{name}")) for name in ("one", "two")] == [1, 1]
        await hub.aclose()


def test_a_hub_without_an_event_loop_reloads(file):
    """Its clients live, and are closed, in the background."""
    with FaultServer().running() as server:
        entry = {**OPENAI, "base_url": server.url("openai")}
        file.write({"a": entry})
        with Hub.from_yaml(file.path) as hub:
            held = hub.get("a")
            held.sync("hi")
            file.write({"a": {**entry, "api_key": "sk-two"}})
            assert str(hub.reload()) == "model `a` changed (api_key: changed)"
            held.sync("hi")


async def test_a_rate_that_is_lowered_holds_at_once(file):
    """What was admitted under the higher one counts against it, until it is as old as the period."""
    entry = {"reply": "ok", "limit": "tier"}
    hub = file.open({"a": entry}, limits={"tier": {"requests_per_minute": 10, "burst": 1}})
    for _ in range(8):
        await hub.get("a")("hi")
    file.reload({"a": entry}, limits={"tier": {"requests_per_minute": 5, "burst": 1}})
    with pytest.raises(LimitRejected):
        await hub.get("a")("hi", deadline=30)
    await asyncio.sleep(61)
    assert [(await hub.get("a")("hi", deadline=1)).text for _ in range(5)] == ["ok"] * 5
    with pytest.raises(LimitRejected):
        await hub.get("a")("hi", deadline=30)


async def test_what_is_in_the_ledger_is_counted_once(file):
    """However the ledger is written after a reload: what this process spent is not taken for another one's."""
    entry = {"reply": "ok", "pricing": {"input": 1, "output": 1}}
    usage = {"ledger": "usage.db", "batch": 1, "refresh": "100ms"}
    budgets = {"daily": {"tokens": 100, "per": "day"}}
    hub = file.open({"a": entry}, usage=usage, budgets=budgets)
    await hub.get("a")("one two three")
    file.reload({"a": entry}, usage={**usage, "batch": 0}, budgets={"daily": {"tokens": 50, "per": "day"}})
    await hub.get("a")("one two three")
    file.reload({"a": entry}, usage={**usage, "batch": 0}, budgets={**budgets, "other": {"tokens": 50, "per": "day"}})
    await hub.get("a")("one two three")
    hub.usage.flush()
    assert {budget["budget"]: budget["spent"] for budget in hub.usage.budgets} == {"daily": "12", "other": "4"}
    await hub.aclose()


async def test_what_is_no_model_changes_too(file, tmp_path):
    """Such as the folders that messages may name, for a model that is the same."""
    (tmp_path / "cat.gif").write_bytes(b"GIF89a")
    part = {"type": "image_url", "image_url": {"url": f"file://{tmp_path}/cat.gif"}}
    messages = [{"role": "user", "content": [part]}]
    hub = file.open({"a": "ok"}, files={"allow": []})
    held, model = hub.get("a"), hub.get("a").models[0]
    with pytest.raises(CallError, match="allow"):
        await held(messages)
    file.reload({"a": "ok"}, files={"allow": [str(tmp_path)]})
    assert held.models[0] is model
    assert (await held(messages)).text == "ok"


async def test_each_of_several_keys_goes_on_by_itself(file):
    """A key that is replaced is a new one, with connections of its own; the other is as it was."""
    async with FaultServer() as server:
        entry = {name: value for name, value in OPENAI.items() if name != "api_key"} | {
            "base_url": server.url("openai")
        }
        hub = file.open({"a": {**entry, "keys": [{"api_key": "sk-one"}, {"api_key": "sk-two"}]}})
        before = hub.get("a").models
        file.reload({"a": {**entry, "keys": [{"api_key": "sk-one"}, {"api_key": "sk-three"}]}})
        assert [new is old for new, old in zip(hub.get("a").models, before, strict=True)] == [True, False]
        assert (await hub.get("a")("hi")).text
        await hub.aclose()
