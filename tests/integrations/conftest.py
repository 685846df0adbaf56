"""Chains whose models are at a server on loopback, which speaks the vendors' formats, for agents of frameworks."""

from dataclasses import dataclass, replace

import pytest
from pydantic import BaseModel

from modelhub.testing import CannedResponse, Fault, ToolCall
from modelhub.testing.pytest_plugin import fault_server, hub_faults

__all__ = ["fault_server", "hub_faults"]

MODELS = {
    "openai": {"provider": "openai", "model_name": "gpt-5-mini", "api": "chat"},
    "anthropic": {"provider": "anthropic", "model_name": "claude-sonnet-4-5"},
    "dashscope": {"provider": "dashscope", "model_name": "qwen-plus"},
    "gemini": {"provider": "gemini", "model_name": "gemini-2.5-flash"},
    "ollama": {"provider": "ollama", "model_name": "llama3"},
}
VENDORS = list(MODELS)
FINAL = "It is sunny in Oslo at noon."


class Report(BaseModel):
    """What an agent reports."""

    city: str
    degrees: int


def get_weather(city: str) -> str:
    """Return the weather of a city."""
    return f"sunny in {city}"


def get_time(city: str) -> str:
    """Return the time of a city."""
    return f"noon in {city}"


CALLS = CannedResponse(
    "Let me look.",
    tool_calls=(
        ToolCall("get_weather", {"city": "Oslo"}, "call_1"),
        ToolCall("get_time", {"city": "Oslo"}, "call_2"),
    ),
)
SILENT_CALLS = replace(CALLS, text="")
"""The calls alone: some frameworks take a stream's first text for the answer."""


@dataclass(frozen=True)
class Say(Fault):
    """An answer of its own for one request: a `CannedResponse`, a text, or one tool call."""

    answer: object

    async def respond(self, exchange):
        calls = (self.answer,) if isinstance(self.answer, ToolCall) else ()
        text = "" if calls else self.answer
        canned = text if isinstance(text, CannedResponse) else CannedResponse(text, calls)
        exchange.answer = exchange.asked.adapt(canned)
        await Fault.respond(self, exchange)


@dataclass
class Setup:
    """A hub whose chain `c` has every model of `MODELS` in order, and the server that plays the vendors."""

    hub: object
    faults: object

    def play(self, name, *answers):
        """Let the model *name* give *answers*, one a request: a `CannedResponse`, a text, tool calls, or a fault."""
        self.faults.fail(name, *(answer if isinstance(answer, Fault) else Say(answer) for answer in answers))

    def bodies(self, name):
        """Return the bodies of the requests to the model *name*."""
        return [request.body for request in self.faults.requests(name)]


@pytest.fixture
async def setup(hub_faults):
    """The hub and its vendors."""
    config = {
        "version": 1,
        "defaults": {"retry": {"max_attempts": 1}},
        "models": MODELS,
        "chains": {"c": {"models": ["openai", "anthropic"]}},
    }
    async with hub_faults.hub(config) as hub:
        yield Setup(hub, hub_faults)
