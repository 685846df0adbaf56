"""Which model a chain asks first after a fallback, for all calls or for each session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelhub.core.call_options import Tags
from modelhub.middleware.chain.options import StickyOptions

__all__ = ["FavouriteModels"]

_MAX_FAVOURITES = 10_000
"""How many sessions are kept where their cache is; of more, those that began first are forgotten."""


class FavouriteModels:
    """The model to ask first, until when, for each value of a tag (one for all calls without a tag)."""

    def __init__(self, sticky: float | StickyOptions | Mapping[str, Any]) -> None:
        options = StickyOptions.model_validate(sticky) if isinstance(sticky, Mapping) else sticky
        self.seconds = options.duration if isinstance(options, StickyOptions) else options
        by = options.by if isinstance(options, StickyOptions) else None
        self._tag = by.removeprefix("tag:") if by is not None else None
        self._models: dict[str | None, tuple[int, float]] = {}

    def continue_from(self, other: FavouriteModels) -> None:
        """Keep the favourites of *other*, of a chain of the same models, if both choose them in the same way."""
        if (other.seconds, other._tag) == (self.seconds, self._tag):
            self._models = other._models

    def find(self, tags: Tags, now: float) -> int:
        """Return the index of the model that a call with *tags* asks first."""
        if not self._models:
            return 0
        index, until = self._models.get(self._key(tags), (0, 0.0))
        return index if now < until else 0

    def keep(self, tags: Tags, index: int, now: float) -> None:
        """Note that the model at *index* has answered a call with *tags*."""
        key = self._key(tags)
        if self._tag is not None and key is None:
            return  # a call of no session says nothing about the others
        # A while is not made longer by every answer: else a steady stream of calls would never go back.
        kept, until = self._models.get(key, (0, 0.0))
        if index == kept and now < until:
            return
        self._models.pop(key, None)
        if index:
            self._models[key] = index, now + self.seconds
            while len(self._models) > _MAX_FAVOURITES:
                del self._models[next(iter(self._models))]

    def _key(self, tags: Tags) -> str | None:
        return tags.get(self._tag) if self._tag is not None else None
