"""Text that can always be written as UTF-8, although JSON can name half a character (a lone surrogate)."""

from __future__ import annotations

from typing import Any

__all__ = ["LAST_BEFORE_SURROGATES", "REPLACEMENT", "clean_text", "clean_value", "is_high_surrogate"]

LAST_BEFORE_SURROGATES = "\ud7ff"
REPLACEMENT = "\ufffd"
"""What stands in the place of half a character whose other half never came."""


def is_high_surrogate(character: str) -> bool:
    """Whether *character* is the first half of a character, whose other half may follow in the next piece."""
    return "\ud800" <= character <= "\udbff"


def clean_text(text: str) -> str:
    """Return *text* with pairs of surrogates joined and lone ones replaced."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def clean_value(value: Any) -> Any:
    """Return *value*, as JSON has it, with every text and key in it cleaned. Raises RecursionError for a deep nest."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_value(key): clean_value(item) for key, item in value.items()}
    return [clean_value(item) for item in value] if isinstance(value, list) else value
