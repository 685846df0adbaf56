"""Sixteen faults of a provider as a public benchmark, FailoverBench 0.1, publishes them, and its way of scoring.

Scored is what the caller got and what the server saw: pass, partial (an advisory check failed), safe (no answer, but
a clean error), fail. The texts, the server and this code are our own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from modelhub import Hub
from modelhub.core.errors import CallError
from modelhub.middleware.chain.layer import Chain
from modelhub.testing import CannedResponse, FaultServer, Recorded, faults
from modelhub.testing.faults import Item
from modelhub.testing.wires import WIRES

__all__ = ["FAST", "FULL", "SCENARIOS", "Call", "Run", "Timing", "config", "play", "scripts", "verdict"]

TEXT = CannedResponse().text
PROMPT = "Say in sixty words why a harbour needs a second lamp."
SCENARIOS = {
    "S01": ("429 with Retry-After, once", 20),
    "S02": ("429 without Retry-After, always", 40),
    "S03": ("500, once", 20),
    "S04": ("503, always", 40),
    "S05": ("connection reset, once", 20),
    "S06": ("no answer at all", 130),
    "S07": ("slow first token", 60),
    "S08": ("stream cut", 40),
    "S09": ("stream stalls", 70),
    "S10": ("malformed event", 30),
    "S11": ("no [DONE]", 30),
    "S12": ("prompt too long", 20),
    "S13": ("content filter", 20),
    "S14": ("stream cut, and the fallback takes no prefill", 40),
    "S15": ("down for a while, then healthy", 200),
    "S16": ("503, always: is the fallback reported?", 40),
}
"""What each is, and after how many seconds a call counts as hanging."""


@dataclass(frozen=True)
class Timing:
    """How long things last, in seconds; the published timing if nothing else is said.

    Of S15: the server is down for `down`, and `calls` calls are made, one `every` so many seconds, each of which may
    take `wait_budget`.
    """

    silence: float = 120
    slow: float = 20
    stall: float = 30
    down: float = 60
    pause: float = 0.015
    calls: int = 20
    every: float = 4
    wait_budget: float = 30


FULL = Timing()
FAST = Timing(silence=15, slow=12, stall=12, down=6, pause=0.005, calls=20, every=1.2, wait_budget=10)
"""Shorter, but still longer than the clocks of `config`, so that they are put to the test."""


def scripts(timing: Timing = FULL) -> dict[str, tuple[Item, Any]]:
    """What the primary plays in each scenario, and what then."""
    down = faults.status(503, kind="overloaded")
    return {
        "S01": (faults.status(429, retry_after=2), "healthy"),
        "S02": (faults.status(429), "repeat"),
        "S03": (faults.status(500), "healthy"),
        "S04": (down, "repeat"),
        "S05": (faults.reset(), "healthy"),
        "S06": (faults.silence(timing.silence), "repeat"),
        "S07": (faults.slow_first_token(timing.slow), "repeat"),
        "S08": (faults.cut(40), "repeat"),
        "S09": (faults.stall(20, timing.stall), "repeat"),
        "S10": (faults.garbled(10), "repeat"),
        "S11": (faults.no_done(), "repeat"),
        "S12": (faults.status(kind="context_length"), "repeat"),
        "S13": (faults.status(kind="content_filter"), "repeat"),
        "S14": (faults.cut(40), "repeat"),
        "S15": (faults.flap(down=timing.down, up=86_400), "repeat"),
        "S16": (down, "repeat"),
    }


# -- what happened -----------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One call as its caller saw it; `sent_at` counts from when the server was reset."""

    outcome: str
    text: str = ""
    took: float = 0.0
    model: str | None = ""
    usage: object = None
    sent_at: float = 0.0
    error: str = ""

    @property
    def complete(self) -> bool:
        return self.outcome == "success" and " ".join(self.text.split()) == TEXT


