"""Which arm is picked: over random weights, keys and failures; MODELHUB_LONG=1 tries more of them."""

import os
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.core.errors import CallError
from modelhub.middleware.chain.arms import Arm, Arms
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing import VirtualClock, run_virtual

LONG = bool(os.environ.get("MODELHUB_LONG"))
WEIGHTS = st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100), min_size=1, max_size=6)
FAILURES = ["Overloaded", "RateLimited", "AuthenticationFailed", "QuotaExhausted", "ServerError", "ModelNotFound"]


def make_arms(weights, **options):
    """Arms of scripted models with *weights*."""
    return Arms([Arm(name, ScriptedChatModel(name), weight) for name, weight in weights.items()], **options)


def names(models):
    return [model.name for model in models]


def first_of(arms, key):
    return arms.order({"user": key}, random.Random(0))[0].name


@given(WEIGHTS, st.integers(), st.sampled_from(["weighted", "least_busy"]), st.none() | st.text(max_size=5))
def test_every_arm_is_in_the_order_once(weights, seed, pick, key):
    """Whatever picks it."""
    order = make_arms(weights, pick=pick, by="user").order({} if key is None else {"user": key}, random.Random(seed))
    assert sorted(names(order)) == sorted(weights)


@given(WEIGHTS, st.text(max_size=5), st.integers(), st.integers())
def test_chance_has_no_part_in_the_arm_of_a_tag(weights, key, one, other):
    """The order is the same with any random numbers, and however the arms are listed."""
    arms = make_arms(weights, by="user")
    turned = make_arms(dict(reversed(weights.items())), by="user")
    assert names(arms.order({"user": key}, random.Random(one))) == names(
        turned.order({"user": key}, random.Random(other))
    )


@given(WEIGHTS.filter(lambda weights: len(weights) > 1), st.data())
def test_when_an_arm_goes_only_its_own_tags_move(weights, data):
    """And they move to the arm that was next for them; the same when one is added, the other way round."""
    gone = data.draw(st.sampled_from(sorted(weights)))
    before = make_arms(weights, by="user")
    after = make_arms({name: weight for name, weight in weights.items() if name != gone}, by="user")
    for number in range(50):
        tags = {"user": str(number)}
        order = names(before.order(tags, random.Random(0)))
        assert names(after.order(tags, random.Random(0))) == [name for name in order if name != gone]


@given(WEIGHTS.filter(lambda weights: len(weights) > 1), st.data())
def test_when_a_weight_grows_tags_move_only_to_it(weights, data):
    """No tag goes from one unchanged arm to another."""
    heavier = data.draw(st.sampled_from(sorted(weights)))
    before, after = make_arms(weights, by="user"), make_arms(weights | {heavier: weights[heavier] * 3}, by="user")
    for number in range(100):
        old, new = first_of(before, str(number)), first_of(after, str(number))
        assert new in (old, heavier)


@settings(max_examples=20 if LONG else 10)
@given(WEIGHTS, st.integers(0, 10), st.booleans())
def test_shares_are_those_of_the_weights(weights, seed, by_tag):
    """By chance and by tag alike, within what chance explains."""
    arms, source, total = make_arms(weights, by="user"), random.Random(seed), sum(weights.values())
    asked = Counter(
        arms.order({"user": f"{seed}-{number}"} if by_tag else {}, source)[0].name for number in range(3000)
    )
    for name, weight in weights.items():
        share = weight / total
        spread = 5.5 * (share * (1 - share) / 3000) ** 0.5 + 0.001
        assert abs(asked[name] / 3000 - share) < spread


def test_a_canary_of_five_percent_has_four_to_six_percent_of_the_users():
    """Of 20,000 users; and those who had the canary at 5 % have it at 10 % too."""
    canary = make_arms({"stable": 95, "canary": 5}, by="user")
    wider = make_arms({"stable": 90, "canary": 10}, by="user")
    users = [f"user-{number}" for number in range(100_000 if LONG else 20_000)]
    chosen = {user for user in users if first_of(canary, user) == "canary"}
    assert 800 <= len(chosen) <= 1_200
    assert all(first_of(wider, user) == "canary" for user in chosen)


@settings(max_examples=60 if LONG else 25, deadline=None)
@given(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from([None, *FAILURES]), min_size=1),
    st.integers(0, 1000),
    st.sampled_from(["weighted", "least_busy"]),
    st.none() | st.text(max_size=3),
    st.booleans(),
)
def test_every_healthy_arm_is_asked_before_the_next_place(script, seed, pick, user, stream):
    """A call ends at the next place only if each arm has failed, now or in a call before."""

    async def play():
        services = Services(VirtualClock(), random.Random(seed))
        entries = {
            name: {"provider": "scripted", "steps": [{"fail": failure} if failure else {"say": name}]}
            for name, failure in script.items()
        }
        config = {
            "version": 1,
            "defaults": {"retry": {"max_attempts": 1}},
            "models": {**entries, "last": {"provider": "scripted", "reply": "last"}},
            "chains": {"main": {"models": [{"arms": list(script), "by": "tag:user", "pick": pick}, "last"]}},
        }
        async with Hub.from_dict(config, services=services, environ={}) as hub:
            return [await ask(hub.get("main")) for _ in range(4)]

    async def ask(chain):
        reply = await chain("hi", stream=stream, tags={} if user is None else {"user": user})
        return await reply.final() if stream else reply

    healthy = {name for name, failure in script.items() if failure is None}
    for reply in run_virtual(play()):
        assert reply.model in (healthy or {"last"})
        if not healthy:
            assert {attempt.model for attempt in reply.attempts} == {*script, "last"}


def test_a_failure_of_the_call_is_none_of_the_arms():
    """A wrong request reaches no arm."""

    async def play():
        config = {
            "version": 1,
            "models": {"a": {"provider": "scripted", "reply": "a"}},
            "chains": {"main": {"models": [{"arms": ["a"]}]}},
        }
        async with Hub.from_dict(config) as hub:
            try:
                await hub.get("main")([{"role": "nobody", "content": "x"}])
            except CallError as error:
                return error.kind

    assert run_virtual(play()) == "InvalidRequest"
