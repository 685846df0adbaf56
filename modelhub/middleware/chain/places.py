"""The places of a chain, each with a model or with several arms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from modelhub.core.context import CallContext
from modelhub.core.model import ChatModelBase
from modelhub.middleware.chain.arms import Arm, Arms

__all__ = ["ArmPlace", "Places"]


class ArmPlace(NamedTuple):
    """Where a model stands among arms: as *arm*, in *arms*, which have the place; *keys* are the other keys of it."""

    arm: Arm
    arms: Arms
    keys: Arms | None


class Places:
    """The places of a chain in order; `models` has the models of all of them."""

    def __init__(self, places: Sequence[ChatModelBase | Arms]) -> None:
        self._places = tuple(places)
        self.models: tuple[ChatModelBase, ...] = tuple(
            model for place in places for model in (place.models if isinstance(place, Arms) else (place,))
        )
        self._arms: dict[ChatModelBase, ArmPlace] = {
            model: found
            for place in places
            if isinstance(place, Arms)
            for model, found in _locate(place, place).items()
        }
        self.has_arms = bool(self._arms)

    @property
    def is_single_model(self) -> bool:
        """Whether all models are keys of one and the same."""
        place = self._places[0]
        return len(self._places) == 1 and (not isinstance(place, Arms) or place.is_keys)

    def find_arm(self, model: ChatModelBase) -> ArmPlace | None:
        """Return where *model* stands among arms; None if it has its place to itself."""
        return self._arms.get(model)

    def find_number(self, model: ChatModelBase) -> int:
        """Return the number, from 0, of the place of *model*."""
        for number, place in enumerate(self._places):
            if model is place or (isinstance(place, Arms) and model in place.models):
                return number
        raise ValueError(f"`{model.name}` has no place here")

    def order_from(self, first: int) -> list[ChatModelBase]:
        """Return the models of all places, those of the place number *first* before the others."""
        places = (self._places[first], *self._places[:first], *self._places[first + 1 :])
        return [model for place in places for model in (place.models if isinstance(place, Arms) else (place,))]

    def find_single(self, context: CallContext) -> list[ChatModelBase]:
        """Return the first model that is configured, or all keys of it, for the call of *context* without a fallback.

        Of several arms it is the one that the call would ask first.
        """
        configured = (place for place in self._places if _is_configured(place))
        place = next(configured, self._places[0])
        if not isinstance(place, Arms):
            return [place]
        models = place.order(context.tags, context.services.random)
        keys = self._arms[models[0]].keys
        return [model for model in models if keys is not None and model in keys.models] or models[:1]


def _is_configured(place: ChatModelBase | Arms) -> bool:
    return any(model.configured for model in place.models) if isinstance(place, Arms) else place.configured


def _locate(arms: Arms, outer: Arms) -> dict[ChatModelBase, ArmPlace]:
    """Return where every model of *arms* stands, which are at the place of *outer*, or within it."""
    places: dict[ChatModelBase, ArmPlace] = {}
    for arm in arms.arms:
        if isinstance(arm.target, Arms):
            places |= _locate(arm.target, outer)
        else:
            places[arm.target] = ArmPlace(arm, outer, arms if arms.is_keys else None)
    return places
