"""The neutral form: what is accepted, what comes out, and what each wrong shape is told."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub.core.errors import InvalidRequest
from modelhub.core.response import Attempt, ChatResponse, ChatUsage, Lazy
from modelhub.messages.blocks import (
    Base64Source,
    ContentBlock,
    MediaBlock,
    Message,
    PathSource,
    TextBlock,
    ThinkingBlock,
    Tool,
    ToolChoice,
    ToolResultBlock,
    ToolUseBlock,
    UrlSource,
)
from modelhub.messages.normalize import normalise_messages
from modelhub.messages.tools import normalise_tool_choice, normalise_tools
from tests.tables import table

CAT = "https://example.com/cat.png"


def user(*parts: Any) -> list[dict[str, Any]]:
    """One user message of *parts*."""
    return [{"role": "user", "content": list(parts)}]


def only_block(*parts: Any) -> ContentBlock:
    """The block that one part becomes."""
    (message,) = normalise_messages(user(*parts))
    (block,) = message.blocks
    return block


def call(call_id: str | None = "a", name: str = "f", arguments: Any = "{}") -> dict[str, Any]:
    """A call as OpenAI's dialect writes it."""
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def asks(*calls: dict[str, Any]) -> dict[str, Any]:
    """An assistant message that only calls."""
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def answers(call_id: str | None = "a", text: Any = "ok", **more: Any) -> dict[str, Any]:
    """A message of the role `tool`."""
    return {"role": "tool", "tool_call_id": call_id, "content": text, **more}


def result(call_id: str = "a", name: str = "f", text: str = "ok") -> ToolResultBlock:
    """The block of a result that is text."""
    return ToolResultBlock(call_id, name, (TextBlock(text),))


def refusal_of(messages: Any) -> str:
    """What the error says."""
    with pytest.raises(InvalidRequest) as caught:
        normalise_messages(messages)
    return str(caught.value)


# Roles and content


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


# Tool calls and their results


def test_tool_messages_become_one_user_message() -> None:
    """Consecutive tool messages become one user message, in the order given, with the names of their calls."""
    talk = [asks(call("a"), call("b", "g")), answers("b"), answers("a", ["x"]), {"role": "user", "content": "go"}]
    assert normalise_messages(talk)[1:] == (
        Message("user", (result("b", "g"), result("a", "f", "x"))),
        Message("user", (TextBlock("go"),)),
    )


def test_a_tool_result_may_be_empty_or_hold_media() -> None:
    """A result without content is kept, and one with an image holds it."""
    image = {"type": "image_url", "image_url": CAT}
    talk = [asks(call("a"), call("b")), answers("a", None), answers("b", ["see", image])]
    assert normalise_messages(talk)[1].blocks == (
        ToolResultBlock("a", "f", ()),
        ToolResultBlock("b", "f", (TextBlock("see"), MediaBlock("image", UrlSource(CAT)))),
    )


@table(
    "block",
    [
        {"type": "tool_result", "id": "a", "name": "other", "output": "ok"},
        {"type": "tool_result", "id": "a", "output": [{"type": "text", "text": "ok"}]},
        {"type": "tool_result", "tool_use_id": "a", "content": "ok", "is_error": False},
        {"type": "tool_result", "tool_use_id": "a", "content": ["ok"], "cache_control": None},
    ],
)
@table("role", ["user", "system", "assistant", "tool"])
def test_result_blocks_in_any_role(role: str, block: dict[str, Any]) -> None:
    """A tool_result block, the seed's or Anthropic's, may sit in a message of any role and lands in a user's."""
    talk = [asks(call("a")), {"role": role, "content": [block]}]
    assert normalise_messages(talk)[1] == Message("user", (result(),))


