"""Breaker: a model that keeps failing is left alone for a while, and comes back by a single probe."""

import asyncio
import contextlib
import gc
import threading
import weakref
from typing import Literal

import pytest
from pydantic import BaseModel

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.errors import (
    AllModelsFailed,
    AuthenticationFailed,
    BadReply,
    BreakerOpen,
    CallError,
    ModelNotFound,
    Overloaded,
    QuotaExhausted,
    RateLimited,
    StreamBroken,
)
from modelhub.core.events import Waiting
from modelhub.middleware.breaker.layer import Breaker
from modelhub.middleware.breaker.options import BreakerOptions
from modelhub.middleware.breaker.state import AttemptCounts
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing import VirtualClock
from tests.tables import table

OK = {"say": "fine"}
BUSY = {"fail": "Overloaded"}
ONCE = {"retry": {"max_attempts": 1}}


def lone(world, steps, **options):
    """A model in its breaker, and nothing that retries or waits."""
    model = ScriptedChatModel("m", steps=steps)
    world.hub({"unused": OK})
    model.services = world.hubs[-1].services
    return Breaker(model, BreakerOptions(**options))


async def outcomes(model, count):
    """What *count* calls, one after the other, came to."""
    found = []
    for _ in range(count):
        try:
            await model("hi")
        except CallError as error:
            found.append(error.kind)
        else:
            found.append("ok")
    return found


async def collect(model, *, stream, **options):
    """The whole reply of a call, streamed or not."""
    reply = await model("hi", stream=stream, **options)
    return await reply.final() if stream else reply


async def test_failures_in_a_row_open_it(world):
    """The third of three is the last that reaches the model."""
    model = lone(world, [BUSY], failures=3)
    assert await outcomes(model, 5) == ["Overloaded"] * 3 + ["BreakerOpen"] * 2
    assert model.inner.calls == 3


async def test_an_answer_ends_the_row(world):
    """Two failures, an answer and two failures are no three in a row."""
    model = lone(world, [BUSY, BUSY, OK, BUSY, BUSY, OK], failures=3, share=1)
    assert "BreakerOpen" not in await outcomes(model, 6)


async def test_a_share_of_failures_opens_it(world):
    """Every other call fails: never three in a row, but half of the last six."""
    model = lone(world, [OK, BUSY] * 10, failures=3, share=0.5)
    assert await outcomes(model, 7) == ["ok", "Overloaded"] * 3 + ["BreakerOpen"]


async def test_a_share_below_the_bound_does_not(world):
    """One of three is less than a half."""
    model = lone(world, [BUSY, OK, OK] * 10, failures=3, share=0.5)
    assert "BreakerOpen" not in await outcomes(model, 30)


async def test_what_is_long_ago_is_forgotten(world):
    """Failures outside of the window do not count for the share."""
    model = lone(world, [BUSY, OK] * 10, failures=3, share=0.5, window=30)
    for _ in range(10):
        assert "BreakerOpen" not in await outcomes(model, 2)
        await asyncio.sleep(16)


@table("cls", [AuthenticationFailed, QuotaExhausted, ModelNotFound])
async def test_what_somebody_must_mend_opens_it_at_once_and_for_long(world, cls):
    """One wrong key is enough, and the model is asked once a minute from then on."""
    model = lone(world, [{"fail": cls.__name__}])
    assert await outcomes(model, 2) == [cls.__name__, "BreakerOpen"]
    await asyncio.sleep(59)
    assert await outcomes(model, 1) == ["BreakerOpen"]
    await asyncio.sleep(8)
    assert await outcomes(model, 2) == [cls.__name__, "BreakerOpen"]


ABOUT_THE_REQUEST = [
    "InvalidRequest",
    "RequestRefused",
    "UnsupportedFeature",
    "ContextTooLong",
    "ContentBlocked",
    "UnknownFailure",
]


@table("name", ABOUT_THE_REQUEST)
async def test_what_is_the_requests_fault_does_not_count(world, name):
    """A model is not ill because it is asked nonsense."""
    model = lone(world, [{"fail": name}], failures=1)
    assert await outcomes(model, 20) == [name] * 20


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_only_the_callers_class_refuses_does_not_count(world, stream):
    """One caller's validator says nothing about the model's health: other callers are still answered."""

    class Unsatisfiable(BaseModel):
        name: Literal["impossible"]

    hub = world.hub({"a": [{"say": '{"name": "x"}'}]}, defaults={"breaker": {"failures": 1}})
    for _ in range(8):
        with pytest.raises((BadReply, StreamBroken)):
            await collect(hub.get("a"), structured_model=Unsatisfiable, stream=stream)
    assert (await hub.get("a")("hi")).model == "a"


