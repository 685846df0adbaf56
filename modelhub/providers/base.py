"""What all providers share: one attempt, from a frozen request to a committed reply.

A provider is pure encoding and decoding around one line of SDK. It says how to write a request (`encode`), how to send
it (`call`, `events`), how to read what comes back (`decode`, `decode_event`) and what its failures mean (`failure`).
Everything else, structure, commit, end marks, records, is done here, once.
"""

from __future__ import annotations

import asyncio
import re
from abc import abstractmethod
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from functools import cached_property
from typing import Any, ClassVar, Self

from modelhub.core.context import CallContext
from modelhub.core.errors import (
    BadReply,
    CallError,
    HubClosed,
    NotConfigured,
    StreamBroken,
    UnknownFailure,
    UnsupportedFeature,
)
from modelhub.core.events import ParameterChanged
from modelhub.core.model import ChatModelBase
from modelhub.core.record import Lazy
from modelhub.core.request import ChatRequest
from modelhub.core.response import Attempt, ChatResponse
from modelhub.core.stream import ChatStream, Outcome, Reply, add_done_callback
from modelhub.core.tracebacks import describe_origin, drop_frames, linked_errors
from modelhub.messages.blocks import find_media
from modelhub.providers.addresses import find_secrets
from modelhub.providers.http.failures import find_network_failure
from modelhub.providers.http.proxies import read_proxy_addresses
from modelhub.providers.http.rate_limit_headers import record_rate_limits
from modelhub.providers.parameter_resolver import (
    ParameterResolver,
    RequestTrial,
    ResolvedParameters,
    add_parameters,
    with_resolved,
)
from modelhub.providers.parameters import Vocabulary
from modelhub.providers.redaction import PreparedSecrets, is_clean, redact, shorten, texts_of_request
from modelhub.providers.response_builder import ResponseBuilder
from modelhub.providers.sdk_client import ClientProblem
from modelhub.providers.sdk_import import import_sdk, is_ready
from modelhub.providers.structured_output import Method, Structured
from modelhub.providers.tool_names import with_vendor_names

__all__ = ["Payload", "Provider"]

Payload = Any
"""What `encode` makes and `call` and `events` send: whatever suits the provider."""
_BAD_KEY = "the key holds a character that no key has (a line break, an accent, a typographic dash): set it again"


