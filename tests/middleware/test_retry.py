"""Retry: the same model is asked again when the failure's verdict allows it, and never more often than that."""

import asyncio
import os

import pytest

from modelhub.core.errors import (
    BadReply,
    BreakerOpen,
    CallError,
    DeadlineExceeded,
    LimitRejected,
    Overloaded,
    RateLimited,
    RetryRule,
    StreamBroken,
    TotalTimeout,
    failure_classes,
)
from modelhub.core.events import FellBack, Waiting
from tests.tables import table

SEEDS = 200 if os.environ.get("MODELHUB_LONG") else 80
OK = {"say": "fine"}
BUSY = {"fail": "Overloaded"}
NEVER = {cls.__name__ for cls in failure_classes() if cls.policy.retry is RetryRule.NO} - {
    "AllModelsFailed",
    "BreakerOpen",
}


async def test_the_first_attempt_counts(world):
    """`max_attempts: 3` asks three times in all."""
    hub = world.hub({"m": [BUSY]}, defaults={"retry": {"max_attempts": 3}})
    with pytest.raises(Overloaded):
        await hub.get("m")("hi")
    assert world.asked("m") == 3


async def test_one_attempt_is_no_retry(world, now):
    """`max_attempts: 1` asks once and waits for nothing."""
    hub = world.hub({"m": [BUSY]}, defaults={"retry": {"max_attempts": 1}})
    with pytest.raises(Overloaded):
        await hub.get("m")("hi")
    assert (world.asked("m"), now()) == (1, 0)


async def test_a_reply_says_how_it_was_come_by(world, told):
    """The records of a call have every attempt, with what it was waited for, and ends with the good one."""
    hub = world.hub({"m": [BUSY, {"fail": "ServerError", "status": 500}, OK]})
    reply = await hub.get("m")("hi")
    assert told(reply.attempts) == [("m", "Overloaded"), ("m", "ServerError"), ("m", "ok")]
    waits = [event.seconds for event in world.of(Waiting)]
    assert [attempt.wait for attempt in reply.attempts] == [0, *map(pytest.approx, waits)]
    assert [event.attempt for event in world.of(Waiting)] == [2, 3]
    assert reply.attempts[1].status == 500
    assert world.settled().attempts == tuple(reply.attempts)


async def test_an_error_says_how_it_was_come_by(world, told):
    """So do the records of a call that failed."""
    hub = world.hub({"m": [BUSY, BUSY, {"fail": "ConnectFailed"}]})
    with pytest.raises(CallError) as caught:
        await hub.get("m")("hi")
    assert told(caught.value.attempts) == [("m", "Overloaded"), ("m", "Overloaded"), ("m", "ConnectFailed")]


def test_waits_are_jittered_over_their_whole_range(worlds):
    """The nth wait is anywhere between nothing and its bound, which doubles and has a top: 0.5, 1, 2, 2 s."""
    bounds = [0.5, 1.0, 2.0, 2.0]
    seen = [[] for _ in bounds]
    for seed in range(SEEDS):
        world = worlds(seed)
        asyncio.run(_fail(world))
        for number, event in enumerate(world.of(Waiting)):
            seen[number].append(event.seconds)
    for waits, bound in zip(seen, bounds, strict=True):
        assert len(waits) == SEEDS
        assert 0 <= min(waits) < 0.1 * bound
        assert 0.9 * bound < max(waits) <= bound
        assert 0.4 * bound < sum(waits) / len(waits) < 0.6 * bound


async def _fail(world):
    async def no_sleep(_):
        pass

    retry = {"max_attempts": 5, "initial_wait": "500ms", "max_wait": "2s"}
    hub = world.hub({"m": [BUSY]}, defaults={"retry": retry, "breaker": {"failures": 100}})
    hub.services.clock.sleep = no_sleep
    with pytest.raises(Overloaded):
        await hub.get("m")("hi")


@table("seed", range(20))
async def test_retry_after_is_never_undercut(worlds, seed):
    """Whatever the dice say, the vendor is not asked before it wants to be."""
    world = worlds(seed)
    hub = world.hub({"m": [{"fail": "RateLimited", "retry_after": 2.5}, OK]})
    reply = await hub.get("m")("hi")
    assert reply.attempts[1].started >= 2.5


