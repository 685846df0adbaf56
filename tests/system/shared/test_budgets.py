"""Budgets that hubs of several processes keep together, in a real server."""

import asyncio
import os
import time

import pytest

from modelhub import BudgetExceeded, Hub
from modelhub.accounting.budget_store import BudgetClaim
from modelhub.shared.budgets import BudgetClient

HI = "one two three"  # four tokens with the answer, "ok"
ENTRY = {"provider": "scripted", "reply": "ok", "pricing": {"input": 1000, "output": 1000}}
QUICK = {"timeout": 0.2, "retry_interval": 0.05}


@pytest.fixture
async def hubs(shared):
    """Hubs of one file, each as another process has it."""
    made = []
    prefix = f"budget-{os.getpid()}-{time.monotonic_ns()}"

    def make_config(*, url=None, ledger=None, shared_options=None, **budget):
        return {
            "version": 1,
            "shared": {"url": url or shared.url, "prefix": prefix, **(shared_options or {})},
            "models": {"m": ENTRY},
            "budgets": {"b": {"per": "day", **budget}},
            "usage": {} if ledger is None else {"ledger": str(ledger), "batch": 0},
        }

    def make(count=1, **options):
        made.extend(Hub.from_dict(make_config(**options)) for _ in range(count))
        return made[-count:]

    make.config = make_config

    yield make
    for hub in made:
        await hub.aclose()


async def ask(hub, times=1):
    """How many of *times* calls were answered."""
    answered = 0
    for _ in range(times):
        try:
            await hub.get("m")(HI)
            answered += 1
        except BudgetExceeded:
            pass
    return answered


async def test_a_budget_holds_over_processes(hubs):
    """Fourteen tokens are three calls of four, whichever process makes them."""
    first, second = hubs(2, tokens=14)
    assert [await ask(first, 2), await ask(second, 3)] == [2, 1]
    (state,) = second.usage.budgets
    assert state["spent"] == "12"


async def test_a_budget_in_dollars_is_kept_in_millionths(hubs):
    """Four tokens at a thousand dollars a million are 4,000 millionths; a budget of 9,000 is two calls."""
    first, second = hubs(2, usd="0.009")
    assert [await ask(first, 1), await ask(second, 3)] == [1, 1]


async def test_calls_at_the_same_time_do_not_exceed_it_together(hubs):
    """What a call may use is reserved before it is made, in the store."""
    first, second = hubs(2, tokens=14)
    answered = await asyncio.gather(*(ask(hub) for hub in (first, second) for _ in range(4)))
    assert sum(answered) == 3


async def test_the_error_says_what_all_have_spent(hubs):
    """The refusal names the budget and what the other process has spent."""
    first, second = hubs(2, tokens=5)
    await ask(first)
    with pytest.raises(BudgetExceeded, match=r"budget `b` .* has [04] tokens spent and [04] tokens reserved"):
        await second.get("m")(HI)


async def test_the_ledger_mends_a_counter_that_is_lower(hubs, shared, tmp_path):
    """The store has lost its data: what the ledger knows counts, of other processes too."""
    first, second = hubs(2, tokens=14, ledger=tmp_path / "usage.db")
    assert await ask(first, 2) == 2
    async with await shared.client() as client:
        await client.flushall()
    (late,) = hubs(1, tokens=14, ledger=tmp_path / "usage.db")
    assert await ask(late, 3) == 1
    assert await ask(second, 1) == 0


@pytest.mark.parametrize("is_reserved", [True, False], ids=["reserved", "made-without-the-store"])
async def test_what_a_budget_is_told_twice_because_the_answer_was_lost_counts_once(lossy, is_reserved):
    """Servers and proxies close connections: a call is then sent again, and may have been done already."""
    client = BudgetClient(lossy.store().link())
    claims = [BudgetClaim("b", 100, 40, 0, 60, enforce=True)]
    await client.reserve([])  # the server knows the script now
    lossy.proxy.lose = b'"reserve"'
    reservation = await client.reserve(claims) if is_reserved else client.reserve_nothing(claims)
    lossy.proxy.lose = b'"settle"'
    reservation.settle([30])
    (state,) = (await client.reserve(claims)).states
    assert (state.spent, state.held, lossy.proxy.lose) == (30, 0, b"")


async def test_without_the_store_budgets_refuse(hubs, own_server):
    """`when_down: {budgets: refuse}`, the default: the call fails, and says why."""
    (hub,) = hubs(url=own_server.url(), shared_options=QUICK, tokens=100)
    await ask(hub)
    own_server.stop()
    with pytest.raises(BudgetExceeded, match=r"`b` is not known while the shared store is down"):
        await hub.get("m")(HI)
    assert hub.shared.health.budgets == "refuse"


async def test_what_was_spent_alone_is_told_when_the_store_is_back(hubs, own_server):
    """`when_down: {budgets: alone}`: the process counts by itself, and what it spent counts for all afterwards."""
    options = {**QUICK, "when_down": {"budgets": "alone"}}
    first, second = hubs(2, url=own_server.url(), shared_options=options, tokens=14)
    assert await ask(first) == 1
    with own_server.hung():
        assert await ask(first, 2) == 2
    while not (first.shared.health.ok and second.shared.health.ok):
        await asyncio.sleep(0.002)
    await asyncio.sleep(0)
    while (answered := await ask(second)) and not answered:
        pass
    assert await ask(second, 3) <= 1


async def test_a_hub_that_reloads_keeps_its_store(hubs):
    """A change of a budget goes on with what was spent."""
    first, second = hubs(2, tokens=14)
    await ask(first, 2)
    first.reload(hubs.config(tokens=10))
    assert await ask(first) == 0
    assert await ask(second) == 1
