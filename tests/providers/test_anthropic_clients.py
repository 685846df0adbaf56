"""Keys, addresses and the environment, and the clients of Anthropic's SDK."""

import traceback

import pytest

from modelhub.core.errors import AuthenticationFailed, ConfigError, NotConfigured
from modelhub.providers.anthropic import AnthropicChatModel, AnthropicOptions
from modelhub.registry import load_provider_options
from tests.providers.anthropic_server import KEY, make, message
from tests.tables import table

VARIABLES = (
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_AUTH_TOKEN",
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_PROFILE",
    "ANTHROPIC_CUSTOM_HEADERS",
)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


async def test_the_environment_adds_nothing_to_what_is_given(loopback, monkeypatch):
    """With a key and an address given, no variable changes where a request goes or what it carries."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("ANTHROPIC_PROFILE", "nobody")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: secret\nAuthorization: Bearer other\nx-api-key: third")
    loopback.answers(message())
    async with make(loopback, client_args={"default_headers": {"x-mine": "yes"}}) as model:
        await model("Hi")
    headers = loopback.asked[0].headers
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-api-key"] == KEY
    assert headers["x-mine"] == "yes"
    assert "x-gateway" not in headers
    assert loopback.asked[0].target == "/v1/messages"
    assert "environment" not in str(headers)


async def test_the_environments_key_stays_at_home(loopback, monkeypatch):
    """A key from the environment is not sent to another host than Anthropic's; the message says what to do."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-environment")
    async with AnthropicChatModel("claude-haiku-4-5", base_url="https://claude.example.com", stream=False) as model:
        with pytest.raises(NotConfigured, match=r"claude\.example\.com.*api_key"):
            await model("Hi")
    options = AnthropicOptions(model_name="m", base_url="https://claude.example.com")
    assert "claude.example.com" in options.missing({"ANTHROPIC_API_KEY": "sk-ant-environment"})


async def test_a_server_of_ones_own_needs_no_key(loopback, monkeypatch):
    """A server on this machine is asked without a key, whatever the environment has."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "Authorization: Bearer other")
    assert AnthropicOptions(model_name="m", base_url=loopback.url).missing({}) is None
    loopback.answers(message())
    async with AnthropicChatModel("claude-haiku-4-5", base_url=loopback.url, stream=False) as model:
        await model("Hi")
    assert not {"authorization", "x-api-key"} & loopback.asked[0].headers.keys()


async def test_a_given_key_does_not_go_to_the_environments_address(monkeypatch):
    """ANTHROPIC_BASE_URL belongs to the environment's own key: another key goes to Anthropic itself."""
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    assert AnthropicChatModel("m", KEY).address() == "https://api.anthropic.com"


@pytest.mark.parametrize(("variable", "carried"), [("ANTHROPIC_API_KEY", True), ("ANTHROPIC_AUTH_TOKEN", False)])
async def test_the_environment_alone_is_heeded_whole(loopback, monkeypatch, variable, carried):
    """With nothing given, the environment's key goes to the environment's address with its headers."""
    monkeypatch.setenv(variable, "from-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"{loopback.url}/v1/")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-Gateway: here")
    loopback.answers(message())
    async with AnthropicChatModel("claude-haiku-4-5", stream=False) as model:
        await model("Hi")
    headers = loopback.asked[0].headers
    assert headers["authorization"] == "Bearer from-environment"
    assert headers["x-gateway"] == "here"
    assert ("x-api-key" in headers) is carried
    assert loopback.asked[0].target == "/v1/messages"


async def test_a_key_in_a_header_keeps_the_environments_away(loopback, monkeypatch):
    """Who gives the key as a header of the client sends that header and no other key."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    loopback.answers(message())
    mine = {"default_headers": {"X-Api-Key": "header-key-12345"}}
    async with AnthropicChatModel("m", stream=False, base_url=loopback.url, client_args=mine) as model:
        await model("Hi")
    assert loopback.asked[0].headers["x-api-key"] == "header-key-12345"
    assert "authorization" not in loopback.asked[0].headers


async def test_a_credential_of_the_sdks_own_kinds(loopback, monkeypatch):
    """`auth_token` and the like in client_args stand for the key; two kinds at once are an error."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-environment")
    loopback.answers(message())
    mine = {"auth_token": "token-12345", "base_url": loopback.url}
    async with AnthropicChatModel("m", stream=False, client_kwargs=mine) as model:
        await model("Hi")
    assert loopback.asked[0].headers["authorization"] == "Bearer token-12345"
    with pytest.raises(ConfigError, match="auth_token"):
        AnthropicChatModel("m", KEY, client_args={"auth_token": "t"})


