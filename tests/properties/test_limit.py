"""Limits' promises, over random arrivals, amounts, pools, accidents and vendors, in virtual time.

MODELHUB_LONG=1 tries four times as many, and of what the vendors say ten times.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelhub.core.errors import LimitRejected
from modelhub.middleware.limit.layer import Amounts, AttemptResult, Permit, RateLimitPool, WaitLimits
from modelhub.middleware.limit.options import LimitOptions
from modelhub.testing import VirtualClock, run_virtual

LONG = bool(os.environ.get("MODELHUB_LONG"))
# Small rates, so that a handful of attempts fills them.
rates = st.builds(
    lambda amount, period: f"{amount}/{period}", st.integers(1, 12), st.sampled_from(["1s", "10s", "m", "90s", "h"])
)
token_rates = st.builds(
    lambda amount, period: f"{amount}/{period}", st.integers(40, 400), st.sampled_from(["10s", "m", "h"])
)
pools = st.fixed_dictionaries(
    {},
    optional={
        "requests_per_minute": st.integers(1, 12),
        "requests": st.lists(rates, min_size=1, max_size=2),
        "tokens": st.lists(token_rates, min_size=1, max_size=2),
        "input_tokens": token_rates,
        "output_tokens": token_rates,
        "concurrency": st.integers(1, 4),
        "burst": st.sampled_from([0.0, 0.2, 1.0]),
        "max_queue": st.integers(0, 8),
        "max_wait": st.sampled_from([0.5, 30]),
    },
).map(lambda found: LimitOptions(**found))


@dataclass(frozen=True)
class Plan:
    """One attempt: when it comes, what it takes, how long it lasts, and how it ends."""

    after: float
    input: int
    output: int
    lasts: float
    used: float | None  # the share of the output that it really uses
    end: str  # answered, failed, unsent, limited
    cancel: float | None
    deadline: float | None
    told: dict  # what the vendor says is left, and for how long
    source: str


plans = st.lists(
    st.builds(
        Plan,
        after=st.sampled_from([0, 0, 0, 0.01, 0.5, 3, 7, 61]),
        input=st.integers(0, 30),
        output=st.integers(0, 60),
        lasts=st.sampled_from([0, 0.5, 20]),
        used=st.none() | st.floats(0, 1),
        end=st.sampled_from(["answered", "answered", "answered", "failed", "unsent", "limited"]),
        cancel=st.none() | st.sampled_from([0, 0.005, 1, 15]),
        deadline=st.none() | st.sampled_from([0.5, 30, 600]),
        told=st.just({}),
        source=st.just(""),
    ),
    min_size=1,
    max_size=30,
)


@dataclass
class Diary:
    """What happened, in order."""

    asked: list = field(default_factory=list)
    passed: list = field(default_factory=list)  # (number, time, amounts)
    permits: dict = field(default_factory=dict)
    told: list = field(default_factory=list)  # (number, time, how many attempts had been admitted by then)
    refused: list = field(default_factory=list)
    gone: set = field(default_factory=set)
    pauses: list = field(default_factory=list)
    unsent: set = field(default_factory=set)
    most_at_once: int = 0
    at_once: int = 0


def result(plan):
    """What the attempt's end says."""
    used = None if plan.used is None else Amounts(plan.input, int(plan.output * plan.used))
    return AttemptResult(
        used,
        sent=plan.end != "unsent",
        answered=plan.end == "answered",
        limited=plan.end == "limited",
        retry_after=5.0 if plan.end == "limited" else None,
        told=plan.told if plan.end != "unsent" else None,
    )


async def attempt(number, plan, pool, clock, diary):
    diary.asked.append(number)
    amounts = Amounts(plan.input, plan.output)
    deadline = None if plan.deadline is None else clock.now() + plan.deadline
    try:
        permit = await pool.acquire(amounts, WaitLimits(until=deadline), source=plan.source)
    except LimitRejected:
        diary.refused.append(number)
        return
    except asyncio.CancelledError:
        diary.gone.add(number)
        raise
    diary.passed.append((number, permit.began, amounts))
    diary.permits[number] = permit
    diary.at_once += 1
    diary.most_at_once = max(diary.most_at_once, diary.at_once)
    try:
        await asyncio.sleep(plan.lasts)
    finally:
        diary.at_once -= 1
        if plan.end == "limited":
            diary.pauses.append((clock.now(), clock.now() + 5))
        if plan.end == "unsent":
            diary.unsent.add(number)
        elif pool.counters:
            diary.told.append((number, clock.now(), pool.counters[0].admitted))
        permit.settle(result(plan))
        permit.settle(result(plan))  # twice is once


async def play(options, plans):
    clock = VirtualClock()
    pool, diary, tasks = RateLimitPool("pool", options, clock), Diary(), []
    for number, plan in enumerate(plans):
        await asyncio.sleep(plan.after)
        task = asyncio.ensure_future(attempt(number, plan, pool, clock, diary))
        if plan.cancel is not None:
            asyncio.get_running_loop().call_later(plan.cancel, task.cancel)
        tasks.append(task)
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task
    return pool, diary


def fits(options, plan):
    """Whether the attempt may pass at all."""
    amounts = Amounts(plan.input, plan.output)
    return all(amounts.of(what) <= rate.amount for what, rate in options.rates())


