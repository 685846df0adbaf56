"""OpenAI's Responses API: answers, whole and streamed, and failures."""

import pytest

from modelhub.core.errors import BadReply, RateLimited, ServerError, StreamBroken
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.openai_api import CALL, SEARCH, THOUGHT, ended, event, message, response
from tests.providers.test_openai_corpus import KEY
from tests.tables import table


@pytest.fixture
async def model(loopback):
    """A model that thinks, on the scripted server."""
    loopback.answers(response(message("hello")))
    async with OpenAIChatModel("gpt-5-mini", KEY, False, api="responses", base_url=f"{loopback.url}/v1") as made:
        yield made


async def test_a_refusal_is_one(loopback, model):
    """Its words are the text, and its reason says what it is."""
    refusal = {**message(""), "content": [{"type": "refusal", "refusal": "No."}]}
    loopback.answers(response(refusal))
    reply = await model("hi")
    assert (reply.text, reply.finish_reason) == ("No.", "refusal")


@table(
    ("body", "cls"),
    [
        (response(status="failed", error={"code": "server_error", "message": "no"}), ServerError),
        (response(status="failed", error={"code": "rate_limit_exceeded", "message": "no"}), RateLimited),
        (response(status="failed"), ServerError),
        (response(status="cancelled"), ServerError),
        (response(status="queued"), BadReply),
        ({"id": "resp_1", "object": "response", "status": "completed"}, BadReply),
        ({"choices": []}, BadReply),
        ({"error": {"message": "no", "code": "rate_limit_exceeded"}}, RateLimited),
    ],
)
async def test_a_failed_response_is_an_error(loopback, model, body, cls):
    """And so is one that is not there yet, or is none."""
    loopback.answers(body)
    with pytest.raises(cls) as caught:
        await model("hi")
    assert type(caught.value) is cls


DELTA = event("response.output_text.delta", output_index=0, content_index=0, item_id="msg_1", delta="hel")


@table(
    ("events", "cls"),
    [
        ([event("response.failed", response=response(status="failed", error={"code": "server_error"}))], ServerError),
        ([event("error", code="rate_limit_exceeded", message="no", param=None)], RateLimited),
        ([event("error", error={"code": "rate_limit_exceeded", "message": "no"})], RateLimited),
        ([], BadReply),
        (["data: [DONE]\n\n"], BadReply),
    ],
)
async def test_a_stream_that_fails_is_no_answer(loopback, model, events, cls):
    """Before its first content it is the error itself, after it a broken stream; so is one without its end."""
    loopback.streams(*events, content_type="text/event-stream")
    with pytest.raises(cls):
        await model("hi", stream=True)
    loopback.streams(DELTA, *events, content_type="text/event-stream")
    with pytest.raises(StreamBroken) as caught:
        await (await model("hi", stream=True)).final()
    assert type(caught.value.__cause__) is cls
    assert caught.value.partial.text == "hel"


async def test_what_a_failed_response_used_is_counted(loopback, model):
    """It may have to be paid for."""
    failed = response(status="failed", error={"code": "server_error", "message": "no"})
    for stream in (False, True):
        loopback.answers(failed)
        if stream:
            loopback.streams(event("response.failed", response=failed), content_type="text/event-stream")
        with pytest.raises(ServerError) as caught:
            await model("hi", stream=stream)
        assert caught.value.attempts[0]["usage"].total_tokens == 5


def events_of(*output):
    """A whole stream, as the API has it: each item begins, comes in pieces and is said once more at its end."""
    texts = {"message": ("output_text", "content"), "reasoning": ("reasoning_summary_text", "summary")}
    for index, item in enumerate(output):
        place = {"output_index": index, "item_id": item["id"]}
        kind, key = texts.get(item["type"], ("", ""))
        started = {**item, "encrypted_content": None} if kind == "reasoning_summary_text" else item
        started = {**started, **({key: []} if key else {}), **({"arguments": ""} if "arguments" in item else {})}
        yield event("response.output_item.added", output_index=index, item=started)
        for number, part in enumerate(item.get(key, ())):
            for piece in (part["text"][:2], part["text"][2:]):
                at = {"content_index": number} if key == "content" else {"summary_index": number}
                yield event(f"response.{kind}.delta", **place, **at, delta=piece)
            yield event(f"response.{kind}.done", **place, text=part["text"])
        if "arguments" in item:
            for piece in (item["arguments"][:3], item["arguments"][3:]):
                yield event("response.function_call_arguments.delta", **place, delta=piece)
        yield event("response.output_item.done", output_index=index, item=item)
    yield ended(*output)


async def test_a_stream_ends_as_the_plain_reply(loopback, model):
    """Reasoning in parts, messages with their phases, the vendor's own items, calls: block by block the same."""
    first = message("Let me see.", phase="commentary")
    final = {**message("Done.", phase="final_answer"), "id": "msg_2"}
    output = (THOUGHT, first, SEARCH, {**THOUGHT, "id": "rs_2"}, CALL, final)
    loopback.answers(response(*output))
    plain = await model("hi")
    loopback.streams(*events_of(*output), content_type="text/event-stream")
    snapshots = [snapshot async for snapshot in await model("hi", stream=True)]
    assert snapshots[-1].content == plain.content
    assert [block["type"] for block in plain.content] == [
        *("thinking", "text", "provider_item", "thinking", "tool_use", "text")
    ]
    assert "".join(snapshot.delta for snapshot in snapshots) == plain.text == "Let me see.Done."
    assert snapshots[0].thinking == "On"


async def test_messages_of_two_phases_are_two_blocks(loopback, model):
    """What was said on the way and what is the answer are told apart, plain and streamed; else they are one text."""
    first, final = message("One.", phase="commentary"), {**message("Two.", phase="final_answer"), "id": "msg_2"}
    for output, count in (((first, final), 2), ((message("One."), {**message("Two."), "id": "msg_2"}), 1)):
        loopback.answers(response(*output))
        plain = await model("hi")
        loopback.streams(*events_of(*output), content_type="text/event-stream")
        assert (await (await model("hi", stream=True)).final()).content == plain.content
        assert (len(plain.content), plain.text) == (count, "One.Two.")


async def test_what_came_in_pieces_is_not_read_again(loopback, model):
    """Nor is anything lost where a server leaves out pieces, ends of items, or the output at the end."""
    rest = event("response.output_text.delta", output_index=0, content_index=0, item_id="msg_1", delta="lo")
    done = event("response.output_item.done", output_index=0, item=message("hello"))
    streams = [
        [DELTA, rest, done, ended(message("hello"))],
        [DELTA, rest, done, ended()],
        [DELTA, done, ended(message("hello"))],
        [DELTA, ended(message("hello"))],
        [done, ended()],
        [ended(message("hello"))],
    ]
    for events in streams:
        loopback.streams(*events, content_type="text/event-stream")
        reply = await (await model("hi", stream=True)).final()
        assert (reply.text, reply.finish_reason, reply.usage.total_tokens) == ("hello", "stop", 5)


async def test_a_server_that_does_not_stream_is_read_all_the_same(loopback, model):
    """A whole response in the place of a stream."""
    loopback.answers(response(message("hello")))
    assert (await (await model("hi", stream=True)).final()).text == "hello"