def test_an_assistant_message_with_results_is_split() -> None:
    """Call, result and answer in one assistant message become three messages."""
    content = [
        {"type": "tool_use", "id": "a", "name": "f", "input": {}},
        {"type": "tool_result", "id": "a", "name": "f", "output": "ok", "is_error": True},
        {"type": "text", "text": "done"},
    ]
    assert normalise_messages([{"role": "assistant", "name": "bob", "content": content}]) == (
        Message("assistant", (ToolUseBlock("a", "f", {}),), "bob"),
        Message("user", (ToolResultBlock("a", "f", (TextBlock("ok"),), True),)),
        Message("assistant", (TextBlock("done"),), "bob"),
    )


def test_calls_without_ids_get_stable_ones() -> None:
    """Calls without an id are numbered past ids in use, and results find them by name, in order."""
    talk = [
        asks(call(None), call("call_1", "g"), call("", "f")),
        answers(None, "one", name="f"),
        answers(None, "two", tool_name="f"),
        answers("call_1", "three"),
        {"role": "assistant", "function_call": {"name": "h", "arguments": "{}"}},
        {"role": "function", "name": "h", "content": "four"},
    ]
    neutral = normalise_messages(talk)
    assert [block.id for block in neutral[0].blocks if isinstance(block, ToolUseBlock)] == [
        "call_2",
        "call_1",
        "call_3",
    ]
    assert neutral[1].blocks == (
        result("call_2", "f", "one"),
        result("call_3", "f", "two"),
        result("call_1", "g", "three"),
    )
    assert neutral[3].blocks == (result("call_4", "h", "four"),)
    assert normalise_messages(talk[:4])[0] == neutral[0]


def test_a_lone_call_needs_no_name() -> None:
    """A result with neither id nor name answers the only open call."""
    assert normalise_messages([asks(call("a")), {"role": "tool", "content": "ok"}])[1].blocks == (result(),)


def test_an_id_may_come_again_once_it_is_answered() -> None:
    """Servers that number calls anew in each turn are understood."""
    talk = [asks(call("call_0")), answers("call_0"), asks(call("call_0", "g")), answers("call_0")]
    assert normalise_messages(talk)[3].blocks == (result("call_0", "g"),)


def test_calls_at_the_very_end_may_be_open() -> None:
    """Calls without results are no error while nothing but system text follows."""
    assert len(normalise_messages([asks(call("a"), call("b")), {"role": "system", "content": "x"}])) == 2


# Replies


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


