"""The span of a call and its attempts, and their metrics; it is imported once OpenTelemetry is set up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from modelhub.core.events import CallEnded
from modelhub.core.response import Attempt, ChatResponse
from modelhub.core.stream import ChatStream, Outcome, Reply
from modelhub.telemetry import names
from modelhub.telemetry.attributes import (
    Attributes,
    ModelAttributes,
    drop_unknown,
    make_model_attributes,
    make_parameter_attributes,
    make_usage_attributes,
)
from modelhub.telemetry.content import format_messages, format_reply, format_tools
from modelhub.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from modelhub.core.model import ChatModelBase
    from modelhub.core.request import ChatRequest

__all__ = ["Instruments", "TelemetrySpan"]

_log = logging.getLogger("modelhub")
_ANSWERED = frozenset({"ok", "closed", "cancelled", "abandoned"})
"""The outcomes of attempts that did not fail."""


class Instruments:
    """The tracer and the instruments of metrics; *find* returns the provider of an entry."""

    def __init__(
        self, tracers: TracerProvider, meters: MeterProvider, find: Callable[[str], ChatModelBase | None]
    ) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._find = find
        self._model_attributes: dict[str, ModelAttributes] = {}
        self.context = context
        self.trace = trace
        self.propagator = TraceContextTextMapPropagator()  # the application's own might send its users' baggage too
        self.tracer = tracers.get_tracer(names.SCOPE, __version__, names.SCHEMA_URL)
        meter = meters.get_meter(names.SCOPE, __version__, names.SCHEMA_URL)

        def create_histogram(name: str, unit: str, description: str, buckets: Sequence[float]) -> Histogram:
            return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=list(buckets))

        self.tokens = create_histogram(names.TOKEN_USAGE, "{token}", "Tokens used, by attempt.", names.TOKEN_BUCKETS)
        self.duration = create_histogram(names.OPERATION_DURATION, "s", "How long attempts took.", names.SECOND_BUCKETS)
        self.first_chunk = create_histogram(
            names.FIRST_CHUNK, "s", "How long streams took to begin, by attempt.", names.SECOND_BUCKETS
        )
        self.calls = create_histogram(
            names.CALL_DURATION, "s", "How long calls took, with all their attempts and waits.", names.CALL_BUCKETS
        )
        self.shared_down = meter.create_up_down_counter(
            names.SHARED_DOWN, "{store}", "Whether the store of shared limits and budgets cannot be reached."
        )

    def forget_models(self) -> None:
        """Look up the attributes of every entry again: the configuration has changed."""
        self._model_attributes = {}

    def get_model_attributes(self, model: str) -> ModelAttributes:
        """Return the attributes of the entry *model* that do not depend on a request."""
        attributes = self._model_attributes.get(model)
        if attributes is None:
            provider = self._find(model)
            if provider is None:
                return ModelAttributes(None, {}, {})
            attributes = self._model_attributes[model] = make_model_attributes(provider)
        return attributes


class TelemetrySpan:
    """The span of one call, from its start to its end."""

    __slots__ = ("_content", "_context", "_instruments", "_is_stream", "_request", "_span", "_started", "_token")

    def __init__(self, instruments: Instruments, request: ChatRequest, *, content: bool, propagate: bool) -> None:
        context = request.context
        self._content = content
        self._instruments = instruments
        self._request = request
        self._is_stream = bool(request.stream)
        now = context.services.clock.wall().timestamp()
        self._started = round(now * 1e6) * 1000 - round(context.elapsed() * 1e9)  # in nanoseconds since 1970
        parent = instruments.context.get_current()
        self._span: Span = instruments.tracer.start_span(
            f"{names.CHAT} {context.requested}",
            parent,
            attributes={
                names.CALL_ID: context.call_id,
                names.REQUESTED: context.requested,
                **{f"{names.TAG}{tag}": value for tag, value in context.tags.items()},
            },
            start_time=self._started,
        )
        self._context: Context = instruments.trace.set_span_in_context(self._span, parent)
        self._token: Any = instruments.context.attach(self._context)
        if propagate:
            headers: dict[str, str] = {}
            instruments.propagator.inject(headers, self._context)
            context.trace_headers = headers

    def committed(self, reply: Reply) -> None:
        """Note that there is a reply: while a stream is read, the reader's own span is current again."""
        self._is_stream = isinstance(reply, ChatStream)
        self._detach()

    def settled(self, event: CallEnded, outcome: Outcome) -> None:
        """Record the finished call, with its attempts and metrics, and end the span."""
        if not isinstance(outcome.error, GeneratorExit):  # a forgotten call's context has ended with its task
            self._detach()
        try:
            self._record_attempts(event, outcome)
            self._record_call(event, outcome)
        except Exception:
            _log.exception("a call could not be recorded with OpenTelemetry")
        finally:
            self._span.end(self._time_after(event.duration))

    def _detach(self) -> None:
        token, self._token = self._token, None
        # Where a closing hub settles the calls of a dropped loop, their spans are not current: OpenTelemetry would log
        # an error, and its traceback would keep such a call alive.
        if token is not None and self._instruments.context.get_current() is self._context:
            self._instruments.context.detach(token)

    def _time_after(self, seconds: float) -> int:
        """Return the time *seconds* after the start of the call, in nanoseconds since 1970."""
        return self._started + round(seconds * 1e9)

    def _mark_failed(self, span: Span, kind: str, message: str | None) -> None:
        # A vendor's error message may quote the prompt.
        status, description = self._instruments.trace.StatusCode.ERROR, message if self._content else None
        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(status, description)

    # -- the call --------------------------------------------------------------------------------------------------

    def _record_call(self, event: CallEnded, outcome: Outcome) -> None:
        common = {names.REQUESTED: event.requested, names.MODEL: event.model, names.HOW: event.how}
        error = {names.ERROR_TYPE: event.error} if event.how == "failed" else {}
        self._instruments.calls.record(event.duration, drop_unknown(common | error), self._context)
        if not self._span.is_recording():
            return
        reply, usage = outcome.reply, event.usage
        self._span.set_attributes(
            drop_unknown(
                {
                    **common,
                    names.STREAM: self._is_stream,
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
            self._mark_failed(self._span, event.error or "_OTHER", str(outcome.error))

    # -- its attempts ----------------------------------------------------------------------------------------------

    def _record_attempts(self, event: CallEnded, outcome: Outcome) -> None:
        made = [attempt for attempt in event.attempts if not attempt["skipped"]]
        for attempt in event.attempts:
            if attempt["skipped"]:
                attributes = {names.MODEL: attempt["model"], names.ARM: attempt["arm"]}
                attributes |= {names.ERROR_TYPE: attempt["outcome"]}
                self._span.add_event(names.SKIPPED, drop_unknown(attributes), self._time_after(attempt["started"]))
        for number, attempt in enumerate(made, 1):
            # Only the last attempt can have an answer, complete or not.
            has_answered = attempt is made[-1] and attempt["outcome"] in _ANSWERED
            self._record_attempt(number, attempt, outcome.reply if has_answered else None)

    def _record_attempt(self, number: int, attempt: Attempt, reply: ChatResponse | None) -> None:
        provider_name, server, parameters = self._instruments.get_model_attributes(attempt["model"])
        has_failed = attempt["outcome"] not in _ANSWERED
        common = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: provider_name or attempt["provider"],
            names.REQUEST_MODEL: attempt["model_name"],
            names.MODEL: attempt["model"],
            **server,
        }
        if attempt["arm"] is not None:
            common[names.ARM] = attempt["arm"]
        if response_model := attempt["response_model"] or (reply["model_name"] if reply is not None else None):
            common[names.RESPONSE_MODEL] = response_model
        context = self._context
        if self._span.is_recording():
            span = self._instruments.tracer.start_span(
                f"{names.CHAT} {attempt['model_name']}",
                self._context,
                self._instruments.trace.SpanKind.CLIENT,
                attributes=common
                | self._make_request_attributes(parameters, {*attempt["dropped"], *attempt["rounded"]})
                | self._make_attempt_attributes(number, attempt)
                | self._make_response_attributes(reply),
                start_time=self._time_after(attempt["started"]),
            )
            if has_failed:
                self._mark_failed(span, attempt["outcome"], attempt["message"])
            span.end(self._time_after(attempt["started"] + (attempt["duration"] or 0.0)))
            context = self._instruments.trace.set_span_in_context(span, self._context)
        self._record_metrics(attempt, common, has_failed, context)

    def _record_metrics(self, attempt: Attempt, common: Attributes, has_failed: bool, context: Context) -> None:
        instruments, usage = self._instruments, attempt["usage"]
        attributes = {**common, names.ERROR_TYPE: attempt["outcome"]} if has_failed else common
        instruments.duration.record(attempt["duration"] or 0.0, attributes, context)
        if self._is_stream and attempt["first_token"] is not None:
            instruments.first_chunk.record(attempt["first_token"], attributes, context)
        if usage is not None:
            token_attributes = {**common, names.ESTIMATED: True} if usage["estimated"] else common
            for token_type, count in ((names.INPUT, usage["input_tokens"]), (names.OUTPUT, usage["output_tokens"])):
                instruments.tokens.record(count, {**token_attributes, names.TOKEN_TYPE: token_type}, context)

    def _make_request_attributes(self, parameters: Attributes, changed: set[str]) -> Attributes:
        """Return the attributes of the request, with the default *parameters* but for those that were *changed*."""
        request = self._request
        attributes = parameters | make_parameter_attributes(request.options)
        for name in changed:
            attributes.pop(names.PARAMETERS.get(name, ""), None)
        if attributes.get(names.REQUEST_CHOICES) == 1:
            del attributes[names.REQUEST_CHOICES]
        if self._is_stream:
            attributes[names.REQUEST_STREAM] = True
        if request.structured_model is not None:
            attributes[names.OUTPUT_TYPE] = names.JSON
        if self._content:
            attributes[names.INPUT_MESSAGES] = format_messages(request.messages)
            if request.tools:
                attributes[names.TOOL_DEFINITIONS] = format_tools(request.tools)
        return attributes

    def _make_attempt_attributes(self, number: int, attempt: Attempt) -> Attributes:
        return drop_unknown(
            {
                names.ATTEMPT_NUMBER: number,
                names.ATTEMPT_OUTCOME: attempt["outcome"],
                names.ATTEMPT_WAIT: attempt["wait"] or None,
                names.ATTEMPT_REQUEST_ID: attempt["request_id"],
                names.ATTEMPT_CODE: attempt["code"],
                names.ATTEMPT_DROPPED: list(attempt["dropped"]) or None,
                names.ATTEMPT_ROUNDED: [f"{name}: {change}" for name, change in attempt["rounded"].items()] or None,
                names.HTTP_STATUS: attempt["status"],
                names.RESPONSE_FIRST_CHUNK: attempt["first_token"] if self._is_stream else None,
                **make_usage_attributes(attempt["usage"]),
            }
        )

    def _make_response_attributes(self, reply: ChatResponse | None) -> Attributes:
        if reply is None:
            return {}
        reason = reply["finish_reason"]
        attributes: Attributes = {names.RESPONSE_ID: reply["id"]}
        if reason is not None:
            attributes[names.RESPONSE_FINISH_REASONS] = [reason]
        if self._content:
            attributes[names.OUTPUT_MESSAGES] = format_reply(reply)
        return attributes
