"""What the names of OpenAI's models tell of them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = ["OpenAIModel", "find_model"]

_START = r"(?:^|[/:.])"
_REASONING = re.compile(rf"{_START}(?:o\d|gpt-(?:[5-9]|1\d)(?!\d)(?!-chat|-search)|codex-|computer-use)")
_CHAT_ONLY = re.compile(r"audio|-search-(?:preview|api)")
_RESPONSES_ONLY = re.compile(rf"{_START}(?:o\d-pro|gpt-[\d.]+-(?:pro|codex)|codex-|computer-use)|deep-research")
_VERSION = re.compile(rf"{_START}gpt-(\d+)(?:\.(\d+))?")


class OpenAIModel(NamedTuple):
    """A model: whether it thinks before it answers, the APIs it is served by, and a GPT's version, else (0, 0)."""

    reasons: bool
    is_chat_only: bool
    is_responses_only: bool
    version: tuple[int, int]


@lru_cache(256)
def find_model(name: str) -> OpenAIModel:
    """Return what the *name* tells of a model."""
    match = _VERSION.search(name)
    return OpenAIModel(
        reasons=_REASONING.search(name) is not None,
        is_chat_only=_CHAT_ONLY.search(name) is not None,
        is_responses_only=_RESPONSES_ONLY.search(name) is not None,
        version=(int(match[1]), int(match[2] or 0)) if match else (0, 0),
    )
