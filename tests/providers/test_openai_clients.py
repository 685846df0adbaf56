"""OpenAI's class itself: what it is made of, and which servers and keys it uses."""

import json

import pytest
from pydantic import ValidationError

from modelhub import Hub
from modelhub.core.errors import ConfigError, NotConfigured
from modelhub.providers.openai import OpenAIChatModel, OpenAIOptions
from modelhub.registry import load_provider_options
from tests.providers.openai_api import Anywhere, chunks
from tests.tables import table

pytestmark = pytest.mark.usefixtures("bare_openai_environment")

SSE = "text/event-stream"
ANSWER = {"id": "c1", "model": "m1", "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}


@pytest.fixture
async def anywhere():
    """An HTTP client that reaches no network; `asked` are its requests."""
    transport = Anywhere()
    async with transport.client() as client:
        client.asked = transport.asked
        yield client


async def request_of(anywhere, *args, client_args=None, **kwargs):
    """The request that a model made so would send."""
    model = OpenAIChatModel(*args, client_args={"http_client": anywhere, **(client_args or {})}, **kwargs)
    await model("hi", stream=False)
    return anywhere.asked[-1]


async def test_the_seeds_constructor(anywhere):
    """The seed's parameters, in the seed's order."""
    arguments = ("gpt-5-mini", "key-1", False, "low", "org-1", {"http_client": anywhere, "project": "p-1"}, {"seed": 1})
    reply = await OpenAIChatModel(*arguments)("hi")
    sent = anywhere.asked[0]
    assert str(sent.url) == "https://api.openai.com/v1/chat/completions"
    assert (sent.headers["authorization"], sent.headers["openai-organization"]) == ("Bearer key-1", "org-1")
    assert sent.headers["openai-project"] == "p-1"
    body = json.loads(sent.content)
    assert (body["model"], body["reasoning_effort"], body["seed"], body["stream"]) == ("gpt-5-mini", "low", 1, False)
    assert (reply.text, reply.model, reply.model_name, reply.id) == ("ok", "gpt-5-mini", "m1", "c1")


def test_a_stream_is_the_default_by_hand():
    """As in the seed."""
    assert OpenAIChatModel("m", "k").stream is True


async def test_the_environment_of_openai(anywhere, monkeypatch):
    """Key, organization, project and headers come from the environment where it is OpenAI that is spoken to."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-env")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-id")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-env")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-mine: 1")
    sent = await request_of(anywhere, "m")
    assert sent.headers["authorization"] == "Bearer key-env"
    assert (sent.headers["openai-organization"], sent.headers["openai-project"]) == ("org-id", "project-env")
    assert sent.headers["x-mine"] == "1"
    monkeypatch.setenv("OPENAI_ORGANIZATION", "organization")
    assert (await request_of(anywhere, "m")).headers["openai-organization"] == "organization"


async def test_nothing_of_the_environment_goes_with_a_callers_key(anywhere, monkeypatch):
    """It is the application's, though the server is OpenAI's own."""
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "env")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-mine: env\nAuthorization: Bearer env")
    entry = {"provider": "openai", "model_name": "m", "api": "chat", "client_args": {"http_client": anywhere}}
    async with Hub.from_dict({"version": 1, "models": {"gpt": {**entry, "api_key": "${call:openai}"}}}) as hub:
        await hub.get("gpt").with_keys(openai="key-1")("hi")
    sent = anywhere.asked[-1]
    assert (sent.url.host, sent.headers["authorization"]) == ("api.openai.com", "Bearer key-1")
    assert "env" not in f"{sent.headers.raw}"


async def test_nothing_of_the_environment_goes_to_another_server(anywhere, monkeypatch):
    """Neither OpenAI's key nor its organization, project or headers, an Authorization among them."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-env")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "admin-env")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-env")
    monkeypatch.setenv("OPENAI_ORGANIZATION", "org-env")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-env")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-mine: mine-env\nAuthorization: Bearer other-env")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://base-env.example/v1")
    for url in ("https://other.example/v1", "http://127.0.0.1:9/v1"):
        sent = await request_of(anywhere, "m", "key-1", base_url=url)
        assert sent.headers["authorization"] == "Bearer key-1"
        assert "env" not in f"{sent.url} {sent.headers.raw}"
    sent = await request_of(anywhere, "m", base_url="http://127.0.0.1:9/v1")
    assert "authorization" not in sent.headers
    assert "env" not in f"{sent.url} {sent.headers.raw}"


