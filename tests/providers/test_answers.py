"""How answers are read, whichever vendor wrote them, whole or streamed."""

import json
import sqlite3
import time
from contextlib import closing

import pytest

from modelhub import Hub
from modelhub.core.errors import BadReply, ServerError, StreamBroken
from modelhub.providers.openai import OpenAIChatModel
from tests.providers.vendor_answers import SSE, TOOL, VENDORS, ask_once, asking, sse
from tests.tables import table

EVERY_VENDOR = table("vendor", VENDORS.values(), ids=list(VENDORS))
OVER_SSE = table("vendor", [VENDORS[name] for name in VENDORS if name != "ollama"])
BOTH = table("stream", [False, True], ids=["plain", "streamed"])


def answer(vendor, stream, text=None, **more):
    """An answer of *vendor*; a text in pieces is a list."""
    pieces = [text] if isinstance(text, str) else text or ()
    return vendor.stream(pieces, **more) if stream else vendor.whole("".join(pieces), **more)


async def failure(call):
    """What *call* fails with; for a stream that broke, what broke it."""
    with pytest.raises((BadReply, ServerError, StreamBroken)) as caught:
        await call
    return caught.value.__cause__ if isinstance(caught.value, StreamBroken) else caught.value


# -- calls -------------------------------------------------------------------------------------------------------------


@EVERY_VENDOR
@BOTH
@table("ids", [("same", "same"), ("", ""), (None, None), ("a", "b")])
async def test_each_call_has_an_id_of_its_own(loopback, vendor, stream, ids):
    """Two calls stay two, with the ids that the server gave as far as they tell them apart, and can be answered."""
    calls = [(call_id, "f", json.dumps({"a": at})) for at, call_id in enumerate(ids)]
    reply = await ask_once(
        loopback, vendor, answer(vendor, stream, calls=calls, finish="tool_calls"), stream, tools=[TOOL]
    )
    assert [(call["name"], call["input"]) for call in reply.tool_calls] == [("f", {"a": 0}), ("f", {"a": 1})]
    found = [call["id"] for call in reply.tool_calls]
    assert all(found)
    assert len(set(found)) == 2
    assert ids[0] in (*found, "", None)
    if ids[0] != ids[1]:
        assert found == list(ids)


def pieces_of_calls(*calls):
    """A stream of OpenAI's dialect with pieces of calls: (index, id, name, arguments)."""
    chunks = []
    for index, call_id, name, arguments in calls:
        function = {"name": name, "arguments": arguments}
        call = {"index": index, "id": call_id, "function": {key: value for key, value in function.items() if value}}
        delta = {"tool_calls": [{key: value for key, value in call.items() if value is not None}]}
        chunks.append({"choices": [{"index": 0, "delta": delta}]})
    return sse(*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})


@table(
    "pieces",
    [
        [(0, "x", "f", '{"a"'), (0, None, None, ":1}"), (1, "y", "f", '{"a"'), (1, None, None, ":2}")],
        [(0, "x", "f", '{"a"'), (1, "y", "f", '{"a"'), (0, None, None, ":1}"), (1, None, None, ":2}")],
        [(0, "x", "f", '{"a"'), (0, "x", None, ":1}"), (0, "y", "f", '{"a"'), (0, "y", None, ":2}")],
        [(0, "x", "f", '{"a":1}'), (0, "x", "f", '{"a":2}')],
        [(0, "x", "f", '{"a":1}'), (0, "x", "f", None), (1, "x", "f", '{"a":2}'), (1, "x", None, None)],
        [(0, None, "f", '{"a":1}'), (0, None, "f", '{"a":2}')],
        [(None, "x", "f", '{"a"'), (None, None, None, ":1}"), (None, "y", "f", '{"a"'), (None, None, None, ":2}")],
        [(None, "x", "f", '{"a"'), (None, "y", "f", '{"a"'), (None, "x", None, ":1}"), (None, "y", None, ":2}")],
        [(None, None, "f", '{"a":1}'), (None, None, "f", '{"a":2}')],
        [(0, "x", "f", '{"a"'), (0, "other", None, ":1}"), (1, "y", "f", '{"a"'), (1, "another", None, ":2}")],
        [(0, "x", "f", '{"a"'), (0, "x", "f", ":1}"), (1, "y", "f", '{"a"'), (1, "y", "f", ":2}")],
        [(0, "x", "f", '{"a":1}'), (0, "x", "f", '{"a":1}'), (1, "y", "f", '{"a":2}')],
        [(0, "x", "f", "{}"), (0, None, None, '{"a":1}'), (1, "y", "f", "{}"), (1, None, None, '{"a":2}')],
    ],
    ids=[
        "by index",
        "interleaved by index",
        "one index, by id",
        "one index, one id",
        "one id, heads repeated",
        "one index, no ids",
        "no index",
        "no index, interleaved by id",
        "neither index nor id",
        "a new id in each piece",
        "id and name in each piece",
        "said twice",
        "an empty object first",
    ],
)
async def test_pieces_come_together_however_they_are_marked(loopback, pieces):
    """Two calls are two calls, each with its own arguments."""
    reply = await ask_once(loopback, VENDORS["openai"], pieces_of_calls(*pieces), True, tools=[TOOL])
    assert [call["input"] for call in reply.tool_calls] == [{"a": 1}, {"a": 2}]
    assert len({call["id"] for call in reply.tool_calls}) == 2


