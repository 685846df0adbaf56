"""Thousands of calls, two hundred at a time, against models that fail in every way, with callers that give up.

MODELHUB_LONG=1 makes ten thousand calls instead of a thousand.
"""

import asyncio
import gc
import os
import random
import tracemalloc
from collections import Counter
from dataclasses import dataclass, field

import pytest

from modelhub import Hub, registry
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.core.events import AttemptEnded, CallEnded
from modelhub.middleware.breaker.layer import Breaker
from modelhub.providers.scripted import ScriptedChatModel, ScriptedOptions, Step
from modelhub.testing import VirtualClock, run_virtual

LONG = bool(os.environ.get("MODELHUB_LONG"))
CALLS, AT_ONCE = 10_000 if LONG else 1000, 200
TRACED = 200 if LONG else 80
"""Calls of a round in which memory is traced, which takes four times as long."""
ROUND = CALLS // 5
PLACES = {"wide": 60, "narrow": 12}
TEXT = "one two three four five"
WEIGHTS = {
    Step(say=TEXT, wait=0.3): 60,
    Step(say=TEXT, wait=6, pause=1): 6,  # slow
    Step(say="", wait=0.1): 2,  # empty
    Step(say=TEXT, break_after=2, wait=0.2): 6,  # cut
    Step(say=TEXT, break_after=0, wait=0.2): 2,  # cut before the first word
    Step(say=TEXT, wait=100): 2,  # silent
    Step(say=TEXT, pause=50): 3,  # stalls
    Step(fail="RateLimited", retry_after=2, status=429): 2,
    Step(fail="RateLimited", retry_after=20, status=429): 0.2,
    Step(fail="ConnectFailed"): 3,
    Step(fail="Overloaded", status=503, wait=0.2): 4,
    Step(fail="ServerError", status=500, wait=0.2): 3,
    Step(fail="BadReply"): 2,
    Step(fail="InvalidRequest", status=400): 1,
    Step(fail="ContentBlocked", status=400): 0.5,
    Step(fail="AuthenticationFailed", status=401): 0.05,
}
DICE = random.Random(7)


class MoodyOptions(ScriptedOptions):
    """A model that fails at random."""

    provider: str = "moody"

    def connect(self):
        """The model."""
        return MoodyModel(self.model_name)


class MoodyModel(ScriptedChatModel):
    """Rolls dice for each attempt."""

    kind = "moody"

    def encode(self, request, structured, stream):
        self.calls += 1
        (step,) = DICE.choices(list(WEIGHTS), list(WEIGHTS.values()))
        return {"step": step, "words": 1}


@pytest.fixture(name="hub")
def _hub(monkeypatch):
    monkeypatch.setitem(registry.PROVIDERS, "moody", f"{__name__}:MoodyOptions")
    DICE.seed(7)
    world = World()
    limits = {name: {"concurrency": places} for name, places in PLACES.items()}
    limits["wide"] |= {"requests_per_minute": 6000, "tokens_per_minute": 1_000_000}
    slow = {"provider": "scripted", "steps": [{"say": "x", "wait": 10}]}
    model = {"provider": "moody", "pricing": {"input": 1, "output": 2}}
    config = {
        "version": 1,
        "defaults": {
            "timeout": {"first_token": 8, "idle": 5, "total": 30},
            "breaker": {"failures": 12, "share": 0.6},
        },
        "limits": limits,
        "models": {
            "a": model | {"limit": "wide"},
            "b": model | {"limit": "narrow", "retry": {"max_attempts": 2}},
            "x": model | {"limit": "wide", "breaker": {"failures": 3}},
            "last": {"provider": "scripted", "reply": "at last", "limit": "narrow"},
            **{f"last-{limit}": {**slow, "limit": limit} for limit in PLACES},
        },
        "chains": {
            "inner": {"models": ["b", "x"], "deadline": "40s"},
            "main": {"models": ["a", "inner", "last"], "deadline": "90s"},
            "short": {"models": ["a", "x"], "deadline": "5s"},
            "frail": {"models": ["x", "b"], "on_broken_stream": "raise"},
        },
    }
    world.hub = Hub.from_dict(config, services=Services(VirtualClock(), random.Random(7), (world.observe,)))
    return world


