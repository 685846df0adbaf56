"""Recorded traffic of OpenAI's Responses API, of Azure and of the servers that speak like it.

In pieces one recording of each kind is read, streams in single bytes; MODELHUB_LONG=1 reads all, in all pieces.
"""

import httpx2

from modelhub.core.errors import BadReply, CallError, StreamBroken, UnknownFailure
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.recordings import LONG, address_of, check_in_lanes, sample
from tests.providers.test_openai_corpus import BY_CODE, BY_STATUS, KEY, LONGEST, InMemory, read

FINISH = {"completed": "stop", "max_output_tokens": "length", "content_filter": "content_filter"}
ERRORS = {
    **BY_CODE,
    "model_not_found": "ModelNotFound",
    "unsupported_value": "UnsupportedFeature",
    "unsupported_parameter": "UnsupportedFeature",
}
TOLD_IN_WORDS = {
    "Incorrect API key": "AuthenticationFailed",  # xAI answers a bad key with 400 and the code of a bad argument
    "is not supported with this model": "UnsupportedFeature",  # without a code
    "unsupported MIME type": "UnsupportedFeature",  # another model may read it
}
EXPLAINED = {
    # A response in the background is not there yet: it is no answer without text.
    "openai-13635df5158d68": BadReply,
    "openai-b820c3190ad9f7": BadReply,
    # Edited: an `error` of a code that does not exist comes before the failure, and says at once that all is over.
    "openai-02ef7c2e0a8d76": UnknownFailure,
}
"""Recordings that are no answer to us, and the error that they are."""


def responses(replay):
    """The responses among the recordings."""
    return [record for record in replay.records.values() if record["endpoint"] == "responses"]


def expected_error(record):
    """The name of the class that an error's code, else its status, stands for; None for an answer."""
    if record["id"] in EXPLAINED:
        return EXPLAINED[record["id"]].__name__
    error = record["expect"].get("error")
    if error is None:
        return None
    for words, cls in TOLD_IN_WORDS.items():
        if words in (error["message"] or ""):
            return cls
    cls = ERRORS.get(error.get("code")) or BY_STATUS[error["status"]]
    return cls if isinstance(cls, str) else cls.__name__


def expected_calls(expect):
    """Id, name and arguments of each call; the text of a custom tool is its one argument."""
    return [
        (call["id"], call["name"], {"input": call["arguments"]} if call.get("kind") == "custom" else call["arguments"])
        for call in expect["tool_calls"]
    ]


def kept_types(expect):
    """How many items only the vendor understands, by their types."""
    read_otherwise = {"message", "reasoning", "function_call", "custom_tool_call"}
    return {kind: count for kind, count in expect["items"].items() if kind not in read_otherwise}


def count_kept(reply):
    """The same of a reply."""
    types = [block["item"]["type"] for block in reply.content if block["type"] == "provider_item"]
    return {kind: types.count(kind) for kind in types}


def differences(expect, reply):
    """What *reply* has otherwise than *expect*, as (what, expected, found)."""
    usage, calls = reply.usage, expected_calls(expect)
    finish = "refusal" if expect.get("refusal") else FINISH[expect["finish_reason"]]
    pairs = [
        ("text", expect["text"] + (expect.get("refusal") or ""), reply.text),
        ("thinking", expect["thinking"], reply.thinking),
        ("calls", calls, [(call["id"], call["name"], call["input"]) for call in reply.tool_calls]),
        ("kept", kept_types(expect), count_kept(reply)),
        ("finish", "tool_calls" if calls and finish == "stop" else finish, reply.finish_reason),
        ("model", expect.get("model") or reply.response_model, reply.response_model),
        ("usage", any(expect.get(name) for name in ("input_tokens", "output_tokens")), usage is not None),
    ]
    if usage is not None and "input_tokens" in expect:
        details = expect["usage"].get("input_tokens_details") or {}
        pairs += [
            ("input", expect["input_tokens"], usage.input_tokens),
            ("total", expect["input_tokens"] + expect["output_tokens"], usage.total_tokens),
            ("cached", expect.get("cached_tokens") or 0, usage.cache_read_tokens),
            ("written", details.get("cache_write_tokens") or 0, usage.cache_write_tokens),
            ("reasoning", expect.get("reasoning_tokens") or 0, usage.reasoning_tokens),
        ]
    return [pair for pair in pairs if pair[1] != pair[2]]


async def compare(record, model):
    """What *model* makes of *record* otherwise than its facts say."""
    expected = expected_error(record)
    try:
        reply = await read(model, "stream" in record["tags"])
    except StreamBroken as error:
        return [("partial", record["expect"]["text"], error.partial.text)]
    except CallError as error:
        return [] if type(error).__name__ == expected else [("error", expected, repr(error))]
    except Exception as error:
        return [("raised", expected, repr(error))]
    return [("error", expected, "a reply")] if expected else differences(record["expect"], reply)


async def check_all(records, model_for):
    """Compare *records*; return what differs, by id."""

    async def check(record, model):
        wrong = await compare(record, model)
        return (record["host"], wrong) if wrong else None

    return await check_in_lanes(records, model_for, check)


def over_the_wire(replay):
    """Models that ask the replay server."""
    return lambda lane: OpenAIChatModel("m", KEY, api="responses", base_url=f"{address_of(replay, lane)}/v1")


def in_memory(size):
    """Models whose HTTP client has no network below it, and whose answers come in pieces of *size* bytes."""

    def model(lane):
        client = httpx2.AsyncClient(transport=InMemory(lane, size))
        return OpenAIChatModel("m", KEY, api="responses", client_args={"http_client": client})

    return model


async def test_every_recording_is_read_as_it_was_meant(replay):
    """Each recorded response gives its text, thinking, calls, items, reason, counts or error."""
    assert await check_all(responses(replay), over_the_wire(replay)) == {}


async def test_recordings_survive_being_cut_anywhere(replay):
    """In pieces of seven bytes, which end in the middle of lines and of characters, an answer is the same."""
    records = [record for record in responses(replay) if LONG or "stream" not in record["tags"]]
    assert await check_all(sample(records), in_memory(7)) == {}


async def test_streams_survive_coming_byte_by_byte(replay):
    """A recorded stream, if it is none of the longest, is the same answer one byte at a time."""
    streams = [record for record in responses(replay) if "stream" in record["tags"]]
    short = [record for record in streams if len(record["response"]) <= LONGEST]
    assert len(short) > 0.3 * len(streams)
    assert await check_all(sample(short), in_memory(1)) == {}
