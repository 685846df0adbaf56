"""Sixteen faults of a provider, at the timings that a public benchmark publishes, and what a chain makes of them.

A chain of a primary and a fallback is asked once for each fault (twenty times for the one that comes and goes), as a
stream, on real sockets and in virtual time. It is scored as that benchmark scores: from what the caller got and from
what the server saw. The primary speaks two of the six wires in turn, with MODELHUB_LONG=1 all of them, the fallback
always OpenAI's.
"""

import asyncio
import os
import random

import pytest

from benchmarks.sixteen import FULL, SCENARIOS, config, play, verdict
from modelhub import Hub
from modelhub.core.context import Services
from modelhub.testing import CannedResponse, FaultServer, VirtualClock, run_virtual
from modelhub.testing.wires import WIRES


async def play_some(names, **policy):
    """Play the scenarios *names*, in one hub."""
    async with FaultServer(CannedResponse(interval=FULL.pause)) as server:
        services = Services(clock=VirtualClock(), random=random.Random(16))
        async with Hub.from_dict(config(server, **policy), environ={}, services=services) as hub:
            return {name: await play(hub, server, name) for name in names}


def describe(name, run):
    """What kept the scenario *name* from passing, None if nothing did."""
    said, failed = verdict(name, run)
    story = f"{SCENARIOS[name][0]}: {len(run.primary)} primary, {len(run.fallback)} fallback, {run.calls[0]}"
    return None if said == "pass" else f"{said}: {failed}; {story}"


def test_every_fault_is_survived():
    """All sixteen pass, on wires side by side; one hub for all that a wire plays, as one app would have."""
    every = 1 if os.environ.get("MODELHUB_LONG") else 3
    played = {kind: list(SCENARIOS)[shift % every :: every] for shift, kind in enumerate(WIRES)}

    async def main():
        return await asyncio.gather(*(play_some(names, kind=kind) for kind, names in played.items()))

    runs = dict(zip(WIRES, run_virtual(main()), strict=True))
    descriptions = {(kind, name): describe(name, runs[kind][name]) for kind, names in played.items() for name in names}
    assert descriptions == dict.fromkeys(descriptions)
    assert len(descriptions) == 16 * len(WIRES) / every


SLOW = {"connect": "5s", "first_token": "30s", "idle": "30s"}
ONCE = {"max_attempts": 1}
WORSE = [
    ("S01", "partial", {"retry": ONCE}),
    ("S03", "partial", {"retry": ONCE}),
    ("S07", "partial", {"timeout": SLOW}),
    ("S08", "safe", {"chain": {"on_broken_stream": "raise"}}),
    ("S09", "safe", {"chain": {"on_broken_stream": "raise"}}),
    ("S13", "partial", {"chain": {"fallback_on": ["ContentBlocked"]}}),
    ("S14", "safe", {"chain": {"on_broken_stream": "raise"}}),
    ("S15", "fail", {"breaker": {"failures": 1, "pause": "10m", "max_pause": "10m"}}),
]


@pytest.mark.parametrize(("name", "expected", "policy"), WORSE)
def test_the_score_tells_policies_apart(name, expected, policy):
    """A worse policy scores worse: it is the policy that passes, not the score that is blind."""
    runs = run_virtual(play_some([name], **policy))
    assert verdict(name, runs[name])[0] == expected
