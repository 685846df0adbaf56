"""What the file says of a model of the provider `ollama`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from modelhub.options import ProviderOptions, Secret
from modelhub.providers.ollama.endpoint import find_endpoint, has_credentials
from modelhub.providers.ollama.provider import OllamaChatModel

__all__ = ["OllamaOptions"]


class OllamaOptions(ProviderOptions):
    """A model served by Ollama, on this machine, another one, or in Ollama's cloud."""

    address_fields: ClassVar[tuple[str, ...]] = ("host", "base_url")
    key_variables: ClassVar[tuple[str, ...]] = ()

    provider: Literal["ollama"] = "ollama"
    """Which vendor's API this model speaks."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Ollama's model options, such as `temperature`, `num_ctx` or `num_predict`."""
    keep_alive: str | int | float | None = "5m"
    """How long the server keeps the model in memory after a call: `5m`, `1h`, seconds, or -1 for ever."""
    enable_thinking: bool | Literal["low", "medium", "high"] | None = None
    """Whether the model thinks before it answers, or how hard; not said if not given."""
    host: str | None = None
    """The server's address; OLLAMA_HOST, or http://127.0.0.1:11434, if not given."""
    base_url: str | None = None
    """Another name for `host`."""
    api_key: Secret | None = None
    """The key of Ollama's cloud or of a gateway. OLLAMA_API_KEY is only ever sent to https://ollama.com."""
    client_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the HTTP client, such as `headers`, `timeout` or `verify`."""
    client_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Another name for `client_args`."""

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """The variable to set for the key of Ollama's cloud; None if there is a key, or none is needed."""
        if has_credentials({**self.client_args, **self.client_kwargs}):
            return None
        key = None if self.api_key is None else self.api_key.get_secret_value()
        return find_endpoint(self.host or self.base_url, key, environ).missing_key()

    def connect(self) -> OllamaChatModel:
        """The model."""
        return OllamaChatModel(**self.arguments())