class SdkObject:
    """Stands for a vendor's reply object."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self.fields


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


# Wrong shapes

PARTS = "audio, document, file, image, image_url, input_audio, redacted_thinking, refusal, text, thinking, "
PARTS += "tool_result, tool_use, video, video_url"


@table(
    ("messages", "message"),
    [
        ([], "messages: the list is empty"),
        ("", "messages: there is nothing to send"),
        ([{"role": "user", "content": ""}], "messages: there is nothing to send"),
        ({"role": "user", "content": "hi"}, "messages: expected a string or a list of messages, got dict"),
        (None, "messages: expected a string or a list of messages, got None"),
        (b"hi", "messages: expected a string or a list of messages, got bytes"),
        (["hi"], "messages[0]: expected a dict with `role` and `content`, got str"),
        ([SdkObject], "messages[0]: expected a dict with `role` and `content`, got type"),
        (
            [{"role": "asistant", "content": "x"}],
            "messages[0].role: unknown role `asistant`; did you mean `assistant`?",
        ),
        (
            [{"content": "x"}],
            "messages[0].role: expected one of assistant, developer, function, model, system, tool, user, got None",
        ),
        (
            [{"role": "user", "contnet": "x"}],
            "messages[0]: `content` is missing; is it what `contnet` was meant to be?",
        ),
        ([{"role": "user"}], "messages[0]: `content` is missing"),
        ([{"role": "user", "content": 7}], "messages[0].content: expected a string or a list of parts, got int"),
        ([{"role": "user", "content": "x", "name": 1}], "messages[0].name: expected a string, got int"),
        (
            [{"role": "assistant", "reasoning_details": ["x"]}],
            "messages[0].reasoning_details[0]: expected an object (a dict), got str",
        ),
        (
            [{"role": "assistant", "tool_calls": {}}],
            "messages[0].tool_calls: expected a list of calls, got dict",
        ),
        (
            [asks({"id": "a", "type": "custom"})],
            "messages[0].tool_calls[0].type: unknown type `custom` (known: function)",
        ),
        (
            [asks({"id": "a"})],
            'messages[0].tool_calls[0].function: expected {"name": ..., "arguments": ...}, got None',
        ),
        (
            [asks(call("a", "f", 1))],
            "messages[0].tool_calls[0].function.arguments: expected an object (a dict), got int",
        ),
        ([asks(call("a", ""))], "messages[0].tool_calls[0].function.name: is empty"),
    ],
)
def test_wrong_messages(messages: Any, message: str) -> None:
    """A wrong message is refused with its place, what was expected and what was found."""
    assert refusal_of(messages) == message


@table(
    ("part", "message"),
    [
        (7, ": expected a string or a dict with `type`, got int"),
        ({"txt": "x"}, f".type: expected one of {PARTS}, got None"),
        ({"type": "txt", "text": "x"}, ".type: unknown type `txt`; did you mean `text`?"),
        ({"type": "a prompt, not a type"}, f".type: unknown type str (known: {PARTS})"),
        ({"type": "text", "text": None}, ".text: expected a string, got None"),
        ({"type": "thinking", "thinking": "x"}, ": a thinking block belongs in an assistant message"),
        (
            {"type": "tool_use", "id": "a", "name": "f", "input": {}},
            ": a tool_use block belongs in an assistant message",
        ),
        (
            {"type": "image", "source": 7},
            (
                '.source: expected {"type": "url", "url": ...} or {"type": "base64", "media_type": ..., "data": ...}, '
                "got int"
            ),
        ),
        (
            {"type": "image", "source": {"url": CAT}},
            ".source.type: expected one of base64, file, path, text, url, got None",
        ),
        (
            {"type": "image", "source": {"type": "base64", "data": "AAAA"}},
            ".source.media_type: expected a string, got None",
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "png", "data": "AAAA"}},
            ".source.media_type: expected a media type such as `image/png`",
        ),
        (
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": b"AAAA"}},
            ".source.data: expected a string, got bytes",
        ),
        (
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "data:image/png;base64,A"},
            },
            ".source.data: expected base64 alone, without `data:` before it",
        ),
        (
            {"type": "image", "source": {"type": "url", "url": "file://host/cat.png"}},
            ".source.url: expected a local file such as `file:///tmp/cat.png`",
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png,abc"}},
            ".image_url.url: expected a data URL of the form `data:image/png;base64,...`",
        ),
        ({"type": "image_url", "image_url": None}, '.image_url: expected {"url": ...}, got None'),
        ({"type": "image_url", "image_url": {"url": None}}, ".image_url.url: expected a string, got None"),
        ({"type": "image_url", "image_url": {"url": ""}}, ".image_url.url: is empty"),
        (
            {"type": "input_audio", "input_audio": {"data": "AAAA"}},
            ".input_audio.format: expected a string, got None",
        ),
        (
            {"type": "tool_result", "id": "a", "output": "x", "is_error": "no"},
            ".is_error: expected true or false, got str",
        ),
        (
            {"type": "tool_result", "id": "a", "output": "x", "content": "y"},
            ": `output` and `content` mean the same here, and differ",
        ),
        (
            {"type": "tool_result", "id": "a", "output": [{"type": "thinking", "thinking": "x"}]},
            ".output[0]: a tool result holds text and media only",
        ),
    ],
)
def test_wrong_parts(part: Any, message: str) -> None:
    """A wrong part is refused with its place, what was expected and what was found."""
    assert refusal_of([{"role": "system", "content": "s"}, *user("x", part)]) == f"messages[1].content[1]{message}"


LOOP: dict[str, Any] = {}
LOOP["again"] = LOOP


@table(
    ("value", "message"),
    [
        ({"x": {1, 2}}, "expected JSON values only, found set"),
        ({"x": [float("nan")]}, "expected JSON values only, found a float that is no number"),
        ({"x": {1: 2}}, "expected JSON values only, found a key of type int"),
        ({"x": 1 << 1100}, "expected JSON values only, found an integer of 1101 bits"),
        ({"x": "\ud800"}, "expected JSON values only, found half of a surrogate pair, which UTF-8 cannot hold"),
        (LOOP, "expected JSON values only, found more than 100 levels, or something that contains itself"),
    ],
)
def test_a_schema_must_be_json(value: Any, message: str) -> None:
    """A tool's schema is JSON that any vendor can be sent."""
    with pytest.raises(InvalidRequest) as caught:
        normalise_tools([function(parameters=value)])
    assert str(caught.value) == f"tools[0].function.parameters: {message}"


