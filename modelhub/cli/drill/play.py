"""Play the cases of a drill: the user's file against the fault server, with a new hub for each case."""

from __future__ import annotations

import asyncio
import importlib
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from modelhub.cli.chain_plan import Plan
from modelhub.cli.drill.plan import DrillCase
from modelhub.cli.model_status import find_missing_in
from modelhub.config.load import Loaded, load_dict
from modelhub.config.secrets import is_secret
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.core.events import CallEnded, Event, Waiting
from modelhub.core.response import Attempt, ChatResponse
from modelhub.core.stream import ChatStream
from modelhub.hub import Hub
from modelhub.middleware.chain.layer import Chain
from modelhub.testing import CannedResponse, FaultServer, VirtualClock, reroute_config

__all__ = ["MAX_CALL_SECONDS", "Got", "DrillOutcome", "DrillEnvironment", "open_drill_environment"]

MAX_CALL_SECONDS = 1800.0
"""The virtual seconds after which a call counts as never ending."""
_PROMPT = "Say in sixty words why a harbour needs a second lamp."
_VENDOR_PREFIXES = ("OPENAI_", "AZURE_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "DASHSCOPE_", "OLLAMA_")
_IGNORED_SECTIONS = ("usage", "budgets")
"""Sections that a drill ignores: it spends nothing, and must not be recorded in the ledger."""

Got = Literal["answer", "offline", "error", "truncated", "nothing", "crash"]


@dataclass(slots=True)
class DrillOutcome:
    """What a caller got, `by` which model, after which `attempts` and `waits`, and the seconds that it `took`."""

    got: Got = "nothing"
    by: str | None = None
    restarts: int = 0
    took: float = 0.0
    error: Exception | None = None
    attempts: list[Attempt] = field(default_factory=list)
    waits: list[Waiting] = field(default_factory=list)

    def observe(self, event: Event) -> None:
        """Collect the waits and attempts of the call."""
        if isinstance(event, Waiting):
            self.waits.append(event)
        elif isinstance(event, CallEnded):
            self.attempts = [attempt for attempt in event.attempts if not attempt["skipped"]]

    def count_attempts(self) -> dict[str, int]:
        """Return the number of attempts at each model, in the order in which they were tried."""
        return dict(Counter(attempt["model"] for attempt in self.attempts))


@dataclass(frozen=True, slots=True)
class DrillEnvironment:
    """A configuration whose models are at the fault server."""

    loaded: Loaded
    server: FaultServer

    async def make_plan(self, name: str) -> Plan:
        """Return the plan of a call of *name*. Raises UnknownModel, and ConfigError for models that providers refuse.

        Imports the SDKs as well, so that a slow import does not count as a slow answer.
        """
        async with Hub(self.loaded) as hub:
            hub.get(name)
            plan = Plan(self.loaded, name, find_missing_in(hub))
            for member in plan.configured:
                if sdk := getattr(hub.get(member.name).models[0].stack()[-1], "sdk", None):
                    with suppress(Exception):  # a call imports it again, and reports what is wrong
                        importlib.import_module(sdk)
        return plan

    async def play(self, name: str, case: DrillCase, call: Mapping[str, Any]) -> DrillOutcome:
        """Call *name* once under the fault of *case*, with a new hub; *call* are the arguments besides the messages."""
        self.server.reset()
        for model in case.on:
            self.server.script(model, case.drill.script, case.drill.then)
        for model in case.others:
            self.server.script(model, case.drill.others)
        outcome = DrillOutcome()
        services = Services(clock=VirtualClock(), random=random.Random(0), observers=(outcome.observe,))
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with Hub(self.loaded, services=services) as hub:
            await self._send_prompt(hub.get(name), {**call, "stream": case.stream}, outcome)
            outcome.took = loop.time() - started
        return outcome

    async def _send_prompt(self, chain: Chain, call: Mapping[str, Any], outcome: DrillOutcome) -> None:
        try:
            async with asyncio.timeout(MAX_CALL_SECONDS):
                reply = await chain(_PROMPT, **call)
                self._record_answer(outcome, await reply.final() if isinstance(reply, ChatStream) else reply)
        except CallError as error:
            outcome.got, outcome.error = "error", error
        except TimeoutError:
            outcome.got = "nothing"
        except Exception as error:  # any other exception is a bug, which the drill reports
            outcome.got, outcome.error = "crash", error

    def _record_answer(self, outcome: DrillOutcome, reply: ChatResponse) -> None:
        if reply["finish_reason"] == "content_filter" and not reply.text:
            outcome.got = "error"  # a refusal of the vendor, in the form of a reply
            return
        outcome.by, outcome.restarts = reply["model"], reply["restarts"]
        if self.loaded.models[outcome.by].provider == "scripted":
            outcome.got = "offline"  # the texts of scripts are not checked
        else:
            outcome.got = "answer" if reply.text == self.server.answer.text else "truncated"


@asynccontextmanager
async def open_drill_environment(path: Path, profile: str | None = None) -> AsyncIterator[DrillEnvironment]:
    """Load the file at *path* with every model rerouted to a new fault server. Raises ConfigError."""
    readable = {name: value for name, value in os.environ.items() if not is_secret(name)}
    with _isolated_environ():
        async with FaultServer(CannedResponse()) as server:
            config = reroute_config(path, server, environ=readable, profile=profile)
            sections = {key: value for key, value in config.items() if key not in _IGNORED_SECTIONS}
            sections["chains"] = {name: _put_arms_in_order(chain) for name, chain in config["chains"].items()}
            yield DrillEnvironment(load_dict(sections, environ={}), server)


def _put_arms_in_order(chain: Mapping[str, Any]) -> dict[str, Any]:
    """Return *chain* with weights that have its arms asked in the order of the file: the first one meets the faults.

    Each weight is a million million times as large as the next one.
    """
    places: list[Any] = []
    for place in chain["models"]:
        if isinstance(place, str):
            places.append(place)
        else:
            places.append({"arms": {name: 1e6 / 1e12**number for number, name in enumerate(place["arms"])}})
    return {**chain, "models": places}


@contextmanager
def _isolated_environ() -> Iterator[None]:
    """Remove keys, addresses and proxies from the environment, where the SDKs would find them."""
    before = dict(os.environ)
    for name in before:
        if is_secret(name) or name.startswith(_VENDOR_PREFIXES) or name.lower().endswith("_proxy"):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)
