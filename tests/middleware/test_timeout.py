"""Attempt timeout and deadline: nothing takes longer than it may, and what is cut short says by which clock."""

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator

import pytest

from modelhub import Hub, registry
from modelhub.core.errors import (
    AllModelsFailed,
    DeadlineExceeded,
    FirstTokenTimeout,
    IdleTimeout,
    InvalidRequest,
    StreamBroken,
    TotalTimeout,
)
from modelhub.core.events import AttemptEnded, Waiting
from modelhub.core.stream import add_done_callback
from modelhub.middleware.timeout.layer import Timeout
from modelhub.middleware.timeout.options import TimeoutOptions
from modelhub.providers.scripted import ScriptedChatModel, ScriptedOptions

OK = {"say": "fine"}
ONCE = {"retry": {"max_attempts": 1}}
CLOCKS = {"first_token": 10, "idle": 5, "total": 60}


class PingOptions(ScriptedOptions):
    """A model that says nothing, but never stops to show that it is there."""

    provider: str = "ping"

    def connect(self):
        """The model."""
        return PingModel()


class PingModel(ScriptedChatModel):
    """Yields events without content, one a second."""

    kind = "ping"

    async def events(self, payload) -> AsyncGenerator:
        while True:
            await self.services.clock.sleep(1)
            yield "text", ""


@pytest.fixture(name="ping")
def _ping(monkeypatch):
    monkeypatch.setitem(registry.PROVIDERS, "ping", f"{__name__}:PingOptions")


def model(world, *steps, timeout=None, **rest):
    """A lone model, asked once, with three clocks."""
    hub = world.hub({"m": {"steps": list(steps), **rest}}, defaults={"timeout": timeout or CLOCKS, **ONCE})
    return hub.get("m")


async def test_a_stream_without_content_is_given_up(world, now):
    """`first_token` counts from sending the request."""
    with pytest.raises(FirstTokenTimeout, match=r"no content after 10 s \(`timeout.first_token`\)") as caught:
        await model(world, {"say": "late", "wait": 11})("hi", stream=True)
    assert (caught.value.model, now()) == ("m", 10)


async def test_content_in_time_is_content(world):
    """A hair before the clock's end is in time."""
    stream = await model(world, {"say": "just in time", "wait": 9.99})("hi", stream=True)
    assert (await stream.final()).text == "just in time"


async def test_pings_are_no_content(world, ping, now):
    """A stream of events that say nothing is silence."""
    hub = world.hub({"m": {"provider": "ping"}}, defaults={"timeout": CLOCKS, **ONCE})
    with pytest.raises(FirstTokenTimeout):
        await hub.get("m")("hi", stream=True)
    assert now() == 10


async def test_a_plain_reply_has_only_the_total(world, now):
    """Its first content is its last: `first_token` does not apply."""
    reply = await model(world, {"say": "long thought", "wait": 59})("hi")
    assert reply.text == "long thought"
    with pytest.raises(TotalTimeout, match=r"no complete answer after 60 s \(`timeout.total`\)"):
        await model(world, {"say": "too long", "wait": 61})("hi")
    assert now() == 59 + 60


async def test_a_stream_that_falls_silent_is_given_up(world, now):
    """`idle` is between one content and the next; the part that came is in the error."""
    stream = await model(world, {"say": "one two three", "pause": 6})("hi", stream=True)
    with pytest.raises(StreamBroken, match="no further content for 5 s") as caught:
        await stream.final()
    assert isinstance(caught.value.__cause__, IdleTimeout)
    assert (caught.value.partial.text, now()) == ("one", 5)


async def test_slow_words_are_in_time(world, now):
    """Each word starts the idle clock anew."""
    stream = await model(world, {"say": "one two three four", "pause": 4.9})("hi", stream=True)
    assert (await stream.final()).text == "one two three four"
    assert now() == pytest.approx(14.7)


async def test_a_stream_that_never_ends_is_given_up(world, now):
    """`total` holds for the whole stream, however lively it is."""
    stream = await model(world, {"say": "word " * 100, "pause": 1})("hi", stream=True)
    with pytest.raises(StreamBroken) as caught:
        await stream.final()
    assert isinstance(caught.value.__cause__, TotalTimeout)
    assert now() == pytest.approx(60)
    assert len(caught.value.partial.text.split()) == 60