async def test_a_key_given_for_openai_is_not_sent_to_the_environments_address(anywhere, monkeypatch):
    """OPENAI_BASE_URL goes with the environment's own key only."""
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "key-env")
    assert (await request_of(anywhere, "m", "key-1")).url.host == "api.openai.com"
    assert (await request_of(anywhere, "m", "key-env")).url.host == "gateway.example"
    assert (await request_of(anywhere, "m")).headers["authorization"] == "Bearer key-env"


@table(
    ("arguments", "variables", "says"),
    [
        ({}, {}, "OPENAI_API_KEY"),
        ({}, {"OPENAI_API_KEY": ""}, "OPENAI_API_KEY"),
        ({}, {"OPENAI_ADMIN_KEY": "x"}, "OPENAI_API_KEY"),
        ({"base_url": "https://api.deepseek.com"}, {"OPENAI_API_KEY": "key-env"}, "DEEPSEEK_API_KEY"),
        ({"compat": "groq"}, {"OPENAI_API_KEY": "key-env"}, "GROQ_API_KEY"),
        ({"base_url": "https://other.example/v1"}, {"OPENAI_API_KEY": "key-env"}, "other.example: give `api_key`"),
        (
            {"compat": "groq", "base_url": "https://other.example"},
            {"GROQ_API_KEY": "key-env"},
            "is sent to api.groq.com only",
        ),
        ({"compat": "azure"}, {"OPENAI_API_KEY": "k"}, "give `base_url`, such as https://NAME.openai.azure.com/openai"),
        ({"compat": "azure", "api_key": "k"}, {}, "no address: give `base_url`"),
        ({"compat": "azure"}, {"AZURE_OPENAI_API_KEY": "k", "AZURE_OPENAI_ENDPOINT": "https://x"}, "give `base_url`"),
        ({"compat": "generic"}, {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "https://x/v1"}, "give `base_url`"),
        ({"client_type": "azure"}, {"OPENAI_API_KEY": "key-env"}, "AZURE_OPENAI_API_KEY"),
        ({"client_type": "azure", "api_key": "k"}, {}, "AZURE_OPENAI_ENDPOINT"),
        ({"client_type": "azure", "api_key": "k", "base_url": "https://x.example"}, {}, "api_version"),
    ],
)
async def test_what_is_missing_is_said(monkeypatch, arguments, variables, says):
    """A call without a key fails before any request, and names the variable to set."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(NotConfigured) as caught:
        await OpenAIChatModel("m", **arguments)("hi")
    assert says in str(caught.value)


async def test_a_servers_own_key_and_address(anywhere, monkeypatch):
    """`compat` alone names address and variable; an address alone names them too."""
    monkeypatch.setenv("DEEPSEEK_API_KEY", "key-deep")
    for arguments in ({"compat": "deepseek"}, {"base_url": "https://api.deepseek.com"}):
        sent = await request_of(anywhere, "m", **arguments)
        assert str(sent.url) == "https://api.deepseek.com/chat/completions"
        assert sent.headers["authorization"] == "Bearer key-deep"


async def test_credentials_among_the_clients_arguments(anywhere, monkeypatch):
    """A key, a function that gives keys, or a header: each goes before the environment's key."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-env")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")

    async def key():
        return "key-called"

    for arguments, value in (
        ({"api_key": "key-arg"}, "Bearer key-arg"),
        ({"api_key": key}, "Bearer key-called"),
        ({"default_headers": {"Authorization": "Basic abc"}}, "Basic abc"),
    ):
        sent = await request_of(anywhere, "m", client_args=arguments)
        assert (sent.headers["authorization"], sent.url.host) == (value, "api.openai.com")


