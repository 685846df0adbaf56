"""DashScope: Alibaba Cloud's models by its own (native) API, text and multimodal behind one class."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from importlib.util import find_spec
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import SecretStr

from modelhub.errors import BadReply, CallError, InvalidRequest, NotConfigured
from modelhub.model import ChatRequest
from modelhub.providers._address import explain_redirect, split_userinfo
from modelhub.providers._again import Again
from modelhub.providers._answer import Answer
from modelhub.providers._base import Payload, Provider
from modelhub.providers._client import ClientSettings, guard_client
from modelhub.providers._error_mapping import is_flat_error
from modelhub.providers._http import PerLoop, http_client
from modelhub.providers._structured import Method, Structured
from modelhub.providers._wire import drain, json_body, server_sent_events
from modelhub.providers.dashscope.errors import error_from_response
from modelhub.providers.dashscope.request import (
    KIND,
    encode_messages,
    encode_parameters,
    encode_tools,
    is_multimodal,
    must_stream,
)
from modelhub.providers.dashscope.response import choice_of, is_last, read_body, read_done

__all__ = ["DashScopeChatModel", "Place"]

_HOMES = {"cn-beijing": "dashscope.aliyuncs.com", "cn-hongkong": "cn-hongkong.dashscope.aliyuncs.com"}
_HOME_ABROAD = "dashscope-intl.aliyuncs.com"
_LOCAL = ("localhost", "127.0.0.1", "::1")


class Place:
    """The address to speak to, and the key that may be sent there."""

    def __init__(
        self, api_key: str | None, base_url: str | None, client_args: Mapping[str, Any], environ: Mapping[str, str]
    ) -> None:
        ambient = environ.get("DASHSCOPE_API_KEY")
        # What the environment says of addresses goes with the environment's key, and with no other.
        alone = bool(base_url or (api_key and api_key != ambient))
        around = {} if alone else environ
        self.region: str = client_args.get("region") or around.get("DASHSCOPE_REGION") or "cn-beijing"
        self.workspace: str | None = client_args.get("workspace") or around.get("DASHSCOPE_WORKSPACE") or None
        found = base_url or around.get("DASHSCOPE_BASE_URL") or around.get("DASHSCOPE_HTTP_BASE_URL")
        self.base_url: str = found or f"https://{self._home()}/api/v1"
        self._host = urlsplit(self.base_url).hostname or ""
        self._is_home = not base_url or self._host.endswith(".aliyuncs.com") or self._host in _LOCAL
        self.key = api_key or (ambient if self._is_home else None) or ""

    def _home(self) -> str:
        if self.workspace:
            return f"{self.workspace}.{self.region}.maas.aliyuncs.com"
        return _HOMES.get(self.region, _HOME_ABROAD)

    def missing(self) -> str | None:
        """What is to be done for a key."""
        if self.key:
            return None
        if self._is_home:
            return "set DASHSCOPE_API_KEY"
        return f"give `api_key` for {self._host}: DASHSCOPE_API_KEY is sent to Alibaba Cloud only"


class _Client(NamedTuple):
    """The SDK's client for one event loop, and what it need not write again."""

    sdk: Any
    again: Again


class _Part(NamedTuple):
    """An event or a whole body of an answer, and the tool that must be called in it: its name, "" for any, or None."""

    body: dict[str, Any] | None
    """None at `[DONE]`, the end of a gateway's stream."""
    choice: dict[str, Any]
    """The first of the choices in the body."""
    wanted: str | None


