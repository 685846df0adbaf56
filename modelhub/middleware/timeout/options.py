"""How long one attempt may take."""

from __future__ import annotations

from typing import Annotated

from modelhub.options import Duration, LayerOptions

__all__ = ["TimeoutOptions"]


class TimeoutOptions(LayerOptions):
    """How long one attempt may be silent, and how long it may take."""

    connect: Annotated[float, Duration(0.001, 600)] = 5.0
    """Until the connection stands."""
    first_token: Annotated[float, Duration(0.001, 600)] = 30.0
    """Until a stream's first content arrives, counted from sending the request; pings do not count."""
    idle: Annotated[float, Duration(0.001, 600)] = 30.0
    """Between one content of a stream and the next."""
    total: Annotated[float, Duration(0.001, 86_400)] = 120.0
    """Until the attempt's answer is complete, whether or not anybody reads it."""
