"""Replies as fields of pydantic's models: taken as they are, written as plain JSON, read back, and described."""

import json

import jsonschema
import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from modelhub import ChatResponse, ChatUsage, Hub
from modelhub.core.response import Attempt
from modelhub.messages.blocks import (
    Base64Source,
    MediaBlock,
    Message,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolResultBlock,
    ToolUseBlock,
)
from tests.tables import table


class Page(BaseModel):
    reply: ChatResponse
    usage: ChatUsage | None = None
    attempts: list[Attempt] = []


def reply(**fields):
    content = [{"type": "text", "text": "hello"}]
    return ChatResponse(content, usage=ChatUsage(1, 2, cost="0.5"), attempts=[Attempt("a", "openai", "gpt")], **fields)


def test_a_reply_in_a_field_is_the_same_object():
    """Nothing of it is copied, nor built before it is wanted."""
    answer = reply()
    assert Page(reply=answer).reply is answer


async def test_every_snapshot_is_written_whole():
    """Its content is built when it is written, also within tool calls."""
    steps = [{"call": {"name": "look", "arguments": {"city": "Oslo"}}}, {"say": "hello you"}]
    async with Hub.from_dict({"version": 1, "models": {"m": {"provider": "scripted", "steps": steps}}}) as hub:
        for _ in steps:
            async for snapshot in await hub.get("m")("hi", stream=True):
                written = json.loads(Page(reply=snapshot).model_dump_json())["reply"]
                assert written == json.loads(json.dumps(snapshot))
                assert written["content"]


def test_what_was_written_can_be_read():
    """As the same classes, equal to what they were, from JSON and from dicts."""
    page = Page(reply=reply(metadata={"a": [1]}), usage=ChatUsage(3, 4), attempts=[Attempt("b", "gemini", "flash")])
    for copy in (Page.model_validate_json(page.model_dump_json()), Page.model_validate(page.model_dump())):
        assert copy == page
        assert (type(copy.reply), type(copy.reply.usage), type(copy.attempts[0])) == (ChatResponse, ChatUsage, Attempt)
        assert copy.reply.usage.cost == page.reply.usage.cost


def test_what_has_a_default_may_be_left_out():
    """As when it is constructed."""
    page = Page.model_validate({"reply": {"content": [{"type": "text", "text": "short"}]}, "usage": {}})
    assert (page.reply.text, page.reply.delta, page.reply.is_last, page.usage.input_tokens) == (
        "short",
        "short",
        True,
        0,
    )
    assert page.reply.id


@table("wrong", [{}, {"content": 3}, {"content": [], "restarts": "many"}, "text", None])
def test_what_is_no_reply_is_refused(wrong):
    """By pydantic's own error, with the field's name."""
    with pytest.raises(ValidationError, match="reply"):
        Page.model_validate({"reply": wrong})


@table("cls", [ChatResponse, ChatUsage, Attempt])
def test_the_json_schema_fits_what_is_written(cls):
    """It names every key, so that a generated client knows them."""
    record = {ChatResponse: reply(), ChatUsage: ChatUsage(cost="1"), Attempt: Attempt("a", "openai", "gpt")}[cls]
    adapter = TypeAdapter(cls)
    schema = adapter.json_schema(mode="serialization")
    body = schema["$defs"][cls.__name__] if "$ref" in schema else schema
    written = json.loads(adapter.dump_json(record))
    jsonschema.validate(written, schema)
    assert set(body["properties"]) == set(body["required"]) == set(written)
    assert body["title"] == cls.__name__


@table(
    "block",
    [
        TextBlock("hello", cache={"type": "ephemeral"}),
        ThinkingBlock("hm", signature="s", provider="anthropic"),
        ToolUseBlock("1", "look", {"city": "Oslo"}),
        ToolResultBlock("1", "look", (TextBlock("rain"),)),
        MediaBlock("image", Base64Source("QUJD", "image/png")),
        Message("user", (TextBlock("hello"), TextBlock("you"))),
        Tool("look", "Looks.", {"type": "object"}),
    ],
    ids=lambda block: type(block).__name__,
)
def test_blocks_are_fields_too(block):
    """Messages and what they are made of are read as they were written, and have a JSON schema."""
    adapter = TypeAdapter(type(block))
    assert adapter.validate_json(adapter.dump_json(block)) == block
    jsonschema.validate(json.loads(adapter.dump_json(block)), adapter.json_schema())