class DashScopeChatModel(Provider):
    """Chats with a model of Alibaba Cloud by DashScope's native API.

    *enable_thinking* switches thinking of models that can do both; None leaves it to the model. *base_http_api_url*
    (or *base_url*) is this model's alone. *multimodality* says which endpoint to use; None decides by the messages,
    then by the model's name. *client_args* or *client_kwargs* are arguments of the SDK's client. DASHSCOPE_API_KEY is
    sent to Alibaba Cloud and to this machine only.

    Some models answer in streams only, or as long as they think: a plain call streams such an answer and collects it.
    Any tool cannot be demanded of DashScope: for "required" the model is asked to call one, and an answer without a
    call is a `BadReply`. In thinking mode a tool cannot be forced by name either, which is an `UnsupportedFeature`.
    """

    kind = KIND
    max_tokens_parameters = ("max_tokens",)
    sdk = "dashscope"
    tool_name_pattern = re.compile(r"[a-zA-Z0-9_-]{1,64}")
    end_mark = "a finish_reason"

    def __init__(
        self,
        model_name: str,
        api_key: str | None,
        stream: bool = True,
        enable_thinking: bool | None = None,
        generate_kwargs: Mapping[str, Any] | None = None,
        base_http_api_url: str | None = None,
        *,
        base_url: str | None = None,
        multimodality: bool | None = None,
        stream_tool_parsing: bool = True,  # noqa: ARG002 - a later name of the seed's
        client_args: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model_name, stream)
        self.enable_thinking = enable_thinking
        self.generate_kwargs = dict(generate_kwargs or {})
        self.multimodality = multimodality
        self._args = {**(client_args or {}), **(client_kwargs or {})}
        address = base_http_api_url or base_url or self._args.pop("base_url", None)
        self._place = Place(api_key, address, self._args, os.environ)
        self._place.key, self._key = "", SecretStr(self._place.key)
        self._clients: PerLoop[_Client] = PerLoop(
            guard_client(self._open_client, self.client_problems, "DashScope"), self._close_client
        )

    @property
    def base_url(self) -> str:
        """The API's address."""
        return self._place.base_url

    def missing(self) -> str | None:
        """The SDK or the key, if there is none."""
        if find_spec("dashscope") is None:
            return "the dashscope SDK is missing: pip install 'modelhub[dashscope]'"
        return None if self._key else self._place.missing()

    def address(self) -> str | None:
        """Where the server is."""
        return self.base_url

    def secrets(self) -> Iterable[str]:
        """The key."""
        return (self._key.get_secret_value(),)

    # -- what goes out ---------------------------------------------------------------------------------------------

    def _parameters(self, request: ChatRequest) -> dict[str, Any]:
        return encode_parameters(self.generate_kwargs, request.options, self.enable_thinking)

    def structured_method(self, request: ChatRequest) -> Method:
        """By a forced tool; in words where none can be forced, which is while it thinks, or none may be known."""
        thinking = self._parameters(request).get("enable_thinking") is True
        words = thinking or is_multimodal(self.model_name, request.messages, self.multimodality)
        return "prompt" if words else "tool"

    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> Payload:
        """The arguments of the SDK's request, and the tool that must be called."""
        parameters = self._parameters(request)
        tools, choice, instruction = request.tools, request.tool_choice, None
        if structured is not None and structured.method == "tool":
            tools, choice = (structured.tool(),), structured.tool_choice()
        elif structured is not None:
            instruction = structured.prompt()
        elif choice is not None and choice.mode == "required":
            instruction = "Answer by calling one of the tools, not in words of your own."
        multimodal = is_multimodal(self.model_name, request.messages, self.multimodality)
        demanded = choice is not None and choice.mode in ("required", "tool")
        return {
            "messages": encode_messages(request.messages, multimodal, instruction),
            "parameters": parameters | encode_tools(tools, choice, parameters.get("enable_thinking") is True),
            "multimodal": multimodal,
            "stream": stream or must_stream(self.model_name, parameters),
            # Structured output is read from the text, too, if the model wrote it there.
            "wanted": (choice.name or "") if choice is not None and demanded and structured is None else None,
        }

    # -- the line of SDK -------------------------------------------------------------------------------------------

    def client_settings(self) -> ClientSettings:
        """The server's address and the client's arguments."""
        return ClientSettings({"base_http_api_url": self.base_url}, self._args, _client_class)

    def _open_client(self) -> _Client:
        import dashscope
        import httpx

        theirs = self._args.get("http_client")
        address, userinfo = split_userinfo(self.base_url) if not theirs else (self.base_url, None)
        http, pool = (theirs, None) if theirs else http_client(httpx, auth=userinfo)
        # All that the SDK would look for in its environment and files is said.
        said_here = {
            "http_client": http,
            "api_key": self._key.get_secret_value(),
            "base_url": address,
            "region": self._place.region,
            "protocol": "native",
            "max_retries": 0,
            "config_path": os.devnull,
        }
        sdk = dashscope.AsyncClient(**(self._args | said_here))
        return _Client(sdk, Again(httpx, pool))

    async def _close_client(self, client: _Client) -> None:
        await client.sdk.aclose()
        if not self._args.get("http_client"):
            await client.sdk.transport.http_client.aclose()  # the SDK closes none that it was given

    async def _open(self, payload: Payload) -> Any:
        client = self._clients.get()
        protocol = client.sdk.protocol
        request = protocol.build_chat_request(
            model=self.model_name,
            messages=payload["messages"],
            stream=payload["stream"],
            extra_parameters=payload["parameters"],
            path=protocol.MULTIMODAL_PATH if payload["multimodal"] else None,
        )
        key = (request.path, *request.headers.items())
        return await client.again.send(key, request.body, lambda body: self._ask(client.sdk, request, body or {}))

    async def _ask(self, sdk: Any, request: Any, body: Any) -> Any:
        import httpx

        # The SDK's transport gives the answer as it came. Over a client of ours it sends only what is said here.
        return await sdk.transport.open_stream(
            "POST",
            request.path,
            json=body,
            headers=request.headers,
            base_url=self.base_url if self._args.get("http_client") else split_userinfo(self.base_url)[0],
            api_key=self._key.get_secret_value(),
            workspace=self._place.workspace,
            sdk_module="aigc",
            timeout=self._args.get("timeout") or httpx.Timeout(600.0, connect=self.connect_timeout),
        )

    async def call(self, payload: Payload) -> list[_Part]:
        """The whole answer: one body, or the events of a stream where the vendor gives nothing else."""
        async with aclosing(self.events(payload)) as events:
            return [event async for event in events]

    async def events(self, payload: Payload) -> AsyncGenerator[_Part, None]:
        """The answer's events, each a JSON object; a body that is no stream comes as one."""
        response = await self._open(payload)
        try:
            if response.is_redirect:
                raise NotConfigured(explain_redirect(self.base_url, response.headers["location"]))
            if "event-stream" not in response.headers.get("content-type", ""):
                yield _checked(await response.aread(), payload, response)
                return
            events = server_sent_events(response.aiter_bytes())
            async for name, data in events:
                done = data == b"[DONE]"  # of a gateway that speaks OpenAI's dialect too
                part = (
                    _Part(None, {}, payload["wanted"])
                    if done
                    else _checked(data, payload, response, failed=name == "error")
                )
                yield part
                if done or is_last(part.choice):
                    await _read_out(events, response)
                    return
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Give back connections. A client that was handed in as `http_client` stays open."""
        await self._clients.aclose()

    # -- what comes in ---------------------------------------------------------------------------------------------

    def decode(self, body: list[_Part], answer: Answer) -> None:
        """Read a whole answer: its body, or its events in turn."""
        for part in body:
            self.decode_event(part, answer)
        if not answer.complete:
            raise BadReply(f"the answer came without {self.end_mark}")

    def decode_event(self, event: _Part, answer: Answer) -> None:
        """Read an event: a piece of the message, or the end; each with the counts so far."""
        if event.body is None:
            read_done(event.wanted, answer)
        else:
            read_body(event.body, event.choice, event.wanted, answer)

    def failure(self, error: Exception) -> CallError | None:
        """An error of the SDK with an answer behind it; what the network met is told by its causes."""
        status = getattr(error, "status_code", None)
        if isinstance(status, int) and any(cls.__name__ == "DashScopeError" for cls in type(error).__mro__):
            body = getattr(error, "body", None)
            text = str(getattr(error, "message", "")).encode()
            return error_from_response(status, getattr(error, "headers", {}), body if isinstance(body, dict) else text)
        if isinstance(error, UnicodeEncodeError) or (
            isinstance(error, TypeError | ValueError) and "JSON" in str(error)
        ):
            return InvalidRequest(f"the request cannot be written as JSON: {error}")
        return None


def _client_class() -> Any:
    import dashscope

    return dashscope.AsyncClient


_SUCCESS = (200, "200", 0, "0", "Success", "success")
"""What gateways write as the code of an answer that is none of a failure."""


def _checked(data: bytes, payload: Payload, response: Any, failed: bool = False) -> _Part:
    body = json_body(data)
    is_answer = not failed and isinstance(body.get("output"), dict) and body.get("code") in _SUCCESS
    is_flat = body.get("output") is None and is_flat_error(body)
    if failed or (body.get("code") and not is_answer) or body.get("error") or is_flat:
        raise error_from_response(None, response.headers, body)
    return _Part(body, choice_of(body), payload["wanted"])


async def _read_out(events: AsyncIterator[Any], response: Any) -> None:
    # What follows the end is nothing but the end of the HTTP body; a connection read to there can be used again.
    await drain(events, 0.5, response)
