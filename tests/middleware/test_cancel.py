"""Cancellation at every point of a call leaves no task, no permit, no probe and no open record behind."""

import asyncio
import contextlib

import pytest

from modelhub.core.errors import CallError
from modelhub.core.events import AttemptEnded, CallEnded
from modelhub.middleware.breaker.layer import Breaker

SECONDS = [0, 0.1, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40]
SCRIPT_A = [
    {"fail": "Overloaded", "wait": 1},
    {"fail": "RateLimited", "retry_after": 2},
    {"say": "one two three four", "wait": 1, "pause": 2, "break_after": 3},
    {"say": "one two three", "pause": 100, "wait": 1},
]
SCRIPT_B = [
    {"fail": "ConnectFailed", "wait": 1},
    {"say": "one two three", "pause": 3, "break_after": 2, "wait": 1},
    {"say": "fine this time", "pause": 2},
]


@pytest.mark.parametrize("wait", [asyncio.wait, lambda tasks: asyncio.gather(*tasks, return_exceptions=True)])
async def test_a_stream_goes_with_the_task_that_was_cancelled_while_it_read(world, wait):
    """Nobody has closed it, and its task is not asked for its result: the limit's place comes back all the same."""
    hub = world.hub(
        {"a": {"steps": [{"say": "one two", "pause": 100}], "limit": "one"}}, limits={"one": {"concurrency": 1}}
    )

    async def read():
        async for _ in await hub.get("a")("hi", stream=True):
            pass

    async def cancel():
        task = asyncio.ensure_future(read())
        await asyncio.sleep(1)
        assert hub.limits["one"].left().taken == 1
        task.cancel()
        await wait({task})

    await cancel()
    await asyncio.sleep(1)
    assert hub.limits["one"].left().taken == 0
    assert [event.how for event in world.of(CallEnded)] == ["cancelled"]


@pytest.mark.parametrize("streamed", [False, True])
async def test_nothing_is_left_behind(worlds, streamed):
    """Whatever the call was doing: asking, waiting, standing in a queue, reading, beginning anew."""
    first = worlds().hub(
        {
            "a": {"steps": SCRIPT_A, "limit": "one"},
            "b": {"steps": SCRIPT_B, "limit": "one"},
            "x": {"steps": [{"say": "free"}], "limit": "one"},
        },
        {"inner": {"models": ["a"], "deadline": 30}, "main": {"models": ["inner", "b"], "deadline": 60}},
        limits={"one": {"concurrency": 1}},
        defaults={"timeout": {"first_token": 10, "idle": 5, "total": 20}, "breaker": {"failures": 1, "pause": 1}},
    )
    for seconds in SECONDS:
        for turns in (0, 1, 2, 5):
            world = worlds()
            world.hub_like(first)
            try:
                await cancel_at(world, streamed, seconds, turns)
            except Exception as error:
                error.add_note(f"cancelled after {seconds} s and {turns} turns")
                raise


async def cancel_at(world, streamed, seconds, turns):
    """Cancel the first of two calls so late, and look at what is left of it."""
    (hub,) = world.hubs
    calls = [asyncio.ensure_future(_read(hub.get("main"), streamed)) for _ in range(2)]
    await asyncio.sleep(seconds)
    for _ in range(turns):
        await asyncio.sleep(0)
    calls[0].cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(result, str | CallError | asyncio.CancelledError) for result in results)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert (await hub.get("x")("hi", deadline=1)).text == "free"
    assert not any(world.layer(name, Breaker).state.probing for name in ("a", "b"))
    settled = world.of(CallEnded)
    assert len({event.call_id for event in settled}) == len(settled) == 3
    ended = [event.attempt for event in world.of(AttemptEnded)]
    assert len({id(attempt) for attempt in ended}) == len(ended)
    assert sum(len(event.attempts) for event in settled) == len(ended)


async def _read(chain, streamed):
    reply = await chain("hi", stream=streamed)
    if not streamed:
        return reply.text
    async with reply:
        return (await reply.final()).text


async def _read_unguarded(chain):
    async for _ in await chain("hi", stream=True):
        pass


async def test_a_cancelled_call_says_so(world):
    """The record has `cancelled`, for the call and for the attempt that was under way."""
    call = asyncio.ensure_future(world.chain({"say": "late", "wait": 9}, {"say": "x"})("hi"))
    await asyncio.sleep(1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    event = world.settled()
    assert (event.how, event.error) == ("cancelled", "CancelledError")
    assert [(attempt.outcome, attempt.duration) for attempt in event.attempts] == [("cancelled", 1)]
    assert world.asked("b") == 0


async def test_a_cancelled_reader_ends_its_stream(world):
    """So does a stream's."""
    chain = world.chain({"say": "one two", "pause": 9}, {"say": "x"})
    reader = asyncio.ensure_future(_read_unguarded(chain))
    await asyncio.sleep(1)
    reader.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await reader
    for _ in range(2):
        await asyncio.sleep(0)  # asyncio holds the task's frames for one more turn of the loop
    assert world.settled().how == "cancelled"
    assert world.settled().attempts[0].outcome == "cancelled"


async def test_a_timeout_of_the_callers_own_is_a_cancellation(world):
    """`asyncio.timeout` around a call works as everywhere."""
    chain = world.chain({"say": "late", "wait": 9}, {"say": "x"})
    with pytest.raises(TimeoutError) as caught:
        async with asyncio.timeout(1):
            await chain("hi")
    assert not isinstance(caught.value, CallError)
    assert world.settled().how == "cancelled"


async def test_of_two_that_end_at_the_same_instant_one_wins(world):
    """The deadline, an attempt's clock and the caller's cancellation at once: settled once, all the same."""
    hub = world.hub({"m": {"say": "late", "wait": 50}}, defaults={"timeout": {"total": 5}})
    call = asyncio.ensure_future(hub.get("m")("hi", deadline=5))
    asyncio.get_running_loop().call_later(5, call.cancel)
    with pytest.raises((CallError, asyncio.CancelledError)):
        await call
    assert len(world.of(CallEnded)) == len(world.of(AttemptEnded)) == 1
