"""Calls as spans and metrics, by OpenTelemetry's API: nothing happens until the application has set the SDK up.

A call is a span, a child of the one that was current when the call was made; each of its attempts is a child of that,
and the conventions' inference span: `gen_ai.*` stands on attempts only, so that nothing is counted twice. The call's
span is current until a reply is in hand: what the vendors' SDKs and HTTP clients trace, and what is logged meanwhile,
belongs to it. Attempts are told when the call is settled, with the times they had.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import sys
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from modelhub.core.errors import ConfigError
from modelhub.core.events import CallEnded
from modelhub.core.process import register_at_fork
from modelhub.core.response import Attempt, ChatResponse, ChatUsage
from modelhub.core.stream import ChatStream, Outcome, Reply
from modelhub.telemetry import content as _content
from modelhub.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from modelhub.core.model import ChatModelBase, ChatRequest

__all__ = ["Telemetry"]

_log = logging.getLogger("modelhub")
_ANSWERED = frozenset({"ok", "closed", "cancelled", "abandoned"})
"""Outcomes of attempts that are no failures."""
_IDLE = ("opentelemetry.trace", "opentelemetry.metrics")
"""Whose providers do nothing: those of the API, which stand in until the application brings its own."""
_PORTS = {"http": 80, "https": 443}

Attributes = dict[str, Any]


class _Facts(NamedTuple):
    """What is known of a model, whatever it is asked: the vendor's name, where it is, its usual parameters."""

    provider_name: str | None
    place: Attributes
    defaults: Attributes


class Telemetry:
    """Follows calls and tells OpenTelemetry of them; one of the `instrumentations` of `Services`.

    The application's own providers are used if no others are given; before it has any, a call costs next to nothing.
    With *propagate*, requests to vendors carry the W3C headers of the call's span. With *content*, spans hold prompts
    and answers. *find* gives the provider of an entry, for its address and parameters. With *required*, raises
    ConfigError if OpenTelemetry's API is not installed.
    """

    def __init__(
        self,
        *,
        content: bool = False,
        required: bool = False,
        propagate: bool = True,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        find: Callable[[str], Any] = lambda _: None,
    ) -> None:
        self.content = content
        self.propagate = propagate
        self._tracers = tracer_provider
        self._meters = meter_provider
        self._find = find
        self._tools: _Tools | None = None
        self._facts: dict[str, _Facts] = {}
        self._tray: deque[Callable[[], None]] = deque()
        register_at_fork(self)
        if required:
            _require()

    def reset_after_fork(self) -> None:
        """Leave to the parent what it has not reported yet."""
        self._tray = deque()

    def __call__(self, request: ChatRequest) -> _Call | None:
        """Follow the call of *request*; None while nobody wants to know."""
        if self._tray:
            self.flush()
        try:
            tools = self._tools or self._set_up()
            return None if tools is None else _Call(self, tools, request)
        except Exception:
            _log.exception("a call could not be followed")
            return None

    def _set_up(self) -> _Tools | None:
        # Who has set OpenTelemetry up has imported it: nobody else pays for the import.
        if "opentelemetry" not in sys.modules:
            return None
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            return None
        tracers = self._tracers or trace.get_tracer_provider()
        meters = self._meters or metrics.get_meter_provider()
        if _idle(tracers) and _idle(meters):
            return None
        self._tools = _Tools(tracers, meters)  # the API's own stand-ins find the real ones by themselves later
        return self._tools

    def facts(self, model: str) -> _Facts:
        """Return what is known of the entry *model*, whatever it is asked."""
        found = self._facts.get(model)
        if found is None:
            provider = self._find(model)
            if provider is None:
                return _Facts(None, {}, {})
            found = self._facts[model] = _Facts(provider.telemetry_name, _place(provider), _defaults(provider))
        return found

    def postpone(self, work: Callable[[], None]) -> None:
        """Do *work* as soon as nothing else is being done: the garbage collector may have called, anywhere."""
        self._tray.append(work)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the next call does it, or whoever closes the hub
        loop.call_soon(self.flush)

    def flush(self) -> None:
        """Tell what was postponed."""
        while self._tray:
            self._tray.popleft()()


