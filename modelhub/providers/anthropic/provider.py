"""Anthropic's Messages API, through its SDK: Claude, and servers that speak the same.

The SDK owns the address, the key, the headers and its exceptions; bodies and events are read here from the bytes, so
that what it lets pass (a cut stream, an empty body, HTML under 200, an error without a name) is noticed.

Structured output is asked for natively (`output_config.format`) from Claude 4.5 on, if the schema can be said in the
API's form; otherwise by a forced tool, or in words where thinking excludes that.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from modelhub._json_schema import schema_of
from modelhub.errors import BadReply, CallError, ConfigError, ConnectionLost
from modelhub.model import ChatRequest
from modelhub.providers._address import split_userinfo
from modelhub.providers._again import Again, error_maker
from modelhub.providers._answer import Answer
from modelhub.providers._base import Payload, Provider
from modelhub.providers._client import ClientSettings, guard_client
from modelhub.providers._http import PerLoop, http_client
from modelhub.providers._structured import Method, Structured
from modelhub.providers._wire import drain, json_body, server_sent_events
from modelhub.providers.anthropic.errors import error_from_response
from modelhub.providers.anthropic.request import KIND, encode, structured_natively, thinks
from modelhub.providers.anthropic.response import DONE, HEADERS, read_event, read_headers, read_message
from modelhub.providers.anthropic.schema import native_schema

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

__all__ = ["Access", "AnthropicChatModel"]

_ADDRESS = "https://api.anthropic.com"
_CREDENTIALS = ("auth_token", "credentials", "config", "profile")
_TIMEOUT = 601.0
"""Seconds of silence; not 600, which the SDK takes for "none given" and then refuses long answers unless streamed."""
_FAREWELL = 0.25
"""Seconds to wait, after a stream's last event, for the server to end its answer, so that the connection can be used
again."""


_STEADY = frozenset({"auth_token", "default_query", "timeout"})
"""Keywords of the client with which its requests all have the same head."""
_OPTIONS = {"extra_headers": "headers", "extra_query": "params", "timeout": "timeout"}
"""What a call may say beside the body, and the SDK's names for it."""
_AS_HEADERS = {"user_profile_id": "anthropic-user-profile-id", "workspace_id": "anthropic-workspace-id"}
"""Parameters that are sent as headers."""
_IN_HEAD = frozenset({*_OPTIONS, *_AS_HEADERS})
"""Parameters of a request that are not of its body."""
_NOT_IN_BODY = _IN_HEAD | {"extra_body"}


class _Client(NamedTuple):
    """The SDK's client for one event loop, and what it need not write again."""

    sdk: AsyncAnthropic
    again: Again


