"""OpenAI's chat completions, and every server that speaks like it.

The official SDK builds the request, signs it and raises its errors; the answer is read from the bytes it hands on.
"""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from modelhub.errors import CallError, ConfigError, ConnectionLost
from modelhub.model import ChatRequest
from modelhub.providers._address import split_userinfo
from modelhub.providers._again import Again, error_maker
from modelhub.providers._answer import Answer
from modelhub.providers._base import Payload, Provider
from modelhub.providers._client import ClientSettings, guard_client
from modelhub.providers._http import PerLoop, http_client
from modelhub.providers._structured import Method, Structured
from modelhub.providers._transport import Pool
from modelhub.providers._wire import Prepended, drain, json_body, server_sent_events, skip_blanks
from modelhub.providers.openai.errors import error_from_response
from modelhub.providers.openai.place import ambient_headers, ambient_organization, find_place
from modelhub.providers.openai.request import encode_request, structured_method
from modelhub.providers.openai.response import read_body, read_done, read_event, read_headers
from modelhub.providers.openai.servers import SERVERS, Quirks, with_overrides

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OpenAIChatModel", "brings_credentials"]

Event = tuple[str, Any]

_HEADERS = "headers"
_WHOLE = "whole"
_END = "end"
_UNPARSED = "unparsed"
_DONE = b"[DONE]"
_CREDENTIALS = frozenset({"api_key", "workload_identity", "provider", "azure_ad_token", "azure_ad_token_provider"})
_OPTIONS = {"extra_headers": "headers", "extra_query": "params", "timeout": "timeout"}
"""What a call may say beside the body, and the SDK's names for it."""
_NOT_SENT = frozenset({*_OPTIONS, "extra_body"})
_STEADY = frozenset({"default_headers", "default_query", "timeout", "project", "azure_endpoint", "api_version"})
"""Keywords of the client with which its requests all have the same head."""
_DRAIN_SECONDS = 0.1  # seconds that a connection may take to end behind the last event, to be used again


class _Client(NamedTuple):
    """The SDK's client for one event loop, and what it need not write again."""

    sdk: AsyncOpenAI
    again: Again


