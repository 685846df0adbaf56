"""Errors of the endpoint: OpenAI's statuses, classes and headers."""

import json

import openai
import pytest

from modelhub import Hub
from modelhub.integrations.asgi import OpenAIApp
from tests.asgi.conftest import connected, reached

MESSAGES = [{"role": "user", "content": "hi"}]


FAILURES = {
    "RateLimited": (openai.RateLimitError, 429, "rate_limit_exceeded"),
    "QuotaExhausted": (openai.RateLimitError, 429, "insufficient_quota"),
    "BudgetExceeded": (openai.RateLimitError, 429, "budget_exceeded"),
    "Overloaded": (openai.InternalServerError, 503, "overloaded"),
    "TimedOut": (openai.InternalServerError, 504, "timeout"),
    "BadReply": (openai.InternalServerError, 502, "bad_reply"),
    "ConnectFailed": (openai.InternalServerError, 502, "vendor_error"),
    "AuthenticationFailed": (openai.InternalServerError, 502, "vendor_authentication_failed"),
    "ContextTooLong": (openai.BadRequestError, 400, "context_length_exceeded"),
    "ContentBlocked": (openai.BadRequestError, 400, "content_filter"),
    "InvalidRequest": (openai.BadRequestError, 400, None),
}


@pytest.mark.parametrize("streams", [False, True])
async def test_a_failure_has_openais_status_and_code(app_of, streams):
    """Each kind of failure is the client's own exception for it, also before the first word of a stream."""
    app = app_of({name: {"fail": name, "message": "so it is"} for name in FAILURES})
    async with connected(app) as client:
        for failure, (error, status, code) in FAILURES.items():
            with pytest.raises(error, match="so it is") as caught:
                await client.chat.completions.create(model=failure, messages=MESSAGES, stream=streams)
            assert (failure, caught.value.status_code, caught.value.code) == (failure, status, code)


async def test_a_wait_that_is_known_is_said(ask, app_of):
    """Retry-After has the seconds, rounded up."""
    app = app_of({"m": {"fail": "RateLimited", "retry_after": 8.2}})
    with pytest.raises(openai.RateLimitError) as caught:
        await ask(app)
    assert caught.value.response.headers["retry-after"] == "9"


async def test_a_useless_retry_is_not_made(app_of):
    """A client that retries by itself does not do so after a refusal that stays."""
    app = app_of({"m": [{"fail": "BudgetExceeded"}, {"say": "no budget held this call back"}]})
    async with connected(app) as client:
        with pytest.raises(openai.RateLimitError):
            await client.with_options(max_retries=5).chat.completions.create(model="m", messages=MESSAGES)


async def test_the_failure_of_a_chain_has_the_status_of_its_dominant_error(ask, app_of):
    """If all models were overloaded, so is the chain, and the message has every model's error."""
    app = app_of({"a": {"fail": "Overloaded"}, "b": {"fail": "Overloaded"}}, {"m": ["a", "b"]})
    with pytest.raises(openai.InternalServerError) as caught:
        await ask(app)
    assert caught.value.status_code == 503
    assert "a  Overloaded" in caught.value.message


async def test_an_unknown_model_is_not_found(ask, app_of):
    """The names that exist are listed."""
    with pytest.raises(openai.NotFoundError, match="there are: m"):
        await ask(app_of({"m": {}}), "n")