async def test_a_name_may_come_in_pieces(loopback):
    """As long as there are no arguments, another name without an id is the rest of the first."""
    pieces = pieces_of_calls((0, "x", "get_", None), (0, None, "weather", None), (0, None, None, "{}"))
    reply = await ask_once(loopback, VENDORS["openai"], pieces, True, tools=[TOOL])
    assert [call["name"] for call in reply.tool_calls] == ["get_weather"]


# -- arguments ---------------------------------------------------------------------------------------------------------


READ = {
    "": {},
    "null": {},
    '{"a": 1}': {"a": 1},
    json.dumps('{"a": 1}'): {"a": 1},
    '{"a": "x\ny\tz"}': {"a": "x\ny\tz"},
    '```JSON\n{"a": 1}\n```': {"a": 1},
    '{"a": 1}}': {"a": 1},
    '{"a": 1}\n</tool_call>': {"a": 1},
    '{}{"a": 1}': {"a": 1},
    '{"a": 1}{"a": 1}': {"a": 1},
    '{"a": "\\ud83d\\ude00 \\ud83d"}': {"a": "\U0001f600 \ufffd"},
    '{"a": "\\u0000"}': {"a": "\x00"},
    "{'a': 1}": {"a": 1},
    """{'a': 'it\\'s "so"', "b": "it's", 'c': [True, False, None,], 'd': 'True, }\\x41',}""": {
        "a": 'it\'s "so"',
        "b": "it's",
        "c": [True, False, None],
        "d": "True, }A",
    },
}


@EVERY_VENDOR
@BOTH
async def test_arguments_are_read_as_models_write_them(loopback, vendor, stream):
    """`null`, JSON in JSON, raw line breaks, fences, a stray bracket, Python's notation: what they mean is certain."""
    calls = [(f"call_{at}", "f", raw) for at, raw in enumerate(READ)]
    body = answer(vendor, stream, calls=calls, finish="tool_calls")
    reply = await ask_once(loopback, vendor, body, stream, tools=[TOOL])
    assert [call["input"] for call in reply.tool_calls] == list(READ.values())
    assert reply.finish_reason == "tool_calls"
    json.dumps(reply, allow_nan=False).encode()


BROKEN = [
    '{"a": ',
    "{a: 1}",
    "{'a': 'it's'}",
    "{'a': 'half",
    "{'a': (1, 2)}",
    "{'a': nan}",
    "{'a': __import__('os')}",
    "[1]",
    "7",
    '"text"',
    '{"a": NaN}',
    '{"a": 1e999}',
    '{"a": 1}{"a": 2}',
    '{"a": 1}, "b": 2}',
    '{"a": ' * 3000 + "1" + "}" * 3000,
]


@EVERY_VENDOR
@BOTH
async def test_what_is_no_object_is_a_bad_reply(loopback, vendor, stream):
    """Of an answer that says it is whole; it is due to this request, so that no breaker counts it."""
    async with asking(loopback, vendor) as ask:
        for raw in BROKEN:
            body = answer(vendor, stream, calls=[("x", "f", raw)], finish="tool_calls")
            error = await failure(ask(body, stream, tools=[TOOL]))
            assert (type(error), error.request_specific) == (BadReply, True), raw


