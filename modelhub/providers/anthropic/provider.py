"""Anthropic's Messages API: Claude, and servers that speak the same.

Structured output is asked for natively (`output_config.format`) from Claude 4.5 on, if the schema can be said in the
API's form; otherwise by a forced tool, or in words where thinking excludes that.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from modelhub.core.errors import ConfigError
from modelhub.core.request import ChatRequest
from modelhub.messages.json_schema import get_schema
from modelhub.providers.addresses import split_userinfo
from modelhub.providers.anthropic import errors
from modelhub.providers.anthropic.endpoint import CREDENTIALS, find_endpoint, has_credentials
from modelhub.providers.anthropic.parameters import VOCABULARY, find_native_schema
from modelhub.providers.anthropic.request import PROVIDER_NAME, encode_request, thinks
from modelhub.providers.anthropic.response import DONE, read_body, read_event
from modelhub.providers.http.request_templates import RequestRecorder, RequestTemplate
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.http_provider import HttpProvider, VendorRequest
from modelhub.providers.sdk_client import merge_client_args
from modelhub.providers.sdk_writer import SdkWriter, make_vendor_request, replace_environment_headers
from modelhub.providers.structured_output import Method, Structured

__all__ = ["AnthropicChatModel"]

_RENEWED = frozenset({"credentials", "config", "profile", "middleware"})
"""The client's arguments that may write other headers into the next request."""
_PLAIN_CALL_SECONDS = 600
"""What the SDK's `messages.create` says of how long a call may take that is not streamed."""


