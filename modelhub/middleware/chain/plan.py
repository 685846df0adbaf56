"""The plan of a chain: its places in order, which model is asked first, and which failures pass a call on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from modelhub.core.call_options import Tags
from modelhub.core.context import CallContext
from modelhub.core.errors import BreakerOpen, CallError, DeadlineExceeded
from modelhub.core.model import ChatModelBase
from modelhub.core.request import ChatRequest
from modelhub.middleware.chain.arms import Arm, Arms
from modelhub.middleware.chain.options import FAILURES, StickyOptions

__all__ = ["ArmPlace", "ChainPlan", "FavouriteModels"]

_MAX_FAVOURITES = 10_000
"""How many sessions are kept where their cache is; of more, those that began first are forgotten."""


class ArmPlace(NamedTuple):
    """Where a model stands among arms: as *arm*, in *arms*, which have the place; *keys* are the other keys of it."""

    arm: Arm
    arms: Arms
    keys: Arms | None


class FavouriteModels:
    """The place to ask first after a fallback, and until when: for each value of a tag, or for all calls."""

    def __init__(self, sticky: float | StickyOptions | Mapping[str, Any]) -> None:
        options = StickyOptions.model_validate(sticky) if isinstance(sticky, Mapping) else sticky
        self.seconds = options.duration if isinstance(options, StickyOptions) else options
        by = options.by if isinstance(options, StickyOptions) else None
        self._tag = by.removeprefix("tag:") if by is not None else None
        self._places: dict[str | None, tuple[int, float]] = {}

    def continue_from(self, other: FavouriteModels) -> None:
        """Keep the favourites of *other*, of a chain of the same models, if both choose them in the same way."""
        if (other.seconds, other._tag) == (self.seconds, self._tag):
            self._places = other._places

    def find(self, tags: Tags, now: float) -> int:
        """Return the number of the place that a call with *tags* asks first."""
        if not self._places:
            return 0
        number, until = self._places.get(self._key(tags), (0, 0.0))
        return number if now < until else 0

    def keep(self, tags: Tags, number: int, now: float) -> None:
        """Note that a model at the place *number* has answered a call with *tags*."""
        key = self._key(tags)
        if self._tag is not None and key is None:
            return  # a call of no session says nothing about the others
        # A while is not made longer by every answer: else a steady stream of calls would never go back.
        kept, until = self._places.get(key, (0, 0.0))
        if number == kept and now < until:
            return
        self._places.pop(key, None)
        if number:
            self._places[key] = number, now + self.seconds
            while len(self._places) > _MAX_FAVOURITES:
                del self._places[next(iter(self._places))]

    def _key(self, tags: Tags) -> str | None:
        return tags.get(self._tag) if self._tag is not None else None


class ChainPlan:
    """Whom a chain asks, in which order, and after which failures; `models` has the models of all places."""

    def __init__(
        self,
        name: str,
        places: Sequence[ChatModelBase | Arms],
        sticky: FavouriteModels,
        on_broken_stream: Literal["restart", "raise"] = "restart",
        fallback_on: Iterable[str] = (),
        no_fallback_on: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.sticky = sticky
        self.on_broken_stream = on_broken_stream
        self.models: tuple[ChatModelBase, ...] = tuple(model for place in places for model in _list_models(place))
        self._places = tuple(places)
        self._also = tuple(FAILURES[failure] for failure in fallback_on)
        self._never = tuple(FAILURES[failure] for failure in no_fallback_on)
        self._arms: dict[ChatModelBase, ArmPlace] = {}
        for place in places:
            if isinstance(place, Arms):
                self._arms |= _locate(place, place)
        self.has_arms = bool(self._arms)
        self.is_single_model = len(places) == 1 and (not isinstance(places[0], Arms) or places[0].is_keys)
        """Whether all models are keys of one and the same."""

    def find_arm(self, model: ChatModelBase) -> ArmPlace | None:
        """Return where *model* stands among arms; None if it has its place to itself."""
        return self._arms.get(model)

    def order(self, request: ChatRequest) -> list[ChatModelBase]:
        """Return the models in the order in which *request* asks them; arms are ordered when their place is reached.

        Without a fallback, it is the first model that is configured, or all keys of it; of several arms, the one that
        the call would ask first.
        """
        context = request.context
        if request.fallback:
            first = self.sticky.find(context.tags, context.services.clock.now())
            if first == 0:
                return list(self.models)
            places = (self._places[first], *self._places[:first], *self._places[first + 1 :])
            return [model for place in places for model in _list_models(place)]
        configured = (place for place in self._places if any(model.configured for model in _list_models(place)))
        place = next(configured, self._places[0])
        if not isinstance(place, Arms):
            return [place]
        models = place.order(context.tags, context.services.random)
        keys = self._arms[models[0]].keys
        return [model for model in models if keys is not None and model in keys.models] or models[:1]

    def prefer(self, model: ChatModelBase, context: CallContext) -> None:
        """Ask *model*, which has answered the call of *context*, first for a while, if it was not the first anyway."""
        number = next(number for number, place in enumerate(self._places) if model in _list_models(place))
        self.sticky.keep(context.tags, number, context.services.clock.now())

    def falls_back(self, error: CallError, *, to_other_arm: bool = False) -> bool:
        """Return whether another model is asked after *error*; an open breaker stands for what it has opened for.

        What `no_fallback_on` forbids does not keep the call from another arm of the same place (*to_other_arm*).
        """
        reason = error.__cause__ if isinstance(error, BreakerOpen) and error.__cause__ is not None else error
        if isinstance(reason, DeadlineExceeded) or (not to_other_arm and isinstance(reason, self._never)):
            return False
        return error.policy.fall_back or isinstance(error, self._also)


def _list_models(place: ChatModelBase | Arms) -> tuple[ChatModelBase, ...]:
    return place.models if isinstance(place, Arms) else (place,)


def _locate(arms: Arms, outer: Arms) -> dict[ChatModelBase, ArmPlace]:
    """Return where every model of *arms* stands, which are at the place of *outer*, or within it."""
    places: dict[ChatModelBase, ArmPlace] = {}
    for arm in arms.arms:
        if isinstance(arm.target, Arms):
            places |= _locate(arm.target, outer)
        else:
            places[arm.target] = ArmPlace(arm, outer, arms if arms.is_keys else None)
    return places
