"""Budgets are kept before a call, by setting aside what it may use, and survive restarts."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from modelhub import BudgetExceeded, ConnectFailed, Hub
from modelhub.accounting.options import find_period
from modelhub.core.context import Services
from modelhub.testing import VirtualClock, run_virtual
from tests.tables import table

DOLLARS = {"input": 1_000_000, "output": 1_000_000}  # a dollar a token
# A call of "one two three" answered by "ok" uses 4 tokens by its words; the guess before it is 13 // 4 + 1 = 4.
HI = "one two three"


def hub_of(budgets, start=datetime(2026, 1, 1, tzinfo=UTC), models=None, chains=None, **more):
    entry = {"provider": "scripted", "reply": "ok", "pricing": DOLLARS}
    config = {
        "version": 1,
        "models": models or {"m": entry, "n": entry},
        "chains": {"c": {"models": ["m", "n"]}, **(chains or {})},
        "budgets": budgets,
        **more,
    }
    return Hub.from_dict(config, services=Services(clock=VirtualClock(start)))


async def ask(hub, name="m", times=1, tags=None, **options):
    """How many of *times* calls were answered."""
    answered = 0
    for _ in range(times):
        try:
            await hub.get(name)(HI, tags=tags, **options)
        except BudgetExceeded:
            continue
        answered += 1
    return answered


def spent(hub):
    return {(one["budget"], one["of"]): one["spent"] for one in hub.usage.budgets}


@pytest.mark.parametrize("measure", ["tokens", "usd"])
def test_a_call_that_would_exceed_the_budget_is_not_made(measure):
    """The error says what, how much, and when to come back; nobody else is asked, and no attempt is made."""
    hub = hub_of({"small": {measure: 14, "per": "day", "model": "m"}})
    assert run_virtual(ask(hub, times=5)) == 3
    with pytest.raises(BudgetExceeded) as caught:
        run_virtual(hub.get("c")(HI))
    unit = {"tokens": "14 tokens", "usd": "$14"}[measure]
    assert str(caught.value).startswith(f"budget `small` ({unit} per day) has ")
    assert "resets at 2026-01-02 00:00 UTC" in str(caught.value)
    assert 86_300 < caught.value.retry_after <= 86_400
    assert hub.usage.total.attempts == 3
    assert spent(hub) == {("small", None): "12"}
    assert run_virtual(ask(hub, "n")) == 1


@table(
    ("budget", "counted", "not_counted"),
    [
        ({"model": "m"}, [("m", {}), ("c", {})], [("n", {})]),
        ({"chain": "c"}, [("c", {})], [("m", {}), ("n", {})]),
        ({"chain": "m"}, [("m", {})], [("c", {})]),
        ({"tag": "job=nightly"}, [("n", {"job": "nightly"})], [("n", {"job": "daily"}), ("n", {})]),
        ({"tag": "job="}, [("n", {"job": ""})], [("n", {"job": "daily"})]),
        ({}, [("m", {}), ("c", {}), ("n", {"user": "1"})], []),
    ],
)
def test_a_budget_is_on_a_model_a_chain_a_tag_or_everything(budget, counted, not_counted):
    """What is not on it is not bound by it."""

    async def main():
        for name, tags in (*counted, *not_counted):
            hub = hub_of({"b": {"tokens": 5, "per": "hour", **budget}})
            assert await ask(hub, name, 2, tags) == (1 if (name, tags) in counted else 2)

    run_virtual(main())


def test_each_value_of_a_tag_has_a_budget_of_its_own():
    """`tag: user` bounds every user, and those without the tag not at all."""
    hub = hub_of({"each": {"tokens": 9, "per": "day", "tag": "user"}})

    async def main():
        assert await ask(hub, times=3, tags={"user": "1"}) == 2
        assert await ask(hub, times=3, tags={"user": "2"}) == 2
        assert await ask(hub, times=3) == 3

    run_virtual(main())
    assert spent(hub) == {("each", "1"): "8", ("each", "2"): "8"}


def test_calls_under_way_are_set_aside():
    """Ten at once cannot spend what is there for two."""
    slow = {"provider": "scripted", "steps": [{"say": "ok", "wait": "5s"}]}
    hub = hub_of({"b": {"tokens": 9, "per": "day"}}, models={"m": slow, "n": slow})

    async def main():
        answers = await asyncio.gather(*(ask(hub) for _ in range(10)))
        assert sum(answers) == 2
        held = asyncio.ensure_future(ask(hub, max_tokens=1))
        await asyncio.sleep(1)
        assert hub.usage.budgets[0]["held"] == "0", "five tokens did not fit in the last one"
        assert await held == 0

    run_virtual(main())


def test_what_a_call_may_answer_is_set_aside_too():
    """`max_tokens` if the call says so, else as much as the answers before it."""
    hub = hub_of({"b": {"tokens": 100, "per": "day"}})
    assert run_virtual(ask(hub, max_tokens=96)) == 1
    assert run_virtual(ask(hub, max_tokens=96)) == 0, "what the first did not use is free again, 4 are not"
    assert run_virtual(ask(hub, max_tokens=92)) == 1
    long = {"provider": "scripted", "reply": "a b c d e f g h"}
    hub = hub_of({"b": {"tokens": 20, "per": "day"}}, models={"m": long, "n": long})
    assert run_virtual(ask(hub, times=3)) == 1, "the second is expected to be as long as the first"


def test_failures_free_what_was_set_aside_and_what_was_billed_counts():
    """A refused attempt costs nothing; a lost one is estimated."""
    steps = [{"fail": "RateLimited"}, {"fail": "ServerError"}, {"say": "ok"}]
    model = {"provider": "scripted", "steps": steps, "retry": {"max_attempts": 1}}
    hub = hub_of({"b": {"tokens": 100, "per": "day"}}, models={"m": model, "n": model})

    async def main():
        for expected in ("0", "4", "8"):
            await asyncio.gather(hub.get("m")(HI), return_exceptions=True)
            assert (hub.usage.budgets[0]["spent"], hub.usage.budgets[0]["held"]) == (expected, "0")
            await asyncio.sleep(30)

    run_virtual(main())


def test_a_stream_is_on_the_budget_until_it_is_settled():
    """Also when it is closed early; what came in is estimated then: 4 tokens in, and one out."""
    hub = hub_of({"b": {"tokens": 100, "per": "day"}})

    async def main():
        async with await hub.get("m")(HI, stream=True) as stream:
            assert hub.usage.budgets[0]["held"] == "4"
            await anext(stream)
        assert hub.usage.budgets[0]["held"] == "0"
        assert hub.usage.budgets[0]["spent"] == "5"

    run_virtual(main())


def test_the_budget_comes_back_with_the_next_period():
    """What was under way then is on the new one."""
    hub = hub_of({"b": {"tokens": 9, "per": "hour"}}, start=datetime(2026, 1, 1, 9, 59, tzinfo=UTC))

    async def main():
        assert await ask(hub, times=3) == 2
        await asyncio.sleep(61)
        assert await ask(hub, times=3) == 2

    run_virtual(main())
    assert hub.usage.budgets[0]["resets"] == "2026-01-01T11:00:00+00:00"


def test_a_budget_may_only_warn(caplog):
    """Once in a period."""
    hub = hub_of({"soft": {"usd": 5, "per": "hour", "on_exceeded": "warn"}})

    async def main():
        assert await ask(hub, times=4) == 4
        await asyncio.sleep(3600)
        assert await ask(hub, times=4) == 4

    run_virtual(main())
    told = [record.getMessage() for record in caplog.records if "soft" in record.getMessage()]
    assert len(told) == 2
    assert "$5 per hour" in told[0]


def test_a_chain_goes_on_where_it_is_told_to():
    """`fallback_on: [BudgetExceeded]` asks the next model when one's budget is used up."""
    hub = hub_of(
        {"b": {"tokens": 5, "per": "day", "model": "m"}},
        chains={"on": {"models": ["m", "n"], "fallback_on": ["BudgetExceeded"]}},
    )

    async def main():
        return [(await hub.get("on")(HI)).model for _ in range(3)]

    assert run_virtual(main()) == ["m", "n", "n"]


