"""Agents of OpenAI's SDK on a chain."""

import openai
import pytest
from agents import Agent, ModelBehaviorError, ModelSettings, RunConfig, Runner, function_tool, set_tracing_disabled
from openai.types.responses import ResponseTextDeltaEvent

from modelhub import Hub
from modelhub.integrations.openai_agents import AgentsModel, AgentsModelProvider
from modelhub.testing import faults
from tests.integrations.conftest import CALLS, FINAL, VENDORS, Report, get_time, get_weather

set_tracing_disabled(True)
TOOLS = [function_tool(get_weather), function_tool(get_time)]


def make_agent(setup, name="c", restarts="error", **options):
    model = AgentsModel(setup.hub.get(name), restarts=restarts)
    return Agent(name="Weather", instructions="Be brief.", model=model, tools=options.pop("tools", TOOLS), **options)


def outputs_of(result):
    return [item.output for item in result.new_items if item.type == "tool_call_output_item"]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_uses_two_tools(setup, vendor):
    """The calls of one turn are made, their results go back, and the answer ends the run; usage is counted."""
    setup.play(vendor, CALLS, FINAL)
    result = await Runner.run(make_agent(setup, vendor), "Oslo?")
    assert (result.final_output, outputs_of(result)) == (FINAL, ["sunny in Oslo", "noon in Oslo"])
    assert result.context_wrapper.usage.requests == 2
    assert result.context_wrapper.usage.output_tokens == 3 + 2 + 7


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_streams(setup, vendor):
    """Words come as they are written, before and after the tools."""
    setup.play(vendor, CALLS, FINAL)
    result = Runner.run_streamed(make_agent(setup, vendor), "Oslo?")
    words = [
        event.data.delta
        async for event in result.stream_events()
        if event.type == "raw_response_event" and isinstance(event.data, ResponseTextDeltaEvent)
    ]
    assert ("".join(words), result.final_output) == (f"Let me look.{FINAL}", FINAL)
    assert len(words) == 3 + 7
    assert outputs_of(result) == ["sunny in Oslo", "noon in Oslo"]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_gives_a_structure(setup, vendor):
    """An output type is kept to, whatever the vendor's way of asking for it."""
    if vendor == "dashscope":  # which is asked in words
        setup.play(vendor, '{"city": "Oslo", "degrees": 21}')
    result = await Runner.run(make_agent(setup, vendor, tools=[], output_type=Report), "Oslo?")
    assert isinstance(result.final_output, Report)


async def test_a_chain_falls_back_in_the_middle_of_a_run(setup):
    """The first model asks for the tools and fails after them; the second one, of another vendor, answers."""
    setup.play("openai", CALLS, faults.status(503))
    setup.play("anthropic", FINAL)
    result = await Runner.run(make_agent(setup), "Oslo?")
    assert result.final_output == FINAL
    (body,) = setup.bodies("anthropic")
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]


async def test_a_broken_stream_fails_or_is_held_back(setup):
    """Words that were passed on are never followed by another model's: the stream fails, or was buffered."""
    setup.play("openai", faults.cut(after=3))
    setup.play("anthropic", FINAL)
    with pytest.raises(openai.APIError) as caught:
        [event async for event in Runner.run_streamed(make_agent(setup, tools=[]), "Oslo?").stream_events()]
    assert caught.value.code == "stream_restarted"
    result = Runner.run_streamed(make_agent(setup, tools=[], restarts="buffer"), "Oslo?")
    assert [event async for event in result.stream_events()]
    assert result.final_output == FINAL


async def test_a_provider_finds_models_by_their_names(setup):
    """With a run's settings, and keywords of a call."""
    setup.play("anthropic", FINAL)
    settings = ModelSettings(max_tokens=77, extra_body={"deadline": "30s"})
    agent = Agent(name="Weather", model="anthropic", model_settings=settings)
    result = await Runner.run(agent, "Oslo?", run_config=RunConfig(model_provider=AgentsModelProvider(setup.hub)))
    assert result.final_output == FINAL
    assert setup.bodies("anthropic")[0]["max_tokens"] == 77


async def test_a_failure_is_the_clients_error(setup):
    """With its status and message, and after the chain's attempts alone."""
    for model in ("openai", "anthropic"):
        setup.play(model, faults.status(503))
    with pytest.raises(openai.InternalServerError, match="no model of chain `c` answered"):
        await Runner.run(make_agent(setup), "Oslo?")
    assert len(setup.bodies("openai")) == 1


async def run_streamed(agent):
    return [event async for event in Runner.run_streamed(agent, "Oslo?").stream_events()]


@pytest.mark.parametrize("run", [lambda agent: Runner.run(agent, "Oslo?"), run_streamed])
async def test_an_answer_that_does_not_fit_is_the_models_misbehaviour(run):
    """An app catches it as with the SDK's own models."""
    config = {"version": 1, "models": {"m": {"provider": "scripted", "reply": '{"city": "Oslo"}'}}}
    async with Hub.from_dict(config) as hub:
        agent = Agent(name="Weather", model=AgentsModel(hub.get("m")), output_type=Report)
        with pytest.raises(ModelBehaviorError, match="degrees"):
            await run(agent)