class AnthropicChatModel(Provider):
    """A model behind Anthropic's Messages API.

    *max_tokens* limits the answer, *thinking* is sent as it is, *client_args* (or *client_kwargs*) go to the SDK's
    `AsyncAnthropic`, *generate_kwargs* into every request; what the SDK has no parameter for (`temperature`) is sent
    all the same.

    Without *api_key* the key is `ANTHROPIC_API_KEY`, else `ANTHROPIC_AUTH_TOKEN`, and `ANTHROPIC_BASE_URL` is heeded.
    As soon as another key or an address is given, the environment adds nothing to it: no other address, no headers, and
    its key does not go to another host than Anthropic's. Keys are sent as `Authorization: Bearer`, to other hosts
    as `x-api-key` too.
    """

    kind = KIND
    max_tokens_parameters = ("max_tokens",)
    sdk = "anthropic"
    tool_name_pattern = re.compile(r"[a-zA-Z0-9_-]{1,128}")
    end_mark = "message_stop"

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
        super().__init__(model_name, stream)
        self.max_tokens = max_tokens
        self.thinking = thinking
        self.generate_kwargs = dict(generate_kwargs or {})
        self._client_args = {**(client_args or {}), **(client_kwargs or {})}
        self._access = Access(self._client_args, api_key, base_url, os.environ)
        self.base_url = self._access.address
        """Where requests go."""
        self._clients: PerLoop[_Client] = PerLoop(
            guard_client(self._open, self.client_problems, "Anthropic"), self._close
        )

    def default_parameters(self) -> Mapping[str, Any]:
        """Return the parameters that go with every request."""
        return {"max_tokens": self.max_tokens, **self.generate_kwargs}

    # -- what it needs ---------------------------------------------------------------------------------------------

    def missing(self) -> str | None:
        """The SDK or the key, if one is missing."""
        if find_spec("anthropic") is None:
            return "the Anthropic SDK is not installed: pip install 'modelhub[anthropic]'"
        return self._access.missing()

    def address(self) -> str | None:
        """Where the server is."""
        return self.base_url

    def secrets(self) -> Iterable[str]:
        """The key, and what the client's headers say."""
        return self._access.secrets

    def structured_method(self, request: ChatRequest) -> Method:
        """Natively where model and schema allow it, else by a forced tool, or in words where that cannot be."""
        schema = schema_of(request.structured_model) if request.structured_model is not None else {}
        if structured_natively(self.model_name) and native_schema(schema) is not None:
            return "native"
        named = "$ref" in schema or schema.get("type") == "object"  # tools take named arguments only
        return "tool" if named and not thinks(self._options(request), adaptively=True) else "prompt"

    # -- the wire --------------------------------------------------------------------------------------------------

    def _options(self, request: ChatRequest) -> dict[str, Any]:
        given = {"max_tokens": self.max_tokens, **self.generate_kwargs, **request.options}
        if self.thinking is not None:
            given.setdefault("thinking", dict(self.thinking))
        options = {name: value for name, value in given.items() if value is not None}
        return {"max_tokens": self.max_tokens, **options}

    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> Payload:
        """The body of the request, with the SDK's own parameters (`extra_headers`, `timeout`) beside it."""
        options = self._options(request)
        headers = (options.get("extra_headers"), self._access.headers)
        return encode(
            request.messages,
            request.tools,
            request.tool_choice,
            structured,
            model_name=self.model_name,
            options={**options, "stream": True} if stream else options,
            interleaved="interleaved-thinking" in str(headers),
        )

    async def call(self, payload: Payload) -> Any:
        """The headers and the whole answer."""
        response = await self._create(payload)
        return response.headers, json_body(await response.aread())

    async def events(self, payload: Payload) -> AsyncGenerator[Any, None]:
        """The headers, then each event's name and data."""
        response = await self._create(payload)
        try:
            yield HEADERS, response.headers
            if "json" in response.headers.get("content-type", ""):
                # No stream at all: an error, or the answer of a server that cannot stream.
                yield "message", await response.aread()
                return
            stray: list[bytes] = []
            async with (
                aclosing(response.aiter_bytes()) as pieces,
                aclosing(server_sent_events(pieces, stray)) as events,
            ):
                async for name, data in events:
                    yield name, data
                    if name == "message_stop" or data == DONE or data.startswith(b'{"type":"message_stop"'):
                        await _read_out(events, response)
                        return
            if stray:
                yield "message", b"\n".join(stray)  # JSON under the name of a stream
        finally:
            await response.aclose()

    async def _create(self, payload: Payload) -> Any:
        client = self._clients.get()

        async def ask(body: Payload | None) -> Any:
            import httpx2
            from anthropic import AsyncStream

            if body is None:
                return await client.sdk.post("/v1/messages", cast_to=httpx2.Response, body={})
            # Not by `messages.create`: error trackers and tracers replace it, and report each failed attempt as an
            # error of the application. It would also warn about old models, which fails a call where warnings are
            # errors, and refuse what it does not know.
            return await client.sdk.post(
                "/v1/messages",
                cast_to=httpx2.Response,
                body=_body(body),
                options=_request_options(body),
                stream=body.get("stream", False),
                stream_cls=AsyncStream[Any],
            )

        key = payload.get("stream", False) if _IN_HEAD.isdisjoint(payload) else None
        return await client.again.send(key, payload, ask, _body)

    def decode(self, body: Any, answer: Answer) -> None:
        """Read a whole answer."""
        headers, message = body
        read_headers(headers, answer)
        try:
            read_message(message, answer)
        except CallError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadReply("the answer has another shape than the API's") from error

    def decode_event(self, event: Any, answer: Answer) -> None:
        """Read one event."""
        try:
            name, data = event
            read_event(name, data, answer)
        except CallError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BadReply("an event has another shape than the API's") from error

    def failure(self, error: Exception) -> CallError | None:
        """What the SDK's exception means; only the network knows about one without a status."""
        response = getattr(error, "response", None)
        if response is not None and hasattr(error, "status_code"):
            return error_from_response(response.status_code, response.headers, response.content)
        if any(cls.__name__ == "APIConnectionError" for cls in type(error).__mro__):
            return self.network_failure(error) or ConnectionLost(f"the connection broke: {error.__cause__ or error}")
        return None

    # -- the client ------------------------------------------------------------------------------------------------

    def client_settings(self) -> ClientSettings:
        """The server's address and the client's arguments."""
        arguments = {**self._client_args, **({"default_headers": headers} if (headers := self._access.headers) else {})}
        return ClientSettings({"base_url": self.base_url}, arguments, _client_class)

    def _open(self) -> _Client:
        import anthropic
        import httpx2

        timeout = httpx2.Timeout(_TIMEOUT, connect=self.connect_timeout)
        arguments = {"timeout": timeout, **self._client_args, **self._access.arguments(anthropic.omit)}
        pool = None
        if "http_client" not in arguments:
            # The SDK and the HTTP library log the address as they get it.
            arguments["base_url"], userinfo = split_userinfo(arguments["base_url"])
            arguments["http_client"], pool = http_client(httpx2, timeout=timeout, auth=userinfo)
        client = anthropic.AsyncAnthropic(**arguments, max_retries=0)
        pool = pool if self._client_args.keys() <= _STEADY else None
        return _Client(client, Again(httpx2, pool, refused=error_maker(client)))

    async def _close(self, client: _Client) -> None:
        if "http_client" not in self._client_args:  # one that was given belongs to the giver
            await client.sdk.close()

    async def aclose(self) -> None:
        """Give back connections."""
        await self._clients.aclose()


