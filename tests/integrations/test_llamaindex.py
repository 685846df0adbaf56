"""LlamaIndex on a chain: plain, streamed, tools, structured, with and without an event loop."""

import pytest
from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCallResult
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

from modelhub import AllModelsFailed, Hub, StreamBroken
from modelhub.integrations.llamaindex import ModelHubLLM
from modelhub.testing import ToolCall, faults
from tests.integrations.conftest import CALLS, FINAL, VENDORS, Report, get_time, get_weather

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # LlamaIndex's own
TOOLS = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)]


def make_llm(setup, name="c", **options):
    return ModelHubLLM(setup.hub.get(name), **options)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_uses_two_tools(setup, vendor, streams):
    """The calls of one turn are made, and their results lead to the answer, plain or streamed."""
    setup.play(vendor, CALLS, FINAL)
    agent = FunctionAgent(llm=make_llm(setup, vendor), tools=TOOLS, streaming=streams, system_prompt="Be brief.")
    run = agent.run("Oslo?")
    events = [event async for event in run.stream_events()]
    assert str(await run) == FINAL
    outputs = [str(event.tool_output) for event in events if isinstance(event, ToolCallResult)]
    assert sorted(outputs) == ["noon in Oslo", "sunny in Oslo"]
    words = [event.delta for event in events if isinstance(event, AgentStream)]
    assert not streams or "".join(words).endswith(FINAL)
    assert len(setup.bodies(vendor)) == 2


async def test_words_come_as_they_are_written(setup):
    """Each response has the whole text so far and what is new; tokens come with the last."""
    setup.play("openai", FINAL)
    responses = [response async for response in await make_llm(setup).astream_chat([ChatMessage("Oslo?")])]
    assert "".join(response.delta for response in responses) == FINAL
    assert [response.message.content for response in responses][:2] == ["It", "It is"]
    assert responses[-1].additional_kwargs["completion_tokens"] == 7
    assert (await make_llm(setup).acomplete("Oslo?")).text == FINAL


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_structure_is_an_instance_of_its_class(setup, vendor):
    """In the way that the vendor knows best, directly or as a structured LLM."""
    if vendor == "dashscope":  # which is asked in words
        setup.play(vendor, 'Here: {"city": "Oslo", "degrees": 21}')
    llm = make_llm(setup, vendor)
    prompt = PromptTemplate("How is the weather in {city}?")
    assert isinstance(await llm.astructured_predict(Report, prompt, city="Oslo"), Report)
    assert isinstance(llm.structured_predict(Report, prompt, city="Oslo"), Report)
    assert isinstance((await llm.as_structured_llm(Report).achat([ChatMessage("Oslo?")])).raw, Report)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_a_structure_grows_in_a_stream(setup, vendor):
    """The last object is complete, and an instance of the class."""
    setup.play(vendor, ToolCall("Report", {"city": "Oslo", "degrees": 21}))
    prompt = PromptTemplate("How is the weather in {city}?")
    objects = await make_llm(setup, vendor).astream_structured_predict(Report, prompt, city="Oslo")
    *_, last = [item async for item in objects]
    assert last == Report(city="Oslo", degrees=21)


async def test_a_chain_falls_back_in_the_middle_of_a_run(setup):
    """The first model asks for the tools and fails after them; the second one, of another vendor, answers."""
    setup.play("openai", CALLS, faults.status(503))
    setup.play("anthropic", FINAL)
    result = await FunctionAgent(llm=make_llm(setup), tools=TOOLS).run("Oslo?")
    assert str(result) == FINAL
    assert result.raw["model"] == "anthropic"


async def test_a_broken_stream_fails_or_is_held_back(setup):
    """Words that were passed on are never followed by another model's: the stream fails, or was buffered."""
    setup.play("openai", faults.cut(after=3))
    setup.play("anthropic", FINAL)
    with pytest.raises(StreamBroken):
        [response async for response in await make_llm(setup).astream_chat([ChatMessage("Oslo?")])]
    stream = await make_llm(setup, restarts="buffer").astream_chat([ChatMessage("Oslo?")])
    assert [response.delta async for response in stream] == [FINAL]


async def test_an_image_and_parameters_reach_the_vendor(setup):
    """A block of LlamaIndex's is an image of the vendor's, and keywords are its parameters."""
    setup.play("anthropic", FINAL)
    image = ImageBlock(image=b"\x89PNG\r\n\x1a\n", image_mimetype="image/png")
    llm = make_llm(setup, "anthropic", parameters={"max_tokens": 77})
    await llm.achat([ChatMessage(role="user", blocks=[TextBlock(text="What?"), image])], stop=["END"])
    body = setup.bodies("anthropic")[0]
    assert (body["max_tokens"], body["stop_sequences"]) == (77, ["END"])
    assert [block["type"] for block in body["messages"][0]["content"]] == ["text", "image"]


async def test_thinking_is_a_block_that_goes_back():
    """It stands before the text, and is sent back as what it was."""
    config = {"version": 1, "models": {"m": {"provider": "scripted", "steps": [{"think": "hm hm", "say": FINAL}]}}}
    async with Hub.from_dict(config) as hub:
        llm = ModelHubLLM(hub.get("m"))
        response = await llm.achat([ChatMessage("Oslo?")])
        assert [block.block_type for block in response.message.blocks] == ["thinking", "text"]
        assert (
            await llm.achat([ChatMessage("Oslo?"), response.message, ChatMessage("Sure?")])
        ).message.content == FINAL


async def test_blocking_methods_work_where_a_loop_runs(setup):
    """As in a notebook."""
    setup.play("openai", FINAL)
    llm = make_llm(setup)
    assert llm.complete("Oslo?").text == FINAL
    assert "".join(response.delta for response in llm.stream_chat([ChatMessage("Oslo?")])) == FINAL


def test_blocking_methods_work_without_a_loop(hub_faults):
    """`chat`, `stream_complete` and `predict_and_call` of a script."""
    hub = hub_faults.hub({"version": 1, "models": {"m": {"provider": "ollama", "model_name": "llama3"}}})
    hub_faults.server.script("m", [], answer=CALLS)
    llm = ModelHubLLM(hub.get("m"))
    assert llm.chat([ChatMessage("Oslo?")]).message.content == "Let me look."
    assert "".join(response.delta for response in llm.stream_complete("Oslo?")) == "Let me look."
    result = llm.predict_and_call(TOOLS, "Oslo?", allow_parallel_tool_calls=True)
    assert result.response == "sunny in Oslo\n\nnoon in Oslo"


async def test_a_failure_is_modelhubs_error(setup):
    """As it is."""
    for model in ("openai", "anthropic"):
        setup.play(model, faults.status(503))
    with pytest.raises(AllModelsFailed):
        await make_llm(setup).acomplete("Oslo?")
