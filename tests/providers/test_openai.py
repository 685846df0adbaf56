"""OpenAI's class itself: what it is made of, which servers and keys it uses, and how it reads odd answers."""

import asyncio
import gc
import json

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from modelhub import Hub
from modelhub.core.errors import CallError, ConfigError, NotConfigured
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.http_provider import WholeBody
from modelhub.providers.openai import OpenAIChatModel, OpenAIOptions
from modelhub.providers.openai.apis import CHAT_API
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.registry import load_provider_options
from tests.tables import table

SSE = "text/event-stream"
ANSWER = {"id": "c1", "model": "m1", "choices": [{"message": {"content": "ok"}, "finish_reason": "stop"}]}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch):
    """No key of the machine's, no proxy, no address."""
    names = [
        "API_KEY",
        "BASE_URL",
        "ORG_ID",
        "ORGANIZATION",
        "PROJECT_ID",
        "CUSTOM_HEADERS",
        "ADMIN_KEY",
        "API_VERSION",
    ]
    for name in [f"OPENAI_{name}" for name in names] + [
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_AD_TOKEN",
        "DEEPSEEK_API_KEY",
    ]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "*")


ITEM = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}
RESPONSE = {"id": "r1", "object": "response", "model": "m1", "status": "completed", "output": [ITEM]}


class Anywhere(httpx2.AsyncBaseTransport):
    """Notes where a request goes, and answers it, whatever the host."""

    def __init__(self):
        self.asked = []

    async def handle_async_request(self, request):
        self.asked.append(request)
        return httpx2.Response(200, json=RESPONSE if request.url.path.endswith("/responses") else ANSWER)


@pytest.fixture
async def anywhere():
    """An HTTP client that reaches no network; `asked` are its requests."""
    transport = Anywhere()
    async with httpx2.AsyncClient(transport=transport) as client:
        client.asked = transport.asked
        yield client


async def request_of(anywhere, *args, client_args=None, **kwargs):
    """The request that a model made so would send."""
    model = OpenAIChatModel(*args, client_args={"http_client": anywhere, **(client_args or {})}, **kwargs)
    await model("hi", stream=False)
    return anywhere.asked[-1]


# Which server, which key


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


# Odd answers


def chunks(*deltas, finish="stop", **last):
    """Events for a stream with these deltas."""
    choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
    events = [
        {"id": "c1", "choices": choice} for choice in (*choices, [{"index": 0, "delta": None, "finish_reason": finish}])
    ]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in [*events, last] if event) + "data: [DONE]\n\n"


@pytest.fixture
async def streamed(loopback):
    """Answer with a stream of deltas; the complete reply."""

    async def stream(*deltas, **kwargs):
        loopback.answers(chunks(*deltas, **kwargs), content_type=SSE)
        async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
            return await (await model("hi")).final()

    return stream


def call(index=0, id=None, name=None, arguments=None, **more):  # noqa: A002
    """A delta with a piece of a call."""
    given = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}, **more}
    return {"tool_calls": [{key: value for key, value in given.items() if value is not None}]}


def both(*deltas):
    """One delta with the calls of several."""
    return {"tool_calls": [one for delta in deltas for one in delta["tool_calls"]]}


WHOLE = [("a", "f", {"x": 1}), ("b", "g", {})]


@table(
    ("deltas", "expected"),
    [
        (
            [call(0, "a", "f", ""), call(0, None, None, '{"x"'), call(0, None, None, ": 1}"), call(1, "b", "g", "{}")],
            WHOLE,
        ),
        ([both(call(0, "a", "f", '{"x": 1}'), call(1, "b", "g", "{}"))], WHOLE),
        # index 0 for all: the ids tell
        ([both(call(0, "a", "f", '{"x": 1}'), call(0, "b", "g", "{}"))], WHOLE),
        ([call(0, "a", "f", '{"x": 1}'), call(0, "b", "g", "{}")], WHOLE),
        ([call(0, "a", "f", '{"x":'), call(0, "a", "f", " 1}"), call(0, "b", "g")], WHOLE),
        # no index: the id, else the call before
        ([call(None, "a", "f", '{"x":'), call(None, None, None, " 1}"), call(None, "b", "g", "{}")], WHOLE),
        ([call(None, "a", "f", '{"x":'), call(None, "b", "g", "{}"), call(None, "a", None, " 1}")], WHOLE),
        # in turns
        ([call(0, "a", "f"), call(1, "b", "g"), call(0, None, None, '{"x": 1}'), call(1, None, None, "{}")], WHOLE),
        # the name, or the id, comes late
        ([call(0, "a", None, '{"x":'), call(0, None, "f", " 1}"), call(1, "b", "g")], WHOLE),
        ([call(0, None, "f", '{"x":'), call(0, "a", None, " 1}"), call(1, "b", "g")], WHOLE),
        # ids change from piece to piece, names do not come again
        ([call(0, "a", "f", '{"x":'), call(0, "z", None, " 1}"), call(1, "b", "g")], WHOLE),
        ([call(0, "a", "f", '{"x":'), call(0, "", "", " 1}"), call(1, "b", "g", "")], WHOLE),
        # arguments that are no text
        ([both(call(0, "a", "f", {"x": 1}), call(1, "b", "g", {}))], WHOLE),
        # no ids at all: ids are made
        ([call(0, "", "f", '{"x": 1}'), call(0, "", "f", '{"x": 2}')], [(None, "f", {"x": 1}), (None, "f", {"x": 2})]),
        ([both(call(0, None, "f"), call(0, None, "f"))], [(None, "f", {}), (None, "f", {})]),
        # nothing in it
        ([call(0, None, None, None), {"tool_calls": None}, {"tool_calls": [None]}, {"content": "x"}], []),
        (
            [{"function_call": {"name": "f", "arguments": '{"x"'}}, {"function_call": {"arguments": ": 1}"}}],
            [(None, "f", {"x": 1})],
        ),
        (
            [call(0, "a", None, None, type="custom", function=None, custom={"name": "f", "input": '{"x": 1}'})],
            WHOLE[:1],
        ),
    ],
)
async def test_calls_survive_however_they_come(streamed, deltas, expected):
    """Pieces with wrong or missing indices, late names, ids that come late or change, and several at once."""
    reply = await streamed(*deltas)
    assert [(one["name"], one["input"]) for one in reply.tool_calls] == [one[1:] for one in expected]
    assert all(one["id"] == given or not given for one, (given, *_) in zip(reply.tool_calls, expected, strict=True))
    assert len({one["id"] for one in reply.tool_calls} - {""}) == len(expected)
    assert reply.finish_reason == ("tool_calls" if expected else "stop")


