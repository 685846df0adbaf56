"""The hub opens, finds, owns and closes."""

import asyncio
import gc
import subprocess
import sys
import threading
import types
import warnings

import pytest

from modelhub import ChatResponse, ChatStream, ConfigError, Hub, HubClosed, NotConfigured, UnknownModel
from modelhub.core import sync as _sync
from modelhub.hub import find_config_file
from tests.tables import table

CONFIG = {
    "version": 1,
    "models": {
        "one": {"provider": "scripted", "reply": "first"},
        "two": {"provider": "scripted", "reply": "second words here"},
        "gpt": {"provider": "openai", "model_name": "gpt-5-mini", "api_key": "${OPENAI_API_KEY}"},
    },
    "chains": {"primary": {"models": ["gpt", "one"]}, "outer": {"models": ["primary", "two"], "stream": True}},
}


@pytest.fixture(name="hub")
def _hub():
    with Hub.from_dict(CONFIG) as hub:
        yield hub


async def test_a_model_or_chain_is_found_by_name_and_made_once(hub):
    """`get` gives the same object each time; the same model stands in every chain that names it."""
    assert hub.get("primary") is hub.get("primary") is hub["primary"]
    assert (await hub.get("primary")("hi")).text == "first"
    assert (await hub.get("two")("hi")).requested == "two"
    assert hub.get("one").models[0] is hub.get("primary").models[1]


def test_the_hub_can_be_looked_at(hub):
    """Names, membership, length and repr tell what is there."""
    assert list(hub) == ["primary", "outer", "one", "two", "gpt"]
    assert "primary" in hub
    assert "nobody" not in hub
    assert len(hub) == 5
    assert repr(hub) == "<Hub from a dict, open [chains: primary, outer | models: one, two, gpt]>"


def test_a_wrong_name_says_what_was_meant(hub):
    """The error has the probable name and all that exist."""
    meant = r"no model or chain is called `primry`; did you mean `primary`\? \(there are: primary, outer, one"
    with pytest.raises(UnknownModel, match=meant):
        hub.get("primry")


async def test_a_model_without_a_key_says_what_to_set(hub):
    """Called itself it raises NotConfigured; a chain passes over it and says so."""
    with pytest.raises(NotConfigured, match="set OPENAI_API_KEY"):
        await hub.get("gpt")("hi")
    reply = await hub.get("primary")("hi")
    assert [(attempt.model, attempt.outcome) for attempt in reply.attempts] == [("gpt", "NotConfigured"), ("one", "ok")]


async def test_a_chains_stream_setting_holds_for_all_its_members(hub):
    """What a call gives depends on the chain, not on who answers; `stream=` in a call overrides it."""
    snapshots = [snapshot async for snapshot in await hub.get("outer")("hi")]
    assert snapshots[-1].text == "first"
    assert (await hub.get("outer")("hi", stream=False)).text == "first"


async def test_a_closed_hub_says_so():
    """After closing, neither `get` nor a model that was had before works; closing twice is fine."""
    hub = Hub.from_dict(CONFIG)
    model = hub.get("one")
    await hub.aclose()
    await hub.aclose()
    with pytest.raises(HubClosed):
        hub.get("one")
    with pytest.raises(HubClosed):
        await model("hi")
    assert "closed" in repr(hub)