def _require() -> None:
    try:
        for part in ("context", "metrics", "trace"):
            importlib.import_module(f"opentelemetry.{part}")  # the first call need not wait for it
    except ImportError as error:
        raise ConfigError("`telemetry.enabled: true` needs OpenTelemetry: pip install 'modelhub[otel]'") from error


def _idle(provider: object) -> bool:
    return type(provider).__module__.startswith(_IDLE)


class _Tools:
    """The tracer and the instruments, made once."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from modelhub import __version__

        self.context = context
        self.trace = trace
        self.propagator = TraceContextTextMapPropagator()  # the application's own might send its users' baggage too
        self.tracer = tracers.get_tracer(names.SCOPE, __version__, names.SCHEMA_URL)
        meter = meters.get_meter(names.SCOPE, __version__, names.SCHEMA_URL)
        histogram = meter.create_histogram
        seconds, calls = list(names.SECOND_BUCKETS), list(names.CALL_BUCKETS)
        self.tokens = histogram(
            names.TOKEN_USAGE,
            "{token}",
            "Tokens used, by attempt.",
            explicit_bucket_boundaries_advisory=list(names.TOKEN_BUCKETS),
        )
        self.duration = histogram(
            names.OPERATION_DURATION, "s", "How long attempts took.", explicit_bucket_boundaries_advisory=seconds
        )
        self.first_chunk = histogram(
            names.FIRST_CHUNK,
            "s",
            "How long streams took to begin, by attempt.",
            explicit_bucket_boundaries_advisory=seconds,
        )
        self.calls = histogram(
            names.CALL_DURATION,
            "s",
            "How long calls took, with all their attempts and waits.",
            explicit_bucket_boundaries_advisory=calls,
        )


class _Call:
    """One call that is followed."""

    __slots__ = ("_began", "_inside", "_request", "_span", "_streamed", "_telemetry", "_token", "_tools")

    def __init__(self, telemetry: Telemetry, tools: _Tools, request: ChatRequest) -> None:
        context = request.context
        self._telemetry = telemetry
        self._tools = tools
        self._request = request
        self._streamed = bool(request.stream)
        self._began = _nanoseconds(context.services.clock.wall(), -context.elapsed())
        around = tools.context.get_current()
        self._span: Span = tools.tracer.start_span(
            f"{names.CHAT} {context.requested}",
            around,
            attributes={names.CALL_ID: context.call_id, names.REQUESTED: context.requested, **_tags(context.tags)},
            start_time=self._began,
        )
        self._inside: Context = tools.trace.set_span_in_context(self._span, around)
        self._token: Any = tools.context.attach(self._inside)
        if telemetry.propagate:
            headers: dict[str, str] = {}
            tools.propagator.inject(headers, self._inside)
            context.trace_headers = headers

    def committed(self, reply: Reply) -> None:
        """A reply is in hand; what happens while a stream is read happens in the reader's own span."""
        self._streamed = isinstance(reply, ChatStream)
        self._leave()

    def settled(self, event: CallEnded, outcome: Outcome) -> None:
        """The call is finished: tell everything."""
        collected = isinstance(outcome.error, GeneratorExit)
        if not collected or self._tools.context.get_current() is self._inside:
            self._leave()
        if collected or event.how == "abandoned":
            self._telemetry.postpone(partial(self._tell_all, event, outcome))
        else:
            self._tell_all(event, outcome)

    def _leave(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            self._tools.context.detach(token)

    def _tell_all(self, event: CallEnded, outcome: Outcome) -> None:
        try:
            self._tell_attempts(event, outcome)
            self._tell_call(event, outcome)
        except Exception:
            _log.exception("a call could not be told to OpenTelemetry")
        finally:
            self._span.end(self._at(event.duration))

    def _at(self, seconds: float) -> int:
        """The instant *seconds* after the call began."""
        return self._began + round(seconds * 1e9)

    def _failed(self, span: Span, kind: str, message: str | None) -> None:
        # What a vendor says of a failure may repeat what it was asked.
        status, shown = self._tools.trace.StatusCode.ERROR, message if self._telemetry.content else None
        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(status, shown)

    # -- the call --------------------------------------------------------------------------------------------------

    def _tell_call(self, event: CallEnded, outcome: Outcome) -> None:
        about = {names.REQUESTED: event.requested, names.MODEL: event.model, names.HOW: event.how}
        failed = {names.ERROR_TYPE: event.error} if event.how == "failed" else {}
        self._tools.calls.record(event.duration, _known(about | failed), self._inside)
        if not self._span.is_recording():
            return
        reply, usage = outcome.reply, event.usage
        self._span.set_attributes(
            _known(
                {
                    **about,
                    names.STREAM: self._streamed,
                    names.ATTEMPTS: sum(not attempt["skipped"] for attempt in event.attempts),
                    names.RESTARTS: reply["restarts"] if reply is not None else 0,
                    names.FIRST_TOKEN: event.first_token,
                    names.FINISH_REASON: reply["finish_reason"] if reply is not None else None,
                    names.INPUT_TOKENS: usage["input_tokens"] if usage is not None else None,
                    names.OUTPUT_TOKENS: usage["output_tokens"] if usage is not None else None,
                    names.ESTIMATED: (usage["estimated"] or None) if usage is not None else None,
                }
            )
        )
        if event.how == "failed":
            self._failed(self._span, event.error or "_OTHER", str(outcome.error))

    # -- its attempts ----------------------------------------------------------------------------------------------

    def _tell_attempts(self, event: CallEnded, outcome: Outcome) -> None:
        made = [attempt for attempt in event.attempts if not attempt["skipped"]]
        for attempt in event.attempts:
            if attempt["skipped"]:
                self._tell_skipped(attempt)
        for number, attempt in enumerate(made, 1):
            # Only the last attempt can have answered, or be about to when the reader stopped.
            answered = attempt is made[-1] and attempt["outcome"] in _ANSWERED
            self._tell_attempt(number, attempt, outcome.reply if answered else None)

    def _tell_skipped(self, attempt: Attempt) -> None:
        about = {names.MODEL: attempt["model"], names.ERROR_TYPE: attempt["outcome"]}
        self._span.add_event(names.SKIPPED, about, self._at(attempt["started"]))

    def _tell_attempt(self, number: int, attempt: Attempt, reply: ChatResponse | None) -> None:
        provider_name, place, defaults = self._telemetry.facts(attempt["model"])
        failed = attempt["outcome"] not in _ANSWERED
        common = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: provider_name or attempt["provider"],
            names.REQUEST_MODEL: attempt["model_name"],
            names.MODEL: attempt["model"],
            **place,
        }
        if response_model := attempt["response_model"] or (reply["model_name"] if reply is not None else None):
            common[names.RESPONSE_MODEL] = response_model
        context = self._inside
        if self._span.is_recording():
            span = self._tools.tracer.start_span(
                f"{names.CHAT} {attempt['model_name']}",
                self._inside,
                self._tools.trace.SpanKind.CLIENT,
                attributes=common | self._asked(defaults) | self._story(number, attempt) | self._answer(reply),
                start_time=self._at(attempt["started"]),
            )
            if failed:
                self._failed(span, attempt["outcome"], attempt["message"])
            span.end(self._at(attempt["started"] + (attempt["duration"] or 0.0)))
            context = self._tools.trace.set_span_in_context(span, self._inside)
        self._measure(attempt, common, failed, context)

    def _measure(self, attempt: Attempt, common: Attributes, failed: bool, context: Context) -> None:
        tools, usage = self._tools, attempt["usage"]
        about = {**common, names.ERROR_TYPE: attempt["outcome"]} if failed else common
        tools.duration.record(attempt["duration"] or 0.0, about, context)
        if self._streamed and attempt["first_token"] is not None:
            tools.first_chunk.record(attempt["first_token"], about, context)
        if usage is not None:
            marked = {**common, names.ESTIMATED: True} if usage["estimated"] else common
            tools.tokens.record(usage["input_tokens"], {**marked, names.TOKEN_TYPE: names.INPUT}, context)
            tools.tokens.record(usage["output_tokens"], {**marked, names.TOKEN_TYPE: names.OUTPUT}, context)

    def _asked(self, defaults: Attributes) -> Attributes:
        request = self._request
        found = defaults | _parameters(request.options)
        if found.get(names.REQUEST_CHOICES) == 1:
            del found[names.REQUEST_CHOICES]
        if self._streamed:
            found[names.REQUEST_STREAM] = True
        if request.structured_model is not None:
            found[names.OUTPUT_TYPE] = names.JSON
        if self._telemetry.content:
            found[names.INPUT_MESSAGES] = _content.conversation(request.messages)
            if request.tools:
                found[names.TOOL_DEFINITIONS] = _content.definitions(request.tools)
        return found

    def _story(self, number: int, attempt: Attempt) -> Attributes:
        streamed = self._streamed
        return _known(
            {
                names.ATTEMPT_NUMBER: number,
                names.ATTEMPT_OUTCOME: attempt["outcome"],
                names.ATTEMPT_WAIT: attempt["wait"] or None,
                names.ATTEMPT_REQUEST_ID: attempt["request_id"],
                names.ATTEMPT_CODE: attempt["code"],
                names.HTTP_STATUS: attempt["status"],
                names.RESPONSE_FIRST_CHUNK: attempt["first_token"] if streamed else None,
                **_used(attempt["usage"]),
            }
        )

    def _answer(self, reply: ChatResponse | None) -> Attributes:
        if reply is None:
            return {}
        reason = reply["finish_reason"]
        found: Attributes = {names.RESPONSE_ID: reply["id"]}
        if reason is not None:
            found[names.RESPONSE_FINISH_REASONS] = [reason]
        if self._telemetry.content:
            found[names.OUTPUT_MESSAGES] = _content.answer(reply)
        return found


