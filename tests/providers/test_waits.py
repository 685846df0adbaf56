"""How long a vendor asks to wait: read alike on every wire, and never longer than an hour."""

from modelhub.core.errors import BadReply, ConnectionLost, RateLimited
from modelhub.providers.http.requested_waits import parse_message_wait
from tests.providers.wires import MAKERS, WIRES, error_body, failure_of, models_at
from tests.tables import table

HOUR = 3600
HEADERS = {
    "7": 7,
    "1.5s": 1.5,
    "6m0s": 360,
    "86400000": HOUR,
    "Fri, 31 Dec 9999 23:59:59 GMT": HOUR,
    "Wed, 21 Oct 2015 07:28:00 GMT": 0,
    "1764390000": None,
    "99999999999": None,
    "9" * 400: None,
    "inf": None,
    "nan": None,
    "-3": None,
    "soon": None,
}


@table("value", HEADERS, ids=lambda value: value[:20])
async def test_retry_after_is_capped_and_nonsense_counts_as_none(loopback, value):
    """A Unix time, infinity and hundreds of digits cannot be meant; a day becomes an hour."""
    found = {}
    async with models_at(loopback.url) as models:
        for wire, model in models.items():
            loopback.answers(error_body(wire, "slow down", 429), status=429, retry_after=value)
            found[wire] = (await failure_of(model)).retry_after
    assert found == dict.fromkeys(WIRES, HEADERS[value])


MESSAGES = {
    "Rate limit reached for gpt-4 on tokens per min (TPM): Limit 9, Used 9. Please try again in 6m0s.": 360,
    "Please retry after 26 seconds.": 26,
    "Please retry in 36.418s.": 36.418,
    "please try again after 1 seconds": 1,
    "Please try again in 20ms.": 0.02,
    "Please try again in 7 hours": HOUR,
    "Please try again later.": None,
}


@table("message", MESSAGES)
async def test_a_wait_in_the_message_is_read_where_no_header_has_one(loopback, message):
    """OpenAI, Azure, Groq, Google and Moonshot write it into the text."""
    loopback.answers(error_body("openai", message), status=429)
    async with MAKERS["openai"](loopback.url) as model:
        failure = await failure_of(model)
    assert (type(failure), failure.retry_after) == (RateLimited, MESSAGES[message])


def test_a_wait_that_stands_for_something_else_is_none():
    """Limits and counts in the message are no waits."""
    assert parse_message_wait("Limit 30000, used 29000; requested 5s of audio") is None


@table("wire", WIRES)
async def test_an_earlier_failure_does_not_decide_the_class_of_a_later_one(loopback, wire):
    """An exception's context is what happened to be handled; only its cause says what it is."""
    async with MAKERS[wire](loopback.url) as model:
        loopback.answers(b"{garbage")
        try:
            await model("hi", stream=False)
        except BadReply:  # the next call is made while this one is handled
            loopback.breaks()
            failure = await failure_of(model)
    assert type(failure) is ConnectionLost
