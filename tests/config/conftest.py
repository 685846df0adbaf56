"""A provider of the tests' own, so that no test here depends on what vendors' options look like."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import AliasChoices, Field

from modelhub import registry
from modelhub.config.load import Loaded, load_text
from modelhub.core.errors import ConfigError
from modelhub.options import ProviderOptions, Secret

ROOT = Path(__file__).parents[2]


class AcmeOptions(ProviderOptions):
    """A model at Acme."""

    key_variables: ClassVar[tuple[str, ...]] = ("ACME_API_KEY",)

    api_key: Secret | None = None
    """The key."""
    base_url: str | None = None
    """Where the API is."""
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    """The most tokens of an answer."""
    effort: Literal["low", "high"] | None = None
    """How hard to think."""
    think: bool | Literal["low", "high"] | None = None
    """Whether, or how hard, to think."""
    client_args: dict[str, Any] = Field(
        default_factory=dict, validation_alias=AliasChoices("client_args", "client_kwargs")
    )
    """What the client gets."""


@pytest.fixture(autouse=True)
def _acme(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("acme_for_tests")
    module.AcmeOptions = _OPTIONS  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "acme_for_tests", module)
    monkeypatch.setitem(registry.PROVIDERS, "acme", "acme_for_tests:AcmeOptions")


_OPTIONS = AcmeOptions


@pytest.fixture(name="load")
def _load() -> Callable[..., Loaded]:
    """Load a text in an environment that has nothing but what is given."""

    def load(text: str, **environ: str) -> Loaded:
        return load_text(text, environ=environ)

    return load


@pytest.fixture(name="refuse")
def _refuse() -> Callable[..., ConfigError]:
    """The error of loading a text."""

    def refuse(text: str, environ: Mapping[str, str] | None = None) -> ConfigError:
        with pytest.raises(ConfigError) as caught:
            load_text(text, environ=environ or {})
        return caught.value

    return refuse


SAMPLE = """\
# yaml-language-server: $schema=./schemas/models.schema.json
version: 1
defaults:
  timeout: {connect: 5s, first_token: 30s, idle: 30s, total: 120s}
  retry:
    max_attempts: 3
    initial_wait: 500ms
    max_wait: 20s
limits:
  tier2: {requests_per_minute: 500, tokens_per_minute: 200_000, concurrency: 16}
models:
  gpt:
    provider: acme
    model_name: acme-5-mini
    api_key: ${ACME_KEY}
    stream: false
    limit: tier2
    timeout: {idle: 10s}
    generate_kwargs: {temperature: 0.2, stop: [a, b]}
  claude: {provider: acme, model_name: other, api_key: "${OTHER_KEY}", max_tokens: 2048}
  offline:
    provider: scripted
    reply: "I am offline: ask later"
chains:
  primary:
    models: [gpt, claude, offline]
    deadline: 90s
  spare:
    models:
      - claude
      - offline
"""


@pytest.fixture(name="sample", scope="session")
def _sample() -> str:
    """A file with some of everything."""
    return SAMPLE


@pytest.fixture(name="shipped", scope="session")
def _shipped() -> str:
    """The project's own models.yaml."""
    path = ROOT / "models.yaml"
    return path.read_text(encoding="utf-8") if path.exists() else SAMPLE
