"""Chain: the first model that answers, in the order of the list, before and after a stream's first content."""

import asyncio

import pytest
from pydantic import BaseModel

from modelhub import Chain, ConfigError
from modelhub.core.errors import (
    AllModelsFailed,
    AuthenticationFailed,
    BadReply,
    BreakerOpen,
    CallError,
    ConnectionLost,
    ContentBlocked,
    ContextTooLong,
    InvalidRequest,
    NotConfigured,
    Overloaded,
    RateLimited,
    StreamBroken,
    failure_classes,
)
from modelhub.core.events import FellBack, Restarted, Waiting
from modelhub.core.model import ChatModelBase
from modelhub.core.response import ChatResponse
from modelhub.testing import VirtualClock
from tests.tables import table

OK = {"say": "fine"}
BUSY = {"fail": "Overloaded"}
CUT = {"say": "one two three", "break_after": 2}
STALL = {"say": "one two three", "pause": 100}
ONCE = {"retry": {"max_attempts": 1}}
GOES_ON = sorted(cls.__name__ for cls in failure_classes() if cls.policy.fall_back)
STOPS = sorted(cls.__name__ for cls in failure_classes() if not cls.policy.fall_back)
NOT_SCRIPTED = {"AllModelsFailed"}


async def read(chain, **options):
    """Every snapshot of a streamed call."""
    return [snapshot async for snapshot in await chain("hi", stream=True, **options)]


# -- order -------------------------------------------------------------------------------------------------------------


async def test_models_are_asked_in_order(world, told):
    """The third answers when the first two do not; the fourth is not asked."""
    chain = world.chain(BUSY, {"fail": "ServerError"}, OK, OK, entry=ONCE)
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "Overloaded"), ("b", "ServerError"), ("c", "ok")]
    assert (reply.model, reply.requested, world.asked("d")) == ("c", "main", 0)
    assert [(event.model, event.to, event.error.kind) for event in world.of(FellBack)] == [
        ("a", "b", "Overloaded"),
        ("b", "c", "ServerError"),
    ]


@table("name", sorted(set(GOES_ON) - NOT_SCRIPTED))
async def test_the_table_says_when_the_next_is_asked(world, told, name):
    """Every failure that another model could mend."""
    reply = await world.chain({"fail": name}, OK, entry=ONCE)("hi")
    assert told(reply.attempts) == [("a", name), ("b", "ok")]


@table("name", STOPS)
async def test_the_table_says_when_nobody_else_is_asked(world, name):
    """A wrong request and blocked content are raised at once, as themselves."""
    with pytest.raises(CallError) as caught:
        await world.chain({"fail": name}, OK)("hi")
    assert (caught.value.kind, world.asked("b")) == (name, 0)


async def test_fallback_on_adds_to_the_table(world, told):
    """`ContentBlocked` goes on if the file says so."""
    chain = world.chain({"fail": "ContentBlocked"}, OK, fallback_on=["ContentBlocked"])
    assert told((await chain("hi")).attempts) == [("a", "ContentBlocked"), ("b", "ok")]
    with pytest.raises(ContentBlocked):
        await world.chain({"fail": "ContentBlocked"}, OK, fallback_on=["InvalidRequest"])("hi")


async def test_no_fallback_on_takes_from_it(world):
    """A wrong key shall be noticed, not papered over: also while the breaker leaves the model alone for it."""
    chain = world.chain({"fail": "AuthenticationFailed"}, OK, no_fallback_on=["AuthenticationFailed"])
    with pytest.raises(AuthenticationFailed):
        await chain("hi")
    with pytest.raises(BreakerOpen, match="after AuthenticationFailed"):
        await chain("hi")
    assert world.asked("b") == 0


async def test_what_is_asked_for_by_class_holds_for_its_kinds(world):
    """`TimedOut` is every kind of silence."""
    with pytest.raises(CallError) as caught:
        await world.chain({"fail": "FirstTokenTimeout"}, OK, no_fallback_on=["TimedOut"])("hi")
    assert caught.value.kind == "FirstTokenTimeout"