async def test_a_readers_own_time_is_not_idle(world):
    """Who thinks for a minute between two words that are there does not break the stream."""
    stream = await model(world, {"say": "one two three"}, timeout={**CLOCKS, "total": 1000})("hi", stream=True)
    async for snapshot in stream:
        last = snapshot
        await asyncio.sleep(20)
    assert last.text == "one two three"


async def test_a_total_shorter_than_first_token_goes_first(world, now):
    """What nobody wrote is longer than what somebody did: the shorter one holds."""
    with pytest.raises(TotalTimeout):
        await model(world, {"say": "x", "wait": 50}, timeout={"total": 7})("hi", stream=True)
    assert now() == 7


async def test_every_attempt_has_its_own_clocks(world, now, told):
    """A retry begins with full time."""
    hub = world.hub(
        {"m": [{"say": "late", "wait": 100}, {"say": "fine", "wait": 50}]},
        defaults={"timeout": CLOCKS, "retry": {"initial_wait": 0}},
    )
    reply = await hub.get("m")("hi")
    assert told(reply.attempts) == [("m", "TotalTimeout"), ("m", "ok")]
    assert now() == pytest.approx(110)


async def test_time_in_the_limits_queue_is_not_the_attempts(world, told):
    """An attempt that waited two minutes for its place is not yet late."""
    hub = world.hub(
        {"m": {"steps": [{"say": "slow", "wait": 50}], "limit": "one"}},
        limits={"one": {"concurrency": 1}},
        defaults={"timeout": CLOCKS},
    )
    replies = await asyncio.gather(*[hub.get("m")("hi") for _ in range(4)])
    assert [reply.attempts[0].wait for reply in replies] == [pytest.approx(50 * place) for place in range(4)]
    assert all(told(reply.attempts) == [("m", "ok")] for reply in replies)


async def test_the_record_says_which_clock_ended_it(world):
    """Once, with the time it took."""
    with pytest.raises(FirstTokenTimeout):
        await model(world, {"say": "late", "wait": 11})("hi", stream=True)
    (event,) = world.of(AttemptEnded)
    assert (event.attempt.outcome, event.attempt.duration) == ("FirstTokenTimeout", 10)


# -- the deadline of the whole call ------------------------------------------------------------------------------------


async def test_the_deadline_ends_an_attempt(world, now):
    """The error says how long it was, and who was being asked."""
    with pytest.raises(DeadlineExceeded, match=r"the call's time is over after 3\.0 s, while `m` was asked"):
        await model(world, {"say": "late", "wait": 50})("hi", deadline="3s")
    assert now() == 3


async def test_the_deadline_holds_over_retries(world, now):
    """Not for each attempt, but for all of them."""
    hub = world.hub(
        {"m": [{"fail": "Overloaded", "wait": 3}]}, defaults={"retry": {"max_attempts": 9, "initial_wait": 0}}
    )
    with pytest.raises(DeadlineExceeded) as caught:
        await hub.get("m")("hi", deadline=8)
    assert now() == pytest.approx(8)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["Overloaded", "Overloaded", "DeadlineExceeded"]


async def test_the_deadline_holds_over_models(world, now):
    """The second model gets what the first has left."""
    chain = world.chain({"fail": "Overloaded", "wait": 6}, {"say": "late", "wait": 6}, deadline=10, entry=ONCE)
    with pytest.raises(DeadlineExceeded, match="while `b` was asked"):
        await chain("hi")
    assert now() == 10


async def test_with_no_time_left_nobody_is_asked(world):
    """A model behind is not sent a request that can only be thrown away."""
    chain = world.chain({"fail": "Overloaded", "wait": 10}, OK, entry=ONCE)
    with pytest.raises(DeadlineExceeded):
        await chain("hi", deadline=10)
    assert world.asked("b") == 0
    with pytest.raises(DeadlineExceeded):
        await chain("hi", deadline=0)
    assert world.asked("a") == 1


