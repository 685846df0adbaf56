"""Arms: several deployments at one place of a chain."""

import asyncio
import logging
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelhub import Chain, Hub
from modelhub.core.context import Services
from modelhub.core.errors import AllModelsFailed, ConfigError, ContentBlocked, InvalidRequest, RateLimited
from modelhub.core.events import ArmEjected, ArmRestored, FellBack, Restarted, Waiting
from modelhub.logs import LogObserver
from modelhub.middleware.chain.arms import Arm, Arms, ArmState
from modelhub.middleware.retry.layer import Retry
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing import VirtualClock

OK = {"say": "fine"}
BAD_KEY = {"fail": "AuthenticationFailed"}
BUSY = {"fail": "Overloaded"}
CUT = {"say": "one two three", "break_after": 2}
ONCE = {"retry": {"max_attempts": 1}}


def arms_of(weights, **options):
    """A chain's options: all of *weights* at the first place, then `last`."""
    return {"models": [{"arms": weights, **options}, "last"]}


def armed(world, weights, last=OK, *, by=None, pick="weighted", entry=None, chain=None, **scripts):
    """The chain `main`, whose first place has arms with *weights*, and its second one a model `last`."""
    options = {"arms": weights, "pick": pick} | ({"by": by} if by is not None else {})
    entries = {
        name: {"provider": "scripted", "steps": [step] if isinstance(step, dict) else step} | (entry or {})
        for name, step in {**scripts, "last": last}.items()
    }
    return world.hub(entries, {"main": {"models": [options, "last"], **(chain or {})}}).get("main")


async def ask_many(chain, count, **options):
    """Who answered *count* calls."""
    return Counter([(await chain("hi", **options)).model for _ in range(count)])


# -- which arm ---------------------------------------------------------------------------------------------------------


async def test_calls_are_shared_by_the_weights(world):
    """Three of four calls go to the arm of weight 3, and none to the next place."""
    chain = armed(world, {"a": 3, "b": 1}, a=OK, b=OK)
    answered = await ask_many(chain, 600)
    assert 400 < answered["a"] < 500
    assert answered["a"] + answered["b"] == 600


async def test_a_list_of_arms_has_equal_weights(world):
    """Without weights each gets its part."""
    answered = await ask_many(armed(world, ["a", "b"], a=OK, b=OK), 400)
    assert 150 < answered["a"] < 250


async def test_the_same_tag_gets_the_same_arm(worlds):
    """Whatever chance says, also in another hub."""

    async def ask(world):
        chain = armed(world, {"a": 1, "b": 1, "c": 1}, by="tag:user", a=OK, b=OK, c=OK)
        return [(await chain("hi", tags={"user": f"u{number % 50}"})).model for number in range(100)]

    first, second = await ask(worlds(seed=1)), await ask(worlds(seed=2))
    assert first == second
    assert first[:50] == first[50:]
    assert len(set(first)) == 3


async def test_a_call_without_the_tag_gets_an_arm_by_chance(world):
    """It belongs to nobody's arm."""
    chain = armed(world, ["a", "b"], by="tag:user", a=OK, b=OK)
    assert set(await ask_many(chain, 50, tags={"job": "x"})) == {"a", "b"}


async def test_a_tag_comes_back_to_its_arm_when_that_is_healthy_again(world):
    """While its arm is passed over it has another one, always the same."""
    script = [BAD_KEY, OK]
    chain = armed(world, ["a", "b", "c"], by="tag:user", entry=ONCE, a=script, b=script, c=script)
    tags = {"user": "42"}
    home = (await chain("hi", tags=tags)).attempts[0].model
    meanwhile = {(await chain("hi", tags=tags)).model for _ in range(5)}
    assert len(meanwhile) == 1
    assert meanwhile != {home}
    await VirtualClock().sleep(70)
    assert (await chain("hi", tags=tags)).model == home


async def test_the_less_busy_of_two_is_asked(world):
    """With long calls under way at one arm, the next call goes to the other."""
    slow = {"say": "slow", "wait": 50}
    chain = armed(world, ["a", "b"], pick="least_busy", a=slow, b=slow)
    calls = [asyncio.create_task(chain("hi")) for _ in range(10)]
    await VirtualClock().sleep(1)
    place = chain.plan.find_arm(chain.models[0]).arms
    assert [arm.in_flight for arm in place.arms] == [5, 5]
    await asyncio.gather(*calls)
    assert [arm.in_flight for arm in place.arms] == [0, 0]