async def test_a_429_cools_the_model_until_it_wants_to_be_asked(world):
    """Not a second less than `Retry-After`; and one 429 without it pauses nothing."""
    model = lone(world, [{"fail": "RateLimited"}, {"fail": "RateLimited", "retry_after": 20}, OK], failures=1)
    assert await outcomes(model, 3) == ["RateLimited", "RateLimited", "BreakerOpen"]
    await asyncio.sleep(19.9)
    assert await outcomes(model, 1) == ["BreakerOpen"]
    await asyncio.sleep(0.2)
    assert await outcomes(model, 1) == ["ok"]


async def test_a_wait_of_a_day_is_an_hour_and_then_one_probe(world):
    """Nobody is shut out for days by one header: after an hour a single call finds out, and then all are answered."""
    model = lone(world, [{"fail": "RateLimited", "retry_after": 86_400}, {"say": "fine", "wait": 1}, OK])
    assert await outcomes(model, 2) == ["RateLimited", "BreakerOpen"]
    await asyncio.sleep(3590)
    assert await outcomes(model, 1) == ["BreakerOpen"]
    await asyncio.sleep(20)
    assert await asyncio.gather(outcomes(model, 1), outcomes(model, 1)) == [["ok"], ["BreakerOpen"]]
    assert await outcomes(model, 2) == ["ok", "ok"]


async def test_a_pause_never_shrinks(world):
    """A later 429 with a shorter wish, and an answer that was under way, leave a long pause as it is."""
    slow = [
        {"fail": "RateLimited", "retry_after": 60, "wait": 1},
        {"fail": "RateLimited", "retry_after": 2, "wait": 2},
        {"say": "fine", "wait": 3},
    ]
    model = lone(world, [*slow, OK])
    await asyncio.gather(*[outcomes(model, 1) for _ in slow])
    await asyncio.sleep(50)
    assert await outcomes(model, 1) == ["BreakerOpen"]
    await asyncio.sleep(9)
    assert await outcomes(model, 1) == ["ok"]


async def test_a_probe_does_not_end_a_pause_that_began_meanwhile(world):
    """A call from before meets a 429 while the probe is on its way: the vendor's wish stands."""
    steps = [{"fail": "RateLimited", "retry_after": 60, "wait": 5}, BUSY, {"say": "fine", "wait": 5}, OK]
    model = lone(world, steps, failures=1)
    before = asyncio.ensure_future(outcomes(model, 1))
    await asyncio.sleep(1)
    await outcomes(model, 1)
    await asyncio.sleep(2)
    assert await outcomes(model, 1) == ["ok"]
    assert await before == ["RateLimited"]
    assert await outcomes(model, 1) == ["BreakerOpen"]


async def test_a_single_call_probes(world):
    """When the pause is over one of ten goes through, and the others are told to come back."""
    model = lone(world, [BUSY, {"say": "fine", "wait": 3}], failures=1, pause=1)
    await outcomes(model, 1)
    await asyncio.sleep(1.2)
    found = await asyncio.gather(*[outcomes(model, 1) for _ in range(10)])
    assert sorted(kind for (kind,) in found) == ["BreakerOpen"] * 9 + ["ok"]
    assert model.inner.calls == 2


async def test_a_probe_that_succeeds_closes_it(world):
    """From then on all go through, and a single failure opens nothing."""
    model = lone(world, [BUSY, BUSY, OK, BUSY, OK], failures=2, pause=1)
    await outcomes(model, 2)
    await asyncio.sleep(1.2)
    assert await outcomes(model, 4) == ["ok", "Overloaded", "ok", "ok"]


async def test_a_probe_that_fails_makes_the_next_pause_longer(world, now):
    """1, 2, 4, 4, 4 s, each a tenth longer at most: the pause grows up to its bound."""
    model = lone(world, [BUSY], failures=1, pause=1, max_pause=4)
    pauses = []
    for _ in range(6):
        with pytest.raises(Overloaded):
            await model("hi")
        with pytest.raises(BreakerOpen) as caught:
            await model("hi")
        pauses.append(caught.value.retry_after)
        await asyncio.sleep(caught.value.retry_after)
    for pause, least in zip(pauses, [1, 2, 4, 4, 4, 4], strict=True):
        assert least <= pause <= 1.1 * least
    assert len(set(pauses)) == 6


