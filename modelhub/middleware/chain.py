"""Chain: the first model that answers, in the order of the list."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from modelhub.options import LayerOptions, duration

__all__ = ["ChainOptions"]


class ChainOptions(LayerOptions):
    """An ordered list of models."""

    models: Annotated[list[str], Field(min_length=1)]
    """Names of models or of other chains, in the order they are asked."""
    deadline: duration(0.001, 86_400) | None = None  # type: ignore[valid-type]
    """Until the whole call must be over: all attempts, waits and models, and the reading of a stream."""
    stream: bool = False
    """Whether a call gives a stream of snapshots; holds for every model of the chain. A call may say otherwise."""
    on_broken_stream: Literal["restart", "raise"] = "restart"
    """What to do when a stream breaks after its first content: begin anew on the next model, or raise."""
