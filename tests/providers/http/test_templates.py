"""Templates: what an SDK writes into a client that only records is what it sends over the wire."""

import asyncio
import json
from importlib.metadata import version

import httpx
import httpx2
import pytest

from modelhub.providers.http import Timeouts
from modelhub.providers.http.request_templates import (
    MAX_TEMPLATES,
    RequestRecorder,
    RequestTemplate,
    RequestTemplates,
    is_tracing_header,
)
from tests.providers.http.loopback import Server, reply
from tests.tables import table

NO_ANSWER = reply(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", keep=False)
KEY = "sk-verysecretkey"


async def write_openai(url, client):
    import openai

    sdk = openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", http_client=client, max_retries=0, organization="org")
    await sdk.chat.completions.create(model="m", messages=[])


async def write_azure(url, client):
    import openai

    async def token():
        return KEY

    sdk = openai.AsyncAzureOpenAI(
        azure_ad_token_provider=token, azure_endpoint=url, api_version="2025-01-01", http_client=client, max_retries=0
    )
    await sdk.chat.completions.create(model="m", messages=[])


async def write_anthropic(url, client):
    import anthropic

    sdk = anthropic.AsyncAnthropic(api_key=KEY, base_url=url, http_client=client, max_retries=0, timeout=601.0)
    await sdk.messages.create(model="m", max_tokens=1, messages=[])


async def write_gemini(url, client):
    from google import genai
    from google.genai import types

    retries = types.HttpRetryOptions(attempts=1)
    options = types.HttpOptions(base_url=url, httpx_async_client=client or httpx2.AsyncClient(), retry_options=retries)
    sdk = genai.Client(api_key=KEY, vertexai=False, http_options=options)
    try:
        await sdk.aio.models.generate_content(model="m", contents="-")
    finally:
        sdk.close()


async def write_dashscope(url, client):
    import dashscope

    sdk = dashscope.AsyncClient(api_key=KEY, base_url=url, region="cn-beijing", http_client=client, max_retries=0)
    await sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "-"}], api_key=KEY)


async def write_ollama(url, client):
    import ollama

    sdk = ollama.AsyncClient(host=url, **({"transport": client} if client else {}))
    await sdk.chat(model="m")


SDKS = [
    (write_openai, httpx2),
    (write_azure, httpx2),
    (write_anthropic, httpx2),
    (write_gemini, httpx2),
    (write_dashscope, httpx),
    (write_ollama, httpx),
]


def comparable(headers):
    dropped = ("host", "connection", "content-length", "accept-encoding", "x-dashscope-session", "x-request-id")
    return {name.lower(): value for name, value in headers.items() if name.lower() not in dropped}


@table(("write", "library"), SDKS, ids=[write.__name__.removeprefix("write_") for write, _ in SDKS])
async def test_an_sdk_writes_into_a_recorder_what_it_sends(write, library):
    """Method, path, query, headers with the key, and its part of the body; nothing is sent meanwhile."""
    async with Server(NO_ANSWER).running() as server:
        url = server.url.removesuffix("/path")
        # Over a client that it is given, this SDK does not send its own user agent.
        agent = {"User-Agent": f"dashscope-v2-python/{version('dashscope')}"} if write is write_dashscope else {}
        recorder = RequestRecorder(library, headers=agent)
        client = recorder.transport if write is write_ollama else recorder.client
        template = await recorder.record(lambda: write(url, client))
        assert server.heads == []
        try:
            await write(url, None)
        except Exception:
            assert server.heads
    line, *lines = server.heads[0].split("\r\n")
    sent = dict(header.split(": ", 1) for header in lines if header)
    assert line == f"{template.method} {template.url.removeprefix(url)} HTTP/1.1"
    assert comparable(template.headers) == comparable(sent)
    assert json.loads(template.body) == json.loads(server.bodies[0])
    assert write is write_ollama or KEY in str(sent)
    assert KEY not in repr(template)


class Library:
    """A recorder's client, written to as an SDK would."""

    def __init__(self, **headers):
        self.recorder = RequestRecorder(httpx2)
        self.headers = headers

    async def write(self):
        await self.recorder.client.post("https://api.example/v1", headers=self.headers, content=b"{}")

    async def record(self):
        return await self.recorder.record(self.write)


