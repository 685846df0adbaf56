"""How a fire drill is played: one's own file against the fault server, each fault with a hub of its own."""

from __future__ import annotations

import asyncio
import importlib
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modelhub.cli.chain_plan import Plan
from modelhub.cli.drill.plan import DrillCase
from modelhub.cli.model_status import missing_in
from modelhub.config.load import Loaded, load_dict
from modelhub.config.secrets import is_secret
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.core.events import CallEnded, Event, Waiting
from modelhub.core.model import ChatModelBase, Layer
from modelhub.core.response import Attempt, ChatResponse
from modelhub.core.stream import ChatStream
from modelhub.hub import Hub
from modelhub.middleware.chain.layer import Chain
from modelhub.testing import CannedResponse, FaultServer, VirtualClock, rerouted

__all__ = ["PATIENCE", "Got", "Outcome", "DrillEnvironment", "in_drill_environment"]

PATIENCE = 1800.0
"""Virtual seconds after which a call counts as one without end."""
_PROMPT = "Say in sixty words why a harbour needs a second lamp."
_VENDORS = ("OPENAI_", "AZURE_", "ANTHROPIC_", "GOOGLE_", "GEMINI_", "DASHSCOPE_", "OLLAMA_")
_LEFT_OUT = ("usage", "budgets")
"""Sections that have no part in a drill: it spends nothing, and is no row in anybody's ledger."""

Got = Literal["answer", "offline", "error", "truncated", "nothing", "crash"]


@dataclass(slots=True)
class Outcome:
    """What a caller got, `by` whom, after which `attempts` and `waits`, and how many seconds it `took`."""

    got: Got = "nothing"
    by: str | None = None
    restarts: int = 0
    took: float = 0.0
    error: Exception | None = None
    attempts: list[Attempt] = field(default_factory=list)
    waits: list[Waiting] = field(default_factory=list)

    def observe(self, event: Event) -> None:
        """Note what happened on the way."""
        if isinstance(event, Waiting):
            self.waits.append(event)
        elif isinstance(event, CallEnded):
            self.attempts = [attempt for attempt in event.attempts if not attempt["skipped"]]

    def counts(self) -> dict[str, int]:
        """How many attempts each model had, in the order in which they were asked."""
        found: dict[str, int] = {}
        for attempt in self.attempts:
            found[attempt["model"]] = found.get(attempt["model"], 0) + 1
        return found


@dataclass(frozen=True, slots=True)
class DrillEnvironment:
    """A file whose models are at the fault server."""

    loaded: Loaded
    server: FaultServer

    async def plan(self, name: str) -> Plan:
        """What a call of *name* would do. Raises UnknownModel, and ConfigError for a model that its provider refuses.

        Loads the SDKs as well: a slow import must not pass for a slow answer.
        """
        async with Hub(self.loaded) as hub:
            hub.get(name)
            plan = Plan(self.loaded, name, missing_in(hub))
            for member in plan.configured:
                _load_sdk(hub.get(member.name).models[0])
        return plan

    async def play(self, name: str, exercise: DrillCase) -> Outcome:
        """Ask *name* once under the fault of *exercise*, with a hub that has met no other."""
        self.server.reset()
        for model in exercise.on:
            self.server.script(model, exercise.drill.script, exercise.drill.then)
        for model in exercise.others:
            self.server.script(model, exercise.drill.others)
        outcome = Outcome()
        services = Services(clock=VirtualClock(), random=random.Random(0), observers=(outcome.observe,))
        began = asyncio.get_running_loop().time()
        async with Hub(self.loaded, services=services) as hub:
            await _ask(hub.get(name), exercise.stream, outcome, self._expected())
            outcome.took = asyncio.get_running_loop().time() - began
        return outcome

    def _expected(self) -> dict[str, str | None]:
        """What every model says when it answers in full; a script may say what it likes."""
        said = self.server.answer.text
        return {name: None if entry.provider == "scripted" else said for name, entry in self.loaded.models.items()}


@asynccontextmanager
async def in_drill_environment(path: Path) -> AsyncIterator[DrillEnvironment]:
    """The file at *path* with every model at a fault server of its own. Raises ConfigError."""
    readable = {name: value for name, value in os.environ.items() if not is_secret(name)}
    with _alone():
        async with FaultServer(CannedResponse()) as server:
            config = rerouted(path, server, environ=readable)
            kept = {key: value for key, value in config.items() if key not in _LEFT_OUT}
            yield DrillEnvironment(load_dict(kept, environ={}), server)


@contextmanager
def _alone() -> Iterator[None]:
    """Take keys, addresses and proxies out of the environment, where the SDKs would find them."""
    before = dict(os.environ)
    for name in before:
        if is_secret(name) or name.startswith(_VENDORS) or name.lower().endswith("_proxy"):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(before)


def _load_sdk(model: ChatModelBase) -> None:
    while isinstance(model, Layer):
        model = model.inner
    if sdk := getattr(model, "sdk", None):
        with suppress(Exception):  # a call imports it again, and says what is wrong
            importlib.import_module(sdk)


async def _ask(chain: Chain, stream: bool, outcome: Outcome, expected: dict[str, str | None]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            reply = await chain(_PROMPT, stream=stream)
            _answered(outcome, await reply.final() if isinstance(reply, ChatStream) else reply, expected)
    except CallError as error:
        outcome.got, outcome.error = "error", error
    except TimeoutError:
        outcome.got = "nothing"
    except Exception as error:  # that no such thing comes out is what the drill is for
        outcome.got, outcome.error = "crash", error


def _answered(outcome: Outcome, reply: ChatResponse, expected: dict[str, str | None]) -> None:
    if reply["finish_reason"] == "content_filter" and not reply.text:
        outcome.got = "error"  # the vendor's refusal, in the form of a reply
        return
    outcome.by, outcome.restarts = reply["model"], reply["restarts"]
    said = expected.get(outcome.by or "")
    outcome.got = "offline" if said is None else "answer" if reply.text == said else "truncated"