class AnthropicChatModel(HttpProvider):
    """A model behind Anthropic's Messages API.

    *max_tokens* limits the answer, *thinking* is sent as it is, *client_args* (or *client_kwargs*) go to the SDK's
    `AsyncAnthropic`, *generate_kwargs* into every request; what the SDK has no parameter for (`temperature`) is sent
    all the same.

    Without *api_key* the key is `ANTHROPIC_API_KEY`, else `ANTHROPIC_AUTH_TOKEN`, and `ANTHROPIC_BASE_URL` is heeded.
    As soon as another key or an address is given, the environment adds nothing to it: no other address, no headers, and
    its key does not go to another host than Anthropic's. Keys are sent as `Authorization: Bearer`, to other hosts
    as `x-api-key` too.
    """

    takes_cache_marks = True
    kind = PROVIDER_NAME
    vocabulary = VOCABULARY
    max_tokens_parameters = ("max_tokens",)
    sdk = "anthropic"
    client_class = "anthropic:AsyncAnthropic"
    vendor = "Anthropic"
    tool_name_pattern = re.compile(r"[a-zA-Z0-9_-]{1,128}")
    end_mark = "message_stop"
    request_id_header = "request-id"

    def __init__(
        self,
        model_name: str,
        api_key: str | None = None,
        max_tokens: int = 2048,
        stream: bool = True,
        thinking: Mapping[str, Any] | None = None,
        client_args: Mapping[str, Any] | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        *,
        base_url: str | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        args = merge_client_args(client_args, client_kwargs)
        endpoint = find_endpoint(base_url, api_key, args, os.environ)
        args.pop("base_url", None)
        other = next((name for name in CREDENTIALS if args.get(name) is not None), None)
        if (args.pop("api_key", None) or api_key) and other is not None:
            raise ConfigError(f"api_key and client_args.{other} are both given: keep one")
        self.max_tokens = max_tokens
        self.thinking = thinking
        self.credentials_lifetime = None if _RENEWED.isdisjoint(args) else 0
        super().__init__(model_name, stream, endpoint=endpoint, client_args=args, generate_kwargs=generate_kwargs)

    def constructor_parameters(self) -> Mapping[str, Any]:
        """Return the limit of tokens, which the API demands, and how the model thinks."""
        thinking = {} if self.thinking is None else {"thinking": dict(self.thinking)}
        return {"max_tokens": self.max_tokens, **thinking}

    # -- what is missing, what is secret -------------------------------------------------------------------------------

    def has_credentials(self) -> bool:
        """Whether the client's arguments authorize by other means than a key."""
        return has_credentials(self._client_args)

    # -- the SDK's client, which writes requests -----------------------------------------------------------------------

    def make_writer(self) -> SdkWriter:
        """Return the SDK's client over a recorder."""
        import anthropic
        import httpx2

        address, userinfo = split_userinfo(self.endpoint.address)  # the libraries log the address as they get it
        recorder = RequestRecorder(httpx2, auth=userinfo)
        arguments = {
            **self._client_args,
            "base_url": address,
            "default_headers": self._sent_headers(anthropic.omit),
            "http_client": recorder.client,
            "max_retries": 0,
        }
        if all(arguments.get(name) is None for name in CREDENTIALS):
            arguments["api_key"] = self.endpoint.key_text or "none"  # or else the SDK looks for one in files
        return SdkWriter(anthropic, anthropic.AsyncAnthropic(**arguments), recorder)

    def _sent_headers(self, omit: Any) -> dict[str, Any]:
        """Return the client's own headers, and what corrects those that the SDK would send; *omit* leaves one out."""
        own = dict(self._client_args.get("default_headers") or {})
        key = self.endpoint.key_text
        headers: dict[str, Any] = {}
        if not self.endpoint.from_environment or self.has_credentials():
            lines = os.environ.get("ANTHROPIC_CUSTOM_HEADERS")
            headers = replace_environment_headers(lines, key and f"Bearer {key}", omit)
        if key is None and all(self._client_args.get(name) is None for name in CREDENTIALS):
            headers["authorization"] = omit
        token = os.environ.get("ANTHROPIC_AUTH_TOKEN", "").strip() if self.endpoint.from_environment else None
        if key is not None and not self.endpoint.is_official and key != token:
            headers["x-api-key"] = key
        names = {name.lower() for name in own}
        return {**{name: value for name, value in headers.items() if name not in names}, **own}

    close_writer = staticmethod(SdkWriter.aclose)

    async def write_request(self, writer: SdkWriter, request: VendorRequest) -> RequestTemplate:
        """Return what the SDK writes for *request*."""
        options = dict(request.sdk_options or {})
        if not request.stream and "timeout" not in self._client_args:
            options.setdefault("timeout", _PLAIN_CALL_SECONDS)
        return await writer.write("/v1/messages", request, options)

    # -- requests ------------------------------------------------------------------------------------------------------

    def structured_method(self, request: ChatRequest) -> Method:
        """Natively where model and schema allow it, else by a forced tool, or in words where that cannot be."""
        schema = get_schema(request.structured_model) if request.structured_model is not None else {}
        if find_native_schema(self.model_name, schema) is not None:
            return "native"
        is_object = "$ref" in schema or schema.get("type") == "object"  # tools take named arguments only
        return "tool" if is_object and not thinks(request.options, adaptively=True) else "prompt"

    def build_request(self, request: ChatRequest, structured: Structured | None, stream: bool) -> VendorRequest:
        """Return the parameters of the Messages API."""
        parameters = {"max_tokens": self.max_tokens, **request.options}
        headers = (parameters.get("extra_headers"), self._client_args.get("default_headers"))
        body = encode_request(
            request,
            structured,
            model_name=self.model_name,
            options={**parameters, "stream": True} if stream else parameters,
            interleaved="interleaved-thinking" in str(headers),
        )
        return make_vendor_request(body, stream, self.timeouts)

    # -- answers -------------------------------------------------------------------------------------------------------

    parse_response = staticmethod(read_body)
    parse_event = staticmethod(read_event)
    error_from_response = staticmethod(errors.error_from_response)

    def is_last_event(self, event: ServerSentEvent) -> bool:
        """Whether *event* is `message_stop`, or the `[DONE]` that gateways put in its place."""
        name, data = event
        return name == "message_stop" or data == DONE or data.startswith(b'{"type":"message_stop"')