@dataclass
class Run:
    """A scenario: its calls, and the requests that the two servers saw."""

    calls: list[Call]
    timing: Timing = FULL
    primary: list[Recorded] = field(default_factory=list)
    fallback: list[Recorded] = field(default_factory=list)
    alive: bool = False

    @property
    def call(self) -> Call:
        return self.calls[0]

    def gap(self) -> float:
        return self.primary[1].at - self.primary[0].at if len(self.primary) > 1 else -1.0

    def within(self, seconds: float) -> int:
        return sum(one.at - self.primary[0].at < seconds for one in self.primary)

    def during(self) -> list[Call]:
        return [call for call in self.calls if call.sent_at < self.timing.down]

    def recovered_after(self) -> float:
        return next((one.at - self.timing.down for one in self.primary if one.healthy), 1e9)

    def sizes_shrink(self) -> bool:
        sizes = [len(str(one.body)) for one in self.primary]
        return all(later < earlier for earlier, later in pairwise(sizes))


async def ask(chain: Chain, limit: float) -> Call:
    """Ask *chain* once; who takes longer than *limit* hangs."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    call = Call("hang", sent_at=began)
    try:
        async with asyncio.timeout(limit + 1):
            reply = await (await chain(PROMPT, stream=True)).final()
        # A reply that says that its content was filtered, and has none, is the vendor's refusal, not an answer.
        refused = reply.finish_reason == "content_filter" and not reply.text
        call.outcome = "error" if refused else "success"
        call.text, call.model, call.usage = reply.text, reply.model, reply.usage
    except CallError as error:
        call.outcome, call.error = "error", repr(error)
    except TimeoutError:
        pass
    call.took = loop.time() - began
    return call


async def play(hub: Hub, server: FaultServer, name: str, timing: Timing = FULL) -> Run:
    """Play the scenario *name* in a *hub* of `config`."""
    script, then = scripts(timing)[name]
    server.reset()
    reset_at = asyncio.get_running_loop().time()
    server.script(name, script, then)
    if name == "S14":
        server.script("fallback", faults.no_prefill())
    chain = hub.get(f"chain-{name}")
    calls = [await ask(chain, SCENARIOS[name][1])] if name != "S15" else await _sequence(chain, reset_at, timing)
    for call in calls:
        call.sent_at -= reset_at
    run = Run(calls, timing, server.requests(name), server.requests("fallback"))
    probe = await hub.get("fallback")(PROMPT, stream=False)
    run.alive = probe.text == TEXT
    return run


async def _sequence(chain: Chain, reset_at: float, timing: Timing) -> list[Call]:
    calls = []
    for number in range(timing.calls):
        due = reset_at + timing.every * number
        await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
        calls.append(await ask(chain, timing.wait_budget))
    return calls


def config(
    server: FaultServer, kind: str = "openai", chain: dict[str, Any] | None = None, **defaults: Any
) -> dict[str, Any]:
    """A primary of its own for each scenario, and one fallback for all; *chain* and *defaults* change the policy."""
    addresses = {"ollama": ("host", ""), "dashscope": ("base_http_api_url", "/api/v1"), "openai": ("base_url", "/v1")}
    entry = WIRES[kind].entry
    key, path = addresses.get(entry["provider"], ("base_url", ""))
    primaries = {
        name: {**entry, "model_name": f"primary-{name}", key: server.url(name) + path, "api_key": "a key"}
        for name in SCENARIOS
    }
    fallback = {"provider": "openai", "model_name": "spare", "base_url": server.url("fallback"), "api_key": "a key"}
    return {
        "version": 1,
        "defaults": {
            "timeout": {"connect": "5s", "first_token": "10s", "idle": "10s"},
            "retry": {"max_attempts": 3},
            **defaults,
        },
        "models": {**primaries, "fallback": fallback},
        "chains": {f"chain-{name}": {"models": [name, "fallback"], **(chain or {})} for name in SCENARIOS},
    }


# -- the score ---------------------------------------------------------------------------------------------------------

REQUIRED, ADVISORY = "required", "advisory"
Check = Callable[[Run], bool]


def no_hang(run: Run) -> bool:
    return all(call.outcome != "hang" for call in run.calls)


def no_truncation(run: Run) -> bool:
    return all(call.outcome != "success" or call.complete for call in run.calls)


def at_most(count: int) -> Check:
    return lambda run: len(run.primary) <= count


def at_least(count: int) -> Check:
    return lambda run: len(run.primary) >= count


def within(seconds: float) -> Check:
    return lambda run: run.call.outcome != "hang" and run.call.took <= seconds


def no_masking(run: Run) -> bool:
    refused = any(_last_is_assistant(one) for one in run.fallback)
    return not (run.call.outcome == "error" and refused)


def _last_is_assistant(request: Recorded) -> bool:
    return bool((request.body.get("messages") or [{}])[-1].get("role") == "assistant")


CHECKS: dict[str, list[tuple[str, str, Check]]] = {
    "S01": [
        ("retried", ADVISORY, at_least(2)),
        ("Retry-After honoured", ADVISORY, lambda run: run.gap() >= 1.8),
        ("no hammering", REQUIRED, lambda run: run.within(1.5) <= 2),
    ],
    "S02": [
        ("no hammering", REQUIRED, lambda run: run.within(3) <= 4),
        ("bounded", REQUIRED, at_most(6)),
        ("no hang", REQUIRED, no_hang),
    ],
    "S03": [("no hang", REQUIRED, no_hang), ("same provider again", ADVISORY, at_least(2))],
    "S04": [("bounded", REQUIRED, at_most(6)), ("no hang", REQUIRED, no_hang)],
    "S05": [("no hang", REQUIRED, no_hang)],
    "S06": [
        ("within 100 s", REQUIRED, within(100)),
        ("no hang", REQUIRED, no_hang),
        ("silence is not asked again", ADVISORY, at_most(1)),
    ],
    "S07": [("no hang", REQUIRED, no_hang), ("first token limited", ADVISORY, within(15))],
    "S08": [("nothing truncated", REQUIRED, no_truncation), ("no hang", REQUIRED, no_hang)],
    "S09": [
        ("within 45 s", REQUIRED, within(45)),
        ("nothing truncated", REQUIRED, no_truncation),
        ("alive afterwards", REQUIRED, lambda run: run.alive),
        ("no hang", REQUIRED, no_hang),
    ],
    "S10": [
        ("alive afterwards", REQUIRED, lambda run: run.alive),
        ("nothing truncated", REQUIRED, no_truncation),
        ("no hang", REQUIRED, no_hang),
        ("recovered", ADVISORY, lambda run: run.call.complete),
    ],
    "S11": [
        ("within 8 s", REQUIRED, within(8)),
        ("usage", ADVISORY, lambda run: bool(run.call.usage)),
    ],
    "S12": [
        ("not asked again as it was", REQUIRED, lambda run: len(run.primary) <= 1 or run.sizes_shrink()),
        ("bounded", REQUIRED, at_most(2)),
        ("no hang", REQUIRED, no_hang),
    ],
    "S13": [
        ("asked once", REQUIRED, lambda run: len(run.primary) == 1),
        ("no hang", REQUIRED, no_hang),
    ],
    "S14": [
        ("a refused prefill is not the last word", REQUIRED, no_masking),
        ("nothing truncated", REQUIRED, no_truncation),
    ],
    "S15": [
        ("no hang", REQUIRED, no_hang),
        ("served while down", REQUIRED, lambda run: bool(run.during()) and all(one.complete for one in run.during())),
        ("back within 30 s", REQUIRED, lambda run: run.recovered_after() <= 30),
    ],
    "S16": [
        ("the fallback is reported", REQUIRED, lambda run: not run.fallback or "fallback" in (run.call.model or "")),
        ("usage", ADVISORY, lambda run: bool(run.call.usage)),
        ("bounded", REQUIRED, at_most(6)),
    ],
}


def verdict(name: str, run: Run) -> tuple[str, list[tuple[str, str]]]:
    """The verdict, pass, partial, safe or fail, and the checks that failed: how severe, and what."""
    failed = [(severity, what) for what, severity, check in CHECKS[name] if not check(run)]
    success = all(call.outcome == "success" for call in run.calls)
    complete = all(call.complete for call in run.calls)
    answer_wanted = name != "S13"
    if not no_hang(run) or (answer_wanted and success and not complete):
        return "fail", failed
    if any(severity == REQUIRED for severity, _ in failed):
        return "fail", failed
    if not answer_wanted and success:
        return "partial", [*failed, (REQUIRED, "answered by routing around the rejection")]
    if answer_wanted and not (success and complete):
        return "safe", failed
    return ("partial" if failed else "pass"), failed