@table("seed", range(5))
async def test_a_short_retry_after_does_not_shorten_the_wait(worlds, seed):
    """A vendor that asks for 10 ms gets at least its 10 ms, and the jitter goes on above them."""
    world = worlds(seed)
    hub = world.hub({"m": [{"fail": "Overloaded", "retry_after": "10ms"}, OK]})
    reply = await hub.get("m")("hi")
    assert 0.01 <= reply.attempts[1].started <= 0.5


async def test_a_short_retry_after_is_waited_for_though_others_are_behind(world, told):
    """Up to `max_retry_after`, 10 s: the same model has the prompt cache."""
    chain = world.chain([{"fail": "RateLimited", "retry_after": 10}, OK], OK)
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "RateLimited"), ("a", "ok")]
    assert reply.attempts[1].started == pytest.approx(10)


async def test_for_a_long_retry_after_the_chain_moves_on(world, told, now):
    """600 s are not waited for while somebody is behind, and the model is then left alone for so long."""
    chain = world.chain([{"fail": "RateLimited", "retry_after": 600}, OK], OK)
    reply = await chain("hi")
    assert (told(reply.attempts), now()) == ([("a", "RateLimited"), ("b", "ok")], 0)
    await asyncio.sleep(599)
    assert (await chain("hi")).model == "b"
    await asyncio.sleep(1.1)
    assert (await chain("hi")).model == "a"


async def test_a_long_retry_after_with_nobody_behind_is_not_waited_for_without_a_deadline(world, now):
    """A call without a deadline waits a minute at most; the error says when to come back."""
    hub = world.hub({"m": [{"fail": "RateLimited", "retry_after": 600}, OK]})
    with pytest.raises(RateLimited) as caught:
        await hub.get("m")("hi")
    assert (caught.value.retry_after, now()) == (600, 0)


async def test_a_long_retry_after_with_nobody_behind_is_waited_for_if_the_deadline_allows(world, told):
    """An unattended job with half an hour to spare waits the ten minutes."""
    hub = world.hub({"m": [{"fail": "RateLimited", "retry_after": 600}, OK]})
    reply = await hub.get("m")("hi", deadline="30m")
    assert told(reply.attempts) == [("m", "RateLimited"), ("m", "ok")]
    assert reply.attempts[1].wait == pytest.approx(600)


async def test_a_wait_that_would_pass_the_deadline_is_not_begun(world, now):
    """With 5 s left nobody waits 8 s to be told that the time is over."""
    hub = world.hub({"m": [{"fail": "RateLimited", "retry_after": 8}, OK]})
    with pytest.raises(RateLimited):
        await hub.get("m")("hi", deadline=5)
    assert (world.asked("m"), now()) == (1, 0)


async def test_with_somebody_behind_such_a_wait_gives_way_to_him(world, told):
    """The chain asks the next model with the time that is left."""
    chain = world.chain([{"fail": "RateLimited", "retry_after": 8}, OK], OK)
    reply = await chain("hi", deadline=5)
    assert told(reply.attempts) == [("a", "RateLimited"), ("b", "ok")]


async def test_silence_is_asked_again_only_if_nobody_is_behind(world, told):
    """Waiting twice for a silent model helps nobody who has another."""
    silent = [{"wait": 100, "say": "late"}, OK]
    timeout = {"timeout": {"first_token": 5, "total": 5}}
    alone = await world.chain(silent, entry=timeout)("hi")
    assert told(alone.attempts) == [("a", "TotalTimeout"), ("a", "ok")]
    with_another = await world.chain(silent, OK, entry=timeout)("hi")
    assert told(with_another.attempts) == [("a", "TotalTimeout"), ("b", "ok")]


async def test_a_model_that_is_not_configured_is_nobody(world, told):
    """Who has no key does not stand behind anybody."""
    hub = world.hub(
        {"a": [{"fail": "TotalTimeout"}, OK], "gpt": {"provider": "openai", "model_name": "x"}},
        {"c": {"models": ["a", "gpt"]}},
    )
    reply = await hub.get("c")("hi")
    assert told(reply.attempts) == [("a", "TotalTimeout"), ("a", "ok")]


async def test_a_bad_reply_is_asked_for_once_more(world, told):
    """A second bad reply is the model's fault, not chance."""
    chain = world.chain([{"fail": "BadReply"}], OK, entry={"retry": {"max_attempts": 5}})
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "BadReply"), ("a", "BadReply"), ("b", "ok")]


