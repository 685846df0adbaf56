"""What the file says of a model of the provider `gemini`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from modelhub.options import BatchOptions, ProviderOptions, Secret
from modelhub.providers.gemini.endpoint import KEY_VARIABLES, find_endpoint, has_credentials, is_vertex
from modelhub.providers.gemini.parameters import read_http_options
from modelhub.providers.gemini.provider import GeminiChatModel

__all__ = ["GeminiOptions"]


class GeminiOptions(ProviderOptions):
    """A model of Google's Gemini API, or of Vertex AI."""

    provider: Literal["gemini"] = "gemini"
    """Which vendor's API this model speaks."""
    api_key: Secret | None = None
    """The key; if not given, GOOGLE_API_KEY or else GEMINI_API_KEY is read, in the SDK's order."""
    thinking_config: dict[str, Any] | None = None
    """How the model thinks: `include_thoughts`, `thinking_budget` (2.5) or `thinking_level` (3 and later)."""
    base_url: str | None = None
    """Where the API is, if not at Google's own address."""
    client_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the SDK's client: `http_options`, or for Vertex AI `vertexai`, `project`, `location`."""
    client_kwargs: dict[str, Any] = Field(default_factory=dict)
    """The later name of `client_args`."""

    key_variables: ClassVar[tuple[str, ...]] = KEY_VARIABLES
    batch: BatchOptions | None = None
    """Have `modelhub batch` send rows through the vendor's batch API, at half the price; `{}` for the usual window."""

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """The variable to set for the key; None if there is a key, or none is needed, as for Vertex AI."""
        arguments = {**self.client_args, **self.client_kwargs}
        options = read_http_options(arguments.get("http_options"))
        if has_credentials(arguments, options):
            return None
        key = arguments.get("api_key") if self.api_key is None else self.api_key.get_secret_value()
        base_url = self.base_url or options.get("base_url")
        return find_endpoint(base_url, key, is_vertex(arguments), environ).missing_key()

    def connect(self) -> GeminiChatModel:
        """The model."""
        return GeminiChatModel(**self.arguments())
