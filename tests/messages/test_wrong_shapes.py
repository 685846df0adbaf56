"""What each message of a wrong shape is told."""

from __future__ import annotations

from typing import Any

import pytest

from modelhub.core.errors import InvalidRequest
from modelhub.messages.blocks import ToolUseBlock
from modelhub.messages.normalize import normalise_messages
from modelhub.messages.tools import normalise_tools
from tests.messages.conversations import CAT, SdkObject, asks, call, function, refusal_of, user
from tests.tables import table

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