@pytest.mark.parametrize("key", ["fallback_on", "no_fallback_on"])
def test_an_unknown_failure_in_the_file_is_a_problem(world, key):
    """With the names that exist."""
    with pytest.raises(ConfigError, match="unknown failure `Overlaoded`"):
        world.chain(OK, **{key: ["Overlaoded"]})


async def test_fallback_false_asks_the_first_or_nobody(world):
    """For one call; the first that is configured."""
    chain = world.chain(BUSY, OK, entry=ONCE)
    with pytest.raises(AllModelsFailed):
        await chain("hi", fallback=False)
    assert world.asked("b") == 0
    hub = world.hub(
        {"gpt": {"provider": "openai", "model_name": "x"}, "b": OK, "c": OK},
        {"c2": {"models": ["gpt", "b", "c"]}, "outer": {"models": ["c2", "c"]}},
    )
    assert (await hub.get("c2")("hi", fallback=False)).model == "b"
    assert (await hub.get("outer")("hi", fallback=False)).model == "b"


async def test_a_model_that_is_not_configured_is_passed_over_with_a_record(world, told):
    """The story says which variable to set."""
    hub = world.hub({"gpt": {"provider": "openai", "model_name": "x"}, "b": OK}, {"c": {"models": ["gpt", "b"]}})
    reply = await hub.get("c")("hi")
    assert told(reply.attempts) == [("gpt", "NotConfigured"), ("b", "ok")]
    assert (reply.attempts[0].skipped, "OPENAI_API_KEY" in reply.attempts[0].message) == (True, True)


async def test_a_model_asked_for_by_its_own_name_raises_its_own_error(world):
    """A chain of one has no group around it, but the story all the same."""
    hub = world.hub({"m": BUSY}, defaults=ONCE)
    with pytest.raises(Overloaded) as caught:
        await hub.get("m")("hi")
    assert [attempt.outcome for attempt in caught.value.attempts] == ["Overloaded"]


async def test_a_chain_by_hand_needs_no_hub(told):
    """Providers as they are, in a list."""
    from modelhub import ScriptedChatModel

    chain = Chain("mine", [ScriptedChatModel("a", steps=[BUSY]), ScriptedChatModel("b", reply="fine")])
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "Overloaded"), ("b", "ok")]


# -- chains in chains --------------------------------------------------------------------------------------------------


def test_a_chain_by_hand_has_models():
    """An empty list is a mistake in the configuration, wherever it is written."""
    with pytest.raises(ConfigError, match="chain `empty` has no models"):
        Chain("empty", [])


async def test_chains_stand_in_chains(world, told):
    """An inner chain is asked as a whole, then the next."""
    hub = world.hub(
        {"a": BUSY, "b": BUSY, "x": OK},
        {"inner": {"models": ["a", "b"]}, "outer": {"models": ["inner", "x"]}},
        defaults=ONCE,
    )
    reply = await hub.get("outer")("hi")
    assert told(reply.attempts) == [("a", "Overloaded"), ("b", "Overloaded"), ("x", "ok")]
    assert (reply.requested, reply.model) == ("outer", "x")


async def test_silence_at_an_inner_chains_end_is_not_asked_again(world, told):
    """Somebody is behind: in the outer chain."""
    hub = world.hub(
        {"a": {"fail": "TotalTimeout"}, "b": OK}, {"inner": {"models": ["a"]}, "outer": {"models": ["inner", "b"]}}
    )
    assert told((await hub.get("outer")("hi")).attempts) == [("a", "TotalTimeout"), ("b", "ok")]


async def test_a_wrong_request_goes_through_all_chains(world):
    """What no model could mend is not wrapped."""
    hub = world.hub(
        {"a": {"fail": "InvalidRequest"}, "b": OK}, {"inner": {"models": ["a"]}, "outer": {"models": ["inner", "b"]}}
    )
    with pytest.raises(InvalidRequest):
        await hub.get("outer")("hi")


