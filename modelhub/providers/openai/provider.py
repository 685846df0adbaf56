"""OpenAI's chat completions and Responses, and every server that speaks like it."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Literal

from modelhub.core.errors import CallError, ConfigError
from modelhub.core.request import ChatRequest
from modelhub.providers.addresses import split_userinfo
from modelhub.providers.http.request_templates import RequestRecorder, RequestTemplate
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.http_provider import HttpProvider, VendorRequest
from modelhub.providers.openai.apis import CHAT_API, Api, ApiName, choose_api, find_api, responses_api
from modelhub.providers.openai.endpoint import find_endpoint
from modelhub.providers.openai.errors import error_from_response
from modelhub.providers.openai.parameters import make_vocabulary
from modelhub.providers.openai.request import structured_method
from modelhub.providers.openai.responses_response import LAST_EVENTS
from modelhub.providers.openai.servers import SERVERS, Quirks, find_quirks, suggest_address
from modelhub.providers.parameters import Vocabulary
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.sdk_client import merge_client_args
from modelhub.providers.sdk_writer import SdkWriter, make_vendor_request, replace_environment_headers
from modelhub.providers.structured_output import Method, Structured

__all__ = ["OpenAIChatModel", "has_credentials"]

_CREDENTIALS = frozenset({"api_key", "workload_identity", "provider", "azure_ad_token", "azure_ad_token_provider"})
_RENEWED_CREDENTIALS = frozenset({"api_key", "workload_identity", "provider", "azure_ad_token_provider"})


class OpenAIChatModel(HttpProvider):
    """OpenAI's chat completions and Responses, and every server that speaks like it.

    *model_name* is the model; *api_key* is read from OPENAI_API_KEY if not given; as with OpenAI's own client it may
    be a function that returns a key, or an async one, which is called for each request. *stream* tells whether a call
    gives a stream; *reasoning_effort* is sent unless a call says otherwise; *organization* is read from
    OPENAI_ORGANIZATION or OPENAI_ORG_ID. *client_args* go to the SDK's client (`timeout`, `default_headers`,
    `http_client`, ...), its own retries excepted, which stay off; *generate_kwargs* go with every request, and what a
    call says goes before them.

    *base_url* is where the server is, *compat* its name, if its host does not tell (see `servers`), *quirks*
    corrections of what is known of it. *api* is which of OpenAI's two APIs is asked: `chat`, `responses`, or `auto`,
    which is Responses where OpenAI and Azure serve it, unless a request needs what only chat completions have (see
    `apis`). *client_type* is "azure" for Azure's own addresses and API versions.
    *client_kwargs* is another name for *client_args*; *stream_tool_parsing* is accepted, and has nothing to switch
    here: arguments are parsed when they are read.

    A key from the environment is sent only to the server it is for.
    """

    cache_key_parameter = "prompt_cache_key"
    kind = "openai"
    max_tokens_parameters = ("max_completion_tokens", "max_tokens", "max_output_tokens")
    sdk = "openai"
    vendor = "OpenAI"
    tool_name_pattern = re.compile(r"[a-zA-Z0-9_-]{1,64}")
    end_mark = "its end (a finish_reason, or response.completed)"
    takes_native_tools = True
    request_id_header = "x-request-id"

    def __init__(
        self,
        model_name: str,
        api_key: str | Callable[[], str | Awaitable[str]] | None = None,
        stream: bool = True,
        reasoning_effort: str | None = None,
        organization: str | None = None,
        client_args: Mapping[str, Any] | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        *,
        api: ApiName = "auto",
        base_url: str | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        client_type: Literal["openai", "azure"] | None = None,
        compat: str | None = None,
        quirks: Quirks | Mapping[str, Any] | None = None,
        stream_tool_parsing: bool = True,  # noqa: ARG002 - a later name of the seed's
    ) -> None:
        if client_args and client_kwargs:
            raise ConfigError("client_args and client_kwargs are two names of the same: give one of them")
        args = merge_client_args(client_args, client_kwargs)
        self._is_azure = client_type == "azure"
        self.client_class = "openai:AsyncAzureOpenAI" if self._is_azure else "openai:AsyncOpenAI"
        base_url = base_url or args.pop("base_url", None)
        api_key = _take_key(api_key, args)
        if self._is_azure and not api_key:
            api_key = _lower(args.get("default_headers")).get("api-key")
        # Credentials of another kind are the caller's choice: no key of the environment is put in their place.
        environ = {} if has_credentials(args) and not api_key else os.environ
        endpoint, self.server = find_endpoint(base_url, api_key, compat, self._is_azure, environ)
        self._organization = organization or args.pop("organization", None)
        self.quirks = find_quirks(self.server, model_name, quirks)
        """How the server departs from OpenAI."""
        self.takes_cache_marks = self.quirks.cache_marks is not None
        self._reasoning_effort = reasoning_effort
        self._apis: dict[str, Api] = {"chat": CHAT_API, "responses": responses_api(endpoint.host or self.server)}
        self.api = find_api(api, self.server, endpoint)
        """Which API is asked: `auto` only where both are there."""
        self.credentials_lifetime = None if _RENEWED_CREDENTIALS.isdisjoint(args) else 0
        super().__init__(model_name, stream, endpoint=endpoint, client_args=args, generate_kwargs=generate_kwargs)

    # -- what is missing, what is secret -------------------------------------------------------------------------------

    def missing(self) -> str | None:
        """Return what must be installed or set before this model can be called, or None."""
        if not self._is_azure and not self.endpoint.address:
            return f"no address: {suggest_address(self.server)}"
        problem, args = super().missing(), self._client_args
        if problem is not None or not self._is_azure:
            return problem
        if not (self.endpoint.address or args.get("azure_endpoint") or os.environ.get("AZURE_OPENAI_ENDPOINT")):
            return "no Azure endpoint: give `base_url`, or set AZURE_OPENAI_ENDPOINT"
        if not (args.get("api_version") or os.environ.get("OPENAI_API_VERSION")):
            return "no Azure API version: give `client_args: {api_version: ...}`, or set OPENAI_API_VERSION"
        return None

    def _uses_environment(self) -> bool:
        """Whether OpenAI's own variables (organization, project, headers) are meant for the server that is asked."""
        endpoint = self.endpoint
        is_meant = endpoint.site is SERVERS["openai"].site and (endpoint.from_environment or endpoint.is_official)
        return is_meant and not self.has_callers_key

    def has_credentials(self) -> bool:
        """Whether the client's arguments authorize by other means than a key."""
        return has_credentials(self._client_args)

    def is_official(self) -> bool:
        """Whether OpenAI's own servers are asked, and not those of another vendor that speaks like it."""
        return self.server == "openai" and self.endpoint.is_official

    def address(self) -> str | None:
        """Return where the server is."""
        return self.endpoint.address or "https://api.openai.com/v1"

    # -- the SDK's client, which writes requests -----------------------------------------------------------------------

    def make_writer(self) -> SdkWriter:
        """Return the SDK's client over a recorder."""
        import httpx2
        import openai

        address, userinfo = split_userinfo(self.endpoint.address)  # the libraries log the address as they get it
        recorder = RequestRecorder(httpx2, auth=userinfo)
        arguments = {**self._client_args, "http_client": recorder.client, "max_retries": 0}
        arguments["default_headers"] = self._sent_headers()
        if (key := self.endpoint.key_text) is not None:
            is_token = self._is_azure and key == os.environ.get("AZURE_OPENAI_AD_TOKEN")
            arguments["azure_ad_token" if is_token else "api_key"] = key
        elif _CREDENTIALS.isdisjoint(arguments):
            arguments["api_key"] = "none"  # the SDK wants one; what is sent is the caller's header, or nothing
        if address:
            # Azure's SDK adds the path to a resource's address.
            is_resource = self._is_azure and "/openai" not in address
            arguments["azure_endpoint" if is_resource else "base_url"] = address
        client_class: Any = openai.AsyncAzureOpenAI if self._is_azure else openai.AsyncOpenAI
        client = client_class(**arguments)
        # The SDK fills these from the environment for whatever server.
        from_environment = self._uses_environment()
        organization = os.environ.get("OPENAI_ORGANIZATION") or os.environ.get("OPENAI_ORG_ID") or None
        client.organization = self._organization or (organization if from_environment else None)
        client.project = self._client_args.get("project") or (client.project if from_environment else None)
        client.admin_api_key = None
        return SdkWriter(openai, client, recorder)

    def _sent_headers(self) -> dict[str, Any]:
        """Return the client's own headers; those that the SDK would add from the environment are taken out again."""
        own = dict(self._client_args.get("default_headers") or {})
        if self._uses_environment():
            return own
        key = self.endpoint.key_text
        authorization = f"Bearer {key}" if key is not None and not self._is_azure else None
        headers = replace_environment_headers(os.environ.get("OPENAI_CUSTOM_HEADERS"), authorization, _omit())
        return {**{name: value for name, value in headers.items() if name not in _lower(own)}, **own}

    close_writer = staticmethod(SdkWriter.aclose)

    async def write_request(self, writer: SdkWriter, request: VendorRequest) -> RequestTemplate:
        """Return what the SDK writes for *request*."""
        options: Any = dict(request.sdk_options or {})
        if self.endpoint.key_text is None and not self.has_credentials():
            options["headers"] = {"Authorization": _omit(), **(options.get("headers") or {})}
        return await writer.write(request.api.path, request, options)

    # -- requests ------------------------------------------------------------------------------------------------------

    @property
    def vocabulary(self) -> Vocabulary:
        """The parameters that the server takes."""
        return make_vocabulary(self.server, self.quirks, self.api)

    def find_vocabulary(self, request: ChatRequest) -> Vocabulary:
        """Return the parameters of the API that *request* goes to."""
        return make_vocabulary(self.server, self.quirks, self._choose_api(request))

    def _choose_api(self, request: ChatRequest) -> Literal["responses", "chat"]:
        return choose_api(self.model_name, request, request.options) if self.api == "auto" else self.api

    def constructor_parameters(self) -> Mapping[str, Any]:
        """Return the effort that was given when the model was made."""
        return {} if self._reasoning_effort is None else {"reasoning_effort": self._reasoning_effort}

    def structured_method(self, request: ChatRequest) -> Method:
        """Return how structured output is asked for: by JSON schema, or as the server's quirks say."""
        return structured_method(request, self.quirks)

    def build_request(self, request: ChatRequest, structured: Structured | None, stream: bool) -> VendorRequest:
        """Return the parameters of a completion, or of a response."""
        api = self._apis[self._choose_api(request)]
        body = api.encode_request(self.model_name, request, structured, stream, self.quirks)
        return make_vendor_request(body, stream, self.timeouts, api)

    # -- answers -------------------------------------------------------------------------------------------------------

    def parse_response(self, body: bytes, builder: ResponseBuilder) -> None:
        """Read a whole answer of the API that was asked."""
        builder.api.read_body(body, builder)

    def parse_event(self, event: ServerSentEvent, builder: ResponseBuilder) -> None:
        """Read one event of the API that was asked."""
        builder.api.read_event(event, builder)

    def is_last_event(self, event: ServerSentEvent) -> bool:
        """Whether nothing follows *event* but the end of the body."""
        return event.data.strip() == b"[DONE]" or event.name in LAST_EVENTS

    def error_from_response(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """Return what an answer with an error *status* means."""
        return error_from_response(self.endpoint.host or self.server, status, headers, body)


def _take_key(api_key: str | Callable[[], str | Awaitable[str]] | None, args: dict[str, Any]) -> str | None:
    """Return the key as text, taken out of *args* if it is there; what gives keys is put into *args*, for the SDK."""
    if callable(api_key):
        args["api_key"] = partial(_fetch_key, api_key)
        return None
    return api_key or (args.pop("api_key") if isinstance(args.get("api_key"), str) else None)


async def _fetch_key(fetch: Callable[[], str | Awaitable[str]]) -> str:
    """Return the key that *fetch* gives, at once or when it is awaited: the SDK takes the latter only."""
    key = fetch()
    return key if isinstance(key, str) else await key


def _omit() -> Any:
    """Return what takes a header out that the SDK would send."""
    from openai import Omit

    return Omit()


def has_credentials(client_args: Mapping[str, Any]) -> bool:
    """Whether the client's arguments authorize by other means than a key: a token, what gives one, or a header."""
    names = {name for name, value in client_args.items() if value is not None}
    headers = _lower(client_args.get("default_headers"))
    return not names.isdisjoint(_CREDENTIALS) or "authorization" in headers or "api-key" in headers


def _lower(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name.lower(): value for name, value in (headers or {}).items()}
