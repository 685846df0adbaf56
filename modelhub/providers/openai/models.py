"""What the names of OpenAI's models tell of them."""

from __future__ import annotations

import re

__all__ = [
    "does_reason",
    "has_cache_breakpoints",
    "lacks_responses",
    "needs_responses",
    "reasons_with_tools_in_responses_only",
]

_START = r"(?:^|[/:.])"
_REASONING = re.compile(rf"{_START}(?:o\d|gpt-(?:[5-9]|1\d)(?!\d)(?!-chat|-search)|codex-|computer-use)")
_CHAT_ONLY = re.compile(r"audio|-search-(?:preview|api)")
_RESPONSES_ONLY = re.compile(rf"{_START}(?:o\d-pro|gpt-[\d.]+-(?:pro|codex)|codex-|computer-use)|deep-research")
_VERSION = re.compile(rf"{_START}gpt-(\d+)(?:\.(\d+))?")


def does_reason(model: str) -> bool:
    """Whether *model* thinks before it answers, so that it can be asked for its encrypted reasoning."""
    return _REASONING.search(model) is not None


def lacks_responses(model: str) -> bool:
    """Whether *model* is served by chat completions only."""
    return _CHAT_ONLY.search(model) is not None


def needs_responses(model: str) -> bool:
    """Whether *model* is served by the Responses API only."""
    return _RESPONSES_ONLY.search(model) is not None


def has_cache_breakpoints(model: str) -> bool:
    """Whether parts of a request to *model* can be marked for the prompt cache: gpt-5.6 and later, as OpenAI says."""
    return _version(model) >= (5, 6)


def reasons_with_tools_in_responses_only(model: str) -> bool:
    """Whether chat completions refuse tools to *model* unless it may not think: GPTs from 5.4 on."""
    return does_reason(model) and _version(model) >= (5, 4)


def _version(model: str) -> tuple[int, int]:
    """Return the version in a GPT's name, (0, 0) where there is none."""
    match = _VERSION.search(model)
    return (int(match[1]), int(match[2] or 0)) if match else (0, 0)
