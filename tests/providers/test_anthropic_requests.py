"""How messages and tools go to Anthropic's Messages API, through the real SDK against a loopback server."""

import base64

import pytest

from modelhub.core.errors import UnsupportedFeature
from tests.providers.anthropic_server import TIME, WEATHER, make, message, sent
from tests.tables import table


async def test_a_text_goes_out_as_one_user_message(loopback, wrong_in):
    """A plain string becomes a user's text block, with the model, max_tokens and nothing else."""
    body = await sent(loopback)
    assert body == {
        "model": "claude-haiku-4-5",
        "max_tokens": 2048,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
    }
    assert wrong_in(body) == []


async def test_system_messages_anywhere_stand_at_the_top(loopback):
    """All system messages join the prompt at the top, in order, and the turns around them become one."""
    body = await sent(
        loopback,
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": "And kind."},
            {"role": "user", "content": "there"},
        ],
    )
    assert body["system"] == "Be brief.\n\nAnd kind."
    assert [turn["role"] for turn in body["messages"]] == ["user"]
    assert [block["text"] for block in body["messages"][0]["content"]] == ["Hi", "there"]


async def test_cache_marks_keep_their_places(loopback, wrong_in):
    """Marks on system text, messages and tool results arrive as cache_control, and the system prompt becomes a list."""
    mark = {"type": "ephemeral", "ttl": "1h"}
    body = await sent(
        loopback,
        [
            {"role": "system", "content": [{"type": "text", "text": "Long.", "cache_control": mark}]},
            {"role": "system", "content": "Short."},
            {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": mark}]},
        ],
    )
    assert body["system"] == [
        {"type": "text", "text": "Long.", "cache_control": mark},
        {"type": "text", "text": "Short."},
    ]
    assert body["messages"][0]["content"][0]["cache_control"] == mark
    assert wrong_in(body) == []


async def test_a_system_prompt_alone_is_not_enough(loopback):
    """Anthropic needs a user message: without one another model may be asked, and nothing is sent."""
    async with make(loopback) as model:
        with pytest.raises(UnsupportedFeature, match="user message"):
            await model([{"role": "system", "content": "Be brief."}])
    assert not loopback.asked


@table(
    ("choice", "wanted"),
    [
        (None, None),
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("any", {"type": "any"}),
        ("required", {"type": "any"}),
        ("weather", {"type": "tool", "name": "weather"}),
    ],
)
async def test_tools_and_every_choice(loopback, wrong_in, choice, wanted):
    """Tools go out with a schema of type object, and each choice in the API's words."""
    body = await sent(loopback, "Hi", [WEATHER, TIME], choice)
    assert body["tools"] == [
        {
            "name": "weather",
            "description": "Tells the weather.",
            "input_schema": WEATHER["function"]["parameters"],
        },
        {"name": "time", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body.get("tool_choice") == wanted
    assert wrong_in(body) == []


async def test_a_strict_tool_is_strict_where_the_model_can(loopback, wrong_in):
    """`strict` goes out for Claude 4.5 and later with a closed schema, and is left out for older ones."""
    tool = {"type": "function", "function": {**WEATHER["function"], "strict": True}}
    new = await sent(loopback, "Hi", [tool])
    assert new["tools"][0]["strict"] is True
    assert new["tools"][0]["input_schema"]["additionalProperties"] is False
    assert wrong_in(new) == []
    old = await sent(loopback, "Hi", [tool], model_name="claude-3-5-haiku-latest")
    assert "strict" not in old["tools"][0]


async def test_server_tools_from_generate_kwargs_stay_beside_the_callers(loopback):
    """Tools of Anthropic's own, given as a parameter, are sent after the caller's; so stays the choice's detail."""
    search = {"type": "web_search_20250305", "name": "web_search"}
    more = {"generate_kwargs": {"tools": [search], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}}
    body = await sent(loopback, "Hi", [TIME], "required", more=more)
    assert [tool["name"] for tool in body["tools"]] == ["time", "web_search"]
    assert body["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


async def test_a_name_of_an_argument_that_the_api_refuses_is_no_surprise(loopback):
    """An argument cannot be renamed: another model may take it."""
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    async with make(loopback) as model:
        with pytest.raises(UnsupportedFeature, match="größe"):
            await model("Hi", [{"type": "function", "function": {"name": "f", "parameters": schema}}])
    assert not loopback.asked


async def test_a_tool_round_trip_with_parallel_calls(loopback, wrong_in):
    """Both results of one turn come in one user message, first of all, with the ids of their calls."""
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "Let me see.",
                "tool_calls": [
                    {"id": "toolu_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"A"}'}},
                    {"id": "toolu_2", "type": "function", "function": {"name": "weather", "arguments": '{"city":"B"}'}},
                ],
            },
            {"role": "tool", "tool_call_id": "toolu_1", "content": "sun"},
            {"role": "tool", "tool_call_id": "toolu_2", "content": ""},
            {"role": "user", "content": "And?"},
        ],
        [WEATHER],
    )
    asked, answered = body["messages"][1:]
    assert [block["type"] for block in asked["content"]] == ["text", "tool_use", "tool_use"]
    assert [block["input"] for block in asked["content"][1:]] == [{"city": "A"}, {"city": "B"}]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "sun"},
        {"type": "tool_result", "tool_use_id": "toolu_2"},
        {"type": "text", "text": "And?"},
    ]
    assert wrong_in(body) == []


