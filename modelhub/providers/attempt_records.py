"""What a provider writes on the record of an attempt, besides its beginning."""

from __future__ import annotations

import asyncio
from typing import Any

from modelhub.core.context import CallContext
from modelhub.core.errors import CallError
from modelhub.core.response import Attempt, ChatUsage
from modelhub.core.stream import Outcome
from modelhub.providers.http.rate_limit_headers import parse_rate_limit_headers
from modelhub.providers.response_builder import ResponseBuilder

__all__ = ["end_attempt", "record_rate_limits", "record_unused"]


def record_unused(attempt: Attempt, answer: ResponseBuilder, usage: ChatUsage | None) -> None:
    """Record what is known of an answer that was broken off or rejected."""
    attempt["complete"], attempt["response_model"] = answer.complete, answer.response_model
    attempt["usage"] = usage


def record_rate_limits(context: CallContext, headers: Any) -> None:
    """Put what the *headers* of an answer say is left of the vendor's limits on the attempt under way."""
    if headers is not None and (left := parse_rate_limit_headers(headers, context.services.clock.wall())) is not None:
        context.attempts[-1]["rate_limits"] = left


def end_attempt(context: CallContext, attempt: Attempt, outcome: Outcome, answer: ResponseBuilder | None) -> None:
    """End the record of an attempt whose stream is finished, as *outcome* says."""
    if attempt["usage"] is None and outcome.how != "complete" and answer is not None:
        attempt["usage"] = answer.usage  # some vendors give the input's figures first
    if isinstance(outcome.error, asyncio.CancelledError):
        return  # whoever cancelled it, a clock of ours or the caller, knows what to call it
    error = outcome.error if isinstance(outcome.error, CallError) else None
    context.end(attempt, "ok" if outcome.how == "complete" else error.kind if error else outcome.how, error)