@table(
    ("value", "text"),
    [
        ({"x": {1, 2}}, '{"x": "set"}'),
        ({"x": [float("nan")]}, '{"x": [NaN]}'),
        (LOOP, "(arguments that are nested too deep to be written)"),
    ],
)
def test_what_a_model_wrote_is_never_refused(value: Any, text: str) -> None:
    """Arguments of an earlier call that are no JSON go on as the text that they are."""
    block = {"type": "tool_use", "id": "a", "name": "f", "input": value}
    (message,) = normalise_messages([{"role": "assistant", "content": [block]}])
    assert message.blocks == (ToolUseBlock("a", "f", {}, raw_input=text),)
    assert message.blocks[0].arguments == {"INVALID_JSON": text}


HINT = {"role": "system", "content": "Be quick."}
LOOK = {"role": "user", "content": "Look at this."}


@table(
    ("between", "moved"),
    [
        ([HINT, answers("a"), answers("b")], [("system", "Be quick.")]),
        ([answers("a"), LOOK, answers("b")], [("user", "Look at this.")]),
        ([answers("a"), LOOK, HINT, answers("b")], [("user", "Look at this."), ("system", "Be quick.")]),
        (
            [
                LOOK,
                {
                    "role": "user",
                    "content": [
                        {"type": "tool_result", "tool_use_id": "a", "content": "ok"},
                        {"type": "text", "text": "Both?"},
                    ],
                },
                answers("b"),
            ],
            [("user", "Look at this."), ("user", "Both?")],
        ),
    ],
)
def test_what_stands_between_calls_and_their_results_moves_behind_the_results(between, moved):
    """Frameworks put hints, and the images that tools gave, in the midst; no vendor takes them there."""
    turns = normalise_messages([asks(call("a"), call("b")), *between, {"role": "assistant", "content": "Done."}])
    results = [block for turn in turns[1:-1] for block in turn.blocks if isinstance(block, ToolResultBlock)]
    assert [result.id for result in results] == ["a", "b"]
    behind = [turn for turn in turns[1:-1] if not any(isinstance(block, ToolResultBlock) for block in turn.blocks)]
    assert [(turn.role, turn.blocks[0].text) for turn in behind] == moved
    assert turns[-1 - len(moved) : -1] == tuple(behind)


def test_items_with_a_message_between_the_outputs_of_two_calls_are_put_in_order():
    """The Responses API allows a user's message between two outputs, where a framework shows a tool's image."""
    asked = [{"type": "function_call", "call_id": i, "name": "f", "arguments": "{}"} for i in "ab"]
    given = [{"type": "function_call_output", "call_id": i, "output": "ok"} for i in "ab"]
    turns = normalise_messages([*asked, given[0], {"type": "message", **LOOK}, given[1]])
    assert [turn.role for turn in turns] == ["assistant", "user", "user"]
    assert turns[-1].blocks == (TextBlock("Look at this."),)


