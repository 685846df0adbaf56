"""What vendors' headers say is left of their limits, and for how long that holds.

* OpenAI (platform.openai.com/docs/guides/rate-limits, "Rate limits in headers"): `x-ratelimit-remaining-requests` and
  `-tokens`; `x-ratelimit-reset-...` is the time until the limit is whole again, as Go writes durations: `1s`, `6m0s`,
  `20ms`. Some accounts' requests are counted by the day.
* Groq (console.groq.com/docs/rate-limits): the same names; requests by the day, tokens by the minute (`2m59.56s`).
* Azure: the same names, often without a reset; resets in plain seconds, and -1 for what it does not know.
* DigitalOcean (docs.digitalocean.com/products/inference/reference), and gateways: the same names; resets in Unix time.
* Cerebras (inference-docs.cerebras.ai/support/rate-limits): `-requests-day` and `-tokens-minute`; `33011.38` seconds.
* Anthropic (docs.anthropic.com/en/api/rate-limits, "Response headers"): requests, tokens, input and output tokens;
  the reset is the time when the limit is whole again, in RFC 3339. What is left is rounded to thousands.

DashScope, Gemini and Ollama send nothing of the kind. `x-ratelimit-limit-...` is not read: how large a limit is does
not change how much may still pass of it.

A reset is no Retry-After: it says when all is there again, not when the next request may pass. A day's limit that is
used up and refills all the time is whole again in a day, and lets a request through in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from modelhub.core.context import CallContext
from modelhub.providers.http.requested_waits import parse_http_date, read_seconds

__all__ = ["RateLimits", "parse_rate_limit_headers", "record_rate_limits"]

RateLimits = Mapping[str, tuple[int, float]]
"""How much is left, and for how many seconds that holds, by `requests`, `tokens`, `input_tokens`, `output_tokens`."""

_NAMES: Final = (
    ("requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"),
    ("tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"),
    ("requests", "x-ratelimit-remaining-requests-day", "x-ratelimit-reset-requests-day"),
    ("tokens", "x-ratelimit-remaining-tokens-minute", "x-ratelimit-reset-tokens-minute"),
    ("requests", "anthropic-ratelimit-requests-remaining", "anthropic-ratelimit-requests-reset"),
    ("tokens", "anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    ("input_tokens", "anthropic-ratelimit-input-tokens-remaining", "anthropic-ratelimit-input-tokens-reset"),
    ("output_tokens", "anthropic-ratelimit-output-tokens-remaining", "anthropic-ratelimit-output-tokens-reset"),
)
"""What is counted, how much of it is left, and until when."""

_MIN_UNIX_TIME = 1e9  # seconds from which on a number is a time, not a duration
_MAX_RESET_SECONDS = 31 * 86_400.0
_MAX_DIGITS = 15
_MAX_CHARACTERS = 40


def record_rate_limits(context: CallContext, headers: Any) -> None:
    """Put what the *headers* of an answer say is left of the vendor's limits on the attempt under way."""
    if headers is not None and (limits := parse_rate_limit_headers(headers, context.services.clock.wall())) is not None:
        context.attempts[-1]["rate_limits"] = limits


def parse_rate_limit_headers(headers: Any, wall: datetime) -> RateLimits | None:
    """Return what *headers* say is left of the vendor's limits, or None if they say nothing.

    *wall* is the current time, used where the headers have no `date`. What cannot be read or is over is left out, as
    is what has no reset: nobody could say for how long it holds. Of two headers about the same, the lower one counts.
    """
    if not isinstance(headers, Mapping):
        return None
    limits: dict[str, tuple[int, float]] = {}
    for what, remaining, reset in _NAMES:
        if (value := headers.get(remaining)) is None:
            continue
        text = str(value).strip()
        if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
            left, seconds = int(text), _parse_reset(headers.get(reset), headers, wall)
            if seconds is not None and (what not in limits or left < limits[what][0]):
                limits[what] = left, seconds
    return limits or None


def _parse_reset(value: Any, headers: Mapping[str, str], wall: datetime) -> float | None:
    """How long it is until a reset, in whichever form it is written; None for what is over, or nonsense."""
    text = str(value or "").strip()
    if len(text) > _MAX_CHARACTERS:
        return None
    seconds = read_seconds(text)
    if seconds is None or seconds >= _MIN_UNIX_TIME:
        now = parse_http_date(str(headers.get("date", ""))) or wall  # the server's own clock: ours may be wrong
        try:
            until = datetime.fromisoformat(text) if seconds is None else datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):  # the latter for a year that there is not
            return None
        until = until if until.tzinfo is not None else until.replace(tzinfo=UTC)
        seconds = (until - now).total_seconds()
    return seconds if 0 < seconds <= _MAX_RESET_SECONDS else None
