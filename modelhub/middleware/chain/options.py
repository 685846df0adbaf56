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
    """How long, and for which calls, the model that answered after a fallback is tried first."""

    duration: Annotated[float, Duration(0, 86_400)] = Field(alias="for")
    """How long it is tried first, such as `5m`, from its first answer on. Later answers do not extend the time."""
    by: Annotated[str, Field(pattern=r"^tag:.+$")] | None = None
    """The tag that separates calls, such as `tag:session`. By default all calls of the chain count together."""


class ChainOptions(LayerOptions):
    """An ordered list of models."""

    models: Annotated[list[str], Field(min_length=1)]
    """The names of models or other chains, in the order in which they are tried."""
    deadline: Annotated[float, Duration(0.001, 86_400)] | None = None
    """The time limit of a whole call, such as `90s`: all attempts, waits and models, and reading a stream. The first
    import of an SDK does not count."""
    stream: bool = False
    """Whether a call returns a stream of snapshots, for every model of the chain. A call can override it with
    `stream=`."""
    stream_inside: bool = False
    """Whether to stream plain answers internally, so that `timeout.first_token`, `idle` and `slow` apply to them."""
    on_broken_stream: Literal["restart", "raise"] = "restart"
    """What happens when a stream breaks after its first content: `restart` retries the answer on the next model."""
    fallback_on: list[str] = Field(default_factory=list)
    """Failures that fall back to the next model although they do not by default, such as `ContentBlocked`."""
    no_fallback_on: list[str] = Field(default_factory=list)
    """Failures that do not fall back to the next model although they do by default."""
    sticky: Annotated[float, Duration(0, 86_400)] | StickyOptions = 0.0
    """How long the model that answered after a fallback is tried first, because its prompt cache is warm: `5m`, or
    `{for: 5m, by: tag:session}` to keep each session where its cache is."""
    ask: AskOptions | None = None
    """Parameters of every call, under the names that are the same for every vendor. They override those of the
    models."""

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
