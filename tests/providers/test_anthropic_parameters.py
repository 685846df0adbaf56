"""Parameters of a call of Claude, and what it does not take."""

import pytest

from modelhub.core.errors import InvalidRequest, UnsupportedFeature
from tests.providers.anthropic_server import WEATHER, make, sent
from tests.tables import table


async def test_white_space_alone_is_never_sent(loopback):
    """Empty and blank text is left out, and the end of a prefill is stripped."""
    body = await sent(
        loopback,
        [
            {"role": "user", "content": [{"type": "text", "text": " \n"}, {"type": "text", "text": "Hi"}]},
            {"role": "assistant", "content": " "},
            {"role": "user", "content": "there"},
            {"role": "assistant", "content": "Once \n"},
        ],
        model_name="claude-3-5-haiku-latest",
    )
    assert [(turn["role"], [block["text"] for block in turn["content"]]) for turn in body["messages"]] == [
        ("user", ["Hi", "there"]),
        ("assistant", ["Once"]),
    ]


@table(
    ("model_name", "thinking"),
    [
        ("claude-3-7-sonnet-latest", {"type": "enabled", "budget_tokens": 1024}),
        ("claude-opus-4-6", None),
        ("claude-sonnet-5", None),
    ],
)
async def test_prefill_is_refused_where_the_model_does(loopback, model_name, thinking):
    """An assistant message at the end cannot be continued while thinking, nor by Claude 4.6 and later."""
    async with make(loopback, model_name, thinking=thinking) as model:
        with pytest.raises(UnsupportedFeature, match="continue an assistant message"):
            await model([{"role": "user", "content": "Go"}, {"role": "assistant", "content": "Once"}])
    assert not loopback.asked


@pytest.mark.parametrize("choice", ["required", "weather"])
async def test_a_tool_cannot_be_forced_while_thinking(loopback, choice):
    """Thinking with a budget excludes forced tools; it is said before any request."""
    async with make(loopback, thinking={"type": "enabled", "budget_tokens": 1024}) as model:
        with pytest.raises(UnsupportedFeature, match="force a tool"):
            await model("Hi", [WEATHER], choice)
    assert not loopback.asked


async def test_a_thinking_budget_needs_room(loopback):
    """A budget that leaves no tokens for the answer is wrong, and both numbers are named."""
    thinking = {"type": "enabled", "budget_tokens": 4096}
    async with make(loopback, thinking=thinking) as model:
        with pytest.raises(InvalidRequest, match=r"4096.*2048"):
            await model("Hi")
    assert not loopback.asked
    assert (await sent(loopback, "Hi", more={"thinking": thinking}, max_tokens=8192))["max_tokens"] == 8192
    beta = {"anthropic-beta": "interleaved-thinking-2025-05-14"}
    for more in ({"client_args": {"default_headers": beta}}, {"generate_kwargs": {"extra_headers": beta}}):
        assert "thinking" in await sent(loopback, "Hi", more={"thinking": thinking, **more})


async def test_parameters_of_the_call_win(loopback):
    """Defaults, generate_kwargs, then the call's own; None takes away; what the SDK does not know is sent too."""
    more = {
        "generate_kwargs": {"temperature": 0.2, "top_k": 3, "stop_sequences": ["x"], "max_tokens": 50},
        "thinking": {"type": "adaptive"},
    }
    body = await sent(loopback, "Hi", more=more, temperature=0.9, top_k=None, thinking=None, extra_body={"odd": 1})
    assert body["temperature"] == 0.9
    assert body["max_tokens"] == 50
    assert body["stop_sequences"] == ["x"]
    assert body["odd"] == 1
    assert not body.keys() & {"top_k", "thinking", "extra_body", "stream"}
    kept = await sent(loopback, "Hi", more=more, thinking={"type": "disabled"})
    assert kept["thinking"] == {"type": "disabled"}


async def test_a_long_answer_needs_no_stream(loopback):
    """The SDK's own refusal of long answers that are not streamed does not apply."""
    assert (await sent(loopback, "Hi", max_tokens=100_000))["max_tokens"] == 100_000


async def test_an_old_model_is_no_warning(loopback):
    """The SDK's warnings about a model's age do not reach the caller, and the real name is sent."""
    body = await sent(loopback, model_name="claude-sonnet-4-5")
    assert body["model"] == "claude-sonnet-4-5"