class OpenAIChatModel(Provider):
    """OpenAI's chat completions, and every server that speaks like it.

    *model_name* is the model; *api_key* is read from OPENAI_API_KEY if not given; *stream* tells whether a call gives
    a stream; *reasoning_effort* is sent unless a call says otherwise; *organization* is read from OPENAI_ORGANIZATION
    or OPENAI_ORG_ID. *client_args* go to the SDK's client (`timeout`, `default_headers`, `http_client`, ...), its own
    retries excepted, which stay off; *generate_kwargs* go with every request, and what a call says goes before them.

    *base_url* is where the server is, *compat* its name, if its host does not tell (see `servers`), *quirks*
    corrections of what is known of it. *client_type* is "azure" for Azure's own addresses and API versions.
    *client_kwargs* is another name for *client_args*; *stream_tool_parsing* is accepted, and has nothing to switch
    here: arguments are parsed when they are read.

    A key from the environment is sent only to the server it is for.
    """

    kind = "openai"
    sdk = "openai"
    tool_name_pattern = re.compile(r"[a-zA-Z0-9_-]{1,64}")
    end_mark = "a finish_reason"

    def __init__(
        self,
        model_name: str,
        api_key: str | None = None,
        stream: bool = True,
        reasoning_effort: str | None = None,
        organization: str | None = None,
        client_args: Mapping[str, Any] | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        *,
        base_url: str | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        client_type: Literal["openai", "azure"] | None = None,
        compat: str | None = None,
        quirks: Quirks | Mapping[str, Any] | None = None,
        stream_tool_parsing: bool = True,  # noqa: ARG002 - a later name of the seed's
    ) -> None:
        super().__init__(model_name, stream)
        if client_args and client_kwargs:
            raise ConfigError("client_args and client_kwargs are two names of the same: give one of them")
        self._args = _without_retries(client_args or client_kwargs or {})
        self._azure = client_type == "azure"
        base_url = base_url or self._args.pop("base_url", None)
        if isinstance(self._args.get("api_key"), str):
            api_key = api_key or self._args.pop("api_key")
        if self._azure and not api_key:
            api_key = _lower(self._headers()).get("api-key")
        # Credentials of another kind are the caller's choice: no key of the environment is put in their place.
        environ = {} if self._brings_credentials() and not api_key else os.environ
        self.place = find_place(base_url, api_key, compat, self._azure, environ)
        """The server, and the key to it."""
        self._organization = organization or self._args.pop("organization", None)
        self.quirks = with_overrides(SERVERS[self.place.server].quirks, quirks)
        """How the server departs from OpenAI."""
        self.generate_kwargs = dict(generate_kwargs or {})
        self._effort = reasoning_effort
        self._owns_http = "http_client" not in self._args
        self._clients: PerLoop[_Client] = PerLoop(
            guard_client(self._make_client, self.client_problems, "OpenAI"), self._close_client
        )

    # -- what is missing, what is secret -------------------------------------------------------------------------------

    def missing(self) -> str | None:
        """The SDK or the key that is not there."""
        if not _has_sdk():
            return "the OpenAI SDK is not installed: pip install 'modelhub[openai]'"
        if (problem := self.place.missing_key()) is not None and not self._brings_credentials():
            return problem
        return self._missing_azure() if self._azure else None

    def _missing_azure(self) -> str | None:
        if not (self.place.base_url or self._args.get("azure_endpoint") or os.environ.get("AZURE_OPENAI_ENDPOINT")):
            return "no Azure endpoint: give `base_url`, or set AZURE_OPENAI_ENDPOINT"
        if not (self._args.get("api_version") or os.environ.get("OPENAI_API_VERSION")):
            return "no Azure API version: give `client_args: {api_version: ...}`, or set OPENAI_API_VERSION"
        return None

    def _brings_credentials(self) -> bool:
        return brings_credentials(self._args)

    def address(self) -> str | None:
        """Where the server is."""
        return self.place.base_url or "https://api.openai.com/v1"

    def secrets(self) -> Iterable[str]:
        """The key, and whatever else authorizes."""
        if (key := self._key()) is not None:
            yield key
        if isinstance(token := self._args.get("azure_ad_token"), str):
            yield token
        for name, value in _lower(self._headers()).items():
            if isinstance(value, str) and any(word in name for word in ("auth", "key", "token", "secret", "cookie")):
                yield value
                yield value.removeprefix("Bearer ")

    def _key(self) -> str | None:
        return None if self.place.key is None else self.place.key.get_secret_value()

    def _is_unsigned(self) -> bool:
        return self.place.key is None and not self._brings_credentials()

    def _headers(self) -> dict[str, Any]:
        return dict(self._args.get("default_headers") or {})

    # -- the client ----------------------------------------------------------------------------------------------------

    def _make_client(self) -> _Client:
        import httpx2

        arguments, pool = self._client_arguments()
        client = self._client_class()(**arguments)
        ambient = self.place.ambient  # the SDK fills these from the environment for whatever server
        client.organization = self._organization or (ambient_organization(os.environ) if ambient else None)
        client.project = self._args.get("project") or (client.project if ambient else None)
        client.admin_api_key = None
        return _Client(
            client, Again(httpx2, pool if self._args.keys() <= _STEADY else None, refused=error_maker(client))
        )

    def _client_class(self) -> Any:
        from openai import AsyncAzureOpenAI, AsyncOpenAI

        return AsyncAzureOpenAI if self._azure else AsyncOpenAI

    def client_settings(self) -> ClientSettings:
        """The server's address and the client's arguments."""
        return ClientSettings({"base_url": self.place.base_url}, self._args, self._client_class)

    def _client_arguments(self) -> tuple[dict[str, Any], Pool | None]:
        import httpx2

        pool = None
        timeout = self._args.get("timeout", httpx2.Timeout(600, connect=self.connect_timeout))
        arguments = {**self._args, "timeout": timeout, "max_retries": 0, "default_headers": self._sent_headers()}
        address, userinfo = self.place.base_url, None
        if self._owns_http:
            address, userinfo = split_userinfo(address)  # the libraries log the address as they get it
            arguments["http_client"], pool = http_client(httpx2, auth=userinfo)
        if (key := self._key()) is not None:
            is_token = self._azure and key == os.environ.get("AZURE_OPENAI_AD_TOKEN")
            arguments["azure_ad_token" if is_token else "api_key"] = key
        elif self._args.keys().isdisjoint(_CREDENTIALS):
            arguments["api_key"] = "none"  # the SDK wants one; what is sent is the caller's header, or nothing
        if address:
            arguments["azure_endpoint" if self._is_resource() else "base_url"] = address
        return arguments, pool

    def _is_resource(self) -> bool:
        """Whether `base_url` is an Azure resource's address, to which the SDK adds the path."""
        return self._azure and "/openai" not in self.place.base_url

    def _sent_headers(self) -> dict[str, Any]:
        """The client's own headers; those that the SDK would add from the environment are taken out again."""
        headers, known, key = self._headers(), _lower(self._headers()), self._key()
        for name in () if self.place.ambient else ambient_headers(os.environ):
            if name.lower() not in known:
                signs = name.lower() == "authorization" and key is not None and not self._azure
                headers[name] = f"Bearer {key}" if signs else _omit()
        return headers

    async def _close_client(self, client: _Client) -> None:
        if self._owns_http:
            await client.sdk.close()

    async def aclose(self) -> None:
        """Close the connections. A client that was handed in as `http_client` stays open."""
        await self._clients.aclose()

    # -- requests ------------------------------------------------------------------------------------------------------

    def structured_method(self, request: ChatRequest) -> Method:
        """By JSON schema, or as the server's quirks say."""
        return structured_method(request, self.quirks)

    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> Payload:
        """The parameters of chat completions."""
        parameters = {**self.generate_kwargs, **request.options}
        if self._effort is not None and "reasoning_effort" not in parameters:
            parameters["reasoning_effort"] = self._effort
        return encode_request(self.model_name, request, structured, stream, parameters=parameters, quirks=self.quirks)

    async def _open(self, payload: Payload) -> Any:
        client = self._clients.get()
        sent = {name: value for name, value in payload.items() if name not in _NOT_SENT}
        body = {**sent, **(payload.get("extra_body") or {})}
        options: Any = {option: payload[name] for name, option in _OPTIONS.items() if name in payload}
        key = None if options else (payload["model"], payload["stream"])

        async def ask(body: Payload | None) -> Any:
            import httpx2
            from openai import AsyncStream

            of = {"model": payload["model"]}  # Azure's address has it
            if body is None:
                return await client.sdk.post("/chat/completions", cast_to=httpx2.Response, body=of)
            if self._is_unsigned():
                options["headers"] = {"Authorization": _omit(), **(options.get("headers") or {})}
            # Not by `chat.completions.create`: error trackers and tracers replace it, and report each failed attempt
            # as an error of the application. It would also refuse what it does not know, and walk through every
            # message to no effect, which costs more than all the rest of a call.
            return await client.sdk.post(
                "/chat/completions",
                cast_to=httpx2.Response,
                body=of,
                options=options | {"extra_json": body},
                stream=payload["stream"],
                stream_cls=AsyncStream[Any],
            )

        return await client.again.send(key, body, ask)

    async def call(self, payload: Payload) -> tuple[Mapping[str, str], bytes]:
        """The headers and the body."""
        response = await self._open(payload)
        return response.headers, await response.aread()

    async def events(self, payload: Payload) -> AsyncGenerator[Event, None]:
        """The headers, then each event's name and data; a body that is no stream comes as one `whole` event."""
        response = await self._open(payload)
        try:
            yield _HEADERS, response.headers
            pieces = response.aiter_bytes()
            start = await skip_blanks(pieces)
            if start[:1] in (b"{", b"[", b"<"):
                yield _WHOLE, start + b"".join([piece async for piece in pieces])
                return
            unparsed_lines: list[bytes] = []
            async with aclosing(server_sent_events(Prepended(start, pieces), unparsed_lines)) as events:
                async for event in events:
                    if event[1].strip() == _DONE:
                        yield _END, b""
                        break
                    yield event
                await _read_on(events, response)
            if unparsed_lines:
                yield _UNPARSED, b"\n".join(unparsed_lines)
        finally:
            await response.aclose()

    # -- answers -------------------------------------------------------------------------------------------------------

    def decode(self, body: tuple[Mapping[str, str], bytes], answer: Answer) -> None:
        """Read a whole completion."""
        read_headers(body[0], answer)
        read_body(json_body(body[1]), answer)

    def decode_event(self, event: Event, answer: Answer) -> None:
        """Read one chunk of a completion."""
        name, data = event
        if name == _HEADERS:
            read_headers(data, answer)
        elif name == _WHOLE:
            read_body(json_body(data), answer)
        elif name == _END:
            read_done(answer)
        elif name == _UNPARSED:
            if not answer.complete and data.lstrip()[:1] == b"{":  # an error, written into the stream as it is
                read_event("", data, answer)
        else:
            read_event(name, data, answer)

    def failure(self, error: Exception) -> CallError | None:
        """What the SDK's errors mean: those with an answer by what it says, the others by what the network met."""
        response, status = getattr(error, "response", None), getattr(error, "status_code", None)
        if response is not None and isinstance(status, int):
            host = urlsplit(str(response.url)).hostname or self.place.server
            return error_from_response(host, status, response.headers, response.content)
        if any(cls.__name__ == "APIConnectionError" for cls in type(error).__mro__):
            return self.network_failure(error) or ConnectionLost(f"the connection broke: {error}")
        return None


def _without_retries(client_args: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(client_args)
    if found.pop("max_retries", 0):
        warnings.warn("client_args: max_retries is ignored, retries are made by modelhub alone", stacklevel=4)
    return found


def _omit() -> Any:
    """What takes a header out that the SDK would send."""
    from openai import Omit

    return Omit()


def brings_credentials(client_args: Mapping[str, Any]) -> bool:
    """Whether the client's arguments authorize by other means than a key: a token, what gives one, or a header."""
    given = {name for name, value in client_args.items() if value is not None}
    headers = _lower(client_args.get("default_headers") or {})
    return not given.isdisjoint(_CREDENTIALS) or "authorization" in headers or "api-key" in headers


def _lower(headers: Mapping[str, Any]) -> dict[str, Any]:
    return {name.lower(): value for name, value in headers.items()}


@cache
def _has_sdk() -> bool:
    return importlib.util.find_spec("openai") is not None


async def _read_on(events: AsyncIterator[Event], response: Any) -> None:
    """Wait a moment for the connection to end in order, so that it can be used again."""
    await drain(events, _DRAIN_SECONDS, response)