@EVERY_VENDOR
@BOTH
@table("raw", ["", '{"a": "half'])
async def test_a_call_that_was_cut_off_is_marked(loopback, vendor, stream, raw):
    """The reason stays `length`, and nobody can take the call for one without arguments."""
    body = answer(vendor, stream, calls=[("x", "f", raw)], finish="length")
    reply = await ask_once(loopback, vendor, body, stream, tools=[TOOL])
    (call,) = reply.tool_calls
    assert (reply.finish_reason, call["input"], bool(call["error"])) == ("length", {}, True)


async def test_many_fragments_cost_no_more_each(loopback):
    """Twice the fragments, with the head repeated in each, cost about twice the time."""

    async def measure(count):
        fragments = [(0, "x", "f", '{"a": "')] + [(0, "x", "f", "}")] * count + [(0, "x", "f", '"}')]
        body = pieces_of_calls(*fragments)
        started = time.process_time()
        reply = await ask_once(loopback, VENDORS["openai"], body, True, tools=[TOOL])
        assert reply.tool_calls[0]["input"] == {"a": "}" * count}
        return time.process_time() - started

    await measure(10)
    few, many = [min([await measure(count) for _ in range(3)]) for count in (500, 2000)]
    assert many < 8 * few


# -- text --------------------------------------------------------------------------------------------------------------


@EVERY_VENDOR
async def test_halves_of_a_character_are_joined(loopback, vendor):
    """A server may cut a text inside of a surrogate pair; half a character that stays alone is replaced."""
    reply = await ask_once(loopback, vendor, vendor.stream(["a \ud83d", "\ude00 b", " \ude00 c\ud83d"]), True)
    assert reply.text == "a \U0001f600 b \ufffd c\ufffd"


@EVERY_VENDOR
@BOTH
async def test_a_reply_can_be_written_as_utf8(loopback, vendor, stream):
    """Text, ids, names and models, whatever the server wrote."""
    calls = [("x\udc00", "f\ud83d", json.dumps({"a\ud83d": ["\udc00"]}))]
    body = answer(vendor, stream, "\ud83dx\udc00", calls=calls, finish="tool_calls", model="m\ud83d")
    reply = await ask_once(loopback, vendor, body, stream, tools=[TOOL])
    json.dumps(reply, ensure_ascii=False).encode()
    assert reply.text == "\ufffdx\ufffd"


@table("content", [{"type": "text", "text": "hey"}, [{"type": "text", "text": "he"}, "y"], ["hey"]])
@BOTH
async def test_content_may_come_in_parts(loopback, stream, content):
    """A part, or a list of them, is its text."""
    vendor = VENDORS["openai"]
    choice = {"index": 0, "delta" if stream else "message": {"content": content}, "finish_reason": "stop"}
    body = {"id": "c", "x_unknown": {"y": [1]}, "choices": [choice]}
    reply = await ask_once(loopback, vendor, sse(body) if stream else body, stream)
    assert reply.text == "hey"


# -- streams -----------------------------------------------------------------------------------------------------------


def keeping_alive(events, noise):
    """*events* with *noise* before, between and behind them."""
    return [noise, *(piece for event in events for piece in (event, noise))]


NOISE = ["data:\n\n", "data: \n\n", ": comment\n\n", "event: ping\ndata:\n\n", "\r\n", "\n\n\n", "id: 1\nretry: 5\n\n"]


@OVER_SSE
async def test_what_keeps_a_stream_alive_says_nothing(loopback, vendor):
    """Empty events, comments and blank lines, wherever they are."""
    async with asking(loopback, vendor) as ask:
        for noise in NOISE:
            reply = await ask(keeping_alive(vendor.stream(["he", "y"]), noise), True)
            assert reply.text == "hey", noise


@OVER_SSE
async def test_events_may_be_framed_in_other_ways(loopback, vendor):
    """A byte order mark, `data:` without a blank, and other line ends."""
    events = [event if isinstance(event, str) else event.decode() for event in vendor.stream(["he", "y"])]
    async with asking(loopback, vendor) as ask:
        for line_end in ("\r\n", "\r"):
            text = "\ufeff" + "".join(events).replace("data: ", "data:").replace("\n", line_end)
            assert (await ask([text], True)).text == "hey"
        lines = [line for event in events for line in event.splitlines() if line.startswith("data:")]
        assert (await ask([line + "\n" for line in lines], True)).text == "hey"


