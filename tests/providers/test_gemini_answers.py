"""What a caller gets back from Gemini, through the real SDK against a loopback server."""

import base64
import json
from typing import Literal

import pytest
from google.genai import types
from pydantic import BaseModel, Field

from modelhub.core.errors import BadReply
from modelhub.providers.gemini import GeminiChatModel
from modelhub.providers.gemini.response import FINISH
from tests.tables import table

KEY = "AIzaTest0123456789abcdef"
PNG = base64.b64encode(b"\x89PNG not really").decode()
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
TIME = {"type": "function", "function": {"name": "time"}}


def whole(*parts, finish="STOP", **more):
    """A whole answer."""
    parts = parts or ({"text": "Hello."},)
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-x", "responseId": "r1", **more}


def events(*pieces, finish="STOP"):
    """Each of *pieces* (a list of parts) as an event of a stream; the last one ends it."""
    told = []
    for parts in pieces:
        candidate = {"content": {"role": "model", "parts": parts}}
        if parts is pieces[-1]:
            candidate["finishReason"] = finish
        told.append(f"data: {json.dumps({'candidates': [candidate], 'usageMetadata': USAGE})}\r\n\r\n")
    return told


def model(loopback, name="gemini-3-flash", **more):
    """The model under test, not streaming."""
    return GeminiChatModel(name, KEY, **{"stream": False, "base_url": loopback.url, **more})


async def test_signed_text_goes_back_as_it_came(loopback):
    """A signature closes its block, whether the answer came whole or in pieces."""
    pieces = [[{"text": "The sum", "thought": True}], [{"text": "Four"}], [{"text": "", "thoughtSignature": "c2ln"}]]
    loopback.streams(*events(*pieces, [{"text": "!"}]), content_type="text/event-stream")
    async with model(loopback) as asked:
        reply = await (await asked("2+2?", stream=True)).final()
        loopback.answers(whole())
        await asked([{"role": "user", "content": "2+2?"}, reply, {"role": "user", "content": "Sure?"}])
    assert reply.thinking == "The sum"
    assert reply.text == "Four!"
    assert loopback.asked[1].json["contents"][1]["parts"] == [
        {"text": "The sum", "thought": True},
        {"text": "Four", "thoughtSignature": "c2ln"},
        {"text": "!"},
    ]


@table(
    ("counts", "output"),
    [
        ({"totalTokenCount": 22}, 12),
        ({"totalTokenCount": 22, "thoughtsTokenCount": 7}, 12),
        ({"totalTokenCount": 25, "candidatesTokenCount": 5, "toolUsePromptTokenCount": 10}, 5),
        ({"candidatesTokenCount": 5}, 5),
    ],
)
async def test_what_google_does_not_count_is_in_its_total(loopback, counts, output):
    """The answer's tokens may be left out, but the total has them."""
    loopback.answers(whole(usageMetadata={"promptTokenCount": 10, **counts}))
    async with model(loopback) as asked:
        reply = await asked("hi")
    assert reply.usage.output_tokens == output


async def test_the_parts_of_googles_own_tools_are_no_content(loopback):
    """What they ran and found is not the model's answer."""
    loopback.answers(
        whole({"executableCode": {"code": "2+2"}}, {"codeExecutionResult": {"output": "4"}}, {"text": "Four."})
    )
    async with model(loopback) as asked:
        reply = await asked("2+2?")
    assert reply.content == [{"type": "text", "text": "Four."}]