async def test_the_deadline_holds_in_the_queue(world, now):
    """A call that never got a place was not asked at all, and takes none with it."""
    hub = world.hub({"m": {"steps": [{"say": "x", "wait": 20}], "limit": "one"}}, limits={"one": {"concurrency": 1}})
    first = asyncio.ensure_future(hub.get("m")("hi"))
    await asyncio.sleep(1)
    with pytest.raises(DeadlineExceeded) as caught:
        await hub.get("m")("hi", deadline=5)
    assert (now(), world.asked("m")) == (6, 1)
    assert [attempt.skipped for attempt in caught.value.attempts] == [True]
    await first
    assert (await hub.get("m")("hi", deadline=25)).text == "x"


async def test_the_deadline_holds_in_a_stream(world, now):
    """What came until then is in the error; nobody begins anew, for there is no time."""
    chain = world.chain({"say": "one two three four", "pause": 3}, OK)
    stream = await chain("hi", stream=True, deadline=7)
    with pytest.raises(DeadlineExceeded) as caught:
        await stream.final()
    assert (caught.value.partial.text, now(), world.asked("b")) == ("one two three", 7, 0)


async def test_the_deadline_holds_over_a_restart(world, now):
    """The part that came before the stream broke is not lost."""
    chain = world.chain({"say": "one two", "break_after": 2, "pause": 2}, {"say": "late", "wait": 50})
    stream = await chain("hi", stream=True, deadline=7)
    with pytest.raises(DeadlineExceeded) as caught:
        await stream.final()
    assert (caught.value.partial.text, now()) == ("one two", 7)


async def test_a_calls_deadline_takes_the_place_of_the_chains(world, now):
    """Longer or shorter, as text or as a number; None is none."""
    chain = world.chain({"say": "fine", "wait": 20}, deadline=10)
    with pytest.raises(DeadlineExceeded):
        await chain("hi")
    assert now() == 10
    assert (await chain("hi", deadline="1m")).text == "fine"
    assert (await chain("hi", deadline=None)).text == "fine"
    with pytest.raises(InvalidRequest, match="deadline: expected a duration"):
        await chain("hi", deadline="soon")


async def test_an_inner_chains_deadline_lets_the_outer_one_go_on(world, now, told):
    """Only the inner chain's time is over: the outer one asks its next model."""
    hub = world.hub(
        {"a": {"say": "late", "wait": 50}, "b": OK},
        {"inner": {"models": ["a"], "deadline": 5}, "outer": {"models": ["inner", "b"], "deadline": 30}},
    )
    reply = await hub.get("outer")("hi")
    assert (reply.model, now()) == ("b", 5)
    assert told(reply.attempts) == [("a", "DeadlineExceeded"), ("b", "ok")]


@pytest.mark.parametrize("inner", [{"on_broken_stream": "raise"}, {"on_broken_stream": "restart"}])
async def test_also_in_a_stream(world, now, inner):
    """The outer chain's next model begins the answer anew."""
    hub = world.hub(
        {"a": {"say": "one two three four", "pause": 2}, "b": OK},
        {"inner": {"models": ["a"], "deadline": 5, **inner}, "outer": {"models": ["inner", "b"], "deadline": 30}},
    )
    stream = await hub.get("outer")("hi", stream=True)
    reply = await stream.final()
    assert (reply.text, reply.model, reply.restarts, now()) == ("fine", "b", 1, 5)


async def test_an_inner_chain_that_is_the_last_ends_the_call(world):
    """Nobody is left whom the time of the outer chain could serve."""
    hub = world.hub(
        {"a": {"fail": "Overloaded"}, "b": {"say": "late", "wait": 50}},
        {"inner": {"models": ["b"], "deadline": 5}, "outer": {"models": ["a", "inner"], "deadline": 30}},
        defaults=ONCE,
    )
    with pytest.raises(DeadlineExceeded) as caught:
        await hub.get("outer")("hi")
    assert [attempt.outcome for attempt in caught.value.attempts] == ["Overloaded", "DeadlineExceeded"]


async def test_an_outer_deadline_holds_for_an_inner_chain_with_a_longer_one(world, now):
    """The shorter of the two."""
    hub = world.hub(
        {"a": {"say": "late", "wait": 50}, "b": OK},
        {"inner": {"models": ["a"], "deadline": 20}, "outer": {"models": ["inner", "b"], "deadline": 5}},
    )
    with pytest.raises(DeadlineExceeded):
        await hub.get("outer")("hi")
    assert now() == 5


