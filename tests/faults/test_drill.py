"""The standard list of a fire drill: what a chain, and a model on its own, make of every entry.

Every wire plays one of the four ways to call, which take turns; MODELHUB_LONG=1 plays all of them on every wire.
"""

import asyncio
import importlib
import itertools
import os
import random

import pytest

from modelhub import Hub
from modelhub.config.load import load_dict
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.testing import FAULTS, CannedResponse, FaultServer, VirtualClock, reroute_config, run_virtual
from modelhub.testing.wires import WIRES
from tests.tables import table

TURNS = range(4) if os.environ.get("MODELHUB_LONG") else (0,)
WAYS = list(itertools.product(("chain", "alone"), ("whole", "stream")))
LONGEST = 300
"""Seconds within which even a model on its own must have come to an end."""


@pytest.fixture(scope="module", autouse=True)
def _sdks():
    """Import the SDKs before the first call: virtual time would run out while a thread does."""
    for name in ("openai", "anthropic", "dashscope", "ollama", "google.genai"):
        importlib.import_module(name)


def list_calls(number, turn):
    """The place and the way of the call of every wire that the entry *number* is played to in a *turn*."""
    return {kind: WAYS[(number + number // 4 + shift + turn) % 4] for shift, kind in enumerate(WIRES)}


CONFIG = {
    "version": 1,
    "defaults": {
        "timeout": {"first_token": "10s", "idle": "10s", "slow": {"below": 20}, "total": "15s"},
        "retry": {"max_attempts": 2},
    },
    "models": {
        **{kind: {**wire.entry, "model_name": "m"} for kind, wire in WIRES.items()},
        "second": {"provider": "openai", "model_name": "m"},
        "last": {"provider": "ollama", "model_name": "m"},
    },
    "chains": {f"chain-{kind}": {"models": [kind, "second", "last"]} for kind in WIRES},
}
"""A model for each wire, by itself and before two others that all chains share."""


async def call_model(model, stream):
    """What a call of *model* gives: `answer`, `error`, or what else happened."""
    try:
        async with asyncio.timeout(LONGEST):
            reply = await model("hi", stream=stream)
            reply = await reply.final() if stream else reply
    except CallError:
        return "error"
    except TimeoutError:
        return "hang"
    if reply.finish_reason == "content_filter" and not reply.text:
        return "error"
    return "answer" if reply.text == CannedResponse().text else f"truncated: {reply.text[-20:]!r}"


async def play(server, loaded, drill, calls):
    """What each of *calls* gives while *drill* is played, by its wire."""
    services = Services(clock=VirtualClock(), random=random.Random(1))
    async with Hub(loaded, services=services) as hub:
        for kind in calls:
            server.script(kind, drill.script, drill.then)
        server.script("second", *((drill.script, drill.then) if drill.all_but_last else (drill.others,)))
        server.script("last", drill.others)
        models = [hub.get(f"chain-{kind}" if place == "chain" else kind) for kind, (place, _) in calls.items()]
        replies = (call_model(model, way == "stream") for model, (_, way) in zip(models, calls.values(), strict=True))
        return dict(zip(calls, await asyncio.gather(*replies), strict=True))


async def play_all(turn):
    """What the calls of a *turn* give while each entry is played, by the entry and the wire."""
    async with FaultServer() as server:
        loaded = load_dict(reroute_config(CONFIG, server), environ={})
        outcomes = {}
        for number, (name, drill) in enumerate(FAULTS.items()):
            played = await play(server, loaded, drill, list_calls(number, turn))
            outcomes |= {(name, kind): outcome for kind, outcome in played.items()}
        return outcomes


def expect(name, place, way):
    """What a call of *place* must give while the entry *name* is played."""
    if way == "whole" and name == "no_end_mark":
        return "answer"  # a plain answer has no mark of its end to lose
    return FAULTS[name].expects if place == "chain" else FAULTS[name].alone


@table("turn", TURNS)
def test_an_entry_comes_to_what_it_expects(turn):
    """On every wire: an answer where one can be had, a clean error where none can; never a hang, never half a text."""
    expected = {
        (name, kind): expect(name, place, way)
        for number, name in enumerate(FAULTS)
        for kind, (place, way) in list_calls(number, turn).items()
    }
    assert run_virtual(play_all(turn)) == expected
