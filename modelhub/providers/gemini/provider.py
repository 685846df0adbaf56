"""Google Gemini: `generateContent` of the Gemini API and of Vertex AI, through google-genai."""

from __future__ import annotations

import copy
import dataclasses
import os
import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from contextlib import aclosing
from functools import cache
from importlib.util import find_spec
from typing import Any

from pydantic import SecretStr

from modelhub.errors import (
    AuthenticationFailed,
    BadReply,
    CallError,
    ConnectFailed,
    InvalidRequest,
    NotConfigured,
)
from modelhub.model import ChatRequest
from modelhub.providers._answer import Answer
from modelhub.providers._base import Payload, Provider
from modelhub.providers._client import ClientProblem, ClientSettings, check_arguments, guard_client
from modelhub.providers._http import PerLoop
from modelhub.providers._structured import Method, Structured
from modelhub.providers._wire import loads, server_sent_events
from modelhub.providers.gemini.client import GeminiClient, connect, http_options, merged, snake
from modelhub.providers.gemini.errors import error_from_response
from modelhub.providers.gemini.request import request_body, structured_method
from modelhub.providers.gemini.response import read_body, read_done, read_event

__all__ = ["KEY_VARIABLES", "GeminiChatModel", "is_vertex"]

KEY_VARIABLES = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
_URL = "https://generativelanguage.googleapis.com/"
# Fixed for every request, so that a call is one request.
_OURS = ("automatic_function_calling", "automatic_continuation", "should_return_http_response")
_SCHEMAS = ("response_schema", "response_json_schema", "response_mime_type")


def is_vertex(client_args: Mapping[str, Any]) -> bool:
    """Whether *client_args* ask for Vertex AI in the place of the Gemini API."""
    # `enterprise` is the SDK's new word for `vertexai`, and goes before it.
    found = client_args.get("enterprise")
    return bool(client_args.get("vertexai") if found is None else found)


_DONE = object()
"""The event that a gateway writes as `[DONE]`."""