async def test_after_a_recovery_the_first_pause_is_short_again(world):
    """What was long ago does not make the next pause long."""
    model = lone(world, [BUSY] * 4 + [OK, BUSY], failures=1, pause=1, max_pause=60)
    for _ in range(5):
        await outcomes(model, 1)
        await asyncio.sleep(model.state.until)
    await outcomes(model, 1)
    with pytest.raises(BreakerOpen) as caught:
        await model("hi")
    assert caught.value.retry_after <= 1.1


async def test_it_stands_an_outage_of_days(world):
    """The thousandth pause is as long as the third: numbers do not run over."""
    model = lone(world, [BUSY] * 2000 + [OK], failures=1, pause=1, max_pause=4)
    for _ in range(2000):
        with pytest.raises(Overloaded):
            await model("hi")
        await asyncio.sleep(4.5)
    assert await outcomes(model, 1) == ["ok"]


async def test_silence_pauses_as_long_as_it_was(world):
    """A probe of a silent model costs its caller that silence: at most half of the time may go into it."""
    silent = {"say": "late", "wait": 100}
    hub = world.hub({"m": silent}, defaults={"timeout": {"total": 20}, "breaker": {"failures": 1}, **ONCE})
    with pytest.raises(CallError):
        await hub.get("m")("hi")
    assert 20 <= world.layer("m", Breaker).state.until - 20 <= 22


async def test_a_stream_that_breaks_counts(world):
    """Also after its first content, when the layer has long returned."""
    model = lone(world, [{"say": "one two", "break_after": 1}], failures=2)
    for _ in range(2):
        with pytest.raises(StreamBroken):
            await (await model("hi", stream=True)).final()
    assert await outcomes(model, 1) == ["BreakerOpen"]


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_a_probe_that_is_given_up_lets_another_try(world, how):
    """A caller who leaves says nothing about the model, and holds no probe."""
    model = lone(world, [BUSY, BUSY, {"say": "one two three", "pause": 2, "wait": 1}, BUSY], failures=2, pause=1)
    await outcomes(model, 2)
    await asyncio.sleep(1.2)
    if how == "close":
        stream = await model("hi", stream=True)
        await anext(stream)
        await stream.aclose()
    else:
        call = asyncio.ensure_future(model("hi"))
        await asyncio.sleep(0.5)
        call.cancel()
        await asyncio.wait([call])
    assert not model.state.probing
    assert await outcomes(model, 2) == ["Overloaded", "BreakerOpen"]


async def test_a_probes_reader_who_takes_his_time_holds_nobody_up_for_ever(world):
    """The model has begun to answer: after the longest pause another call may try it."""
    model = lone(world, [BUSY, {"say": "one two three"}, OK], failures=1, pause=1, max_pause=4)
    await outcomes(model, 1)
    await asyncio.sleep(1.2)
    stream = await model("hi", stream=True)
    assert await outcomes(model, 1) == ["BreakerOpen"]
    await asyncio.sleep(4)
    assert await outcomes(model, 2) == ["ok", "ok"]
    await stream.aclose()


async def test_it_says_why_and_until_when(world):
    """The error has the failure as its cause, and the seconds that are left."""
    model = lone(world, [{"fail": "QuotaExhausted"}])
    await outcomes(model, 1)
    await asyncio.sleep(10)
    with pytest.raises(
        BreakerOpen, match=r"the breaker of `m` is open after QuotaExhausted; it can be called again in 5\d\.\d s"
    ) as caught:
        await model("hi")
    assert 50 <= caught.value.retry_after <= 56
    assert isinstance(caught.value.__cause__, QuotaExhausted)


@pytest.mark.parametrize("stream", [False, True])
async def test_it_keeps_nothing_of_the_call_that_opened_it(world, stream):
    """Neither what the caller's frames hold, nor a part of an answer."""
    step = {"say": "one two three", "break_after": 2} if stream else BUSY
    model = lone(world, [step], failures=1)

    async def call():
        local = VirtualClock()
        with contextlib.suppress(CallError):
            await collect(model, stream=stream)
        return weakref.ref(local)

    local = await call()
    gc.collect()
    assert local() is None
    with pytest.raises(BreakerOpen) as caught:
        await model("hi")
    assert isinstance(caught.value.__cause__, StreamBroken if stream else Overloaded)
    assert getattr(caught.value.__cause__, "partial", None) is None


@table(
    ("one", "other", "shared"),
    [
        ({}, {}, True),
        ({}, {"model_name": "gpt-5"}, False),
        ({}, {"api_key": "k2"}, False),
        ({}, {"base_url": "http://127.0.0.1:9/v1"}, False),
    ],
)
async def test_entries_of_one_endpoint_key_and_model_share_it(world, one, other, shared):
    """All three must be the same: two keys have two quotas, two models fail by themselves."""
    common = {"provider": "openai", "model_name": "gpt-5-mini", "api_key": "k1"}
    world.hub({"a": common | one, "b": common | other})
    same = world.layer("a", Breaker).state is world.layer("b", Breaker).state
    assert same is shared