def test_the_calls_of_one_turn_may_be_messages_of_their_own():
    """Frameworks write a message a call, and all results behind them: vendors take calls that belong together."""
    said = {"role": "assistant", "content": "I look.", "tool_calls": [call("a")]}
    first, results, _ = normalise_messages([said, asks(call("b", "g")), answers("a"), answers("b"), LOOK])
    assert [type(block) for block in first.blocks] == [TextBlock, ToolUseBlock, ToolUseBlock]
    assert [(block.id, block.name) for block in results.blocks] == [("a", "f"), ("b", "g")]


def test_a_hint_behind_a_call_that_nothing_follows_stays():
    """Of the last calls a result may be missing; a system message there is sent."""
    assert [turn.role for turn in normalise_messages([asks(call("a")), HINT])] == ["assistant", "system"]


@table(
    ("messages", "message"),
    [
        (
            [asks(call("a")), {"role": "user", "content": "hm"}],
            "messages[1]: call `a` (messages[0].tool_calls[0]) has no result before this message",
        ),
        (
            [asks(call("a")), HINT, LOOK, HINT, answers("b")],
            "messages[4]: is a result for call `b`, which no message before it makes",
        ),
        (
            [asks(call("a")), HINT, LOOK, {"role": "assistant", "content": "hm"}],
            "messages[2]: call `a` (messages[0].tool_calls[0]) has no result before this message",
        ),
        (
            [asks(call("a"), call("b")), answers("b"), {"role": "assistant", "content": "hm"}],
            "messages[2]: call `a` (messages[0].tool_calls[0]) has no result before this message",
        ),
        (
            [asks(call("a")), asks(call("b"))],
            "messages[1]: call `a` (messages[0].tool_calls[0]) has no result before this message",
        ),
        (
            [{"role": "user", "content": "x"}, answers("a")],
            "messages[1]: is a result for call `a`, which no message before it makes",
        ),
        (
            [asks(call("a")), answers("a"), answers("a")],
            "messages[2]: is a result for call `a`, which messages[1] has answered",
        ),
        (
            [asks(call("a")), answers(None, name="g")],
            "messages[1]: is a result, but no call of `g` before it is without a result",
        ),
        ([answers(None)], "messages[0]: is a result, but no call before it is without a result"),
        (
            [asks(call("a"), call("b")), answers(None)],
            "messages[1]: does not say which of 2 calls it answers: an id is missing",
        ),
        (
            [asks(call("a")), answers("a", name="f", tool_name="g")],
            "messages[1]: `name` and `tool_name` mean the same here, and differ",
        ),
    ],
)
def test_calls_and_results_that_do_not_fit(messages: Any, message: str) -> None:
    """Calls and results that do not pair are refused, naming both places."""
    assert refusal_of(messages) == message


# Tools

SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
EMPTY = {"type": "object", "properties": {}}


def function(name: str = "f", **more: Any) -> dict[str, Any]:
    """A tool in OpenAI's form."""
    return {"type": "function", "function": {"name": name, **more}}


@table(
    ("tool", "neutral"),
    [
        (function(description="d", parameters=SCHEMA, strict=True), Tool("f", "d", SCHEMA, True)),
        ({"function": {"name": "f", "parameters": {}}}, Tool("f", "", EMPTY)),
        (function(parameters=None, description=None), Tool("f", "", EMPTY)),
        ({"name": "f", "description": "d", "input_schema": SCHEMA}, Tool("f", "d", SCHEMA)),
        ({"type": "custom", "name": "f", "parameters": {"properties": {}}}, Tool("f", "", EMPTY)),
        (
            function(parameters={"$ref": "#/$defs/F", "$defs": {"F": SCHEMA}}),
            Tool("f", "", {"$ref": "#/$defs/F", "$defs": {"F": SCHEMA}, **EMPTY}),
        ),
    ],
)
def test_tools_of_both_forms(tool: dict[str, Any], neutral: Tool) -> None:
    """OpenAI's form and the flat one give the same tool, its parameters always an object's schema."""
    assert normalise_tools([tool]) == (neutral,)