REFUSED = [
    ({"n": 2}, "n"),
    ({"logprobs": True}, "logprobs"),
    ({"temperature": 5}, "temperature"),
    ({"extra_headers": {"x": "y"}}, "extra_headers"),
    ({"http_options": {"base_url": "http://elsewhere"}}, "http_options"),
    ({"deadline": 1}, "deadline"),
    ({"stream": "yes"}, "stream"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"tools": [{"type": "web_search"}]}, "tools[0]"),
    ({"response_format": {"type": "yaml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"stream_options": {"restarts": "maybe"}}, "stream_options.restarts"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "boss", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages[0].content[0].text"),
]


async def test_what_would_be_lost_is_refused_by_its_name(app_of):
    """A parameter that is unknown, of the wrong form, or whose effect nobody would see, is a bad request."""
    async with connected(app_of({"m": {}})) as client:
        for parameters, param in REFUSED:
            body = {"messages": MESSAGES, **parameters}
            with pytest.raises(openai.BadRequestError) as caught:
                await client.chat.completions.create(model="m", messages=[], extra_body=body)
            assert caught.value.param == param


PATHS = [
    {"type": "image", "source": {"type": "path", "path": "{path}"}},
    {"type": "image_url", "image_url": {"url": "{path}"}},
    {"type": "image_url", "image_url": {"url": "file://{path}"}},
    {"type": "image_url", "image_url": {"url": "data:,x", "source": {"type": "path", "path": "{path}"}}, "source": 1},
    {"type": "input_audio", "input_audio": {"data": "file://{path}", "format": "wav"}},
    {"type": "file", "file": {"file_url": "file://{path}"}},
    {"type": "file", "file": {"file_data": "file://{path}"}},
    {"type": "document", "source": {"type": "file", "path": "{path}"}},
]


async def test_no_request_reads_a_file_of_the_server(tmp_path):
    """Whatever form a path has, and although the configuration allows its folder."""
    path = tmp_path / "secret.png"
    path.write_bytes(b"\x89PNG secret")
    config = {"version": 1, "models": {"m": {"provider": "scripted"}}, "files": {"allow": [str(tmp_path)]}}
    async with connected(OpenAIApp(Hub.from_dict(config))) as client:
        for part in json.loads(json.dumps(PATHS).replace("{path}", str(path))):
            with pytest.raises(openai.BadRequestError):
                await client.chat.completions.create(model="m", messages=[{"role": "user", "content": [part]}])


async def test_further_parameters_can_be_let_through(hub_faults):
    """`serve: {parameters: [...]}` names what clients may say beside OpenAI's own."""
    config = {
        "version": 1,
        "models": {"m": {"provider": "openai", "model_name": "x", "base_url": "http://127.0.0.1:1/v1"}},
        "serve": {"parameters": ["min_p"]},
    }
    async with hub_faults.hub(config) as hub, connected(OpenAIApp(hub)) as client:
        await client.chat.completions.create(model="m", messages=MESSAGES, extra_body={"min_p": 0.1})
    assert hub_faults.requests("m")[0].body["min_p"] == 0.1


async def test_what_nobody_foresaw_is_logged_and_not_told(ask, app_of, monkeypatch, caplog):
    """A fault of the server's own is a 500 without its details."""
    app = app_of({"m": {}})
    monkeypatch.setattr("modelhub.integrations.asgi.application.read_request", lambda *_: 1 / 0)
    with pytest.raises(openai.InternalServerError, match="its log says why") as caught:
        await ask(app)
    assert "division" not in caught.value.message
    assert "division by zero" in caplog.text


JSON = {"content-type": "application/json"}
NO_REQUESTS = [
    ("POST", "/v1/chat/completions", JSON, b"{", 400),
    ("POST", "/v1/chat/completions", JSON, b"[" * 10_000, 400),
    ("POST", "/v1/chat/completions", JSON, b"[]", 400),
    ("POST", "/v1/chat/completions", JSON, b'{"n": NaN}', 400),
    ("POST", "/v1/chat/completions", JSON, b" " * 20_000, 413),
    ("POST", "/v1/chat/completions", {"content-type": "text/plain"}, b"{}", 415),
    ("GET", "/v1/chat/completions", {}, b"", 405),
    ("POST", "/v1/completions", JSON, b"{}", 404),
    ("GET", "/", {}, b"", 404),
]


async def test_what_is_no_request_is_refused(app_of):
    """Broken JSON, too many bytes, what a browser sends without asking, and addresses that do not exist."""
    async with reached(app_of({"m": {}}, serve={"max_request_bytes": 16_384})) as client:
        for method, path, headers, content, status in NO_REQUESTS:
            reply = await client.request(method, path, headers=headers, content=content)
            assert (path, content[:9], reply.status_code) == (path, content[:9], status)
            assert set(reply.json()["error"]) == {"message", "type", "param", "code"}


async def test_a_body_without_a_length_is_bounded_too(app_of):
    """What comes in chunks is counted."""

    async def pieces():
        for _ in range(10):
            yield b" " * 1000

    app = app_of({"m": {}}, serve={"max_request_bytes": 2048})
    async with reached(app) as client:
        reply = await client.post(
            "/v1/chat/completions", headers={"content-type": "application/json"}, content=pieces()
        )
    assert reply.status_code == 413
