"""The keywords of a call: those that modelhub itself obeys, and those that are parameters for the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from modelhub.core.errors import InvalidRequest
from modelhub.core.keywords import check_keywords
from modelhub.messages.conversation import STORED_CONVERSATIONS
from modelhub.messages.sanitize import check_options
from modelhub.options import parse_duration

__all__ = ["NO_KEYS", "NO_TAGS", "CallOptions", "Tags", "as_seconds", "as_tags", "parse_call_options"]

Tags = Mapping[str, str]
NO_TAGS: Tags = MappingProxyType({})
NO_KEYS: Mapping[str, SecretStr] = MappingProxyType({})


class CallOptions(NamedTuple):
    """What the keywords of one call say. Parsed once, when the call is made; nothing reads the keywords after that.

    `stream` is None where the call leaves it to the model. `time_limit` is the call's `deadline`, in seconds from its
    start: None where the call leaves it to the chain, infinite where it wants none. `fallback` is False if only the
    first model may be asked. `parameters` are all other keywords: what the model is asked with.
    `keys` are the vendors' keys that come with the call, by their names in the configuration (`with_keys`).
    """

    stream: bool | None = None
    tags: Tags = NO_TAGS
    time_limit: float | None = None
    fallback: bool = True
    parameters: Mapping[str, Any] = MappingProxyType({})
    keys: Mapping[str, SecretStr] = NO_KEYS

    @property
    def continues_conversation(self) -> bool:
        """Whether the messages continue a conversation that the vendor stores."""
        return bool(self.parameters) and not self.parameters.keys().isdisjoint(STORED_CONVERSATIONS)


_DEFAULTS = CallOptions()
_WHOLE = CallOptions(stream=False)


def parse_call_options(keywords: dict[str, Any]) -> CallOptions:
    """Return what *keywords* say; the dict becomes the options' `parameters`.

    Raises InvalidRequest for a deadline that is no duration, tags that are no mapping, keywords that are misspelt or
    another library's, and parameters that no vendor takes or that cannot be sent.
    """
    if not keywords:
        return _DEFAULTS
    stream = keywords.pop("stream", None)
    if not keywords:  # as with most calls that have a keyword: no options of their own
        return _WHOLE if stream is False else CallOptions(stream)
    tags = as_tags(keywords.pop("tags", None))
    time_limit = None
    if "deadline" in keywords:
        seconds = as_seconds(keywords.pop("deadline"))
        time_limit = math.inf if seconds is None else seconds
    fallback = bool(keywords.pop("fallback", True))
    if keywords:
        check_keywords(keywords)
        check_options(keywords)
    return CallOptions(stream, tags, time_limit, fallback, keywords)


def as_tags(tags: Any) -> Tags:
    """Return *tags* as texts by name; what is None is left out. Raises InvalidRequest if it is no mapping."""
    if not tags:
        return {}
    if not isinstance(tags, Mapping):
        raise InvalidRequest(f"tags must be a mapping of names to texts, not {type(tags).__name__}")
    return {str(key): str(value) for key, value in tags.items() if value is not None}


def as_seconds(deadline: Any) -> float | None:
    """Return *deadline*, a number, text such as "5s" or None, in seconds. Raises InvalidRequest for anything else."""
    if deadline is None:
        return None
    try:
        duration: float = parse_duration(deadline)
    except PydanticCustomError as error:
        raise InvalidRequest(f"deadline: {error.message()}") from None
    return duration
