"""What keeps an SDK's client from being made, and credentials that are no key: the same for all vendors."""

import pytest

from modelhub import Hub, OpenAIChatModel
from modelhub.core.errors import NotConfigured
from modelhub.providers.openai import OpenAIOptions
from tests.tables import table

VENDORS = {
    "openai": {"base_url": "http://127.0.0.1:1/v1"},
    "anthropic": {"base_url": "http://127.0.0.1:1"},
    "dashscope": {"base_url": "http://127.0.0.1:1/api/v1"},
    "ollama": {"host": "http://127.0.0.1:1"},
    "gemini": {"base_url": "http://127.0.0.1:1"},
}


def hub_of(provider, **more):
    entry = {"provider": provider, "model_name": "m", "api_key": "key", **VENDORS[provider], **more}
    return Hub.from_dict({"version": 1, "models": {"m": entry}})


def address(provider, text):
    return {"host" if provider == "ollama" else "base_url": text}


@table("provider", VENDORS)
@table(
    ("fault", "says"),
    [
        ("argument", "bogus"),
        ("scheme", "must begin with http:// or https://"),
        ("port", "port `99999` of `http://127.0.0.1:99999` is no number"),
        ("host", "has no host"),
        ("timeout", "`timeout` must be a number of seconds"),
        ("proxy", "cannot be (made|used|imported)"),
    ],
)
@table("stream", [False, True])
async def test_a_client_that_cannot_be_made_is_not_configured(monkeypatch, provider, fault, says, stream):
    """No SDK's error, no failure that a breaker counts: `NotConfigured`, which says what to look at."""
    more = {
        "argument": {"client_args": {"bogus": 1}},
        "scheme": address(provider, "ftp://127.0.0.1"),
        "port": address(provider, "http://127.0.0.1:99999"),
        "host": address(provider, "http://"),
        "timeout": {"client_args": {"timeout": "soon"}},
        "proxy": {},
    }[fault]
    if fault == "proxy":
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:nonsense")
    async with hub_of(provider, **more) as hub:
        with pytest.raises(NotConfigured, match=says):
            await hub.get("m")("hi", stream=stream)


@table("provider", sorted(VENDORS.keys() - {"ollama"}))
async def test_an_address_without_a_scheme_is_not_configured(provider):
    """The message says which was probably meant. Ollama's needs none."""
    async with hub_of(provider, base_url="localhost:8000/api") as hub:
        with pytest.raises(NotConfigured, match=r"has no scheme \(did you mean `http://localhost:8000/api`\?\)"):
            await hub.get("m")("hi")


AZURE = {"client_type": "azure", "base_url": "https://x.openai.azure.com"}
VERSION = {"api_version": "2024-10-21"}
CREDENTIALS = {
    "a token": {**AZURE, "client_args": {**VERSION, "azure_ad_token": "tok"}},
    "what gives tokens": {**AZURE, "client_kwargs": {**VERSION, "azure_ad_token_provider": lambda: "tok"}},
    "Azure's header": {**AZURE, "client_args": {**VERSION, "default_headers": {"api-key": "k"}}},
    "a header": {
        "base_url": "https://gw.example/v1",
        "client_args": {"default_headers": {"Authorization": "Bearer t"}},
    },
}


@table("settings", CREDENTIALS.values(), ids=CREDENTIALS)
def test_other_credentials_than_a_key_work_from_a_file_as_by_hand(settings):
    """A model with them is configured, both ways."""
    entry = {"provider": "openai", "model_name": "m", **settings}
    hub = Hub.from_dict({"version": 1, "models": {"m": entry}}, environ={})
    assert hub.get("m").configured
    assert OpenAIChatModel("m", **settings).missing() is None


def test_no_credentials_are_missing_ones():
    """A header of another kind is no credential."""
    settings = {"base_url": "https://gw.example/v1", "client_args": {"default_headers": {"x-team": "a"}}}
    assert OpenAIOptions(model_name="m", **settings).missing({}) == OpenAIChatModel("m", **settings).missing()
