"""Slow but alive: an answer that comes too slowly is given up, and plain answers can have the limits of streams."""

import asyncio

import pytest

from modelhub.core.errors import BreakerOpen, FirstTokenTimeout, IdleTimeout, StreamBroken, TooSlow

WORDS = "one two three four five six seven eight nine ten " * 4  # 4.9 characters a word
SLOW = {"say": WORDS, "pause": 1}  # about five characters a second
FAST = {"say": WORDS, "pause": 0.1}
LIMITS = {"first_token": 8, "idle": 5, "slow": {"below": "20/s", "after": "10s"}, "total": 300}
ONCE = {"retry": {"max_attempts": 1}}
OK = {"say": "fine"}


def chain(world, *models, **options):
    """A chain whose models have the limits, and are asked once."""
    return world.chain(*models, entry={"timeout": LIMITS, **ONCE}, **options)


async def test_a_stream_that_comes_too_slowly_breaks(world, now):
    """It is given up when the speed is known, with what came and the setting that was missed."""
    stream = await chain(world, SLOW, on_broken_stream="raise").stream("hi")
    with pytest.raises(StreamBroken, match=r"fewer than 20 characters a second over 10 s \(`timeout.slow`\)") as caught:
        await stream.final()
    assert isinstance(caught.value.__cause__, TooSlow)
    assert caught.value.partial.text.startswith("one two three")
    assert now() == pytest.approx(10)
    assert world.ended() == [("a", "TooSlow")]


async def test_the_next_model_starts_a_slow_answer_again(world, now, told):
    """As after any broken stream."""
    reply = await (await chain(world, SLOW, OK).stream("hi")).final()
    assert (reply.text, reply.restarts, told(reply.attempts)) == ("fine", 1, [("a", "TooSlow"), ("b", "ok")])
    assert now() == pytest.approx(10)


@pytest.mark.parametrize("step", [FAST, {"think": WORDS, "say": WORDS, "pause": 0.1}], ids=["text", "thinking"])
async def test_an_answer_that_comes_fast_enough_is_left_to_come(world, now, step):
    """Thinking counts as much as text."""
    reply = await (await chain(world, step).stream("hi")).final()
    assert reply.text == WORDS
    assert now() < 20


async def test_a_reader_that_takes_his_time_makes_no_model_slow(world, now):
    """Only time in which somebody waits for the vendor counts."""
    stream = await chain(world, FAST).stream("hi")
    async for _ in stream:
        await asyncio.sleep(2)
    assert stream.settled.how == "complete"
    assert now() > 60


async def test_a_reader_that_waits_with_cancelled_reads_is_counted(world, now):
    """A heartbeat of cancelled reads waits as much as one long read."""
    stream = await chain(world, {"say": WORDS, "pause": 3}, on_broken_stream="raise").stream("hi")

    async def read():
        while True:
            try:
                await asyncio.wait_for(anext(stream), 1)
            except TimeoutError:
                continue

    with pytest.raises(StreamBroken) as caught:
        await read()
    assert isinstance(caught.value.__cause__, TooSlow)
    assert now() == pytest.approx(10)


async def test_a_plain_answer_streamed_inside_is_the_same(world):
    """What the caller gets does not say how it came."""
    plain = await chain(world, {"think": "hm", "say": WORDS})("hi")
    inside = await chain(world, {"think": "hm", "say": WORDS}, stream_inside=True)("hi")
    differing = {"id", "created_at", "attempts", "usage"}
    assert {key: value for key, value in inside.items() if key not in differing} == {
        key: value for key, value in plain.items() if key not in differing
    }
    assert (inside.usage.input_tokens, inside.usage.output_tokens) == (
        plain.usage.input_tokens,
        plain.usage.output_tokens,
    )


@pytest.mark.parametrize(
    ("step", "failure", "seconds"),
    [
        ({"say": "late", "wait": 9}, FirstTokenTimeout, 8),
        ({"say": WORDS, "pause": 6}, IdleTimeout, 5),
        (SLOW, TooSlow, 10),
    ],
    ids=["first_token", "idle", "slow"],
)
async def test_the_limits_of_streams_hold_for_a_plain_answer(world, now, told, step, failure, seconds):
    """The caller has seen nothing of it: it fails like any attempt, and the next model is asked."""
    reply = await chain(world, step, OK, stream_inside=True)("hi")
    assert (reply.text, reply.restarts) == ("fine", 0)
    assert told(reply.attempts) == [("a", failure.__name__), ("b", "ok")]
    assert now() == pytest.approx(seconds)
    with pytest.raises(failure):
        await world.hub({"m": {"steps": [step], "stream_inside": True, "timeout": LIMITS, **ONCE}}).get("m")("hi")


async def test_a_call_that_streams_is_not_touched_by_stream_inside(world):
    """Its snapshots come as they come."""
    stream = await chain(world, FAST, stream_inside=True).stream("hi")
    async with stream:
        assert (await anext(stream)).text == "one"


async def test_a_stream_inside_that_breaks_is_an_attempt_that_failed(world, told):
    """Nothing of its part reaches the caller."""
    reply = await chain(world, {"say": WORDS, "break_after": 3}, OK, stream_inside=True)("hi")
    assert (reply.text, told(reply.attempts)) == ("fine", [("a", "StreamBroken"), ("b", "ok")])


async def test_slow_first_tokens_open_the_breaker(world):
    """Each answer is given out, and counted."""
    late = {"say": "late", "wait": 7}
    breaker = {"failures": 3, "slow_first_token": "5s", "pause": "60s", "max_pause": "60s"}
    hub = world.hub({"m": {"steps": [late], "timeout": LIMITS, "breaker": breaker, **ONCE}})
    for _ in range(3):
        assert (await (await hub.get("m").stream("hi")).final()).text == "late"
    with pytest.raises(BreakerOpen, match="FirstTokenTimeout"):
        await hub.get("m").stream("hi")


@pytest.mark.parametrize(("stream_inside", "first_token"), [(False, None), (True, 7)])
async def test_the_first_token_of_a_plain_answer_is_known_only_if_it_was_streamed_inside(
    world, stream_inside, first_token
):
    """A plain answer that took long to write says nothing about its first token, and leaves the breaker closed."""
    late = {"say": "late", "wait": 7}
    breaker = {"failures": 2, "slow_first_token": "5s", "pause": "60s", "max_pause": "60s"}
    model = {"steps": [late], "timeout": LIMITS, "breaker": breaker, "stream_inside": stream_inside, **ONCE}
    hub = world.hub({"m": model})
    replies = [await hub.get("m")("hi", stream=False) for _ in range(2)]
    assert [reply.attempts[-1].first_token for reply in replies] == [first_token] * 2
    if stream_inside:
        with pytest.raises(BreakerOpen, match="FirstTokenTimeout"):
            await hub.get("m")("hi", stream=False)
    else:
        await hub.get("m")("hi", stream=False)


async def test_first_tokens_in_time_leave_the_breaker_closed(world):
    """Nor is anything counted where the file does not ask for it."""
    for breaker in ({"failures": 2, "slow_first_token": "5s"}, {"failures": 2}):
        wait = 4 if "slow_first_token" in breaker else 7
        hub = world.hub({"m": {"steps": [{"say": "x", "wait": wait}], "timeout": LIMITS, "breaker": breaker, **ONCE}})
        for _ in range(4):
            assert (await (await hub.get("m").stream("hi")).final()).text == "x"
