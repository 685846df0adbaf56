"""DashScope: Alibaba Cloud's models by its own (native) API, text and multimodal behind one class."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from modelhub.core.request import ChatRequest
from modelhub.providers.addresses import split_userinfo
from modelhub.providers.dashscope import errors
from modelhub.providers.dashscope.endpoint import find_endpoint
from modelhub.providers.dashscope.parameters import VOCABULARY
from modelhub.providers.dashscope.request import PROVIDER_NAME, encode_request, is_multimodal, must_stream
from modelhub.providers.dashscope.response import ends_answer, read_body, read_event
from modelhub.providers.http.request_templates import RequestRecorder, RequestTemplate, SdkClient
from modelhub.providers.http_provider import HttpProvider, VendorRequest
from modelhub.providers.sdk_client import merge_client_args
from modelhub.providers.structured_output import Method, Structured

__all__ = ["DashScopeChatModel"]


class DashScopeChatModel(HttpProvider):
    """Chats with a model of Alibaba Cloud by DashScope's native API.

    *enable_thinking* switches thinking of models that can do both; None leaves it to the model. *base_http_api_url*
    (or *base_url*) is this model's alone. *multimodality* says which endpoint to use; None decides by the messages,
    then by the model's name. *client_args* or *client_kwargs* are arguments of the SDK's client. DASHSCOPE_API_KEY is
    sent to Alibaba Cloud only.

    Some models answer in streams only, or as long as they think: a plain call streams such an answer and collects it.
    Any tool cannot be demanded of DashScope: for "required" the model is asked to call one, and an answer without a
    call is a `BadReply`. In thinking mode a tool cannot be forced by name either, which is an `UnsupportedFeature`.
    """

    takes_cache_marks = True
    kind = PROVIDER_NAME
    vocabulary = VOCABULARY
    max_tokens_parameters = ("max_tokens",)
    sdk = "dashscope"
    client_class = "dashscope:AsyncClient"
    address_argument = "base_http_api_url"
    vendor = "DashScope"
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
        args = merge_client_args(client_args, client_kwargs)
        endpoint, self._account = find_endpoint(base_http_api_url or base_url, api_key, args, os.environ)
        args.pop("base_url", None)
        self.enable_thinking = enable_thinking
        self.multimodality = multimodality
        super().__init__(model_name, stream, endpoint=endpoint, client_args=args, generate_kwargs=generate_kwargs)

    # -- the SDK's client, which writes requests -----------------------------------------------------------------------

    def make_writer(self) -> SdkClient:
        """Return the SDK's client over a recorder. All that it would look for in environment and files is given."""
        import dashscope
        import httpx

        address, userinfo = split_userinfo(self.endpoint.address)  # the libraries log the address as they get it
        recorder = RequestRecorder(httpx, auth=userinfo)
        arguments = {
            **self._client_args,
            "http_client": recorder.client,
            "api_key": self.endpoint.key_text or "",
            "base_url": address,
            "region": self._account.region,
            "protocol": "native",
            "max_retries": 0,
            "config_path": os.devnull,
        }
        return SdkClient(dashscope.AsyncClient(**arguments), recorder)

    async def write_request(self, writer: SdkClient, request: VendorRequest) -> RequestTemplate:
        """Return what the SDK writes for *request*. Over a client that it is given, it sends only what is said here."""
        from dashscope.v2.transport import default_user_agent

        protocol, options = writer.sdk.protocol, request.sdk_options or {}
        path = protocol.MULTIMODAL_PATH if options.get("multimodal") else None
        written = protocol.build_chat_request(model=self.model_name, messages=[], stream=request.stream, path=path)
        return await writer.recorder.record(
            lambda: writer.sdk.transport.open_stream(
                "POST",
                written.path,
                json=written.body,
                headers={"User-Agent": default_user_agent(), **written.headers},
                base_url=split_userinfo(self.endpoint.address)[0],
                api_key=self.endpoint.key_text or "",
                workspace=self._account.workspace,
                sdk_module="aigc",
            )
        )

    # -- requests ------------------------------------------------------------------------------------------------------

    def constructor_parameters(self) -> Mapping[str, Any]:
        """Return whether the model thinks."""
        return {"enable_thinking": self.enable_thinking}

    def structured_method(self, request: ChatRequest) -> Method:
        """By a forced tool; in words where none can be forced, which is while it thinks, or none may be known."""
        is_thinking = request.options.get("enable_thinking") is True
        in_words = is_thinking or is_multimodal(self.model_name, request.messages, self.multimodality)
        return "prompt" if in_words else "tool"

    def build_request(self, request: ChatRequest, structured: Structured | None, stream: bool) -> VendorRequest:
        """Return the parameters of the native API; some models answer in streams only."""
        # `incremental_output` is none of the caller's: what comes in pieces is put together here anyway.
        parameters = {name: value for name, value in request.options.items() if name != "incremental_output"}
        stream = stream or must_stream(self.model_name, parameters)
        multimodal = is_multimodal(self.model_name, request.messages, self.multimodality)
        body = encode_request(self.model_name, request, structured, stream, parameters, multimodal)
        return VendorRequest(body, stream, (multimodal, stream), {"multimodal": multimodal})

    # -- answers -------------------------------------------------------------------------------------------------------

    parse_response = staticmethod(read_body)
    parse_event = staticmethod(read_event)
    is_last_event = staticmethod(ends_answer)
    error_from_response = staticmethod(errors.error_from_response)
