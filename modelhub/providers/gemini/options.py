"""What the file says of a model of the provider `gemini`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from modelhub.options import ProviderOptions, Secret
from modelhub.providers.gemini.provider import KEY_VARIABLES, GeminiChatModel, is_vertex

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

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """What is to be done before the model can be called; Vertex AI needs no key."""
        arguments = {**self.client_args, **self.client_kwargs}
        return None if is_vertex(arguments) or arguments.get("api_key") else super().missing(environ)

    def connect(self) -> GeminiChatModel:
        """The model."""
        return GeminiChatModel(**self.arguments())
