"""How long a vendor asks to wait: in headers, in a body's fields or in its text, read by one parser.

`Retry-After` (RFC 9110, 10.2.3) has seconds or a date; `retry-after-ms` (OpenAI, Azure, Anthropic's SDK) milliseconds;
Google's `retryDelay` (google.rpc.RetryInfo) a number with `s`. OpenAI, Groq and others write the wait into the message
only: "Please try again in 6m0s", "Please retry after 26 seconds".

A wait longer than `MAX_WAIT` is cut to it, and then one call finds out whether the vendor answers again. A value that
cannot be meant (negative, not finite, a Unix time, hundreds of digits) counts as none.
"""

from __future__ import annotations

import email.utils
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

from modelhub.core.errors import MAX_WAIT

__all__ = ["parse_duration", "parse_http_date", "parse_message_wait", "parse_retry_after", "read_seconds"]

_UNIT_SECONDS: Final = {
    "d": 86_400.0, "day": 86_400.0, "days": 86_400.0,
    "h": 3600.0, "hr": 3600.0, "hrs": 3600.0, "hour": 3600.0, "hours": 3600.0,
    "m": 60.0, "min": 60.0, "mins": 60.0, "minute": 60.0, "minutes": 60.0,
    "s": 1.0, "sec": 1.0, "secs": 1.0, "second": 1.0, "seconds": 1.0,
    "ms": 1e-3, "millisecond": 1e-3, "milliseconds": 1e-3,
    "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ns": 1e-9,
}  # fmt: skip
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_PLAIN_NUMBER: Final = re.compile(_NUMBER, re.ASCII)
_UNITS = "|".join(sorted(_UNIT_SECONDS, key=len, reverse=True))
_PART: Final = re.compile(rf"({_NUMBER})\s?({_UNITS})(?![a-z])", re.ASCII | re.IGNORECASE)
_PART_GROUP = rf"{_NUMBER}\s?(?:{_UNITS})(?![a-z])"
_DURATION: Final = re.compile(rf"{_PART_GROUP}(?:(?:,? and |, ?| )?{_PART_GROUP}){{0,4}}", re.ASCII | re.IGNORECASE)
_IN_MESSAGE: Final = re.compile(
    rf"\b(?:try again|retry|wait|available again|come back)\b[^.;:\d]{{0,40}}?\b(?:in|after|for)\s+(?:about\s+)?"
    rf"({_DURATION.pattern})",
    re.ASCII | re.IGNORECASE,
)
_UNIX_TIME = 1e9  # seconds: from here on a number is an instant, not a duration
_MAX_HEADER_LENGTH = 64


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that *headers*, by their names in lower case, ask for, at most `MAX_WAIT`, or None.

    `retry-after-ms` goes before `retry-after`.
    """
    milliseconds = headers.get("retry-after-ms", "").strip()
    if _PLAIN_NUMBER.fullmatch(milliseconds):
        return _limit(float(milliseconds) / 1000)
    return parse_duration(headers.get("retry-after"))


def parse_duration(value: Any) -> float | None:
    """Return *value*, a number, a duration like `6m0s` or a date, in seconds, at most `MAX_WAIT`; None for all else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _limit(value)
    if not isinstance(value, str) or len(text := value.strip()) > _MAX_HEADER_LENGTH or not text:
        return None
    if (seconds := read_seconds(text)) is not None:
        return _limit(seconds)
    if (until := parse_http_date(text)) is None:
        return None
    return _limit(max(0.0, (until - datetime.now(UTC)).total_seconds()), is_duration=False)


def parse_message_wait(message: str) -> float | None:
    """The wait that an error's *message* names ("Please try again in 1.2s"), at most `MAX_WAIT`, or None."""
    match = _IN_MESSAGE.search(message[:2000])
    return _limit(_sum_parts(match[1])) if match else None


def read_seconds(text: str) -> float | None:
    """Return the seconds that *text* says, as a plain number or a duration such as `6m0s`; None for all else."""
    if _PLAIN_NUMBER.fullmatch(text):
        return float(text)
    return _sum_parts(text) if _DURATION.fullmatch(text) else None


def _sum_parts(text: str) -> float:
    return sum(float(number) * _UNIT_SECONDS[unit.lower()] for number, unit in _PART.findall(text))


@lru_cache(8)  # an answer has up to four resets, and the answers of a second have the same date
def parse_http_date(text: str) -> datetime | None:
    """Return the time that a header gives as *text*; None if it is none."""
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (LookupError, ValueError, TypeError, OverflowError):
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _limit(seconds: float, *, is_duration: bool = True) -> float | None:
    """*seconds* cut to `MAX_WAIT`, or None if nobody can have meant them."""
    if not math.isfinite(seconds) or seconds < 0 or (is_duration and seconds >= _UNIX_TIME):
        return None
    return min(float(seconds), MAX_WAIT)
