"""DashScope's recorded answers of its native API, read through the class a caller uses.

What was recorded of its OpenAI-compatible mode (`chat`) is read by the `openai` provider.
"""

import pytest

from modelhub.core.errors import AuthenticationFailed, CallError, RequestRefused
from modelhub.providers.dashscope import DashScopeChatModel
from tests.providers.recordings import address_of, check_in_lanes, sample

EXPLAINED = {
    "dashscope-39d0ffc38e68d8": "a stream of growing wholes, which the vendor sends if asked to: we never ask",
}
"""Records that rightly differ, and why."""

ERRORS = {
    ("InvalidApiKey", 401): AuthenticationFailed,
    ("InvalidParameter", 400): RequestRefused,
}
LONG = 50_000
"""From here on a stream takes too long in single bytes; two are longer."""
FINISH = {"stop": "stop", "length": "length", "tool_calls": "tool_calls"}


def differences(record, reply):
    """What *reply* says otherwise than *record* expects."""
    facts = record["expect"]
    calls = [(call["id"], call["name"], call["arguments"]) for call in facts["tool_calls"]]
    counts = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    usage = reply.usage
    found = (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.reasoning_tokens)
    pairs = {
        "text": (facts["text"], reply.text),
        "thinking": (facts["thinking"], reply.thinking),
        "calls": (calls, [(call["id"], call["name"], call["input"]) for call in reply.tool_calls]),
        "finish": ("tool_calls" if calls else FINISH[facts["finish_reason"]], reply.finish_reason),
        "tokens": (tuple(facts.get(name) or 0 for name in counts), found),
        "total": (facts.get("total_tokens", usage.total_tokens), usage.total_tokens),
        "input parts": (True, usage.cache_read_tokens + usage.cache_write_tokens <= usage.input_tokens),
        "output parts": (True, usage.reasoning_tokens <= usage.output_tokens),
        "id": (True, record["response"].count(reply.id) > 0),
        "last": (True, reply.is_last),
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


async def read(stream):
    """The last snapshot, once all of them have been seen to grow."""
    text, last = "", None
    async for snapshot in stream:
        assert snapshot.text.startswith(text), "the text shrank"
        assert last is None or not last.is_last, "a snapshot after the last one"
        text, last = snapshot.text, snapshot
    return last


async def check(record, model):
    """What goes otherwise than expected when *record* is replayed to *model*."""
    stream = "stream" in record["tags"]
    try:
        reply = await model("hi", stream=stream)
        reply = await read(reply) if stream else reply
    except CallError as error:
        facts = record["expect"].get("error")
        if facts is None:
            return {"raised": error}
        wanted = ERRORS[facts["code"], facts["status"]]
        same = type(error) is wanted and error.code == facts["code"] and facts["message"] in str(error)
        return {} if same else {"error": (wanted, error)}
    return differences(record, reply)


@pytest.mark.parametrize("split", [None, 7, 1], ids=["whole", "7-bytes", "1-byte"])
async def test_recorded_answers_are_read_in_full(replay, split):
    """Text, thinking, calls, finish reason, tokens and errors of every record, however the network cuts them.

    In pieces one record of each kind is read, with MODELHUB_LONG=1 all.
    """
    records = [
        record
        for record in replay.records.values()
        if (record["provider"], record["endpoint"]) == ("dashscope", "generation")
        and (split != 1 or ("stream" in record["tags"] and len(record["response"]) < LONG))
        and record["id"] not in EXPLAINED
    ]
    options = f"~split={split}" if split else ""

    def model_for(lane):
        return DashScopeChatModel("asked-for", "key-0123", base_url=address_of(replay, lane, options) + "/api/v1")

    assert len(records) == (16 if split == 1 else 30)
    assert await check_in_lanes(sample(records) if split else records, model_for, check) == {}
