"""Limit: how rates are written, and that aiolimiter's bucket is what it is taken for."""

import asyncio

import pytest
from aiolimiter import AsyncLimiter
from pydantic import ValidationError

from modelhub.middleware.limit.bucket import Bucket
from modelhub.middleware.limit.layer import Rate
from modelhub.middleware.limit.options import LimitOptions
from modelhub.testing import VirtualClock
from tests.tables import table

MINUTE, DAY = 60.0, 86_400.0


@table(
    ("written", "rates"),
    [
        ("10/s", [(10, 1.0)]),
        (" 10 / s ", [(10, 1.0)]),
        ("500/min", [(500, MINUTE)]),
        ("500/m", [(500, MINUTE)]),
        ("100/10s", [(100, 10.0)]),
        ("5/0.5 s", [(5, 0.5)]),
        ("3/250ms", [(3, 0.25)]),
        ("100_000/day", [(100_000, DAY)]),
        ("7/7d", [(7, 7 * DAY)]),
        (["10/s", "500/min"], [(10, 1.0), (500, MINUTE)]),
    ],
)
def test_a_rate_is_an_amount_and_a_period(written, rates):
    """In any unit, or several that all hold."""
    options = LimitOptions(requests=written)
    assert list(options.rates()) == [("requests", Rate(*rate)) for rate in rates]


def test_every_way_of_writing_may_be_mixed():
    """The keys per minute and the general ones, for everything that is counted."""
    options = LimitOptions(
        requests_per_minute=1, requests="2/s", tokens_per_minute=3, input_tokens="4/s", output_tokens_per_minute=5
    )
    assert [(what, str(rate)) for what, rate in options.rates()] == [
        ("requests", "1/min"),
        ("requests", "2/s"),
        ("tokens", "3/min"),
        ("input_tokens", "4/s"),
        ("output_tokens", "5/min"),
    ]
    assert options.model_dump(mode="json")["requests"] == ["2/s"]
    assert LimitOptions(**options.model_dump(mode="json")) == options


@table(
    ("written", "told"),
    [
        (500, "has no period"),
        ("500", "expected a rate such as 10/s"),
        ("10/fortnight", "expected a rate such as 10/s"),
        ("-1/s", "expected a rate"),
        ("0/s", "between 1 and"),
        ("1/0s", "between 1 ms and 31 days"),
        ("1/40d", "between 1 ms and 31 days"),
        (True, "expected a rate"),
        ([], "is empty"),
        (["10/s", 5], "has no period"),
    ],
)
def test_what_is_no_rate_is_told(written, told):
    """With an example of what is."""
    with pytest.raises(ValidationError, match=told):
        LimitOptions(tokens=written)


async def test_the_bucket_is_aiolimiters():
    """One after another, attempts pass when aiolimiter itself would let them."""
    clock, theirs, ours = VirtualClock(), [], []
    limiter, bucket = AsyncLimiter(5, 10), Bucket(5, 0.5)
    pauses = [0, 0, 3, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0]
    for pause in pauses:
        await asyncio.sleep(pause)
        await limiter.acquire(2)
        theirs.append(clock.now())
    start = clock.now()
    for pause in pauses:
        await asyncio.sleep(pause)
        while (wait := bucket.wait(2, clock.now())) > 0:
            await asyncio.sleep(wait)
        bucket.add(2, clock.now())
        ours.append(clock.now() - start)
    assert ours == pytest.approx(theirs)


def test_the_bucket_takes_what_is_larger_than_it_is():
    """When it is empty; and it takes back what was not used."""
    bucket = Bucket(10, 1.0)
    assert bucket.wait(30, 0.0) == 0.0
    bucket.add(30, 0.0)
    assert bucket.wait(1, 0.0) == pytest.approx(21.0)
    assert bucket.wait(1, 0.0, ahead=4) == pytest.approx(25.0)
    bucket.add(-25, 1.0)
    assert bucket.wait(1, 1.0) == 0.0
