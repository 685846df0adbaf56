"""Calls and their results: ids, order, and what does not fit."""

from __future__ import annotations

from typing import Any

from modelhub.messages.blocks import MediaBlock, Message, TextBlock, ToolResultBlock, ToolUseBlock, UrlSource
from modelhub.messages.normalize import normalise_messages
from tests.messages.conversations import CAT, answers, asks, call, refusal_of, result
from tests.tables import table


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
