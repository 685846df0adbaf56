"""A hub of scripted models in virtual time, and what OpenTelemetry's SDK gets to see of its calls."""

import random
from contextlib import contextmanager

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from modelhub import Hub
from modelhub.core.context import Services
from modelhub.telemetry.observer import Telemetry
from modelhub.testing import VirtualClock


class Told:
    """The SDK with everything in memory."""

    def __init__(self, sampler=None):
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.app = self.tracers.get_tracer("app")
        self.clock = VirtualClock()

    def telemetry(self, **options):
        """Follows calls and tells this SDK of them."""
        return Telemetry(tracer_provider=self.tracers, meter_provider=self.meters, **options)

    def hub(self, *, content=False, find=lambda _: None, options=None, **models):
        """A hub whose models play these steps, and whose chain `main` asks them in this order."""
        telemetry = self.telemetry(content=content, find=find)
        entries = {
            name: {"provider": "scripted", "model_name": f"{name}-1", "retry": {"max_attempts": 1}, "steps": steps}
            for name, steps in models.items()
        }
        config = {"version": 1, "models": entries, "chains": {"main": {"models": list(entries)}}, **(options or {})}
        return Hub.from_dict(config, services=Services(self.clock, random.Random(0), instrumentations=(telemetry,)))

    @property
    def spans(self):
        """All finished spans, in the order they began."""
        return sorted(self.exporter.get_finished_spans(), key=lambda span: (span.start_time, span.parent is not None))

    def tree(self):
        """The names of the spans, each with those of its children."""
        spans = self.spans
        known = {span.context.span_id for span in spans}

        def below(parent):
            inside = [span for span in spans if (span.parent.span_id if span.parent else None) == parent]
            return {span.name: below(span.context.span_id) for span in inside}

        roots = [span for span in spans if span.parent is None or span.parent.span_id not in known]
        return {span.name: below(span.context.span_id) for span in roots}

    def call(self):
        """The one call's span."""
        (found,) = (span for span in self.spans if "modelhub.call_id" in span.attributes)
        return found

    def attempts(self):
        """The spans of attempts, in order."""
        return [span for span in self.spans if "modelhub.attempt.number" in span.attributes]

    def points(self, name):
        """The points of the metric *name*: their attributes, how often, and the sum."""
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        metrics = [metric for scope in scopes for metric in scope.metrics if metric.name == name]
        return [(dict(point.attributes), point.count, point.sum) for m in metrics for point in m.data.data_points]

    def everything(self):
        """All that was told, as one text."""
        data = self.reader.get_metrics_data()
        return "".join(span.to_json() for span in self.spans) + (data.to_json() if data else "")

    @contextmanager
    def inside(self, name):
        """Code of the app's own, in a span."""
        with self.app.start_as_current_span(name) as span:
            yield span


@pytest.fixture(name="told")
def _told():
    return Told()


@pytest.fixture(name="telling")
def _telling():
    """Makes a `Told`."""
    return Told
