"""Beyond single faults: long outages, a wrong key, models that come and go, in hours of virtual time.

MODELHUB_LONG=1 plays more calls, more cycles and a longer outage.
"""

import asyncio
import contextlib
import os
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from modelhub import Hub, registry
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.providers.scripted import ScriptedChatModel, ScriptedOptions, Step
from modelhub.testing import VirtualClock, run_virtual

ANSWER = Step(say="fine", wait=0.2)
SEED = 1
LONG = bool(os.environ.get("MODELHUB_LONG"))
RATE = 20 if LONG else 4  # calls a second
HOURLY = 2 if LONG else 0.2  # calls a second where an hour is played
CYCLES = 10 if LONG else 3


@dataclass
class Weather:
    """When each model is up, as a function of the hour; and when it was asked."""

    up: dict = field(default_factory=dict)
    failure: str = "Overloaded"
    asked: dict = field(default_factory=dict)


WEATHER = Weather()


class WeatherOptions(ScriptedOptions):
    """A model that is up or down by the hour."""

    provider: str = "weather"

    def connect(self):
        """The model."""
        return WeatherModel(self.model_name)


class WeatherModel(ScriptedChatModel):
    """Answers when its weather is good, else fails."""

    kind = "weather"

    def encode(self, request, structured, stream):
        now = self.services.clock.now()
        WEATHER.asked.setdefault(self.model_name, []).append(now)
        good = WEATHER.up.get(self.model_name, lambda _: True)(now)
        step = ANSWER if good else Step(fail=WEATHER.failure, wait=0.05)
        return {"step": step, "words": 1}


@pytest.fixture(autouse=True, scope="module")
def _registered():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(registry.PROVIDERS, "weather", f"{__name__}:WeatherOptions")
        yield


@pytest.fixture(name="weather")
def _weather():
    WEATHER.up, WEATHER.failure, WEATHER.asked = {}, "Overloaded", {}
    return WEATHER


@dataclass
class Call:
    """One call: when it began, when it ended, and who answered (None: nobody)."""

    began: float
    ended: float
    model: str | None


def hub_of_two(**chain):
    """A primary, a backup and a chain of both, with the defaults."""
    config = {
        "version": 1,
        "models": {name: {"provider": "weather", "model_name": name} for name in ("primary", "backup")},
        "chains": {"main": {"models": ["primary", "backup"], **chain}},
    }
    return Hub.from_dict(config, services=Services(VirtualClock(), random.Random(SEED)))


async def traffic(chain, seconds, rate=RATE):
    """*rate* calls a second, evenly, whatever becomes of them."""
    clock = chain.services.clock

    async def call():
        began, model = clock.now(), None
        with contextlib.suppress(CallError):
            model = (await chain("hi")).model
        return Call(began, clock.now(), model)

    tasks = []
    for number in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, number / rate - clock.now()))
        tasks.append(asyncio.ensure_future(call()))
    return await asyncio.gather(*tasks)


def test_a_wrong_key_is_tried_once_a_minute(weather):
    """For an hour every call is answered by the backup, and the primary sees at most one probe a minute."""
    weather.up["primary"], weather.failure = lambda _: False, "AuthenticationFailed"
    calls = run_virtual(traffic(hub_of_two().get("main"), 3600, rate=HOURLY), grace=0)
    assert {call.model for call in calls} == {"backup"}
    asked = weather.asked["primary"]
    assert 50 <= len(asked) <= 61
    assert min(later - earlier for earlier, later in pairwise(asked)) >= 60
    assert max(call.ended - call.began for call in calls) < 0.5


def test_a_mended_key_is_noticed_within_two_minutes(weather):
    """The first probe that succeeds brings all calls back."""
    weather.up["primary"], weather.failure = lambda now: now > 600, "AuthenticationFailed"
    calls = run_virtual(traffic(hub_of_two().get("main"), 720, rate=2 if LONG else 1), grace=0)
    assert {call.model for call in calls if call.began < 599} == {"backup"}
    assert {call.model for call in calls if call.began > 670} == {"primary"}


def test_out_of_phase_no_call_is_lost(weather):
    """Minutes of two models of which one is always up: everybody gets an answer, soon, and from the right one."""
    weather.up["primary"] = lambda now: now % 60 < 30
    weather.up["backup"] = lambda now: now % 60 >= 30
    calls = run_virtual(traffic(hub_of_two().get("main"), 60 * CYCLES), grace=0)
    assert len(calls) == 60 * CYCLES * RATE
    assert [call for call in calls if call.model is None] == []
    assert max(call.ended - call.began for call in calls) < 8
    assert sum(call.ended - call.began < 0.5 for call in calls) > 0.85 * len(calls)
    # Five seconds after the primary is up again it has all the calls.
    assert {call.model for call in calls if call.began > 60 and 5 <= call.began % 60 < 29} == {"primary"}
    # Retries, probes and all: a fifth more attempts than calls at the most.
    assert sum(map(len, weather.asked.values())) <= 1.2 * len(calls)


def test_in_a_long_outage_the_backup_has_all_the_calls(weather):
    """An hour without the primary costs probes, not attempts, and nobody waits."""
    weather.up["primary"] = lambda now: False
    calls = run_virtual(traffic(hub_of_two().get("main"), 3600, rate=HOURLY), grace=0)
    assert {call.model for call in calls} == {"backup"}
    assert len(weather.asked["primary"]) <= 3600 / 4
    assert len(weather.asked["backup"]) == len(calls)
    assert max(call.ended - call.began for call in calls if call.began >= 10) < 0.7


@pytest.mark.parametrize("hours", [0.1, 2 if LONG else 0.2])
def test_after_any_outage_the_primary_is_back_within_seconds(weather, hours):
    """The pause does not grow with the outage."""
    end = hours * 3600
    weather.up["primary"] = lambda now: now >= end
    calls = run_virtual(traffic(hub_of_two().get("main"), end + 30, rate=1), grace=0)
    back = next(call.began for call in calls if call.model == "primary")
    assert back - end <= 6


def test_when_all_are_down_nobody_is_hammered(weather):
    """Two minutes of nothing: each model sees its probes, and the calls that can wait are answered at the end."""
    weather.up["primary"] = weather.up["backup"] = lambda now: now >= 120
    calls = run_virtual(traffic(hub_of_two(deadline=30).get("main"), 150, rate=5 if LONG else 1), grace=0)
    down = {name: [at for at in asked if at < 120] for name, asked in weather.asked.items()}
    for asked in down.values():
        assert len(asked) <= 120 / 4 * 1.2 + 20
    assert all(call.model is None for call in calls if call.ended < 120)
    assert all(call.ended - call.began <= 30.001 for call in calls)
    assert all(call.model is not None for call in calls if call.began >= 100)
