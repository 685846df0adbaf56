"""Limit: what an attempt reserves, and what of it is counted when its reply is finished."""

import asyncio
import gc
import warnings

import pytest

from modelhub.core.errors import CallError
from modelhub.middleware.limit.layer import Amounts, AttemptResult, Limit, RateLimitPool
from modelhub.middleware.limit.options import LimitOptions
from modelhub.providers.scripted import ScriptedChatModel
from modelhub.testing import VirtualClock
from tests.tables import table

LIMITS = {"t": {"tokens_per_minute": 1000, "requests_per_minute": 100, "burst": 1}}
MESSAGE = "one two three four five six seven"  # seven words, which the script counts as seven tokens; 33 characters
RESERVED_INPUT = 33 // 4 + 1


def chain_of(world, *steps, **entry):
    return world.chain({"steps": list(steps), "limit": "t", "retry": {"max_attempts": 1}, **entry}, limits=LIMITS)


def tokens(world):
    """How many tokens are counted, and how many requests."""
    requests, tokens = world.layer("a", Limit).pool.left().rates
    return 1000 - tokens.left, 100 - requests.left


async def test_while_it_lasts_all_that_it_may_use_is_reserved(world):
    """Input by its length, output by `max_tokens`; then the vendor's figures count."""
    chain = chain_of(world, {"say": "a b c", "wait": 10})
    call = asyncio.ensure_future(chain(MESSAGE, max_tokens=500))
    await asyncio.sleep(1)
    assert tokens(world) == (RESERVED_INPUT + 500, 1)
    await call
    assert tokens(world) == (7 + 3, 1)


@table(
    ("entry", "kwargs", "output"),
    [
        ({"generate_kwargs": {"max_tokens": 300}}, {}, 300),
        ({"generate_kwargs": {"max_completion_tokens": 300}}, {"max_tokens": 50}, 50),
        ({"generate_kwargs": {"options": {"num_predict": 300}}}, {}, 300),
        ({"generate_kwargs": {"num_predict": -1}}, {}, 0),
        ({"generate_kwargs": {"maxOutputTokens": 300}}, {}, 300),
        ({}, {}, 0),
    ],
)
async def test_the_models_own_parameters_bound_the_answer_too(world, entry, kwargs, output):
    """`generate_kwargs` are sent with every request; what the call says goes before them."""
    chain = chain_of(world, {"say": "a", "wait": 10}, **entry)
    call = asyncio.ensure_future(chain(MESSAGE, **kwargs))
    await asyncio.sleep(1)
    assert tokens(world) == (RESERVED_INPUT + output, 1)
    await call


async def test_an_answer_without_a_bound_is_taken_to_be_as_long_as_the_last(world):
    """What was learnt is reserved; it is never a reason to refuse."""
    chain = chain_of(world, {"say": "a " * 400, "wait": 10})
    await chain(MESSAGE)
    await asyncio.sleep(100)
    call = asyncio.ensure_future(chain(MESSAGE))
    await asyncio.sleep(1)
    assert tokens(world) == (RESERVED_INPUT + 400, 1)
    await call
    await asyncio.sleep(100)
    call = asyncio.ensure_future(chain("x" * 3200))
    await asyncio.sleep(1)
    assert tokens(world) == (1000, 1)
    await call


async def test_what_it_used_beyond_is_counted_from_then_on():
    """Nobody passes on room that was used after all, and what was used late is forgotten late."""
    clock = VirtualClock()
    pool = RateLimitPool("t", LimitOptions(tokens_per_minute=1000, burst=1), clock)
    permit = await pool.acquire(Amounts(100, 0))
    await asyncio.sleep(30)
    permit.settle(AttemptResult(Amounts(100, 1200), answered=True))
    assert pool.left().rates[0].left == -300
    await pool.acquire(Amounts(1, 0))
    assert clock.now() == pytest.approx(91, abs=0.1)


