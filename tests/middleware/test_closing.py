"""A hub that closes: calls under way get a moment, then they end as HubClosed, and nothing is sent any more."""

import asyncio

import pytest

from modelhub import HubClosed
from modelhub.core.events import AttemptEnded, CallEnded
from tests.tables import table


def now():
    return asyncio.get_running_loop().time()


async def begin(chain, **kwargs):
    """Start a call and let it get as far as it can."""
    call = asyncio.ensure_future(chain("hi", **kwargs))
    await asyncio.sleep(0.01)
    return call


async def test_a_call_at_a_vendors_is_answered_within_the_grace(world):
    """The hub waits for it, and no longer than it takes."""
    chain = world.chain({"wait": 2, "say": "in time"})
    call = await begin(chain)
    began = now()
    await world.hubs[-1].aclose(grace=5)
    assert (await call).text == "in time"
    assert now() - began == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_call_that_takes_longer_ends_as_hub_closed(world, stream):
    """After the grace, which has a default; nobody else is asked, and it is recorded once, as failed."""
    chain = world.chain({"wait": 60, "say": "late"}, {"say": "behind"})
    call = await begin(chain, stream=stream)
    began = now()
    await world.hubs[-1].aclose()
    assert now() - began == pytest.approx(5, abs=0.1)
    with pytest.raises(HubClosed):
        await call
    assert [event.attempt.model for event in world.of(AttemptEnded)] == ["a"]
    assert [event.how for event in world.of(CallEnded)] == ["failed"]
    assert world.hubs[-1].usage.total.calls == 1


async def test_calls_that_wait_are_not_sent_at_all(world):
    """In a limit's queue, or to try again: they end at once."""
    hub = world.hub(
        {
            "busy": {"steps": [{"wait": 1, "say": "done"}], "limit": "narrow"},
            "ill": {"steps": [{"fail": "Overloaded", "retry_after": 30}, {"say": "well"}]},
        },
        limits={"narrow": {"concurrency": 1}},
    )
    first, queued, retrying = [await begin(hub.get(name)) for name in ("busy", "busy", "ill")]
    began = now()
    closing = asyncio.ensure_future(hub.aclose())
    for call in (queued, retrying):
        with pytest.raises(HubClosed):
            await call
    assert now() - began < 0.1
    await closing
    assert (await first).text == "done"
    assert hub.limits["narrow"].left().taken == 0


@table("failure", ["Overloaded", "RateLimited", "ConnectionLost"])
async def test_an_attempt_that_fails_within_the_grace_is_not_repeated(world, failure):
    """Neither there nor at the next model: the caller gets HubClosed at once, not the failure."""
    chain = world.chain([{"wait": 1, "fail": failure}, {"say": "again"}], {"say": "behind"})
    call = await begin(chain)
    began = now()
    await world.hubs[-1].aclose()
    with pytest.raises(HubClosed):
        await call
    assert now() - began == pytest.approx(1, abs=0.1)
    assert [event.attempt.model for event in world.of(AttemptEnded)] == ["a"]


@pytest.mark.parametrize("on_broken_stream", ["restart", "raise"])
async def test_a_stream_ends_as_hub_closed_for_its_reader(world, on_broken_stream):
    """It may be read on within the grace; then its place is free and its part recorded, with what it used."""
    hub = world.hub(
        {"a": {"steps": [{"say": "one two three four", "pause": 2}], "limit": "narrow"}, "b": {"say": "behind"}},
        {"main": {"models": ["a", "b"], "on_broken_stream": on_broken_stream}},
        limits={"narrow": {"concurrency": 1}},
    )
    stream = await hub.get("main")("hi", stream=True)
    seen = []

    async def read():
        async for snapshot in stream:
            seen.append(snapshot.text)  # noqa: PERF401 - what came before the error counts

    reader = asyncio.ensure_future(read())
    await asyncio.sleep(0.01)
    await hub.aclose(grace=3)
    with pytest.raises(HubClosed):
        await reader
    assert seen == ["one", "one two"]
    assert hub.limits["narrow"].left().taken == 0
    assert hub.usage.total.failed == hub.usage.total.calls == 1
    assert hub.usage.total.output_tokens > 0


async def test_a_stream_that_nobody_reads_does_not_hold_the_hub_up(world):
    """Its next read raises HubClosed."""
    chain = world.chain({"say": "one two three"})
    stream = await chain("hi", stream=True)
    await anext(stream)
    began = now()
    await world.hubs[-1].aclose()
    assert now() - began < 0.5
    with pytest.raises(HubClosed):
        await anext(stream)