async def test_a_token_that_is_renewed_is_asked_for_each_time(loopback):
    """What gives tokens is asked before every request: the last one may have ended since."""
    from anthropic import AccessToken

    numbers = iter(range(9))
    tokens = {"credentials": lambda **_: AccessToken(f"token-{next(numbers)}", expires_at=0)}
    loopback.answers(message())
    async with AnthropicChatModel("m", stream=False, base_url=loopback.url, client_args=tokens) as model:
        await model("Hi")
        await model("Hi")
    assert [asked.headers["authorization"] for asked in loopback.asked] == ["Bearer token-0", "Bearer token-1"]
    assert all("x-api-key" not in asked.headers for asked in loopback.asked)


async def test_the_sdk_traces_no_request_that_it_only_writes(loopback):
    """Its tracing would tell of requests that were never sent; those that are sent are traced by the hub."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    loopback.answers(message())
    async with make(loopback, client_args={"open_telemetry": {"tracer_provider": provider}}) as model:
        await model("Hi")
    assert exporter.get_finished_spans() == ()
    assert len(loopback.asked) == 1


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_is_asked_for_stands_in_headers(loopback, streamed):
    """A user's profile and a workspace are parameters of a call and headers of its request; one's own header wins."""
    loopback.answers(message())
    mine = {"anthropic-workspace-id": "mine"}
    async with make(loopback, stream=streamed, generate_kwargs={"workspace_id": "w"}) as model:
        for extra_headers in ({}, mine):
            reply = await model("Hi", user_profile_id="u", extra_headers=extra_headers)
            if streamed:
                await reply.final()
    for asked, workspace in zip(loopback.asked, ("w", "mine"), strict=True):
        assert asked.headers["anthropic-user-profile-id"] == "u"
        assert asked.headers["anthropic-workspace-id"] == workspace
        assert not {"user_profile_id", "workspace_id", "extra_headers"} & asked.json.keys()


@table("empty", [None, "", "  \n"])
async def test_a_missing_key_names_its_variable(monkeypatch, empty):
    """Without a key, or with an empty one, the variable to set is named, and nothing is sent."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "")
    async with AnthropicChatModel("claude-haiku-4-5", empty) as model:
        with pytest.raises(NotConfigured, match="ANTHROPIC_API_KEY"):
            await model("Hi")
    assert "ANTHROPIC_API_KEY" in AnthropicOptions(model_name="m").missing({})
    assert AnthropicOptions(model_name="m").missing({"ANTHROPIC_API_KEY": KEY}) is None


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_key_that_is_echoed_is_not_shown(loopback, streamed):
    """The vendor may repeat the key in its error: neither the text nor the traceback has it."""
    error = {"type": "authentication_error", "message": f"invalid key {KEY}"}
    loopback.answers({"type": "error", "error": error}, status=401, request_id="req_9")
    async with make(loopback, stream=streamed) as model:
        with pytest.raises(AuthenticationFailed) as caught:
            await model("Hi")
        assert KEY not in repr(model)
        assert KEY not in str(vars(model))
    failure = caught.value
    assert KEY not in str(failure) + repr(failure) + "".join(traceback.format_exception(failure))
    assert (failure.status, failure.code, failure.request_id) == (401, "authentication_error", "req_9")


async def test_retries_in_client_args_are_ignored(loopback):
    """Only one request is made, whatever client_args say of retries."""
    loopback.answers({"type": "error", "error": {"type": "api_error", "message": "no"}}, status=500)
    with pytest.warns(UserWarning, match="max_retries"):
        model = make(loopback, client_args={"max_retries": 5})
    async with model:
        with pytest.raises(Exception, match="anthropic said 500: no"):
            await model("Hi")
    assert len(loopback.asked) == 1


async def test_a_http_client_of_ones_own_stays_open(loopback):
    """A client that was handed in is used, and not closed."""
    import httpx2

    async with httpx2.AsyncClient() as mine:
        loopback.answers(message())
        async with make(loopback, client_args={"http_client": mine}) as model:
            await model("Hi")
        assert not mine.is_closed


def test_options_make_the_model():
    """The file's options bear the constructor's names, and the class is found by its kind."""
    options = load_provider_options("anthropic")(
        provider="anthropic",
        model_name="claude-haiku-4-5",
        api_key=KEY,
        max_tokens=100,
        thinking={"type": "adaptive"},
        client_args={"timeout": 5},
    )
    assert isinstance(options, AnthropicOptions)
    assert KEY not in repr(options)
    model = options.connect()
    assert isinstance(model, AnthropicChatModel)
    assert (model.model_name, model.max_tokens, model.stream) == ("claude-haiku-4-5", 100, False)
    assert AnthropicChatModel("m").stream is True
