"""A call's keywords: those of our own, and what is probably meant by one that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from modelhub.core.errors import InvalidRequest
from modelhub.options import AskOptions

__all__ = ["check_keywords"]

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


def check_keywords(names: Iterable[str]) -> None:
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
