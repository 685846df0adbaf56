"""The options of a chain."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from modelhub.core import errors
from modelhub.options import AskOptions, Duration, LayerOptions, Options

__all__ = ["FAILURES", "ChainOptions", "StickyOptions"]

FAILURES = {cls.__name__: cls for cls in errors.failure_classes()}


class StickyOptions(Options):
    """How long, and for whose calls, the model that answered after a fallback is asked first."""

    duration: Annotated[float, Duration(0, 86_400)] = Field(alias="for")
    """How long it is asked first, such as `5m`; each answer does not make it longer."""
    by: Annotated[str, Field(pattern=r"^tag:.+$")] | None = None
    """The tag by which calls are told apart, such as `tag:session`; all calls of the chain together if not given."""


class ChainOptions(LayerOptions):
    """An ordered list of models."""

    models: Annotated[list[str], Field(min_length=1)]
    """Names of models or of other chains, in the order they are asked."""
    deadline: Annotated[float, Duration(0.001, 86_400)] | None = None
    """Until the whole call must be over: attempts, waits, models, reading a stream; not the first import of an SDK."""
    stream: bool = False
    """Whether a call gives a stream of snapshots; holds for every model of the chain. A call may say otherwise."""
    stream_inside: bool = False
    """Whether to stream plain answers internally, so that `timeout.first_token`, `idle` and `slow` apply to them."""
    on_broken_stream: Literal["restart", "raise"] = "restart"
    """What to do when a stream breaks after its first content: begin anew on the next model, or raise."""
    fallback_on: list[str] = Field(default_factory=list)
    """Failures after which the next model is asked although the table says no, such as `ContentBlocked`."""
    no_fallback_on: list[str] = Field(default_factory=list)
    """Failures after which nobody else is asked although the table says yes."""
    sticky: Annotated[float, Duration(0, 86_400)] | StickyOptions = 0.0
    """How long the model that answered after a fallback is asked first, for the sake of its prompt cache: `5m`, or
    `{for: 5m, by: tag:session}` to keep each session where its cache is."""
    ask: AskOptions | None = None
    """Parameters of every call, by the names that are the same for every vendor; they go before those of its models."""

    @field_validator("fallback_on", "no_fallback_on")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in FAILURES:
                known = ", ".join(FAILURES)
                raise PydanticCustomError(
                    "failure", "unknown failure `{name}` (there are: {known})", {"name": name, "known": known}
                )
        return names
