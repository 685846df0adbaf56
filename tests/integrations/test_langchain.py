"""LangChain on a chain: plain, streamed, tools, structured, with and without an event loop."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from langchain_core.tools import tool
from typing_extensions import TypedDict

from modelhub import AllModelsFailed, Hub, StreamBroken
from modelhub.integrations.langchain import ChatModelHub
from modelhub.testing import ToolCall, faults
from tests.integrations.conftest import CALLS, FINAL, VENDORS, Report, get_time, get_weather

TOOLS = [tool(get_weather), tool(get_time)]
QUESTION = [SystemMessage("You know the weather."), HumanMessage("Oslo?")]


def make_model(setup, name="c", **options):
    return ChatModelHub(chain=setup.hub.get(name), **options)


async def run_agent(model, messages, *, streams=False):
    """Call *model* and its tools until it calls none, as an agent does."""
    by_name = {tool.name: tool for tool in TOOLS}
    while True:
        if streams:
            message = None
            async for chunk in model.astream(messages):
                message = chunk if message is None else message + chunk
        else:
            message = await model.ainvoke(messages)
        messages = [*messages, message]
        if not message.tool_calls:
            return messages
        messages += [await by_name[call["name"]].ainvoke(call) for call in message.tool_calls]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_an_agent_uses_two_tools(setup, vendor, streams):
    """The calls of one turn are made, and their results lead to the answer, plain or put together from chunks."""
    setup.play(vendor, CALLS, FINAL)
    messages = await run_agent(make_model(setup, vendor).bind_tools(TOOLS), QUESTION, streams=streams)
    assert [type(message) for message in messages[2:5]] == [type(messages[2]), ToolMessage, ToolMessage]
    assert [message.content for message in messages[3:5]] == ["sunny in Oslo", "noon in Oslo"]
    assert messages[-1].text == FINAL
    assert messages[-1].usage_metadata["output_tokens"] == 7
    assert messages[-1].response_metadata["model"] == vendor


async def test_words_come_as_they_are_written(setup):
    """A stream has a chunk for each word, and its sum is the message with usage and finish reason."""
    setup.play("openai", FINAL)
    chunks = [chunk async for chunk in make_model(setup).astream("Oslo?")]
    assert [chunk.content for chunk in chunks] == ["It", " is", " sunny", " in", " Oslo", " at", " noon.", ""]
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert whole.usage_metadata["total_tokens"] == whole.usage_metadata["input_tokens"] + 7
    assert whole.response_metadata["finish_reason"] == "stop"


class Place(TypedDict):
    """A place."""

    city: str


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
async def test_a_structure_is_an_instance_of_its_class(setup, vendor, method):
    """In the way that the vendor knows best, or by a forced tool."""
    if method == "function_calling":
        setup.play(vendor, ToolCall("Report", {"city": "Oslo", "degrees": 21}))
    elif vendor == "dashscope":  # which is asked in words
        setup.play(vendor, 'Here: {"city": "Oslo", "degrees": 21}')
    structured = make_model(setup, vendor).with_structured_output(Report, method=method)
    assert isinstance(await structured.ainvoke("Oslo?"), Report)


async def test_other_schemas_give_dicts_and_the_raw_message_on_request(setup):
    """A TypedDict or a JSON Schema is no class to make; `include_raw` keeps the message; streams give it in the end."""
    model = make_model(setup, "anthropic")
    assert set(await model.with_structured_output(Place).ainvoke("Oslo?")) == {"city"}
    result = await model.with_structured_output(Report, include_raw=True).ainvoke("Oslo?")
    assert isinstance(result["raw"], AIMessage)
    assert (type(result["parsed"]), result["parsing_error"]) == (Report, None)
    *_, last = [part async for part in model.with_structured_output(Report.model_json_schema()).astream("Oslo?")]
    assert set(last) == {"city", "degrees"}


async def test_a_chain_falls_back_in_the_middle_of_a_run(setup):
    """The first model asks for the tools and fails after them; the second one, of another vendor, answers."""
    setup.play("openai", CALLS, faults.status(503))
    setup.play("anthropic", FINAL)
    messages = await run_agent(make_model(setup).bind_tools(TOOLS), QUESTION)
    assert messages[-1].text == FINAL
    assert messages[-1].response_metadata["provider"] == "anthropic"
    assert messages[-1].response_metadata["attempts"] == 2


async def test_a_broken_stream_fails_or_is_held_back(setup):
    """Words that were passed on are never followed by another model's: the stream fails, or was buffered."""
    setup.play("openai", faults.cut(after=3))
    setup.play("anthropic", FINAL)
    with pytest.raises(StreamBroken):
        [chunk async for chunk in make_model(setup).astream("Oslo?")]
    chunks = [chunk async for chunk in make_model(setup, restarts="buffer").astream("Oslo?")]
    assert "".join(chunk.text for chunk in chunks) == FINAL