def test_no_tools() -> None:
    """None and an empty list are no tools."""
    assert normalise_tools(None) == normalise_tools([]) == ()


@table(
    ("tools", "message"),
    [
        ({}, "tools: expected a list of tools, got dict"),
        (
            [print],
            (
                'tools[0]: expected {"type": "function", "function": {"name": ..., "description": ..., "parameters": '
                "...}}, got builtin_function_or_method"
            ),
        ),
        (
            [{"type": "functoin", "function": {"name": "f"}}],
            "tools[0].type: unknown type `functoin`; did you mean `function`?",
        ),
        (
            [{"type": "func", "name": "f", "parameters": {}}],
            "tools[0].type: unknown type `func`; did you mean `function`?",
        ),
        ([{"type": "function"}], "tools[0]: `name` is missing"),
        (
            [{"type": "function", "function": "f"}],
            'tools[0].function: expected {"name": ..., "description": ..., "parameters": ...}, got str',
        ),
        ([function("a\nb")], "tools[0].function.name: expected 1 to 512 printable characters"),
        ([function("")], "tools[0].function.name: is empty"),
        ([function(parameters=[])], "tools[0].function.parameters: expected an object (a dict), got list"),
        (
            [{"name": "f", "input_schema": {"type": "string"}}],
            'tools[0].input_schema.type: expected "object": tools take named arguments',
        ),
        ([function(strict="yes")], "tools[0].function.strict: expected true or false, got str"),
        ([function(description=1)], "tools[0].function.description: expected a string, got int"),
        ([function(), {"name": "f"}], "tools[1]: `f` is already the name of tools[0]"),
    ],
)
def test_wrong_tools(tools: Any, message: str) -> None:
    """A wrong tool is refused with its place, what was expected and what was found."""
    with pytest.raises(InvalidRequest) as caught:
        normalise_tools(tools)
    assert str(caught.value) == message


TOOLS = (Tool("get_weather"), Tool("get_time"))


@table(
    ("choice", "neutral"),
    [
        (None, None),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("any", ToolChoice("required")),
        ("required", ToolChoice("required")),
        ("get_time", ToolChoice("tool", "get_time")),
        ({"type": "function", "function": {"name": "get_time"}}, ToolChoice("tool", "get_time")),
        ({"function": {"name": "get_time"}}, ToolChoice("tool", "get_time")),
        ({"type": "tool", "name": "get_time"}, ToolChoice("tool", "get_time")),
        ({"type": "any"}, ToolChoice("required")),
    ],
)
def test_tool_choices(choice: Any, neutral: ToolChoice | None) -> None:
    """A mode, a name and both vendors' dicts become the neutral choice."""
    assert normalise_tool_choice(choice, TOOLS) == neutral


@table("choice", [None, "auto", "none", {"type": "auto"}])
def test_nothing_to_choose_from(choice: Any) -> None:
    """Without tools a choice that demands none is no choice."""
    assert normalise_tool_choice(choice, ()) is None


@table(
    ("choice", "tools", "message"),
    [
        (
            "get_wether",
            TOOLS,
            "tool_choice: no tool is named `get_wether`; did you mean `get_weather`? (tools: get_weather, get_time)",
        ),
        (
            "requird",
            TOOLS,
            "tool_choice: no tool is named `requird`; did you mean `required`? (tools: get_weather, get_time)",
        ),
        ("required", (), "tool_choice: requires a tool, but no tools are given"),
        ("get_time", (), "tool_choice: requires a tool, but no tools are given"),
        (
            7,
            TOOLS,
            (
                'tool_choice: expected "auto", "none", "required", a tool\'s name or '
                '{"type": "function", "function": {"name": ...}}, got int'
            ),
        ),
        ({"type": "function"}, TOOLS, 'tool_choice.function: expected {"name": ...}, got None'),
        (
            {"type": "tools"},
            TOOLS,
            "tool_choice.type: unknown type `tools`; did you mean `tool`?",
        ),
    ],
)
def test_wrong_tool_choices(choice: Any, tools: tuple[Tool, ...], message: str) -> None:
    """A choice that cannot be met is refused, with the tools there are."""
    with pytest.raises(InvalidRequest) as caught:
        normalise_tool_choice(choice, tools)
    assert str(caught.value) == message