class GeminiChatModel(Provider):
    """A model of Google's Gemini API, or of Vertex AI with `client_args={"vertexai": True, "project": ...}`.

    *generate_kwargs* and a call's keywords bear the SDK's names (`GenerateContentConfig`); what the SDK does not know
    yet can be sent with `http_options={"extra_body": {...}}`. The SDK's own retries, function calling and
    continuations are off: a call is one request. `tools` among the keywords are Google's own tools (search, ...).
    """

    kind = "gemini"
    telemetry_name = "gcp.gen_ai"
    price_provider = "google"
    max_tokens_parameters = ("max_output_tokens", "maxOutputTokens")
    sdk = "google.genai"
    tool_name_pattern = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
    end_mark = "a finishReason"

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
        super().__init__(model_name, stream)
        arguments = {**(client_args or {}), **(client_kwargs or {})}
        self._vertex = is_vertex(arguments)
        key = api_key or arguments.get("api_key")
        default_url = None if self._vertex else _URL  # Vertex AI's depends on the location
        if not key and not self._vertex:
            key = next(_keys_in(os.environ), None)
            # An address of the environment is meant for a key of the environment.
            default_url = os.environ.get("GOOGLE_GEMINI_BASE_URL") or default_url
        self._key = SecretStr(key) if key else None
        # Vertex AI's client finds keys by itself: they are not to be shown either.
        self._secrets = [SecretStr(found) for found in (key, *_keys_in(os.environ)) if found]
        self._http_options = {"base_url": default_url, **http_options(arguments.pop("http_options", None))}
        if base_url:
            self._http_options["base_url"] = base_url
        self._client_args = {name: arguments[name] for name in arguments.keys() - {"api_key", "enterprise"}}
        self._thinking_config = None if thinking_config is None else dict(thinking_config)
        self.generate_kwargs = dict(generate_kwargs or {})
        self._clients: PerLoop[GeminiClient] = PerLoop(
            guard_client(self._connect, self.client_problems, "Gemini"), GeminiClient.close
        )

    # -- what must be there ----------------------------------------------------------------------------------------

    def missing(self) -> str | None:
        """The SDK, and a key unless it is Vertex AI's."""
        if not _is_installed():
            return "pip install 'modelhub[gemini]'"
        if self._key is not None:
            sendable = self._key.get_secret_value().strip()
            return None if sendable.isascii() and sendable.isprintable() else "the key has characters that no key has"
        return None if self._vertex else f"set {' or '.join(KEY_VARIABLES)}"

    def address(self) -> str | None:
        """Where the server is."""
        return self._http_options.get("base_url")

    def secrets(self) -> Iterable[str]:
        """The key, and those in the environment."""
        return [secret.get_secret_value() for secret in self._secrets]

    def structured_method(self, request: ChatRequest) -> Method:  # noqa: ARG002
        """By JSON schema, but Gemma in words."""
        return structured_method(self.model_name)

    # -- requests --------------------------------------------------------------------------------------------------

    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> Payload:  # noqa: ARG002
        """The SDK's `config` and HttpOptions, and the part of the body that is written here."""
        config = {**_snaked(self.generate_kwargs), **_snaked(request.options)}
        if self._thinking_config is not None:
            config.setdefault("thinking_config", self._thinking_config)
        body = request_body(request, structured, self.model_name, config.pop("tools", None))
        if "system_instruction" in config and "systemInstruction" in body:
            raise InvalidRequest("there are system messages and a `system_instruction`: only one can be sent")
        if structured is not None:
            config |= dict.fromkeys(_SCHEMAS)
        options = http_options(config.pop("http_options", None))
        body = merged(body, options.pop("extra_body", None) or {})
        config = {key: value for key, value in config.items() if value is not None}
        return {"config": config, "options": options, "body": body}

    async def call(self, payload: Payload) -> Any:
        """One `generateContent`: the answer's JSON."""
        response = await self._open(payload, stream=False)
        try:
            return loads(await response.aread())
        finally:
            await response.aclose()

    async def events(self, payload: Payload) -> AsyncGenerator[Any, None]:
        """One `streamGenerateContent`: each piece's JSON."""
        response = await self._open(payload, stream=True)
        try:
            stray: list[bytes] = []
            async with (
                aclosing(response.aiter_bytes()) as pieces,
                aclosing(server_sent_events(pieces, stray)) as found,
            ):
                async for _, data in found:
                    if data == b"[DONE]":  # of a gateway that speaks OpenAI's dialect too
                        yield _DONE
                        return
                    yield loads(data)
            if stray:  # JSON as it is: an error in the middle, or all the pieces in one list
                rest = loads(b"\n".join(stray))
                for event in rest if isinstance(rest, list) else [rest]:
                    yield event
        finally:
            await response.aclose()

    async def _open(self, payload: Payload, stream: bool) -> Any:
        """Send *payload*; the vendor's own response, of status 200. The caller closes it."""
        client = self._clients.get()
        response = await client.ask(self.model_name, payload, stream)
        if response.status_code == 200:
            return response
        raise await _refusal(response)

    # -- answers ---------------------------------------------------------------------------------------------------

    def decode(self, body: Any, answer: Answer) -> None:
        """Read a whole answer."""
        read_body(body, answer)

    def decode_event(self, event: Any, answer: Answer) -> None:
        """Read one piece of a stream."""
        if event is _DONE:
            read_done(answer)
        else:
            read_event(event, answer)

    def failure(self, error: Exception) -> CallError | None:
        """What Google's libraries raise themselves: signing in to Vertex AI, and the SDK's own errors."""
        names = {cls.__name__ for cls in type(error).__mro__}
        if "DefaultCredentialsError" in names:
            return NotConfigured(f"signing in to Vertex AI is not possible: {error}")
        if "GoogleAuthError" in names:
            cls = ConnectFailed if "TransportError" in names else AuthenticationFailed
            return cls(f"signing in to Vertex AI failed: {error}")
        if "APIError" in names:
            return error_from_response(getattr(error, "code", None), {}, getattr(error, "details", None))
        return None

    # -- the client ------------------------------------------------------------------------------------------------

    def client_settings(self) -> ClientSettings:
        """The server's address and the client's arguments."""
        return ClientSettings({"base_url": self.address()}, self._client_args, _client_class)

    def client_problems(self) -> list[ClientProblem]:
        """What is wrong with the settings, those in `http_options` included."""
        version = {name: value for name, value in self._http_options.items() if name == "api_version"}
        options = [
            dataclasses.replace(problem, path=("client_args", "http_options", "api_version"))
            for problem in check_arguments("client_args", version)
        ]
        return [*super().client_problems(), *options]

    def _connect(self) -> GeminiClient:
        key = None if self._key is None else self._key.get_secret_value()
        # `vertexai` is said either way: the environment could switch the backend.
        arguments = {**self._client_args, "vertexai": self._vertex, "api_key": key}
        return connect(arguments, self._http_options, self.connect_timeout)

    async def aclose(self) -> None:
        """Give back the connections."""
        await self._clients.aclose()


def _client_class() -> Any:
    from google import genai

    return genai.Client


def _keys_in(environ: Mapping[str, str]) -> Iterator[str]:
    """The keys of the environment, in the SDK's order."""
    return filter(None, (environ.get("GOOGLE_API_KEY"), environ.get("GEMINI_API_KEY")))


@cache
def _is_installed() -> bool:
    return find_spec("google") is not None and find_spec("google.genai") is not None


def _snaked(options: Mapping[str, Any]) -> dict[str, Any]:
    """*options* with the SDK's names, none of them fixed here, and copied: the SDK changes some in place."""
    return {
        name: copy.deepcopy(value) if isinstance(value, (dict, list)) else value
        for name, value in ((snake(key), value) for key, value in options.items())
        if name not in _OURS
    }


async def _refusal(response: Any) -> CallError:
    """What a status other than 200 means, even if the body cannot be read."""
    status = response.status_code
    try:
        data = await response.aread()
    except Exception:
        data = b""
    finally:
        await response.aclose()
    if status < 300:
        return BadReply(f"gemini said {status}, as no Gemini API does: look at the base URL", status=status)
    return error_from_response(status, response.headers, data)
