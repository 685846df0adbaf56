"""Ollama: models on your own machine, and its cloud, by `/api/chat`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from modelhub.core.errors import CallError, ModelNotFound, NotConfigured
from modelhub.core.request import ChatRequest
from modelhub.providers.addresses import server_name, split_userinfo
from modelhub.providers.http import Transport
from modelhub.providers.http.request_templates import RequestRecorder, RequestTemplate, SdkClient
from modelhub.providers.http.sse import ServerSentEvent
from modelhub.providers.http_provider import HttpProvider, VendorRequest
from modelhub.providers.json_text import loads
from modelhub.providers.ollama.endpoint import find_endpoint, has_authorization, has_credentials
from modelhub.providers.ollama.errors import error_from_response
from modelhub.providers.ollama.parameters import VOCABULARY
from modelhub.providers.ollama.request import PROVIDER_NAME, encode_request
from modelhub.providers.ollama.response import read_body, read_event
from modelhub.providers.sdk_client import merge_client_args
from modelhub.providers.structured_output import Structured

__all__ = ["OllamaChatModel"]

_DONE = re.compile(rb'"done"\s*:\s*true')


class OllamaChatModel(HttpProvider):
    """Chats with a model of Ollama.

    *host* (or *base_url*) is the server's address, OLLAMA_HOST if not given. *options* are Ollama's model options;
    the same names in *generate_kwargs* or in a call join them. *enable_thinking* is sent as `think`. Further keywords,
    *client_args* and *client_kwargs* go to the HTTP client. An *api_key* is sent as a bearer token; OLLAMA_API_KEY only
    to https://ollama.com.

    Ollama cannot be told which tool to choose. "none" shows the model no tool; for "required" and a tool's name it
    sees those tools only and is asked to call one, and an answer without such a call is a `BadReply`.
    """

    kind = PROVIDER_NAME
    vocabulary = VOCABULARY
    price_provider = ""
    max_tokens_parameters = ("options.num_predict", "num_predict")
    sdk = "ollama"
    client_class = "httpx:AsyncClient"
    address_argument = "host"
    vendor = "Ollama"
    event_format = "lines"
    end_mark = "`done`"
    connect_hint = "is the server running (`ollama serve`)?"

    def __init__(
        self,
        model_name: str,
        stream: bool = False,
        options: Mapping[str, Any] | None = None,
        keep_alive: str | float | None = "5m",
        enable_thinking: bool | str | None = None,
        host: str | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        client_args: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            model_name,
            stream,
            endpoint=find_endpoint(host or base_url, api_key, os.environ),
            client_args=merge_client_args(client_args, client_kwargs, kwargs),
            generate_kwargs=generate_kwargs,
        )
        self.options = dict(options or {})
        self.keep_alive = keep_alive
        self.enable_thinking = enable_thinking

    def has_credentials(self) -> bool:
        """Whether the client's arguments authorize by other means than a key."""
        return has_credentials(self._client_args)

    def secrets(self) -> Iterator[str]:
        """Yield the key, and whatever else authorizes."""
        yield from super().secrets()
        if (basic := self._basic_auth()) is not None:
            yield str(basic[-1])

    def _basic_auth(self) -> tuple[Any, ...] | None:
        """Return the name and password of the client's arguments, or else of the address."""
        auth = self._client_args.get("auth") or split_userinfo(self.endpoint.address)[1]
        return auth if isinstance(auth, tuple) else None

    # -- the SDK's client, which writes requests -----------------------------------------------------------------------

    def constructor_parameters(self) -> Mapping[str, Any]:
        """Return the options, how long the model stays in memory, and whether it thinks."""
        return {"options": self.options, "keep_alive": self.keep_alive, "think": self.enable_thinking}

    def make_transport(self) -> Transport:
        """Return what sends the requests: a client with the caller's arguments if they say how to connect."""
        in_template = {"headers", "timeout"}
        if isinstance(self._client_args.get("auth"), tuple):
            in_template.add("auth")  # any other may need to see the answer
        arguments = {name: value for name, value in self._client_args.items() if name not in in_template}
        if not arguments or "http_client" in arguments:
            return super().make_transport()
        return self.make_httpx_transport("httpx", arguments)

    def make_writer(self) -> SdkClient:
        """Return the SDK's client over a recorder."""
        import httpx

        try:
            import ollama
        except Exception as error:
            # The SDK makes a client while it is imported, out of OLLAMA_HOST and the proxy variables.
            raise NotConfigured(
                f"the ollama SDK cannot be imported ({error}): look at OLLAMA_HOST and the proxy variables"
            ) from error
        headers = dict(self._client_args.get("headers") or {})
        if (key := self.endpoint.key_text) is not None:
            headers = {"authorization": f"Bearer {key}", **headers}
        address, _ = split_userinfo(self.endpoint.address)
        recorder = RequestRecorder(httpx)
        arguments = {"transport": recorder.transport, "headers": headers, "auth": self._basic_auth()}
        return SdkClient(ollama.AsyncClient(address, **arguments), recorder)

    async def write_request(self, writer: SdkClient, request: VendorRequest) -> RequestTemplate:  # noqa: ARG002
        """Return what the SDK writes for every request."""
        template = await writer.recorder.record(lambda: writer.sdk.chat(model=self.model_name))
        if self.endpoint.key is not None or self._basic_auth() or has_authorization(self._client_args):
            return template
        # The SDK would send OLLAMA_API_KEY, whatever the host.
        headers = {name: value for name, value in template.headers.items() if name.lower() != "authorization"}
        return replace(template, headers=headers)

    # -- requests ------------------------------------------------------------------------------------------------------

    def build_request(self, request: ChatRequest, structured: Structured | None, stream: bool) -> VendorRequest:
        """Return the parameters of `/api/chat`."""
        return VendorRequest(encode_request(self.model_name, request, structured, stream), stream, "chat")

    # -- answers -------------------------------------------------------------------------------------------------------

    parse_response = staticmethod(read_body)
    parse_event = staticmethod(read_event)

    def is_last_event(self, event: ServerSentEvent) -> bool:
        """Whether nothing follows *event* but the end of the body."""
        data = event.data
        return b"true" in data and _DONE.search(data) is not None and bool(loads(data).get("done"))

    def error_from_response(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """Return what an answer with an error *status* means; for a model that is not there, how to fetch it."""
        failure = error_from_response(status, headers, body)
        if isinstance(failure, ModelNotFound) and str(failure).startswith(f"ollama said {status}: model"):
            hint = f"`ollama pull {self.model_name}` on {server_name(self.endpoint.address)} fetches it"
            failure.args = (f"{failure}; {hint}",)
        return failure