@settings(max_examples=400 if LONG else 40, deadline=None)
@given(pools, plans)
def test_no_window_holds_more_than_the_rate_and_nobody_is_overtaken_or_forgotten(options, plans):
    """Whatever comes, in whatever order: rates, places and the queue's order are kept, and all is given back."""
    pool, diary = run_virtual(play(options, plans), grace=0)
    for what, rate in options.rates():
        # Every window that could hold too much ends with an admission. What was used counts, or what was reserved
        # where nobody knows; nobody used more here than was reserved.
        counted = [
            (at, of_use(plans[number], what, amounts))
            for number, at, amounts in diary.passed
            if number not in diary.unsent
        ]
        for end in {at for at, _ in counted}:
            held = sum(amount for at, amount in counted if end - rate.period <= at <= end)
            assert held <= rate.amount, (what, rate, end)
    if options.concurrency is not None:
        assert diary.most_at_once <= options.concurrency
    passed = sorted((number, at) for number, at, _ in diary.passed)
    assert [at for _, at in passed] == sorted(at for _, at in passed)  # first come, first served
    for began, until in diary.pauses:
        assert not any(began < at < until - 1e-9 for _, at, _ in diary.passed)
    # Everybody has passed, was refused, or has gone by itself.
    assert sorted([*(number for number, _ in passed), *diary.refused, *diary.gone]) == sorted(diary.asked)
    bounded = options.max_queue is not None or options.max_wait is not None
    for number in diary.refused:
        assert bounded or plans[number].deadline is not None or not fits(options, plans[number])
    assert_empty(pool)


# Rates that leave room, so that it is the vendor's word that counts.
roomy = st.fixed_dictionaries(
    {"requests": st.sampled_from(["100/s", "100/10s", "100/m", "9/m"])},
    optional={"tokens": st.sampled_from(["1000/s", "1000/m"]), "concurrency": st.integers(1, 8)},
).map(lambda found: LimitOptions(**found, burst=1))
seconds = st.sampled_from([0.5, 5, 30, 59])
told = st.builds(
    Plan,
    after=st.sampled_from([0, 0, 0.01, 0.5, 3, 7]),
    input=st.integers(0, 5),
    output=st.integers(0, 5),
    lasts=st.sampled_from([0, 0.5, 3, 20]),
    used=st.none() | st.floats(0, 1),
    end=st.sampled_from(["answered", "answered", "answered", "failed", "unsent"]),
    cancel=st.none(),
    deadline=st.none(),
    told=st.fixed_dictionaries(
        {},
        optional={"requests": st.tuples(st.integers(0, 8), seconds), "tokens": st.tuples(st.integers(0, 60), seconds)},
    ),
    source=st.sampled_from("aab"),
)


def instant(**changes):
    """An attempt of an instant, in answer to which the vendor says nothing."""
    nothing = {"cancel": None, "deadline": None, "told": {}, "source": "a"}
    return Plan(
        **{"after": 0, "input": 0, "output": 0, "lasts": 0, "used": None, "end": "answered", **nothing, **changes}
    )


@settings(max_examples=640 if LONG else 25, deadline=None)
# What passes as soon as the claim leaves room for it, and is answered, does not disprove the claim.
@example(
    LimitOptions(requests="100/10s", burst=1),
    [
        instant(told={"requests": (4, 5)}),
        *[instant()] * 2,
        instant(lasts=0.5, told={"requests": (1, 5)}),
        *[instant()] * 3,
    ],
)
@given(roomy, st.lists(told, min_size=5, max_size=30))
def test_until_its_reset_no_more_passes_than_the_vendor_said(options, plans):
    """From the request that it answered on, whatever our own rates allow, unless the answer to a later one differs."""
    _, diary = run_virtual(play(options, plans))
    rank = {number: permit.reservations[0].number for number, permit in diary.permits.items()}
    for place, (number, heard, admitted) in enumerate(diary.told):
        for what in plans[number].told.keys() & {what for what, _ in options.rates()}:
            left, seconds = plans[number].told[what]
            newer = [
                at
                for other, at, _ in diary.told[place + 1 :]
                if rank[other] > rank[number]
                and what in plans[other].told
                and plans[other].source == plans[number].source
            ]
            ends = min([heard + seconds, *newer])
            counted = [
                (rank[other], of_use(plans[other], what, amounts))
                for other, at, amounts in diary.passed
                if rank[other] > rank[number] and ends - seconds < at < ends and other not in diary.unsent
            ]
            # What was admitted before anybody knew may have been too much.
            if any(of > admitted for of, _ in counted):
                assert sum(amount for _, amount in counted) <= left, (what, left, seconds)


def of_use(plan, what, amounts):
    """How much of *what* the attempt has really used."""
    if plan.used is None or what == "requests":
        return amounts.of(what)
    return Amounts(plan.input, int(plan.output * plan.used)).of(what)


def assert_empty(pool):
    """Nothing is reserved, nobody waits, no timer runs."""
    assert pool.slots.taken == 0
    assert not pool.queue
    assert not pool.timers
    assert all(counter.reserved == 0 and counter.queued == 0 for counter in pool.counters)
    for window in (counter.window for counter in pool.counters):
        recent = window.recent(pool.clock.now())
        assert window.used == sum(amount for _, amount in recent)


@settings(max_examples=100 if LONG else 25, deadline=None)
@given(pools, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 60)), min_size=1, max_size=20))
def test_whoever_waits_and_leaves_changes_nothing(options, amounts):
    """A pool in which some waited and were cancelled admits the next exactly as if they had never come."""

    async def last(crowd):
        clock = VirtualClock()
        pool = RateLimitPool("pool", options, clock)
        held = await pool.acquire(Amounts())
        tasks = [asyncio.ensure_future(pool.acquire(Amounts(*each))) for each in amounts] if crowd else []
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        for task in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(task, Permit):
                task.settle(AttemptResult(sent=False))  # it had passed at once
        held.settle()
        with contextlib.suppress(LimitRejected):
            (await pool.acquire(Amounts(5, 5))).settle()
        assert_empty(pool)
        return clock.now(), str(pool.left())

    assert run_virtual(last(crowd=True), grace=0) == run_virtual(last(crowd=False), grace=0)
