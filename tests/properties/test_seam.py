"""The seam's promises, over random scripts of models, layers, readers and accidents, in virtual time.

MODELHUB_LONG=1 tries three times as many.
"""

import asyncio
import contextlib
import gc
import os
import warnings
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelhub.core.context import Services
from modelhub.core.errors import CallError, StreamBroken
from modelhub.core.events import AttemptEnded, CallEnded
from modelhub.core.model import Layer
from modelhub.core.stream import ChatStream, add_done_callback
from modelhub.middleware.breaker.layer import Breaker
from modelhub.middleware.breaker.options import BreakerOptions
from modelhub.middleware.chain.layer import Chain
from modelhub.middleware.deadline.layer import Deadline
from modelhub.middleware.limit.layer import Limit, RateLimitPool
from modelhub.middleware.limit.options import LimitOptions
from modelhub.middleware.retry.layer import Retry
from modelhub.middleware.retry.options import RetryOptions
from modelhub.middleware.timeout.layer import Timeout
from modelhub.middleware.timeout.options import TimeoutOptions
from modelhub.middleware.usage.layer import Usage
from modelhub.middleware.usage.options import PricingOptions
from modelhub.providers.scripted import ScriptedChatModel, Step
from modelhub.testing import VirtualClock, run_virtual

LONG = bool(os.environ.get("MODELHUB_LONG"))
REFUSALS = ["Overloaded", "RateLimited", "ConnectFailed", "BadReply", "AuthenticationFailed", "InvalidRequest"]


class Gauge(Layer):
    """Counts replies that are under way, and how often each is settled."""

    def __init__(self, inner, tally):
        super().__init__(inner)
        self.tally = tally

    async def send(self, request):
        self.tally["open"] += 1
        try:
            reply = await self.inner.send(request)
        except BaseException:
            self.tally["open"] -= 1
            raise
        add_done_callback(reply, self.settled)
        return reply

    def settled(self, outcome):
        self.tally["open"] -= 1
        self.tally["settled"] += 1


@dataclass
class World:
    """What is left to look at when all calls are over."""

    ended: list = field(default_factory=list)
    settled: list = field(default_factory=list)
    tally: Counter = field(default_factory=Counter)
    replies: int = 0
    partials: list = field(default_factory=list)

    def observe(self, event):
        if isinstance(event, AttemptEnded):
            self.ended.append(event.attempt)
        elif isinstance(event, CallEnded):
            self.settled.append(event)


layer_makers = {
    "usage": lambda inner, world, pool: Usage(inner, PricingOptions(input=1, output=2)),
    "deadline": lambda inner, world, pool: Deadline(inner),
    "retry": lambda inner, world, pool: Retry(inner, RetryOptions(max_attempts=3)),
    "breaker": lambda inner, world, pool: Breaker(inner, BreakerOptions(failures=2)),
    "limit": lambda inner, world, pool: Limit(inner, pool),
    "gauge": lambda inner, world, pool: Gauge(inner, world.tally),
    "timeout": lambda inner, world, pool: Timeout(inner, TimeoutOptions(first_token=5, idle=5, total=60)),
}

steps = st.one_of(
    st.builds(lambda words, pause: {"words": words, "pause": pause}, st.integers(0, 6), st.sampled_from([0, 1, 30])),
    st.builds(
        lambda name, after: {"fail": name, "retry_after": after},
        st.sampled_from(REFUSALS),
        st.none() | st.sampled_from([1, 100]),
    ),
    st.builds(lambda words, cut: {"words": words, "break_after": cut}, st.integers(1, 6), st.integers(0, 6)),
    st.just({"words": 3, "wait": 20}),
)
models = st.lists(st.lists(steps, min_size=1, max_size=4), min_size=1, max_size=3)
readers = st.one_of(
    st.just(("all", 0)),
    st.just(("plain", 0)),
    st.tuples(st.sampled_from(["close", "forget"]), st.integers(0, 4)),
    st.tuples(st.just("cancel"), st.sampled_from([0, 0.5, 3, 25, 70])),
)
# Any layers in any order; one limit, because a call that holds the only place must not wait for it again.
stacks = st.lists(st.sampled_from(sorted(layer_makers)), max_size=7).filter(lambda names: names.count("limit") < 2)
calls = st.lists(st.tuples(readers, st.none() | st.sampled_from([2, 40])), min_size=1, max_size=4)


