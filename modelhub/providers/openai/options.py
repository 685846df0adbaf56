"""What the file says of a model of the provider `openai`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, Literal

from pydantic import ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from modelhub.options import BatchOptions, OwnEffort, ProviderOptions, Secret
from modelhub.providers.endpoint import Endpoint
from modelhub.providers.openai.apis import find_api
from modelhub.providers.openai.endpoint import find_endpoint
from modelhub.providers.openai.provider import OpenAIChatModel, has_credentials
from modelhub.providers.openai.servers import SERVERS, Quirks, find_server, suggest_address

__all__ = ["OpenAIOptions"]


class OpenAIOptions(ProviderOptions):
    """A model of OpenAI, or of a server that speaks like it."""

    provider: Literal["openai"] = "openai"
    """Which vendor's API this model speaks."""
    api_key: Secret | None = None
    """The key; OPENAI_API_KEY if not given, or the variable of the server that `compat` or `base_url` names."""
    base_url: str | None = None
    """Where the server is, such as https://api.deepseek.com or http://localhost:8000/v1."""
    reasoning_effort: OwnEffort | None = None
    """How much a reasoning model thinks."""
    organization: str | None = None
    """The organization's id; OPENAI_ORGANIZATION or OPENAI_ORG_ID if not given."""
    client_args: dict[str, Any] | None = None
    """Further arguments of the SDK's client, such as `default_headers` or `timeout`."""
    client_kwargs: dict[str, Any] | None = None
    """Another name for `client_args`."""
    client_type: Literal["openai", "azure"] | None = None
    """`azure` for Azure's own addresses; then `client_args: {api_version: ...}` is needed too."""
    api: Literal["auto", "responses", "chat"] = "auto"
    """Which of OpenAI's two APIs is asked; `auto` is Responses at api.openai.com and on Azure's v1 address, unless a
    request needs what only chat completions have."""
    compat: str | None = None
    """The server's name, where its host does not tell: vllm, lmstudio, llamacpp, ollama, deepseek, openrouter, ..."""
    quirks: Quirks | None = None
    """Corrections of what is known of the server."""
    stream_tool_parsing: bool = True
    """Accepted for its name; arguments are parsed when they are read."""

    address_path: ClassVar[str] = "/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    batch: BatchOptions | None = None
    """Have `modelhub batch` send rows through the vendor's batch API, at half the price; `{}` for the usual window."""

    @field_validator("compat")
    @classmethod
    def _check_compat(cls, name: str | None, info: ValidationInfo) -> str | None:
        if name is None:
            return None
        if name not in SERVERS:
            close = get_close_matches(name, SERVERS, 1)
            hint = f"did you mean `{close[0]}`?" if close else f"servers: {', '.join(sorted(SERVERS))}"
            raise PydanticCustomError("compat", "there is no such server", {"hint": hint})
        fields = info.data
        arguments = fields.get("client_args") or fields.get("client_kwargs") or {}
        address = fields.get("base_url") or arguments.get("base_url")
        # Azure's own variables may say the address.
        if not SERVERS[name].site.address and not address and fields.get("client_type") != "azure":
            raise PydanticCustomError("compat", "this server has no usual address", {"hint": suggest_address(name)})
        return name

    def missing(self, environ: Mapping[str, str]) -> str | None:
        """The variable to set for this server's key; None if there is a key, or none is needed."""
        if self.api_key is None and has_credentials(self._arguments()):
            return None
        return self._find_endpoint(environ)[0].missing_key()

    def _arguments(self) -> dict[str, Any]:
        return self.client_args or self.client_kwargs or {}

    def _address(self) -> Any:
        return self.base_url or self._arguments().get("base_url")

    def _find_endpoint(self, environ: Mapping[str, str]) -> tuple[Endpoint, str]:
        key = self.api_key.get_secret_value() if self.api_key is not None else self._arguments().get("api_key")
        return find_endpoint(self._address(), key, self.compat, self.client_type == "azure", environ)

    def _asks_responses(self) -> bool:
        """Whether Responses are asked, unless a request needs chat completions."""
        endpoint, server = self._find_endpoint(os.environ)
        return find_api(self.api, server, endpoint) != "chat"

    def describe(self) -> Iterator[str]:
        """Yield which of OpenAI's APIs is asked."""
        yield "Responses API" if self._asks_responses() else "chat completions"

    def fields_at_another_address(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the address tells: which server speaks, in which API, and that Azure needs a version."""
        address = self._address()
        api = {"api": "responses" if self._asks_responses() else "chat"} if self.api == "auto" else {}
        if self.client_type == "azure":
            name = next((name for name in ("client_args", "client_kwargs") if fields.get(name)), "client_args")
            return api | {name: {"api_version": "2024-10-21", **(fields.get(name) or {})}}
        if self.compat is not None:
            return api
        return api | {"compat": find_server(str(address)) if address else "openai"}

    def connect(self) -> OpenAIChatModel:
        """The provider these options describe."""
        return OpenAIChatModel(**self.arguments())