async def test_deltas_and_choices_that_are_not_there(streamed):
    """`delta: null`, empty choices and a role without content are passed over."""
    reply = await streamed(None, {"role": "assistant"}, {"content": None}, {"content": "a", "role": None}, {})
    assert (reply.text, reply.finish_reason) == ("a", "stop")


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


async def test_the_first_choice_is_the_answer(loopback):
    """With n > 1 the others are not mixed in, in a stream nor in a whole answer."""
    events = [
        {"choices": [{"index": i, "delta": {"content": text}}]} for i, text in ((1, "B"), (0, "A"), (1, "b"), (0, "a"))
    ]
    events += [{"choices": [{"index": i, "delta": {}, "finish_reason": "stop"}]} for i in (1, 0)]
    loopback.answers("".join(f"data: {json.dumps(event)}\n\n" for event in events), content_type=SSE)
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        assert (await (await model("hi", n=2)).final()).text == "Aa"
        choices = [
            {"index": i, "message": {"content": text}, "finish_reason": "stop"} for i, text in ((1, "B"), (0, "A"))
        ]
        loopback.answers({"choices": choices})
        assert (await model("hi", n=2, stream=False)).text == "A"


@table(
    ("deltas", "thinking"),
    [
        ([{"reasoning_content": "a"}, {"reasoning_content": "b"}], "ab"),
        ([{"reasoning": "a"}, {"reasoning": "b"}], "ab"),
        ([{"reasoning": "a", "reasoning_content": "a"}, {"reasoning": "b", "reasoning_content": "b"}], "ab"),
        ([{"reasoning_details": [{"type": "reasoning.text", "text": "ab", "index": 0}]}], "ab"),
        ([{"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "ab"}]}]}], "ab"),
    ],
)
async def test_thinking_under_all_its_names(streamed, deltas, thinking):
    """One block, marked as this dialect's, in front of the text."""
    reply = await streamed(*deltas, {"content": "x"})
    assert (reply.thinking, reply.text) == (thinking, "x")
    assert [(block["type"], block.get("provider")) for block in reply.content] == [
        ("thinking", "openai"),
        ("text", None),
    ]


async def test_sealed_reasoning_is_kept_whole(streamed):
    """What OpenRouter wants back is put together from its pieces, on the block it belongs to."""
    pieces = [{"type": "reasoning.text", "text": text, "index": 0, "format": "f"} for text in ("a", "b")]
    pieces.append({"type": "reasoning.text", "signature": "sig", "index": 0})
    deltas = [{"reasoning": piece.get("text"), "reasoning_details": [piece]} for piece in pieces]
    reply = await streamed(*deltas, {"content": "x"}, call(0, "a", "f"))
    assert [block["type"] for block in reply.content] == ["thinking", "text", "tool_use"]
    kept = {"type": "reasoning.text", "text": "ab", "index": 0, "format": "f", "signature": "sig"}
    assert json.loads(reply.content[0]["data"]) == [kept]


async def test_a_refusal_is_text(streamed):
    """What the model says instead of an answer can be read, and finish_reason tells what it is."""
    reply = await streamed({"refusal": "I "}, {"refusal": "won't."})
    assert (reply.text, reply.finish_reason) == ("I won't.", "refusal")


@table(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}, (9, 2, 0, 0, 0)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "total_tokens": 16,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            (9, 7, 0, 0, 5),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 7,
                "total_tokens": 16,
                "completion_tokens_details": {"reasoning_tokens": 5},
            },
            (9, 7, 0, 0, 5),
        ),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 3},
            },
            (9, 2, 4, 3, 0),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": None},
            (9, 2, 4, 0, 0),
        ),
    ],
)
async def test_usage_is_counted_the_same_for_all(streamed, usage, expected):
    """Totals hold their parts, also where a server leaves the reasoning out of the answer's tokens."""
    found = (await streamed({"content": "a"}, usage=usage, choices=[])).usage
    parts = (found.cache_read_tokens, found.cache_write_tokens, found.reasoning_tokens)
    assert (found.input_tokens, found.output_tokens, *parts) == expected


