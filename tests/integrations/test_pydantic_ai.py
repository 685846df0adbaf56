"""Agents of Pydantic AI on a chain."""

import pytest
from pydantic_ai import Agent, BinaryContent, NativeOutput, PromptedOutput
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.messages import ModelResponse, PartDeltaEvent, PartStartEvent, ThinkingPart, ToolReturnPart
from pydantic_ai.settings import ModelSettings

from modelhub import Hub, Overloaded
from modelhub.integrations.pydantic_ai import ModelHubModel
from modelhub.testing import CannedResponse, ToolCall, faults
from tests.integrations.conftest import CALLS, FINAL, SILENT_CALLS, VENDORS, Report, get_time, get_weather

REPORT = {"city": "Oslo", "degrees": 21}


def make_agent(setup, name="c", **options):
    model = ModelHubModel(setup.hub.get(name), restarts=options.pop("restarts", "error"))
    return Agent(model, tools=options.pop("tools", [get_weather, get_time]), **options)


def results_of(messages):
    return [part.content for message in messages for part in message.parts if isinstance(part, ToolReturnPart)]


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_uses_two_tools(setup, vendor):
    """The calls of one turn are made, their results go back, and the answer ends the run; usage is counted."""
    setup.play(vendor, CALLS, FINAL)
    result = await make_agent(setup, vendor, instructions="Be brief.", system_prompt="You know the weather.").run(
        "Oslo?"
    )
    assert (result.output, results_of(result.all_messages())) == (FINAL, ["sunny in Oslo", "noon in Oslo"])
    assert (result.usage.requests, result.usage.tool_calls) == (2, 2)
    assert result.usage.output_tokens == 3 + 2 + 7
    assert result.response.provider_details["model"] == vendor
    assert len(setup.bodies(vendor)) == 2


@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_streams(setup, vendor):
    """Words come as they are written, also after tools, and the whole text is the answer."""
    setup.play(vendor, SILENT_CALLS, FINAL)
    async with make_agent(setup, vendor).run_stream("Oslo?") as stream:
        words = [text async for text in stream.stream_text(delta=True, debounce_by=None)]
    assert "".join(words) == FINAL
    assert len(words) > 3


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("output", [Report, NativeOutput(Report), PromptedOutput(Report)])
async def test_an_agent_gives_a_structure(setup, vendor, output):
    """By a tool, by the vendor's own way, or in words."""
    if output is Report:
        setup.play(vendor, ToolCall("final_result", REPORT))
    elif isinstance(output, PromptedOutput) or vendor == "dashscope":  # which is asked in words in both ways
        setup.play(vendor, '{"city": "Oslo", "degrees": 21}')
    result = await make_agent(setup, vendor, output_type=output, tools=[]).run("Oslo?")
    assert isinstance(result.output, Report)


async def test_a_structure_with_tools_is_streamed(setup):
    """An output type that is a tool comes after the tools of the agent."""
    setup.play("openai", SILENT_CALLS, ToolCall("final_result", REPORT))
    async with make_agent(setup, output_type=Report).run_stream("Oslo?") as stream:
        assert await stream.get_output() == Report(**REPORT)
    assert setup.bodies("openai")[0]["tool_choice"] == "required"


async def test_a_chain_falls_back_in_the_middle_of_a_run(setup):
    """The first model asks for the tools and fails after them; the second one, of another vendor, answers."""
    setup.play("openai", CALLS, faults.status(503))
    setup.play("anthropic", FINAL)
    result = await make_agent(setup).run("Oslo?")
    assert result.output == FINAL
    assert result.response.provider_details == {"model": "anthropic", "provider": "anthropic", "attempts": 2}
    (body,) = setup.bodies("anthropic")
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text", "tool_use", "tool_use"]


async def test_a_broken_stream_fails_or_is_held_back(setup):
    """Words that were passed on are never followed by another model's: the stream fails, or was buffered."""
    setup.play("openai", faults.cut(after=3))
    setup.play("anthropic", FINAL)
    with pytest.raises(ModelAPIError, match="another model would begin the answer again"):
        async with make_agent(setup, tools=[]).run_stream("Oslo?") as stream:
            await stream.get_output()
    async with make_agent(setup, tools=[], restarts="buffer").run_stream("Oslo?") as stream:
        assert await stream.get_output() == FINAL


async def test_thinking_goes_back_to_the_vendor_that_wrote_it():
    """Thinking is a part of the response, and its signature is in the next request's messages."""
    steps = [{"think": "hm", "call": {"name": "get_weather", "arguments": {"city": "Oslo"}}}, {"say": FINAL}]
    async with Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "steps": steps}}}) as hub:
        agent = Agent(ModelHubModel(hub.get("m")), tools=[get_weather])
        result = await agent.run("Oslo?")
        thoughts = [
            part.content
            for message in result.all_messages()
            if isinstance(message, ModelResponse)
            for part in message.parts
            if isinstance(part, ThinkingPart)
        ]
        assert (result.output, thoughts) == (FINAL, ["hm"])
        events = []
        async with agent.iter("Oslo?") as run:
            async for node in run:
                if Agent.is_model_request_node(node):
                    async with node.stream(run.ctx) as stream:
                        events += [event async for event in stream]
    assert {type(event) for event in events} >= {PartStartEvent, PartDeltaEvent}


async def test_an_image_and_settings_reach_the_vendor(setup):
    """Binary content is an image of the vendor's, and settings are its parameters."""
    setup.play("anthropic", FINAL)
    image = BinaryContent(b"\x89PNG\r\n\x1a\n", media_type="image/png")
    settings = ModelSettings(max_tokens=77, stop_sequences=["END"], temperature=0.5, timeout=30)
    await make_agent(setup, "anthropic", tools=[]).run(["What is it?", image], model_settings=settings)
    body = setup.bodies("anthropic")[0]
    assert (body["max_tokens"], body["stop_sequences"]) == (77, ["END"])
    assert [block["type"] for block in body["messages"][0]["content"]] == ["text", "image"]


async def test_failures_are_errors_that_the_framework_knows(setup):
    """With the status where there is one, and modelhub's error as the cause."""
    for model in ("openai", "anthropic"):
        setup.play(model, faults.status(529 if model == "anthropic" else 503))
    with pytest.raises(ModelHTTPError) as caught:
        await make_agent(setup).run("Oslo?")
    assert isinstance(caught.value.__cause__.dominant, Overloaded)


def test_an_agent_runs_without_a_loop(hub_faults):
    """`run_sync` works, call after call."""
    hub = hub_faults.hub({"version": 1, "models": {"m": {"provider": "ollama", "model_name": "llama3"}}})
    hub_faults.server.script("m", [], answer=CannedResponse(FINAL))
    agent = Agent(ModelHubModel(hub.get("m")))
    assert [agent.run_sync("Oslo?").output for _ in range(2)] == [FINAL, FINAL]