class Provider(ChatModelBase):
    """The adapter to one vendor's API; see the module's text for what a subclass says."""

    kind: str
    """The provider's name in the file."""
    sdk: ClassVar[str | None] = None
    """The module of the vendor's SDK, whose package is in the extra of the provider's name; None if none is needed."""
    tool_name_pattern: ClassVar[re.Pattern[str] | None] = None
    """What the vendor takes as the name of a tool, None if anything; others are replaced in requests and put back."""
    takes_native_tools: ClassVar[bool] = False
    """Whether tools in the vendor's own form, which the vendor runs itself, can be sent."""
    end_mark: ClassVar[str]
    """What ends a stream, as an error about its absence calls it."""

    _prepared_secrets: PreparedSecrets | None = None
    """What was last hidden: keys rarely change."""
    _is_configured = False
    """Whether nothing was missing at an earlier call: what was there once stays there."""

    # -- what a subclass says --------------------------------------------------------------------------------------

    def secrets(self) -> Iterable[str]:
        """Texts that no message may show."""
        return ()

    def client_problems(self) -> list[ClientProblem]:
        """Return what is wrong with the settings of the client, as far as no SDK is needed to tell."""
        return []

    async def try_client(self) -> list[ClientProblem]:
        """Return what keeps the SDK's client from being made, by making one. Asks no server."""
        return []

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The parameters of its API; None for a provider that reads those of a call as they are."""
        return None

    def find_vocabulary(self, request: ChatRequest) -> Vocabulary | None:  # noqa: ARG002 - some have several APIs
        """Return the parameters of the API that *request* goes to, whose own parameters are resolved."""
        return self.vocabulary

    def constructor_parameters(self) -> Mapping[str, Any]:
        """Return the parameters that were given when the model was made; what else is said goes before them."""
        return {}

    def default_parameters(self) -> Mapping[str, Any]:
        """Return the parameters that go with every request."""
        return self._default_parameters

    @cached_property
    def _default_parameters(self) -> Mapping[str, Any]:
        return {**self.constructor_parameters(), **self.ask, **self.generate_kwargs}

    def structured_method(self, request: ChatRequest) -> Method:  # noqa: ARG002 - some decide by the request
        """How this vendor is asked for structured output."""
        return "native"

    @abstractmethod
    def encode(self, request: ChatRequest, structured: Structured | None, stream: bool) -> Payload:
        """The vendor's parameters for *request*. Pure. Raises UnsupportedFeature for what the vendor cannot take."""

    def find_body(self, payload: Payload) -> Mapping[str, Any]:
        """Return what the vendor gets of *payload*, where that is an object."""
        return payload if isinstance(payload, Mapping) else {}

    @abstractmethod
    async def call(self, payload: Payload) -> Any:
        """Send *payload* and give back the whole answer, as the wire had it."""

    @abstractmethod
    def events(self, payload: Payload) -> AsyncGenerator[Any, None]:
        """Send *payload* and give each event of the answer, as the wire has it; closing it ends the connection."""

    @abstractmethod
    def decode(self, body: Any, answer: ResponseBuilder) -> None:
        """Read a whole answer. Pure. Raises BadReply, or the failure that the body speaks of."""

    @abstractmethod
    def decode_event(self, event: Any, answer: ResponseBuilder) -> None:
        """Read one event. Pure. Sets `answer.complete` at the end mark."""

    def failure(self, error: Exception) -> CallError | None:  # noqa: ARG002 - the common part needs no more
        """What an SDK's exception means, or None where only the network knows."""
        return None

    # -- one attempt -----------------------------------------------------------------------------------------------

    async def send(self, request: ChatRequest) -> Reply:
        """One attempt, not more: nothing here or below asks twice."""
        context = request.context
        stream = self.stream if request.stream is None else request.stream
        attempt = context.begin(self.name, self.kind, self.model_name)
        answer: ResponseBuilder | None = None
        failure: CallError | None = None
        sent: ResolvedParameters | None = None
        try:
            self.check_configuration()
            if not self.is_prepared:
                await self.prepare()
            request, sent = self._resolve(request, attempt)
            payload, answer = self._encode_call(request, stream)
            if not stream:
                self.decode(await self.call(payload), answer)
                response = self._finished(answer, attempt, context)
                context.end(attempt, "ok")
                return response
            reply = await ChatStream.open(self._snapshots(answer, payload, attempt, request))
        except HubClosed:
            context.end(attempt, HubClosed.__name__)
            raise
        except Exception as error:
            if answer is not None:
                attempt["usage"] = attempt["usage"] or answer.usage
            failure = self._classified(error, request)
            if sent is not None and sent.names and (resolver := self._resolver) is not None:
                failure.retry_without = resolver.learn(failure, sent, has_tools=bool(request.tools))
        except asyncio.CancelledError as error:
            drop_frames(error)
            raise
        finally:
            if answer is not None:
                record_rate_limits(context, answer.headers)
        if failure is not None:  # raised here, because inside of `except` the original would hang on to it
            context.end(attempt, failure.kind, failure)
            raise failure
        add_done_callback(reply, lambda outcome: _end_attempt(context, attempt, outcome, answer))
        return reply

    def _encode_call(self, request: ChatRequest, stream: bool) -> tuple[Payload, ResponseBuilder]:
        """Return what is sent for *request*, and what reads the answer. Raises CallError for what cannot be sent."""
        model = request.structured_model
        structured = None if model is None else Structured(model, self.structured_method(request))
        for tool in request.tools:
            if tool.native is not None and not self.takes_native_tools:
                raise UnsupportedFeature(f"{self.kind} cannot run the tool `{tool.name}`, which is another vendor's")
        if self.takes.get("images") is False and any(media.kind == "image" for media in find_media(request.messages)):
            raise UnsupportedFeature(f"{self.model_name} sees no images: `takes` says so")
        vendor_request, tool_names = with_vendor_names(request, self.tool_name_pattern)
        payload = self.encode(vendor_request, structured, stream)
        # Structured output is read from the text too, if the model does not call the tool for it.
        tool_choice = vendor_request.tool_choice if structured is None else None
        context = request.context
        wall = context.services.clock.wall()
        facts = {
            "created_at": Lazy(lambda: wall.isoformat(timespec="milliseconds")),
            "model": self.name,
            "model_name": self.model_name,
            "requested": context.requested,
            "attempts": context.attempts,
        }
        return payload, ResponseBuilder(facts, structured, tool_names, tool_choice)

    @cached_property
    def _resolver(self) -> ParameterResolver | None:
        """What resolves the parameters of calls; None for a provider that reads them as they are."""
        if (vocabulary := self.vocabulary) is None:
            return None
        layers = self.constructor_parameters(), self.ask, self.generate_kwargs
        return ParameterResolver(self.model_name, vocabulary, layers, self.takes, self.unsupported_parameters)

    def _resolve(self, request: ChatRequest, attempt: Attempt) -> tuple[ChatRequest, ResolvedParameters | None]:
        """Return *request* with the parameters that are sent in its options, and these; *attempt* gets the changes."""
        if (resolver := self._resolver) is None:
            return (add_parameters(request, self.ask, self.generate_kwargs) if self.ask else request), None
        sent = resolver.resolve(request)
        if sent.dropped or sent.rounded:
            attempt["dropped"], attempt["rounded"] = dict(sent.dropped), dict(sent.rounded)
            for parameter, reason, is_dropped in resolver.new_changes(sent):
                context = request.context
                context.observe(ParameterChanged(context.call_id, self.name, parameter, reason, is_dropped))
        return with_resolved(request, sent), sent

    def write_trial(self, request: ChatRequest, stream: bool) -> RequestTrial:
        """Write *request* as it would be sent, and return what became of its parameters.

        Raises UnsupportedFeature, or another CallError, for what would be refused. Nothing is sent.
        """
        sent = None if self._resolver is None else self._resolver.resolve(request)
        if sent is not None:
            request = with_resolved(request, sent)
        payload, _ = self._encode_call(request, stream)
        return RequestTrial(sent, self.find_vocabulary(request), self.find_body(payload))

    def list_unsupported_parameters(self) -> dict[str, str]:
        """Return the parameters of `ask` that are left out for this model, each with the reason."""
        return {} if self._resolver is None else dict(self._resolver.unsupported())

    async def prepare(self) -> None:
        """Do what takes long before the first request; a limit has it done before it counts the request as sent."""
        if self.sdk is None:
            self.is_prepared = True
        elif not is_ready(self.sdk):  # asked for each attempt: the import of another SDK may be under way
            await import_sdk(self.sdk)

    async def _snapshots(
        self, answer: ResponseBuilder, payload: Payload, attempt: Attempt, request: ChatRequest
    ) -> AsyncGenerator[ChatResponse, None]:
        context, last = request.context, None
        failure: CallError | None = None
        try:
            try:
                async with aclosing(self.events(payload)) as events:
                    async for event in events:
                        self.decode_event(event, answer)
                        if answer.has_new_content:
                            if last is None:
                                attempt["first_token"] = context.elapsed() - attempt["started"]
                            last = answer.snapshot()
                            yield last
            except Exception:
                # The answer was all there before the connection broke: that is no failure.
                if not answer.complete:
                    raise
            if not answer.complete:
                raise BadReply(f"the stream ended without {self.end_mark}")
            # The connection is given back by now: a reader may stop at the last snapshot.
            final = self._finished(answer, attempt, context)
        except (asyncio.CancelledError, GeneratorExit, HubClosed):
            _record_unused(attempt, answer)
            raise
        except Exception as error:
            _record_unused(attempt, answer)
            failure = self._classified(error, request)
        if failure is not None:
            raise failure if last is None else self._broken(failure, last)
        yield final

    def _finished(self, answer: ResponseBuilder, attempt: Attempt, context: CallContext) -> ChatResponse:
        if answer.usage is not None:
            answer.usage["time"] = context.elapsed() - attempt["started"]
            attempt["usage"] = answer.usage.copy()  # counted even if what follows rejects the answer
        attempt["request_id"] = attempt["request_id"] or answer.request_id or answer.id
        attempt["complete"], attempt["response_model"] = True, answer.response_model
        return answer.final()

    def _broken(self, failure: CallError, last: ChatResponse) -> StreamBroken:
        broken = StreamBroken(
            f"the stream broke: {failure}",
            model=self.name,
            provider=self.kind,
            status=failure.status,
            code=failure.code,
            request_id=failure.request_id,
            retry_after=failure.retry_after,
        )
        broken.partial = last
        broken.__cause__ = failure
        return broken

    def _classified(self, error: Exception, request: ChatRequest) -> CallError:
        """*error* as one of our classes, with this model's name on it and no secret in it."""
        failure = error if isinstance(error, CallError) else self.failure(error)
        if failure is None and (failure := find_network_failure(error, self.address() or "")) is None:
            failure = UnknownFailure(f"{type(error).__name__}: {error}")
            if origin := describe_origin(error):
                failure.add_note(origin)
        if failure is not error:
            record_rate_limits(request.context, getattr(getattr(error, "response", None), "headers", None))
            failure.__cause__ = error
        self._hide(failure, request)
        failure.model = failure.model or self.name
        failure.provider = failure.provider or self.kind
        return failure

    def _hide(self, failure: CallError, request: ChatRequest) -> None:
        """Take secrets and the conversation out of *failure*, its causes and the frames it was raised in."""
        hidden, contents = self._hidden_texts(), list(texts_of_request(request))
        # A traceback prints the causes too. What a server echoes is in the SDK's error as it came.
        failure.__context__ = None
        errors = linked_errors(failure)
        # An SDK's errors may show more than they were made of.
        causes = [" ".join((str(cause), *map(str, cause.args))) for cause in errors if cause is not failure]
        text = str(failure)
        names = (failure.code or "", failure.request_id or "")
        if is_clean("\n".join((text, *names, *causes)), hidden, contents):  # as nearly always: seen in one go
            text = shorten(text)
        else:
            text, code, request_id = (redact(part, hidden, contents) for part in (text, *names))
            failure.code, failure.request_id = code or None, request_id or None
            if not all(is_clean(cause, hidden, contents) for cause in causes):
                failure.__cause__ = None
        failure.args = (text, *failure.args[1:])
        for error in errors:
            error.__traceback__ = None

    def _hidden_texts(self) -> PreparedSecrets:
        """What no message may show: keys, and passwords in the addresses of servers and proxies."""
        addresses = [self.address() or "", *read_proxy_addresses()]
        texts = (*self.secrets(), *(password for address in addresses for password in find_secrets(address)))
        if self._prepared_secrets is None or self._prepared_secrets.texts != texts:
            self._prepared_secrets = PreparedSecrets(texts)
        return self._prepared_secrets

    def check_configuration(self) -> None:
        """Raise NotConfigured for what must be set or installed before anything can be sent."""
        if self._is_configured:
            return
        if (problem := self.missing()) is not None:
            raise NotConfigured(problem)
        # A header carries printable ASCII only; a key pasted with a line break or a dash from a document fails late.
        if not all(secret.isascii() and secret.isprintable() for secret in self.secrets()):
            raise NotConfigured(_BAD_KEY)
        self._is_configured = True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model_name!r})"


def _record_unused(attempt: Attempt, answer: ResponseBuilder) -> None:
    """Record what is known of an answer that was broken off or rejected."""
    attempt["complete"], attempt["response_model"] = answer.complete, answer.response_model
    attempt["usage"] = attempt["usage"] or answer.usage


def _end_attempt(context: CallContext, attempt: Attempt, outcome: Outcome, answer: ResponseBuilder | None) -> None:
    """End the record of an attempt whose stream is finished, as *outcome* says."""
    if attempt["usage"] is None and outcome.how != "complete" and answer is not None:
        attempt["usage"] = answer.usage  # some vendors give the input's figures first
    if isinstance(outcome.error, asyncio.CancelledError):
        return  # whoever cancelled it, a clock of ours or the caller, knows what to call it
    error = outcome.error if isinstance(outcome.error, CallError) else None
    context.end(attempt, "ok" if outcome.how == "complete" else error.kind if error else outcome.how, error)
