"""Agents of AgentScope 1 on what a hub gives."""

from importlib.metadata import PackageNotFoundError, version

import pytest

try:
    installed = version("agentscope")
except PackageNotFoundError:
    installed = "none"
if not installed.startswith("1."):
    pytest.skip(
        f"AgentScope 1 is needed, and {installed} is installed: see make test-integrations", allow_module_level=True
    )

from agentscope import formatter
from agentscope.agent import ReActAgent
from agentscope.memory import InMemoryMemory
from agentscope.message import Msg, TextBlock
from agentscope.tool import Toolkit, ToolResponse
from pydantic import BaseModel

from modelhub.testing import CannedResponse, ToolCall
from tests.integrations.conftest import CALLS, FINAL, VENDORS

pytestmark = pytest.mark.filterwarnings("ignore")  # the framework's own
FORMATTERS = [
    name
    for name in formatter.__all__
    if name.endswith(("ChatFormatter", "MultiAgentFormatter")) and name != "A2AChatFormatter"  # writes to no model
]


class Report(BaseModel):
    """What an agent reports."""

    city: str
    degrees: int


async def get_weather(city: str) -> ToolResponse:
    """Return the weather of a city."""
    return ToolResponse(content=[TextBlock(type="text", text=f"sunny in {city}")])


async def get_time(city: str) -> ToolResponse:
    """Return the time of a city."""
    return ToolResponse(content=[TextBlock(type="text", text=f"noon in {city}")])


def make_agent(setup, name, *, streams=False, formatter_name="OpenAIChatFormatter"):
    toolkit = Toolkit()
    toolkit.register_tool_function(get_weather)
    toolkit.register_tool_function(get_time)
    model = setup.hub.get(name)
    model.stream = streams
    agent = ReActAgent(
        name="Friday",
        sys_prompt="Be brief.",
        model=model,
        formatter=getattr(formatter, formatter_name)(),
        toolkit=toolkit,
        memory=InMemoryMemory(),
    )
    agent.set_console_output_enabled(False)
    return agent


def bodies_with_results(setup, name):
    return [body for body in setup.bodies(name) if "sunny in Oslo" in str(body) and "noon in Oslo" in str(body)]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_uses_two_tools(setup, vendor, streams):
    """The calls of one turn are made, their results go back, and the answer ends the reply."""
    setup.play(vendor, CALLS, FINAL)
    reply = await make_agent(setup, vendor, streams=streams)(Msg("user", "Oslo?", "user"))
    assert reply.get_text_content() == FINAL
    assert len(bodies_with_results(setup, vendor)) == 1


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("formatter_name", FORMATTERS)
async def test_any_formatter_goes_with_any_vendor(setup, formatter_name, vendor):
    """What a formatter writes for its own vendor is understood for every other one."""
    setup.play(vendor, CALLS, FINAL)
    reply = await make_agent(setup, vendor, formatter_name=formatter_name)(Msg("user", "Oslo?", "user"))
    assert reply.get_text_content() == FINAL
    assert len(bodies_with_results(setup, vendor)) == 1


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_gives_a_structure(setup, vendor, streams):
    """By the tool that AgentScope makes for it."""
    answer = {"response": FINAL, "city": "Oslo", "degrees": 21}
    setup.play(vendor, CALLS, CannedResponse("", (ToolCall("generate_response", answer, "call_3"),)), FINAL)
    agent = make_agent(setup, vendor, streams=streams)
    reply = await agent(Msg("user", "Oslo?", "user"), structured_model=Report)
    assert Report.model_validate(reply.metadata) == Report(city="Oslo", degrees=21)
