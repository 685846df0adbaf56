"""Who may call what: keys, their tags and budgets, models, hosts; and what else the endpoint tells."""

import openai
import pytest

from modelhub import ConfigError, Hub, UnknownModel
from modelhub.core.context import Services
from modelhub.core.events import CallEnded
from modelhub.integrations.asgi import KeyOptions, OpenAIApp
from tests.asgi.conftest import connected, make_hub, reached, serving

MESSAGES = [{"role": "user", "content": "hi"}]
KEYS = {"alice": KeyOptions(key="sk-alice", tags={"team": "search"}, models=["a"]), "bob": "sk-bob"}


async def test_a_request_needs_a_valid_key(app_of):
    """Without one, or with a wrong one, nothing is answered but the health check."""
    async with reached(app_of({"a": {}}, keys=KEYS)) as client:
        for key in (None, "sk-wrong", "sk-alic", "sk-alice2"):
            refused = await client.get("/v1/models", headers={"authorization": f"Bearer {key}"} if key else {})
            assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
            assert refused.json()["error"]["code"] == "invalid_api_key"
        assert (await client.get("/healthz")).json() == {"status": "ok"}


async def test_a_key_of_no_characters_lets_nobody_in(app_of):
    """An endpoint whose only key is empty, as a missing variable with a default leaves it, is closed to all."""
    app = app_of({"a": {}}, serve={"keys": {"alice": {"key": ""}}})
    async with reached(app) as client:
        for headers in ({}, {"authorization": "Bearer"}):
            assert (await client.get("/v1/models", headers=headers)).status_code == 401


async def test_calls_have_the_tags_of_their_key():
    """The key's name and tags go before what a client says in `metadata`."""
    events = []
    hub = make_hub({"a": {"say": "x"}}, services=Services(observers=(events.append,)))
    async with connected(OpenAIApp(hub, keys=KEYS), "sk-alice") as client:
        await client.chat.completions.create(
            model="a", messages=MESSAGES, metadata={"key": "bob", "team": "other", "job": "7"}
        )
    (tags,) = [event.tags for event in events if isinstance(event, CallEnded)]
    assert tags == {"key": "alice", "team": "search", "job": "7"}


async def test_each_key_has_its_own_budget(app_of):
    """A budget by the tag `key` is counted for each key alone."""
    app = app_of({"a": {"say": "x"}}, keys=KEYS, budgets={"per_key": {"tag": "key", "tokens": 2, "per": "day"}})
    async with connected(app, "sk-alice") as client:
        await client.chat.completions.create(model="a", messages=MESSAGES, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.chat.completions.create(model="a", messages=MESSAGES, max_tokens=1)
        await client.with_options(api_key="sk-bob").chat.completions.create(model="a", messages=MESSAGES, max_tokens=1)
    assert caught.value.code == "budget_exceeded"


async def test_a_key_sees_and_calls_its_models_only(app_of):
    """For everybody else's the answer is the same as for one that does not exist."""
    app = app_of({"a": {}, "b": {}}, keys=KEYS)
    async with connected(app, "sk-alice") as client:
        assert [model.id async for model in client.models.list()] == ["a"]
        assert (await client.models.retrieve("a")).owned_by == "scripted"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("b")
        with pytest.raises(openai.NotFoundError):
            await client.chat.completions.create(model="b", messages=MESSAGES)
        assert [model.id async for model in client.with_options(api_key="sk-bob").models.list()] == ["a", "b"]


async def test_the_file_says_what_is_served(app_of):
    """`serve: {models: [...]}` leaves the others out; without it all chains and models are served."""
    chains = {"c": ["a", "b"]}
    assert app_of({"a": {}, "b": {}}, chains).models == ("c", "a", "b")
    app = app_of({"a": {}, "b": {}}, chains, serve={"models": ["c"]})
    async with connected(app) as client:
        assert [model.id async for model in client.models.list()] == ["c"]


def test_a_name_that_does_not_exist_is_an_error_of_the_file():
    """With its place in the file, and a suggestion; for keys in code, when the app is made."""
    serve = {"models": ["gpd"], "keys": {"k": {"key": "x", "models": ["nobody"]}}}
    config = {"version": 1, "models": {"gpt": {"provider": "scripted"}}}
    with pytest.raises(ConfigError) as caught:
        Hub.from_dict({**config, "serve": serve})
    assert [problem.message for problem in caught.value.problems] == [
        "`serve` names an unknown model `gpd`",
        "`k` of `keys` of `serve` names an unknown model `nobody`",
    ]
    with pytest.raises(UnknownModel):
        OpenAIApp(Hub.from_dict(config), keys={"k": KeyOptions(key="x", models=["nobody"])})


def test_a_key_is_never_shown(app_of):
    """Neither by the app nor by what the file became."""
    app = app_of({"a": {}}, serve={"keys": {"alice": {"key": "sk-alice-secret"}}})
    assert "sk-alice" not in repr(app) + repr(vars(app)) + repr(app.hub.loaded.config)


async def test_a_page_of_another_site_is_kept_out(app_of):
    """With `hosts`, a request that was sent to another name is refused, as a browser sends it after DNS rebinding."""
    async with reached(app_of({"a": {}}, hosts=["localhost", "::1"])) as client:
        for host, status in (("localhost:80", 200), ("LOCALHOST", 200), ("[::1]:80", 200), ("evil.example", 403)):
            assert (await client.get("/v1/models", headers={"host": host})).status_code == status


async def test_the_hub_is_closed_when_the_server_stops(app_of):
    """With it ends what it owns, and the health check says so."""
    app = app_of({"a": {}})
    async with serving(app):
        assert not app.hub.closed
    assert app.hub.closed
    async with reached(app) as client:
        assert (await client.get("/healthz")).status_code == 503


async def test_it_can_be_mounted_below_a_path(app_of):
    """A framework passes its own path as `root_path`, and the address need not have `/v1`."""
    inner = app_of({"a": {}})

    async def outer(scope, receive, send):
        await inner({**scope, "root_path": "/llm"} if scope["type"] == "http" else scope, receive, send)

    async with reached(outer) as client:
        for path in ("/llm/v1/models", "/llm/models", "/llm/models/a"):
            assert (await client.get(path)).status_code == 200


async def test_a_reloaded_file_changes_keys_and_models(tmp_path):
    """The endpoint follows its hub; only from keys to none there is no way."""
    path = tmp_path / "models.yaml"
    file = "version: 1\nmodels: {{{}: {{provider: scripted}}}}\nserve: {{keys: {{k: {{key: {}}}}}}}\n"
    path.write_text(file.format("a", "sk-first"))
    hub = Hub.from_yaml(path)
    async with connected(OpenAIApp(hub), "sk-first") as client:
        assert [model.id async for model in client.models.list()] == ["a"]
        path.write_text(file.format("b", "sk-second"))
        await hub.areload()
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
        assert [model.id async for model in client.with_options(api_key="sk-second").models.list()] == ["b"]
        path.write_text(file.format("b", "x").replace("serve", "#"))
        await hub.areload()
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()