# Properties

texts = st.text(min_size=1, max_size=8)
names = st.sampled_from(["f", "get_weather", "x-1"])
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
inputs = st.dictionaries(texts, jsons, max_size=3)
maybe = st.none() | texts


def is_readable(raw: str) -> bool:
    """Whether *raw* is a JSON object, or blank."""
    try:
        return not raw.strip() or isinstance(json.loads(raw), dict)
    except ValueError:
        return False


@st.composite
def reply_contents(draw: st.DrawFn) -> list[tuple[dict[str, Any], ContentBlock]]:
    """Blocks as our own replies write them, each with the block that must come out."""
    pairs: list[tuple[dict[str, Any], ContentBlock]] = []
    for index in range(draw(st.integers(1, 5))):
        signature, text = draw(maybe), draw(texts)
        tag: dict[str, Any] = {"signature": signature, "provider": draw(texts)} if signature else {}
        kind = draw(st.sampled_from(["text", "thinking", "tool_use"]))
        if kind == "text":
            pairs.append(({"type": kind, "text": text, **tag}, TextBlock(text, **tag)))
        elif kind == "thinking":
            data = draw(maybe)
            pairs.append(({"type": kind, "thinking": text, "data": data, **tag}, ThinkingBlock(text, data=data, **tag)))
        else:
            call_id, name, value, raw = f"id_{index}", draw(names), draw(inputs), draw(maybe)
            block = {"type": kind, "id": call_id, "name": name, "input": value, "raw_input": raw, "error": None, **tag}
            unread = raw if not value and raw is not None and not is_readable(raw) else None
            pairs.append((block, ToolUseBlock(call_id, name, copy.deepcopy(value), raw_input=unread, **tag)))
    return pairs


@given(reply_contents(), st.booleans())
def test_a_reply_comes_back_as_it_was(pairs: list[tuple[dict[str, Any], ContentBlock]], whole: bool) -> None:
    """A reply put back into the conversation gives its own blocks, none lost, none changed."""
    content = [block for block, _ in pairs]
    reply: dict[str, Any] = ChatResponse(content) if whole else {"role": "assistant", "content": content}
    neutral = normalise_messages([{"role": "user", "content": "hi"}, reply])
    assert neutral[1] == Message("assistant", tuple(block for _, block in pairs))