async def test_blanks_before_the_first_event_are_read_once(loopback):
    """A server that keeps the line open with blanks for long costs no more with each of them."""
    vendor, blanks = VENDORS["openai"], [b" \n"] * 4000
    started = time.process_time()
    reply = await ask_once(loopback, vendor, [*blanks, *vendor.stream(["hey"])], True)
    assert reply.text == "hey"
    assert time.process_time() - started < 5


@OVER_SSE
@table("pieces", [["he", "y"], []])
async def test_done_ends_a_stream_behind_content_only(loopback, vendor, pieces):
    """A gateway's `[DONE]` is as good a proof of the end as a finish reason; without content there is no answer.

    Of Responses, which gateways do not mark so, the last event alone is one.
    """
    *events, _ = [event for event in vendor.stream(pieces) if event]
    if vendor is VENDORS["openai"]:
        events = events[:-2]
    body = [*(event for event in events if b"stop" not in _bytes(event)), "data: [DONE]\n\n"]
    if pieces and vendor is not VENDORS["openai_responses"]:
        reply = await ask_once(loopback, vendor, body, True)
        assert (reply.text, reply.finish_reason) == ("hey", "stop")
    else:
        assert type(await failure(ask_once(loopback, vendor, body, True))) is BadReply


MARKS = (b"stop", b"[done]", b"response.completed")


def _bytes(event):
    return event if isinstance(event, bytes) else event.encode()


@EVERY_VENDOR
async def test_without_any_mark_of_its_end_a_stream_is_broken(loopback, vendor):
    """The connection's own end is no proof."""
    events = [event for event in vendor.stream(["he", "y"]) if event]
    half = [event for event in events if not any(mark in _bytes(event).lower() for mark in MARKS)]
    assert type(await failure(ask_once(loopback, vendor, half[: 3 if len(half) > 3 else None], True))) is BadReply


@table("end", ["message", "delta", "object"])
async def test_a_last_chunk_that_says_all_again_adds_nothing(loopback, end):
    """Some servers end a stream with the whole answer, in the place of a message or of a piece."""
    said = {"role": "assistant", "content": "hey you", "tool_calls": None}
    choice = {"index": 0, "delta" if end == "delta" else "message": said, "finish_reason": "stop"}
    pieces = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in ("hey", " you")]
    last = {"object": "chat.completion", "choices": [choice]}
    reply = await ask_once(loopback, VENDORS["openai"], sse(*pieces, last, done=b"data: [DONE]\n\n"), True)
    assert (reply.text, reply.finish_reason) == ("hey you", "stop")


@EVERY_VENDOR
@BOTH
async def test_finish_reasons_of_servers(loopback, vendor, stream):
    """What cut the answer off is `length`; without a call no answer ends for the sake of calls."""
    async with asking(loopback, vendor) as ask:
        for said, meant in (("repetition", "length"), ("tool_calls", "stop"), ("TOOL_USE", "stop")):
            reply = await ask(answer(vendor, stream, "1 2 3", finish=said), stream)
            assert reply.finish_reason == meant


@EVERY_VENDOR
@BOTH
async def test_calls_make_the_reason(loopback, vendor, stream):
    """A server that says `stop` behind a call means the call."""
    body = answer(vendor, stream, calls=[("x", "f", "{}")], finish="stop")
    assert (await ask_once(loopback, vendor, body, stream, tools=[TOOL])).finish_reason == "tool_calls"


@EVERY_VENDOR
@BOTH
async def test_an_aborted_answer_is_none(loopback, vendor, stream):
    """The server gave up: it is its failure, and the next model may answer."""
    error = await failure(ask_once(loopback, vendor, answer(vendor, stream, "1 2 3", finish="abort"), stream))
    assert (type(error), error.code) == (ServerError, "abort")


SLIPS = ["MALFORMED_FUNCTION_CALL", "malformed_function_call", "function_call_filter: UNEXPECTED_TOOL_CALL"]


