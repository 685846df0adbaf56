"""Readers that stall, look in now and then, or leave: time limits hold while nobody reads, and nothing is lost."""

import asyncio
import contextlib
import gc

import pytest

from modelhub.core.errors import DeadlineExceeded, IdleTimeout, StreamBroken, TotalTimeout
from modelhub.core.events import CallEnded
from modelhub.middleware.breaker.layer import Breaker
from tests.tables import table

WORDS = {"say": "one two three four", "pause": 1}
POOL = {"limits": {"pool": {"concurrency": 1}}}


def limited(steps, **entry):
    """A model that shares the pool's only place."""
    return {"steps": steps if isinstance(steps, list) else [steps], "limit": "pool", **entry}


async def heartbeat(stream, seconds=0.3):
    """The snapshots, read by somebody who gives up waiting again and again; and how often that was."""
    snapshots, beats = [], 0
    while True:
        try:
            snapshots.append(await asyncio.wait_for(anext(stream), seconds))
        except TimeoutError:
            beats += 1
        except StopAsyncIteration:
            return snapshots, beats


# -- nobody reads ----------------------------------------------------------------------------------------------------


async def test_at_the_deadline_a_stalled_reader_loses_its_place(world, now):
    """At that moment, and its part is recorded; its next read raises, each time, with what there was."""
    hub = world.hub({"a": limited(WORDS), "b": limited({"say": "next"})}, **POOL)
    stream = await hub.get("a")("hi", stream=True, deadline=5)
    await anext(stream)
    waiting = asyncio.ensure_future(hub.get("b")("hi"))
    await asyncio.sleep(60)
    assert (await waiting).attempts[0].wait == pytest.approx(5)
    stalled = world.of(CallEnded)[0]
    assert (stalled.how, stalled.error, stalled.duration) == ("failed", "DeadlineExceeded", 5)
    assert stalled.usage.estimated
    for _ in range(2):
        with pytest.raises(DeadlineExceeded) as caught:
            await anext(stream)
        assert caught.value.partial.text == "one"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_time_of_an_attempt_is_over_too(world):
    """`timeout.total` holds in the same way; that its reader stalled says nothing about the model."""
    hub = world.hub({"m": limited(WORDS, timeout={"total": 5}, breaker={"failures": 1})}, **POOL)
    stream = await hub.get("m")("hi", stream=True)
    await asyncio.sleep(9)
    assert hub.limits["pool"].left().taken == 0
    assert world.settled().duration == 5
    assert world.settled().attempts[0].outcome == "TotalTimeout"
    with pytest.raises(StreamBroken) as caught:
        await stream.final()
    assert isinstance(caught.value.__cause__, TotalTimeout)
    assert caught.value.partial.text == "one"
    assert world.layer("m", Breaker).state.consecutive_failures == 0


async def test_with_a_model_behind_the_next_read_begins_anew(world, now):
    """The place is given back at once; nobody is asked for a reader who may never come back."""
    hub = world.hub(
        {"a": limited(WORDS, timeout={"total": 5}), "b": limited({"say": "fine"})},
        {"main": {"models": ["a", "b"], "deadline": 90}},
        **POOL,
    )
    stream = await hub.get("main")("hi", stream=True)
    await anext(stream)
    await asyncio.sleep(20)
    assert (hub.limits["pool"].left().taken, world.asked("b"), world.of(CallEnded)) == (0, 0, [])
    reply = await stream.final()
    assert (reply.text, reply.restarts, now()) == ("fine", 1, 20)


async def test_who_never_comes_back_is_recorded_at_the_deadline(world):
    """Also when the stream broke before, and another model could have begun it anew."""
    chain = world.chain(WORDS, {"say": "fine"}, deadline=30, entry={"timeout": {"total": 5}})
    stream = await chain("hi", stream=True)
    await asyncio.sleep(60)
    assert (world.settled().how, world.settled().duration, world.asked("b")) == ("failed", 30, 0)
    with pytest.raises(DeadlineExceeded):
        await stream.final()


async def test_an_inner_chains_time_passes_while_nobody_reads(world):
    """The outer chain's next model answers whoever comes back."""
    hub = world.hub(
        {"a": WORDS, "b": {"say": "fine"}},
        {"inner": {"models": ["a"], "deadline": 5}, "outer": {"models": ["inner", "b"], "deadline": 90}},
    )
    stream = await hub.get("outer")("hi", stream=True)
    await asyncio.sleep(20)
    assert (await stream.final()).text == "fine"


async def test_silence_is_counted_only_while_somebody_waits(world):
    """A reader who takes his time is no silence of the vendor's."""
    hub = world.hub({"m": {"say": "one two three", "pause": 4}}, defaults={"timeout": {"idle": 5, "total": 100}})
    stream = await hub.get("m")("hi", stream=True)
    seen = []
    async for snapshot in stream:
        seen.append(snapshot.delta)
        await asyncio.sleep(20)
    assert seen == ["one", " two", " three", ""]