async def test_a_stream_is_in_flight_until_it_is_finished(world):
    """It may be read to the end, closed, or broken off by a failure."""
    chain = armed(world, ["a"], pick="least_busy", a=[OK, OK, CUT], entry=ONCE, chain={"on_broken_stream": "raise"})
    (arm,) = chain.plan.find_arm(chain.models[0]).arms.arms
    stream = await chain("hi", stream=True)
    assert arm.in_flight == 1
    assert [snapshot async for snapshot in stream][-1].text == "fine"
    assert arm.in_flight == 0
    async with await chain("hi", stream=True):
        assert arm.in_flight == 1
    assert arm.in_flight == 0
    with pytest.raises(Exception, match="broke"):
        [snapshot async for snapshot in await chain("hi", stream=True)]
    assert arm.in_flight == 0


async def test_an_arm_whose_limit_is_full_is_passed_over(world):
    """Its calls go to the other arm, and wait only if that is full too."""
    slow = {"say": "slow", "wait": 50}
    limited = {"limit": {"concurrency": 1}}
    chain = armed(world, {"a": 1000, "b": 0.001}, entry=limited, a=slow, b=slow)
    replies = await asyncio.gather(*(chain("hi") for _ in range(3)))
    assert Counter(reply.model for reply in replies) == {"a": 2, "b": 1}
    assert [(len(reply.attempts), reply.attempts[0].wait) for reply in replies] == [(1, 0), (1, 0), (1, 50)]


# -- when one fails ----------------------------------------------------------------------------------------------------


async def test_every_arm_is_asked_before_the_next_place(world, told):
    """The arms come first, in any order, then what is behind them."""
    chain = armed(world, ["a", "b", "c"], entry=ONCE, a=BUSY, b=BUSY, c=BUSY)
    reply = await chain("hi")
    assert sorted(told(reply.attempts)[:3]) == [("a", "Overloaded"), ("b", "Overloaded"), ("c", "Overloaded")]
    assert told(reply.attempts)[3:] == [("last", "ok")]
    assert [attempt.arm for attempt in reply.attempts] == [*(attempt.model for attempt in reply.attempts[:3]), None]
    assert [(event.arm, event.to_arm) for event in world.of(FellBack)] == [
        (reply.attempts[number].arm, reply.attempts[number + 1].arm) for number in range(3)
    ]


async def test_a_bad_key_leaves_at_once_and_is_reported_once(world, caplog):
    """Ten calls under way meet it, a hundred later ones do not."""
    world.events = []
    observer = LogObserver()
    chain = armed(world, {"a": 1000, "b": 0.001}, a=[{**BAD_KEY, "wait": 1}] * 30, b=OK)
    with caplog.at_level(logging.INFO, "modelhub"):
        await asyncio.gather(*(chain("hi") for _ in range(10)))
        asked = world.asked("a")
        assert await ask_many(chain, 100) == {"b": 100}
        for event in world.events:
            observer(event)
    assert (asked, world.asked("a")) == (10, 10)
    assert [(event.arm, event.model, event.error.kind) for event in world.of(ArmEjected)] == [
        ("a", "a", "AuthenticationFailed")
    ]
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["arm ejected: a in main is passed over: AuthenticationFailed"]


async def test_an_arm_comes_back_by_a_probe(world):
    """One call finds out, after the breaker's pause; then it has its share again, which is reported."""
    chain = armed(world, {"a": 1000, "b": 0.001}, a=[BAD_KEY, OK], b=OK)
    assert [(await chain("hi")).model for _ in range(3)] == ["b", "b", "b"]
    await VirtualClock().sleep(70)
    assert await ask_many(chain, 20) == {"a": 20}
    assert [event.arm for event in world.of(ArmRestored)] == ["a"]


async def test_a_rate_limit_cools_its_arm_only(world, told):
    """The other arm answers without a wait, also to the calls that follow until Retry-After is over."""
    chain = armed(world, {"a": 1000, "b": 0.001}, a=[{"fail": "RateLimited", "retry_after": 5}, OK], b=OK)
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "RateLimited"), ("b", "ok")]
    assert reply.attempts[1].started == 0.0
    assert await ask_many(chain, 20) == {"b": 20}
    await VirtualClock().sleep(5)
    assert (await chain("hi")).model == "a"
    assert world.of(Waiting) == []


