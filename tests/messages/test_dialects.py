"""Properties of all messages: both dialects mean the same, nothing of the caller is changed, shared or shown."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub.core.errors import InvalidRequest
from modelhub.core.response import ChatResponse
from modelhub.messages.blocks import ContentBlock, Message, TextBlock, ThinkingBlock, ToolUseBlock
from modelhub.messages.normalize import normalise_messages
from modelhub.messages.tools import normalise_tool_choice, normalise_tools
from tests.messages.conversations import TOOLS, answers, asks, call, function, user

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
