"""What vendors' headers say is left: read from every form, and heeded by everybody in the limit's pool."""

import asyncio
import contextlib
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import anthropic  # noqa: F401 - takes seconds to load, which virtual time does not wait for
import openai  # noqa: F401
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelhub import BadReply, Hub, LimitRejected, Overloaded, RateLimited, RequestRefused
from modelhub.core.context import Services
from modelhub.middleware.limit.layer import Limit
from modelhub.providers.http.rate_limit_headers import parse_rate_limit_headers
from modelhub.testing import CannedResponse, FaultServer, VirtualClock, faults, run_virtual
from tests.tables import table

WALL = datetime(2026, 1, 1, tzinfo=UTC)  # when virtual time begins
MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-haiku-4-5"}
EACH = table("kind", MODELS)
# The first requests go through the SDK, later ones by a shorter way.
OFTEN = table("before", [0, 3], ids=["first", "later"])
BOTH = table("stream", [False, True], ids=["whole", "stream"])


def headers(kind, left, seconds, what="requests"):
    """How a vendor says it, *seconds* after virtual time has begun."""
    if kind == "openai":
        return {f"x-ratelimit-remaining-{what}": str(left), f"x-ratelimit-reset-{what}": f"{seconds}s"}
    until = (WALL + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")
    return {f"anthropic-ratelimit-{what}-remaining": str(left), f"anthropic-ratelimit-{what}-reset": until}


# -- reading -----------------------------------------------------------------------------------------------------------


@table(
    ("reset", "seconds"),
    [
        ("1s", 1),
        ("6m0s", 360),
        ("20ms", 0.02),
        ("2m59.56s", 179.56),
        ("1h2m", 3720),
        ("500us", 0.0005),
        ("55", 55),
        ("33011.382867", 33011.382867),
        (str(WALL.timestamp() + 40), 40),
        ("2026-01-01T00:00:30Z", 30),
        ("2026-01-01T01:00:30.5+01:00", 30.5),
    ],
)
def test_a_reset_is_read_in_every_form(reset, seconds):
    """Go's durations, plain seconds, Unix time, and the hour in RFC 3339."""
    found = parse_rate_limit_headers({"x-ratelimit-remaining-tokens": "17", "x-ratelimit-reset-tokens": reset}, WALL)
    assert found == {"tokens": (17, pytest.approx(seconds))}


GARBAGE = [
    ("", "10s"),
    ("-1", "0"),  # Azure, where it does not know
    ("-1", "10s"),
    ("1.5", "10s"),
    ("many", "10s"),
    ("9" * 5000, "10s"),
    ("0", ""),
    ("0", "0s"),
    ("0", "-5s"),
    ("0", "soon"),
    ("0", "10 parsecs"),
    ("0", "nan"),
    ("0", "inf"),
    ("0", "1e3"),
    ("0", "9" * 30 + "h"),
    ("0", "366h" * 3),
    ("0", "2025-12-31T23:59:59Z"),  # over
    ("0", "9999-12-31T23:59:59Z"),
    ("0", "2026-13-01T00:00:00Z"),
]


@table(("remaining", "reset"), GARBAGE)
def test_what_cannot_be_read_says_nothing(remaining, reset):
    """Garbage, negatives, absurd times, a reset that is over or not given: no error, and no bound."""
    assert (
        parse_rate_limit_headers(
            {"x-ratelimit-remaining-requests": remaining, "x-ratelimit-reset-requests": reset}, WALL
        )
        is None
    )
    assert parse_rate_limit_headers({"x-ratelimit-remaining-requests": remaining}, WALL) is None
    assert parse_rate_limit_headers({"content-type": "text/html"}, WALL) is None
    assert parse_rate_limit_headers(None, WALL) is None


def test_every_limit_is_told_apart():
    """Anthropic counts requests, tokens, input and output; Cerebras has the period in the name."""
    whats = ["requests", "tokens", "input-tokens", "output-tokens"]
    given = {name: value for n, what in enumerate(whats) for name, value in headers("anthropic", n, 9, what).items()}
    named = {what.replace("-", "_"): (n, 9.0) for n, what in enumerate(whats)}
    assert parse_rate_limit_headers(given, WALL) == named
    day = {"x-ratelimit-remaining-requests-day": "5", "x-ratelimit-reset-requests-day": "33011.5"}
    assert parse_rate_limit_headers(day, WALL) == {"requests": (5, 33011.5)}
    assert parse_rate_limit_headers({**day, **headers("openai", 3, 7)}, WALL) == {"requests": (3, 7.0)}


def test_the_servers_clock_goes_before_ours():
    """An hour to come is counted from the answer's own date."""
    given = {**headers("anthropic", 4, 90), "date": "Thu, 01 Jan 2026 00:01:00 GMT"}
    assert parse_rate_limit_headers(given, WALL - timedelta(days=3)) == {"requests": (4, 30.0)}


words = st.text("0123456789hmsnuµ.-+:TZ eE٣", max_size=30) | st.text(max_size=50) | st.datetimes().map(str)


@given(words, words, st.none() | words)
def test_whatever_a_header_holds_it_is_read_or_passed_over(remaining, reset, date):
    """No header raises, and nothing that is told is below zero or without an end."""
    for form in ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}"):
        given = {form.format("remaining"): remaining, form.format("reset"): reset}
        found = parse_rate_limit_headers(given if date is None else {**given, "date": date}, WALL)
        for left, seconds in (found or {}).values():
            assert left >= 0
            assert 0 < seconds <= 31 * 86_400