async def test_once_is_counted_for_each_kind_of_failure(world, told):
    """An overload between two bad replies does not make the second one the first."""
    hub = world.hub(
        {"m": [{"fail": "BadReply"}, BUSY, {"fail": "BadReply"}, OK]}, defaults={"retry": {"max_attempts": 9}}
    )
    with pytest.raises(BadReply) as caught:
        await hub.get("m")("hi")
    assert told(caught.value.attempts) == [("m", "BadReply"), ("m", "Overloaded"), ("m", "BadReply")]


@table("name", sorted(NEVER))
async def test_what_the_table_forbids_is_never_asked_again(world, name):
    """One attempt, whatever `max_attempts` says."""
    hub = world.hub({"m": [{"fail": name}, OK]}, defaults={"retry": {"max_attempts": 9}})
    with pytest.raises(CallError) as caught:
        await hub.get("m")("hi")
    assert (caught.value.kind, world.asked("m")) == (name, 1)


async def test_a_vendor_that_says_no_is_not_asked_again(world, monkeypatch):
    """`should_retry=False` (a header of some vendors) forbids what the table allows."""
    monkeypatch.setattr(Overloaded, "should_retry", False)
    hub = world.hub({"m": [BUSY, OK]})
    with pytest.raises(Overloaded):
        await hub.get("m")("hi")
    assert world.asked("m") == 1


async def test_a_stream_that_broke_is_not_the_layers_business(world):
    """After the first content only a chain may ask again; with `raise`, nobody does."""
    chain = world.chain([{"say": "one two three", "break_after": 2}, OK], on_broken_stream="raise")
    with pytest.raises(StreamBroken) as caught:
        await (await chain("hi", stream=True)).final()
    assert (caught.value.partial.text, world.asked("a")) == ("one two", 1)


async def test_all_models_of_a_hub_share_one_budget(world):
    """What one model's calls have used up, another's cannot use: an outage is not made worse."""
    hub = world.hub(
        {"a": [BUSY], "b": [BUSY]},
        retry_budget={"reserve": 3, "share": 0},
        defaults={"breaker": {"failures": 1000}, "retry": {"initial_wait": 0}},
    )
    for name in ("a", "a", "b", "b"):
        with pytest.raises(Overloaded):
            await hub.get(name)("hi")
    assert (world.asked("a"), world.asked("b")) == (2 + 3, 2)


async def test_answers_pay_for_retries(world):
    """With `share: 0.5` two answers buy one retry."""
    hub = world.hub(
        {"good": [OK], "bad": [BUSY]},
        retry_budget={"reserve": 0, "share": 0.5},
        defaults={"breaker": {"failures": 1000}, "retry": {"max_attempts": 9}},
    )
    with pytest.raises(Overloaded):
        await hub.get("bad")("hi")
    assert world.asked("bad") == 1
    for _ in range(4):
        await hub.get("good")("hi")
    with pytest.raises(Overloaded):
        await hub.get("bad")("hi")
    assert world.asked("bad") == 2 + 2


async def test_the_budgets_reserve_comes_back(world):
    """A minute after it was used up it is whole again."""
    hub = world.hub(
        {"bad": [BUSY]},
        retry_budget={"reserve": 4, "share": 0},
        defaults={"breaker": {"failures": 1000}, "retry": {"max_attempts": 20, "initial_wait": 0}},
    )
    with pytest.raises(Overloaded):
        await hub.get("bad")("hi")
    assert world.asked("bad") == 5
    await asyncio.sleep(60)
    with pytest.raises(Overloaded):
        await hub.get("bad")("hi")
    assert world.asked("bad") == 10


async def test_a_breaker_that_opens_meanwhile_ends_the_retries(world, told, now):
    """The next model is asked at once, not after a wait for an answer that is known."""
    chain = world.chain([BUSY], OK, entry={"breaker": {"failures": 2}, "retry": {"max_attempts": 9}})
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "Overloaded"), ("a", "Overloaded"), ("b", "ok")]
    assert now() == reply.attempts[1].wait


async def test_a_breaker_that_another_call_opened_ends_the_retries(world, told):
    """The chain moves on because of what this call met, not because it was then refused."""
    chain = world.chain([BUSY], OK, entry={"breaker": {"failures": 3}})
    replies = await asyncio.gather(*[chain("hi") for _ in range(3)])
    assert all(told(reply.attempts) == [("a", "Overloaded"), ("b", "ok")] for reply in replies)
    assert {event.error.kind for event in world.of(FellBack)} == {"Overloaded"}
    assert all(event.error.retry_after > 0 for event in world.of(FellBack))