async def test_what_comes_back_shortens_the_wait_of_who_is_first():
    """Also where it is not enough to let it pass at once."""
    clock = VirtualClock()
    pool = RateLimitPool("t", LimitOptions(tokens_per_minute=600, burst=0.5), clock)  # 300 at once, then 10 a second
    permit = await pool.acquire(Amounts(0, 300))
    waiting = asyncio.ensure_future(pool.acquire(Amounts(0, 200)))  # in 20 s
    await asyncio.sleep(1)
    permit.settle(AttemptResult(Amounts(0, 150), answered=True))
    await waiting
    assert clock.now() == pytest.approx(5, abs=0.1)


FAILURES = [
    ("Overloaded", (0, 1)),  # seen, not charged
    ("RateLimited", (0, 1)),
    ("ServerError", (RESERVED_INPUT + 500, 1)),  # nobody knows
    ("ConnectionLost", (RESERVED_INPUT + 500, 1)),
    ("ConnectFailed", (0, 0)),  # never sent
    ("NotConfigured", (0, 0)),
    ("InvalidRequest", (0, 0)),  # without a status: refused here
]


@table(("failure", "counted"), FAILURES)
async def test_a_failure_gives_back_what_it_surely_did_not_use(world, failure, counted):
    """Tokens that are not charged; the request too, if it was never sent."""
    chain = chain_of(world, {"fail": failure})
    with pytest.raises(CallError):
        await chain(MESSAGE, max_tokens=500)
    assert tokens(world) == counted
    assert world.layer("a", Limit).pool.left().taken == 0


async def test_a_cancelled_attempt_may_have_used_what_it_reserved(world):
    """The vendor may be at work on it: only the place comes back."""
    chain = chain_of(world, {"say": "a", "wait": 10})
    call = asyncio.ensure_future(chain(MESSAGE, max_tokens=500))
    await asyncio.sleep(1)
    call.cancel()
    await asyncio.wait([call])
    assert tokens(world) == (RESERVED_INPUT + 500, 1)
    assert world.layer("a", Limit).pool.left().taken == 0


@table("how", ["read", "closed", "forgotten"])
async def test_a_stream_is_settled_when_it_is_finished(world, how):
    """Not when it begins: its place and reservation are held as long as it lasts, however it ends."""
    chain = chain_of(world, {"say": "a b c", "pause": 1})
    stream = await chain(MESSAGE, stream=True, max_tokens=500)
    await anext(stream)
    pool = world.layer("a", Limit).pool
    assert (tokens(world), pool.left().taken) == ((RESERVED_INPUT + 500, 1), 1)
    if how == "read":
        await stream.final()
    elif how == "closed":
        await stream.aclose()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        del stream
        gc.collect()
        await asyncio.sleep(0.1)
    assert pool.left().taken == 0
    assert tokens(world) == ((10, 1) if how == "read" else (RESERVED_INPUT + 500, 1))


class InterruptedClock(VirtualClock):
    """Whoever asks for the time is interrupted by the garbage collector, which finds what is in `forgotten`."""

    def __init__(self):
        super().__init__()
        self.forgotten = []

    def now(self):
        self.forgotten.clear()
        return super().now()


async def _begin_stream(model):
    return await model("hi", stream=True)


async def _begin_call(model):
    call = model("hi")
    call.send(None)  # it waits for the model, and no task runs it
    return call


@pytest.mark.parametrize("begin", [_begin_stream, _begin_call])
async def test_what_is_collected_in_the_midst_of_a_change_of_its_pool_gives_back_its_permit(begin):
    """Right after it, and so lets in who waits: a stream, and a call that nobody will go on with."""
    clock = InterruptedClock()
    pool = RateLimitPool("t", LimitOptions(concurrency=1), clock)
    model = Limit(ScriptedChatModel(steps=[{"say": "a b c", "wait": 1, "pause": 1}]), pool)
    forgotten = await begin(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        clock.forgotten.append(forgotten)
        del forgotten
        async with asyncio.timeout(5):
            (await pool.acquire()).settle()  # the pool asks for the time while it is changed
    assert clock.forgotten == []
    assert pool.left().taken == 0