# -- heeding -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def pooled(kind, answer=None, chains=None, **limit):
    """A hub, the server and the pool of `a` and `b`, two models of *kind*; `out` and `other` are in no pool.

    *answer* is what `a` gets; the others get one that says nothing of limits.
    """
    async with FaultServer("Hello.") as server:
        server.script("a", (), answer=answer)
        entries = {
            name: {
                "provider": kind,
                "model_name": MODELS[kind],
                "api_key": "key-of-test",
                "base_url": server.url(name),
                "retry": {"max_attempts": 1},
                **({"limit": "t"} if name in "ab" else {}),
            }
            for name in ("a", "b", "out")
        }
        entries["other"] = {"provider": "scripted", "reply": "other"}
        limits = {"t": limit or {"requests": "9/m"}}
        config = {"version": 1, "models": entries, "chains": chains or {}, "limits": limits}
        async with Hub.from_dict(config, environ={}, services=Services(VirtualClock())) as hub:
            layers = hub.get("a").models[0].stack()
            yield hub, server, next(layer for layer in layers if isinstance(layer, Limit)).pool


async def read(model, stream):
    """Ask *model*, and read the answer to its end."""
    reply = await model("hi", stream=stream)
    return await reply.final() if stream else reply


def now():
    """Seconds since virtual time began; sockets let a little of it pass."""
    return asyncio.get_running_loop().time()


def lefts(pool):
    """How much is left of each rate."""
    return [rate.left for rate in pool.left().rates]


@EACH
@BOTH
@OFTEN
def test_others_in_the_pool_wait_for_what_an_answer_says(kind, stream, before):
    """Nothing is left for thirty seconds: another model of the pool asks then, and not before."""

    async def main():
        async with pooled(kind) as (hub, server, pool):
            for _ in range(before):
                await read(hub.get("a"), stream)
            server.script("a", (), answer=CannedResponse("x", headers=headers(kind, 0, 30)))
            await read(hub.get("a"), stream)
            assert lefts(pool) == [0]
            await hub.get("b")("hi")
            return now()

    assert run_virtual(main()) == pytest.approx(30, abs=0.5)


@EACH
def test_a_stream_tells_when_it_begins_and_not_again_at_its_end(kind):
    """The pool hears with the first content: the time is right then; when the stream is over it is long past."""

    async def main():
        slow = CannedResponse("one two three four five", interval=20, headers=headers(kind, 2, 30))
        async with pooled(kind, answer=slow) as (hub, _, pool):
            stream = await hub.get("a")("hi", stream=True)
            assert lefts(pool) == [2]
            began = now()
            for _ in range(2):
                await hub.get("b")("hi")
            assert now() - began < 1
            await hub.get("b")("hi")
            third = now()
            await stream.final()
            assert now() > third + 62
            return third, lefts(pool)

    third, left = run_virtual(main())
    assert third == pytest.approx(30, abs=0.5)
    assert left == [9]  # nothing was within the last minute


@EACH
@BOTH
@OFTEN
@table(("code", "error"), [(429, RateLimited), (503, Overloaded), (400, RequestRefused)])
def test_a_refusal_tells_too(kind, stream, before, code, error):
    """Errors have the same headers, plain and at a stream's opening."""

    async def main():
        async with pooled(kind) as (hub, server, pool):
            for _ in range(before):
                await read(hub.get("a"), stream)
            server.script("a", faults.status(code, headers=headers(kind, 0, 30), error_code="x"))
            with pytest.raises(error):
                await hub.get("a")("hi", stream=stream)
            assert lefts(pool) == [0]
            await hub.get("b")("hi")
            return now()

    assert run_virtual(main()) == pytest.approx(30, abs=0.5)