# -- windows -----------------------------------------------------------------------------------------------------------


async def test_a_model_too_small_for_the_request_is_passed_over(world, told):
    """With a record, and without being asked; the estimate errs on the side of asking."""
    chain = world.chain({"steps": [OK], "context_window": 100}, OK)
    reply = await chain("word " * 1000)
    assert told(reply.attempts) == [("a", "ContextTooLong"), ("b", "ok")]
    assert (reply.attempts[0].skipped, world.asked("a")) == (True, 0)
    assert (await chain("word " * 100)).model == "a"


async def test_after_context_too_long_only_larger_models_are_asked(world, told):
    """A window known not to be enough is not tried twice; an unknown one is."""
    steps = {"steps": [{"fail": "ContextTooLong"}]}
    chain = world.chain(
        steps | {"context_window": 1000},
        {"steps": [OK], "context_window": 1000},
        {"steps": [OK], "context_window": 500},
        {"steps": [OK], "context_window": 2000},
    )
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "ContextTooLong")] * 1 + [
        ("b", "ContextTooLong"),
        ("c", "ContextTooLong"),
        ("d", "ok"),
    ]
    assert [attempt.skipped for attempt in reply.attempts] == [False, True, True, False]
    assert (await world.chain(steps | {"context_window": 1000}, OK)("hi")).model == "b"


async def test_a_request_too_long_for_everybody_says_so(world):
    """The group's dominant error is what it was."""
    with pytest.raises(AllModelsFailed) as caught:
        await world.chain(*[{"steps": [OK], "context_window": 10}] * 2)("word " * 1000)
    assert isinstance(caught.value.dominant, ContextTooLong)


# -- sticky ------------------------------------------------------------------------------------------------------------


async def test_sticky_stays_with_the_model_that_answered(world):
    """For its prompt cache, and for as long as the file says: then the first is asked first again."""
    chain = world.chain([BUSY, OK], OK, sticky=60, entry=ONCE)
    assert [(await chain("hi")).model for _ in range(3)] == ["b", "b", "b"]
    await asyncio.sleep(61)
    assert (await chain("hi")).model == "a"
    assert (await chain("hi")).model == "a"


async def test_a_steady_stream_of_calls_goes_back_too(world):
    """An answer does not make the time longer."""
    chain = world.chain([BUSY, OK], OK, sticky=60, entry=ONCE)
    found = []
    for _ in range(10):
        found.append((await chain("hi")).model)
        await asyncio.sleep(10)
    assert found == ["b"] * 6 + ["a"] * 4


async def test_sticky_is_no_duty(world):
    """If the favourite fails the others are asked, in order."""
    chain = world.chain([BUSY, OK], [OK, BUSY], sticky=60, entry=ONCE)
    assert [(await chain("hi")).model for _ in range(3)] == ["b", "a", "a"]


async def test_without_sticky_the_first_is_asked_first(world):
    """Each call begins at the head of the list."""
    chain = world.chain([BUSY, OK], OK, entry=ONCE)
    assert [(await chain("hi")).model for _ in range(2)] == ["b", "a"]


async def test_sticky_by_a_tag_keeps_each_session_where_its_cache_is(world):
    """One session's fallback does not move the others, and calls without the tag begin at the head of the list."""
    busy = [BUSY, OK, OK, BUSY, OK]
    chain = world.chain(busy, OK, sticky={"for": "60s", "by": "tag:session"}, entry=ONCE)
    asked = [(await chain("hi", tags={"session": name} if name else None)).model for name in ("x", "y", "x", "", "z")]
    assert asked == ["b", "a", "b", "a", "b"]
    assert [(await chain("hi", tags={"session": name})).model for name in "xyz"] == ["b", "a", "b"]
    await asyncio.sleep(61)
    assert [(await chain("hi", tags={"session": name})).model for name in "xyz"] == ["a", "a", "a"]