async def test_a_generated_image_is_content(loopback):
    """It comes as a block that can go back."""
    loopback.answers(whole({"text": "Here."}, {"inlineData": {"mimeType": "image/png", "data": PNG}}))
    async with model(loopback) as asked:
        reply = await asked("draw")
        await asked([{"role": "user", "content": "draw"}, reply, {"role": "user", "content": "larger"}])
    assert reply.content == [{"type": "text", "text": "Here."}, IMAGE]
    assert loopback.asked[1].json["contents"][1]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": PNG}}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_an_empty_answer_is_an_answer(loopback, stream):
    """The model may have nothing to say, and says so."""
    body = {"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}
    if stream:
        loopback.streams(f"data: {json.dumps(body)}\n\n", content_type="text/event-stream")
    else:
        loopback.answers(body)
    async with model(loopback) as asked:
        reply = await asked("hi", stream=stream)
        replies = [snapshot async for snapshot in reply] if stream else [reply]
    assert [(reply.content, reply.finish_reason, reply.is_last) for reply in replies] == [([], "stop", True)]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_blocked_answer_is_an_answer_with_a_reason(loopback, stream):
    """It is empty, says why, and counts what was read."""
    body = {"candidates": [{"finishReason": "SAFETY"}], "usageMetadata": {"promptTokenCount": 3}}
    if stream:
        loopback.streams(f"data: {json.dumps(body)}\n\n", content_type="text/event-stream")
    else:
        loopback.answers(body)
    async with model(loopback) as asked:
        reply = await asked("hi", stream=stream)
        reply = await reply.final() if stream else reply
    assert (reply.content, reply.finish_reason, reply.usage.input_tokens) == ([], "content_filter", 3)


def test_every_finish_reason_of_the_sdk_is_known():
    """All of its enumeration stand in the table."""
    assert {reason.value for reason in types.FinishReason} == set(FINISH)


async def test_arguments_in_pieces_become_one_call(loopback):
    """Vertex AI can stream them by JSON path; a call whose end is missing does not pass for whole."""

    def call(**fields):
        return [{"functionCall": fields}]

    loopback.streams(
        *events(
            call(name="plan", willContinue=True),
            call(partialArgs=[{"jsonPath": "$.who.name", "stringValue": "A", "willContinue": True}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$.who.name", "stringValue": "da"}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$.days[0]", "numberValue": 1}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$['days'][1]", "nullValue": "NULL_VALUE"}], willContinue=True),
            call(partialArgs=[{"jsonPath": "$.sure", "boolValue": True}], willContinue=True),
            call(),
            call(name="plan", willContinue=True),
            call(partialArgs=[{"jsonPath": "$.who", "stringValue": "B", "willContinue": True}], willContinue=True),
            [{"text": ""}],
            finish="MAX_TOKENS",
        ),
        content_type="text/event-stream",
    )
    async with model(loopback) as asked:
        reply = await (await asked("hi", stream=True)).final()
    one, two = reply.tool_calls
    assert one["input"] == {"who": {"name": "Ada"}, "days": [1, None], "sure": True}
    assert (two["input"], reply.finish_reason) == ({}, "length")
    assert "not JSON" in two["error"]


async def test_a_whole_answer_need_not_say_why_it_ends(loopback):
    """Its body is complete, so it is."""
    loopback.answers(whole({"functionCall": {"name": "time"}}, finish=None))
    async with model(loopback) as asked:
        assert (await asked("hi", [TIME])).finish_reason == "tool_calls"


async def test_a_call_told_twice_is_one_call(loopback):
    """The vendor's id tells."""
    loopback.answers(whole(*[{"functionCall": {"name": "time", "id": "a"}}] * 2))
    async with model(loopback) as asked:
        assert [call["id"] for call in (await asked("hi", [TIME])).tool_calls] == ["a"]


async def test_only_the_first_of_several_candidates_counts(loopback):
    """Further ones are not mixed in."""
    body = whole()
    body["candidates"].append({"index": 1, "content": {"parts": [{"text": "Bye."}]}, "finishReason": "MAX_TOKENS"})
    loopback.answers(body)
    async with model(loopback, generate_kwargs={"candidate_count": 2}) as asked:
        reply = await asked("hi")
    assert (reply.text, reply.finish_reason) == ("Hello.", "stop")
    assert loopback.asked[0].json["generationConfig"] == {"candidateCount": 2}


# -- structured output -------------------------------------------------------------------------------------------------


class Weather(BaseModel):
    """How it is."""

    city: str
    kind: Literal["sun"] = "sun"
    degrees: int | None = Field(None, gt=-90)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_structured_output_is_native(loopback, stream):
    """The schema goes as JSON Schema, whatever schema was set before, and the answer is validated."""
    if stream:
        pieces = [[{"text": '{"city": "Ro'}], [{"text": 'me"}'}]]
        loopback.streams(*events(*pieces), content_type="text/event-stream")
    else:
        loopback.answers(whole({"text": '{"city": "Rome"}'}))
    options = {"response_schema": {"type": "STRING"}, "temperature": 0}
    async with model(loopback, generate_kwargs=options) as asked:
        reply = await asked("hi", structured_model=Weather, stream=stream)
        if stream:
            snapshots = [snapshot.metadata async for snapshot in reply]
            assert snapshots[0] == {"city": "Ro"}
            metadata = snapshots[-1]
        else:
            metadata = reply.metadata
    assert metadata == {"city": "Rome", "kind": "sun", "degrees": None}
    config = loopback.asked[0].json["generationConfig"]
    assert (config["temperature"], config["responseMimeType"]) == (0, "application/json")
    assert "responseSchema" not in config
    assert config["responseJsonSchema"]["properties"]["kind"]["enum"] == ["sun"]


async def test_an_answer_that_does_not_fit_is_no_success(loopback):
    """The fields are named."""
    loopback.answers(whole({"text": '{"town": "Rome"}'}))
    async with model(loopback) as asked:
        with pytest.raises(BadReply, match="city: Field required"):
            await asked("hi", structured_model=Weather)


async def test_gemma_is_asked_in_words(loopback):
    """It has neither a JSON mode nor a place for instructions; both wishes stand in the user's turn."""
    loopback.answers(whole({"text": '```json\n{"city": "Rome"}\n```'}))
    async with model(loopback, "gemma-3-27b-it") as asked:
        reply = await asked(
            [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}], structured_model=Weather
        )
    assert reply.metadata["city"] == "Rome"
    body = loopback.asked[0].json
    assert "systemInstruction" not in body
    (turn,) = body["contents"]
    assert [part["text"] for part in turn["parts"][:2]] == ["Be brief.", "hi"]
    assert "JSON Schema" in turn["parts"][2]["text"]