async def test_the_request_id_is_kept(loopback):
    """The id that the vendor's support asks for stands in the story of the call."""
    loopback.answers(ANSWER, x_request_id="req_1")
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        assert (await model("hi", stream=False)).attempts[0].request_id == "req_1"
        loopback.answers(chunks({"content": "a"}), content_type=SSE, x_request_id="req_2")
        assert (await (await model("hi")).final()).attempts[0].request_id == "req_2"


async def test_a_stream_and_a_whole_answer_are_the_same(loopback, streamed):
    """The last snapshot is the reply that would have come whole."""
    one = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    message = {"reasoning_content": "hm", "content": "text", "tool_calls": [one]}
    last = await streamed(
        {"reasoning_content": "h"},
        {"content": "te"},
        {"reasoning_content": "m"},
        {"content": "xt"},
        call(0, "a", "f", '{"x": 1}'),
    )
    loopback.answers({"id": "c1", "choices": [{"message": message, "finish_reason": "tool_calls"}]})
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        whole = await model("hi", stream=False)
    assert (whole.content, whole.finish_reason, whole.id) == (last.content, last.finish_reason, last.id)


KEYS = ["id", "choices", "index", "delta", "message", "content", "tool_calls", "function", "name", "arguments", "usage"]
KEYS += ["finish_reason", "reasoning", "reasoning_details", "refusal", "prompt_tokens", "error", "code", "text", "type"]
LEAVES = st.none() | st.booleans() | st.integers(-3, 999) | st.sampled_from(["", "stop", "length", "a", "{}", "custom"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=20,
)
NOTHING = {"created_at": "", "model": "m", "model_name": "m", "requested": "m", "attempts": []}


@given(st.lists(VALUES, max_size=5), VALUES)
def test_no_value_is_too_odd(deltas, last):
    """Whatever JSON stands where a delta or a chunk should: an answer, or an error of ours."""
    model, streamed, whole = OpenAIChatModel("m", "key-of-test"), ResponseBuilder(NOTHING), ResponseBuilder(NOTHING)
    streamed.api = whole.api = CHAT_API
    try:
        body = {"choices": [{"message": last, "finish_reason": "stop"}]}
        model.decode_event(WholeBody(json.dumps(body).encode()), whole)
        events = [*({"choices": [{"index": 0, "delta": delta}]} for delta in deltas), last]
        for event in events:
            model.decode_event(ServerSentEvent("", json.dumps(event).encode()), streamed)
        for answer in (whole, streamed):
            assert json.dumps(answer.snapshot())
            assert json.dumps(answer.final())
    except CallError:
        return


class Person(BaseModel):
    """Somebody."""

    name: str


async def test_structure_grows_in_a_stream(loopback):
    """Snapshots show what can be read so far; the last one is validated."""
    loopback.answers(chunks({"content": '{"na'}, {"content": 'me": "B'}, {"content": 'o"}'}), content_type=SSE)
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        seen = [snapshot.metadata async for snapshot in await model("who?", structured_model=Person)]
    assert seen == [{}, {"name": "B"}, {"name": "Bo"}, {"name": "Bo"}]


async def test_many_fragments_are_little_work(loopback):
    """Arguments are parsed when they are read: once, however many pieces they come in."""
    text = json.dumps({"text": "x" * 20_000})
    pieces = [text[at : at + 10] for at in range(0, len(text), 10)]
    loopback.answers(chunks(call(0, "a", "f"), *(call(0, arguments=piece) for piece in pieces)), content_type=SSE)
    async with OpenAIChatModel("m", "key-of-test", base_url=f"{loopback.url}/v1") as model:
        stream = await model("hi")
        snapshots = [snapshot async for snapshot in stream]
    assert len(snapshots) > len(pieces)
    assert all(type(dict.__getitem__(one, "content")).__name__ == "Lazy" for one in snapshots[:-1])
    assert snapshots[-1].tool_calls[0]["input"] == json.loads(text)
    halfway = snapshots[len(snapshots) // 2].tool_calls[0]["input"]["text"]
    assert 9_000 < len(halfway) < 11_000


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_several_event_loops(loopback_thread):
    """One model serves one loop after the other, each with connections of its own, which end with their loop."""
    models = [OpenAIChatModel("m", "key-of-test", False, base_url=f"{loopback_thread}/v1")]

    async def twice():
        return [(await models[0]("hi")).text for _ in range(2)]

    assert [asyncio.run(twice()) for _ in range(3)] == [["ok", "ok"]] * 3
    models.clear()
    gc.collect()


@pytest.fixture
def loopback_thread():
    """The address of a server in a thread of its own, which answers everything with `ok`."""
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(ANSWER).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
