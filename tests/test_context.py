"""What a call carries: its story, its waits, and those who watch."""

import asyncio
import random

import pytest

from modelhub import Hub
from modelhub.core.context import CallContext, Services
from modelhub.core.errors import CallError, DeadlineExceeded, InvalidRequest, Overloaded
from modelhub.core.events import AttemptEnded, CallEnded, FellBack, Restarted, Waiting
from modelhub.core.response import ChatUsage
from modelhub.core.stream import Outcome
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing import VirtualClock, run_virtual
from tests.tables import table

OK = {"say": "fine"}
BUSY = {"fail": "Overloaded"}


def watched(steps, *, options=None, watchers=(), **models):
    """A hub of scripted models in virtual time, and the list of what happens in it."""
    seen = []
    services = Services(VirtualClock(), random.Random(0), (seen.append, *watchers))
    entries = {name: {"provider": "scripted", "steps": script} for name, script in {"a": steps, **models}.items()}
    config = {"version": 1, "models": entries, "chains": {"main": {"models": list(entries)}}, **(options or {})}
    return Hub.from_dict(config, services=services), seen


def context(seen=None):
    """A call of its own."""
    return CallContext(Services(VirtualClock(), observers=(seen.append,) if seen is not None else ()), "main")


def test_a_calls_events_tell_its_story_in_order():
    """Attempt by attempt, wait, fallback, end: all with the same call id."""
    hub, seen = watched([BUSY], b=[OK])

    async def main():
        await hub.get("main")("hi", tags={"user": "u1"})

    run_virtual(main())
    assert [type(event) for event in seen] == [
        AttemptEnded, Waiting, AttemptEnded, Waiting, AttemptEnded, FellBack, AttemptEnded, CallEnded,
    ]  # fmt: skip
    assert len({event.call_id for event in seen}) == 1
    end = seen[-1]
    assert (end.requested, end.model, end.how, end.error) == ("main", "b", "complete", None)
    assert end.tags == {"user": "u1"}
    assert end.duration == pytest.approx(sum(event.seconds for event in seen if isinstance(event, Waiting)))
    assert end.at.isoformat().startswith("2026-01-01T00:00:0")
    assert [attempt.outcome for attempt in end.attempts] == ["Overloaded"] * 3 + ["ok"]


def test_a_streams_events_come_when_it_ends():
    """With its last snapshot, and not before; a restart is told, and the first token's time is the answer's."""
    hub, seen = watched(
        [{"say": "one two", "break_after": 1, "wait": 2}], b=[{"say": "three four", "wait": 3, "pause": 1}]
    )

    async def main():
        async for snapshot in await hub.get("main")("hi", stream=True):
            assert any(isinstance(event, CallEnded) for event in seen) is snapshot.is_last

    run_virtual(main())
    assert [type(event) for event in seen] == [AttemptEnded, Restarted, AttemptEnded, CallEnded]
    assert (seen[-1].model, seen[-1].first_token, seen[-1].duration) == ("b", 5, 6)


def test_a_failed_call_names_its_error():
    """The class of what was raised, and of each attempt."""
    hub, seen = watched([BUSY], b=[{"fail": "InvalidRequest"}])

    async def main():
        await hub.get("main")("hi")

    with pytest.raises(CallError) as caught:
        run_virtual(main())
    assert (seen[-1].how, seen[-1].error) == ("failed", "InvalidRequest")
    assert seen[-1].attempts == tuple(caught.value.attempts)


def test_wrong_input_is_a_call_that_failed_before_it_began():
    """Nothing was asked, nothing is told."""
    hub, seen = watched([OK])

    async def main():
        await hub.get("main")([{"role": "nobody", "content": "hi"}])

    with pytest.raises(CallError):
        run_virtual(main())
    assert not any(isinstance(event, AttemptEnded) for event in seen)


def test_usage_is_what_all_attempts_used():
    """Summed; unknown where nothing is known."""
    seen = []
    call = context(seen)
    for tokens in (1, 10, None):
        attempt = call.begin("m", "scripted", "x")
        attempt["usage"] = ChatUsage(tokens, 2 * tokens) if tokens else None
        call.end(attempt, "ok")
    call.settle(Outcome("complete", None))
    assert (seen[-1].usage.input_tokens, seen[-1].usage.output_tokens) == (11, 22)
    assert [attempt.usage.input_tokens for attempt in seen[-1].attempts[:2]] == [1, 10]
    call = context(seen)
    call.settle(Outcome("failed", None, Overloaded("busy")))
    assert (seen[-1].usage, seen[-1].model, seen[-1].first_token) == (None, None, None)


def test_who_ends_an_attempt_first_has_the_say():
    """Its record is written once, and told once."""
    seen = []
    call = context(seen)
    attempt = call.begin("m", "scripted", "x")
    call.end(attempt, "Overloaded", Overloaded("busy", status=503, request_id="r1", retry_after=2))
    call.end(attempt, "ok")
    call.fail_open_attempts(CallError("too late"))
    assert (attempt.outcome, attempt.status, attempt.request_id, attempt.retry_after) == ("Overloaded", 503, "r1", 2)
    assert len(seen) == 1


def test_what_is_open_at_the_end_is_closed():
    """With the way the call ended."""
    call = context()
    attempt = call.begin("m", "scripted", "x")
    call.settle(Outcome("abandoned", None))
    assert (attempt.outcome, attempt.duration) == ("abandoned", 0)


