"""What the file says of a model of the provider `anthropic`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from modelhub.options import BatchOptions, ProviderOptions, Secret
from modelhub.providers.anthropic.endpoint import find_endpoint, has_credentials
from modelhub.providers.anthropic.provider import AnthropicChatModel

__all__ = ["AnthropicOptions"]


class AnthropicOptions(ProviderOptions):
    """A Claude model, or another behind a server that speaks Anthropic's Messages API."""

    key_variables: ClassVar[tuple[str, ...]] = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")

    provider: Literal["anthropic"] = "anthropic"
    """Anthropic's Messages API."""
    api_key: Secret | None = None
    """The API key; if not given, `ANTHROPIC_API_KEY`, which is sent to Anthropic's own address only."""
    max_tokens: Annotated[int, Field(ge=0)] = 2048
    """How many tokens the answer may have, thinking included."""
    thinking: dict[str, Any] | None = None
    """How Claude thinks: `{type: adaptive}`, `{type: enabled, budget_tokens: 1024}` or `{type: disabled}`."""
    base_url: str | None = None
    """Another address than https://api.anthropic.com, without `/v1`."""
    client_args: dict[str, Any] | None = None
    """Further keywords for the SDK's client, such as `default_headers` or `timeout` (seconds of silence)."""
    client_kwargs: dict[str, Any] | None = None
    """The same as `client_args`."""
    batch: BatchOptions | None = None
    """Have `modelhub batch` send rows through the vendor's batch API, at half the price; `{}` for the usual window."""

    def connect(self) -> AnthropicChatModel:
        """The model these options describe. Opens nothing."""
        return AnthropicChatModel(**self.arguments())

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """The key, if there is none for the address."""
        key = self.api_key.get_secret_value() if self.api_key is not None else None
        client_args = {**(self.client_args or {}), **(self.client_kwargs or {})}
        if key is None and has_credentials(client_args):
            return None
        return find_endpoint(self.base_url, key, client_args, environ).missing_key()
