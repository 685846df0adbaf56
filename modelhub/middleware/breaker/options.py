"""When a model is left alone, and for how long."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelhub.options import Duration, LayerOptions

__all__ = ["BreakerOptions"]


class BreakerOptions(LayerOptions):
    """When a model is left alone, and for how long."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    """How many attempts must fail in a row before the model is left alone."""
    share: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Or which share of the attempts within `window`, if there were at least twice `failures`."""
    window: Annotated[float, Duration(0.1, 3600)] = 30.0
    """How long an attempt is remembered for the share."""
    pause: Annotated[float, Duration(0.01, 3600)] = 1.0
    """How long the first pause is; it doubles each time the probe after it fails, and is jittered by a tenth."""
    max_pause: Annotated[float, Duration(0.01, 3600)] = 4.0
    """The longest pause after failures that pass by themselves; after silence it is as long as the silence was."""
    slow_first_token: Annotated[float, Duration(0.1, 600)] | None = None
    """An answer whose first content took longer counts as a failure, although it is given out; not if not given."""
    long_pause: Annotated[float, Duration(0.01, 86_400)] = 60.0
    """The pause after failures that somebody must mend: a wrong key, an empty account, an unknown model."""