async def test_results_with_errors_and_images(loopback, wrong_in):
    """A failed tool is marked and has words, and a result may hold an image."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Draw."},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "a", "name": "draw", "input": {}},
                    {"type": "tool_use", "id": "b", "name": "draw", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Here."},
                    {"type": "tool_result", "id": "a", "output": [{"type": "text", "text": "one"}, image]},
                    {"type": "tool_result", "id": "b", "output": "", "is_error": True},
                ],
            },
        ],
    )
    first, second, text = body["messages"][2]["content"]
    assert first["content"] == [{"type": "text", "text": "one"}, image]
    assert second == {"type": "tool_result", "tool_use_id": "b", "content": "error", "is_error": True}
    assert text == {"type": "text", "text": "Here."}
    assert wrong_in(body) == []


async def test_foreign_ids_are_made_fit_on_both_sides(loopback):
    """Ids with characters the API refuses, or used again in a later turn, are replaced, the same in call and result."""
    talk = [{"role": "user", "content": "Go."}]
    for call_id in ("sig/+==", "call_0", "call_0"):
        call = {"id": call_id, "type": "function", "function": {"name": "time", "arguments": "{}"}}
        talk += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": "now"},
        ]
    body = await sent(loopback, talk)
    calls = [turn["content"][0]["id"] for turn in body["messages"] if turn["role"] == "assistant"]
    results = [turn["content"][0]["tool_use_id"] for turn in body["messages"][2:] if turn["role"] == "user"]
    assert calls == results
    assert len(set(calls)) == 3
    assert calls[1:] == ["call_0", "call_0_2"]
    assert all(part.isalnum() or part in "_-" for call_id in calls for part in call_id)


async def test_unreadable_arguments_go_back_as_they_were(loopback):
    """A call whose arguments were no JSON goes back wrapped, not as a call without arguments."""
    call = {"id": "a", "type": "function", "function": {"name": "time", "arguments": '{"zone": '}}
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Go."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "a", "content": "?"},
        ],
    )
    assert body["messages"][1]["content"][0]["input"] == {"INVALID_JSON": '{"zone": '}


async def test_images_by_address_in_base64_and_from_a_file(loopback, wrong_in, tmp_path):
    """Images go out by address, in base64, and, from a local file, in base64 too."""
    (tmp_path / "dot.png").write_bytes(b"\x89PNG")
    parts = [
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j/"}},
        {"type": "image", "source": {"type": "path", "path": tmp_path / "dot.png"}},
    ]
    body = await sent(loopback, [{"role": "user", "content": parts}])
    assert [block["source"] for block in body["messages"][0]["content"]] == [
        {"type": "url", "url": "https://example.com/a.png"},
        {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"},
        {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"\x89PNG").decode()},
    ]
    assert wrong_in(body) == []


async def test_documents_as_pdf_and_text(loopback, wrong_in):
    """PDFs go out by address or in base64, texts as text, with their names as titles."""
    text = base64.b64encode("Größe".encode()).decode()
    parts = [
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "name": "a",
        },
        {"type": "document", "source": {"type": "base64", "media_type": "text/markdown", "data": text}},
    ]
    body = await sent(loopback, [{"role": "user", "content": parts}])
    assert [{**block, "type": None} for block in body["messages"][0]["content"]] == [
        {"type": None, "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": None, "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}, "title": "a"},
        {"type": None, "source": {"type": "text", "media_type": "text/plain", "data": "Größe"}},
    ]
    assert wrong_in(body) == []


def _media(kind, media_type):
    return {"type": kind, "source": {"type": "base64", "media_type": media_type, "data": "AAAA"}}


@table(
    ("role", "part"),
    [
        ("user", _media("audio", "audio/wav")),
        ("user", _media("video", "video/mp4")),
        ("user", _media("image", "image/svg+xml")),
        ("user", _media("document", "application/msword")),
        ("assistant", _media("image", "image/png")),
        ("system", _media("image", "image/png")),
    ],
)
async def test_what_anthropic_cannot_take_is_said_before_any_request(loopback, role, part):
    """Sound, film, strange files, and images where they cannot stand: another model may take them."""
    talk = [{"role": "user", "content": "Look."}, {"role": role, "content": [part]}, {"role": "user", "content": "?"}]
    async with make(loopback) as model:
        with pytest.raises(UnsupportedFeature, match="anthropic"):
            await model(talk)
    assert not loopback.asked


async def test_thinking_goes_back_unchanged_and_only_if_it_is_ours(loopback, wrong_in):
    """Signed and redacted thinking goes back in its place; unsigned and other vendors' thinking is left out."""
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s1", "provider": "anthropic"},
        {"type": "thinking", "thinking": "", "data": "d1", "provider": "anthropic"},
        {"type": "thinking", "thinking": "", "signature": "s2", "provider": "anthropic"},
        {"type": "thinking", "thinking": "unsigned"},
        {"type": "thinking", "thinking": "foreign", "signature": "g", "provider": "gemini"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "a", "name": "time", "input": {}},
    ]
    body = await sent(
        loopback,
        [
            {"role": "user", "content": "Think."},
            {"role": "assistant", "content": content},
            {"role": "tool", "tool_call_id": "a", "content": "noon"},
        ],
        more={"thinking": {"type": "enabled", "budget_tokens": 1024}},
    )
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "d1"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "a", "name": "time", "input": {}},
    ]
    assert body["thinking"] == {"type": "enabled", "budget_tokens": 1024}
    assert wrong_in(body) == []


async def test_a_reply_can_be_the_next_message(loopback):
    """Thinking, redacted thinking, text and calls of a reply come back exactly as the API gave them."""
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "s1"},
        {"type": "redacted_thinking", "data": "d1"},
        {"type": "text", "text": "So."},
        {"type": "tool_use", "id": "toolu_1", "name": "time", "input": {"zone": "CET"}},
    ]
    loopback.answers(message(*content, stop="tool_use"))
    async with make(loopback) as model:
        reply = await model("Hi", [TIME])
        assert reply.thinking == "hm"
        assert reply.finish_reason == "tool_calls"
        talk = [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": reply.content},
            {"role": "tool", "tool_call_id": "toolu_1", "content": "noon"},
        ]
        await model(talk, [TIME])
    assert loopback.asked[-1].json["messages"][1] == {"role": "assistant", "content": content}