async def test_thinking_is_a_block_that_goes_back():
    """Reasoning stands before the text, plain and streamed, and is sent back as what it was."""
    config = {"version": 1, "models": {"m": {"provider": "scripted", "steps": [{"think": "hm hm", "say": FINAL}]}}}
    async with Hub.from_dict(config) as hub:
        model = ChatModelHub(chain=hub.get("m"))
        plain = await model.ainvoke("Oslo?")
        streamed = None
        async for chunk in model.astream("Oslo?"):
            streamed = chunk if streamed is None else streamed + chunk
        for message in (plain, streamed):
            assert [block["type"] for block in message.content_blocks] == ["reasoning", "text"]
            assert (message.content_blocks[0]["reasoning"], message.text) == ("hm hm", FINAL)
        assert (await model.ainvoke([HumanMessage("Oslo?"), plain, HumanMessage("Sure?")])).text == FINAL


async def test_an_image_and_parameters_reach_the_vendor(setup):
    """A block of LangChain's is an image of the vendor's, and keywords are its parameters."""
    setup.play("anthropic", FINAL)
    image = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
    model = make_model(setup, "anthropic", parameters={"max_tokens": 77})
    message = HumanMessage([{"type": "text", "text": "What?"}, image])
    await model.bind(temperature=0.5).ainvoke([message], stop=["END"])
    body = setup.bodies("anthropic")[0]
    assert (body["max_tokens"], body["stop_sequences"]) == (77, ["END"])
    assert [block["type"] for block in body["messages"][0]["content"]] == ["text", "image"]


async def test_a_conversation_is_trimmed_by_the_models_count(setup):
    """Which is an estimate: no tokenizer is loaded."""
    messages = [SystemMessage("Be brief."), *(HumanMessage(f"{number} " * 40) for number in range(5))]
    trimmed = trim_messages(messages, max_tokens=50, token_counter=make_model(setup), include_system=True)
    assert trimmed == [messages[0], messages[-1]]


async def test_blocking_methods_work_where_a_loop_runs(setup):
    """As in a notebook: `invoke` and `stream` wait, whatever runs in their thread."""
    setup.play("openai", FINAL)
    model = make_model(setup)
    assert model.invoke("Oslo?").text == FINAL
    assert "".join(chunk.text for chunk in model.stream("Oslo?")) == FINAL


def test_blocking_methods_work_without_a_loop(hub_faults):
    """`invoke`, `stream` and `batch` of a script."""
    hub = hub_faults.hub({"version": 1, "models": {"m": {"provider": "ollama", "model_name": "llama3"}}})
    hub_faults.server.script("m", [], answer=FINAL)
    model = ChatModelHub(chain=hub.get("m"))
    assert model.invoke("Oslo?").text == FINAL
    assert "".join(chunk.text for chunk in model.stream("Oslo?")) == FINAL
    assert [message.text for message in model.batch(["Oslo?", "Rome?"])] == [FINAL, FINAL]


async def test_a_failure_is_modelhubs_error(setup):
    """As it is, so that `with_fallbacks` and `except` see its class."""
    for model in ("openai", "anthropic"):
        setup.play(model, faults.status(503))
    with pytest.raises(AllModelsFailed):
        await make_model(setup).ainvoke("Oslo?")
    other = make_model(setup, "ollama")
    setup.play("ollama", FINAL)
    assert (await make_model(setup).with_fallbacks([other]).ainvoke("Oslo?")).text == FINAL