def script(model, items):
    """Steps whose words tell which model and step they belong to, so that a mixed answer shows."""
    made = []
    for number, item in enumerate(items):
        item = dict(item)
        words = item.pop("words", None)
        if words is not None:
            item["say"] = " ".join(f"m{model}s{number}w{word}" for word in range(words))
        made.append(Step(**item))
    return made


def build(world, scripts, layers, pool):
    services = Services(clock=VirtualClock(), observers=(world.observe,))
    members = []
    for number, items in enumerate(scripts):
        model = ScriptedChatModel(f"m{number}", steps=script(number, items))
        model.services = services
        stack = Gauge(model, world.tally)
        for name in layers:
            stack = layer_makers[name](stack, world, pool)
        members.append(stack)
    # Half of the members stand in a chain of their own: chains nest.
    head = Chain("inner", members[:1])
    return Chain("chain", [head, *members[1:]])


def check_snapshots(snapshots):
    """Each snapshot's words come from one attempt, from its first word on, and never shrink without a restart."""
    before = None
    for snapshot in snapshots:
        words = snapshot.text.split()
        origins = {word.rsplit("w", 1)[0] for word in words}
        assert len(origins) <= 1
        assert [int(word.rsplit("w", 1)[1]) for word in words] == list(range(len(words)))
        if before is not None and before.restarts == snapshot.restarts:
            assert snapshot.text == before.text + snapshot.delta
        if before is not None:
            assert snapshot.restarts >= before.restarts
            assert snapshot.usage is None or snapshot.usage is not before.usage
        before = snapshot


async def read(chain, reader, deadline, world):
    how, amount = reader
    if how == "plain":
        reply = await chain("hello", deadline=deadline)
        world.replies += 1
        assert reply.is_last
        check_snapshots([reply])
        return
    stream = await chain("hello", stream=True, deadline=deadline)
    world.replies += 1
    seen = []
    try:
        async for snapshot in stream:
            seen.append(snapshot)
            if how in ("close", "forget") and len(seen) > amount:
                break
        else:
            assert seen
            assert seen[-1].is_last
    except StreamBroken as error:
        world.partials.append(error.partial)
    finally:
        check_snapshots(seen)
        if how == "close":
            await stream.aclose()


async def play(scripts, layers, plan):
    world, pool = World(), RateLimitPool("pool", LimitOptions(concurrency=1), VirtualClock())
    chain = build(world, scripts, layers, pool)
    for reader, deadline in plan:
        task = asyncio.ensure_future(read(chain, reader, deadline, world))
        if reader[0] == "cancel":
            asyncio.get_running_loop().call_later(reader[1], task.cancel)
        with contextlib.suppress(CallError, asyncio.CancelledError):
            await task
        del task
        gc.collect(0)
        # A forgotten stream's connections are closed by the loop: give it its turn.
        await asyncio.sleep(1)
    # Nobody holds a place: a last call gets one.
    async with asyncio.timeout(200):  # a rate limit pauses the pool
        (await pool.acquire()).settle()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    return world


@settings(max_examples=300 if LONG else 40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(models, stacks, calls)
def test_nothing_leaks_and_nothing_is_counted_twice(scripts, layers, plan):
    """Whatever fails, is cut, closed, cancelled or forgotten: permits come back, records are written once."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # forgotten streams say so
        world = run_virtual(play(scripts, layers, plan), grace=0)
    assert world.tally["open"] == 0
    assert None not in world.partials
    assert len(world.settled) == len(plan)
    assert len({event.call_id for event in world.settled}) == len(plan)
    told = [attempt for event in world.settled for attempt in event.attempts]
    assert len(told) == len(world.ended)
    assert all(attempt["outcome"] is not None and attempt["duration"] is not None for attempt in told)
    assert len({id(attempt) for attempt in world.ended}) == len(world.ended)
    for event in world.settled:
        asked = [attempt for attempt in event.attempts if not attempt["skipped"]]
        # Three attempts where a retry layer stands (layers may repeat), and a restart.
        assert len(asked) <= len(scripts) * 3 ** layers.count("retry") * 2


async def test_a_stream_settles_inner_layers_first():
    """Callbacks run in the order in which the layers saw the reply."""
    order = []
    inner = await ScriptedChatModel(reply="one two")("x", stream=True)
    add_done_callback(inner, lambda _: order.append("inner"))
    outer = ChatStream(again(inner), inner=inner)
    add_done_callback(outer, lambda _: order.append("outer"))
    await outer.aclose()
    assert order == ["inner", "outer"]


async def again(stream):
    """The same snapshots, as a layer would pass them on."""
    async for snapshot in stream:
        yield snapshot
