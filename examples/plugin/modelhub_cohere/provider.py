"""A model of Cohere's: docs.cohere.com/v2/reference/chat."""

import os
from collections.abc import Mapping
from typing import Any

from modelhub import CallError
from modelhub.providers import (
    ChatRequest,
    HttpProvider,
    RequestTemplate,
    ResponseBuilder,
    ServerSentEvent,
    Site,
    Structured,
    VendorRequest,
    read_json,
    resolve_endpoint,
)
from modelhub_cohere.errors import error_from_response
from modelhub_cohere.request import encode
from modelhub_cohere.response import read_event, read_message

SITE = Site("https://api.cohere.com", ("cohere.com", "cohere.ai"), ("CO_API_KEY",), ("CO_API_URL",))


class CohereChatModel(HttpProvider):
    """Chats with a model of Cohere's. *generate_kwargs*, such as `thinking`, go with every request."""

    kind = "cohere"
    vendor = "Cohere"
    end_mark = "message-end"

    def __init__(
        self,
        model_name: str,
        api_key: str | None = None,
        stream: bool = True,
        generate_kwargs: Mapping[str, Any] | None = None,
        base_url: str | None = None,
    ) -> None:
        endpoint = resolve_endpoint(os.environ, SITE, address=base_url, api_key=api_key)
        super().__init__(model_name, stream, endpoint=endpoint, generate_kwargs=generate_kwargs)

    def build_request(self, request: ChatRequest, structured: Structured | None, stream: bool) -> VendorRequest:
        """Return the body of a chat request."""
        parameters = {**self.generate_kwargs, **request.options}
        return VendorRequest(encode(self.model_name, request, structured, stream, parameters), stream)

    async def write_request(self, _: None, request: VendorRequest) -> RequestTemplate:
        """Return the address and the headers. Cohere's SDK is not needed to write them."""
        accept = "text/event-stream" if request.stream else "application/json"
        headers = {"accept": accept, "content-type": "application/json", "user-agent": "modelhub-cohere/0.1"}
        if self.endpoint.key is not None:
            headers["authorization"] = f"Bearer {self.endpoint.key.get_secret_value()}"
        return RequestTemplate("POST", f"{self.endpoint.address.rstrip('/')}/v2/chat", headers)

    def parse_response(self, body: bytes, builder: ResponseBuilder) -> None:
        """Read a whole answer."""
        read_message(read_json(body), builder)

    def parse_event(self, event: ServerSentEvent, builder: ResponseBuilder) -> None:
        """Read one event."""
        read_event(read_json(event.data), builder)

    def is_last_event(self, event: ServerSentEvent) -> bool:
        """Whether *event* ends the stream."""
        return event.name == "message-end" or super().is_last_event(event)

    def error_from_response(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """Return what an answer with an error *status* means."""
        return error_from_response(status, headers, body)