def _client_class() -> Any:
    import anthropic

    return anthropic.AsyncAnthropic


class Access:
    """Where requests go and with which key, settled when the model is made."""

    def __init__(
        self, client_args: dict[str, Any], api_key: str | None, base_url: str | None, environ: Mapping[str, str]
    ) -> None:
        key = api_key or client_args.pop("api_key", None)
        address = base_url or client_args.pop("base_url", None)
        if client_args.pop("max_retries", 0):
            warnings.warn("client_args: max_retries is ignored, retries are made by modelhub alone", stacklevel=4)
        given = [name for name in _CREDENTIALS if client_args.get(name) is not None]
        if key and given:
            raise ConfigError(f"api_key and client_args.{given[0]} are both given: keep one")
        self.headers = dict(client_args.pop("default_headers", None) or {})
        # A key may also stand in a header; then the SDK must be kept from looking for one in the environment.
        self._in_header = not key and any(name.lower() in _KEY_HEADERS for name in self.headers)
        self._has_credential = bool(given) or self._in_header
        # What the environment says of addresses and headers goes with the environment's key, and with no other.
        self._alone = bool(address or self._has_credential or (key and key != environ.get("ANTHROPIC_API_KEY")))
        self.address = _plain(address or (None if self._alone else environ.get("ANTHROPIC_BASE_URL")) or _ADDRESS)
        self._foreign = not _is_anthropic(self.address)
        self._key, self._token = _secret(key), None
        if not (key or self._has_credential or (address and self._foreign)):
            self._key = _secret(environ.get("ANTHROPIC_API_KEY"))
            self._token = _secret(environ.get("ANTHROPIC_AUTH_TOKEN")) if self._key is None else None
        self.secrets = self._secrets(client_args)

    def missing(self) -> str | None:
        """What must be set before this address can be called, or None."""
        if self._key is not None or self._token is not None or self._has_credential:
            return None
        if self._foreign and self._alone:
            host = urlsplit(self.address).hostname
            return f"no API key for {host}: give `api_key` (ANTHROPIC_API_KEY is sent to Anthropic's own address only)"
        return "no API key: set ANTHROPIC_API_KEY, or give `api_key`"

    def _secrets(self, client_args: Mapping[str, Any]) -> tuple[str, ...]:
        own = [secret.get_secret_value() for secret in (self._key, self._token) if secret is not None]
        given = [value for name, value in self.headers.items() if any(part in name.lower() for part in _SECRET)]
        own += [value for value in (client_args.get("auth_token"), *given) if isinstance(value, str)]
        return tuple(value.removeprefix("Bearer ") for value in own)

    def arguments(self, omit: Any) -> dict[str, Any]:
        """The client's keywords; *omit* is the SDK's word for a header that is not sent."""
        found: dict[str, Any] = {"base_url": self.address}
        headers: dict[str, Any] = self._without_environment(omit) if self._alone else {}
        if self._key is not None:
            found["api_key"] = self._key.get_secret_value()
            if self._foreign:
                headers["x-api-key"] = found["api_key"]
        if self._token is not None:
            found["auth_token"] = self._token.get_secret_value()
        if self._in_header:
            found["api_key"] = "none"
            headers["Authorization"] = omit
        ours = {name.lower() for name in self.headers}
        left = {name: value for name, value in headers.items() if name.lower() not in ours}
        found["default_headers"] = {**left, **self.headers}
        return found

    def _without_environment(self, omit: Any) -> dict[str, Any]:
        # The SDK adds these whatever else it is given. Those that it sends itself must be written, not left out.
        lines = os.environ.get("ANTHROPIC_CUSTOM_HEADERS", "").split("\n")
        names = [line.partition(":")[0].strip() for line in lines if ":" in line]
        headers = {name: omit for name in names if name.lower() not in _SDK_HEADERS}
        if self._key is not None:
            own = f"Bearer {self._key.get_secret_value()}"
            headers |= {name: own for name in names if name.lower() == "authorization"}
        return headers