@dataclass
class World:
    """What is counted: records of calls are looked at and let go, for memory is measured."""

    hub: Hub = None
    settled: Counter = field(default_factory=Counter)
    ended: Counter = field(default_factory=Counter)
    results: Counter = field(default_factory=Counter)
    ids: set = field(default_factory=set)
    twice: int = 0
    told: int = 0

    def observe(self, event):
        if isinstance(event, AttemptEnded):
            self.ended[event.attempt["outcome"]] += 1
        elif isinstance(event, CallEnded):
            self.settled[event.how] += 1
            self.twice += hash(event.call_id) in self.ids
            self.ids.add(hash(event.call_id))
            self.told += len(event.attempts)
            assert all(attempt["outcome"] is not None for attempt in event.attempts)

    async def call(self, dice):
        """One call, of one of the chains, plain or streamed, read to its end or not."""
        chain = self.hub.get(dice.choice(["main", "main", "main", "short", "frail"]))
        reply = await chain("hi", stream=dice.random() < 0.5)
        if not hasattr(reply, "aclose"):
            return "answered" if reply["is_last"] else "short"
        async with reply:
            gives_up_after = dice.choice([99, 99, 99, 2])
            async for snapshot in reply:
                last, gives_up_after = snapshot, gives_up_after - 1
                if not gives_up_after:
                    return "answered" if last["is_last"] else "closed"
        return "answered" if last["is_last"] else "short"

    async def worker(self, numbers, dice):
        """Calls, one after the other; now and then the caller loses patience."""
        loop = asyncio.get_running_loop()
        for _ in numbers:
            await asyncio.sleep(dice.uniform(0, 10))
            task = loop.create_task(self.call(dice))
            cancels = dice.random() < 0.15
            timer = loop.call_later(dice.expovariate(1), task.cancel) if cancels else None
            try:
                self.results[await task] += 1
            except CallError as error:
                self.results[error.kind] += 1
            except asyncio.CancelledError:
                assert cancels
                self.results["cancelled"] += 1
            if timer is not None:
                timer.cancel()

    async def round(self, calls, dice):
        """So many calls by two hundred workers; they take the next when they have done with one."""
        numbers = iter(range(calls))
        await asyncio.gather(*[self.worker(numbers, dice) for _ in range(AT_ONCE)])


async def soak(world):
    """All calls in five rounds; gives how many objects there are after each."""
    dice, objects = random.Random(11), []
    for _ in range(CALLS // ROUND):
        await world.round(ROUND, dice)
        gc.collect()
        objects.append(len(gc.get_objects()))
    await asyncio.sleep(1)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await check_places(world.hub)
    return objects


async def check_places(hub):
    """As many as a limit has places go through at once, and not one more."""
    await asyncio.sleep(120)
    for limit, places in PLACES.items():
        chain, now = hub.get(f"last-{limit}"), hub.services.clock.now
        began = now()
        await asyncio.gather(*[chain("hi") for _ in range(places)])
        assert now() - began == pytest.approx(10)
        await asyncio.gather(*[chain("hi") for _ in range(places + 1)])
        assert now() - began == pytest.approx(30)


def test_thousands_of_calls(hub):
    """Each ends, as a success or as a failure with a name, and nothing is left of any of them."""
    objects = run_virtual(soak(hub), grace=0)
    assert abs(objects[-1] - objects[0]) < 500 + CALLS // 20
    extra = sum(2 * places + 1 for places in PLACES.values())
    assert hub.results.total() == CALLS
    assert hub.results["answered"] > 0.6 * CALLS
    assert hub.results["short"] == 0
    assert hub.results["UnknownFailure"] == 0
    assert hub.results["cancelled"] > 0.01 * CALLS
    assert hub.settled.total() == CALLS + extra
    assert hub.twice == 0
    assert hub.settled["abandoned"] == 0
    assert hub.ended.total() == hub.told
    assert not any(breaker_of(hub.hub, name).probing for name in ("a", "b", "x"))
    assert {"FirstTokenTimeout", "StreamBroken", "RateLimited", "BreakerOpen", "DeadlineExceeded"} <= set(hub.ended)


def test_memory_is_flat(hub):
    """What the last calls leave behind is no more than what the first did."""

    async def rounds():
        used = []
        for _ in range(3):
            await hub.round(TRACED, random.Random(11))
            hub.ids.clear()
            gc.collect()
            used.append(tracemalloc.get_traced_memory()[0])
        return used

    tracemalloc.start()
    try:
        used = run_virtual(rounds(), grace=0)
    finally:
        tracemalloc.stop()
    assert used[-1] - used[1] < TRACED * 500  # a call that leaves its record behind leaves some thousand bytes


def breaker_of(hub, name):
    """The state of a model's breaker."""
    return next(layer for layer in hub.get(name).models[0].stack() if isinstance(layer, Breaker)).state