def test_what_has_no_price_is_told_and_not_counted_as_nothing(caplog, monkeypatch):
    """A budget in money that is allowed to cannot count it, and says so once for each model."""
    # A scripted answer costs nothing; here it stands for one whose price nobody knows.
    monkeypatch.setattr("modelhub.accounting.prices.FreePrice.cost", lambda *_: None)
    budget = {"usd": 1, "per": "day", "on_unpriced": "allow"}
    hub = hub_of({"b": budget}, models={"m": {"provider": "scripted"}, "n": {"provider": "scripted"}})
    assert run_virtual(ask(hub, times=3)) == 3
    (shown,) = hub.usage.budgets
    assert (shown["spent"], shown["unpriced"], shown["left"]) == ("0", 3, "1")
    assert sum("cannot count `m`" in record.getMessage() for record in caplog.records) == 1


def test_budgets_survive_a_restart(tmp_path):
    """What the ledger says was spent in this period is spent; what was spent before is not."""
    budgets = {
        "all": {"usd": 1000, "per": "month"},
        "m": {"tokens": 1000, "per": "day", "model": "m"},
        "c": {"tokens": 1000, "per": "day", "chain": "c"},
        "each": {"usd": 1000, "per": "hour", "tag": "user"},
        "night": {"usd": 1000, "per": "30d", "tag": "job=nightly"},
    }
    usage = {"ledger": str(tmp_path / "usage.db"), "batch": 0}

    def restarted(hour):
        start = datetime(2026, 1, 10, hour, tzinfo=UTC)
        return hub_of(budgets, start=start, usage=usage)

    with restarted(9) as hub:
        assert spent(hub) == dict.fromkeys([("all", None), ("m", None), ("c", None), ("night", None)], "0")
        for name, tags in (("m", {"user": "1"}), ("c", {"user": "2", "job": "nightly"}), ("n", {"job": "daily"})):
            run_virtual(ask(hub, name, tags=tags))
        before = spent(hub)
    assert before == {
        ("all", None): "12",
        ("m", None): "8",
        ("c", None): "4",
        ("each", "1"): "4",
        ("each", "2"): "4",
        ("night", None): "4",
    }
    with restarted(9) as hub:
        assert {key: Decimal(value) for key, value in spent(hub).items()} == {
            key: Decimal(value) for key, value in before.items()
        }
    with restarted(10) as hub:
        assert ("each", "1") not in spent(hub)
        assert Decimal(spent(hub)["m", None]) == 8