async def test_azure(anywhere, monkeypatch):
    """The resource's address, the deployment, the version and the key in Azure's own header."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-env")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-env")
    for url in ("https://x.openai.azure.com", "https://x.openai.azure.com/openai"):
        arguments = {"client_type": "azure", "base_url": url, "client_args": {"api_version": "2026-01-01"}}
        sent = await request_of(anywhere, "gpt", "key-1", **arguments)
        path = "https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2026-01-01"
        assert str(sent.url) == path
        assert sent.headers["api-key"] == "key-1"
        assert "env" not in f"{sent.url} {sent.headers.raw}"
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "token-1")
    sent = await request_of(anywhere, "gpt", **arguments)
    assert sent.headers["authorization"] == "Bearer token-1"
    assert "api-key" not in sent.headers


async def test_a_client_that_was_handed_in_stays_open(anywhere):
    """Who made the HTTP client closes it."""
    async with OpenAIChatModel("m", "k", client_kwargs={"http_client": anywhere}) as model:
        await model("hi", stream=False)
    assert not anywhere.is_closed


def test_wrong_arguments_are_configuration_errors():
    """Two names for one thing, unknown servers and unknown quirks are told at once."""
    with pytest.raises(ConfigError, match="client_kwargs"):
        OpenAIChatModel("m", "k", client_args={"timeout": 1}, client_kwargs={"timeout": 1})
    with pytest.raises(ConfigError, match="deepseek"):
        OpenAIChatModel("m", "k", compat="deapseek")
    with pytest.raises(ConfigError, match="stream_options"):
        OpenAIChatModel("m", "k", quirks={"stream_option": False})


async def test_client_arguments_the_sdk_does_not_know():
    """They fail as something to configure, not as a TypeError."""
    with pytest.raises(NotConfigured, match="no_such_thing"):
        await OpenAIChatModel("m", "k", client_args={"no_such_thing": 1})("hi")


def test_retries_of_the_sdk_stay_off():
    """`max_retries` is taken out, with a warning that says why."""
    with pytest.warns(UserWarning, match="max_retries"):
        OpenAIChatModel("m", "k", client_args={"max_retries": 3})


def test_options_make_the_model():
    """The file's fields are the constructor's; `stream` is off there unless it is set."""
    assert load_provider_options("openai") is OpenAIOptions
    fields = {"api_key": "key-of-test", "reasoning_effort": "low", "quirks": {"stream_options": False}}
    options = OpenAIOptions(model_name="m", **fields)
    model = options.connect()
    assert (model.stream, model.quirks.stream_options) == (False, False)
    assert "key-of-test" not in repr(options) + repr(model)
    assert OpenAIOptions(model_name="m", stream=True).connect().stream is True
    with pytest.raises(ValidationError, match="reasoning_efort"):
        OpenAIOptions(model_name="m", reasoning_efort="low")


@table(
    ("fields", "says"),
    [
        ({}, "OPENAI_API_KEY"),
        ({"compat": "deepseek"}, "DEEPSEEK_API_KEY"),
        ({"base_url": "https://api.x.ai/v1"}, "XAI_API_KEY"),
        ({"base_url": "https://other.example"}, "other.example"),
        ({"client_type": "azure"}, "AZURE_OPENAI_API_KEY"),
        ({"base_url": "http://localhost:8000/v1"}, None),
        ({"compat": "lmstudio"}, None),
        ({"base_url": "http://gpu-box:8000/v1"}, None),
        ({"api_key": "k"}, None),
    ],
)
def test_options_tell_what_is_missing(fields, says):
    """A file can be checked for keys without a model being made."""
    missing = OpenAIOptions(model_name="m", **fields).missing({})
    assert (says is None and missing is None) or says in missing


@table("client_type", [None, "azure"])
@table("is_async", [True, False])
async def test_a_key_may_be_a_function_that_is_called_for_each_request(loopback, client_type, is_async, monkeypatch):
    """As with OpenAI's own client; a key of the environment is not sent in its place."""
    monkeypatch.setenv("OPENAI_API_KEY", "key-of-environment")
    numbers = iter(range(9))

    def fetch_token():
        return f"token-{next(numbers)}"

    async def fetch_token_slowly():
        return fetch_token()

    loopback.answers(chunks({"content": "hello"}), content_type=SSE)
    version = {"client_args": {"api_version": "2025-01-01"}} if client_type == "azure" else {}
    url = f"{loopback.url}/openai/v1"
    async with OpenAIChatModel(
        "m",
        fetch_token_slowly if is_async else fetch_token,
        api="chat",
        base_url=url,
        client_type=client_type,
        **version,
    ) as model:
        await (await model("Hi")).final()
        await (await model("Hi")).final()
    name = "api-key" if client_type == "azure" else "authorization"
    assert [asked.headers[name].removeprefix("Bearer ") for asked in loopback.asked] == ["token-0", "token-1"]
    assert "token" not in repr(model)
