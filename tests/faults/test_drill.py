"""The standard list of a fire drill: what a chain, and a model on its own, make of every entry."""

import asyncio
import importlib
import random
from functools import cache

import pytest

from modelhub import Hub
from modelhub.config.load import load_dict
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.testing import FAULTS, CannedResponse, FaultServer, VirtualClock, reroute_config, run_virtual
from modelhub.testing.wires import WIRES

PLACES = ("chain", "alone")
LONGEST = 300
"""Seconds within which even a model on its own must have come to an end."""


@pytest.fixture(scope="module", autouse=True)
def _sdks():
    """Import the SDKs before the first call: virtual time would run out while a thread does."""
    for name in ("openai", "anthropic", "dashscope", "ollama", "google.genai"):
        importlib.import_module(name)


@cache
def load(kind):
    """The configuration with a model of *kind* before two others, and by itself."""
    config = {
        "version": 1,
        "defaults": {
            "timeout": {"first_token": "10s", "idle": "10s", "slow": {"below": 20}, "total": "15s"},
            "retry": {"max_attempts": 2},
        },
        "models": {
            "first": {**WIRES[kind].entry, "model_name": "m"},
            "second": {"provider": "openai", "model_name": "m"},
            "last": {"provider": "ollama", "model_name": "m"},
        },
        "chains": {"chain": {"models": ["first", "second", "last"]}, "alone": {"models": ["first"]}},
    }
    return load_dict(config, environ={})


async def drilled(kind, drill, place, stream):
    """What a call of *place* gives while *drill* is played: `answer`, `error`, or what else happened."""
    async with FaultServer() as server:
        services = Services(clock=VirtualClock(), random=random.Random(1))
        async with Hub.from_dict(reroute_config(load(kind), server), environ={}, services=services) as hub:
            server.script("first", drill.script, drill.then)
            for name in ("second", "last"):
                server.script(name, drill.others)
            if drill.all_but_last:
                server.script("second", drill.script, drill.then)
            try:
                async with asyncio.timeout(LONGEST):
                    reply = await hub.get(place)("hi", stream=stream)
                    reply = await reply.final() if stream else reply
            except CallError:
                return "error"
            except TimeoutError:
                return "hang"
            if reply.finish_reason == "content_filter" and not reply.text:
                return "error"
            return "answer" if reply.text == CannedResponse().text else f"truncated: {reply.text[-20:]!r}"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", FAULTS)
def test_an_entry_comes_to_what_it_expects(name, place, stream):
    """On every wire: an answer where one can be had, a clean error where none can; never a hang, never half a text."""
    drill = FAULTS[name]

    async def main():
        found = await asyncio.gather(*(drilled(kind, drill, place, stream) for kind in WIRES))
        return dict(zip(WIRES, found, strict=True))

    expected = drill.expects if place == "chain" else drill.alone
    if not stream and name == "no_end_mark":
        expected = "answer"  # a plain answer has no mark of its end to lose
    assert run_virtual(main()) == dict.fromkeys(WIRES, expected)