@EVERY_VENDOR
@BOTH
@table("text", ["Let me", ""])
async def test_a_models_own_slip_is_a_bad_reply_that_no_breaker_counts(loopback, vendor, stream, text):
    """Gemini's words for a call that nobody can read, also where a gateway passes them on."""
    for slip in SLIPS:
        error = await failure(ask_once(loopback, vendor, answer(vendor, stream, text, finish=slip), stream))
        assert (type(error), error.request_specific) == (BadReply, True)


# -- figures -----------------------------------------------------------------------------------------------------------


FIGURES = {
    (13, 12): (13, 12),
    ("13", 12.0): (13, 12),
    (0, 0): None,
    (None, None): None,
    (-5, 12): (0, 12),
    (10**30, 12): (0, 12),
    (float("nan"), 12): (0, 12),
    (True, "many"): None,
}


@EVERY_VENDOR
@BOTH
async def test_figures_are_what_can_be_counted(loopback, vendor, stream):
    """Zeros beside an answer are no figures, nor are absurd ones; they cost neither the answer nor the others."""
    async with asking(loopback, vendor) as ask:
        for given, counted in FIGURES.items():
            reply = await ask(answer(vendor, stream, "hey", usage=given), stream)
            assert reply.text == "hey"
            assert (reply.usage and (reply.usage.input_tokens, reply.usage.output_tokens)) == counted, given


COUNTS = {"prompt_tokens": 13, "completion_tokens": 12, "total_tokens": 25}
ZEROS = dict.fromkeys(COUNTS, 0)


@table(
    "end",
    [
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": COUNTS}]}],
        [{"choices": [{"index": 0, "delta": {"usage": COUNTS}, "finish_reason": "stop"}]}],
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "x_groq": {"usage": COUNTS}}],
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"usage": COUNTS}],
        [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": COUNTS}, {"usage": ZEROS}],
        [
            {
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                "timings": {"prompt_n": 3, "cache_n": 10, "predicted_n": 12},
            }
        ],
        [
            {
                "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
                "usage": {"input_tokens": 13, "output_tokens": 12},
            }
        ],
    ],
    ids=["choice", "delta", "x_groq", "later", "later zeros", "timings", "other names"],
)
async def test_figures_stand_where_servers_put_them(loopback, end):
    """In the choice, its message, a corner of the vendor's own, behind the end; a later 0 erases nothing."""
    first = {"choices": [{"index": 0, "delta": {"content": "hey"}}]}
    reply = await ask_once(loopback, VENDORS["openai"], sse(first, *end, done=b"data: [DONE]\n\n"), True)
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (13, 12)


@table(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 1000}}, (1010, 5)),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 90}},
            (10, 95),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 1015,
                "prompt_tokens_details": {"cached_tokens": 1000},
            },
            (1010, 5),
        ),
    ],
)
@BOTH
async def test_totals_include_their_parts(loopback, stream, usage, expected):
    """A part that is larger than its total was counted beside it."""
    vendor = VENDORS["openai"]
    choice = {"index": 0, "delta" if stream else "message": {"content": "hey"}, "finish_reason": "stop"}
    body = {"choices": [choice], "usage": usage}
    found = (await ask_once(loopback, vendor, sse(body) if stream else body, stream)).usage
    assert (found.input_tokens, found.output_tokens) == expected
    assert found.cache_read_tokens <= found.input_tokens
    assert found.reasoning_tokens <= found.output_tokens


# -- the model that answered -------------------------------------------------------------------------------------------


@EVERY_VENDOR
@BOTH
@table("name", ["a-dated-name-2025-08-07", None])
async def test_the_vendor_says_which_model_answered(loopback, vendor, stream, name):
    """Every snapshot and the record of the attempt have the name; it is None where the vendor gives none."""
    reply = await ask_once(loopback, vendor, answer(vendor, stream, ["he", "y"], model=name), stream)
    assert (reply.response_model, reply.attempts[-1].response_model) == (name, name)
    assert reply.model_name == (name or "asked")
    assert reply.attempts[-1].model_name == "asked"


async def test_snapshots_say_which_model_answers(loopback):
    """From the first on."""
    vendor = VENDORS["openai"]
    loopback.streams(*vendor.stream(["he", "y"]), content_type=SSE)
    async with OpenAIChatModel("asked", "k", base_url=f"{loopback.url}/v1") as model:
        names = [snapshot.response_model async for snapshot in await model("hi")]
    assert set(names) == {"dated"}