def _nanoseconds(hour: datetime, seconds: float) -> int:
    """The instant *seconds* after *hour*, since 1970."""
    return round(hour.timestamp() * 1e6) * 1000 + round(seconds * 1e9)


def _known(attributes: Attributes) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


def _tags(tags: Mapping[str, str]) -> Attributes:
    return {f"{names.TAG}{tag}": value for tag, value in tags.items()}


def _used(usage: ChatUsage | None) -> Attributes:
    if usage is None:
        return {}
    return {
        names.USAGE_INPUT: usage["input_tokens"],
        names.USAGE_OUTPUT: usage["output_tokens"],
        names.USAGE_CACHE_READ: usage["cache_read_tokens"] or None,
        names.USAGE_CACHE_WRITE: usage["cache_write_tokens"] or None,
        names.USAGE_REASONING: usage["reasoning_tokens"] or None,
        names.ESTIMATED: usage["estimated"] or None,
    }


def _place(provider: ChatModelBase) -> Attributes:
    """Where *provider*'s server is; nothing else of its URL, which may hold a password."""
    address = provider.address()
    try:
        parts = urlsplit(address or "")
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return {}
    return _known({names.SERVER_ADDRESS: parts.hostname, names.SERVER_PORT: port if parts.hostname else None})


def _defaults(provider: ChatModelBase) -> Attributes:
    return _parameters(provider.default_parameters())


def _parameters(given: Mapping[str, Any]) -> Attributes:
    """Those of *given* that the conventions know, where they are numbers."""
    return {
        name: given[key]
        for key, name in names.PARAMETERS.items()
        if isinstance(given.get(key), int | float) and not isinstance(given[key], bool)
    }
