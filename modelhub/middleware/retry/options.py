"""When and how often the same model is called again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelhub.options import Duration, LayerOptions, Options

__all__ = ["RetryBudgetOptions", "RetryOptions"]


class RetryBudgetOptions(Options):
    """How many retries all calls of a hub may make together, bounded as in gRPC and Finagle."""

    share: Annotated[float, Field(ge=0, le=10)] = 0.2
    """How many retries each answered call adds to the budget."""
    reserve: Annotated[int, Field(ge=0, le=100_000)] = 20
    """How many retries are allowed before any call was answered. Once used up, it refills within a minute."""


class RetryOptions(LayerOptions):
    """When and how often a call is retried on the same model."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """The number of attempts of a call at this model, the first one included, whatever causes them: a retried failure,
    a model that is available again after a cooldown, a broken stream that is restarted."""
    initial_wait: Annotated[float, Duration(0, 60)] = 0.5
    """The upper bound of the first wait; each further one is twice as long."""
    max_wait: Annotated[float, Duration(0, 600)] = 20.0
    """The upper bound of any wait that the vendor did not ask for."""
    max_retry_after: Annotated[float, Duration(0, 3600)] = 10.0
    """The longest `Retry-After` that is waited for if there is a fallback. For a longer one the chain moves on."""
