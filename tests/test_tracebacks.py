"""What the traceback of a failed call shows: the caller's own frames, and no library's."""

import asyncio
import gc
import traceback
import warnings

import pytest

from modelhub import AllModelsFailed, CallError, Hub
from modelhub.core.context import Services
from modelhub.core.errors import NotConfigured, Overloaded
from modelhub.core.events import CallEnded
from modelhub.core.model import Layer
from modelhub.core.tracebacks import trim_traceback
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.retry.layer import Retry
from modelhub.middleware.retry.options import RetryOptions
from modelhub.providers.scripted import ScriptedChatModel, Step
from modelhub.testing import FaultServer, VirtualClock, faults, run_virtual
from tests.tables import table

LONGEST = 40  # what fits a screen
PROVIDERS = ["openai", "anthropic", "gemini", "dashscope", "ollama"]


def model(provider, url):
    address = {"host": url} if provider == "ollama" else {"base_url": url, "api_key": "k"}
    return {"provider": provider, "model_name": "m", **address}


async def fail(providers, name, *, fault=None, stream=False):
    """The error of a call of the chain over *providers*, or of one of them, all of which fail."""
    async with FaultServer() as server:
        models = {provider: model(provider, server.url(provider)) for provider in providers}
        for provider in providers:
            server.script(provider, [fault or faults.status(500)], then="repeat")
        config = {"version": 1, "models": models, "chains": {"chain": {"models": providers}}}
        async with Hub.from_dict(config, services=Services(VirtualClock())) as hub:
            try:
                reply = await hub.get(name)("hi", stream=stream)
                await reply.final()
            except CallError as error:
                return error
    raise AssertionError("the call did not fail")


def lines(error):
    return "".join(traceback.format_exception(error)).splitlines()


def files(error):
    return [line.split('"')[1] for line in lines(error) if line.lstrip(" |").startswith('File "')]


@table("provider", PROVIDERS)
def test_the_traceback_of_a_failed_call_is_the_callers(provider):
    """Frames of the layers, the SDK and the transport say nothing to him."""
    for stream in (False, True):
        error = run_virtual(fail([provider], provider, stream=stream))
        assert {*files(error)} == {__file__}
        assert len(lines(error)) < LONGEST / 2
        assert type(error).__name__ in lines(error)[-1]


def test_the_traceback_of_a_failed_chain_fits_a_screen():
    """It says for each model what failed, once."""
    error = run_virtual(fail(PROVIDERS[:3], "chain"))
    assert isinstance(error, AllModelsFailed)
    assert {*files(error)} == {__file__}
    assert len(lines(error)) <= LONGEST


def test_the_traceback_of_a_broken_stream_is_the_callers():
    """Also where the answer had begun."""
    error = run_virtual(fail(["openai"], "openai", fault=faults.cut(after=2), stream=True))
    assert {path.rpartition("modelhub/")[2] for path in files(error)} <= {
        "tests/test_tracebacks.py",
        __file__,
        "core/stream.py",
    }
    assert len(lines(error)) <= LONGEST


def test_every_frame_is_there_on_demand(monkeypatch):
    """For who looks for a fault in a library."""
    monkeypatch.setenv("MODELHUB_TRACEBACKS", "full")
    error = run_virtual(fail(["anthropic"], "anthropic"))
    assert any("modelhub/middleware" in path for path in files(error))


def test_frames_of_the_applications_own_code_stay():
    """A plug-in, or a function that gives a key, is where its author looks first."""

    def look_up_key():
        raise LookupError("the vault is sealed")

    def fail():
        try:
            look_up_key()
        except LookupError as cause:
            raise NotConfigured("no key") from cause

    with pytest.raises(NotConfigured) as caught:
        fail()
    trim_traceback(caught.value)
    assert "in look_up_key" in "".join(lines(caught.value))


async def test_an_exception_that_was_being_handled_stays_as_it_is():
    """It is the application's, with all its frames."""

    async def call_while_handling(handled):
        try:
            raise handled
        except TimeoutError:
            await hub.get("m")("hi")

    config = {"version": 1, "models": {"m": {"provider": "scripted", "steps": [{"fail": "InvalidRequest"}]}}}
    async with Hub.from_dict(config) as hub:
        with pytest.raises(TimeoutError) as timed_out:
            await asyncio.wait_for(asyncio.Event().wait(), 0)
        library_files = {path for path in files(timed_out.value) if "asyncio" in path}
        with pytest.raises(CallError) as caught:
            await call_while_handling(timed_out.value)
    assert caught.value.__context__ is timed_out.value
    assert library_files
    assert library_files <= {*files(timed_out.value)}


@pytest.mark.parametrize("failure", ["Overloaded", "AuthenticationFailed", "BadReply"])
def test_what_was_mended_keeps_no_stream_alive(failure):
    """A stream that is forgotten after a fallback or a retry ends at once: no frame of a failure refers to it."""
    ends = []
    services = Services(
        VirtualClock(), observers=(lambda event: isinstance(event, CallEnded) and ends.append(event.how),)
    )
    config = {
        "version": 1,
        "models": {
            "a": {"provider": "scripted", "steps": [{"fail": failure}]},
            "b": {"provider": "scripted", "steps": [{"fail": "Overloaded"}, {"say": "a long answer"}]},
        },
        "chains": {"chain": {"models": ["a", "b"]}},
    }

    async def forget(hub):
        stream = await hub.get("chain")("hi", stream=True)
        await anext(stream)

    async def main():
        hub = Hub.from_dict(config, services=services)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # a forgotten stream says so
            await forget(hub)
            await asyncio.sleep(0)
        await hub.aclose()

    gc.disable()
    try:
        run_virtual(main())
        assert ends == ["abandoned"]
    finally:
        gc.enable()


FAILED, ANSWER = Step(fail="Overloaded"), "a long answer"


class Reraising(Layer):
    """A layer of a third party, whose frame is in the tracebacks of what passes it."""

    async def send(self, request):
        try:
            return await self.inner.send(request)
        except Overloaded as error:
            raise error from ConnectionError("why")


@pytest.mark.parametrize(
    "models",
    [
        [Reraising(ScriptedChatModel(steps=[FAILED])), ScriptedChatModel(reply=ANSWER)],
        [Retry(Reraising(ScriptedChatModel(steps=[FAILED, FAILED, Step(say=ANSWER)])), RetryOptions(initial_wait=0))],
    ],
    ids=["fallback", "retry"],
)
async def test_a_plug_ins_frame_in_what_was_mended_keeps_no_stream_alive(models):
    """It may keep the frames below it alive, down to the caller's."""
    chain = Chain("chain", models)

    async def forget():
        stream = await chain("hi", stream=True)
        await anext(stream)

    gc.disable()
    try:
        with pytest.warns(ResourceWarning, match="was never read to its end nor closed"):
            await forget()
    finally:
        gc.enable()
