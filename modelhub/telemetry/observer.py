"""Record calls as spans and metrics with OpenTelemetry's API, as soon as the application has set up its SDK.

A call is a span, a child of the current one; each of its attempts is a child of that, the inference span of the GenAI
conventions. Only attempts have `gen_ai.*` attributes, so that nothing is counted twice. The call's span is current
until there is a reply, so that spans of vendors' SDKs and HTTP clients, and log entries, belong to it. The spans of
attempts are created when the call ends, with their real times.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from modelhub.core.errors import ConfigError
from modelhub.version import install_command

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from modelhub.core.request import ChatRequest
    from modelhub.telemetry.span import Instruments, TelemetrySpan

__all__ = ["Telemetry"]

_log = logging.getLogger("modelhub")
_API_PACKAGES = ("opentelemetry.trace", "opentelemetry.metrics")
"""The packages of the API's placeholder providers, which are in use until the application sets its own."""


class Telemetry:
    """Records calls with OpenTelemetry; one of the `instrumentations` of `Services`.

    *tracer_provider* and *meter_provider* default to the application's; until it has set one, calls are not recorded.
    With *propagate*, requests to vendors carry the W3C headers of the call's span. With *content*, spans hold prompts
    and answers. *find* returns the provider of an entry, for its address and parameters. With *required*, ConfigError
    is raised if OpenTelemetry's API is not installed.
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
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._find = find
        self.instruments: Instruments | None = None
        if required:
            try:
                for part in ("context", "metrics", "trace"):  # so that the first call is not delayed by the import
                    importlib.import_module(f"opentelemetry.{part}")
            except ImportError as error:
                message = f"`telemetry.enabled: true` needs OpenTelemetry: {install_command('otel')}"
                raise ConfigError(message) from error

    def __call__(self, request: ChatRequest) -> TelemetrySpan | None:
        """Start the span of the call of *request*; None if OpenTelemetry is not set up."""
        try:
            instruments = self.instruments or self._set_up()
            if instruments is None:
                return None
            from modelhub.telemetry.span import TelemetrySpan

            return TelemetrySpan(instruments, request, content=self.content, propagate=self.propagate)
        except Exception:
            _log.exception("the span of a call could not be started")
            return None

    def _set_up(self) -> Instruments | None:
        # An application that has set up OpenTelemetry has imported it: no need to pay for the import here.
        if "opentelemetry" not in sys.modules:
            return None
        try:
            from opentelemetry import metrics, trace
        except ImportError:
            return None
        tracer_provider = self._tracer_provider or trace.get_tracer_provider()
        meter_provider = self._meter_provider or metrics.get_meter_provider()
        if _is_api_placeholder(tracer_provider) and _is_api_placeholder(meter_provider):
            return None
        from modelhub.telemetry.span import Instruments  # only where OpenTelemetry is set up

        # If one of them is a placeholder, it will delegate to the application's provider once that is set.
        self.instruments = Instruments(tracer_provider, meter_provider, self._find)
        return self.instruments

    def record_shared_store(self, is_down: bool) -> None:
        """Record that the store of shared limits and budgets went down, or is back."""
        instruments = self.instruments or self._set_up()
        if instruments is not None:
            instruments.shared_down.add(1 if is_down else -1)

    def forget_models(self) -> None:
        """Look up the attributes of every entry again: the configuration has changed."""
        if self.instruments is not None:
            self.instruments.forget_models()


def _is_api_placeholder(provider: object) -> bool:
    return type(provider).__module__.startswith(_API_PACKAGES)
