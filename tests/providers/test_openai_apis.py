"""Which of OpenAI's two APIs is asked."""

import json

import pytest

from modelhub import Hub
from modelhub.core.errors import UnsupportedFeature
from modelhub.providers.openai import OpenAIChatModel
from modelhub.testing import FaultServer, reroute_config
from tests.providers.openai_api import TOOL, Anywhere
from tests.providers.test_openai_corpus import KEY
from tests.tables import table


@pytest.fixture
def anywhere():
    """A server at every address."""
    return Anywhere()


SITES = [
    ({}, "/v1/responses"),
    ({"base_url": "https://eu.api.openai.com/v1"}, "/v1/responses"),
    ({"base_url": "https://x.openai.azure.com/openai/v1/"}, "/openai/v1/responses"),
    ({"base_url": "https://x.services.ai.azure.com/openai/v1"}, "/openai/v1/responses"),
    ({"base_url": "https://api.deepseek.com"}, "/chat/completions"),
    ({"base_url": "http://127.0.0.1:9/v1"}, "/v1/chat/completions"),
    ({"base_url": "http://127.0.0.1:9/v1", "compat": "openai"}, "/v1/chat/completions"),
    (
        {
            "base_url": "https://x.openai.azure.com",
            "client_type": "azure",
            "client_args": {"api_version": "2024-10-21"},
        },
        "/openai/deployments/gpt-5-mini/chat/completions",
    ),
    ({"api": "chat"}, "/v1/chat/completions"),
    ({"base_url": "http://127.0.0.1:9/v1", "api": "responses"}, "/v1/responses"),
]


@table(("arguments", "path"), SITES)
async def test_auto_is_responses_where_openai_and_azure_serve_it(anywhere, arguments, path):
    """By the address; elsewhere, and for who says so, it is chat completions."""
    client_args = {**arguments.get("client_args", {}), "http_client": anywhere.client()}
    async with OpenAIChatModel("gpt-5-mini", KEY, False, **{**arguments, "client_args": client_args}) as model:
        assert (await model("hi")).text == "ok"
    assert anywhere.asked[-1].url.path == path


AZURE = "https://x.openai.azure.com/openai/v1/"
LAMP = {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "wav"}}
CHOICES = [
    ("gpt-5-mini", {}, "responses"),
    ("gpt-4o", {"temperature": 0.2, "max_tokens": 100, "n": 1, "seed": None}, "responses"),
    ("gpt-4o", {"stop": ["END"]}, "chat"),
    ("gpt-4o", {"seed": 7}, "chat"),
    ("gpt-4o", {"n": 2}, "chat"),
    ("gpt-4o", {"presence_penalty": 0.5}, "chat"),
    ("gpt-4o", {"logprobs": True, "top_logprobs": 2}, "chat"),
    ("gpt-4o", {"max_tokens": 5}, "chat"),
    ("gpt-4o", {"seed": 7, "tools": True}, "chat"),
    ("gpt-5-mini", {"seed": 7}, "chat"),
    ("gpt-5-mini", {"seed": 7, "tools": True}, "chat"),
    ("gpt-5.6-sol", {"seed": 7}, "chat"),
    ("gpt-5.6-sol", {"seed": 7, "tools": True}, "responses"),
    ("gpt-5.4", {"seed": 7, "tools": True, "reasoning_effort": "none"}, "chat"),
    ("gpt-5.4", {"seed": 7, "tools": True, "reasoning_effort": "low"}, "responses"),
    ("gpt-4o", {"seed": 7, "truncation": "auto"}, "responses"),
    ("gpt-4o", {"seed": 7, "own tools": True}, "responses"),
    ("gpt-5-pro", {"seed": 7}, "responses"),
    ("gpt-4o-audio-preview", {}, "chat"),
    ("gpt-5-search-api", {}, "chat"),
    ("gpt-4o", {"audio in": True}, "chat"),
]


@table(("name", "says", "api"), CHOICES)
@table("stream", [False, True])
async def test_auto_goes_by_what_a_request_needs(anywhere, name, says, api, stream):
    """What only chat completions take goes there, unless the model or its tools would not."""
    says = dict(says)
    content = [{"type": "text", "text": "hi"}, *([LAMP] if says.pop("audio in", False) else [])]
    tools = [
        *([TOOL] if says.pop("tools", False) else []),
        *([{"type": "web_search"}] if says.pop("own tools", 0) else []),
    ]
    async with OpenAIChatModel(name, KEY, stream, client_args={"http_client": anywhere.client()}) as model:
        reply = await model([{"role": "user", "content": content}], tools, **says)
        assert (await reply.final() if stream else reply).text == "ok"
    assert anywhere.asked[-1].url.path == f"/v1/{'responses' if api == 'responses' else 'chat/completions'}"


@table(
    ("arguments", "tools"),
    [({"api": "responses"}, []), ({}, [{"type": "web_search"}]), ({"base_url": AZURE, "api": "responses"}, [])],
)
async def test_sound_is_refused_where_responses_do_not_take_it(anywhere, arguments, tools):
    """Before anything is sent: OpenAI and Azure would answer with a 400, and a chain moves on at once."""
    args = {"http_client": anywhere.client()}
    async with OpenAIChatModel("gpt-5-mini", KEY, False, client_args=args, **arguments) as model:
        for content in ([LAMP], [{"type": "text", "text": "hi"}, LAMP]):
            with pytest.raises(UnsupportedFeature, match="audio through its Responses API"):
                await model([{"role": "user", "content": content}], tools)
    assert anywhere.asked == []


@table(("says", "sent"), [({"max_tokens": 5}, 16), ({"max_tokens": 17}, 17), ({}, None)])
async def test_a_limit_of_tokens_is_not_lower_than_responses_take(anywhere, says, sent):
    """It is raised, and the attempt says so, where no other API is asked."""
    args = {"http_client": anywhere.client()}
    async with OpenAIChatModel("gpt-5-pro", KEY, False, client_args=args) as model:
        (attempt,) = (await model("hi", **says)).attempts
    assert json.loads(anywhere.asked[-1].content).get("max_output_tokens") == sent
    assert attempt.rounded == ({"max_tokens": "5 -> 16"} if sent == 16 else {})


async def test_a_file_says_which_api(anywhere, monkeypatch):
    """The key `api`, `auto` if it is not there; in a drill the address changes, and the API does not."""
    for options, api in (({}, "responses"), ({"api": "chat"}, "chat"), ({"base_url": "http://127.0.0.1:9"}, "chat")):
        entry = {"provider": "openai", "model_name": "m", "api_key": "k", **options}
        with FaultServer().running() as server:
            moved = reroute_config({"version": 1, "models": {"gpt": entry}}, server)
            async with Hub.from_dict(moved, environ={}) as hub:
                await hub.get("gpt")("hi")
            [request] = server.requests("gpt")
        assert request.wire == {"responses": "openai_responses", "chat": "openai"}[api]
