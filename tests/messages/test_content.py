"""The neutral form of roles, content and replies, in both dialects."""

from __future__ import annotations

import json
from typing import Any

from modelhub.core.response import Attempt, ChatResponse, ChatUsage, Lazy
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    MediaBlock,
    Message,
    PathSource,
    TextBlock,
    ThinkingBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.messages.normalize import normalise_messages
from tests.messages.conversations import CAT, SdkObject, call, only_block
from tests.tables import table


def test_a_string_is_one_user_message() -> None:
    """A plain string is one user message."""
    assert normalise_messages("hi") == (Message("user", (TextBlock("hi"),)),)


@table(
    ("role", "neutral"),
    [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant")],
)
@table("content", ["hi", ["hi"], [{"type": "text", "text": "hi"}]])
def test_roles_and_text(role: str, neutral: Any, content: Any) -> None:
    """Each role has its neutral one, and text may be written in three ways."""
    (message,) = normalise_messages([{"role": role, "content": content, "name": "bob"}])
    assert message == Message(neutral, (TextBlock("hi"),), "bob")


@table(
    ("part", "block"),
    [
        ({"type": "image_url", "image_url": {"url": CAT}}, MediaBlock("image", UrlSource(CAT))),
        ({"type": "image_url", "image_url": CAT}, MediaBlock("image", UrlSource(CAT))),
        (
            {"type": "image_url", "image_url": {"url": CAT, "detail": "low"}},
            MediaBlock("image", UrlSource(CAT), detail="low"),
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/gif;base64,R0lG"}, "text": None},
            MediaBlock("image", Base64Source("R0lG", "image/gif")),
        ),
        ({"type": "video_url", "video_url": {"url": CAT}}, MediaBlock("video", UrlSource(CAT))),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
            MediaBlock("audio", Base64Source("AAAA", "audio/mpeg")),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            MediaBlock("audio", Base64Source("AAAA", "audio/wav")),
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "data:;base64,AAAA", "format": "wav"}},
            MediaBlock("audio", Base64Source("AAAA", "audio/wav")),
        ),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
            MediaBlock("document", Base64Source("JVBE", "application/pdf"), "a.pdf"),
        ),
        (
            {"type": "file", "file": {"file_data": "R0lG", "filename": "a.gif"}},
            MediaBlock("image", Base64Source("R0lG", "image/gif"), "a.gif"),
        ),
        ({"type": "refusal", "refusal": "no"}, TextBlock("no")),
        (
            {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}},
            TextBlock("hi", cache={"type": "ephemeral"}),
        ),
        ({"type": "text", "text": "", "thought_signature": "c2ln"}, TextBlock("", "c2ln", "gemini")),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
            MediaBlock("image", Base64Source("iVBO", "image/png")),
        ),
        (
            {"type": "document", "source": {"type": "url", "url": "https://a/b.pdf"}, "title": "B"},
            MediaBlock("document", UrlSource("https://a/b.pdf"), "B"),
        ),
        (
            {"type": "audio", "source": {"type": "url", "url": "file:///tmp/a%20b.wav", "media_type": "audio/wav"}},
            MediaBlock("audio", PathSource("/tmp/a b.wav", "audio/wav", "address")),
        ),
        (
            {"type": "video", "source": {"type": "url", "url": "clips/a.mp4"}},
            MediaBlock("video", PathSource("clips/a.mp4", "video/mp4", "address")),
        ),
        (
            {"type": "file", "source": {"type": "path", "path": "/tmp/cat.png"}},
            MediaBlock("image", PathSource("/tmp/cat.png", "image/png")),
        ),
        (
            {"type": "file", "source": {"type": "path", "path": "C:\\a.pdf"}, "filename": "a"},
            MediaBlock("document", PathSource("C:\\a.pdf", "application/pdf"), "a"),
        ),
    ],
)
def test_parts_of_both_dialects(part: dict[str, Any], block: ContentBlock) -> None:
    """Every kind of part, OpenAI's or the seed's, becomes its block."""
    assert only_block(part) == block


