"""Retry: ask the same model again, when the failure's verdict allows it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelhub.options import LayerOptions, duration

__all__ = ["RetryOptions"]


class RetryOptions(LayerOptions):
    """When and how often the same model is asked again."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How many attempts a call may make at this model, the first one included."""
    initial_wait: duration(0, 60) = 0.5  # type: ignore[valid-type]
    """The upper bound of the first wait; each further one is twice as long."""
    max_wait: duration(0, 600) = 20.0  # type: ignore[valid-type]
    """The upper bound of any wait that the vendor did not ask for."""
    max_retry_after: duration(0, 3600) = 10.0  # type: ignore[valid-type]
    """The longest wait the vendor may ask for while another model is behind."""
