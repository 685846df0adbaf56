"""What the vendors share that are asked over HTTP: credentials, templates, the exchange.

A provider is pure on both sides of one exchange. It says what to send (`build_request`), how to read what comes back
(`parse_response`, `parse_event`), and what a refusal means (`error_from_response`). What its SDK is for is in
`write_request`: to write the address, the key and the headers, once, into a client that only records them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import cached_property
from importlib import import_module
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar

from modelhub.core.context import CallContext
from modelhub.core.errors import (
    BadReply,
    CallError,
    ConfigError,
    ConnectFailed,
    ConnectTimeout,
    InvalidRequest,
    NotConfigured,
)
from modelhub.core.request import ChatRequest
from modelhub.providers.addresses import explain_address, hide_password, server_name
from modelhub.providers.base import Provider
from modelhub.providers.endpoint import Endpoint
from modelhub.providers.http import HttpResponse, HttpxTransport, OwnHttpxTransport, Timeouts, Transport
from modelhub.providers.http.aiohttp_transport import AiohttpTransport
from modelhub.providers.http.client_adapter import make_httpx_client
from modelhub.providers.http.per_loop import PerLoop
from modelhub.providers.http.rate_limit_headers import record_rate_limits
from modelhub.providers.http.request_templates import RequestTemplate, RequestTemplates
from modelhub.providers.http.sse import ServerSentEvent, read_events, read_lines
from modelhub.providers.json_text import SHAPE_ERRORS, dump_json, dump_json_chunks, has_long_text
from modelhub.providers.redaction import redact
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.sdk_client import ClientProblem, check_arguments, check_names, read_timeouts, secret_headers
from modelhub.providers.sdk_import import import_sdk, is_installed
from modelhub.providers.structured_output import Structured
from modelhub.version import install_command

__all__ = ["HttpProvider", "VendorRequest", "WholeBody"]

T = TypeVar("T")

READ_TIMEOUT = 600.0
"""Seconds of silence; the layers' time-outs are shorter."""
DRAIN_TIMEOUT = 0.25
"""Seconds that a connection may take to end after the last event, so that it can be used again."""


class VendorRequest(NamedTuple):
    """What a vendor is asked.

    `body` is the JSON that is sent; `stream` tells how the answer comes. `target` is whatever the address and the
    headers depend on: the SDK writes them once for each, with `sdk_options`; None has it write them each time.
    `api` is the one of the vendor's APIs that is asked, where it has several; the answer's builder has it too.
    """

    body: Mapping[str, Any]
    stream: bool
    target: Hashable = None
    sdk_options: Mapping[str, Any] | None = None
    timeouts: Timeouts | None = None
    api: Any = None