def test_a_ledger_that_cannot_be_read_leaves_the_budget_at_nothing(tmp_path, caplog):
    """And that is logged; the hub is made all the same."""
    (tmp_path / "usage.db").write_text("no database", encoding="utf-8")
    hub = hub_of({"b": {"tokens": 5, "per": "day"}}, usage={"ledger": str(tmp_path / "usage.db")})
    assert "budgets start at zero" in caplog.text
    assert spent(hub) == {("b", None): "0"}


def test_what_is_shown_is_of_this_period():
    """Also before the first call, and when the period is over; then the users of the last one are gone."""
    hub = hub_of({"one": {"tokens": 50, "per": "hour"}, "each": {"tokens": 50, "per": "hour", "tag": "user"}})
    assert spent(hub) == {("one", None): "0"}

    async def main():
        await ask(hub, tags={"user": "1"})
        assert spent(hub) == {("one", None): "4", ("each", "1"): "4"}
        await asyncio.sleep(3600)
        assert spent(hub) == {("one", None): "0"}
        assert hub.usage.budgets[0]["resets"] == "2026-01-01T02:00:00+00:00"

    run_virtual(main())


def test_accounts_of_past_periods_are_forgotten(monkeypatch):
    """A budget for each user of a long day does not fill the memory for ever."""
    monkeypatch.setattr("modelhub.accounting.budget.MAX_ACCOUNTS", 5)
    hub = hub_of({"b": {"tokens": 5, "per": "hour", "tag": "user"}})

    async def main():
        for user in range(8):
            await ask(hub, tags={"user": user})
        await asyncio.sleep(3600)
        await ask(hub, tags={"user": "new"})

    run_virtual(main())
    assert [of for _, of in spent(hub)] == ["new"]


def test_a_call_that_fails_otherwise_is_no_budgets_business():
    """An error before anything was sent frees what was set aside."""
    broken = {"provider": "scripted", "steps": [{"fail": "ConnectFailed"}], "retry": {"max_attempts": 1}}
    hub = hub_of({"b": {"tokens": 5, "per": "day"}}, models={"m": broken, "n": broken})

    async def main():
        for _ in range(3):
            with pytest.raises(ConnectFailed):
                await hub.get("m")(HI)

    run_virtual(main())
    assert spent(hub) == {("b", None): "0"}


@table(
    ("per", "at", "starts", "ends"),
    [
        ("hour", (2026, 5, 3, 14, 30), (2026, 5, 3, 14), (2026, 5, 3, 15)),
        ("day", (2026, 5, 3, 14, 30), (2026, 5, 3), (2026, 5, 4)),
        ("month", (2026, 12, 31, 23, 59), (2026, 12, 1), (2027, 1, 1)),
        ("month", (2028, 2, 29, 1, 0), (2028, 2, 1), (2028, 3, 1)),
        ("12h", (2026, 5, 3, 14, 30), (2026, 5, 3, 12), (2026, 5, 4, 0)),
        ("1d", (2026, 5, 3, 14, 30), (2026, 5, 3), (2026, 5, 4)),
        # 30 x 686 = 20 580 days after the epoch is 7 May 2026
        ("30d", (2026, 5, 7, 0, 0), (2026, 5, 7), (2026, 6, 6)),
        ("30d", (2026, 5, 6, 23, 59), (2026, 4, 7), (2026, 5, 7)),
    ],
)
def test_periods_are_the_calendars(per, at, starts, ends):
    """In UTC; a span is counted from the epoch."""
    assert find_period(per, datetime(*at, tzinfo=UTC)) == (datetime(*starts, tzinfo=UTC), datetime(*ends, tzinfo=UTC))