async def test_calls_of_no_session_do_not_keep_each_other_at_a_model(world):
    """They have no tag by which they belong together."""
    chain = world.chain([BUSY, OK], OK, sticky={"for": "60s", "by": "tag:session"}, entry=ONCE)
    assert [(await chain("hi")).model for _ in range(2)] == ["b", "a"]


async def test_a_call_without_fallback_has_no_say_in_it(world):
    """It asks the first, and the favourite stays the favourite."""
    chain = world.chain([BUSY, OK], OK, sticky=60, entry=ONCE)
    await chain("hi")
    assert (await chain("hi", fallback=False)).model == "a"
    assert (await chain("hi")).model == "b"


# -- when all are left alone -------------------------------------------------------------------------------------------


def limited(seconds):
    """Asks to be left alone for a while, once."""
    return [{"fail": "RateLimited", "retry_after": seconds}, OK]


async def test_when_all_are_left_alone_the_first_to_come_back_is_waited_for(world, now, told):
    """A call fails only if nobody could have answered within a minute."""
    chain = world.chain(limited(40), limited(20), entry=ONCE)
    with pytest.raises(AllModelsFailed):
        await chain("hi")
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "BreakerOpen"), ("b", "BreakerOpen"), ("a", "BreakerOpen"), ("b", "ok")]
    assert now() == pytest.approx(20)
    (event,) = world.of(Waiting)
    assert (event.model, event.seconds) == ("b", pytest.approx(20))


async def test_longer_than_a_minute_is_not_waited_without_a_deadline(world, now):
    """The error says when to retry afterstead."""
    chain = world.chain(limited(70), limited(90))
    for _ in range(2):
        with pytest.raises(AllModelsFailed) as caught:
            await chain("hi")
        assert (caught.value.retry_after, now()) == (pytest.approx(70), 0)


async def test_with_a_deadline_it_is_waited_as_long_as_that_allows(world, now):
    """A job with five minutes waits 70 seconds."""
    chain = world.chain(limited(70), limited(90))
    with pytest.raises(AllModelsFailed):
        await chain("hi")
    assert (await chain("hi", deadline=300)).model == "a"
    assert now() == pytest.approx(70)


async def test_who_has_failed_does_not_keep_the_others_from_being_waited_for(world, told):
    """One model is down, the other is left alone for a second: the call is not lost, and nobody is asked twice."""
    chain = world.chain(limited(20), [OK, BUSY], entry=ONCE)
    await chain("hi")
    reply = await chain("hi")
    assert told(reply.attempts) == [("a", "BreakerOpen"), ("b", "Overloaded"), ("a", "ok")]


async def test_if_the_one_waited_for_fails_too_the_call_is_over(world, told):
    """The group has one error for each model, not one for each look at it."""
    chain = world.chain([{"fail": "RateLimited", "retry_after": 20}, BUSY], [OK, BUSY], entry=ONCE)
    await chain("hi")
    with pytest.raises(AllModelsFailed) as caught:
        await chain("hi")
    assert [(error.model, error.kind) for error in caught.value.exceptions] == [
        ("b", "Overloaded"),
        ("a", "Overloaded"),
    ]


async def test_a_nested_chain_is_waited_for_as_well(world, now):
    """All are left alone, wherever they stand."""
    hub = world.hub(
        {"a": limited(20), "b": limited(40), "x": limited(50)},
        {"inner": {"models": ["a", "b"]}, "outer": {"models": ["inner", "x"]}},
        defaults=ONCE,
    )
    with pytest.raises(AllModelsFailed):
        await hub.get("outer")("hi")
    assert (await hub.get("outer")("hi")).model == "a"
    assert now() == pytest.approx(20)


async def test_a_lone_model_that_is_left_alone_is_waited_for(world, now):
    """There is nobody else."""
    hub = world.hub({"m": limited(20)}, defaults=ONCE)
    with pytest.raises(RateLimited):
        await hub.get("m")("hi")
    assert (await hub.get("m")("hi")).text == "fine"
    assert now() == pytest.approx(20)