_KEY_HEADERS = frozenset({"authorization", "x-api-key"})
_SECRET = ("auth", "key", "token", "secret", "cookie")
_SDK_HEADERS = frozenset({"anthropic-version", "user-agent", "accept", "content-type"})


def _secret(value: str | None) -> SecretStr | None:
    return SecretStr(value.strip()) if value and value.strip() else None


def _plain(address: str) -> str:
    without_slash = address.rstrip("/")
    return without_slash.removesuffix("/v1") if "/" in without_slash else address  # the SDK appends it


def _is_anthropic(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    return host == "anthropic.com" or host.endswith(".anthropic.com")


def _body(payload: Payload) -> Payload:
    """The JSON that is sent for *payload*."""
    extra = payload.get("extra_body") or {}
    return {**{name: value for name, value in payload.items() if name not in _NOT_IN_BODY}, **extra}


def _request_options(payload: Payload) -> Any:
    """What *payload* says beside the body, as the SDK's options of one request."""
    options = {option: payload[name] for name, option in _OPTIONS.items() if name in payload}
    headers = {header: payload[name] for name, header in _AS_HEADERS.items() if name in payload}
    return {**options, "headers": {**headers, **(options.get("headers") or {})}}


async def _read_out(events: AsyncIterator[Any], response: Any) -> None:
    await drain(events, _FAREWELL, response)