def test_a_hub_works_across_several_loops_and_threads():
    """Several `asyncio.run`, and several threads with a loop each, share one hub."""
    hub = Hub.from_dict(CONFIG)

    async def ask():
        return (await hub.get("primary")("hi")).text

    assert [asyncio.run(ask()) for _ in range(3)] == ["first"] * 3
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(asyncio.run(ask()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["first"] * 4
    hub.close()


def test_scripts_without_a_loop_use_sync(hub):
    """`sync` gives a reply, or a plain iterator of snapshots."""
    assert hub.get("one").sync("hi").text == "first"
    stream = hub.get("two").sync("hi", stream=True)
    assert [snapshot.delta for snapshot in stream] == ["second", " words", " here", ""]
    with hub.get("two").sync("hi", stream=True) as stream:
        next(stream)
    assert hub.get("two").sync("hi", stream=True).final().text == "second words here"
    with pytest.raises(NotConfigured):
        hub.get("gpt").sync("hi")


async def test_sync_inside_a_loop_is_refused(hub):
    """Blocking a running loop would hang it: the error says what to write."""
    with pytest.raises(RuntimeError, match=r"await model"):
        hub.get("one").sync("hi")


def test_where_the_file_is_looked_for(tmp_path, monkeypatch):
    """A path, else $MODELHUB_CONFIG, else ./models.yaml; what is missing is said with what to do."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"there is no models\.yaml in .*: create it, pass the path .*--file"):
        Hub.from_yaml()
    (tmp_path / "other.yaml").write_text("version: 1\nmodels: {m: {provider: scripted}}\n")
    assert find_config_file(environ={"MODELHUB_CONFIG": "other.yaml"}).name == "other.yaml"
    assert list(Hub.from_yaml(environ={"MODELHUB_CONFIG": "other.yaml"})) == ["m"]
    (tmp_path / "models.yaml").write_text("version: 1\nmodels: {n: {provider: scripted}}\n")
    assert list(Hub.from_yaml(environ={})) == ["n"]
    with pytest.raises(ConfigError, match=r"gone\.yaml \(from \$MODELHUB_CONFIG\) is not a file"):
        find_config_file(environ={"MODELHUB_CONFIG": "gone.yaml"})
    with pytest.raises(ConfigError, match=r"nowhere\.yaml is not a file"):
        Hub.from_yaml("nowhere.yaml")


async def test_a_forgotten_stream_is_settled_and_says_so(hub):
    """Dropping a stream gives back what it holds; Python's development mode shows a ResourceWarning."""
    stream = await hub.get("two")("hi", stream=True)
    await anext(stream)
    with pytest.warns(ResourceWarning, match="never read to its end nor closed"):
        del stream
        gc.collect()
    await asyncio.sleep(0)


def test_forgetting_to_close_makes_no_noise_at_exit():
    """A script that never closes its hub ends without a word on stderr."""
    code = (
        "import asyncio\n"
        "from modelhub import Hub\n"
        f"hub = Hub.from_dict({CONFIG!r})\n"
        "print(asyncio.run(hub.get('primary')('hi')).text)\n"
        "print(hub.get('two').sync('hi').text)\n"
        "for snapshot in hub.get('two').sync('hi', stream=True): break\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout.split("\n")[:2], done.stderr) == (["first", "second words here"], "")


async def test_structured_output_makes_tools_void_with_a_warning(hub):
    """Tools given with a structured_model are ignored, and a warning says so."""
    from pydantic import BaseModel

    class Greeting(BaseModel):
        words: str

    config = {"version": 1, "models": {"m": {"provider": "scripted", "steps": [{"data": {"words": "hello"}}]}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    async with Hub.from_dict(config) as other:
        with pytest.warns(UserWarning, match="tools and tool_choice are ignored"):
            reply = await other.get("m")("hi", tools=[tool], structured_model=Greeting)
    assert reply.metadata == {"words": "hello"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with Hub.from_dict(config) as other:
            await other.get("m")("hi", structured_model=Greeting)


async def test_a_running_loop_is_told_what_to_use_instead(hub):
    """`hub.close()` and `with Hub` would block it; `async with` and `aclose` do not."""
    with pytest.raises(RuntimeError, match=r"is running here: use `await hub.aclose\(\)`, or `async with`"):
        hub.close()
    with pytest.raises(RuntimeError, match=r"use `async with Hub\.\.\.`"), Hub.from_dict(CONFIG):
        pass
    assert (await hub.get("one")("hi")).text == "first"


def test_a_plain_iterator_can_be_closed_in_a_running_loop(hub):
    """It is closed in the background: nobody waits, and its call is recorded."""
    stream = hub.get("two").sync("hi", stream=True)
    next(stream)

    async def main():
        stream.close()
        while hub.usage.total.calls == 0:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(main(), 10))
    with pytest.raises(StopIteration):
        next(stream)


def test_other_runners_than_asyncio_are_refused_at_once(hub):
    """As trio and curio run coroutines: the error says so, and nothing is left behind that was never awaited."""
    for coroutine in (hub.get("one")("hi"), hub.get("one")("hi", stream=True), hub.aclose()):
        with pytest.raises(RuntimeError, match="needs asyncio"):
            coroutine.send(None)
    assert hub.usage.total.calls == 0


def test_greenlets_can_use_sync():
    """In a process whose threads gevent has replaced, several at a time, and the others go on meanwhile."""
    pytest.importorskip("gevent")
    code = (
        "from gevent import monkey; monkey.patch_all()\n"
        "import gevent; from modelhub import Hub\n"
        "steps = [{'wait': 0.2, 'say': 'hello'}]\n"
        "hub = Hub.from_dict({'version': 1, 'models': {'m': {'provider': 'scripted', 'steps': steps}}})\n"
        "ticks = []\n"
        "ticker = gevent.spawn(lambda: [(ticks.append(1), gevent.sleep(0.01)) for _ in range(9)])\n"
        "jobs = [gevent.spawn(lambda: hub.get('m').sync('hi').text) for _ in range(5)]\n"
        "gevent.joinall([*jobs, ticker])\n"
        "hub.close()\n"
        "print({job.value for job in jobs}, len(ticks))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{'hello'} 9\n", "")


def test_eventlets_threads_are_refused_by_name(monkeypatch):
    """What cannot work is said before anything is begun, and what to use instead."""
    eventlet = types.SimpleNamespace(is_monkey_patched=lambda what: what == "thread")
    monkeypatch.setitem(sys.modules, "eventlet.patcher", eventlet)
    monkeypatch.setattr(_sync, "background", _sync.BackgroundLoop())
    with pytest.raises(RuntimeError, match="eventlet has replaced this process's threads"):
        Hub.from_dict(CONFIG).get("one").sync("hi")


async def test_stream_is_a_method_and_says_whether_a_call_streams():
    """Agent frameworks look at `model.stream` before they call, as at a provider's, which is a bool."""
    models = {
        "plain": {"provider": "scripted", "reply": "one two"},
        "streamed": {"provider": "scripted", "stream": True},
    }
    async with Hub.from_dict({"version": 1, "models": models}) as hub:
        assert (bool(hub.get("plain").stream), bool(hub.get("streamed").stream)) == (False, True)
        tagged = hub.get("plain").with_tags(job="7")
        assert not tagged.stream
        assert (await (await tagged.stream("hi")).final()).text == "one two"
        assert (await (await hub.get("plain").stream("hi")).final()).text == "one two"
        hub.get("plain").stream = True
        assert (await (await hub.get("plain")("hi")).final()).text == "one two"


async def test_stream_of_a_view_is_that_of_its_chain():
    """Whether it is set in the file, on the chain or on the view, both say and do the same; after a reload too."""
    model = {"provider": "scripted", "reply": "one two", "stream": True}
    async with Hub.from_dict({"version": 1, "models": {"one": model}}) as hub:
        chain = hub.get("one")
        view = chain.with_tags(job="7").with_tags(user="ann")
        for expected in (True, False, True, False):
            assert (bool(chain.stream), bool(view.stream)) == (expected, expected)
            for caller in (chain, view):
                reply = await caller("hi")
                assert isinstance(reply, ChatStream if expected else ChatResponse)
                assert not expected or (await reply.final()).text == "one two"
            (view if expected else chain).stream = not expected
        hub.reload({"version": 1, "models": {"one": {**model, "reply": "new"}}})
        assert view.stream


@table("name", ["context_size", "count_tokens", "formatter", "generate_structured_output", "model"])
async def test_what_agents_of_agentscope_read_is_not_there_without_agentscope(name):
    """An attribute that only its agents read is one that does not exist, like any other."""
    async with Hub.from_dict(CONFIG) as hub:
        with pytest.raises(AttributeError, match=f"'ChainHandle' object has no attribute '{name}'"):
            getattr(hub.get("one"), name)