async def test_scripted_models_share_nothing(world):
    """Two scripts are two models, whatever they are called."""
    hub = world.hub({"a": {"fail": "AuthenticationFailed"}, "b": OK})
    with pytest.raises(AuthenticationFailed):
        await hub.get("a")("hi")
    assert (await hub.get("b")("hi")).text == "fine"


async def test_a_model_in_two_chains_has_one_breaker(world, told):
    """What one chain has learnt the other knows."""
    hub = world.hub(
        {"a": {"fail": "AuthenticationFailed"}, "b": OK},
        {"one": {"models": ["a", "b"]}, "two": {"models": ["a", "b"]}},
    )
    await hub.get("one")("hi")
    assert told((await hub.get("two")("hi")).attempts) == [("a", "BreakerOpen"), ("b", "ok")]
    assert world.asked("a") == 1


async def test_a_wrong_key_is_not_waited_for(world, now):
    """Nobody but a person can mend it: every call fails at once, and says what it was."""
    hub = world.hub({"m": {"fail": "AuthenticationFailed"}})
    for kind in ("AuthenticationFailed", "BreakerOpen", "BreakerOpen"):
        with pytest.raises(CallError) as caught:
            await hub.get("m")("hi", deadline=300)
        assert caught.value.kind == kind
    assert now() == 0
    assert not world.of(Waiting)


async def test_an_open_breaker_is_passed_over_at_once(world, told, now):
    """A chain does not wait, and its story says who was skipped."""
    chain = world.chain({"fail": "RateLimited", "retry_after": 300}, OK)
    await chain("hi")
    reply = await chain("hi")
    assert (told(reply.attempts), now()) == ([("a", "BreakerOpen"), ("b", "ok")], 0)
    assert [attempt.skipped for attempt in reply.attempts] == [True, False]


async def test_what_opened_it_is_what_the_chain_failed_of(world):
    """`dominant` looks behind the breaker."""
    chain = world.chain({"fail": "QuotaExhausted"}, {"fail": "QuotaExhausted"})
    for _ in range(2):
        with pytest.raises(AllModelsFailed) as caught:
            await chain("hi")
        assert type(caught.value.dominant) is QuotaExhausted


def test_two_threads_let_one_probe_through():
    """The state is shared by threads: one of fifty callers in two loops probes."""
    clock = VirtualClock()
    model = ScriptedChatModel("m", steps=[BUSY, {"say": "fine", "wait": 0}])
    breaker = Breaker(model, BreakerOptions(failures=1))
    gate, admitted = threading.Barrier(8), []
    breaker.state.openings, breaker.state.until = 1, clock.now() - 1

    def knock():
        gate.wait()
        for _ in range(200):
            with contextlib.suppress(BreakerOpen):
                admitted.append(breaker.admit())

    threads = [threading.Thread(target=knock) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert admitted == [True]


def test_a_hub_in_two_threads_counts_together():
    """Failures that two loops met open one breaker."""
    config = {
        "version": 1,
        "models": {
            "m": {"provider": "scripted", "steps": [{"fail": "Overloaded"}], **ONCE, "breaker": {"failures": 4}}
        },
    }
    hub = Hub.from_dict(config, services=Services())
    errors = []

    def ask():
        try:
            asyncio.run(hub.get("m")("hi", deadline=0.5))
        except CallError as error:
            errors.append(error.kind)

    for _ in range(3):
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == ["Overloaded"] * 4 + ["BreakerOpen"] * 2
    hub.close()


def test_a_429_is_what_cools():
    """If the table changes, these tests must."""
    assert RateLimited.policy.breaker.value == "cools"


def test_a_failure_costs_the_same_however_many_attempts_are_remembered():
    """Attempts are counted, not kept: memory is bounded, and so is what a failure costs."""
    counts = AttemptCounts()
    for number in range(30_000):
        counts.add(number % 8 == 0, number / 1000, 30.0)
    assert (counts.attempts, counts.failures) == (30_000, 3_750)
    assert len(counts.buckets) <= 61
    counts.add(True, 45.0, 30.0)
    assert counts.attempts == pytest.approx(15_000, abs=501)
    counts.add(True, 76.0, 30.0)
    assert (counts.attempts, counts.failures) == (1, 1)
