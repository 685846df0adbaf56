"""Parameters, keys, hosts and clients: how Gemini is reached, through the real SDK against a loopback server."""

import json
import os
import traceback

import httpx
import httpx2
import pytest
from google.auth import exceptions
from google.genai import types
from google.oauth2.credentials import Credentials

from modelhub.core.errors import AuthenticationFailed, ConfigError, ConnectFailed, InvalidRequest, NotConfigured
from modelhub.providers.gemini import GeminiChatModel, GeminiOptions
from modelhub.registry import load_provider_options
from tests.tables import table

KEY = "AIzaTest0123456789abcdef"
USAGE = {"promptTokenCount": 10, "candidatesTokenCount": 5, "totalTokenCount": 15}
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def whole(*parts, finish="STOP", **more):
    """A whole answer."""
    parts = parts or ({"text": "Hello."},)
    candidate = {"content": {"role": "model", "parts": list(parts)}, "finishReason": finish, "index": 0}
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "gemini-x", "responseId": "r1", **more}


def events(*pieces):
    """Each of *pieces* (a list of parts) as an event of a stream; the last one ends it."""
    told = []
    for parts in pieces:
        candidate = {"content": {"role": "model", "parts": parts}}
        if parts is pieces[-1]:
            candidate["finishReason"] = "STOP"
        told.append(f"data: {json.dumps({'candidates': [candidate], 'usageMetadata': USAGE})}\r\n\r\n")
    return told


def model(loopback, name="gemini-3-flash", **more):
    """The model under test, not streaming."""
    return GeminiChatModel(name, KEY, **{"stream": False, "base_url": loopback.url, **more})


@pytest.fixture
def ask(loopback):
    """Ask a model once and give back the request's body."""
    loopback.answers(whole())

    async def send(messages, *args, init=None, **more):
        async with model(loopback, **(init or {})) as asked:
            await asked(messages, *args, **more)
        return loopback.asked[-1].json

    return send


# -- parameters --------------------------------------------------------------------------------------------------------


async def test_parameters_are_merged_in_order(ask):
    """The class's thinking, then generate_kwargs, then the call's own, in either spelling; None takes one away."""
    init = {
        "thinking_config": {"include_thoughts": True, "thinking_budget": 1024},
        "generate_kwargs": {"temperature": 0.1, "maxOutputTokens": 5, "seed": 7},
    }
    body = await ask("hi", init=init, max_output_tokens=9, seed=None)
    assert body["generationConfig"] == {
        "temperature": 0.1,
        "maxOutputTokens": 9,
        "thinkingConfig": {"include_thoughts": True, "thinking_budget": 1024},
    }
    body = await ask("hi", init=init, thinking_config={"thinking_level": "LOW"})
    assert body["generationConfig"]["thinkingConfig"] == {"thinking_level": "LOW"}


async def test_new_parameters_can_be_sent_by_their_wire_names(loopback):
    """What the SDK does not know yet goes through its `extra_body`, joined with what is there."""
    loopback.answers(whole())
    extra = {"extra_body": {"generationConfig": {"novel": 1}, "labels": {"a": "b"}}, "headers": {"x-team": "blue"}}
    async with model(loopback) as asked:
        await asked("hi", temperature=0.5, http_options=extra)
    body = loopback.asked[0].json
    assert (body["generationConfig"], body["labels"]) == ({"temperature": 0.5, "novel": 1}, {"a": "b"})
    assert body["contents"] == [{"role": "user", "parts": [{"text": "hi"}]}]
    assert loopback.asked[0].headers["x-team"] == "blue"


async def test_extra_parameters_of_the_client_are_joined_in_either_spelling(ask):
    """Those of a call go before those of the client, and both before what is written here."""
    calling = {"functionCallingConfig": {"mode": "VALIDATED"}}
    extra = {"extra_body": {"generation_config": {"max_output_tokens": 1}, "novel": {"a": 1}, "toolConfig": calling}}
    call = {"extra_body": {"novel": {"b": 2}}}
    arguments = {"client_args": {"http_options": extra}, "generate_kwargs": {"max_output_tokens": 9, "top_k": 3}}
    body = await ask("hi", [WEATHER], "auto", init=arguments, http_options=call)
    assert body["generationConfig"] == {"maxOutputTokens": 1, "topK": 3}
    assert body["novel"] == {"a": 1, "b": 2}
    assert body["toolConfig"] == calling
    assert "generation_config" not in body


