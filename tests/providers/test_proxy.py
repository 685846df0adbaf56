"""A proxy in the environment changes the way of a request, and nothing else, for every vendor."""

import pytest

from modelhub.core.errors import CallError
from tests.providers.http.loopback import Proxy
from tests.providers.wires import MAKERS
from tests.tables import table

HOP_BY_HOP = {"proxy-authorization", "proxy-connection"}
OF_THE_CLIENT = {"x-dashscope-sdk-session-id"}


async def ask(loopback, provider, stream):
    """The request that the server got, and the call's failure; the answer, an error, is the same each time."""
    async with MAKERS[provider](loopback.url) as model:
        with pytest.raises(CallError) as caught:
            await model("hi", stream=stream)
    asked = loopback.asked.pop()
    headers = {name: value for name, value in asked.headers.items() if name not in HOP_BY_HOP | OF_THE_CLIENT}
    return (asked.method, asked.target, headers, asked.body), (type(caught.value), str(caught.value))


@table("credentials", ["", "user:p@ss word"], ids=["open", "with password"])
@table("stream", [False, True], ids=["plain", "streamed"])
@table("provider", MAKERS)
async def test_the_request_and_its_failure_are_the_same(loopback, monkeypatch, provider, stream, credentials):
    """What the server gets is the same; the proxy's password is for the proxy alone, the key for the vendor alone."""
    loopback.answers({"error": {"message": "busy"}}, status=503)
    direct = await ask(loopback, provider, stream)
    async with Proxy(credentials).running() as proxy:
        userinfo = "user:p%40ss%20word@" if credentials else ""
        monkeypatch.setenv("HTTP_PROXY", f"http://{userinfo}{proxy.address}")
        assert await ask(loopback, provider, stream) == direct
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert await ask(loopback, provider, stream) == direct
    assert len(proxy.lines) == 1
    assert proxy.credentials == [proxy.expected]
