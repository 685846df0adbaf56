"""Attempt timeout: four clocks on every attempt."""

from __future__ import annotations

from modelhub.options import LayerOptions, duration

__all__ = ["TimeoutOptions"]


class TimeoutOptions(LayerOptions):
    """How long one attempt may be silent, and how long it may take."""

    connect: duration(0.001, 600) = 5.0  # type: ignore[valid-type]
    """Until the connection stands."""
    first_token: duration(0.001, 600) = 30.0  # type: ignore[valid-type]
    """Until the first content arrives, counted from sending the request; pings do not count."""
    idle: duration(0.001, 600) = 30.0  # type: ignore[valid-type]
    """Between one content and the next."""
    total: duration(0.001, 86_400) = 120.0  # type: ignore[valid-type]
    """Until the attempt's answer is complete."""