async def test_two_hundred_readers_of_whom_some_leave_and_some_stall(world):
    """No place is held after its reader's deadline, and every call is recorded once."""
    hub = world.hub({"m": limited(WORDS)}, limits={"pool": {"concurrency": 200}})
    stalled = []

    async def read(number):
        stream = await hub.get("m")("hi", stream=True, deadline=10)
        if number % 10 == 0:
            await anext(stream)
            stalled.append(stream)
        elif number % 5 == 1:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2.5):
                    await stream.final()
        else:
            assert (await stream.final()).text == "one two three four"

    await asyncio.gather(*map(read, range(200)))
    assert hub.limits["pool"].left().taken == len(stalled) == 20
    await asyncio.sleep(10)
    assert hub.limits["pool"].left().taken == 0
    settled = world.of(CallEnded)
    assert len({event.call_id for event in settled}) == len(settled) == 200
    assert [event.how for event in settled].count("complete") == 140
    assert [event.how for event in settled].count("cancelled") == 40
    assert {stream.settled.how for stream in stalled} == {"failed"}
    assert asyncio.all_tasks() == {asyncio.current_task()}


# -- reads that are cancelled ----------------------------------------------------------------------------------------


async def test_a_cancelled_read_loses_nothing(world):
    """Nothing is left out and nothing comes twice, however often the reader gives up waiting."""
    snapshots, beats = await heartbeat(await world.chain(WORDS, {"say": "x"})("hi", stream=True))
    assert [snapshot.delta for snapshot in snapshots] == ["one", " two", " three", " four", ""]
    assert beats >= 6
    assert world.settled().how == "complete"


@table("give_up", ["wait_for", "timeout", "cancel"])
async def test_it_does_not_matter_how_a_read_is_cancelled(world, give_up):
    """In a task of its own or in the reader's."""
    stream = await world.chain(WORDS)("hi", stream=True)
    await anext(stream)
    if give_up == "cancel":
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.5)
        reading.cancel()
        await asyncio.wait({reading})
    else:
        with contextlib.suppress(TimeoutError):
            if give_up == "wait_for":
                await asyncio.wait_for(stream.final(), 0.5)
            else:
                async with asyncio.timeout(0.5):
                    await stream.final()
    assert stream.settled is None
    assert (await anext(stream)).delta == " two"
    assert (await stream.final()).text == "one two three four"


async def test_a_restart_goes_on_while_its_reader_looks_elsewhere(world):
    """Also the models that are asked meanwhile."""
    steps = (
        {"say": "one two", "break_after": 1, "pause": 1},
        {"fail": "Overloaded", "wait": 2},
        {"say": "a b", "wait": 2},
    )
    chain = world.chain(*steps, entry={"retry": {"max_attempts": 1}})
    snapshots, beats = await heartbeat(await chain("hi", stream=True))
    assert [(snapshot.text, snapshot.restarts) for snapshot in snapshots] == [
        ("one", 0),
        ("a", 1),
        ("a b", 1),
        ("a b", 1),
    ]
    assert beats >= 12
    assert [attempt.outcome for attempt in world.settled().attempts] == ["StreamBroken", "Overloaded", "ok"]


async def test_a_vendors_silence_ends_also_for_a_reader_with_a_heartbeat(world, now):
    """What the cancelled reads have waited together is what counts."""
    hub = world.hub({"m": {"say": "one two", "pause": 50}}, defaults={"timeout": {"idle": 5, "total": 100}})
    stream = await hub.get("m")("hi", stream=True)
    began = now()
    with pytest.raises(StreamBroken) as caught:
        await heartbeat(stream)
    assert isinstance(caught.value.__cause__, IdleTimeout)
    assert now() - began == pytest.approx(5, abs=0.4)


@pytest.mark.parametrize("end", ["aclose", "forget"])
async def test_a_stream_can_be_left_after_a_cancelled_read(world, end):
    """Its place is given back at once, and nothing goes on running."""
    hub = world.hub({"m": limited(WORDS)}, **POOL)
    stream = await hub.get("m")("hi", stream=True)
    await anext(stream)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(stream), 0.5)
    if end == "aclose":
        await stream.aclose()
    del stream
    gc.collect()
    await asyncio.sleep(0.01)
    assert hub.limits["pool"].left().taken == 0
    assert world.settled().how == ("closed" if end == "aclose" else "cancelled")
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stream_can_be_closed_while_a_task_reads_it(world):
    """The task's loop ends; the record says that the stream was closed."""
    stream = await world.chain(WORDS)("hi", stream=True)
    seen = []

    async def read():
        seen.extend([snapshot.delta async for snapshot in stream])

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(1.5)
    await stream.aclose()
    await reading
    assert world.settled().how == "closed"
    other = await world.chain(WORDS)("hi", stream=True)
    with pytest.raises(RuntimeError, match="being read already"):
        await asyncio.gather(other.final(), other.final())


async def test_a_restart_ends_with_its_stream(world):
    """Who is asked meanwhile is asked for nothing."""
    chain = world.chain({"say": "one two", "break_after": 1}, {"say": "late", "wait": 50})
    stream = await chain("hi", stream=True)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stream.final(), 1)
    await stream.aclose()
    assert [attempt.outcome for attempt in world.settled().attempts] == ["StreamBroken", "closed"]
    assert asyncio.all_tasks() == {asyncio.current_task()}