async def test_nobody_waits_while_somebody_is_not_configured_only(world, now):
    """A model without a key never comes back by itself."""
    hub = world.hub({"gpt": {"provider": "openai", "model_name": "x"}}, {"c": {"models": ["gpt"]}})
    with pytest.raises(NotConfigured):
        await hub.get("c")("hi")
    assert now() == 0


async def test_cancelled_while_it_waits_it_is_over(world):
    """No model is asked afterwards."""
    chain = world.chain(limited(20), limited(20), entry=ONCE)
    with pytest.raises(AllModelsFailed):
        await chain("hi")
    call = asyncio.ensure_future(chain("hi"))
    await asyncio.sleep(5)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.sleep(30)
    assert (world.asked("a"), world.asked("b")) == (1, 1)


async def test_a_breaker_that_opens_in_this_call_is_waited_for_once(world, told, now):
    """If nobody else answered: the model is asked once more when its pause is over, and not a third time."""
    entry = {"breaker": {"failures": 1, "pause": 2}}
    reply = await world.chain([BUSY, OK], [{"fail": "AuthenticationFailed"}], entry=entry)("hi")
    assert told(reply.attempts) == [("a", "Overloaded"), ("b", "AuthenticationFailed"), ("a", "ok")]
    assert 2 <= now() <= 2.3
    with pytest.raises(Overloaded):
        await world.hub({"m": BUSY}, defaults=entry).get("m")("hi")
    assert world.asked("m") == 2


async def test_an_inner_chain_at_the_end_has_waited_itself(world):
    """The outer one does not do it again."""
    hub = world.hub(
        {"a": {"fail": "UnsupportedFeature"}, "m": BUSY},
        {"inner": {"models": ["m"]}, "outer": {"models": ["a", "inner"]}},
        defaults={"breaker": {"failures": 1}},
    )
    with pytest.raises(AllModelsFailed):
        await hub.get("outer")("hi")
    assert world.asked("m") == 2


async def test_silence_that_opened_a_breaker_is_not_waited_for(world, now):
    """Waiting twice for a silent model helps nobody."""
    entry = {"breaker": {"failures": 1}, "timeout": {"total": 5}, **ONCE}
    hub = world.hub({"m": {"say": "late", "wait": 50}}, defaults=entry)
    with pytest.raises(CallError):
        await hub.get("m")("hi")
    assert (world.asked("m"), now()) == (1, 5)


# -- a stream that breaks ----------------------------------------------------------------------------------------------


async def test_a_broken_stream_begins_anew_on_the_next_model(world, told):
    """The snapshot after the break is the new answer so far, with a higher `restarts`."""
    snapshots = await read(world.chain(CUT, {"say": "four five"}))
    assert [(snapshot.text, snapshot.delta, snapshot.restarts) for snapshot in snapshots] == [
        ("one", "one", 0),
        ("one two", " two", 0),
        ("four", "four", 1),
        ("four five", " five", 1),
        ("four five", "", 1),
    ]
    assert [snapshot.is_last for snapshot in snapshots] == [False] * 4 + [True]
    last = snapshots[-1]
    assert (last.model, last.requested) == ("b", "main")
    assert told(last.attempts) == [("a", "StreamBroken"), ("b", "ok")]
    (event,) = world.of(Restarted)
    assert (event.model, event.to, event.error.partial.text) == ("a", "b", "one two")


async def test_restarts_only_go_up(world):
    """However often, and in however many chains in chains."""
    hub = world.hub(
        {"a": CUT, "b": CUT, "x": CUT, "y": OK},
        {"inner": {"models": ["a", "b"]}, "outer": {"models": ["inner", "x", "y"]}},
    )
    counts = [snapshot.restarts for snapshot in await read(hub.get("outer"))]
    assert counts == sorted(counts)
    assert set(counts) == {0, 1, 2, 3}