class HttpProvider(Provider):
    """The adapter to one vendor's API over HTTP."""

    # -- facts, for everybody who would otherwise guess: telemetry, prices, limits, breakers, `explain` ----------------

    vendor: ClassVar[str]
    """The vendor's name, as texts write it."""
    client_class: str | None = None
    """The class of the SDK's client, as `module:name`; None if none takes the caller's arguments."""
    address_argument: ClassVar[str] = "base_url"
    """What the file calls the server's address."""
    request_id_header: ClassVar[str | None] = None
    event_format: ClassVar[Literal["sse", "lines"]] = "sse"
    success_statuses: ClassVar[range] = range(200, 300)
    """The statuses of an answer; others are errors, or redirects."""
    connect_hint: ClassVar[str] = ""
    """What to look at if the server cannot be reached."""
    credentials_lifetime: float | None = None
    """Seconds after which the SDK writes the headers again; 0 for each request, None if they never change."""

    def __init__(
        self,
        model_name: str,
        stream: bool,
        *,
        endpoint: Endpoint,
        client_args: Mapping[str, Any] = MappingProxyType({}),
        generate_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model_name, stream)
        self.endpoint = endpoint
        """The address and the key to it."""
        self.generate_kwargs = dict(generate_kwargs or {})
        self._client_args = client_args
        self.transport: Transport = self.make_transport()
        make_templates = self._guard(lambda: RequestTemplates(self.make_writer(), lifetime=self.credentials_lifetime))
        self._templates = PerLoop(make_templates, self._close_templates)

    # -- what a vendor says --------------------------------------------------------------------------------------------

    @abstractmethod
    def build_request(self, request: ChatRequest, structured: Structured | None, stream: bool) -> VendorRequest:
        """Return what is sent for *request*. Pure. Raises UnsupportedFeature for what the vendor cannot take."""

    def make_writer(self) -> Any:
        """Return what `write_request` writes with: the SDK's client over a recorder. Opens nothing."""
        return None

    async def close_writer(self, writer: Any, /) -> None:
        """Close what *writer*, which `make_writer` returned, has opened, such as a client that fetches credentials."""

    @abstractmethod
    async def write_request(self, writer: Any, request: VendorRequest) -> RequestTemplate:
        """Return the address and the headers that the SDK writes for *request*. Raises what the SDK raises."""

    @abstractmethod
    def parse_response(self, body: bytes, builder: ResponseBuilder) -> None:
        """Read a whole answer. Pure. Raises BadReply, the failure that the body tells of, or one of `SHAPE_ERRORS`,
        where a value is of another kind than it should be."""

    @abstractmethod
    def parse_event(self, event: ServerSentEvent, builder: ResponseBuilder) -> None:
        """Read one event. Pure. Sets `builder.complete` at the end marker. Raises like `parse_response`."""

    @abstractmethod
    def error_from_response(self, status: int, headers: Mapping[str, str], body: bytes) -> CallError:
        """Return what an answer with an error *status* means. Pure."""

    def is_last_event(self, event: ServerSentEvent) -> bool:
        """Whether nothing follows *event* but the end of the body."""
        return event.data.strip() == b"[DONE]"

    def merge_body(self, template: RequestTemplate, body: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002
        """Return the JSON to send: *body*, with what only the SDK can write from the template."""
        return body

    def make_transport(self) -> Transport:
        """Return what sends the requests: the client that was handed in, or one of ours."""
        client = self._client_args.get("http_client")
        if client is None:
            return AiohttpTransport()
        return HttpxTransport(client, keeps_timeouts="timeout" not in self._client_args)

    def make_httpx_transport(self, library: str, arguments: Mapping[str, Any]) -> Transport:
        """Return what sends the requests through clients of *library*, made with the *arguments* of the caller."""
        return OwnHttpxTransport(self._guard(lambda: make_httpx_client(import_module(library), arguments)))

    def _guard(self, make_client: Callable[[], T]) -> Callable[[], T]:
        """Return *make_client*, which raises NotConfigured for whatever keeps it from making a client."""

        def make_or_explain() -> T:
            if problems := self.client_problems():
                raise NotConfigured("; ".join(map(str, problems)))
            try:
                return make_client()
            except (CallError, ConfigError):
                raise
            except Exception as error:
                raise NotConfigured(f"the {self.vendor} client cannot be made: {error}") from error

        return make_or_explain

    def has_credentials(self) -> bool:
        """Whether the client's arguments authorize by other means than a key."""
        return False

    # -- what is missing, what is secret -------------------------------------------------------------------------------

    def unchecked_credentials(self) -> str | None:
        """Return what must be so for there to be credentials, if only a call can tell: "this machine has ..."."""
        return None

    def missing(self) -> str | None:
        """Return what must be installed or set before this model can be called, or None."""
        if self.sdk is not None and not is_installed(self.sdk):
            return f"the {self.vendor} SDK is not installed: {install_command(self.kind)}"
        return None if self.has_credentials() else self.endpoint.missing_key()

    def address(self) -> str | None:
        """Return where the server is."""
        return self.endpoint.address or None

    def is_official(self) -> bool:
        """Whether the vendor's own servers are asked, at whose prices."""
        return self.endpoint.is_official

    def secrets(self) -> Iterator[str]:
        """Yield the key, and the tokens and headers among the client's arguments that authorize."""
        if (key := self.endpoint.key_text) is not None:
            yield key
        for name in ("auth_token", "azure_ad_token"):
            if isinstance(token := self._client_args.get(name), str):
                yield token
        for name in ("default_headers", "headers"):
            if headers := self._client_args.get(name):
                yield from secret_headers(headers)

    def client_problems(self) -> list[ClientProblem]:
        """Return what is wrong with the server's address and the client's arguments. Imports nothing."""
        name, address = self.address_argument, self.endpoint.address
        problems = [*check_arguments(self._client_args)]
        if address and (problem := explain_address(address)) is not None:
            problems.insert(0, ClientProblem((name,), f"`{name}`: {problem[0]}", problem[1]))
        return problems

    async def try_client(self) -> list[ClientProblem]:
        """Return the arguments that the client does not take, or else what is raised when it is made with them."""
        if not self._client_args:
            return []
        if self.client_class is not None:
            with suppress(ImportError):  # without the SDK, nothing can be said
                if misnamed := [*check_names(self._client_args, resolve_name(self.client_class))]:
                    return misnamed
        if self.missing() is not None:
            return []
        try:
            self._templates.get()
            if isinstance(self.transport, OwnHttpxTransport):
                self.transport.open()
        except NotConfigured as error:
            return [ClientProblem(("client_args",), redact(str(error), self._hidden_texts()))]
        finally:
            await self.aclose()
        return []

    # -- the exchange --------------------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """Load the SDK and aiohttp before the first request is counted as sent."""
        for module in filter(None, (self.sdk, "aiohttp")):
            await import_sdk(module)
        self.is_prepared = True

    async def _post(self, payload: _Payload) -> HttpResponse:
        """Send the request; return its answer if it is no refusal."""
        request = payload.request
        templates = self._templates.get()
        if (template := templates.find(request.target)) is None:
            if self.sdk is not None:  # another one may be under way: SDKs look at what others have imported
                await import_sdk(self.sdk)
            template = await templates.record(request.target, lambda writer: self.write_request(writer, request))
        try:
            value = self.merge_body(template, request.body)
            body = await dump_json_chunks(value) if has_long_text(value) else [dump_json(value)]
        except (TypeError, ValueError) as error:
            raise InvalidRequest(f"the request cannot be written as JSON: {error}") from error
        timeouts, context = request.timeouts or self.timeouts, payload.context
        try:
            response = await self.transport.send(template.fill(body, timeouts, context.trace_headers, context.on_sent))
        except (ConnectFailed, ConnectTimeout) as error:
            if self.connect_hint:
                error.args = (f"{error}: {self.connect_hint}",)
            raise
        if response.status not in self.success_statuses:
            record_rate_limits(context, response.headers)
            raise await self._refusal(response, templates)
        return response

    async def _refusal(self, response: HttpResponse, templates: RequestTemplates) -> CallError:
        status = response.status
        try:
            body = await response.read()
        except CallError:
            body = b""  # the status is known, which says more than that the rest was cut off
        finally:
            await response.aclose()
        if 300 <= status < 400:
            server, location = self.address() or self.vendor, response.headers.get("location", "another address")
            message = f"{server_name(server)} redirects to {hide_password(location)}: use that address as `base_url`"
            return NotConfigured(message, status=status)
        if status in (401, 403):
            templates.clear()
        return self.error_from_response(status, response.headers, body)

    @cached_property
    def timeouts(self) -> Timeouts:
        """Those of the client's arguments, or the usual ones.

        A timer of its own for silence is spared where an attempt is over before it could fire.
        """
        is_bounded = self.attempt_timeout is not None and self.attempt_timeout <= READ_TIMEOUT
        default = Timeouts(self.connect_timeout, None if is_bounded else READ_TIMEOUT, READ_TIMEOUT)
        return read_timeouts(self.client_timeout(), default)

    def client_timeout(self) -> Any:
        """Return the time-out of the client's arguments: seconds, an object like httpx's Timeout, or None."""
        return self._client_args.get("timeout")

    # What an attempt asks for; see `Provider`.

    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> _Payload:
        """Return what is sent."""
        return _Payload(self.build_request(request, structured, stream), request.context)

    def find_body(self, payload: _Payload) -> Mapping[str, Any]:
        """Return the JSON that is sent."""
        return payload.request.body

    async def call(self, payload: _Payload) -> Any:
        """Return the headers and the body, or the events where the vendor only streams."""
        if payload.request.stream:
            async with aclosing(self.events(payload)) as events:
                return [event async for event in events]
        response = await self._post(payload)
        try:
            return [_Headers(response.headers, payload.request.api), WholeBody(await response.read())]
        finally:
            await response.aclose()

    def decode(self, body: Any, answer: ResponseBuilder) -> None:
        """Read what `call` returned."""
        for event in body:
            self.decode_event(event, answer)
        if not answer.complete:
            raise BadReply(f"the answer came without {self.end_mark}")

    async def events(self, payload: _Payload) -> AsyncGenerator[Any, None]:
        """Yield the headers, then each event; a body that is no stream is one event."""
        response = await self._post(payload)
        chunks = response.aiter_bytes()
        is_sse = self.event_format == "sse"
        try:
            yield _Headers(response.headers, payload.request.api)
            start = await response.peek()
            if is_sse and start[:1] in (b"{", b"[", b"<"):  # JSON or HTML
                yield WholeBody(await response.read())
                return
            unparsed_lines: list[bytes] = []
            reader = read_events(chunks, unparsed_lines=unparsed_lines) if is_sse else read_lines(chunks)
            async with aclosing(reader) as events:
                async for event in events:
                    yield event
                    if self.is_last_event(event):
                        break
                await response.drain(DRAIN_TIMEOUT)
            if unparsed_lines and unparsed_lines[0].lstrip()[:1] == b"{":  # an error, written as it is
                yield WholeBody(b"\n".join(unparsed_lines))
        finally:
            await chunks.aclose()
            await response.aclose()

    def decode_event(self, event: Any, answer: ResponseBuilder) -> None:
        """Read one of `events`."""
        try:
            if type(event) is ServerSentEvent:
                self.parse_event(event, answer)
            elif type(event) is _Headers:
                answer.headers, answer.api = event.headers, event.api
                if self.request_id_header is not None:
                    answer.request_id = event.headers.get(self.request_id_header) or None
            elif not answer.complete:
                self.parse_response(event.body, answer)
        except SHAPE_ERRORS as error:
            if isinstance(error, CallError):  # RequestRefused is a ValueError too
                raise
            part = "an event of the stream" if type(event) is ServerSentEvent else "the answer"
            raise BadReply(f"{part} has another shape than the API's") from error

    async def aclose(self) -> None:
        """Close the connections; a client that was handed in stays open. Whoever made the provider calls this."""
        await self._templates.aclose()
        await self.transport.aclose()

    async def _close_templates(self, templates: RequestTemplates) -> None:
        templates.clear()
        await self.close_writer(templates.writer)


class _Payload(NamedTuple):
    """The request, and what it shares with others of the same call."""

    request: VendorRequest
    context: CallContext


class _Headers(NamedTuple):
    """The headers of an answer, and the API that gives it."""

    headers: Mapping[str, str]
    api: Any


class WholeBody(NamedTuple):
    """A body that is no stream."""

    body: bytes
