"""Ollama's recorded answers, read through the class a caller uses. Its `generate` records are another API's."""

import pytest

from modelhub.core.errors import CallError, ContextTooLong, ModelNotFound
from modelhub.providers.ollama import OllamaChatModel
from tests.providers.recordings import address_of, check_in_lanes, sample

EXPLAINED: dict[str, str] = {}
"""Records that rightly differ, and why."""

ERRORS = {(400, "error:context_length"): ContextTooLong, (404, "error:not_found"): ModelNotFound}
FINISH = {"stop": "stop", "length": "length"}


def expected_error(record):
    """The class a recorded error must become."""
    return next(cls for (status, tag), cls in ERRORS.items() if status == record["status"] and tag in record["tags"])


def differences(record, reply):
    """What *reply* says otherwise than *record* expects."""
    facts = record["expect"]
    calls = [(call["name"], call["arguments"]) for call in facts["tool_calls"]]
    counted = "input_tokens" in facts or "output_tokens" in facts
    tokens = (facts.get("input_tokens") or 0, facts.get("output_tokens") or 0) if counted else None
    pairs = {
        "text": (facts["text"], reply.text),
        "thinking": (facts["thinking"], reply.thinking),
        "calls": (calls, [(call["name"], call["input"]) for call in reply.tool_calls]),
        "ids": (len(calls), len({call["id"] for call in reply.tool_calls if call["id"]})),
        "finish": ("tool_calls" if calls else FINISH[facts["finish_reason"]], reply.finish_reason),
        "tokens": (tokens, reply.usage and (reply.usage.input_tokens, reply.usage.output_tokens)),
        "model": (facts["model"], reply.model_name),
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
        if "error" not in record["expect"]:
            return {"raised": error}
        found, wanted = type(error), expected_error(record)
        return {} if found is wanted and error.status == record["status"] else {"error": (wanted, found)}
    return differences(record, reply)


@pytest.mark.parametrize("split", [None, 7, 1], ids=["whole", "7-bytes", "1-byte"])
async def test_recorded_answers_are_read_in_full(replay, split):
    """Text, thinking, calls, finish reason, tokens and errors of every record, however the network cuts them.

    In pieces one record of each kind is read, with MODELHUB_LONG=1 all.
    """
    records = [
        record
        for record in replay.records.values()
        if (record["provider"], record["endpoint"]) == ("ollama", "chat")
        and (split != 1 or "stream" in record["tags"])
        and record["id"] not in EXPLAINED
    ]
    options = f"~split={split}" if split else ""

    def model_for(lane):
        return OllamaChatModel("asked-for", host=address_of(replay, lane, options))

    assert len(records) == (22 if split == 1 else 58)
    assert await check_in_lanes(sample(records) if split else records, model_for, check) == {}