@EACH
@BOTH
def test_an_answer_that_cannot_be_used_tells_too(kind, stream):
    """Headers came with what says too little, plain and streamed."""

    async def main():
        async with pooled(kind, answer=CannedResponse("", headers=headers(kind, 3, 30))) as (hub, server, pool):
            server.script("a", faults.no_end_mark(), answer=CannedResponse("", headers=headers(kind, 3, 30)))
            with contextlib.suppress(BadReply):  # an empty answer is none, or none of one word, as the vendor has it
                await hub.get("a")("hi", stream=stream)
            return lefts(pool)

    assert run_virtual(main()) == [3]


@EACH
def test_who_has_another_model_behind_does_not_wait_for_the_vendor(kind):
    """Too little is left for longer than ten seconds: the chain moves on at once, and says why."""

    async def main():
        answer = CannedResponse("x", headers=headers(kind, 0, 30))
        async with pooled(kind, answer=answer, chains={"main": {"models": ["b", "other"]}}) as (hub, server, _):
            await hub.get("a")("hi")
            reply = await hub.get("main")("hi")
            return reply, server.requests("b"), now()

    reply, asked, at = run_virtual(main())
    assert (reply.text, asked, at < 1) == ("other", [], True)
    assert reply.attempts[0].outcome == "LimitRejected"
    assert "has only 0 requests left, as the vendor said" in reply.attempts[0].message


@EACH
def test_who_has_no_time_for_it_is_refused(kind):
    """A call whose deadline is before the reset is told at once."""

    async def main():
        answer = CannedResponse("x", headers=headers(kind, 0, 30))
        async with pooled(kind, answer=answer, chains={"main": {"models": ["b"], "deadline": "8s"}}) as (hub, _, _):
            await hub.get("a")("hi")
            with pytest.raises(LimitRejected, match="no room for"):
                await hub.get("main")("hi")
            return now()

    assert run_virtual(main()) < 1


@EACH
@BOTH
def test_more_than_our_rate_widens_nothing(kind, stream):
    """A vendor that has 5000 left does not change that nine a minute pass."""

    async def main():
        async with pooled(kind, answer=CannedResponse("x", headers=headers(kind, 5000, 60))) as (hub, _, pool):
            for _ in range(9):
                await read(hub.get("a"), stream)
            began, left = now(), lefts(pool)
            await hub.get("a")("hi")
            return left, began, now()

    left, began, at = run_virtual(main())
    assert (left, began < 60) == ([0], True)
    assert at > 60


@EACH
@table(("remaining", "reset"), GARBAGE)
def test_garbage_changes_nothing(kind, remaining, reset):
    """Headers that cannot be read are as good as none."""

    async def main():
        names = list(headers(kind, 0, 0))
        given = dict(zip(names, (remaining, reset), strict=True))
        async with pooled(kind, answer=CannedResponse("x", headers=given)) as (hub, _, pool):
            await hub.get("a")("hi")
            return lefts(pool)

    assert run_virtual(main()) == [8]


def test_each_rate_is_narrowed_by_what_is_said_of_it():
    """Tokens that go in, tokens that come out, and requests are three things."""
    whats = {"requests": 5, "input-tokens": 2000, "output-tokens": 1000}
    given = {}
    for what, left in whats.items():
        given |= headers("anthropic", left, 40, what)
    limit = {f"{what.replace('-', '_')}_per_minute": 10_000 for what in whats}

    async def main():
        async with pooled("anthropic", answer=CannedResponse("x", headers=given), **limit) as (hub, _, pool):
            await hub.get("a")("hi")
            return {rate.what: rate.left for rate in pool.left().rates}

    assert run_virtual(main()) == {"requests": 5, "input_tokens": 2000, "output_tokens": 1000}


@EACH
def test_what_a_model_outside_the_pool_hears_is_not_the_pools_affair(kind):
    """A chain that moves on from one vendor's account to another's does not carry the headers over."""

    async def main():
        chains = {"main": {"models": ["out", "b"]}}
        async with pooled(kind, chains=chains) as (hub, server, pool):
            server.script("out", faults.status(503, headers=headers(kind, 0, 30)))
            reply = await hub.get("main")("hi")
            return reply.model, lefts(pool)

    assert run_virtual(main()) == ("b", [8])
