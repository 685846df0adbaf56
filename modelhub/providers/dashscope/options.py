"""What the file says of a model of the provider `dashscope`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from modelhub.options import ProviderOptions, Secret
from modelhub.providers.dashscope.endpoint import find_endpoint
from modelhub.providers.dashscope.provider import DashScopeChatModel

__all__ = ["DashScopeOptions"]


class DashScopeOptions(ProviderOptions):
    """A model of Alibaba Cloud's Model Studio (Qwen and others), by the native API."""

    address_fields: ClassVar[tuple[str, ...]] = ("base_http_api_url", "base_url")
    address_path: ClassVar[str] = "/api/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("DASHSCOPE_API_KEY",)

    provider: Literal["dashscope"] = "dashscope"
    """Which vendor's API this model speaks."""
    api_key: Secret | None = None
    """The API key; DASHSCOPE_API_KEY if not given, for Alibaba Cloud's own addresses."""
    enable_thinking: bool | None = None
    """Whether the model thinks before it answers; the model decides if not given."""
    base_http_api_url: str | None = None
    """The API's address up to `/api/v1`; DASHSCOPE_BASE_URL, or the one in Beijing, if not given."""
    base_url: str | None = None
    """Another name for `base_http_api_url`."""
    multimodality: bool | None = None
    """Whether to use the multimodal endpoint; by the messages and the model's name if not given."""
    stream_tool_parsing: bool = True
    """Accepted for the seed's sake: partial tool arguments are parsed when they are read."""
    client_args: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the SDK's client: `workspace`, `region`, `timeout` or `http_client`."""
    client_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Another name for `client_args`."""

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """What is to be done for a key, if there is none for this address."""
        key = self.api_key.get_secret_value() if self.api_key is not None else None
        args = {**self.client_args, **self.client_kwargs}
        endpoint, _ = find_endpoint(self.base_http_api_url or self.base_url, key, args, environ)
        return endpoint.missing_key()

    def connect(self) -> DashScopeChatModel:
        """The model."""
        return DashScopeChatModel(**{"api_key": None, **self.arguments()})
