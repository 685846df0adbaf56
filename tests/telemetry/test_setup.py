"""Telemetry begins when the application has set OpenTelemetry up, unless the file says otherwise."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from modelhub import ConfigError, Hub
from modelhub.telemetry.observer import Telemetry

ENTRY = {"version": 1, "models": {"m": {"provider": "scripted", "reply": "x"}}}

SET_UP = """
import asyncio, sys
from modelhub import CallError, Hub

key = "sk-very-secret-12345678"
vendor = {"provider": "ollama", "model_name": "gpt-x", "api_key": key, "host": "http://127.0.0.1:9"}
entry = {**vendor, "retry": {"max_attempts": 1}, "generate_kwargs": {"temperature": 0.5}}
config = {"version": 1, "models": {"m": entry}}

async def call(hub):
    try:
        await hub.get("m")("hi")
    except CallError:
        pass

hub, off = Hub.from_dict(config), Hub.from_dict({**config, "telemetry": {"enabled": False}})
asyncio.run(call(hub))  # before OpenTelemetry is set up: nothing is recorded, nothing is wrong

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(exporter))
asyncio.run(call(off))
print(len(exporter.get_finished_spans()), "of the hub that is off")
asyncio.run(call(hub))
asyncio.run(hub.aclose())
asyncio.run(off.aclose())
for span in exporter.get_finished_spans():
    where = {key: value for key, value in span.attributes.items() if key.startswith(("server", "gen_ai.request"))}
    print(span.name, span.attributes["error.type"], where)
    assert key not in span.to_json()
"""


def printed(code):
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(name="set_up", scope="module")
def _set_up():
    """What a process prints that sets OpenTelemetry up after it has made two hubs, of which one is off."""
    return printed(SET_UP)


def test_a_hub_that_was_made_before_begins_when_it_is_set_up(set_up):
    """The application's global provider is found at the next call; the entry's address and parameters are told."""
    where = {"gen_ai.request.model": "gpt-x", "server.address": "127.0.0.1", "server.port": 9}
    _, attempt, call = set_up
    assert call == "chat m ConnectFailed {}"
    assert attempt == f"chat gpt-x ConnectFailed { {**where, 'gen_ai.request.temperature': 0.5} }"


def test_the_file_can_turn_it_off(set_up):
    """For an application that has its own instrumentation of the vendors' SDKs, say."""
    assert set_up[0] == "0 of the hub that is off"


def test_a_file_that_wants_it_needs_the_api(monkeypatch):
    """The error says what to install."""
    wants = {**ENTRY, "telemetry": {"enabled": True}}
    assert Hub.from_dict(wants).services.instrumentations
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)
    with pytest.raises(ConfigError, match=r"pip install 'modelhub-chains\[otel\]'"):
        Hub.from_dict(wants)


def test_content_is_asked_for_in_the_file():
    """Not by default; a variable of the environment can say it too."""

    def content(**options):
        environ = {"CAPTURE": "true"}
        (follower,) = Hub.from_dict({**ENTRY, "telemetry": options}, environ=environ).services.instrumentations
        return follower.content

    assert (content(), content(content=True), content(content="${CAPTURE:-false}")) == (False, True, True)


def test_a_follower_of_ones_own_is_the_only_one(told):
    """Nobody is told twice."""
    hub = told.hub(a=[{"say": "one"}])
    assert len([follower for follower in hub.services.instrumentations if isinstance(follower, Telemetry)]) == 1


def test_the_extra_is_the_api_alone():
    """Which SDK there is, is the application's business."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"]["otel"]
    assert [re.match(r"[\w-]+", line)[0] for line in wanted] == ["opentelemetry-api"]