def test_waits_are_on_the_next_attempts_account():
    """Each once: sleeping and standing in a queue."""

    async def main():
        call = context()
        await call.wait(2)
        call.waited(3)
        return call.begin("m", "scripted", "x"), call.begin("m", "scripted", "x")

    first, second = run_virtual(main())
    assert (first.wait, first.started, second.wait) == (5, 2, 0)


def test_a_wait_that_is_cut_short_counts_as_long_as_it_was():
    """Also when the call goes on."""

    async def main():
        call = context()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await call.wait(60)
        return call.begin("m", "scripted", "x").wait

    assert run_virtual(main()) == 2


def test_the_story_is_one_list():
    """The reply's, the error's and the record's."""
    hub, seen = watched([BUSY], b=[OK], options={"defaults": {"retry": {"max_attempts": 1}}})

    async def main():
        return await hub.get("main")("hi")

    reply = run_virtual(main())
    assert all(mine is theirs for mine, theirs in zip(reply.attempts, seen[-1].attempts, strict=True))


async def test_an_observer_that_fails_does_not_fail_the_call(caplog):
    """What goes wrong in whoever watches is logged, and the call goes on."""

    def observer(event):
        raise RuntimeError("cannot watch")

    model = ScriptedChatModel(reply="hello")
    model.services = Services(observers=(observer,))
    assert (await model("x")).text == "hello"
    assert "an observer failed at CallEnded" in caplog.text


SLOW = {"say": "late", "wait": 30}


def how_long(hub, make_call):
    """After how many seconds a call that takes thirty ends with its deadline."""

    async def main():
        with pytest.raises(DeadlineExceeded):
            await make_call(hub)
        return asyncio.get_running_loop().time()

    return run_virtual(main())


@table(("around", "own", "expected"), [("5s", None, 5), ("5s", "2s", 2), (3, "20s", 3), ("25s", None, 8)])
def test_the_tightest_deadline_holds(around, own, expected):
    """Of the one around, the chain's and the call's."""

    async def call(hub):
        with hub.deadline(around):
            await hub.get("main")("hi", **({} if own is None else {"deadline": own}))

    hub, _ = watched([SLOW], options={"chains": {"main": {"models": ["a"], "deadline": "8s"}}})
    assert how_long(hub, call) == expected


def test_a_deadline_around_is_one_instant_for_all_calls_and_tasks_inside():
    """It counts from when it was set, not from each call; of two around a call the tighter holds."""
    hub, _ = watched([OK, SLOW, SLOW], b=[OK])

    async def call(hub):
        with hub.deadline("9s"), hub.deadline("1m"):
            await hub.get("a")("hi")
            await asyncio.sleep(6)
            await asyncio.create_task(hub.get("a")("hi"))

    assert how_long(hub, call) == 9

    async def outside():
        return (await hub.get("b")("hi")).text

    assert run_virtual(outside()) == "fine"


def test_a_deadline_around_holds_for_streams_that_are_read_later():
    """The stream was begun inside."""
    hub, _ = watched([{"say": "a long answer of many words", "pause": 2}])

    async def call(hub):
        with hub.deadline("5s"):
            stream = await hub.get("a")("hi", stream=True)
        async for _ in stream:
            pass

    assert how_long(hub, call) == 5


def test_a_deadline_around_holds_for_synchronous_calls_and_threads_like_tags():
    """Where a call is made in another thread on behalf of the one that set it."""

    def ask():
        return hub.get("a").sync("hi")

    with Hub.from_dict({"version": 1, "models": {"a": {"provider": "scripted", "steps": [SLOW]}}}) as hub:
        with hub.deadline(0.02), pytest.raises(DeadlineExceeded):
            ask()

        async def main():
            with hub.deadline("20ms"), pytest.raises(DeadlineExceeded):
                await asyncio.to_thread(ask)

        asyncio.run(main())


@table("wrong", ["soon", True, None])
def test_what_is_no_duration_is_no_deadline_around(wrong):
    """Said at once."""
    hub, _ = watched([OK])
    with pytest.raises(InvalidRequest, match="deadline: expected a duration"):
        hub.deadline(wrong)


@table("wrong", [{"deadline": "soon"}, {"tags": "user"}, {"deadlne": 5}, {"seed": {1, 2}}])
def test_a_wrong_keyword_is_refused_before_the_call_begins(wrong):
    """Nothing is recorded of it, neither a call nor an attempt."""
    hub, seen = watched([OK])
    with pytest.raises(InvalidRequest):
        run_virtual(hub.get("a")("hi", **wrong))
    assert seen == []


def test_our_keywords_hold_for_a_model_without_a_hub():
    """Its calls have tags; a deadline, which only chains keep, is refused instead of being sent to the vendor."""
    seen = []
    model = ScriptedChatModel(reply="fine")
    model.services = Services(VirtualClock(), observers=(seen.append,))
    run_virtual(model("hi", tags={"user": 7}, fallback=False, stream=False))
    assert seen[-1].tags == {"user": "7"}
    with pytest.raises(InvalidRequest, match="takes no `deadline`"):
        run_virtual(model("hi", deadline=5))


def test_no_deadline_is_what_a_call_may_ask_for():
    """`deadline=None` lifts the chain's own."""
    options = {"chains": {"main": {"models": ["a"], "deadline": 5}}}
    hub, _ = watched([{"say": "late", "wait": 20}], options=options)
    assert run_virtual(hub.get("main")("hi", deadline=None)).text == "late"
    with pytest.raises(DeadlineExceeded):
        run_virtual(hub.get("main")("hi"))