async def test_a_rate_limit_without_a_wait_cools_too(world):
    """For the breaker's first pause, so that not every call meets it."""
    chain = armed(world, {"a": 1000, "b": 0.001}, a=[{"fail": "RateLimited"}] * 5 + [OK], b=OK)
    assert await ask_many(chain, 20) == {"b": 20}
    assert world.asked("a") == 1


async def test_the_last_arm_waits_as_a_single_model_does(world):
    """Nobody is behind it: what is short is waited for."""
    hub = world.hub(
        {"a": [{"fail": "RateLimited", "retry_after": 3}, OK], "b": [BAD_KEY]},
        {"main": {"models": [{"arms": ["a", "b"]}]}},
    )
    reply = await hub.get("main")("hi")
    assert (reply.model, reply.attempts[-1].wait) == ("a", 3.0)


async def test_an_arm_that_is_not_configured_is_skipped_and_reported_once(world):
    """It gets no call; the report says what to set."""
    entries = {"a": [OK], "b": {"provider": "openai", "model_name": "m", "api_key": "${KEY_B}"}}
    chain = world.hub(entries, {"main": {"models": [{"arms": ["a", "b"]}]}}).get("main")
    assert await ask_many(chain, 50) == {"a": 50}
    (event,) = world.of(ArmEjected)
    assert (event.arm, str(event.error)) == ("b", "set KEY_B")


async def test_what_no_model_could_mend_ends_the_call(world):
    """Blocked content is not tried on another arm, unless the file says so."""
    with pytest.raises(ContentBlocked):
        await armed(world, ["a", "b"], a={"fail": "ContentBlocked"}, b={"fail": "ContentBlocked"})("hi")
    blocked = {"fail": "ContentBlocked"}
    chain = armed(world, ["a", "b"], chain={"fallback_on": ["ContentBlocked"]}, a=blocked, b=blocked)
    assert len((await chain("hi")).attempts) == 3


async def test_no_fallback_on_keeps_a_call_at_its_place(worlds, told):
    """Other arms are asked all the same; then the failure that must not fall back is raised."""
    for seed in range(8):
        world = worlds(seed=seed)
        limited = {"fail": "RateLimited"}
        options = {"no_fallback_on": ["RateLimited"]}
        chain = armed(world, ["a", "b"], chain=options, entry=ONCE, a=limited, b=BUSY)
        with pytest.raises(RateLimited) as caught:
            await chain("hi")
        assert sorted(told(caught.value.attempts)) == [("a", "RateLimited"), ("b", "Overloaded")]


async def test_a_broken_stream_restarts_on_another_arm(world):
    """Before the next place; the event names both arms."""
    chain = armed(world, {"a": 1000, "b": 0.001}, entry=ONCE, a=CUT, b={"say": "whole"})
    *_, last = [snapshot async for snapshot in await chain("hi", stream=True)]
    (event,) = world.of(Restarted)
    assert (last.text, last.restarts, event.arm, event.to_arm) == ("whole", 1, "a", "b")
    assert [attempt.arm for attempt in last.attempts] == ["a", "b"]


async def test_without_fallback_one_arm_is_asked(world):
    """`fallback=False` is one model or nobody."""
    chain = armed(world, ["a", "b"], entry=ONCE, a=BUSY, b=BUSY)
    with pytest.raises(AllModelsFailed) as caught:
        await chain("hi", fallback=False)
    assert len(caught.value.attempts) == 1


async def test_the_error_names_every_arm(world):
    """A line for each."""
    chain = armed(world, ["a", "b"], entry=ONCE, a=BUSY, b=BAD_KEY, last={"fail": "ServerError"})
    with pytest.raises(AllModelsFailed) as caught:
        await chain("hi")
    assert sorted(error.model for error in caught.value.exceptions) == ["a", "b", "last"]
    assert {error.arm for error in caught.value.exceptions} == {"a", "b", None}


async def test_a_chain_can_be_an_arm(world, told):
    """All of its models are asked before the other arm, and their attempts are the arm's."""
    chain = world.hub(
        {"a": [BUSY], "b": [BUSY], "c": [OK], "d": [OK]},
        {"pair": {"models": ["a", "b"]}, "main": {"models": [{"arms": {"pair": 1000, "c": 0.001}}, "d"]}},
        defaults=ONCE,
    ).get("main")
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "Overloaded"), ("b", "Overloaded"), ("c", "ok")]
    assert [attempt.arm for attempt in reply.attempts] == ["pair", "pair", "c"]


