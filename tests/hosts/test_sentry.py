"""Sentry's integrations, which are on by default where their libraries are installed, report what the app reports."""

import asyncio

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from modelhub import CallError, Hub
from modelhub.testing import FaultServer, faults

PROVIDERS = ["openai", "anthropic", "gemini", "dashscope", "ollama"]
SCRIPT = [faults.status(500), faults.reset(), faults.status(429), faults.status(400), faults.html(), faults.cut()]


class Outbox(Transport):
    """Keeps the events of errors; traces and sessions are left out."""

    def __init__(self):
        super().__init__()
        self.errors = []

    def capture_envelope(self, envelope):
        if (event := envelope.get_event()) is not None:
            self.errors.append(event)


@pytest.fixture
def errors():
    """What is sent to Sentry."""
    outbox = Outbox()
    sentry_sdk.init(dsn="http://key@127.0.0.1/1", transport=outbox, traces_sample_rate=1.0)
    yield outbox.errors
    sentry_sdk.init()


def hub_with(server, provider):
    address = {"host": server.url("a")} if provider == "ollama" else {"base_url": server.url("a"), "api_key": "k"}
    model = {"provider": provider, "model_name": "m", **address}
    model |= {"retry": {"initial_wait": 0, "max_attempts": 2}, "breaker": {"failures": 1000}}
    models = {"m": model, "spare": {"provider": "scripted", "reply": "hello"}}
    return Hub.from_dict({"version": 1, "models": models, "chains": {"c": {"models": ["m", "spare"]}}})


async def ask(model, stream):
    reply = await model("hi", stream=stream)
    if stream:
        async with reply:
            async for snapshot in reply:
                reply = snapshot
    return reply


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_error_of_an_attempt_that_the_chain_mended(errors, provider, stream):
    """Refusals, lost connections and garbage: a retry or a fallback later all is well, and nobody is woken at night."""

    async def main(server):
        async with hub_with(server, provider) as hub:
            return [(await ask(hub.get("c"), stream)).model for _ in range(5)]

    with FaultServer().running() as server:
        server.script("a", SCRIPT, then="repeat")
        assert "spare" in asyncio.run(main(server))
    assert errors == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_an_error_that_the_application_reports_is_one_event(errors, provider):
    """Of our class, with the original as its cause."""

    async def main(server):
        async with hub_with(server, provider) as hub:
            for stream in (False, True):
                try:
                    await ask(hub.get("m"), stream)
                except CallError as error:
                    sentry_sdk.capture_exception(error)

    with FaultServer().running() as server:
        server.script("a", [faults.status(500)], then="repeat")
        asyncio.run(main(server))
    assert [event["exception"]["values"][-1]["type"] for event in errors] == ["ServerError"] * 2
