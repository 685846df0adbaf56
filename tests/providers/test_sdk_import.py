"""Importing an SDK for one model while calls of others run."""

import asyncio
import os
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from modelhub import DeadlineExceeded, Hub
from modelhub.core.clock import SystemClock
from modelhub.core.context import Services
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.deadline.layer import Deadline
from modelhub.providers import Provider
from modelhub.providers import sdk_import as _sdk_import


class Sdkless(Provider):
    """A provider that looks, like some SDKs, at what others have imported."""

    kind = "sdkless"
    end_mark = "an end"
    sdk = "json"

    def encode(self, request, structured, stream):
        return {}

    async def call(self, payload):
        module = sys.modules.get("slow_sdk")
        return module is None or module.is_complete

    async def events(self, payload):
        yield {}

    def decode(self, body, answer):
        answer.text(f"{body}")
        answer.finish_reason = "stop"

    def decode_event(self, event, answer):
        answer.complete = True


class Slow(Sdkless):
    """A provider whose SDK takes long to import."""

    sdk = "slow_sdk"


class ImportLoop(asyncio.SelectorEventLoop):
    """An event loop for which the import of `slow_sdk` takes an hour."""

    added = 0.0

    def time(self):
        return super().time() + self.added


class ImportClock(SystemClock):
    """The time of the running loop."""

    def now(self):
        return asyncio.get_running_loop().time()


@pytest.fixture(name="slow_sdk")
def _slow_sdk(tmp_path, monkeypatch):
    """A module that takes an hour to import, in the time of the loops of the list that is returned."""
    text = """
    import time, import_loops
    time.sleep(0.1)
    for loop in import_loops.loops:
        loop.added += 3600
    is_complete = True
    """
    (tmp_path / "slow_sdk.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "import_loops", SimpleNamespace(loops=(loops := [])))
    yield loops
    sys.modules.pop("slow_sdk", None)


@pytest.mark.usefixtures("slow_sdk")
async def test_no_call_sees_a_half_imported_sdk():
    """Calls that begin while another model's SDK is imported wait for it; also if whoever began it has given up."""
    given_up = asyncio.ensure_future(Slow("m", False)("hi"))
    await asyncio.sleep(0.01)
    given_up.cancel()
    models = [Slow("m", False), *[Sdkless("m", False) for _ in range(5)]]
    replies = await asyncio.wait_for(asyncio.gather(*[model("hi") for model in models]), 10)
    assert {reply.text for reply in replies} == {"True"}
    assert sys.modules["slow_sdk"].is_complete


@pytest.mark.usefixtures("slow_sdk")
async def test_a_call_under_way_sees_no_half_imported_sdk(tmp_path, monkeypatch):
    """What an SDK looks at is imported with it: the import for another model may begin before the answer comes."""
    (tmp_path / "looking_sdk.py").touch()
    monkeypatch.setitem(_sdk_import.LOOKED_AT, "looking_sdk", ("slow_sdk", "sdk_that_is_not_installed"))
    is_asked, is_answered = asyncio.Event(), asyncio.Event()

    class Looking(Sdkless):
        sdk = "looking_sdk"

        async def call(self, payload):
            is_asked.set()
            await is_answered.wait()
            return await super().call(payload)

    reply = asyncio.ensure_future(Looking("m", False)("hi"))
    await is_asked.wait()
    other = asyncio.ensure_future(Slow("m", False)("hi"))
    await asyncio.sleep(0.01)
    is_answered.set()
    assert [(await reply).text, (await other).text] == ["True", "True"]
    sys.modules.pop("looking_sdk")


def test_openai_finds_httpx_whole(tmp_path):
    """It uses httpx for each answer if something else, such as another vendor's SDK, has imported it."""
    (tmp_path / "openai.py").touch()  # which imports nothing itself
    code = (
        "import asyncio, sys; from modelhub.providers.sdk_import import import_sdk; asyncio.run(import_sdk('openai'))"
        "; sys.exit('httpx' not in sys.modules)"
    )
    environ = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environ, check=True, timeout=60)


async def test_a_stall_is_no_cost_of_later_calls():
    """What has been imported is not waited for."""
    model = Sdkless("m", False)
    with pytest.raises(StopIteration) as ended:
        model("hi").send(None)
    assert ended.value.value.text == "True"


@pytest.mark.parametrize("name", ["own", "nested"])
def test_a_deadline_begins_when_the_sdk_is_loaded(slow_sdk, name):
    """The first call of a process has as much time as every other one; an end that was fixed before it stands."""
    model = Slow("m", False)
    model.services = Services(clock=ImportClock())
    chain = Chain("inner", [Deadline(model)], deadline=60)
    if name == "nested":
        chain = Chain("outer", [chain])
    with asyncio.Runner(loop_factory=ImportLoop) as runner:
        slow_sdk.append(runner.get_loop())
        assert runner.run(chain("hi", deadline=60)).text == "True"
        assert runner.get_loop().added == 3600


@pytest.mark.usefixtures("slow_sdk")
async def test_loading_an_sdk_moves_no_deadline_that_is_running():
    """What `hub.deadline` says holds for the first call as well."""
    async with Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted"}}}) as hub:
        with hub.deadline(0.02), pytest.raises(DeadlineExceeded):
            await Chain("chain", [Deadline(Slow("m", False))])("hi")