async def test_a_wait_for_a_model_to_come_back_is_within_the_deadline(world, now):
    """20 s are not waited for with 10 s left; with 30 s left they are."""
    chain = world.chain([{"fail": "RateLimited", "retry_after": 20}, OK])
    with pytest.raises(Exception, match="scripted failure"):
        await chain("hi", deadline=1)
    with pytest.raises(Exception, match="open after RateLimited"):
        await chain("hi", deadline=10)
    assert (now(), world.of(Waiting)) == (0, [])
    assert (await chain("hi", deadline=30)).text == "fine"
    assert now() == pytest.approx(20)


async def test_all_models_left_alone_beyond_the_deadline_is_said_at_once(world, now):
    """The error says when to come back."""
    chain = world.chain({"fail": "RateLimited", "retry_after": 20}, {"fail": "RateLimited", "retry_after": 40})
    for _ in range(2):
        with pytest.raises(AllModelsFailed) as caught:
            await chain("hi", deadline=10)
        assert (caught.value.retry_after, now()) == (pytest.approx(20), 0)


async def test_a_cut_off_provider_leaves_nothing_running(world):
    """What is given up is cancelled, not forgotten."""
    with pytest.raises(DeadlineExceeded):
        await model(world, {"say": "late", "wait": 50})("hi", deadline=3)
    stream = await model(world, {"say": "one two", "pause": 50})("hi", stream=True)
    with pytest.raises(StreamBroken):
        await stream.final()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_deadline_in_a_file_is_a_duration():
    """30000 milliseconds are no seconds."""
    config = {
        "version": 1,
        "models": {"m": {"provider": "scripted"}},
        "chains": {"c": {"models": ["m"], "deadline": 3e6}},
    }
    with pytest.raises(ValueError, match="over the limit of 24h"):
        Hub.from_dict(config)


async def test_a_caller_who_cancels_at_the_clocks_end_is_cancelled(world):
    """The clock does not take a cancellation for its own; and one that it made itself is not left on the task."""
    stream = await model(world, {"say": "one two", "pause": 100})("hi", stream=True)
    await anext(stream)
    reading = asyncio.ensure_future(anext(stream))
    asyncio.get_running_loop().call_at(asyncio.get_running_loop().time() + 5, reading.cancel)
    with pytest.raises(asyncio.CancelledError):
        await reading

    async def breaks():
        with pytest.raises(StreamBroken):
            await (await model(world, {"say": "one two", "pause": 100})("hi", stream=True)).final()
        return asyncio.current_task().cancelling()

    assert await asyncio.create_task(breaks()) == 0


async def test_the_clock_of_whoever_waits_holds(world, now):
    """A stream that one task begins to read may be read on by another, whose wait is cut short and nobody else's."""
    stream = await model(world, {"say": "one two three", "pause": 4}, {"say": "x"})("hi", stream=True)
    assert (await asyncio.create_task(_next(stream))).text == "one"
    assert (await asyncio.create_task(_next(stream))).text == "one two"
    other = asyncio.create_task(asyncio.sleep(100))
    assert (await asyncio.create_task(_next(stream))).text == "one two three"
    await asyncio.create_task(_next(stream))
    assert not other.cancelled()
    assert now() == 8
    other.cancel()


async def _next(stream):
    return await anext(stream)


async def test_a_forgotten_stream_is_not_kept_by_its_clock():
    """The timer that was set knows nothing of the stream: what it held is given back at once."""
    inner = ScriptedChatModel("m", steps=[{"say": "one two three", "pause": 1}])
    stream, heard = await Timeout(inner, TimeoutOptions(**CLOCKS))("hi", stream=True), []
    add_done_callback(stream, lambda outcome: heard.append(outcome.how))
    await anext(stream)
    await anext(stream)
    kept = weakref.ref(stream)
    with pytest.warns(ResourceWarning, match="never read to its end"):
        del stream
        gc.collect()
    assert kept() is None
    await asyncio.sleep(0)
    assert heard == ["abandoned"]


@pytest.mark.parametrize("end", ["final", "aclose"])
async def test_no_timer_is_left_when_a_stream_is_over(world, end):
    """A loop that has nothing else to do can end."""
    stream = await model(world, {"say": "one two three", "pause": 1})("hi", stream=True, deadline=100)
    await anext(stream)
    await anext(stream)
    await getattr(stream, end)()
    assert not [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()]
