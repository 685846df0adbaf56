"""The OpenTelemetry tracer and instruments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelhub.telemetry import names

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["Instruments"]


class Instruments:
    """The tracer and the instruments of metrics."""

    def __init__(self, tracers: TracerProvider, meters: MeterProvider) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        from modelhub.version import __version__

        self.context = context
        self.trace = trace
        self.propagator = TraceContextTextMapPropagator()  # the application's own might send its users' baggage too
        self.tracer = tracers.get_tracer(names.SCOPE, __version__, names.SCHEMA_URL)
        meter = meters.get_meter(names.SCOPE, __version__, names.SCHEMA_URL)
        histogram = meter.create_histogram
        seconds, call_seconds = list(names.SECOND_BUCKETS), list(names.CALL_BUCKETS)
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
            explicit_bucket_boundaries_advisory=call_seconds,
        )
        self.shared_down = meter.create_up_down_counter(
            names.SHARED_DOWN, "{store}", "Whether the store of shared limits and budgets cannot be reached."
        )
