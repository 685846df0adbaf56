"""Recorded traffic of OpenAI and of the servers that speak like it, through the real SDK.

In pieces one recording of each kind is read, streams in single bytes; MODELHUB_LONG=1 reads all, in all pieces.
"""

import json

import httpx2

from modelhub.core.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ContentBlocked,
    ContextTooLong,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    RequestRefused,
    ServerError,
    StreamBroken,
    UnsupportedFeature,
)
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.recordings import LONG, address_of, check_in_lanes, sample

LONGEST = 10**9 if LONG else 12_000
"""Of what is longer, nothing is read in single bytes: it takes three times as long as all the others together."""

BY_STATUS = {
    400: RequestRefused,
    401: AuthenticationFailed,
    402: QuotaExhausted,
    403: AuthenticationFailed,
    404: ModelNotFound,
    408: ServerError,
    413: RequestRefused,
    422: RequestRefused,
    429: RateLimited,
    500: ServerError,
    502: ServerError,
    503: Overloaded,
    504: ServerError,
    529: Overloaded,
}
BY_CODE = {
    "context_length_exceeded": ContextTooLong,
    "3051": ContextTooLong,
    "content_filter": ContentBlocked,
    "insufficient_quota": QuotaExhausted,
    "invalid_image_format": UnsupportedFeature,  # another model may read it
    "invalid_model": ModelNotFound,
    "tool_use_failed": BadReply,  # the model's own call was none
    "1305": Overloaded,  # Z.ai, with a 429: not the account's rate, its servers have too much to do
}
TOLD_IN_WORDS = {
    "openai-264d5a51555e66": ContextTooLong,  # DeepSeek writes invalid_request_error as the code of everything
    "openai-bf72fc37a24bb2": ContextTooLong,  # Ollama writes no code
    "openai-817dc2164e678c": UnsupportedFeature,  # "Web search options not supported with this model", without a code
    "openai-10844672dc0ca0": AuthenticationFailed,  # xAI answers a bad key with 400 and the code of a bad argument
}
FINISH = {
    "stop": "stop",
    "": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
EXPLAINED = {
    # Mistral's thinking comes as parts of the content, where the recording's facts do not look for it.
    ("openai-d291b00cf0bc79", "thinking"),
}
"""Recordings and what of theirs we read otherwise."""
KEY = "test-key-1234"


def chats(replay):
    """The chat completions among the recordings."""
    return [
        record
        for record in replay.records.values()
        if record["endpoint"] == "chat" and record["provider"] in ("openai", "dashscope")
    ]


def expected_error(record):
    """The class that an error's code, else its status, stands for."""
    error = record["expect"]["error"]
    coded = [BY_CODE[code] for code in (error.get("code"), error.get("type")) if code in BY_CODE]
    return TOLD_IN_WORDS.get(record["id"]) or [*coded, BY_STATUS.get(error["status"])][0]


def expected_facts(record):
    """What the recording says of its answer, with the tokens that Groq's streams count in `x_groq`."""
    expect, lines = record["expect"], record["response"].splitlines()
    chunks = [json.loads(line[5:]) for line in lines if line.startswith("data:") and '"x_groq"' in line]
    counted = [usage for chunk in chunks if (usage := (chunk["x_groq"] or {}).get("usage"))]
    if "input_tokens" in expect or not counted:
        return expect
    usage = counted[-1]
    return {**expect, "usage": usage, "input_tokens": usage["prompt_tokens"], "total_tokens": usage["total_tokens"]}


def expected_calls(expect):
    """Name and arguments of each call; a function_call without a name is no call."""
    return [(call["id"], call["name"], call["arguments"]) for call in expect["tool_calls"] if call["name"]]


def differences(expect, reply):
    """What *reply* has otherwise than *expect*, as (what, expected, found)."""
    usage, calls = reply.usage, expected_calls(expect)
    finish = "refusal" if expect.get("refusal") else FINISH[expect["finish_reason"]]
    pairs = [
        ("text", expect["text"] + (expect.get("refusal") or ""), reply.text),
        ("thinking", expect["thinking"], reply.thinking),
        ("calls", [call[1:] for call in calls], [(call["name"], call["input"]) for call in reply.tool_calls]),
        (
            "ids",
            [True] * len(calls),
            [call["id"] == id_ or not id_ for call, (id_, *_) in zip(reply.tool_calls, calls, strict=False)],
        ),
        ("every id", True, all(call["id"] for call in reply.tool_calls)),
        ("finish", "tool_calls" if calls and finish == "stop" else finish, reply.finish_reason),
        ("usage", "input_tokens" in expect, usage is not None),
    ]
    if usage is not None and "input_tokens" in expect:
        # Some gateways' own parts are more than their totals: those were counted beside them.
        cached, reasoning = expect.get("cached_tokens") or 0, expect.get("reasoning_tokens") or 0
        beside_input = cached if cached > expect["input_tokens"] else 0
        beside_output = reasoning if reasoning > expect["total_tokens"] - expect["input_tokens"] else 0
        written = usage.cache_write_tokens
        pairs += [
            ("input", expect["input_tokens"] + beside_input, usage.input_tokens),
            ("total", expect["total_tokens"] + beside_input + beside_output, usage.total_tokens),
            (
                "cached",
                expect.get("cached_tokens") or expect["usage"].get("num_cached_tokens", 0),
                usage.cache_read_tokens,
            ),
            ("written", (expect["usage"].get("prompt_tokens_details") or {}).get("cache_write_tokens", 0), written),
            ("reasoning", expect.get("reasoning_tokens") or 0, usage.reasoning_tokens),
        ]
    return [pair for pair in pairs if pair[1] != pair[2]]


async def read(model, stream):
    """The complete reply; snapshots must grow and the last one must be marked."""
    reply = await model("hi", stream=stream)
    if not stream:
        return reply
    before, last = "", None
    async for last in reply:
        assert last.text.startswith(before), "text shrank"
        before = last.text
    assert last is not None, "no snapshot"
    assert last.is_last, "the last snapshot is not marked"
    return last


async def compare(record, model):
    """What *model* makes of *record* otherwise than its facts say."""
    expect, wanted = expected_facts(record), expected_error(record) if "error" in record["expect"] else None
    try:
        reply = await read(model, "stream" in record["tags"])
    except StreamBroken as error:
        pairs = [("error", wanted, type(error.__cause__)), ("partial", expect["text"], error.partial.text)]
        return [pair for pair in pairs if pair[1] != pair[2]]
    except CallError as error:
        return [] if type(error) is wanted else [("error", wanted, repr(error))]
    except Exception as error:
        return [("raised", wanted, repr(error))]
    return [("error", wanted, "a reply")] if wanted else differences(expect, reply)


async def check_all(records, model_for):
    """Compare *records*; return what differs and is not explained, by id."""

    async def check(record, model):
        wrong = [pair for pair in await compare(record, model) if (record["id"], pair[0]) not in EXPLAINED]
        return (record["host"], wrong) if wrong else None

    return await check_in_lanes(records, model_for, check)


def over_the_wire(replay, split=""):
    """Models that ask the replay server, which cuts its answers into pieces of *split* bytes."""
    return lambda lane: OpenAIChatModel("m", KEY, base_url=f"{address_of(replay, lane, split)}/v1")


class InMemory(httpx2.AsyncBaseTransport):
    """Answers with one recording after another in pieces of *size* bytes: a thousand times what a socket can do."""

    def __init__(self, records, size):
        self.records = iter(records)
        self.size = size

    async def handle_async_request(self, request):
        record = next(self.records)
        body, headers = record["response"].encode(), record["response_headers"]

        async def pieces():
            for at in range(0, len(body), self.size):
                yield body[at : at + self.size]

        return httpx2.Response(record["status"], headers=headers, content=pieces())


def in_memory(size):
    """Models whose HTTP client has no network below it, and whose answers come in pieces of *size* bytes."""

    def model(lane):
        client = httpx2.AsyncClient(transport=InMemory(lane, size))
        return OpenAIChatModel("m", KEY, api="chat", client_args={"http_client": client})

    return model


async def test_every_recording_is_read_as_it_was_meant(replay):
    """Each recorded completion gives its text, thinking, calls, reason, counts or error."""
    assert await check_all(chats(replay), over_the_wire(replay)) == {}


async def test_recordings_survive_being_cut_anywhere(replay):
    """In pieces of seven bytes, which end in the middle of lines and of characters, an answer is the same."""
    records = [record for record in chats(replay) if LONG or "stream" not in record["tags"]]
    assert await check_all(sample(records), in_memory(7)) == {}


async def test_pieces_are_put_together_over_a_socket_too(replay):
    """The same over a real connection, for recordings whose characters have several bytes."""
    records = [one for one in chats(replay) if len(one["response"]) < 8_000 and "unicode" in one["tags"]]
    assert await check_all(sample(records), over_the_wire(replay, "~split=7")) == {}


async def test_streams_survive_coming_byte_by_byte(replay):
    """A recorded stream, if it is none of the longest, is the same answer one byte at a time."""
    streams = [one for one in chats(replay) if "stream" in one["tags"]]
    short = [one for one in streams if len(one["response"]) <= LONGEST]
    assert len(short) > 0.6 * len(streams)
    assert await check_all(sample(short), in_memory(1)) == {}
