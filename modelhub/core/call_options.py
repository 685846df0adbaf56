"""The keywords of a call: those that modelhub itself obeys, and those that are parameters for the model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from pydantic import SecretStr
from pydantic_core import PydanticCustomError

from modelhub.core.errors import InvalidRequest
from modelhub.messages.conversation import STORED_CONVERSATIONS
from modelhub.messages.sanitize import check_options
from modelhub.options import AskOptions, parse_duration

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

    Raises InvalidRequest for a deadline that is no duration, tags that are no mapping, a misspelt keyword of ours, and
    parameters that cannot be sent.
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
        _check_keywords(keywords)
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


# -- misspelt keywords -------------------------------------------------------------------------------------------------

_OWN: Final = ("deadline", "fallback", "stream", "structured_model", "tags", "tool_choice", "tools")
"""Our own keywords, which no vendor is sent."""
_NEUTRAL: Final = tuple(AskOptions.model_fields)
_VENDORS: Final = frozenset(
    {
        *("logprob", "min_tokens", "min_p", "stop_sequences", "stream_options", "tool_config", "tool_stream", "top_a"),
        *("top_n", "timeout", "max_new_tokens", "max_completion_tokens", "seed_value", "users"),
    }
)
"""Vendors' names that are near to ours and mean something else, or the same at that vendor."""
_KNOWN: Final = frozenset({*_OWN, *_NEUTRAL, *_VENDORS})
_NEAR_OWN, _NEAR_NEUTRAL = 0.8, 0.9
"""How like a name must be to be taken for a misspelt one: no vendor knows ours, but many have names like the others."""


def _check_keywords(names: Iterable[str]) -> None:
    """Raise InvalidRequest, with a suggestion, for a name that is a misspelt one of ours or of a neutral parameter."""
    for name in names:
        if name not in _KNOWN and (meant := _find_meant(name)) is not None:
            raise InvalidRequest(f"there is no keyword `{name}`: did you mean `{meant}`?")


@lru_cache(maxsize=1024)
def _find_meant(name: str) -> str | None:
    if not name.islower():
        return None  # Gemini's names may be written so
    close = get_close_matches(name, _OWN, 1, _NEAR_OWN) or get_close_matches(name, _NEUTRAL, 1, _NEAR_NEUTRAL)
    return close[0] if close else None
