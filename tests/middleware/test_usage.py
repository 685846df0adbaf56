"""Usage: what an answer cost is on the answer, on the record of its attempt, and in the call's end."""

from decimal import Decimal

import pytest
from pydantic import BaseModel

from modelhub.core.errors import CallError, StreamBroken
from modelhub.core.response import ChatUsage
from modelhub.middleware.usage.options import PricingOptions

PRICE = {"input": "2.50", "output": 10}
TEN = " ".join(["word"] * 10)


class Named(BaseModel):
    """What is asked for."""

    name: str


def priced(world, *steps, **pricing):
    """A lone model with a price."""
    return world.hub({"m": {"steps": list(steps), "pricing": PRICE | pricing}}).get("m")


async def test_a_reply_says_what_it_cost(world):
    """Three words in, ten out: 3 x 2.50 and 10 x 10 dollars a million."""
    reply = await priced(world, {"say": TEN})("one two three")
    assert reply.usage.cost == Decimal("0.0001075")
    assert reply.attempts[0].usage.cost == Decimal("0.0001075")
    assert world.settled().usage.cost == Decimal("0.0001075")


async def test_a_stream_says_it_at_its_end(world):
    """The last snapshot has the same cost as a whole reply."""
    stream = await priced(world, {"say": TEN})("one two three", stream=True)
    assert (await stream.final()).usage.cost == Decimal("0.0001075")
    assert world.settled().usage.cost == Decimal("0.0001075")


@pytest.fixture
def without_prices(monkeypatch):
    """A scripted answer costs nothing; here it stands for one whose price nobody knows."""
    monkeypatch.setattr("modelhub.accounting.prices.FreePrice.cost", lambda *_: None)


async def test_without_a_price_the_cost_is_unknown(world, without_prices):
    """Not nothing."""
    reply = await world.hub({"m": {"say": TEN}}).get("m")("hi")
    assert reply.usage.cost is None
    assert world.settled().usage.cost is None


async def test_a_price_of_nothing_is_nothing(world):
    """A model at home costs 0, and that is known."""
    reply = await priced(world, {"say": TEN}, input=0, output=0)("hi")
    assert reply.usage.cost == 0


async def test_each_model_has_its_own_price(world):
    """What a call used up on its way is all counted: also an answer that was rejected."""
    hub = world.hub(
        {
            "a": {
                "steps": [{"data": {"wrong": 1}}],
                "pricing": {"input": 1, "output": 1},
                "retry": {"max_attempts": 1},
            },
            "b": {"steps": [{"data": {"name": "x"}}], "pricing": {"input": 100, "output": 100}},
        },
        {"c": {"models": ["a", "b"]}},
    )
    reply = await hub.get("c")("hi", structured_model=Named)
    first, second = (attempt.usage for attempt in reply.attempts)
    assert first.cost == Decimal(first.total_tokens) / 1_000_000
    assert second.cost == Decimal(second.total_tokens) / 10_000
    assert reply.usage.cost == second.cost
    assert world.settled().usage.cost == first.cost + second.cost


async def test_a_part_without_a_price_leaves_the_sum_unknown(world, without_prices):
    """A sum of known and unknown is unknown."""
    hub = world.hub(
        {
            "a": {"steps": [{"data": {"wrong": 1}}], "retry": {"max_attempts": 1}},
            "b": {"steps": [{"data": {"name": "x"}}], "pricing": PRICE},
        },
        {"c": {"models": ["a", "b"]}},
    )
    await hub.get("c")("hi", structured_model=Named)
    assert world.settled().usage.cost is None


async def test_a_failure_without_usage_costs_nothing_known(world):
    """There is nothing to price."""
    with pytest.raises(CallError):
        await priced(world, {"fail": "InvalidRequest"})("hi")
    assert world.settled().usage is None


async def test_a_broken_stream_is_told_even_if_nothing_is_known(world):
    """No usage came: none is made up here."""
    with pytest.raises(StreamBroken):
        await (await priced(world, {"say": "one two", "break_after": 1})("hi", stream=True)).final()
    assert world.settled().how == "failed"


def test_cached_tokens_have_their_own_price():
    """Parts of the input are taken out of it, not counted twice."""
    usage = ChatUsage(1000, 100, cache_read_tokens=600, cache_write_tokens=300)
    assert PricingOptions(input=10, output=0, cache_read=1, cache_write=20).cost(usage) == Decimal("0.0076")
    assert PricingOptions(input=10, output=0).cost(usage) == Decimal("0.01")


def test_prices_are_exact():
    """Decimal all the way: no 0.30000000000000004."""
    assert PricingOptions(input="0.1", output="0.2").cost(ChatUsage(1_000_000, 1_000_000)) == Decimal("0.3")