async def test_a_chain_that_is_an_arm_waits_for_nothing_that_another_arm_can_do(world, told):
    """Its own last arm is rate limited: the arm beside it answers at once."""
    limited = {"fail": "RateLimited", "retry_after": 3}
    chain = world.hub(
        {"a": [limited], "b": [OK]},
        {"inner": {"models": [{"arms": ["a"]}]}, "main": {"models": [{"arms": {"inner": 1000, "b": 0.001}}]}},
    ).get("main")
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "RateLimited"), ("b", "ok")]
    assert reply.attempts[1].started == 0.0


async def test_a_chain_with_arms_inside_another_leaves_no_trace(world):
    """The attempts of the outer chain's next model have no arm."""
    chain = world.hub(
        {"a": [BUSY], "b": [BUSY], "c": [OK]},
        {"inner": {"models": [{"arms": ["a", "b"]}]}, "main": {"models": ["inner", "c"]}},
        defaults=ONCE,
    ).get("main")
    assert [attempt.arm for attempt in (await chain("hi")).attempts][2:] == [None]


async def test_a_preferred_place_is_asked_before_the_arms(world):
    """`sticky` keeps places: after a fallback the place that answered comes first for a while."""
    chain = armed(world, ["a", "b"], entry=ONCE, chain={"sticky": "5m"}, a=[BUSY, OK], b=[BUSY, OK])
    assert [(await chain("hi")).model for _ in range(3)] == ["last", "last", "last"]
    await VirtualClock().sleep(301)
    assert (await chain("hi")).model in {"a", "b"}


async def test_a_stored_conversation_is_refused(world):
    """It is on one account only."""
    with pytest.raises(InvalidRequest, match="previous_response_id"):
        await armed(world, ["a", "b"], a=OK, b=OK)("hi", previous_response_id="r1")


async def test_arms_can_be_made_by_hand():
    """Without a file."""
    first, second = (ScriptedChatModel(name, reply=f"from {name}") for name in "ab")
    chain = Chain("main", [Arms([Arm("a", first, 3), Arm("b", second)], by="user")])
    assert {(await chain("hi", tags={"user": str(number)})).text for number in range(30)} == {"from a", "from b"}


async def test_a_chain_of_arms_without_a_model_is_refused():
    """As one without places is."""
    with pytest.raises(ConfigError, match="chain `main` has no models"):
        Chain("main", [Arms([])])


async def test_the_ledger_groups_by_arm(tmp_path):
    """`modelhub usage --by arm` has a row for each, and one for calls of models with a place to themselves."""
    from modelhub.accounting.report import query_report

    config = {
        "version": 1,
        "usage": {"ledger": str(tmp_path / "usage.db"), "batch": 1},
        "models": {name: {"provider": "scripted", "reply": name} for name in "abc"},
        "chains": {"main": {"models": [{"arms": ["a", "b"]}, "c"]}},
    }
    async with Hub.from_dict(config) as hub:
        for _ in range(20):
            await hub.get("main")("hi")
        await hub.get("c")("hi")
    totals = query_report(tmp_path / "usage.db", by="arm")
    assert set(totals) == {"", "a", "b"}
    assert totals["a"].calls + totals["b"].calls == 20
    assert totals[""].attempts == 1


async def test_a_model_whose_key_the_call_lacks_is_nobody_to_fall_back_to():
    """What is tried again only where nobody is behind is tried again then."""
    first = ScriptedChatModel("a", steps=[{"fail": "FirstTokenTimeout"}, {"say": "late"}])
    second = ScriptedChatModel("b", reply="b")
    second.call_key = "other"
    first.services = second.services = Services(VirtualClock())
    assert (await Chain("main", [Retry(first), second])("hi")).text == "late"


def test_a_forked_child_begins_without_calls_in_flight():
    """Those are the parent's; what its callers end there changes nothing here."""
    state = ArmState()
    end = state.begin_call()
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        before = state.in_flight
        end()
        os.write(writer, bytes([before, state.in_flight]))
        os._exit(0)
    os.waitpid(child, 0)
    assert (os.read(reader, 2), state.in_flight) == (bytes([0, 0]), 1)


def test_threads_do_not_lose_count_of_calls_in_flight():
    """Each begins and ends its own."""
    state = ArmState()

    def work(_):
        for _ in range(500):
            state.begin_call()()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert state.in_flight == 0
