"""The standard list of a fire drill: what a chain, and a model on its own, make of every entry.

Every wire plays half of the ways to call, which take turns; MODELHUB_LONG=1 plays all of them on every wire.
"""

import asyncio
import importlib
import itertools
import os
import random

import pytest

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.testing import FAULTS, CannedResponse, FaultServer, VirtualClock, reroute_config, run_virtual
from modelhub.testing.wires import WIRES
from tests.tables import table

HALVES = (0, 1) if os.environ.get("MODELHUB_LONG") else (0,)
WAYS = list(itertools.product(("chain", "alone"), ("whole", "stream")))
LONGEST = 300
"""Seconds within which even a model on its own must have come to an end."""


@pytest.fixture(scope="module", autouse=True)
def _sdks():
    """Import the SDKs before the first call: virtual time would run out while a thread does."""
    for name in ("openai", "anthropic", "dashscope", "ollama", "google.genai"):
        importlib.import_module(name)


def list_calls(number, half):
    """The wire, the place and the way of every call in one *half* of those that the entry *number* can be played to."""
    for shift, kind in enumerate(WIRES):
        for place, way in WAYS:
            if (number + half + shift + (place == "chain") + (way == "stream")) % 2:
                yield kind, place, way


def configure(calls):
    """A model for each of *calls*, by itself or before two others that all chains share."""
    names = {call: "-".join(call) for call in calls}
    first = {name: {**WIRES[kind].entry, "model_name": "m"} for (kind, *_), name in names.items()}
    chained = [name for (_, place, _), name in names.items() if place == "chain"]
    return {
        "version": 1,
        "defaults": {
            "timeout": {"first_token": "10s", "idle": "10s", "slow": {"below": 20}, "total": "15s"},
            "retry": {"max_attempts": 2},
        },
        "models": {
            **first,
            "second": {"provider": "openai", "model_name": "m"},
            "last": {"provider": "ollama", "model_name": "m"},
        },
        "chains": {f"chain-{name}": {"models": [name, "second", "last"]} for name in chained},
    }


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


async def play(drill, calls):
    """What each of *calls* gives while *drill* is played."""
    async with FaultServer() as server:
        config = reroute_config(configure(calls), server)
        services = Services(clock=VirtualClock(), random=random.Random(1))
        async with Hub.from_dict(config, environ={}, services=services) as hub:
            for call in calls:
                server.script("-".join(call), drill.script, drill.then)
            for name in ("second", "last"):
                server.script(name, drill.others)
            if drill.all_but_last:
                server.script("second", drill.script, drill.then)
            models = [hub.get("-".join(("chain", *call) if "chain" in call else call)) for call in calls]
            replies = (call_model(model, "stream" in call) for model, call in zip(models, calls, strict=True))
            return dict(zip(calls, await asyncio.gather(*replies), strict=True))


def expect(name, place, way):
    """What a call of *place* must give while the entry *name* is played."""
    if way == "whole" and name == "no_end_mark":
        return "answer"  # a plain answer has no mark of its end to lose
    return FAULTS[name].expects if place == "chain" else FAULTS[name].alone


@table("half", HALVES)
@table("name", FAULTS)
def test_an_entry_comes_to_what_it_expects(name, half):
    """On every wire: an answer where one can be had, a clean error where none can; never a hang, never half a text."""
    calls = list(list_calls(list(FAULTS).index(name), half))
    expected = {(kind, place, way): expect(name, place, way) for kind, place, way in calls}
    assert run_virtual(play(FAULTS[name], calls)) == expected