async def test_a_breaker_that_opened_ends_the_retries_of_a_lone_model_too(world, told):
    """The error is what this call met, not that it was then refused; it says when to come back."""
    hub = world.hub({"m": [BUSY]}, defaults={"breaker": {"failures": 2, "pause": 30, "max_pause": 30}})
    with pytest.raises(Overloaded) as caught:
        await hub.get("m")("hi", deadline=10)
    assert told(caught.value.attempts) == [("m", "Overloaded")] * 2
    assert 29 < caught.value.retry_after <= 33


async def test_no_permit_is_held_while_waiting(world, told):
    """The limit's only place is free for others between two attempts."""
    hub = world.hub(
        {"m": {"steps": [BUSY, OK], "limit": "one"}, "n": {"steps": [OK], "limit": "one"}},
        limits={"one": {"concurrency": 1}},
        defaults={"retry": {"initial_wait": 60, "max_wait": 60}},
    )
    waiting = asyncio.ensure_future(hub.get("m")("hi"))
    await asyncio.sleep(1)
    await hub.get("n")("hi", deadline=1)
    reply = await waiting
    assert told(reply.attempts) == [("m", "Overloaded"), ("m", "ok")]
    assert reply.attempts[1].started > 2


async def test_a_full_queue_is_not_asked_again(world, told):
    """Our own refusal is final for this model: the chain moves on."""
    hub = world.hub(
        {"a": {"steps": [{"say": "x", "wait": 5}], "limit": "one"}, "b": [OK]},
        {"c": {"models": ["a", "b"]}},
        limits={"one": {"concurrency": 1, "max_queue": 0}},
    )
    first = asyncio.ensure_future(hub.get("c")("hi"))
    await asyncio.sleep(1)
    reply = await hub.get("c")("hi")
    assert told(reply.attempts) == [("a", LimitRejected.__name__), ("b", "ok")]
    assert reply.attempts[0].skipped
    assert (await first).model == "a"


async def test_cancelled_in_a_wait_it_stops_at_once(world):
    """Nothing is asked afterwards, and the call is settled once, as cancelled."""
    hub = world.hub({"m": [{"fail": "RateLimited", "retry_after": 9}, OK]})
    call = asyncio.ensure_future(hub.get("m")("hi"))
    await asyncio.sleep(3)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(20)
    assert world.asked("m") == 1
    assert world.settled().how == "cancelled"
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_the_deadline_ends_a_retry_that_takes_too_long(world):
    """The attempts before it are in the error's story."""
    hub = world.hub({"m": [BUSY, {"say": "late", "wait": 50}]})
    with pytest.raises(DeadlineExceeded) as caught:
        await hub.get("m")("hi", deadline=10)
    assert [attempt.outcome for attempt in caught.value.attempts] == ["Overloaded", "DeadlineExceeded"]


def test_the_errors_used_here_are_what_the_table_says():
    """If the table changes, these tests must."""
    assert TotalTimeout.policy.retry is RetryRule.IF_LAST
    assert BadReply.policy.retry is RetryRule.ONCE
    assert RateLimited.policy.retry is RetryRule.AS_ASKED
    assert BreakerOpen.policy.retry is RetryRule.NO


# -- the bound on attempts -------------------------------------------------------------------------------------------


@table("bound", [1, 2, 3])
@table("fallback", [True, False])
@table(
    "steps",
    [[{"fail": "ServerError"}], [{"fail": "RateLimited", "retry_after": 1}], [{"say": "one two", "break_after": 1}]],
    ids=["error", "rate limit", "broken stream"],
)
async def test_a_call_makes_no_more_attempts_than_it_may(world, bound, fallback, steps):
    """Whoever wants another one: a retry, a breaker whose pause is over, a stream that is begun anew."""
    entry = {"retry": {"max_attempts": bound, "initial_wait": 0}, "breaker": {"failures": 2, "pause": 1}}
    hub = world.hub({"m": {"steps": steps * 99, **entry}})
    for calls in range(1, 6):
        before = world.asked("m")
        with pytest.raises(CallError):
            await (await hub.get("m")("hi", stream=True, fallback=fallback, deadline=60)).final()
        assert 1 <= world.asked("m") - before <= bound, calls
        await asyncio.sleep(100)
