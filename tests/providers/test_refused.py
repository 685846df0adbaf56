"""A refusal is told by the SDK's own error, whoever has written the request."""

import pytest

from modelhub.errors import CallError
from modelhub.providers.anthropic import AnthropicChatModel

STATUSES = (400, 401, 403, 404, 408, 409, 413, 418, 422, 429, 500, 503, 504, 529)


def anthropic(url):
    return AnthropicChatModel("m", "key-of-test", stream=False, base_url=url)


async def causes(model, times):
    """The SDK's error of each of *times* calls."""
    found = []
    async with model:
        for _ in range(times):
            with pytest.raises(CallError) as caught:
                await model("hi")
            found.append(caught.value.__cause__)
    return found


def told(error):
    """All that an error of the SDK says."""
    facts = (type(error), str(error), error.status_code, error.body, error.request_id, error.response.text)
    return *facts, str(error.request.url), error.request.method


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("make", [anthropic])
async def test_the_error_is_the_sdks_own(loopback, make, status):
    """The first two requests are the SDK's, the third is not: their errors say the same, but for the key."""
    body = {"type": "error", "error": {"type": "some_error", "message": "no", "code": "c"}}
    loopback.answers(body, status=status, request_id="r1", x_request_id="r1")
    first, second, third = await causes(make(loopback.url), 3)
    assert told(first) == told(second) == told(third)
    assert "key-of-test" in str(first.request.headers.raw)
    assert "key-of-test" not in str(third.request.headers.raw)
    assert len(loopback.asked) == 3


@pytest.mark.parametrize("body", ["", "<html>busy</html>", '"text"', "[1]", '{"error": "text"}', "{"])
async def test_a_body_of_any_shape_is_the_sdks_matter(loopback, body):
    """Empty, a page, a text, a list, broken: the same error on both ways."""
    loopback.answers(body, status=503)
    first, _, third = await causes(anthropic(loopback.url), 3)
    assert told(first) == told(third)