@table(
    ("message", "blocks"),
    [
        ({"content": "a", "reasoning_content": "t", "reasoning": "t"}, (ThinkingBlock("t"), TextBlock("a"))),
        ({"content": "a", "reasoning": "t"}, (ThinkingBlock("t"), TextBlock("a"))),
        ({"content": None, "refusal": "no", "annotations": [], "audio": None}, (TextBlock("no"),)),
        ({"content": "a", "prefix": False}, (TextBlock("a"),)),
        ({"function_call": {"name": "f", "arguments": '{"x": 1}'}}, (ToolUseBlock("call_1", "f", {"x": 1}),)),
        ({"tool_calls": [call("a", "f", {"x": [1]})]}, (ToolUseBlock("a", "f", {"x": [1]}),)),
        ({"tool_calls": [call("a", "f", "")]}, (ToolUseBlock("a", "f", {}),)),
        ({"tool_calls": [call("a", "f", '{"x": ')]}, (ToolUseBlock("a", "f", {}, raw_input='{"x": '),)),
        ({"tool_calls": [call("a", "f", '{"x": NaN}')]}, (ToolUseBlock("a", "f", {}, raw_input='{"x": NaN}'),)),
        ({"tool_calls": [call("a", "f", "[1]")]}, (ToolUseBlock("a", "f", {}, raw_input="[1]"),)),
        (
            {"content": [{"type": "thinking", "thinking": "t", "signature": "s"}, "a"]},
            (ThinkingBlock("t", "s", None, "anthropic"), TextBlock("a")),
        ),
        (
            {"content": [{"type": "redacted_thinking", "data": "d"}]},
            (ThinkingBlock("", None, "d", "anthropic"),),
        ),
        (
            {"content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}, "caller": {"type": "direct"}}]},
            (ToolUseBlock("a", "f", {}),),
        ),
    ],
)
def test_what_an_assistant_says(message: dict[str, Any], blocks: tuple[ContentBlock, ...]) -> None:
    """Thinking comes first, then content, refusal and calls; unreadable arguments are kept as text."""
    assert normalise_messages([{"role": "assistant", **message}]) == (Message("assistant", blocks),)


def test_empty_things_are_left_out() -> None:
    """Empty text, empty thinking and empty messages are not sent."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": ""},
        {"role": "assistant", "content": None},
        {"role": "assistant"},
        {"role": "user", "content": ["", {"type": "text", "text": ""}, "hi"]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": ""}, ""]},
    ]
    assert normalise_messages(messages) == (Message("user", (TextBlock("hi"),)),)


def test_a_whole_reply_is_an_assistant_message() -> None:
    """A ChatResponse is accepted as it is, lazily built content and all."""
    block = {"type": "tool_use", "id": "a", "name": "f", "input": {}, "raw_input": "[", "error": "no object"}
    reply = ChatResponse(
        Lazy(lambda: [{"type": "text", "text": "hi"}, block]),
        usage=ChatUsage(1, 2),
        metadata={"x": 1},
        finish_reason="tool_calls",
        attempts=[Attempt("m", "openai", "gpt")],
    )
    expected = (
        Message(
            "assistant",
            (TextBlock("hi"), ToolUseBlock("a", "f", {}, raw_input="[")),
        ),
    )
    assert normalise_messages([reply]) == expected
    assert normalise_messages([{**reply, "role": "assistant"}]) == expected
    assert normalise_messages([json.loads(json.dumps(reply))]) == expected


def test_vendor_objects_are_read_through_model_dump() -> None:
    """Messages, parts and calls given as vendors' objects are accepted."""
    talk: list[Any] = [
        SdkObject(role="user", content=[SdkObject(type="text", text="hi")]),
        {"role": "assistant", "tool_calls": [SdkObject(**call("a"))]},
    ]
    assert normalise_messages(talk) == (
        Message("user", (TextBlock("hi"),)),
        Message("assistant", (ToolUseBlock("a", "f", {}),)),
    )


def test_reasoning_details_are_thinking_with_data_of_their_own():
    """What may be read is thinking; the whole goes back to the dialect it came from, and to no other."""
    details = [{"type": "reasoning.summary", "summary": "Hm."}, {"type": "reasoning.encrypted", "data": "gAAA"}]
    (message,) = normalise_messages([{"role": "assistant", "content": "Yes.", "reasoning_details": details}])
    thinking, text = message.blocks
    assert (thinking.thinking, json.loads(thinking.data), thinking.provider) == ("Hm.", details, "openai")
    assert text == TextBlock("Yes.")


def test_a_cache_mark_is_one_whatever_it_is_called():
    """OpenAI's breakpoint and Anthropic's mark mean the same place."""
    part = {"type": "text", "text": "long", "prompt_cache_breakpoint": {"mode": "explicit"}}
    (message,) = normalise_messages([{"role": "user", "content": [part]}])
    assert message.blocks == (TextBlock("long", cache={"type": "ephemeral"}),)
