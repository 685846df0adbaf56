"""When and how often the same model is called again."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelhub.options import Duration, LayerOptions, Options

__all__ = ["RetryBudgetOptions", "RetryOptions"]


class RetryBudgetOptions(Options):
    """How many retries all calls of a hub may make together, as gRPC and Finagle bound them."""

    share: Annotated[float, Field(ge=0, le=10)] = 0.2
    """How many retries each answered call pays for."""
    reserve: Annotated[int, Field(ge=0, le=100_000)] = 20
    """How many retries may be made before any call was answered; used up, it comes back within a minute."""


class RetryOptions(LayerOptions):
    """When and how often the same model is asked again."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How many attempts a call may make at this model, the first one included, whatever asks for them: a failure that
    is retried, a model that comes back after a pause, a stream that broke and is begun anew."""
    initial_wait: Annotated[float, Duration(0, 60)] = 0.5
    """The upper bound of the first wait; each further one is twice as long."""
    max_wait: Annotated[float, Duration(0, 600)] = 20.0
    """The upper bound of any wait that the vendor did not ask for."""
    max_retry_after: Annotated[float, Duration(0, 3600)] = 10.0
    """The longest wait the vendor may ask for while another model is behind; for longer ones the chain moves on."""