async def test_raise_raises(world):
    """`on_broken_stream: raise`: the partial answer is in the error, and nobody else is asked."""
    chain = world.chain(CUT, OK, on_broken_stream="raise")
    with pytest.raises(StreamBroken) as caught:
        await read(chain)
    assert caught.value.partial.text == "one two"
    assert isinstance(caught.value.__cause__, ConnectionLost)
    assert world.asked("b") == 0


async def test_raise_holds_in_an_inner_chain_with_a_deadline_of_its_own(world, told):
    """The outer chain, which restarts, asks its own next model."""
    hub = world.hub(
        {"a": CUT, "b": OK, "x": OK},
        {
            "inner": {"models": ["a", "b"], "on_broken_stream": "raise", "deadline": 50},
            "outer": {"models": ["inner", "x"]},
        },
    )
    last = (await read(hub.get("outer"), deadline=90))[-1]
    assert told(last.attempts) == [("a", "StreamBroken"), ("x", "ok")]


async def test_no_fallback_on_holds_for_what_broke_a_stream(world):
    """Nobody else is asked after it, then as before."""
    chain = world.chain(CUT, OK, no_fallback_on=["ConnectionLost"])
    with pytest.raises(StreamBroken):
        await read(chain)
    assert world.asked("b") == 0


async def test_a_lone_model_begins_anew_once(world, told):
    """The same model once more; the second break is told."""
    hub = world.hub({"m": [CUT, OK]})
    assert (await read(hub.get("m")))[-1].text == "fine"
    hub = world.hub({"m": [CUT, CUT, OK]})
    with pytest.raises(StreamBroken) as caught:
        await read(hub.get("m"))
    assert told(caught.value.attempts) == [("m", "StreamBroken")] * 2


async def test_a_lone_model_that_stalled_is_not_asked_again(world, now):
    """Waiting twice for a silent model helps nobody."""
    hub = world.hub({"m": [STALL, OK]}, defaults={"timeout": {"idle": 5}})
    with pytest.raises(StreamBroken):
        await read(hub.get("m"))
    assert (world.asked("m"), now()) == (1, 5)


async def test_a_stalled_stream_begins_anew_on_the_next_model(world, now):
    """As soon as the idle clock has run out."""
    snapshots = await read(world.chain(STALL, OK, entry={"timeout": {"idle": 5}}))
    assert (snapshots[-1].text, now()) == ("fine", 5)


async def test_the_last_model_of_an_inner_chain_is_not_asked_twice(world, told):
    """Somebody is behind, in the outer chain; and at the very end nobody asks an inner chain again."""
    hub = world.hub(
        {"a": CUT, "b": OK, "x": [CUT, CUT, OK]},
        {
            "inner": {"models": ["a"]},
            "outer": {"models": ["inner", "b"]},
            "last": {"models": ["b", "deep"]},
            "deep": {"models": ["x"]},
        },
    )
    assert told((await read(hub.get("outer")))[-1].attempts) == [("a", "StreamBroken"), ("b", "ok")]
    hub = world.hub(
        {"a": {"steps": [BUSY], **ONCE}, "x": [CUT, CUT, OK]},
        {"deep": {"models": ["x"]}, "last": {"models": ["a", "deep"]}},
    )
    with pytest.raises(StreamBroken) as caught:
        await read(hub.get("last"))
    assert told(caught.value.attempts) == [("a", "Overloaded"), ("x", "StreamBroken"), ("x", "StreamBroken")]


async def test_if_nobody_can_begin_anew_the_stream_is_broken(world, told):
    """The error has the part that came, and the others' failures behind it."""
    chain = world.chain(CUT, BUSY, {"fail": "ServerError"}, entry=ONCE)
    with pytest.raises(StreamBroken, match="no other model answered") as caught:
        await read(chain)
    assert caught.value.partial.text == "one two"
    group = caught.value.__cause__
    assert isinstance(group, AllModelsFailed)
    assert [error.kind for error in group.exceptions] == ["StreamBroken", "Overloaded", "ServerError"]
    assert told(caught.value.attempts) == [("a", "StreamBroken"), ("b", "Overloaded"), ("c", "ServerError")]