@st.composite
def both_dialects(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """One conversation, written in OpenAI's dialect and in the seed's blocks."""
    openai: list[dict[str, Any]] = [{"role": "system", "content": draw(texts)}]
    blocks: list[dict[str, Any]] = copy.deepcopy(openai)
    for turn in range(draw(st.integers(1, 3))):
        text, thought, answer = draw(texts), draw(maybe), draw(texts)
        url, data = f"https://a/{turn}.png", draw(st.sampled_from(["AAAA", "iVBO"]))
        image = {"type": "image_url", "image_url": {"url": url}}
        inline = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}
        openai += user({"type": "text", "text": text}, image, inline)
        source = {"type": "base64", "media_type": "image/png", "data": data}
        blocks += user(
            text, {"type": "image", "source": {"type": "url", "url": url}}, {"type": "image", "source": source}
        )
        calls = [(f"c{turn}_{index}", draw(names), draw(inputs)) for index in range(draw(st.integers(0, 3)))]
        openai.append(
            {
                "role": "assistant",
                "content": answer,
                "reasoning_content": thought,
                "tool_calls": [call(call_id, name, json.dumps(value)) for call_id, name, value in calls],
            }
        )
        said: list[dict[str, Any]] = [{"type": "thinking", "thinking": thought}] if thought else []
        said.append({"type": "text", "text": answer})
        said += [{"type": "tool_use", "id": i, "name": name, "input": value} for i, name, value in calls]
        blocks.append({"role": "assistant", "content": said})
        outputs = [(call_id, name, draw(texts)) for call_id, name, _ in draw(st.permutations(calls))]
        openai += [answers(call_id, output) for call_id, _, output in outputs]
        results = [{"type": "tool_result", "id": i, "name": name, "output": output} for i, name, output in outputs]
        blocks += [{"role": "user", "content": results}] if results else []
    return openai, blocks


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(both_dialects())
def test_both_dialects_mean_the_same(talk: tuple[list[dict[str, Any]], list[dict[str, Any]]]) -> None:
    """The same conversation in either dialect is the same in the neutral form."""
    openai, blocks = talk
    assert normalise_messages(openai) == normalise_messages(blocks)


@settings(suppress_health_check=[HealthCheck.too_slow])  # of drawing, on a busy machine
@given(both_dialects(), st.lists(inputs, max_size=3))
def test_the_input_is_never_changed(
    talk: tuple[list[dict[str, Any]], list[dict[str, Any]]], schemas: list[dict[str, Any]]
) -> None:
    """The caller's messages and tools are left as they were."""
    tools = [function(f"f{index}", parameters={"x-any": schema}) for index, schema in enumerate(schemas)]
    before = copy.deepcopy((talk, tools))
    for messages in talk:
        normalise_messages(messages)
    normalise_tools(tools)
    assert (talk, tools) == before


def test_nothing_is_shared_with_the_caller() -> None:
    """Later changes of the caller's objects do not reach a request, nor the other way round."""
    deep: dict[str, Any] = {"x": [{"y": 1}]}
    mark = {"type": "ephemeral"}
    block = {"type": "tool_use", "id": "a", "name": "f", "input": deep, "cache_control": mark}
    messages = [{"role": "assistant", "content": [block]}, asks(call("b", "f", deep))]
    neutral = normalise_messages(messages[:1]) + normalise_messages(messages[1:])
    tools = normalise_tools([function(parameters=deep)])
    expected = copy.deepcopy((neutral, tools))
    deep["x"][0]["y"] = 2
    deep["x"].append(3)
    mark["type"] = "other"
    messages.clear()
    assert (neutral, tools) == expected


SECRET = "the secret words of somebody"
KEYS = [
    "type",
    "role",
    "content",
    "text",
    "source",
    "url",
    "data",
    "media_type",
    "image_url",
    "tool_calls",
    "input",
    "id",
]
KEYS += ["output", "function", "arguments", "name", "cache_control", "signature", "is_error", "path", "file", SECRET]
VALUES = ["user", "assistant", "tool", "text", "image", "file", "tool_use", "tool_result", "url", "base64", "path"]
junk = st.recursive(
    st.sampled_from([None, True, 7, 1.5, b"x", SECRET, f"data:{SECRET}", f"file://{SECRET}", *VALUES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)
junk_messages = st.fixed_dictionaries({"role": st.sampled_from(VALUES[:3]), "content": junk})


@given(st.lists(junk_messages | junk, min_size=1, max_size=3), junk, junk)
def test_junk_is_refused_without_showing_it(messages: Any, tools: Any, choice: Any) -> None:
    """Whatever comes in, only InvalidRequest comes out, and it never repeats somebody's words."""
    for normalise in (
        lambda: normalise_messages(messages),
        lambda: normalise_tools(tools),
        lambda: normalise_tool_choice(choice, TOOLS),
    ):
        told = ""
        try:
            normalise()
        except InvalidRequest as error:
            told = str(error)
        assert SECRET not in told


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
