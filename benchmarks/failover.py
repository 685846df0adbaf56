"""Sixteen faults of a provider, in real time, and what a chain of two models makes of them.

    python -m benchmarks.failover [--quick] [--only S06,S15]

The timings and the scoring are those that FailoverBench publishes (methodology 0.1, profile full): about two and a half
minutes, most of which is S15's outage. --quick shortens silences and the outage: about a minute. The primary and the
fallback speak OpenAI's API, through the openai SDK, to our own fault server on loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator

from benchmarks.sixteen import FAST, FULL, SCENARIOS, Run, Timing, config, play, verdict
from modelhub import Hub
from modelhub.testing import CannedResponse, FaultServer

CONFIGURATION = """\
defaults:
  timeout: {connect: 5s, first_token: 10s, idle: 10s}
  retry: {max_attempts: 3}
models:
  primary: {provider: openai, model_name: primary, base_url: ...}
  fallback: {provider: openai, model_name: spare, base_url: ...}
chains:
  chain: {models: [primary, fallback]}
"""
"""What `config` says, for one of its sixteen primaries."""


async def runs(names: list[str], timing: Timing) -> AsyncIterator[tuple[str, Run]]:
    """Each of *names*, played one after the other in one hub, as one app would have."""
    answer = CannedResponse(interval=timing.pause)
    async with FaultServer(answer) as server, Hub.from_dict(config(server), environ={}) as hub:
        await hub.get("fallback")("Are you there?")  # the SDK is loaded before anything is timed
        for name in names:
            yield name, await play(hub, server, name, timing)


def row(name: str, run: Run) -> tuple[str, str]:
    """One row of Markdown, and its verdict."""
    said, failed = verdict(name, run)
    reasons = f": {', '.join(what for _, what in failed)}" if failed else ""
    seconds = max(call.took for call in run.calls)
    cells = (name, SCENARIOS[name][0], f"{said}{reasons}", len(run.primary), len(run.fallback), f"{seconds:.1f}")
    return f"| {' | '.join(map(str, cells))} |", said


def footnote(run: Run) -> str:
    """What the table does not say of S15."""
    answered = sum(call.complete for call in run.during())
    back = run.recovered_after()
    again = f"asked and answered again {max(back, 0):.1f} s after it was back" if back < 1e9 else "not seen again"
    return (
        f"S15: {len(run.calls)} calls, the slowest took what is shown; {answered} of {len(run.during())} during the "
        f"outage were answered; the primary was {again}."
    )


async def measure(names: list[str], timing: Timing) -> None:
    """Play and print."""
    began, counts, notes = time.monotonic(), Counter[str](), []
    print("| | fault | verdict | primary | fallback | seconds |")
    print("|---|---|---|---:|---:|---:|", flush=True)
    async for name, run in runs(names, timing):
        text, said = row(name, run)
        counts[said] += 1
        print(text, flush=True)
        if name == "S15":
            notes.append(footnote(run))
    score = " / ".join(f"{counts[said]} {said}" for said in ("pass", "partial", "safe", "fail"))
    profile = "full" if timing is FULL else "shortened"
    notes.insert(0, f"{score}; profile {profile}, run time {time.monotonic() - began:.0f} s.")
    print("", *notes, "", "```yaml", CONFIGURATION + "```", sep="\n")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover", description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="shorter silences, and a shorter outage")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="some of S01 to S16")
    arguments = parser.parse_args()
    names = arguments.only.split(",")
    if unknown := [name for name in names if name not in SCENARIOS]:
        parser.error(f"no fault is called {', '.join(unknown)} (there are S01 to S16)")
    asyncio.run(measure(names, FAST if arguments.quick else FULL))


if __name__ == "__main__":
    main()
