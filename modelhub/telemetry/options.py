"""What the file says of telemetry: the section `telemetry:`."""

from __future__ import annotations

from typing import Literal

from modelhub.options import Options

__all__ = ["TelemetryOptions"]


class TelemetryOptions(Options):
    """What OpenTelemetry gets to see of calls."""

    enabled: bool | Literal["auto"] = "auto"
    """Whether calls become spans and metrics: `auto` as soon as the application has set OpenTelemetry up, `true` the
    same, and its API must be installed, `false` never."""
    propagate: bool = True
    """Whether requests to vendors carry the call's span as W3C headers, `traceparent` and `tracestate`; servers of your
    own, such as vLLM, continue the trace with them."""
    content: bool = False
    """Whether spans hold prompts, answers, tools and what failures say, which may be anybody's secrets."""
