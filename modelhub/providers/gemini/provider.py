"""Google Gemini: `generateContent` of the Gemini API and of Vertex AI."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from modelhub.core.errors import AuthenticationFailed, CallError, ConnectFailed, InvalidRequest, NotConfigured
from modelhub.core.request import ChatRequest
from modelhub.providers.addresses import split_userinfo
from modelhub.providers.gemini import errors
from modelhub.providers.gemini.endpoint import (
    check_credentials_file,
    environment_keys,
    find_credentials_file,
    find_endpoint,
    has_credentials,
    is_vertex,
    takes_key,
)
from modelhub.providers.gemini.parameters import (
    VOCABULARY,
    copy_parameters,
    explain_parameters,
    merge_json,
    read_http_options,
)
from modelhub.providers.gemini.request import encode_request
from modelhub.providers.gemini.response import read_body, read_event
from modelhub.providers.http import HttpxTransport, Transport
from modelhub.providers.http.request_templates import RequestRecorder, RequestTemplate, SdkClient
from modelhub.providers.http.tls import tls_context
from modelhub.providers.http_provider import READ_TIMEOUT, HttpProvider, VendorRequest
from modelhub.providers.json_text import dump_json, loads
from modelhub.providers.sdk_client import (
    ClientProblem,
    check_arguments,
    merge_client_args,
    read_timeouts,
    secret_headers,
)
from modelhub.providers.structured_output import Method, Structured

__all__ = ["GeminiChatModel"]

_NO_KEY = "none"
"""What the SDK is given where it wants a key and none is to be sent."""
_SCHEMAS = ("response_schema", "response_json_schema", "response_mime_type")


class GeminiChatModel(HttpProvider):
    """A model of Google's Gemini API, or of Vertex AI with `client_args={"vertexai": True, "project": ...}`.

    *generate_kwargs* and a call's keywords bear the SDK's names (`GenerateContentConfig`); what the SDK does not know
    yet can be sent with `http_options={"extra_body": {...}}`. The SDK's own retries, function calling and
    continuations are off: a call is one request. `tools` among the keywords are Google's own tools (search, ...).

    A key from the environment is sent to Google's own hosts only.
    """

    kind = "gemini"
    vocabulary = VOCABULARY
    telemetry_name = "gcp.gen_ai"
    price_provider = "google"
    max_tokens_parameters = ("max_output_tokens", "maxOutputTokens")
    sdk = "google.genai"
    client_class = "google.genai:Client"
    vendor = "Gemini"
    tool_name_pattern = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
    end_mark = "a finishReason"
    success_statuses = range(200, 201)

    def __init__(
        self,
        model_name: str,
        api_key: str | None = None,
        stream: bool = True,
        thinking_config: Mapping[str, Any] | None = None,
        client_args: Mapping[str, Any] | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        *,
        base_url: str | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        args = merge_client_args(client_args, client_kwargs)
        self._is_vertex = is_vertex(args)
        args.pop("enterprise", None)
        key = args.pop("api_key", None)
        self._has_own_key = bool(api_key or key)
        self._options = read_http_options(args.pop("http_options", None))
        self._extra_body = self._options.pop("extra_body", None)
        address = base_url or self._options.pop("base_url", None)
        endpoint = find_endpoint(address, api_key or key, self._is_vertex, os.environ)
        if self._is_vertex and endpoint.key is None:
            self.credentials_lifetime = 0  # they end after an hour, and the SDK renews them
        self._thinking_config = None if thinking_config is None else dict(thinking_config)
        super().__init__(model_name, stream, endpoint=endpoint, client_args=args, generate_kwargs=generate_kwargs)

    def has_credentials(self) -> bool:
        """Whether there are credentials of another kind than a key."""
        return self._is_vertex or has_credentials(self._client_args, self._options)

    def secrets(self) -> Iterator[str]:
        """Yield the key, those that Vertex AI's client finds by itself, and the headers that authorize."""
        yield from super().secrets()
        if self._is_vertex:
            yield from environment_keys(os.environ)
        yield from secret_headers(self._options.get("headers"))
        if self._options:
            yield from secret_headers(self._http_arguments().get("headers"))

    # -- the SDK's client, which writes requests -----------------------------------------------------------------------

    def client_problems(self) -> list[ClientProblem]:
        """Return what is wrong with the settings, those in `http_options` and Vertex AI's credentials included."""
        problems = super().client_problems()
        for problem in check_arguments({"api_version": self._options.get("api_version")}):
            problems.append(dataclasses.replace(problem, path=("client_args", "http_options", "api_version")))
        if self._takes_default_credentials() and (reason := check_credentials_file(os.environ)) is not None:
            problems.append(ClientProblem((), reason))
        return problems

    def unchecked_credentials(self) -> str | None:
        """Return that the machine's account is asked, if Vertex AI's client finds no file of credentials."""
        if not self._takes_default_credentials() or find_credentials_file(os.environ) is not None:
            return None
        return "this machine has a service account: no file of Google's credentials is found"

    def _takes_default_credentials(self) -> bool:
        return self._is_vertex and self.endpoint.key is None and "credentials" not in self._client_args

    def client_timeout(self) -> float | None:
        """Return the time-out of the HttpOptions, which has milliseconds, in seconds."""
        return _read_milliseconds(self._options.get("timeout"))

    def _http_arguments(self) -> dict[str, Any]:
        """Return the arguments of the HTTP client."""
        arguments = self._options.get("async_client_args") or {}
        return {name: value for name, value in arguments.items() if name != "ssl"}  # which is for aiohttp only

    def make_transport(self) -> Transport:
        """Return what sends the requests: the caller's client, or one with his arguments if they say how to connect."""
        if (client := self._options.get("httpx_async_client")) is not None:
            return HttpxTransport(client, keeps_timeouts="timeout" not in self._options)
        arguments = {
            name: value for name, value in self._http_arguments().items() if name not in ("headers", "timeout")
        }
        return self.make_httpx_transport("httpx2", arguments) if arguments else super().make_transport()

    def make_writer(self) -> SdkClient:
        """Return the SDK's client over a recorder."""
        import httpx2
        from google import genai
        from google.genai import types
        from google.genai.client import DebugConfig

        address, userinfo = split_userinfo(self.endpoint.address)  # the libraries log the address as they get it
        recorder = RequestRecorder(httpx2, auth=userinfo, headers=self._http_arguments().get("headers"))
        options: dict[str, Any] = {"timeout": int(READ_TIMEOUT * 1000), **self._options}
        options |= {
            "base_url": address or None,
            "retry_options": types.HttpRetryOptions(attempts=1),
            "httpx_async_client": recorder.client,
            # For clients that the SDK makes besides and nobody uses: loading certificates for them takes 100 ms.
            "async_client_args": {"verify": tls_context(), "ssl": tls_context()},
        }
        key = self.endpoint.key_text
        arguments = {
            **self._client_args,
            "vertexai": self._is_vertex,  # said either way: the environment could switch the backend
            "api_key": key or (None if self._is_vertex else _NO_KEY),
            # Else it would take from the environment that recordings are to be played back.
            "debug_config": DebugConfig(client_mode=None),
        }
        return SdkClient(genai.Client(**arguments, http_options=types.HttpOptions(**options)), recorder)

    async def write_request(self, writer: SdkClient, request: VendorRequest) -> RequestTemplate:
        """Return what the SDK writes for *request*, its part of the body among it."""
        sdk_options: Mapping[str, Any] = request.sdk_options or {}
        config = {
            **sdk_options["config"],
            "automatic_function_calling": {"disable": True},
            "automatic_continuation": False,
            "http_options": sdk_options["http_options"],
        }
        # The SDK insists on contents; ours take their place.
        arguments = {"model": self.model_name, "contents": "-", "config": config}

        async def generate() -> None:
            if request.stream:
                async for _ in await writer.sdk.aio.models.generate_content_stream(**arguments):
                    pass
            else:
                await writer.sdk.aio.models.generate_content(**arguments)

        try:
            template = await writer.recorder.record(generate)
        except (TypeError, ValueError) as error:
            raise explain_parameters(error) from error
        headers = template.headers
        if not self._has_own_key and not takes_key(self.endpoint, urlsplit(template.url).hostname or ""):
            keys = {_NO_KEY, *environment_keys(os.environ)}
            headers = {name: value for name, value in headers.items() if value not in keys}
        parameters = {name: value for name, value in loads(template.body).items() if name != "contents"}
        return dataclasses.replace(template, headers=headers, parameters=parameters)

    def merge_body(self, template: RequestTemplate, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return *body* with the parameters that the SDK has written."""
        return merge_json(template.parameters, body) if template.parameters else body

    # -- requests ------------------------------------------------------------------------------------------------------

    def constructor_parameters(self) -> Mapping[str, Any]:
        """Return how the model thinks."""
        return {} if self._thinking_config is None else {"thinking_config": self._thinking_config}

    def structured_method(self, request: ChatRequest) -> Method:  # noqa: ARG002
        """Return how structured output is asked for: by JSON schema, but Gemma, which has no JSON mode, in words."""
        return "prompt" if "gemma" in self.model_name else "native"

    def build_request(self, request: ChatRequest, structured: Structured | None, stream: bool) -> VendorRequest:
        """Return the part of the body that is written here, and the SDK's `config` and HttpOptions."""
        config = copy_parameters(request.options)
        body = encode_request(request, structured, self.model_name, config.pop("tools", None))
        if "system_instruction" in config and "systemInstruction" in body:
            raise InvalidRequest("there are system messages and a `system_instruction`: only one can be sent")
        if structured is not None:
            config |= dict.fromkeys(_SCHEMAS)
        options = read_http_options(config.pop("http_options", None))
        for extra_body in (self._extra_body, options.pop("extra_body", None)):
            if extra_body:
                body = merge_json(body, extra_body)
        config = {name: value for name, value in config.items() if value is not None}
        sdk_options = {"config": config, "http_options": options}
        target: tuple[bool, bytes] | None
        try:
            target = stream, dump_json(sdk_options) if config or options else b""
        except (TypeError, ValueError):
            target = None  # it cannot be compared
        timeout = options.get("timeout")
        timeouts = None if timeout is None else read_timeouts(_read_milliseconds(timeout), self.timeouts)
        return VendorRequest(body, stream, target, sdk_options, timeouts)

    # -- answers -------------------------------------------------------------------------------------------------------

    parse_response = staticmethod(read_body)
    parse_event = staticmethod(read_event)
    error_from_response = staticmethod(errors.error_from_response)

    def failure(self, error: Exception) -> CallError | None:
        """Return what Google's libraries raise when they sign in to Vertex AI."""
        names = {cls.__name__ for cls in type(error).__mro__}
        if "DefaultCredentialsError" in names:
            return NotConfigured(f"signing in to Vertex AI is not possible: {error}")
        if "GoogleAuthError" in names:
            cls = ConnectFailed if "TransportError" in names else AuthenticationFailed
            return cls(f"signing in to Vertex AI failed: {error}")
        return None


def _read_milliseconds(timeout: Any) -> float | None:
    return timeout / 1000 if timeout and isinstance(timeout, int | float) else None