@table("name", ["traceparent", "baggage", "Sentry-Trace", "x-b3-traceid", "X-Datadog-Trace-Id", "Cookie"])
async def test_what_belongs_to_one_request_is_in_no_template(name):
    """A trace or cookie of the request that was recorded would be that of all later ones."""
    template = await Library(**{name: "1", "X-Kept": "1"}).record()
    assert {header.lower() for header in template.headers} >= {"x-kept", "accept"}
    assert name.lower() not in {header.lower() for header in template.headers}
    assert is_tracing_header(name) is (name != "Cookie")


async def test_only_codings_that_can_be_undone_are_asked_for():
    """An SDK's own stack may know more of them."""
    template = await Library(**{"Accept-Encoding": "gzip, deflate, br, zstd;q=0.5"}).record()
    assert template.headers["Accept-Encoding"] == "gzip, deflate"


async def test_what_the_sdk_refuses_to_write_is_raised():
    """There is no request then; what it makes of the empty answer is not."""
    recorder = RequestRecorder(httpx2)

    async def refuse():
        raise ValueError("no such parameter")

    async def fail_afterwards():
        await recorder.client.get("https://api.example")
        raise KeyError("choices")

    with pytest.raises(ValueError, match="no such parameter"):
        await recorder.record(refuse)
    assert (await recorder.record(fail_afterwards)).url == "https://api.example"


def counting_templates(**options):
    recorded = []
    templates = RequestTemplates(recorded.append, **options)

    async def get(key):
        async def write(writer):
            writer(key)
            return RequestTemplate("POST", f"https://api.example/{key}", {})

        return templates.find(key) or await templates.record(key, write)

    return templates, get, recorded


async def test_a_template_is_recorded_once_for_each_key():
    """Many keys, as of a caller's ever new extra headers, do not fill the memory."""
    _, get, recorded = counting_templates()
    assert [(await get(key)).url[-1] for key in "aba"] == ["a", "b", "a"]
    assert recorded == ["a", "b"]
    for number in range(MAX_TEMPLATES):
        await get(number)
    await get("a")
    assert recorded[-1] == "a"


async def test_credentials_that_are_renewed_are_asked_for_again():
    """A template lives as long as its credentials may; a refused one is forgotten."""
    times = iter((0.0, 59.0, 60.0, 60.0, 61.0))
    templates, get, recorded = counting_templates(lifetime=60, clock=lambda: next(times, 62.0))
    for _ in range(4):
        await get("a")
    assert len(recorded) == 2
    templates.clear()
    await get("a")
    assert len(recorded) == 3


async def test_a_lifetime_of_zero_asks_each_time():
    """For signatures that hold for one request."""
    _, get, recorded = counting_templates(lifetime=0)
    await get("a")
    await get("a")
    assert len(recorded) == 2


async def test_a_template_is_filled_with_a_body():
    """It is the request that the SDK would have sent, with our body."""
    request = RequestTemplate("POST", "https://api.example", {"A": "b"}).fill([b"{}"], Timeouts(1, 2))
    assert (request.url, request.headers, request.body, request.timeouts.read) == (
        "https://api.example",
        {"A": "b"},
        [b"{}"],
        2,
    )


async def test_a_name_and_password_in_an_address_become_a_header():
    """As the SDKs' own stacks send them; the address of the template has them no more."""
    recorder = RequestRecorder(httpx2)
    template = await recorder.record(lambda: recorder.client.get("https://user:secret@api.example/v1"))
    assert template.url == "https://api.example/v1"
    assert template.headers["Authorization"].startswith("Basic ")


async def test_concurrent_recordings_do_not_mix():
    """Several calls may begin at once, before there is any template."""
    recorder = RequestRecorder(httpx2)

    async def write(number):
        await asyncio.sleep(0)
        await recorder.client.get(f"https://api.example/{number}")

    templates = await asyncio.gather(*(recorder.record(lambda n=n: write(n)) for n in range(5)))
    assert [template.url for template in templates] == [f"https://api.example/{n}" for n in range(5)]
