"""Gemini's recorded answers, of the Gemini API and of Vertex AI, read through the class a caller uses."""

import pytest

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ContentBlocked,
    ContextTooLong,
    ModelNotFound,
    RateLimited,
    RequestRefused,
    ServerError,
    StreamBroken,
    UnsupportedFeature,
)
from modelhub.providers.gemini import GeminiChatModel
from tests.providers.recordings import address_of, check_in_lanes, sample

EXPLAINED: dict[str, tuple[str, type[CallError]]] = {
    "gemini-5cece1023af265": (
        "a description of a cached content: another API's answer, filed under this one",
        BadReply,
    ),
    "gemini-fd55e7ce9120ca": (
        "the stream ends without any finishReason: nothing tells it from one cut off",
        StreamBroken,
    ),
}
"""Records that are rightly no answers: why, and what they raise."""

ODD_TOTALS: dict[str, str] = {
    "gemini-10be6e6a0a7a05": "the recorded total is less than the recorded parts",
    "gemini-fe13aa13795ded": "the recorded total is less than the recorded parts",
}

ERRORS = {
    (400, "error:auth"): AuthenticationFailed,
    (401, "error:auth"): AuthenticationFailed,
    (403, "error:permission"): AuthenticationFailed,
    (400, "error:context_length"): ContextTooLong,
    (400, "error:invalid_request"): RequestRefused,
    (404, "error:not_found"): ModelNotFound,
    (429, "error:rate_limit"): RateLimited,
    (500, "error:server_error"): ServerError,
}
FINISH = {"STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "FAKE_ENUM": "error"}


def is_blocked_prompt(record):
    """Whether Google answered that the prompt is blocked: a 200 with its feedback, and without a candidate."""
    return record["expect"].get("n_candidates") == 0 and '"promptFeedback"' in record["response"]


def expected_error(record):
    """The class a recorded error must become; None for an answer."""
    if is_blocked_prompt(record):
        return ContentBlocked
    if "error" not in record["expect"]:
        return None
    if 'Unknown name \\"additionalProperties\\"' in record["response"]:
        return UnsupportedFeature  # a keyword of JSON Schema that this model's API does not know
    if record["expect"]["error"].get("type") == "FAILED_PRECONDITION":
        return AuthenticationFailed  # "User location is not supported"
    tags = {tag for tag in record["tags"] if tag.startswith("error:")}
    found = [cls for (status, tag), cls in ERRORS.items() if status == record["status"] and tag in tags]
    return found[0] if found else RequestRefused  # one 400 is no JSON


def expected_finish(record):
    """Our word for how the recorded answer ended."""
    facts = record["expect"]
    if "block_reason" in facts or "blockReasonMessage" in record["response"]:
        return "content_filter"
    found = FINISH[facts["finish_reason"]]
    return "tool_calls" if facts["tool_calls"] and found == "stop" else found


def expected_tokens(record):
    """Totals from the recorded raw counts: input, output, cached, thoughts, and Google's own total."""
    raw = {key: value for key, value in (record["expect"].get("usage") or {}).items() if value is not None}
    prompt, tools = raw.get("promptTokenCount", 0), raw.get("toolUsePromptTokenCount", 0)
    candidates, thoughts = raw.get("candidatesTokenCount", 0), raw.get("thoughtsTokenCount", 0)
    given = (prompt + tools, candidates + thoughts, raw.get("cachedContentTokenCount", 0), thoughts)
    odd = record["id"] in ODD_TOTALS or "totalTokenCount" not in raw
    return (*given, sum(given[:2]) if odd else raw["totalTokenCount"]) if any(given[:2]) else None


def tokens(usage):
    """The same five of our usage."""
    if usage is None:
        return None
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
    )


def parts_fit(usage):
    """Whether the parts are not more than their totals."""
    return usage.cache_read_tokens <= usage.input_tokens and usage.reasoning_tokens <= usage.output_tokens


def differences(record, reply):
    """What *reply* says otherwise than *record* expects."""
    facts = record["expect"]
    calls, given = facts["tool_calls"], reply.tool_calls
    ids = [call["id"] or found["id"] for call, found in zip(calls, given, strict=False)]
    pairs = {
        "text": (facts["text"], reply.text),
        "thinking": (facts["thinking"], reply.thinking),
        "calls": ([(c["name"], c["arguments"]) for c in calls], [(c["name"], c["input"]) for c in given]),
        "ids": (ids, [call["id"] for call in given]),
        "unique ids": (len(calls), len({call["id"] for call in given if call["id"]})),
        "finish": (expected_finish(record), reply.finish_reason),
        "tokens": (expected_tokens(record), tokens(reply.usage)),
        "parts": (True, reply.usage is None or parts_fit(reply.usage)),
        "model": (facts.get("model", "asked-for"), reply.model_name),
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
    streamed = record["endpoint"] == "streamGenerateContent"
    try:
        reply = await model("hi", stream=streamed)
        reply = await read(reply) if streamed else reply
    except CallError as error:
        if record["id"] in EXPLAINED:
            return {} if type(error) is EXPLAINED[record["id"]][1] else {"raised": error}
        wanted = (expected_error(record), None if is_blocked_prompt(record) else record["status"])
        return {} if (type(error), error.status) == wanted else {"error": (wanted, error)}
    raises = record["id"] in EXPLAINED or expected_error(record)
    return {"not raised": True} if raises else differences(record, reply)


@pytest.mark.parametrize("split", [None, 7, 1], ids=["whole", "7-bytes", "1-byte"])
async def test_recorded_answers_are_read_in_full(replay, split):
    """Text, thinking, calls, finish reason, tokens and errors of every record, however the network cuts them.

    In pieces one record of each kind is read, with MODELHUB_LONG=1 all.
    """
    records = [
        record
        for record in replay.records.values()
        if record["provider"] == "gemini"
        and record["endpoint"] in ("generateContent", "streamGenerateContent")
        and (split != 1 or "stream" in record["tags"])
    ]
    options = f"~split={split}" if split else ""

    def model_for(lane):
        return GeminiChatModel("asked-for", "key-0123", base_url=address_of(replay, lane, options))

    assert len(records) == (44 if split == 1 else 299)
    assert await check_in_lanes(sample(records) if split else records, model_for, check) == {}


async def test_a_recorded_429_says_how_long_to_wait(replay):
    """Google writes the wait into the body, not into a header."""
    async with GeminiChatModel("m", "key-0123", base_url=f"{replay.url}/i/gemini-1bd3f0fb8abcf1") as model:
        with pytest.raises(RateLimited) as caught:
            await model("hi")
    assert caught.value.retry_after == 47
    assert caught.value.code == "RESOURCE_EXHAUSTED"
