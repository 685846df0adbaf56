"""Agents of AgentScope 2 on a chain."""

import asyncio
import subprocess
import sys

import pytest
from agentscope.agent import Agent, ModelConfig
from agentscope.event import TextBlockDeltaEvent
from agentscope.formatter import AnthropicChatFormatter, OpenAIChatFormatter
from agentscope.message import Base64Source, DataBlock, TextBlock, UserMsg
from agentscope.permission import PermissionBehavior, PermissionDecision
from agentscope.tool import FunctionTool, Toolkit

from modelhub import Hub, StreamBroken
from modelhub.integrations.agentscope import AgentScopeModel
from modelhub.testing import faults
from tests.integrations.conftest import CALLS, FINAL, VENDORS, Report, get_time, get_weather

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # the framework's own
QUESTION = UserMsg(name="user", content="Oslo?")
ALLOWED = PermissionDecision(behavior=PermissionBehavior.ALLOW, message="")


def make_agent(setup, name="c", tools=(get_weather, get_time), streams=True, **options):
    """Return an agent on what the hub gives, streaming or not, or on an AgentScopeModel with *options*."""
    toolkit = Toolkit(tools=[FunctionTool(tool, permission=ALLOWED, is_read_only=True) for tool in tools])
    model = setup.hub.get(name)
    model.stream = streams
    if options:
        model = AgentScopeModel(model, **options)
    return Agent(name="Friday", system_prompt="Be brief.", model=model, toolkit=toolkit)


def bodies_with_results(setup, name):
    return [body for body in setup.bodies(name) if "sunny in Oslo" in str(body) and "noon in Oslo" in str(body)]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_uses_two_tools(setup, vendor, streams):
    """The calls of one turn are made, their results go back, and the answer ends the reply."""
    setup.play(vendor, CALLS, FINAL)
    reply = await make_agent(setup, vendor, streams=streams).reply(QUESTION)
    assert reply.get_text_content().endswith(FINAL)
    assert len(bodies_with_results(setup, vendor)) == 1


@pytest.mark.parametrize("vendor", VENDORS)
async def test_words_come_as_they_are_written(setup, vendor):
    """An agent's events have the words one by one."""
    setup.play(vendor, FINAL)
    events = [event async for event in make_agent(setup, vendor).reply_stream(QUESTION)]
    words = [event.delta for event in events if isinstance(event, TextBlockDeltaEvent)]
    assert words == ["It", " is", " sunny", " in", " Oslo", " at", " noon."]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_structure_fits_its_class(setup, vendor):
    """In the way that the vendor knows best."""
    if vendor == "dashscope":  # which is asked in words
        setup.play(vendor, 'Here: {"city": "Oslo", "degrees": 21}')
    response = await setup.hub.get(vendor).generate_structured_output([QUESTION], Report)
    assert isinstance(Report.model_validate(response.content), Report)
    assert response.usage.metadata["model"] == vendor


@pytest.mark.parametrize("formatter", [OpenAIChatFormatter, AnthropicChatFormatter])
async def test_agentscopes_own_formatters_can_be_used(setup, formatter):
    """Whatever the vendor that answers."""
    setup.play("gemini", CALLS, FINAL)
    reply = await make_agent(setup, "gemini", formatter=formatter()).reply(QUESTION)
    assert reply.get_text_content().endswith(FINAL)
    assert len(bodies_with_results(setup, "gemini")) == 1


async def test_a_chain_falls_back_in_the_middle_of_a_run(setup):
    """The first model asks for the tools and fails after them; the second one, of another vendor, answers."""
    setup.play("openai", CALLS, faults.status(503))
    setup.play("anthropic", FINAL)
    reply = await make_agent(setup).reply(QUESTION)
    assert reply.get_text_content().endswith(FINAL)
    assert len(bodies_with_results(setup, "anthropic")) == 1


async def test_a_broken_stream_fails_or_is_held_back(setup):
    """Words that were passed on are never followed by another model's: the stream fails, or was buffered."""
    setup.play("openai", faults.cut(after=3))
    setup.play("anthropic", FINAL)
    with pytest.raises(StreamBroken):
        await make_agent(setup).reply(QUESTION)
    assert (await make_agent(setup, restarts="buffer").reply(QUESTION)).get_text_content() == FINAL


async def test_a_chain_is_a_model_of_modelhub_for_everybody_else(setup):
    """Only messages of AgentScope get its responses, and only what its agents read is there beside our own."""
    setup.play("openai", FINAL, FINAL)
    chain = setup.hub.get("openai")
    assert (await chain("Oslo?")).text == FINAL
    assert (await chain([QUESTION])).content[0].text == FINAL
    assert chain.model == "openai"
    with pytest.raises(AttributeError, match="'ChainHandle' object has no attribute 'modle'"):
        chain.modle


async def test_messages_are_enough_without_an_agent():
    """Whoever has AgentScope's messages gets its responses, also where nothing else of it is imported."""
    script = """if True:
        import asyncio
        from agentscope.message import UserMsg
        from modelhub import Hub
        chain = Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "reply": "hi"}}}).get("m")
        print(type(asyncio.run(chain([UserMsg(name="user", content="Oslo?")]))).__module__)
    """
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", script, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert output.decode().startswith("agentscope.model.")


async def test_a_fallback_of_the_agents_own_is_an_agentscope_model(setup):
    """AgentScope asks for its own class there."""
    setup.play("openai", faults.status(503))
    setup.play("anthropic", FINAL)
    config = ModelConfig(fallback_model=AgentScopeModel(setup.hub.get("anthropic")))
    agent = Agent(name="Friday", system_prompt="Be brief.", model=setup.hub.get("openai"), model_config=config)
    assert (await agent.reply(QUESTION)).get_text_content() == FINAL


async def test_an_image_and_parameters_reach_the_vendor(setup):
    """A block of AgentScope's is an image of the vendor's."""
    setup.play("anthropic", FINAL)
    image = DataBlock(source=Base64Source(data="iVBORw0KGgo=", media_type="image/png"))
    model = AgentScopeModel(setup.hub.get("anthropic"), stream=False, parameters={"max_tokens": 77})
    await model([UserMsg(name="user", content=[TextBlock(text="What?"), image])])
    body = setup.bodies("anthropic")[0]
    assert body["max_tokens"] == 77
    assert [block["type"] for block in body["messages"][0]["content"]] == ["text", "image"]


async def test_thinking_is_a_block_that_goes_back():
    """It stands before the text, streamed or not, and is sent back as what it was."""
    config = {"version": 1, "models": {"m": {"provider": "scripted", "steps": [{"think": "hm hm", "say": FINAL}]}}}
    async with Hub.from_dict(config) as hub:
        plain = await AgentScopeModel(hub.get("m"), stream=False)([QUESTION])
        *_, streamed = [chunk async for chunk in await AgentScopeModel(hub.get("m"))([QUESTION])]
        for response in (plain, streamed):
            assert [block.type for block in response.content] == ["thinking", "text"]
            assert (response.content[0].thinking, response.content[1].text) == ("hm hm", FINAL)
