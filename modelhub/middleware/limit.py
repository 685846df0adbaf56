"""Limit: a named pool of requests, tokens and places, shared by all models that name it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from modelhub.options import LayerOptions

__all__ = ["LimitOptions"]


class LimitOptions(LayerOptions):
    """What a pool admits."""

    requests_per_minute: Annotated[int, Field(gt=0, le=10_000_000)] | None = None
    """Attempts in any 60 seconds."""
    tokens_per_minute: Annotated[int, Field(gt=0, le=10_000_000_000)] | None = None
    """Input and output tokens in any 60 seconds: an estimate is reserved, the real figure settles it."""
    concurrency: Annotated[int, Field(gt=0, le=100_000)] | None = None
    """Attempts under way at the same time."""
    max_queue: Annotated[int, Field(ge=0)] | None = None
    """How many attempts may wait for a place; one more is refused. No bound if not given."""