async def test_also_if_what_the_next_model_says_is_final(world):
    """After its first content a stream fails as a broken stream, whatever was the reason; nobody else is asked."""
    chain = world.chain(CUT, {"fail": "InvalidRequest"}, OK)
    with pytest.raises(StreamBroken) as caught:
        await read(chain)
    assert isinstance(caught.value.__cause__, InvalidRequest)
    assert (caught.value.partial.text, world.asked("c")) == ("one two", 0)


async def test_a_model_that_fails_at_the_restart_is_retried(world, told):
    """The usual rules hold for the new attempt."""
    last = (await read(world.chain(CUT, [BUSY, OK])))[-1]
    assert told(last.attempts) == [("a", "StreamBroken"), ("b", "Overloaded"), ("b", "ok")]


async def test_a_restart_waits_for_a_model_that_is_left_alone(world, now):
    """There as well."""
    chain = world.chain([OK, CUT], limited(20), entry=ONCE)
    hub = world.hubs[-1]
    with pytest.raises(RateLimited):
        await hub.get("b")("hi")
    await chain("hi")
    assert (await read(chain))[-1].model == "b"
    assert now() == pytest.approx(20)


class Colour(BaseModel):
    """What is asked for."""

    name: str


async def test_structure_that_does_not_fit_begins_anew(world, told):
    """It shows only at the stream's end: the next model is asked."""
    chain = world.chain({"data": {"nome": "red"}}, {"data": {"name": "blue"}})
    snapshots = await read(chain, structured_model=Colour)
    assert (snapshots[-1].metadata, snapshots[-1].restarts) == ({"name": "blue"}, 1)
    assert told(snapshots[-1].attempts) == [("a", "StreamBroken"), ("b", "ok")]


async def test_structure_that_does_not_fit_is_retried_once_without_a_stream(world, told):
    """Then the next model is asked."""
    chain = world.chain({"data": {"nome": "red"}}, {"data": {"name": "blue"}})
    reply = await chain("hi", structured_model=Colour)
    assert told(reply.attempts) == [("a", "BadReply"), ("a", "BadReply"), ("b", "ok")]
    with pytest.raises(BadReply):
        await world.hub({"m": {"data": {}}}).get("m")("hi", structured_model=Colour)


class Plain(ChatModelBase):
    """Gives a whole reply, also when a stream is wanted."""

    async def send(self, request):
        request.context.end(request.context.begin("plain", "plain", "plain"), "ok")
        return ChatResponse([{"type": "text", "text": "all at once"}], attempts=request.context.attempts)


async def test_a_model_that_cannot_stream_may_begin_anew(world):
    """Its reply is the only snapshot, and the last."""
    chain = world.chain(CUT)
    by_hand = Chain("mine", [*chain.models, Plain("plain", stream=False)])
    snapshots = await read(by_hand)
    last = snapshots[-1]
    assert (last.text, last.delta, last.restarts, last.is_last) == ("all at once", "all at once", 1, True)


async def test_a_stream_closed_in_the_middle_asks_nobody_else(world):
    """Closing is not breaking."""
    chain = world.chain({"say": "one two three"}, OK)
    async with await chain("hi", stream=True) as stream:
        await anext(stream)
    assert world.settled().how == "closed"
    assert world.asked("b") == 0


async def test_a_stream_closed_after_a_restart_closes_the_new_one(world):
    """The connection that is open is the one that is given back."""
    chain = world.chain(CUT, {"say": "four five six"})
    stream = await chain("hi", stream=True)
    while (await anext(stream)).restarts == 0:
        pass
    await stream.aclose()
    assert [attempt.outcome for attempt in world.settled().attempts] == ["StreamBroken", "closed"]


def test_a_chain_shows_its_models(world):
    """For people at a prompt."""
    chain = world.chain(OK, OK)
    assert repr(chain).startswith("Chain('main', [")
    assert list(chain.names()) == ["a", "b"]
    assert isinstance(chain.services.clock, VirtualClock)
