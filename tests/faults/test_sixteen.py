"""Sixteen faults of a provider, at the timings that a public benchmark publishes, and what a chain makes of them.

A chain of a primary and a fallback is asked once for each fault (twenty times for the one that comes and goes), as a
stream, on real sockets and in virtual time. It is scored as that benchmark scores: from what the caller got and from
what the server saw. The primary speaks each of the five wires in turn, the fallback always OpenAI's.
"""

import asyncio
import random
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from modelhub import Hub
from modelhub.context import Services
from modelhub.errors import CallError
from modelhub.testing import Answer, FaultServer, VirtualClock, faults, run_virtual
from modelhub.testing.wires import WIRES

TEXT = Answer().text
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
    "S15": ("down for a minute, then healthy", 200),
    "S16": ("503, always: is the fallback reported?", 40),
}
"""What each is, and after how many seconds a call counts as hanging."""

SCRIPTS = {
    "S01": (faults.status(429, retry_after=2), "healthy"),
    "S02": (faults.status(429), "repeat"),
    "S03": (faults.status(500), "healthy"),
    "S04": (faults.status(503, kind="overloaded"), "repeat"),
    "S05": (faults.reset(), "healthy"),
    "S06": (faults.silence(120), "repeat"),
    "S07": (faults.slow_first_token(20), "repeat"),
    "S08": (faults.cut(40), "repeat"),
    "S09": (faults.stall(20, 30), "repeat"),
    "S10": (faults.garbled(10), "repeat"),
    "S11": (faults.no_done(), "repeat"),
    "S12": (faults.status(kind="context_length"), "repeat"),
    "S13": (faults.status(kind="content_filter"), "repeat"),
    "S14": (faults.cut(40), "repeat"),
    "S15": (faults.flap(down=60, up=86_400), "repeat"),
    "S16": (faults.status(503, kind="overloaded"), "repeat"),
}
PAUSE = 0.015
"""Seconds between two words."""


# -- what happened -----------------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One call as its caller saw it."""

    outcome: str
    text: str = ""
    took: float = 0.0
    model: str = ""
    usage: object = None
    sent_at: float = 0.0
    error: str = ""

    @property
    def complete(self):
        return self.outcome == "success" and " ".join(self.text.split()) == TEXT


@dataclass
class Run:
    """A scenario: its calls, and the requests that the two servers saw."""

    calls: list[Call]
    primary: list = field(default_factory=list)
    fallback: list = field(default_factory=list)
    alive: bool = False

    @property
    def call(self):
        return self.calls[0]

    def gap(self):
        return self.primary[1].at - self.primary[0].at if len(self.primary) > 1 else -1.0

    def within(self, seconds):
        return sum(one.at - self.primary[0].at < seconds for one in self.primary)

    def during(self):
        return [call for call in self.calls if call.sent_at < 60]

    def recovered_after(self):
        return next((one.at - 60 for one in self.primary if one.healthy), 1e9)

    def sizes_shrink(self):
        sizes = [len(str(one.body)) for one in self.primary]
        return all(later < earlier for earlier, later in pairwise(sizes))


async def ask(chain, limit):
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


async def play(hub, server, name):
    """Play the scenario *name*."""
    script, then = SCRIPTS[name]
    server.reset()
    reset_at = asyncio.get_running_loop().time()
    server.script(name, script, then)
    if name == "S14":
        server.script("fallback", faults.no_prefill())
    chain, limit = hub.get(f"chain-{name}"), SCENARIOS[name][1]
    calls = []
    if name == "S15":
        for number in range(20):
            await asyncio.sleep(max(0.0, reset_at + 4 * number - asyncio.get_running_loop().time()))
            calls.append(await ask(chain, 30))
    else:
        calls.append(await ask(chain, limit))
    for call in calls:
        call.sent_at -= reset_at
    run = Run(calls, server.requests(name), server.requests("fallback"))
    probe = await hub.get("fallback")(PROMPT, stream=False)
    run.alive = probe.text == TEXT
    return run


def config(server, kind="openai", chain=None, **defaults):
    """A primary of its own for each scenario, and one fallback for all; *chain* and *defaults* change the policy."""
    addresses = {"ollama": ("host", ""), "dashscope": ("base_http_api_url", "/api/v1"), "openai": ("base_url", "/v1")}
    key, path = addresses.get(kind, ("base_url", ""))
    primaries = {
        name: {"provider": kind, "model_name": f"primary-{name}", key: server.url(name) + path, "api_key": "a key"}
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


async def play_some(names, **policy):
    """Play the scenarios *names*, in one hub."""
    async with FaultServer(Answer(interval=PAUSE)) as server:
        services = Services(clock=VirtualClock(), random=random.Random(16))
        async with Hub.from_dict(config(server, **policy), environ={}, services=services) as hub:
            return {name: await play(hub, server, name) for name in names}


# -- the score ---------------------------------------------------------------------------------------------------------

REQUIRED, ADVISORY = "required", "advisory"


def no_hang(run):
    return all(call.outcome != "hang" for call in run.calls)


def no_truncation(run):
    return all(call.outcome != "success" or call.complete for call in run.calls)


def at_most(count):
    return lambda run: len(run.primary) <= count


def at_least(count):
    return lambda run: len(run.primary) >= count


def within(seconds):
    return lambda run: run.call.outcome != "hang" and run.call.took <= seconds


CHECKS = {
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
        (
            "a refused prefill is not the last word",
            REQUIRED,
            lambda run: not (run.call.outcome == "error" and any(last_is_assistant(one) for one in run.fallback)),
        ),
        ("nothing truncated", REQUIRED, no_truncation),
    ],
    "S15": [
        ("no hang", REQUIRED, no_hang),
        ("served while down", REQUIRED, lambda run: run.during() and all(one.complete for one in run.during())),
        ("back within 30 s", REQUIRED, lambda run: run.recovered_after() <= 30),
    ],
    "S16": [
        ("the fallback is reported", REQUIRED, lambda run: not run.fallback or "fallback" in run.call.model),
        ("usage", ADVISORY, lambda run: bool(run.call.usage)),
        ("bounded", REQUIRED, at_most(6)),
    ],
}


def last_is_assistant(request):
    return (request.body.get("messages") or [{}])[-1].get("role") == "assistant"


def verdict(name, run):
    """The verdict, pass, partial, safe or fail, and the checks that failed."""
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


# -- the test ----------------------------------------------------------------------------------------------------------


async def play_all():
    """Everything, the five kinds side by side; one hub for a kind's sixteen, as one app would have."""
    return dict(zip(WIRES, await asyncio.gather(*(play_some(SCENARIOS, kind=kind) for kind in WIRES)), strict=True))


@pytest.fixture(scope="module")
def runs():
    """Every scenario with a primary of each kind."""
    return run_virtual(play_all())


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("kind", WIRES)
def test_every_fault_is_survived(runs, kind, name):
    """All sixteen, on all five wires, pass."""
    run = runs[kind][name]
    said, failed = verdict(name, run)
    story = f"{SCENARIOS[name][0]}: {len(run.primary)} primary, {len(run.fallback)} fallback, {run.calls[0]}"
    assert said == "pass", f"{said}: {failed}; {story}"


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
