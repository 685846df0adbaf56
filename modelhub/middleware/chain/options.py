"""The options of a chain."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from modelhub.core import errors
from modelhub.options import AskOptions, Duration, LayerOptions, Options

__all__ = ["FAILURES", "ArmsOptions", "ChainOptions", "StickyOptions", "Weight"]

FAILURES = {cls.__name__: cls for cls in errors.failure_classes()}


def _check_tag_name(text: str) -> str:
    if not text.removeprefix("tag:") or not text.startswith("tag:"):
        hint = f"did you mean `tag:{text}`?" if text and text != "tag:" else ""
        raise PydanticCustomError("tag_name", "expected `tag:` and the name of a tag, such as tag:user", {"hint": hint})
    return text


TagReference = Annotated[
    str, AfterValidator(_check_tag_name), WithJsonSchema({"type": "string", "pattern": "^tag:.+$"})
]
"""A tag of calls, written `tag:NAME`."""


def _check_weight(weight: float) -> float:
    if not 0 < weight <= _MAX_WEIGHT:
        hint = "remove it if it is to get no calls" if weight <= 0 else ""
        raise PydanticCustomError(
            "weight", "a weight is over 0 and at most {most}", {"most": f"{_MAX_WEIGHT:,}", "hint": hint}
        )
    return weight


_MAX_WEIGHT = 1_000_000
Weight = Annotated[
    float,
    AfterValidator(_check_weight),
    WithJsonSchema({"type": "number", "exclusiveMinimum": 0, "maximum": _MAX_WEIGHT}),
]
"""A share of the calls, in relation to the weights of the others."""


class StickyOptions(Options):
    """How long, and for which calls, the model that answered after a fallback is tried first."""

    duration: Annotated[float, Duration(0, 86_400)] = Field(alias="for")
    """How long it is tried first, such as `5m`, from its first answer on. Later answers do not extend the time."""
    by: TagReference | None = None
    """The tag that separates calls, such as `tag:session`. By default all calls of the chain count together."""


def _get_arms_tag(value: Any) -> str:
    return "equal" if isinstance(value, list) else "weighted"


ArmsField = Annotated[
    Annotated[Annotated[dict[str, Weight], Field(min_length=1)], Tag("weighted")]
    | Annotated[Annotated[list[str], Field(min_length=1)], Tag("equal")],
    Discriminator(_get_arms_tag),
]


class ArmsOptions(Options):
    """Several models that share one place in a chain: each call is sent to one of them, and then to the others."""

    arms: ArmsField
    """The names of models or chains and their weights, `{gpt-a: 3, gpt-b: 1}`, or a list of them with equal weights."""
    by: TagReference | None = None
    """A tag, such as `tag:user`: calls with the same value of it are sent to the same arm while that is available. By
    default, and for calls without the tag, `pick` decides."""
    pick: Literal["weighted", "least_busy"] = "weighted"
    """How the arm is picked: at random by the weights, or of two that are picked so, the one with fewer calls in
    flight for its weight."""

    def weights(self) -> Mapping[str, float]:
        """Return the weight of every arm, by its name."""
        return self.arms if isinstance(self.arms, dict) else dict.fromkeys(self.arms, 1.0)


def _get_place_tag(value: Any) -> str:
    return "several" if isinstance(value, Mapping | list | ArmsOptions) else "name"


Place = Annotated[Annotated[str, Tag("name")] | Annotated[ArmsOptions, Tag("several")], Discriminator(_get_place_tag)]
"""The name of a model or chain, or several of them that share a place."""


class ChainOptions(LayerOptions):
    """An ordered list of models."""

    models: Annotated[list[Place], Field(min_length=1)]
    """The names of models or other chains, in the order in which they are tried. Several that share a place are
    `{arms: {gpt-a: 3, gpt-b: 1}}`."""
    deadline: Annotated[float, Duration(0.001, 86_400)] | None = None
    """The time limit of a whole call, such as `90s`: all attempts, waits and models, and reading a stream. The first
    import of an SDK does not count."""
    stream: bool = False
    """Whether a call returns a stream of snapshots, for every model of the chain. A call can override it with
    `stream=`."""
    stream_inside: bool = False
    """Whether to stream plain answers internally, so that `timeout.first_token`, `idle` and `slow` apply to them.
    `true` is for every model of the chain; with `false`, it is for those that say `true` themselves."""
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

    def member_names(self) -> Iterator[str]:
        """Yield the names of all models and chains, those of arms included."""
        for place in self.models:
            yield from (place,) if isinstance(place, str) else place.weights()

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