async def test_the_ledger_keeps_which_model_answered(loopback, tmp_path):
    """The name that the vendor gives, beside the one that was asked for, of the call and of its attempt."""
    entry = {"provider": "openai", "model_name": "asked", "api_key": "k", "base_url": f"{loopback.url}/v1"}
    loopback.answers(VENDORS["openai"].whole("hey", model="asked-2025-08-07"))
    usage = {"ledger": str(tmp_path / "usage.db"), "batch": 0}
    async with Hub.from_dict({"version": 1, "usage": usage, "models": {"m": entry}}) as hub:
        await hub.get("m")("hi")
    with closing(sqlite3.connect(tmp_path / "usage.db")) as connection:
        for table in ("calls", "attempts"):
            rows = connection.execute(f"SELECT model_name, response_model FROM {table}").fetchall()
            assert rows == [("asked", "asked-2025-08-07")]


async def test_a_total_alone_is_divided_by_an_estimate(loopback):
    """The total is the vendor's, exactly; what of it was the question's is estimated, and marked so."""
    entry = {"provider": "openai", "model_name": "asked", "api_key": "k", "base_url": f"{loopback.url}/v1"}
    loopback.answers({**VENDORS["openai"].whole("hey"), "usage": {"total_tokens": 30}})
    async with Hub.from_dict({"version": 1, "models": {"m": entry}}) as hub:
        reply = await hub.get("m")("What is the highest mountain?")
        seen = (reply.usage, reply.attempts[-1].usage, hub.usage.total)
    assert {usage.input_tokens + usage.output_tokens for usage in seen} == {30}
    assert {usage.input_tokens for usage in seen} == {8}
    assert reply.usage.estimated


REPORTS = {
    "growing": ([(13, 1, 3), (13, 5, 4), (13, 12, 5)], (13, 12, 5)),
    "a zero": ([(13, 12, 5), (0, 0, 0)], (13, 12, 5)),
    "in parts": ([(13, 0, 0), (0, 12, 5), (0, 0, 0)], (13, 12, 5)),
    "later thoughts": ([(13, 7, 0), (13, 12, 5)], (13, 12, 5)),
    "no thoughts at the end": ([(13, 7, 5), (13, 12, None)], (13, 12, 5)),
    "an absurd figure": ([(13, 12, 5), (10**30, -1, "many")], (13, 12, 5)),
}


def report(vendor, counts):
    """A vendor's report of *counts*: input, output in all, of that reasoning; None leaves a count out."""
    taken, given, thoughts = counts
    if vendor == "gemini":
        visible = given - (thoughts or 5) if given and given > 0 else given
        usage = {"promptTokenCount": taken, "candidatesTokenCount": visible, "thoughtsTokenCount": thoughts}
        return {key: count for key, count in usage.items() if count is not None}
    names = ("prompt_tokens", "completion_tokens") if vendor == "openai" else ("input_tokens", "output_tokens")
    details = {} if thoughts is None else {f"{names[1]}_details": {"reasoning_tokens": thoughts}}
    return {names[0]: taken, names[1]: given, **details}


def reporting_events(vendor, reports):
    """A stream in which each event has a report of the counts so far."""
    for counts in reports:
        usage, is_last = report(vendor, counts), counts is reports[-1]
        if vendor == "gemini":
            candidate = {"content": {"parts": [{"text": "hey"}]}, **({"finishReason": "STOP"} if is_last else {})}
            yield {"candidates": [candidate], "usageMetadata": usage}
        elif vendor == "openai":
            choice = {"index": 0, "delta": {"content": "hey"}, "finish_reason": "stop" if is_last else None}
            yield {"choices": [choice], "usage": usage}
        else:
            message = {"role": "assistant", "content": "hey"}
            choice = {"message": message, "finish_reason": "stop" if is_last else "null"}
            yield {"output": {"choices": [choice]}, "usage": usage}


@table("vendor", ["openai", "dashscope", "gemini"])
@table(("reports", "expected"), REPORTS.values(), ids=list(REPORTS))
async def test_a_count_is_the_last_that_was_reported(loopback, vendor, reports, expected):
    """Each event reports anew; what a later one leaves out, has as 0 or absurdly stays as it was."""
    usage = (await ask_once(loopback, VENDORS[vendor], sse(*reporting_events(vendor, reports)), True)).usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == expected
