"""The options of telemetry: the section `telemetry:`."""

from __future__ import annotations

from typing import Literal

from modelhub.options import Options

__all__ = ["TelemetryOptions"]


class TelemetryOptions(Options):
    """Traces and metrics for OpenTelemetry."""

    enabled: bool | Literal["auto"] = "auto"
    """Whether to record spans and metrics. `auto` records them once the application has set up OpenTelemetry. `true`
    also requires that OpenTelemetry's API is installed. `false` turns them off."""
    propagate: bool = True
    """Whether requests carry the W3C headers `traceparent` and `tracestate`, with which servers such as vLLM continue
    the trace."""
    content: bool = False
    """Whether spans hold prompts, answers, tool definitions and error messages, which may contain personal data."""
