"""Answers of Anthropic's Messages API, whole and streamed, through the real SDK against a loopback server."""

from tests.providers.anthropic_server import delta, make, message, sse, stream, text_block
from tests.tables import table


@table(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("pause_turn", "length"),
        ("refusal", "refusal"),
        ("something_new", "stop"),
    ],
)
async def test_why_it_stopped(loopback, reason, finish):
    """Every stop reason becomes one of ours, whole and streamed."""
    async with make(loopback) as model:
        loopback.answers(message(stop=reason))
        assert (await model("Hi")).finish_reason == finish
        loopback.streams(*stream(*text_block("Hello."), stop=reason), content_type="text/event-stream")
        assert (await (await model("Hi", stream=True)).final()).finish_reason == finish


async def test_usage_has_totals_that_include_their_parts(loopback):
    """Cached tokens, read and written, are part of the input, and thinking is part of the output.

    What is written for an hour, which is dearer, is part of what is written.
    """
    usage = {
        "input_tokens": 10,
        "cache_read_input_tokens": 200,
        "cache_creation_input_tokens": 30,
        "cache_creation": {"ephemeral_5m_input_tokens": 12, "ephemeral_1h_input_tokens": 18},
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
    }
    loopback.answers(message(usage=usage), request_id="req_7")
    async with make(loopback) as model:
        reply = await model("Hi")
    found = reply.usage
    assert (found.input_tokens, found.output_tokens, found.total_tokens) == (240, 50, 290)
    assert (found.cache_read_tokens, found.cache_write_tokens, found.reasoning_tokens) == (200, 30, 20)
    assert found.cache_write_1h_tokens == 18
    assert found.time > 0
    assert (reply.id, reply.model_name) == ("msg_1", "claude-haiku-4-5-20251001")
    assert reply.attempts[0].request_id == "req_7"


async def test_usage_of_a_stream_is_its_last_word(loopback):
    """Later counts replace earlier ones; those that are missing or null leave them."""
    start = message(stop=None) | {"content": []}
    start["usage"] = {"input_tokens": 10, "cache_read_input_tokens": 5, "output_tokens": 1}
    start["usage"] |= {"cache_creation_input_tokens": 8, "cache_creation": {"ephemeral_1h_input_tokens": 6}}
    end = {"input_tokens": None, "cache_creation_input_tokens": 8, "cache_creation": None}
    end |= {"output_tokens": 9, "output_tokens_details": {"thinking_tokens": 4}}
    events = sse(
        {"type": "message_start", "message": start},
        *text_block("Hi"),
        {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 3}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": end},
        {"type": "message_stop"},
    )
    loopback.streams(*events, content_type="text/event-stream")
    async with make(loopback, stream=True) as model:
        usage = (await (await model("Hi")).final()).usage
    assert (usage.input_tokens, usage.cache_read_tokens) == (23, 5)
    assert (usage.cache_write_tokens, usage.cache_write_1h_tokens) == (8, 6)
    assert (usage.output_tokens, usage.reasoning_tokens) == (9, 4)


async def test_a_stream_of_everything(loopback):
    """Thinking blocks stay apart with their signatures, server tools are passed over, calls come in pieces."""
    events = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        delta(0, type="thinking_delta", thinking="h"),
        delta(0, type="thinking_delta", thinking="m"),
        delta(0, type="signature_delta", signature="s0"),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "d1"}},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}},
        },
        delta(2, type="input_json_delta", partial_json='{"query": "x"}'),
        {"type": "content_block_start", "index": 3, "content_block": {"type": "web_search_tool_result", "content": []}},
        *text_block("One", " two", index=4),
        delta(4, type="citations_delta", citation={}),
        {"type": "weather_report", "sun": True},
        *text_block(" three", index=5),
        {
            "type": "content_block_start",
            "index": 6,
            "content_block": {"type": "tool_use", "id": "t6", "name": "time", "input": {}},
        },
        delta(6, type="input_json_delta", partial_json=""),
        delta(6, type="input_json_delta", partial_json='{"zone": "C'),
        delta(6, type="input_json_delta", partial_json='ET"}'),
        {"type": "content_block_stop", "index": 6},
        {
            "type": "content_block_start",
            "index": 7,
            "content_block": {"type": "tool_use", "id": "t7", "name": "time", "input": {"zone": "UTC"}},
        },
        {"type": "content_block_stop", "index": 7},
        {
            "type": "content_block_start",
            "index": 8,
            "content_block": {"type": "tool_use", "id": "t8", "name": "time", "input": {}},
        },
        {"type": "content_block_stop", "index": 8},
    ]
    loopback.streams(*stream(*events, stop="tool_use"), content_type="text/event-stream", request_id="req_8")
    async with make(loopback, stream=True) as model:
        snapshots = [snapshot async for snapshot in await model("Hi")]
    last = snapshots[-1]
    assert [snapshot.is_last for snapshot in snapshots] == [False] * (len(snapshots) - 1) + [True]
    assert last.content[:3] == [
        {"type": "thinking", "thinking": "hm", "provider": "anthropic", "signature": "s0"},
        {"type": "thinking", "thinking": "", "provider": "anthropic", "data": "d1"},
        {"type": "text", "text": "One two three"},
    ]
    assert [(call.id, call.name, call.input) for call in last.tool_calls] == [
        ("t6", "time", {"zone": "CET"}),
        ("t7", "time", {"zone": "UTC"}),
        ("t8", "time", {}),
    ]
    assert last.tool_calls[2].raw_input == "{}"
    assert last.finish_reason == "tool_calls"
    assert last.attempts[0].request_id == "req_8"
    assert "".join(snapshot.delta for snapshot in snapshots) == "One two three"
    assert loopback.asked[0].json["stream"] is True


async def test_a_refusal_without_words_is_an_answer(loopback):
    """A refusal may have no content at all: it is an answer with its reason, whole and streamed."""
    async with make(loopback) as model:
        loopback.answers(message(stop="refusal") | {"content": []})
        assert (await model("Hi")).finish_reason == "refusal"
        loopback.streams(*stream(stop="refusal"), content_type="text/event-stream")
        last = await (await model("Hi", stream=True)).final()
    assert (last.finish_reason, last.content) == ("refusal", [])


async def test_a_server_that_does_not_stream_still_answers(loopback):
    """A whole answer where a stream was asked for is taken as one, under whatever name it comes."""
    async with make(loopback, stream=True) as model:
        for content_type in ("application/json", "text/event-stream"):
            loopback.answers(message(), content_type=content_type)
            snapshots = [snapshot async for snapshot in await model("Hi")]
            assert snapshots[-1].text == "Hello."
            assert snapshots[-1].finish_reason == "stop"


async def test_connections_are_used_again(loopback):
    """One connection serves several calls and streams, one after the other."""
    async with make(loopback) as model:
        for _ in range(2):
            loopback.answers(message())
            await model("Hi")
            loopback.streams(*stream(*text_block("Hello.")), content_type="text/event-stream")
            await (await model("Hi", stream=True)).final()
        assert loopback.open == 1
    assert len(loopback.asked) == 4
    await loopback.idle()