@table(
    ("options", "words"),
    [
        ({"max_out_tokens": 5}, r"max_out_tokens: is no parameter .*; did you mean `max_output_tokens`\?"),
        ({"temperature": "secret"}, r"temperature: Input should be a valid number"),
        ({"audio_timestamp": True}, "only supported in Gemini Enterprise"),
        ({"seed": 1, "response_modalities": "x"}, "response_modalities: Input should be a valid list"),
    ],
)
async def test_wrong_parameters_are_told_before_a_request(loopback, options, words):
    """The SDK's own objections are ours, name the parameter and show no value."""
    async with model(loopback, generate_kwargs=options) as asked:
        with pytest.raises(InvalidRequest, match=words) as caught:
            await asked("hi")
    assert "secret" not in str(caught.value)
    assert loopback.asked == []


async def test_a_system_instruction_beside_system_messages_is_refused(loopback):
    """Only one of them could be sent."""
    async with model(loopback, generate_kwargs={"system_instruction": "Be brief."}) as asked:
        with pytest.raises(InvalidRequest, match="only one"):
            await asked([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}])
        loopback.answers(whole())
        await asked("hi")
    assert loopback.asked[0].json["systemInstruction"]["parts"] == [{"text": "Be brief."}]


async def test_nothing_of_the_callers_is_changed(ask):
    """Messages, tools and parameters are read only."""
    tools, schema = [json.loads(json.dumps(WEATHER))], {"type": "object", "properties": {"a": {"type": "string"}}}
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    before = json.dumps([messages, tools, schema])
    options = {"response_schema": schema, "response_mime_type": "application/json"}
    await ask(messages, tools, init={"generate_kwargs": options})
    assert json.dumps([messages, tools, schema]) == before


# -- keys, hosts and clients -------------------------------------------------------------------------------------------


async def test_the_environment_cannot_turn_a_call_elsewhere(loopback, monkeypatch):
    """With a key given, no variable switches the backend, the host or the key, or plays back a recording."""
    variables = {
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:1",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "GOOGLE_CLOUD_PROJECT": "p",
        "GOOGLE_CLOUD_LOCATION": "l",
        "GOOGLE_API_KEY": "from-the-environment",
        "GEMINI_API_KEY": "from-the-environment",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    loopback.answers(whole())
    async with model(loopback) as asked:
        await asked("hi")
    assert loopback.asked[0].target == "/v1/models/gemini-3-flash:generateContent"
    assert loopback.asked[0].headers["x-goog-api-key"] == KEY
    assert GeminiChatModel("m", KEY).address() == "https://generativelanguage.googleapis.com/"


async def test_key_and_address_of_the_environment_belong_together(loopback, monkeypatch):
    """The SDK's order of keys; the address of the environment is used with a key of the environment only."""
    monkeypatch.setenv("GEMINI_API_KEY", "second")
    monkeypatch.setenv("GOOGLE_API_KEY", "first")
    monkeypatch.setenv("GOOGLE_GEMINI_BASE_URL", loopback.url)
    loopback.answers(whole())
    async with GeminiChatModel("m", stream=False) as asked:
        await asked("hi")
    assert loopback.asked[0].headers["x-goog-api-key"] == "first"


@table("named", ["client", "call", "vertex"])
async def test_a_key_of_the_environment_goes_to_googles_own_hosts_only(loopback, monkeypatch, named):
    """Not to the address of a model, of a call, or of a Vertex AI that is elsewhere."""
    monkeypatch.setenv("GOOGLE_API_KEY", "from-the-environment")
    loopback.answers(whole())
    arguments, options = {"base_url": loopback.url}, {}
    if named == "call":
        arguments, options = {}, {"http_options": {"base_url": loopback.url}}
    elif named == "vertex":
        arguments["client_args"] = {"vertexai": True}
    async with GeminiChatModel("m", stream=False, **arguments) as asked:
        await asked("hi", **options)
    assert "from-the-environment" not in str(loopback.asked[0].headers)
    assert "x-goog-api-key" not in loopback.asked[0].headers


def test_a_gateway_needs_a_key_of_its_own(monkeypatch):
    """Which may be a header; the message says why that of the environment is none."""
    monkeypatch.setenv("GOOGLE_API_KEY", "from-the-environment")
    gateway = {"base_url": "https://gateway.example"}
    header = {"client_args": {"http_options": {"headers": {"Authorization": "Bearer own-token-1"}}}}
    for arguments, missing in [(gateway, True), (gateway | header, False), ({}, False)]:
        options = GeminiOptions(model_name="m", **arguments)
        for message in (GeminiChatModel("m", **arguments).missing(), options.missing(dict(os.environ))):
            assert ("no API key for gateway.example" in message) if missing else message is None
    assert "own-token-1" in list(GeminiChatModel("m", **header).secrets())


async def test_a_missing_key_is_told_with_its_variables(monkeypatch):
    """An empty variable is none."""
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.setenv("GEMINI_API_KEY", "")
    with pytest.raises(NotConfigured, match="set GOOGLE_API_KEY or GEMINI_API_KEY"):
        await GeminiChatModel("m")("hi")


async def test_vertex_ai_is_reached_through_the_same_class(loopback):
    """Project and location make the path; the key is Vertex AI's express key, or Google's own credentials."""
    loopback.answers(whole())
    async with model(loopback, client_args={"vertexai": True}) as asked:
        await asked("hi")
    assert loopback.asked[0].target == "/v1beta1/publishers/google/models/gemini-3-flash:generateContent"


async def test_vertex_ai_signs_in_with_googles_credentials(loopback):
    """No key is needed then."""
    loopback.answers(whole())
    arguments = {"vertexai": True, "project": "p", "location": "us-central1", "credentials": Credentials("token-1")}
    async with GeminiChatModel("gemini-3-flash", None, False, None, arguments, base_url=loopback.url) as asked:
        await asked("hi")
    (request,) = loopback.asked
    assert request.target.startswith("/v1beta1/projects/p/locations/us-central1/publishers/google/models/gemini-3")
    assert (request.headers["authorization"], request.headers.get("x-goog-api-key")) == ("Bearer token-1", None)


async def test_credentials_of_vertex_ai_are_asked_for_each_request(loopback):
    """They end after an hour, and the SDK renews them."""
    loopback.answers(whole())
    credentials = Credentials("token-1")
    arguments = {"vertexai": True, "project": "p", "location": "us-central1", "credentials": credentials}
    async with GeminiChatModel("m", None, False, None, arguments, base_url=loopback.url) as asked:
        await asked("hi")
        credentials.token = "token-2"
        await asked("hi")
    assert [request.headers["authorization"] for request in loopback.asked] == ["Bearer token-1", "Bearer token-2"]


@table(
    ("error", "failure"),
    [
        (exceptions.RefreshError("revoked"), AuthenticationFailed),
        (exceptions.TransportError("no route"), ConnectFailed),
        (exceptions.DefaultCredentialsError("none found"), NotConfigured),
    ],
)
async def test_what_keeps_vertex_ai_from_signing_in_is_named(loopback, error, failure):
    """Nothing is sent without a token."""

    class Unusable(Credentials):
        def refresh(self, request):
            raise error

    arguments = {"vertexai": True, "project": "p", "location": "us-central1", "credentials": Unusable(None)}
    async with GeminiChatModel("m", None, False, None, arguments, base_url=loopback.url) as asked:
        with pytest.raises(failure, match="signing in to Vertex AI"):
            await asked("hi")
    assert loopback.asked == []


async def test_parameters_that_are_written_once_do_not_stay(loopback):
    """Each call has its own, however often the SDK has written the same ones."""
    loopback.answers(whole())
    async with model(loopback) as asked:
        for temperature in (0.1, 0.2, 0.1, None):
            await asked("hi", temperature=temperature)
    sent = [request.json.get("generationConfig") for request in loopback.asked]
    assert sent == [{"temperature": 0.1}, {"temperature": 0.2}, {"temperature": 0.1}, {}]


async def test_a_client_of_the_arguments_keeps_its_connection_and_is_closed(loopback):
    """What says how to connect makes a client, once for all calls; it goes with the model."""
    loopback.answers(whole())
    arguments = {"http_options": {"async_client_args": {"verify": False, "headers": {"x-team": "blue"}}}}
    async with model(loopback, client_args=arguments) as asked:
        for _ in range(3):
            await asked("hi")
        assert (len(loopback.asked), loopback.open) == (3, 1)
    await loopback.idle()
    assert loopback.asked[2].headers["x-team"] == "blue"


async def test_connecting_has_its_own_time(loopback):
    """The SDK knows one number for everything; ours allows a long answer, but no long wait for a connection."""
    seen = []

    def answer(request):
        seen.append(request.extensions["timeout"])
        return httpx2.Response(200, json=whole())

    arguments = {"http_options": {"async_client_args": {"transport": httpx2.MockTransport(answer)}}}
    async with model(loopback, client_args=arguments) as asked:
        asked.connect_timeout = 2.0
        await asked("hi")
    assert seen == [{"connect": 2.0, "read": 600.0, "write": 600.0, "pool": 600.0}]


@pytest.mark.parametrize("module", [httpx, httpx2])
async def test_a_client_of_the_users_own_is_used_and_left_open(loopback, module):
    """Its headers go along, whichever httpx it is of."""
    loopback.streams(*events([{"text": "Hello."}]), content_type="text/event-stream")
    async with module.AsyncClient(headers={"x-team": "blue"}) as theirs:
        async with model(loopback, client_args={"http_options": {"httpx_async_client": theirs}}) as asked:
            reply = await (await asked("hi", stream=True)).final()
        assert not theirs.is_closed
    assert (reply.text, loopback.asked[0].headers["x-team"]) == ("Hello.", "blue")


async def test_the_arguments_of_the_http_client_are_heard(loopback):
    """`async_client_args`, in a dict or in the SDK's object, under the old name of the arguments or the new."""
    loopback.answers(whole())
    options = types.HttpOptions(async_client_args={"headers": {"x-team": "blue"}}, api_version="v1beta")
    async with model(loopback, client_kwargs={"http_options": options}) as asked:
        await asked("hi")
    assert loopback.asked[0].headers["x-team"] == "blue"
    assert loopback.asked[0].target.startswith("/v1beta/")


def test_a_client_of_another_kind_is_refused():
    """It would be passed over silently otherwise."""
    with pytest.raises(ConfigError, match="httpx_async_client"):
        GeminiChatModel("m", KEY, client_args={"http_options": {"aiohttp_client": object()}})


def test_options_make_the_model(monkeypatch):
    """The file's fields are the constructor's, and the kind leads to them."""
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    options = load_provider_options("gemini")(
        model_name="gemini-3-flash",
        api_key=KEY,
        thinking_config={"include_thoughts": True},
        generate_kwargs={"temperature": 0},
        base_url="http://127.0.0.1:1",
    )
    made = options.connect()
    assert isinstance(made, GeminiChatModel)
    assert (made.stream, made.missing(), list(made.secrets())) == (False, None, [KEY])
    assert KEY not in repr(options) + repr(made)
    assert "set GOOGLE_API_KEY or GEMINI_API_KEY" in GeminiOptions(model_name="m").missing({})
    assert GeminiOptions(model_name="m").missing({"GOOGLE_API_KEY": "x"}) is None
    assert GeminiOptions(model_name="m", client_args={"vertexai": True}).missing({}) is None


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_the_key_is_never_shown(loopback, stream):
    """A server may repeat the key in its error; no message, repr or traceback does."""
    loopback.answers({"error": {"code": 401, "message": f"API key {KEY} not valid"}}, status=401)
    async with model(loopback, stream=stream) as asked:
        with pytest.raises(AuthenticationFailed) as caught:
            await asked("hi")
        told = [str(caught.value), repr(caught.value), repr(asked), *traceback.format_exception(caught.value)]
    assert loopback.asked[0].headers["x-goog-api-key"] == KEY
    assert "***" in str(caught.value)
    assert not [text for text in told if KEY in text]


async def test_a_key_that_no_header_can_hold_is_not_shown(loopback):
    """It fails before anything is sent, and its characters stay where they are."""
    key = "schlüssel-0123456789"
    async with GeminiChatModel("m", key, base_url=loopback.url) as asked:
        with pytest.raises(NotConfigured) as caught:
            await asked("hi")
    assert not [text for text in traceback.format_exception(caught.value) if key in text]
    assert loopback.asked == []


async def test_a_redirect_is_not_followed_with_the_key(loopback):
    """The key goes to the configured host only."""
    loopback.answers(b"", status=307, location=f"{loopback.url}/elsewhere")
    async with model(loopback, stream=False) as asked:
        with pytest.raises(NotConfigured, match=r"redirects to .*/elsewhere: use that address as `base_url`"):
            await asked("hi")
    assert len(loopback.asked) == 1
